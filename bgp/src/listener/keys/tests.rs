//! Each peer is held to its own password, whatever lies beside it, and a mesh to one by few keys.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::{
    config::{Algorithm, Multipath, PeerConfig, RangeConfig, Unnumbered},
    rib::fixture,
};

fn password(text: &str) -> Password {
    match text {
        "" => Password::None,
        "?" => Password::Missing("there is no Secret".into()),
        "AO" => Password::Ao([ao()].into()),
        key => Password::Key(key.as_bytes().into()),
    }
}

fn ao() -> AoKey {
    AoKey {
        send_id: 1,
        receive_id: 2,
        algorithm: Algorithm::HmacSha1,
        secret: b"secret"[..].into(),
    }
}

/// A speaker with these peers and ranges: whose password is what.
fn config<'a>(whose: impl IntoIterator<Item = (Prefix, &'a str)>) -> SpeakerConfig {
    let id = Ipv4Addr::new(192, 0, 2, 1);
    let mut config = SpeakerConfig {
        asn: 64512,
        router_id: id,
        cluster_id: id,
        listen: vec![SocketAddr::new(id.into(), 179)],
        peers: [].into(),
        ranges: [].into(),
        originate: [].into(),
        owners: Default::default(),
        multipath: Multipath {
            max_paths: 1,
            as_path_relax: false,
        },
        deferral: std::time::Duration::ZERO,
        draining: false,
        collectors: [].into(),
        mrt: None,
    };
    for (prefix, text) in whose {
        let peer = PeerConfig {
            address: prefix.address(),
            password: password(text),
            ..fixture::peer_config()
        };
        let name = format!("{prefix} {text}");
        if prefix.halves().is_none() {
            config.peers.insert(name, peer);
        } else {
            let range = RangeConfig {
                range: prefix,
                peer,
                limit: 10,
            };
            config.ranges.insert(name, range);
        }
    }
    config
}

#[test]
fn a_listener_of_one_link_holds_whoever_is_there_to_the_key_of_that_link() {
    let mut config = config([]);
    for (link, text) in [("eth1", "first"), ("eth2", "second")] {
        let peer = PeerConfig {
            address: Ipv6Addr::UNSPECIFIED.into(),
            interface: Some(link.into()),
            unnumbered: Some(Unnumbered::default()),
            password: password(text),
            ..fixture::peer_config()
        };
        config.peers.insert(link.into(), peer);
    }
    let told = |link| {
        let keys = keys(&config, Some(link)).md5.into_iter();
        let words = |(whose, key): (Prefix, Box<[u8]>)| {
            format!("{whose} {}", String::from_utf8_lossy(&key))
        };
        keys.map(words).collect::<Vec<_>>()
    };
    assert_eq!(told("eth1"), ["fe80::/10 first"]);
    assert_eq!(told("eth2"), ["fe80::/10 second"]);
    assert!(told("eth3").is_empty());
}

/// The keys for these, in words.
fn told(whose: &[(&str, &str)]) -> Vec<String> {
    let parsed = whose
        .iter()
        .map(|(prefix, text)| (prefix.parse().expect("a prefix"), *text));
    let keys = keys(&config(parsed), None).md5;
    keys.iter()
        .map(|(prefix, key)| format!("{prefix} {}", String::from_utf8_lossy(key)))
        .collect()
}

/// What the kernel would ask of this address.
fn asked(keys: &Md5Keys, address: IpAddr) -> Option<&[u8]> {
    let host = Prefix::host(address);
    let covering = keys.iter().filter(|(prefix, _)| prefix.contains(&host));
    let longest = covering.max_by_key(|(prefix, _)| prefix.length())?;
    Some(longest.1)
}

#[test]
fn peers_with_one_password_share_the_narrowest_prefix_that_holds_them() {
    let mesh = [
        ("10.0.0.1", "mesh"),
        ("10.0.0.2", "mesh"),
        ("10.0.0.6", "mesh"),
    ];
    assert_eq!(told(&mesh), ["10.0.0.0/29 mesh"]);
    assert_eq!(told(&[("10.0.0.1", "alone")]), ["10.0.0.1/32 alone"]);
}

#[test]
fn a_thousand_nodes_in_several_networks_take_a_key_for_each_network() {
    let nodes = (0..1000_u32).map(|node| {
        let network = [0x0a01_0000, 0x0a02_8000, 0xac10_0000, 0xc0a8_0000];
        let network = network[usize::try_from(node % 4).expect("small")];
        (
            Prefix::host(Ipv4Addr::from(network + 2 + node).into()),
            "mesh",
        )
    });
    assert_eq!(keys(&config(nodes), None).md5.len(), 4);
    let nodes = (1..=1000_u128).map(|node| {
        let address = Ipv6Addr::from((0xfd00_u128 << 112) + (node << 64) + 1);
        (Prefix::host(address.into()), "mesh")
    });
    let of_v6: Vec<_> = keys(&config(nodes), None).md5.into_keys().collect();
    assert_eq!(of_v6, ["fd00::/54".parse().expect("a prefix")]);
}

