//! The origin check: a route for what another owns counts only if it leads to the owner.

use std::{net::IpAddr, sync::Arc};

use bgp::{
    owners::{Owner, Owners},
    prefix::{Family, Prefix},
    speaker::Event,
    status::{
        Fate,
        PeerKind::{self, External, Internal},
    },
    wire::Attributes,
};

use crate::world::{World, address, attributes, prefix, settings};

const PODS: &str = "10.244.2.0/24";
const PART: &str = "10.244.2.128/25";
const UNKNOWN: &str = "10.9.9.9";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn node(number: u32) -> Owner {
    Owner {
        name: format!("node{number}"),
        addresses: vec![address(number), IpAddr::from([10, 1, 1, number as u8])],
        forwards: false,
    }
}

/// Peers 1, 2 and 3 are nodes; node2 has PODS.
fn owners() -> Owners {
    Owners::new(
        [
            (node(1), vec![]),
            (node(2), vec![prefix(PODS), prefix("fd02::/64")]),
            (node(3), vec![prefix("10.244.3.0/24")]),
        ],
        [(prefix("10.244.9.0/24"), "two nodes claim it".into())],
    )
}

fn world(owners: Owners) -> World {
    let mut world = World::new(settings());
    world.reconfigure(|settings| settings.owners = Arc::new(owners));
    world
}

fn by(number: u32, kind: PeerKind, next_hop: IpAddr) -> Attributes {
    Attributes {
        next_hop: Some(next_hop.into()),
        ..attributes(number, kind, 1)
    }
}

/// What becomes of a route that peer `number` tells: nothing to complain of, or why it is refused.
fn fate_in(
    owners: Owners,
    number: u32,
    kind: PeerKind,
    told: &str,
    next_hop: IpAddr,
) -> Option<String> {
    let mut world = world(owners);
    world.add(number, kind, |_| {});
    world.up(number);
    world.announce_with(
        number,
        by(number, kind, next_hop),
        vec![prefix(told).into()],
    );
    world.settle();
    let refused = refusal(&world, told);
    let installed = world.kernel.contains_key(&prefix(told));
    assert_eq!(installed, refused.is_none(), "{told} by {next_hop}");
    assert_eq!(astray(&world, number), usize::from(refused.is_some()));
    refused
}

fn fate(number: u32, kind: PeerKind, told: &str, next_hop: &str) -> Option<String> {
    fate_in(owners(), number, kind, told, ip(next_hop))
}

fn refusal(world: &World, told: &str) -> Option<String> {
    let explained = world
        .rib
        .explain(prefix(told), world.now, std::time::SystemTime::UNIX_EPOCH)
        .expect("a known prefix");
    explained
        .candidates
        .iter()
        .find_map(|route| match &route.fate {
            Fate::Refused(why) => Some(why.clone()),
            _ => None,
        })
}

fn astray(world: &World, number: u32) -> usize {
    let counts = world.rib.counts();
    let peer = counts
        .peers
        .iter()
        .find(|(id, _)| id.0 == number)
        .map(|(_, peer)| peer)
        .expect("a peer");
    let of = |family: &Family| {
        peer.families
            .get(family)
            .map_or(0, |it| it.refused_by_origin)
    };
    Family::ALL.iter().map(of).sum()
}

#[test]
fn the_owner_is_believed() {
    for kind in [Internal, External] {
        assert_eq!(fate(2, kind, PODS, "10.0.1.2"), None);
        assert_eq!(fate(2, kind, PODS, "10.1.1.2"), None, "its second address");
        assert_eq!(
            fate(2, kind, PODS, UNKNOWN),
            None,
            "it knows how it is reached"
        );
        assert_eq!(fate(2, kind, PART, "10.0.1.2"), None);
    }
}

#[test]
fn an_ipv4_address_inside_an_ipv6_one_is_whose_it_is() {
    assert_eq!(fate(9, External, PODS, "::ffff:10.0.1.2"), None);
    for kind in [Internal, External] {
        let refused = fate(9, kind, PODS, "::ffff:10.0.1.3");
        assert_eq!(
            refused.as_deref(),
            Some(
                "origin check: 10.244.2.0/24 belongs to node2 (10.0.1.2, 10.1.1.2): next hop 10.0.1.3 is node3"
            )
        );
    }
}

#[test]
fn what_leads_to_another_node_is_refused_whoever_says_it() {
    for (number, kind) in [
        (2, Internal),
        (3, Internal),
        (3, External),
        (9, Internal),
        (9, External),
    ] {
        assert_eq!(
            fate(number, kind, PODS, "10.0.1.3").as_deref(),
            Some(
                "origin check: 10.244.2.0/24 belongs to node2 (10.0.1.2, 10.1.1.2): next hop 10.0.1.3 is node3"
            )
        );
    }
    assert!(
        fate(9, External, PODS, "10.1.1.3").is_some(),
        "by any address"
    );
}

