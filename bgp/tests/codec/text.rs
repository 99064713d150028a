//! Communities and paths as text.

use super::*;

#[test]
fn of_as_paths_is_read_as_written() {
    for text in [
        "",
        "65001",
        "65001 65002 {65003,65004}",
        "(65005 65006) [65007,65008] 1",
        "{1} 4294967295",
    ] {
        assert_eq!(text.parse::<AsPath>().unwrap().to_string(), text);
    }
    for text in ["0", "x", "{1", "{}", "4294967296", "-1", "1}"] {
        assert!(text.parse::<AsPath>().is_err(), "{text}");
    }
}

#[test]
fn of_communities_is_read_as_written() {
    for text in [
        "65000:100",
        "0:0",
        "no-export",
        "graceful-shutdown",
        "blackhole",
        "llgr-stale",
        "65535:1234",
    ] {
        assert_eq!(text.parse::<Community>().unwrap().to_string(), text);
    }
    assert_eq!("NO_EXPORT".parse(), Ok(Community::NO_EXPORT));
    assert_eq!("65535:65281".parse(), Ok(Community::NO_EXPORT));
    assert_eq!("planned-shut".parse(), Ok(Community::GRACEFUL_SHUTDOWN));
    for text in [
        "",
        ":",
        "1",
        "65536:1",
        "1:65536",
        "+1:1",
        "1:2:3",
        "no export",
    ] {
        assert!(text.parse::<Community>().is_err(), "{text}");
    }
    let large = LargeCommunity {
        global: 65000,
        local1: 1,
        local2: u32::MAX,
    };
    assert_eq!("65000:1:4294967295".parse(), Ok(large));
    assert_eq!(large.to_string(), "65000:1:4294967295");
    for text in ["1:2", "1:2:3:4", "1:2:4294967296", "a:b:c", "1::3"] {
        assert!(text.parse::<LargeCommunity>().is_err(), "{text}");
    }
}

#[test]
fn of_extended_communities_names_what_is_known() {
    let text = |octets| ExtendedCommunity(octets).to_string();
    assert_eq!(text([0, 2, 0xfd, 0xe8, 0, 0, 0, 7]), "rt:65000:7");
    assert_eq!(text([1, 3, 10, 0, 0, 1, 0, 7]), "soo:10.0.0.1:7");
    assert_eq!(text([2, 2, 0, 1, 0x11, 0x70, 0, 7]), "rt:70000:7");
    assert_eq!(text([0x80, 6, 0, 0, 0, 0, 0, 0]), "0x8006000000000000");
}

#[test]
fn link_bandwidth_is_a_usable_number_or_none() {
    let of = |bandwidth| ExtendedCommunity::of_link_bandwidth(65000, bandwidth);
    assert_eq!(of(1.25e9).link_bandwidth(), Some(1.25e9));
    assert!(!of(1.25e9).is_transitive());
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(of(bad).link_bandwidth(), None);
    }
    assert_eq!(
        ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 1]).link_bandwidth(),
        None
    );
}