#[test]
fn another_password_in_their_midst_is_longer() {
    let keys = told(&[
        ("10.0.0.1", "mesh"),
        ("10.0.0.2", "switch"),
        ("10.0.0.3", "mesh"),
        ("10.0.0.9", "mesh"),
    ]);
    assert_eq!(keys, ["10.0.0.0/28 mesh", "10.0.0.2/32 switch"]);
}

#[test]
fn a_peer_without_password_lies_under_no_key() {
    let keys = told(&[
        ("10.0.0.1", "mesh"),
        ("10.0.0.2", "mesh"),
        ("10.0.0.9", ""),
        ("10.0.0.12", "mesh"),
        ("10.0.0.14", "mesh"),
    ]);
    assert_eq!(keys, ["10.0.0.0/30 mesh", "10.0.0.12/30 mesh"]);
}

#[test]
fn a_range_without_password_is_left_open_but_for_the_peers_in_it() {
    let keys = told(&[
        ("10.0.0.0/24", ""),
        ("10.0.0.4", "mesh"),
        ("10.0.0.5", "mesh"),
        ("10.0.0.7", "mesh"),
        ("10.0.1.1", "mesh"),
        ("10.0.1.2", "mesh"),
    ]);
    let expected = ["10.0.0.4/31 mesh", "10.0.0.7/32 mesh", "10.0.1.0/30 mesh"];
    assert_eq!(keys, expected);
}

#[test]
fn a_range_with_a_password_is_one_key_and_a_peer_without_one_is_cut_out_of_it() {
    assert_eq!(told(&[("10.0.0.0/8", "rack")]), ["10.0.0.0/8 rack"]);
    let keys = told(&[("10.0.0.0/29", "rack"), ("10.0.0.5", "")]);
    let expected = ["10.0.0.0/30 rack", "10.0.0.4/32 rack", "10.0.0.6/31 rack"];
    assert_eq!(keys, expected);
}

#[test]
fn a_peer_whose_password_is_missing_asks_for_nothing() {
    let keys = told(&[
        ("10.0.0.1", "mesh"),
        ("10.0.0.2", "?"),
        ("10.0.0.3", "mesh"),
    ]);
    assert_eq!(keys, ["10.0.0.0/30 mesh"]);
}

#[test]
fn a_peer_with_tcp_ao_has_keys_of_its_own_and_lies_under_no_md5_key() {
    let whose = [
        ("10.0.0.1", "mesh"),
        ("10.0.0.2", "AO"),
        ("10.0.0.3", "mesh"),
    ];
    assert_eq!(told(&whose), ["10.0.0.1/32 mesh", "10.0.0.3/32 mesh"]);
    let parsed = whose.map(|(prefix, text)| (prefix.parse().expect("a prefix"), text));
    let expected = [("10.0.0.2".parse().expect("a prefix"), [ao()].into())];
    assert_eq!(keys(&config(parsed), None).ao, expected.into());
}

proptest! {
    #[test]
    fn every_address_that_may_peer_is_asked_for_its_own_password_and_no_other(
        whose in prop::collection::btree_map((0..32_u32, 27..=32_u8), 0..4_usize, 0..24),
        base in prop::sample::select(vec![0x0a00_0000_u32, 0x0a00_ffe0]),
    ) {
        let passwords = ["", "one", "two", "?"];
        let whose: BTreeMap<Prefix, &str> = whose
            .into_iter()
            .map(|((host, length), which)| {
                let address = Ipv4Addr::from(base + host).into();
                (Prefix::new(address, length).expect("a prefix"), passwords[which])
            })
            .collect();
        let keys = keys(&config(whose.clone()), None).md5;
        for host in 0..32 {
            let address = IpAddr::from(Ipv4Addr::from(base + host));
            let longest = whose
                .iter()
                .filter(|(prefix, _)| prefix.contains(&Prefix::host(address)))
                // One whose password is missing is taken by nobody.
                .filter(|(_, text)| **text != "?")
                .max_by_key(|(prefix, _)| prefix.length());
            let wanted = longest.map(|(_, text)| *text);
            let asked = asked(&keys, address);
            match wanted {
                Some("") => prop_assert_eq!(asked, None),
                Some(text) => prop_assert_eq!(asked, Some(text.as_bytes())),
                None => {}
            }
        }
    }
}