#[test]
fn a_reflector_among_the_nodes_passes_on_what_leads_to_the_owner_and_nothing_else() {
    assert_eq!(fate(1, Internal, PODS, "10.0.1.2"), None);
    assert_eq!(
        fate(1, Internal, PART, "10.0.1.2"),
        None,
        "the owner's own word"
    );
    assert_eq!(
        fate(1, Internal, PODS, UNKNOWN).as_deref(),
        Some(
            "origin check: 10.244.2.0/24 belongs to node2 (10.0.1.2, 10.1.1.2): next hop 10.9.9.9 is none of its addresses"
        )
    );
}

#[test]
fn a_router_of_the_fabric_may_stand_between() {
    for kind in [Internal, External] {
        assert_eq!(fate(9, kind, PODS, "10.0.1.9"), None, "its own address");
        assert_eq!(fate(9, kind, PODS, "10.0.1.2"), None, "the owner's");
        assert_eq!(fate(9, kind, PODS, UNKNOWN), None, "some router's");
    }
}

#[test]
fn a_part_of_a_nodes_pods_counts_only_from_that_node() {
    let refused = "origin check: it lies in 10.244.2.0/24, which belongs to node2 (10.0.1.2, 10.1.1.2): a part of it counts only from node2 itself";
    for next_hop in ["10.0.1.9", "10.0.1.2", "10.0.1.3"] {
        assert_eq!(fate(9, External, PART, next_hop).as_deref(), Some(refused));
        assert_eq!(
            fate(9, External, "10.244.2.7/32", next_hop).as_deref(),
            Some(refused)
        );
    }
    assert_eq!(
        fate(3, Internal, PART, "10.0.1.3").as_deref(),
        Some(refused)
    );
    assert_eq!(
        fate(9, Internal, PART, "10.0.1.9").as_deref(),
        Some(refused)
    );
}

#[test]
fn what_is_nobodys_leads_to_no_node_whoever_says_so() {
    for (number, kind) in [(2, Internal), (9, External)] {
        assert_eq!(
            fate(number, kind, "10.244.9.0/24", "10.0.1.2").as_deref(),
            Some(
                "origin check: 10.244.9.0/24 is not node2's, to which it leads: two nodes claim it"
            )
        );
    }
    assert_eq!(fate(9, External, "10.244.9.0/24", "10.0.1.9"), None);
}

#[test]
fn aggregates_and_what_no_owner_is_known_of_are_no_concern_of_the_check() {
    for told in [
        "10.244.0.0/16",
        "0.0.0.0/0",
        "10.244.77.0/24",
        "192.0.2.0/24",
    ] {
        assert_eq!(fate(9, External, told, "10.0.1.3"), None, "{told}");
    }
}

#[test]
fn the_same_holds_for_ipv6_and_across_families() {
    assert_eq!(fate(9, External, "fd02::/64", "10.0.1.2"), None);
    assert_eq!(fate(9, External, "fd02::/64", "fd00::99"), None);
    assert!(fate(9, External, "fd02::/64", "10.0.1.3").is_some());
    assert!(fate(9, External, "fd02::/80", "fd00::99").is_some());
}

#[test]
fn a_node_that_forwards_for_others_may_be_the_next_hop_of_what_it_says_itself() {
    let forwarding = || {
        let hub = Owner {
            forwards: true,
            ..node(3)
        };
        Owners::new(
            [
                (node(1), vec![]),
                (node(2), vec![prefix(PODS)]),
                (hub, vec![]),
            ],
            [],
        )
    };
    let at = |number, kind, next_hop| fate_in(forwarding(), number, kind, PODS, next_hop);
    assert_eq!(at(3, Internal, ip("10.0.1.3")), None);
    assert!(
        at(9, External, ip("10.0.1.3")).is_some(),
        "somebody else says so"
    );
    assert!(
        at(3, Internal, ip("10.0.1.1")).is_some(),
        "it leads to a third"
    );
}

#[test]
fn routes_with_attributes_in_common_are_judged_one_by_one() {
    let mut world = world(owners());
    world.add(9, External, |_| {});
    world.up(9);
    let all = ["192.0.2.0/24", PODS, "192.0.3.0/24", PART, "10.244.3.0/24"];
    let nlri = all.iter().map(|text| prefix(text).into()).collect();
    world.announce_with(9, by(9, External, ip("10.0.1.3")), nlri);
    world.settle();
    let installed: Vec<String> = world.kernel.keys().map(ToString::to_string).collect();
    assert_eq!(installed, ["10.244.3.0/24", "192.0.2.0/24", "192.0.3.0/24"]);
    assert_eq!(astray(&world, 9), 2);
    world.withdraw(9, &all);
    assert_eq!(astray(&world, 9), 0);
    assert_eq!(
        world.rib.counts().attribute_sets,
        0,
        "all attributes are let go"
    );
}

