//! OPEN (RFC 4271 §6.2, RFC 5492, RFC 9072).

use super::*;

fn open(version: u8, asn: u16, hold_time: u16, id: u32, parameters: &[u8]) -> Vec<u8> {
    let body = [
        &[version][..],
        &asn.to_be_bytes(),
        &hold_time.to_be_bytes(),
        &id.to_be_bytes(),
        parameters,
    ];
    raw(1, &body.concat())
}

#[track_caller]
fn malformed(parameters: &[u8]) {
    let octets = open(4, 65000, 90, 1, parameters);
    refused(&octets, Limit::Standard, "OPEN Message Error", &[]);
}

#[test]
fn of_another_version_is_told_ours() {
    for version in [0, 3, 5, 255] {
        let words = "OPEN Message Error/Unsupported Version Number: they speak version 4";
        // Whatever else is wrong with it: another version may have another layout.
        refused(
            &open(version, 0, 1, 0, &[9]),
            Limit::Standard,
            words,
            &[0, 4],
        );
    }
}

#[test]
fn with_as_0_is_refused() {
    let words = "OPEN Message Error/Bad Peer AS";
    refused(&open(4, 0, 90, 1, &[0]), Limit::Standard, words, &[]);
    let capability = [8, 2, 6, 65, 4, 0, 0, 0, 0];
    refused(
        &open(4, 65000, 90, 1, &capability),
        Limit::Standard,
        words,
        &[],
    );
}

#[test]
fn with_hold_time_1_or_2_is_refused() {
    for hold_time in [1, 2] {
        let words = "OPEN Message Error/Unacceptable Hold Time";
        refused(
            &open(4, 65000, hold_time, 1, &[0]),
            Limit::Standard,
            words,
            &[],
        );
    }
}

#[test]
fn without_a_bgp_identifier_is_refused() {
    let words = "OPEN Message Error/Bad BGP Identifier";
    refused(&open(4, 65000, 90, 0, &[0]), Limit::Standard, words, &[]);
}

#[test]
fn with_a_parameter_that_is_not_capabilities_is_refused() {
    let words = "OPEN Message Error/Unsupported Optional Parameter";
    for parameters in [&[3, 1, 1, 0][..], &[255, 255, 0, 4, 9, 0, 1, 0]] {
        refused(
            &open(4, 65000, 90, 1, parameters),
            Limit::Standard,
            words,
            &[],
        );
    }
}

#[test]
fn whose_lengths_do_not_add_up_is_refused() {
    malformed(&[4, 2]);
    malformed(&[0, 2]);
    malformed(&[2, 2, 1]);
    malformed(&[3, 2, 1, 65]);
    malformed(&[4, 2, 2, 65, 4]);
    malformed(&[255, 255, 0]);
    malformed(&[255, 255, 0, 9, 2, 0, 2, 1, 0]);
    malformed(&[255, 255, 0, 3, 2, 0, 2]);
}

#[test]
fn with_a_capability_of_impossible_length_is_refused() {
    for capability in [
        &[1, 3, 0, 1, 0][..],
        &[2, 1, 0],
        &[5, 5, 0, 1, 0, 1, 0],
        &[6, 1, 0],
        &[64, 1, 0],
        &[64, 5, 0, 0, 0, 1, 1],
        &[65, 2, 0, 1],
        &[69, 3, 0, 1, 1],
        &[70, 1, 0],
        &[71, 6, 0, 1, 1, 0, 0, 0],
    ] {
        let length = u8::try_from(capability.len()).unwrap();
        malformed(&[&[length + 2, 2, length], capability].concat());
    }
}

#[test]
fn may_say_anything_in_capabilities_that_only_inform() {
    for capability in [
        &[73, 1, 200][..],
        &[73, 3, 1, 0xff, 0],
        &[75, 2, 9, 9],
        // U+202E turns round what a terminal writes after it.
        &[73, 6, 4, b'a', 0xe2, 0x80, 0xae, 0],
        &[75, 4, 3, 0xe2, 0x80, 0xae],
        &[69, 4, 0, 1, 1, 9],
    ] {
        let length = u8::try_from(capability.len()).unwrap();
        let octets = open(
            4,
            65000,
            90,
            1,
            &[&[length + 2, 2, length], capability].concat(),
        );
        let message = frame(&octets, Limit::Standard)
            .unwrap()
            .unwrap()
            .message(&CONTEXT)
            .unwrap();
        let Some(Message::Open(open)) = message else {
            panic!("no OPEN")
        };
        assert_eq!(open.capabilities[0].code(), capability[0]);
        assert_eq!(open.add_path(Family::IPv4), None);
        assert_eq!(open.host_and_software(), (None, None));
    }
}

#[test]
fn that_repeats_capabilities_means_the_last_graceful_restart_and_the_first_add_path() {
    let capabilities = [
        &[64, 2, 0, 10, 64, 2, 0, 20][..],
        &[69, 4, 0, 1, 1, 1, 69, 8, 0, 1, 1, 3, 0, 2, 1, 2],
        &[1, 4, 0, 1, 0, 1, 1, 4, 0, 1, 0, 1],
    ]
    .concat();
    let length = u8::try_from(capabilities.len()).unwrap();
    let octets = open(
        4,
        65000,
        90,
        1,
        &[&[length + 2, 2, length], &capabilities[..]].concat(),
    );
    let message = frame(&octets, Limit::Standard)
        .unwrap()
        .unwrap()
        .message(&CONTEXT)
        .unwrap();
    let Some(Message::Open(open)) = message else {
        panic!("no OPEN")
    };
    assert_eq!(open.graceful_restart().unwrap().restart_time, 20);
    assert!(!open.add_path(Family::IPv4).unwrap().sends());
    assert!(open.add_path(Family::IPv6).unwrap().sends());
    assert_eq!(open.families(), Families::IPV4);
    assert!(!open.four_octet_as());
}
