//! Octet by octet what RFC 6396 §4 and RFC 8050 §4 draw.

use std::time::Duration;

use super::*;
use crate::{
    prefix::Families,
    wire::{AsPath, NextHop, update},
};

const ENDS: Ends = Ends {
    peer_asn: 65001,
    local_asn: 4_200_000_000,
    peer: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
    local: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2))),
};

/// 2001-09-09, and three microseconds.
fn then() -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(1_000_000_000_000_003)
}

fn written(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    out.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn framed(kind: &str, body: &str) -> String {
    format!("3b9aca00{kind}{:08x}{body}", body.len() / 2)
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

fn attributes(next_hop: &str) -> Attributes {
    let address: IpAddr = next_hop.parse().expect("an address");
    Attributes {
        as_path: AsPath::sequence(&[65001]),
        next_hop: Some(NextHop::from(address)),
        ..Attributes::default()
    }
}

#[test]
fn the_index_has_peers_of_both_families() {
    let peers = ["10.0.0.1", "fd00::1"].map(|address| IndexedPeer {
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        address: address.parse().expect("an address"),
        asn: 65001,
    });
    let collector = Ipv4Addr::new(192, 0, 2, 9);
    assert_eq!(
        written(|out| peer_index_table(collector, "n", &peers, then(), out)),
        framed(
            "000d0001",
            "c000020900016e0002\
             02c00002010a0000010000fde9\
             03c0000201fd0000000000000000000000000000010000fde9"
        )
    );
}

#[test]
fn an_ipv4_route_has_its_next_hop_among_its_attributes() {
    let attributes = attributes("10.0.0.1");
    let entry = Entry {
        peer: 1,
        since: then(),
        path_id: 0,
        attributes: &attributes,
    };
    assert_eq!(
        written(|out| rib(
            7,
            prefix("10.1.0.0/16"),
            PathIds::Without,
            &[entry],
            then(),
            out
        )),
        framed(
            "000d0002",
            "00000007100a010001\
             00013b9aca000014\
             40010100\
             40020602010000fde9\
             4003040a000001"
        )
    );
}

#[test]
fn an_ipv6_route_has_only_the_next_hop_of_mp_reach_nlri() {
    let attributes = attributes("fd00::1");
    let entry = Entry {
        peer: 0,
        since: then(),
        path_id: 5,
        attributes: &attributes,
    };
    assert_eq!(
        written(|out| rib(0, prefix("fd01::/16"), PathIds::With, &[entry], then(), out)),
        framed(
            "000d000a",
            "0000000010fd010001\
             00003b9aca00000000050021\
             40010100\
             40020602010000fde9\
             800e1110fd000000000000000000000000000001"
        )
    );
}

#[test]
fn a_message_stands_as_it_came_under_the_subtype_its_session_demands() {
    let mut update = BytesMut::new();
    update::end_of_rib(Family::IPv4, &mut update);
    let octets = "ffffffffffffffffffffffffffffffff00170200000000";
    let cases = [
        (true, Families::empty(), "0004", "0000fde9fa56ea00"),
        (false, Families::empty(), "0001", "fde95ba0"),
        (false, Families::IPV4, "0008", "fde95ba0"),
        (true, Families::IPV4, "0009", "0000fde9fa56ea00"),
        (true, Families::IPV6, "0004", "0000fde9fa56ea00"),
    ];
    for (four_octet_as, add_path_receive, subtype, asns) in cases {
        let context = Context {
            four_octet_as,
            add_path_receive,
            ..Context::default()
        };
        assert_eq!(
            written(|out| message(&ENDS, &context, Family::IPv4, &update, then(), out)),
            framed(
                &format!("0011{subtype}"),
                &format!("00000003{asns}000000010a0000010a000002{octets}")
            )
        );
    }
}

#[test]
fn a_change_of_state_without_a_connection_has_no_local_address() {
    let ends = Ends {
        local: None,
        ..ENDS
    };
    let (from, to) = (SessionState::Established, SessionState::Idle);
    assert_eq!(
        written(|out| state_change(&ends, from, to, then(), out)),
        framed(
            "00110005",
            "000000030000fde9fa56ea00000000010a0000010000000000060001"
        )
    );
}
