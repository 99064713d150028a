//! The header of a message (RFC 4271 §6.1, RFC 8654 §4).

use super::*;

#[test]
fn must_begin_with_a_marker_of_ones() {
    let words = "Message Header Error/Connection Not Synchronized";
    refused(&[0], Limit::Standard, words, &[]);
    let mut octets = raw(4, &[]);
    octets[15] = 0xfe;
    refused(&octets, Limit::Standard, words, &[]);
}

#[test]
fn that_is_not_whole_waits_for_more() {
    let keepalive = raw(4, &[]);
    for end in 0..keepalive.len() {
        assert_eq!(frame(&keepalive[..end], Limit::Standard), Ok(None));
    }
    assert_eq!(frame(&header(4096, 2), Limit::Standard), Ok(None));
}

#[test]
fn must_claim_a_length_its_type_can_have() {
    for (kind, length) in [
        (1, 28),
        (2, 22),
        (3, 20),
        (4, 18),
        (4, 20),
        (5, 22),
        (9, 18),
        (2, 0),
    ] {
        let words = format!("Message Header Error/Bad Message Length: length {length}");
        refused(
            &header(length, kind),
            Limit::Standard,
            &words,
            &length.to_be_bytes(),
        );
    }
}

#[test]
fn may_claim_more_than_4096_only_where_that_was_offered_and_never_for_open_and_keepalive() {
    let words = "Message Header Error/Bad Message Length: length 4097";
    for kind in 1..=5 {
        refused(&header(4097, kind), Limit::Standard, words, &[0x10, 1]);
    }
    for kind in [1, 4] {
        refused(&header(4097, kind), Limit::Extended, words, &[0x10, 1]);
    }
    for kind in [2, 3, 5] {
        assert_eq!(frame(&header(4097, kind), Limit::Extended), Ok(None));
        assert_eq!(frame(&header(65535, kind), Limit::Extended), Ok(None));
    }
}

#[test]
fn must_have_a_type_we_know() {
    for kind in [0, 6, 255] {
        let words = format!("Message Header Error/Bad Message Type: type {kind}");
        refused(&header(19, kind), Limit::Standard, &words, &[kind]);
    }
}

#[test]
fn ends_its_message_where_it_says() {
    let mut buffer = BytesMut::from(&[raw(4, &[]), raw(3, &[6, 2]), raw(4, &[])].concat()[..30]);
    let mut take = || Message::take(&mut buffer, Limit::Standard, &CONTEXT).unwrap();
    assert_eq!(take(), Some(Message::Keepalive));
    assert_eq!(take(), None);
    assert_eq!(buffer.len(), 11);
}
