//! What the kernel reads, octet for octet, and what a roll consists of.

use super::*;

fn key(send_id: u8, receive_id: u8, secret: &str) -> AoKey {
    AoKey {
        send_id,
        receive_id,
        algorithm: Algorithm::HmacSha1,
        secret: secret.as_bytes().into(),
    }
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

/// Where octets are not 0, and what they are.
fn written(octets: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut runs: Vec<(usize, Vec<u8>)> = Vec::new();
    for (at, octet) in octets.iter().enumerate().filter(|(_, octet)| **octet != 0) {
        match runs.last_mut() {
            Some((begin, run)) if *begin + run.len() == at => run.push(*octet),
            _ => runs.push((at, vec![*octet])),
        }
    }
    runs
}

/// The first `count` bit fields of a word.
fn bits(count: u32) -> (usize, u8) {
    let word = (1_u32 << count) - 1;
    if cfg!(target_endian = "big") {
        (0, word.reverse_bits().to_be_bytes()[0])
    } else {
        (0, word.to_le_bytes()[0])
    }
}

#[test]
fn a_key_is_added_as_linux_tcp_h_lays_it_out() {
    let octets = addition(prefix("10.1.2.3"), &key(100, 101, "secret"), true).expect("it fits");
    let family = u16::try_from(libc::AF_INET).expect("small").to_ne_bytes();
    let (at, flags) = bits(2);
    let expected = [
        (usize::from(family[0] == 0), vec![2]), // family
        (4, vec![10, 1, 2, 3]),                 // after port 0
        (128, b"hmac(sha1)".to_vec()),          // alg_name
        (196 + at, vec![flags]),                // set_current, set_rnext
        (202, vec![32, 100, 101, 12]),          // prefix, sndid, rcvid, maclen
        (207, [&[6][..], b"secret"].concat()),  // keyflags are 0; keylen, key
    ];
    assert_eq!(written(&octets), expected);
    assert_eq!(octets.len(), 288);
}

#[test]
fn one_for_an_ipv6_network_that_is_not_preferred_too() {
    let mut cmac = key(1, 2, &"x".repeat(80));
    cmac.algorithm = Algorithm::AesCmac;
    let octets = addition(prefix("2001:db8:ff::/48"), &cmac, false).expect("it fits");
    assert_eq!(
        octets[..2],
        u16::try_from(libc::AF_INET6).expect("small").to_ne_bytes()
    );
    assert_eq!(octets[8..14], [0x20, 0x01, 0x0d, 0xb8, 0x00, 0xff]);
    assert_eq!(octets[128..140], *b"cmac(aes128)");
    assert_eq!(octets[192..202], [0; 10], "ifindex, flags, reserved");
    assert_eq!(octets[202..208], [48, 1, 2, 12, 0, 80]);
    assert_eq!(octets[208..], [b'x'; 80]);
    cmac.algorithm = Algorithm::HmacSha256;
    let octets = addition(prefix("::1"), &cmac, false).expect("it fits");
    assert_eq!(octets[128..141], *b"hmac(sha256)\0");
    assert_eq!(
        addition(prefix("::1"), &key(1, 2, &"x".repeat(81)), false),
        None
    );
}

#[test]
fn a_key_is_deleted_as_linux_tcp_h_lays_it_out() {
    let (old, new) = (key(100, 101, "old"), key(102, 103, "new"));
    let octets = delete(prefix("10.1.2.3"), &old, Some(&new));
    let (at, flags) = bits(2);
    assert_eq!(octets[4..8], [10, 1, 2, 3]);
    assert_eq!(octets[132 + at], flags, "set_current, set_rnext");
    assert_eq!(octets[136..138], [0, 0], "reserved");
    assert_eq!(octets[138..], [32, 100, 101, 102, 103, 0]);
    assert_eq!(octets.len(), 144);
    let of_listener = delete(prefix("10.1.0.0/16"), &old, None);
    assert_eq!(
        of_listener[128..],
        [&[0; 10][..], &[16, 100, 101, 0, 0, 0]].concat()
    );
}

#[test]
fn the_other_side_is_asked_for_a_key_as_linux_tcp_h_lays_it_out() {
    let octets = information(&key(102, 103, "new"));
    let bit: u32 = if cfg!(target_endian = "big") {
        1 << 30
    } else {
        1 << 1
    };
    assert_eq!(octets[..4], bit.to_ne_bytes(), "set_rnext alone");
    assert_eq!(octets[4..8], [0, 0, 0, 103], "reserved, current_key, rnext");
    assert_eq!(octets[8..], [0; 40], "counters");
}

#[test]
fn a_roll_adds_before_it_asks_and_asks_before_it_removes() {
    let (old, new) = (key(1, 2, "old"), key(3, 4, "new"));
    let [both, other, only_old, only_new] = [
        vec![old.clone(), new.clone()],
        vec![new.clone(), old.clone()],
        vec![old.clone()],
        vec![new.clone()],
    ];
    // Known on one side, it hurts nobody; preferred, it is asked for; then the old one can go.
    assert_eq!(steps(&only_old, &both), Some(vec![Step::Add(&new)]));
    assert_eq!(steps(&both, &other), Some(vec![Step::AskFor(&new)]));
    assert_eq!(
        steps(&other, &only_new),
        Some(vec![Step::Remove(&old, &new)])
    );
    // All at once.
    let all = vec![
        Step::Add(&new),
        Step::AskFor(&new),
        Step::Remove(&old, &new),
    ];
    assert_eq!(steps(&only_old, &only_new), Some(all));
    assert_eq!(steps(&both, &both), Some(vec![]));
}

#[test]
fn no_id_stands_for_two_keys() {
    let old = [key(1, 2, "old")];
    for new in [key(1, 2, "new"), key(1, 3, "new"), key(3, 2, "new")] {
        assert_eq!(steps(&old, &[new]), None);
    }
}

#[test]
fn a_kernel_without_it_is_told_from_one_with_it() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    let answer = add_keys(
        &socket,
        prefix("127.0.0.9"),
        &[key(1, 2, "key")],
        Role::Listens,
    );
    if is_known() {
        answer.expect("it is taken");
        remove_keys(&socket, prefix("127.0.0.9"), &[key(1, 2, "key")]).expect("it was there");
    } else {
        let error = answer.expect_err("nobody knows it").raw_os_error();
        assert_eq!(error, Some(libc::ENOPROTOOPT));
    }
}