#[test]
fn another_owner_is_looked_at_with_what_is_known_already() {
    let mut world = world(owners());
    world.add(2, Internal, |_| {});
    world.add(9, External, |_| {});
    world.up(2);
    world.up(9);
    world.announce_with(2, by(2, Internal, address(2)), vec![prefix(PODS).into()]);
    world.announce_with(9, by(9, External, address(3)), vec![prefix(PODS).into()]);
    let leads_to = |world: &mut World| {
        world.settle();
        let install = world.kernel.get(&prefix(PODS))?;
        install.next_hops.first().map(|hop| hop.next_hop.address)
    };
    assert_eq!(leads_to(&mut world), Some(address(2)));
    let moved = Owners::new([(node(2), vec![]), (node(3), vec![prefix(PODS)])], []);
    world.reconfigure(|settings| settings.owners = Arc::new(moved));
    assert_eq!(leads_to(&mut world), Some(address(3)));
    assert_eq!((astray(&world, 2), astray(&world, 9)), (1, 0));
    world.reconfigure(|settings| settings.owners = Arc::default());
    world.settle();
    assert_eq!((astray(&world, 2), astray(&world, 9)), (0, 0));
    world.reconfigure(|settings| settings.owners = Arc::new(owners()));
    assert_eq!(leads_to(&mut world), Some(address(2)));
    assert!(world.peer(2).is_up() && world.peer(9).is_up());
    assert!(world.peer(2).orders.is_empty() && world.peer(9).orders.is_empty());
}

#[test]
fn a_peer_whose_routes_lead_astray_is_spoken_of_but_not_for_each_route() {
    let mut world = world(owners());
    world.add(9, External, |_| {});
    world.up(9);
    let parts = (0..100_u8).map(|last| {
        let host: Prefix = Prefix::host([10, 244, 2, last].into());
        host.into()
    });
    world.announce_with(9, by(9, External, address(9)), parts.collect());
    world.settle();
    let said: Vec<String> = world
        .rib
        .take_events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Problem { peer, text } => Some(format!("{}: {text}", peer.unwrap_or_default())),
            Event::Session { .. } | Event::Bfd { .. } => None,
        })
        .collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("peer9: 10.244.2.0/32 refused by the origin check: it lies in"));
    assert_eq!(astray(&world, 9), 100);
}

#[test]
fn packets_for_a_pod_go_by_the_route_that_may_be_used_and_the_other_is_shown_beside_it() {
    let mut world = world(owners());
    world.add(2, Internal, |_| {});
    world.add(9, External, |_| {});
    world.up(2);
    world.up(9);
    world.announce_with(2, by(2, Internal, address(2)), vec![prefix(PODS).into()]);
    let closer = [PART, "10.244.2.200/32"];
    let closer = closer.iter().map(|text| prefix(text).into()).collect();
    world.announce_with(9, by(9, External, address(9)), closer);
    world.settle();
    let pod = prefix("10.244.2.200/32");
    let now = world.now;
    let explained = world
        .rib
        .explain(pod, now, std::time::SystemTime::UNIX_EPOCH)
        .expect("a route");
    assert_eq!(explained.prefix, prefix(PODS));
    let over: Vec<Prefix> = explained.passed_over.iter().map(|it| it.prefix).collect();
    assert_eq!(over, [prefix(PART), pod]);
}

#[test]
fn how_the_pod_network_is_reached_is_told_with_what_is_refused() {
    let mut world = world(owners());
    world.add(2, Internal, |_| {});
    world.add(9, External, |_| {});
    world.up(2);
    world.up(9);
    world.announce_with(2, by(2, Internal, address(2)), vec![prefix(PODS).into()]);
    let others = ["10.244.3.0/24", "10.0.0.0/8", "192.0.2.0/24"];
    let others = others.iter().map(|text| prefix(text).into()).collect();
    world.announce_with(9, by(9, External, address(2)), others);
    world.settle();
    let reach = world.rib.reach(vec![prefix("10.244.0.0/16"), prefix(PODS)]);
    let told: Vec<(String, usize, bool)> = reach
        .iter()
        .map(|it| {
            (
                it.prefix.to_string(),
                it.next_hops.len(),
                it.refused.is_some(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("10.0.0.0/8".to_owned(), 1, false),
            (PODS.to_owned(), 1, false),
            ("10.244.3.0/24".to_owned(), 0, true),
        ]
    );
}
