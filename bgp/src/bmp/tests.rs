//! Octet by octet what RFC 7854 §4 draws.

use std::time::Duration;

use super::*;
use crate::{
    prefix::Family,
    wire::{Cease, update},
};

const PEER: Subject = Subject {
    address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
    asn: 65001,
    router_id: Ipv4Addr::new(192, 0, 2, 1),
};

const PEER_V6: Subject = Subject {
    address: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
    ..PEER
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

/// Type and flags, distinguisher, address, AS, identifier, seconds and microseconds.
fn header(flags: &str, address: &str) -> String {
    format!("00{flags}0000000000000000{address}0000fde9c00002013b9aca0000000003")
}

const V4: &str = "0000000000000000000000000a000001";
const V6: &str = "fd000000000000000000000000000001";

#[test]
fn initiation_names_the_system() {
    assert_eq!(
        written(|out| initiation("node1", "routelet", out)),
        "030000001b04\
         00010008726f7574656c6574\
         000200056e6f646531"
    );
}

#[test]
fn termination_says_that_the_operator_wants_it() {
    assert_eq!(written(termination), "030000000c05000100020000");
}

#[test]
fn peer_up_has_both_addresses_both_ports_and_both_opens() {
    let opening = Opening {
        local_port: 179,
        remote_port: 40000,
        sent: Bytes::from_static(&[0xaa, 0xbb]),
        received: Bytes::from_static(&[0xcc]),
    };
    let local = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    assert_eq!(
        written(|out| peer_up(&PEER, local, &opening, then(), out)),
        format!(
            "030000004703{}0000000000000000000000000a00000200b39c40aabbcc",
            header("00", V4)
        )
    );
}

#[test]
fn peer_down_says_who_closed_and_with_which_words() {
    let said = Notification::cease(Cease::AdministrativeReset);
    let octets = "ffffffffffffffffffffffffffffffff0015030604";
    let cases = [
        (Down::WeSaid(said.clone()), format!("01{octets}")),
        (Down::WeLeft(18), "020012".to_owned()),
        (Down::TheySaid(said), format!("03{octets}")),
        (Down::TheyLeft, "04".to_owned()),
        (Down::Forgotten, "05".to_owned()),
    ];
    for (down, reason) in cases {
        let length = 48 + reason.len() / 2;
        assert_eq!(
            written(|out| peer_down(&PEER_V6, &down, then(), out)),
            format!("03{length:08x}02{}{reason}", header("80", V6)),
            "{down:?}"
        );
    }
}

#[test]
fn each_update_is_a_message_of_its_own_with_the_view_it_is_of() {
    let mut updates = BytesMut::new();
    update::end_of_rib(Family::IPv4, &mut updates);
    update::end_of_rib(Family::IPv4, &mut updates);
    let one = |flags| {
        format!(
            "030000004700{}ffffffffffffffffffffffffffffffff00170200000000",
            header(flags, V4)
        )
    };
    for (view, flags) in [(View::PrePolicy, "00"), (View::PostPolicy, "40")] {
        assert_eq!(
            written(|out| route_monitoring(&PEER, view, then(), &updates, out)),
            one(flags).repeat(2)
        );
    }
}

#[test]
fn statistics_are_counters_and_gauges_with_their_types() {
    let statistics = [
        Statistic::Rejected(1),
        Statistic::DuplicateAdvertisements(2),
        Statistic::DuplicateWithdraws(3),
        Statistic::ClusterLoops(4),
        Statistic::AsPathLoops(5),
        Statistic::OriginatorLoops(6),
        Statistic::AdjRibIn(7),
        Statistic::LocRib(8),
        Statistic::AdjRibInOf(Family::IPv6, 9),
        Statistic::LocRibOf(Family::IPv4, 10),
        Statistic::TreatedAsWithdraw(11),
    ];
    let body = "0000000b\
        0000000400000001\
        0001000400000002\
        0002000400000003\
        0003000400000004\
        0004000400000005\
        0005000400000006\
        000700080000000000000007\
        000800080000000000000008\
        0009000b0002010000000000000009\
        000a000b000101000000000000000a\
        000b00040000000b";
    let length = 48 + body.len() / 2;
    assert_eq!(
        written(|out| statistics_report(&PEER, &statistics, then(), out)),
        format!("03{length:08x}01{}{body}", header("00", V4))
    );
}

#[test]
fn messages_are_counted_and_octets_that_are_none_end_the_count() {
    let mut out = BytesMut::new();
    initiation("a", "b", &mut out);
    termination(&mut out);
    assert_eq!(count(&out), 2);
    assert_eq!(count(&[3, 0, 0, 0, 0, 9]), 1);
    assert_eq!(count(&[]), 0);
}
