use std::net::Ipv4Addr;

use super::*;
use crate::{
    rib::{
        intern::{Doubts, Rank},
        task::PeerId,
    },
    wire::{AsPath, Community, Origin},
};

/// A route that differs from the next only in what a test says.
struct Told {
    source: Source,
    path_id: u32,
    flags: Flags,
    attributes: Attributes,
    unresolved: bool,
    peer: (Ipv4Addr, Option<IpAddr>),
}

impl Told {
    fn rank(&self) -> Rank {
        let mut rank = Rank::of(&self.attributes);
        rank.doubts.set(Doubts::UNRESOLVED, self.unresolved);
        rank
    }
}

fn told(peer: u32, change: impl FnOnce(&mut Told)) -> Told {
    let mut told = Told {
        source: Source::peer(PeerId(peer)),
        path_id: 0,
        flags: Flags::EXTERNAL,
        attributes: Attributes {
            as_path: AsPath::sequence(&[65001, 65002]),
            ..Attributes::default()
        },
        unresolved: false,
        peer: (
            Ipv4Addr::from(peer),
            Some(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + peer))),
        ),
    };
    change(&mut told);
    told
}

fn internal(told: &mut Told) {
    told.flags.remove(Flags::EXTERNAL);
}

fn decided_among(routes: &[Told], rules: Rules) -> Decision {
    let candidates: Vec<Candidate<'_>> = routes
        .iter()
        .map(|told| Candidate {
            source: told.source,
            path_id: told.path_id,
            flags: told.flags,
            rank: told.rank(),
            attributes: &told.attributes,
            peer: told.peer,
        })
        .collect();
    decide(&candidates, rules).expect("there are candidates")
}

const ONE_PATH: Rules = Rules {
    multipath: Multipath {
        max_paths: 1,
        as_path_relax: false,
    },
    stable: false,
};

/// The second route wins, and for this reason, in whatever order they stand.
fn second_wins(reason: Reason, first: Told, second: Told) {
    second_wins_by(ONE_PATH, reason, first, second);
}

fn second_wins_by(rules: Rules, reason: Reason, first: Told, second: Told) {
    let mut routes = [first, second];
    let decision = decided_among(&routes, rules);
    assert_eq!((decision.best, decision.decided_by), (1, Some(reason)));
    assert_eq!(decision.lost.as_slice(), [Some(reason), None]);
    routes.reverse();
    let decision = decided_among(&routes, rules);
    assert_eq!((decision.best, decision.decided_by), (0, Some(reason)));
    assert_eq!(decision.lost.as_slice(), [None, Some(reason)]);
}

#[test]
fn without_candidates_there_is_no_decision() {
    assert_eq!(decide(&[], ONE_PATH), None);
}

#[test]
fn a_single_route_needs_no_reason() {
    let decision = decided_among(&[told(1, |_| {})], ONE_PATH);
    assert_eq!((decision.best, decision.decided_by), (0, None));
}

#[test]
fn stale() {
    second_wins(
        Reason::Stale,
        told(1, |it| {
            it.flags |= Flags::STALE | Flags::YIELDS;
            it.attributes.local_pref = Some(200);
        }),
        told(2, |_| {}),
    );
    second_wins(
        Reason::Stale,
        told(1, |it| {
            it.attributes.communities = Box::new([Community::LLGR_STALE])
        }),
        told(2, |_| {}),
    );
}

#[test]
fn unresolved() {
    let better = |it: &mut Told| it.attributes.local_pref = Some(1000);
    let nowhere = |it: &mut Told| {
        better(it);
        it.unresolved = true;
    };
    second_wins(Reason::Unresolved, told(1, nowhere), told(2, |_| {}));
    // Fresh or not: one that leads somewhere is better than none.
    let stale = |it: &mut Told| it.flags |= Flags::YIELDS;
    second_wins(Reason::Unresolved, told(1, nowhere), told(2, stale));
    // Where all lead nowhere the others steps decide.
    let worse = |it: &mut Told| it.unresolved = true;
    second_wins(Reason::LocalPref, told(1, worse), told(2, nowhere));
}

#[test]
fn what_leads_nowhere_is_not_used_beside_what_leads_somewhere() {
    let rules = Rules {
        multipath: Multipath {
            max_paths: 8,
            as_path_relax: true,
        },
        stable: false,
    };
    let routes = [
        told(1, |it| it.unresolved = true),
        told(2, |_| {}),
        told(3, |_| {}),
    ];
    let decision = decided_among(&routes, rules);
    assert_eq!(
        (decision.best, decision.multipath.as_slice()),
        (1, &[2][..])
    );
}

#[test]
fn stale_by_itself_is_no_reason() {
    second_wins(
        Reason::RouterId,
        told(2, |_| {}),
        told(1, |it| it.flags |= Flags::STALE),
    );
}

#[test]
fn originated() {
    second_wins(
        Reason::Originated,
        told(1, |it| it.attributes.local_pref = Some(1000)),
        told(2, |it| it.source = Source::OURSELVES),
    );
}

#[test]
fn local_pref() {
    second_wins(
        Reason::LocalPref,
        told(1, |_| {}),
        told(2, |it| {
            it.attributes.local_pref = Some(101);
            it.attributes.as_path = AsPath::sequence(&[1, 2, 3, 4]);
        }),
    );
    second_wins(
        Reason::LocalPref,
        told(1, |it| it.attributes.local_pref = Some(99)),
        told(2, |it| {
            it.attributes.as_path = AsPath::sequence(&[1, 2, 3, 4])
        }),
    );
}

#[test]
fn as_path_length() {
    second_wins(
        Reason::AsPathLength,
        told(1, |it| it.attributes.as_path = AsPath::sequence(&[1, 2, 3])),
        told(2, |it| it.attributes.origin = Origin::Incomplete),
    );
}

#[test]
fn as_path_length_of_a_set_is_one() {
    second_wins(
        Reason::AsPathLength,
        told(1, |it| it.attributes.as_path = AsPath::sequence(&[1, 2, 3])),
        told(2, |it| {
            it.attributes.as_path = "1 {2,3,4}".parse().expect("a path")
        }),
    );
}

#[test]
fn origin() {
    second_wins(
        Reason::Origin,
        told(1, |it| it.attributes.origin = Origin::Egp),
        told(2, |it| it.attributes.med = Some(50)),
    );
}

#[test]
fn med() {
    second_wins(
        Reason::Med,
        told(1, |it| it.attributes.med = Some(20)),
        told(2, |it| {
            it.attributes.med = Some(10);
            internal(it);
        }),
    );
}

#[test]
fn med_that_is_absent_is_zero() {
    second_wins(
        Reason::Med,
        told(1, |it| it.attributes.med = Some(1)),
        told(2, |_| {}),
    );
}

#[test]
fn med_of_another_neighbour_as_does_not_count() {
    second_wins(
        Reason::RouterId,
        told(2, |it| {
            it.attributes.as_path = AsPath::sequence(&[65009, 65002])
        }),
        told(1, |it| it.attributes.med = Some(100)),
    );
}

/// What goes wrong when routes are compared in pairs: A beats B by MED, B beats C by router ID, C beats A by router ID.
#[test]
fn med_between_three_routes_does_not_depend_on_their_order() {
    let routes = || {
        [
            told(3, |it| it.attributes.med = Some(10)),
            told(1, |it| it.attributes.med = Some(20)),
            told(2, |it| {
                it.attributes.as_path = AsPath::sequence(&[65009, 65002])
            }),
        ]
    };
    for turn in 0..3 {
        let mut routes = routes();
        routes.rotate_left(turn);
        let best = decided_among(&routes, ONE_PATH).best;
        assert_eq!(routes[best].source, Source::peer(PeerId(2)));
    }
}

#[test]
fn ebgp_over_ibgp() {
    second_wins(Reason::EbgpOverIbgp, told(1, internal), told(2, |_| {}));
}

#[test]
fn stability() {
    let rules = Rules {
        stable: true,
        ..ONE_PATH
    };
    second_wins_by(
        rules,
        Reason::Stability,
        told(1, |_| {}),
        told(2, |it| it.flags |= Flags::BEST),
    );
}

#[test]
fn stability_is_between_external_routes_only() {
    let rules = Rules {
        stable: true,
        ..ONE_PATH
    };
    second_wins_by(
        rules,
        Reason::RouterId,
        told(2, |it| {
            it.flags |= Flags::BEST;
            internal(it);
        }),
        told(1, internal),
    );
}

#[test]
fn router_id() {
    second_wins(Reason::RouterId, told(2, |_| {}), told(1, |_| {}));
}

#[test]
fn router_id_of_a_reflected_route_is_its_originator() {
    second_wins(
        Reason::RouterId,
        told(5, internal),
        told(9, |it| {
            internal(it);
            it.attributes.originator_id = Some(Ipv4Addr::from(1));
            it.attributes.cluster_list = Box::new([Ipv4Addr::from(7)]);
        }),
    );
}

#[test]
fn cluster_list_length() {
    let clusters = |count: u32| (0..count).map(Ipv4Addr::from).collect();
    let reflected = |it: &mut Told| {
        internal(it);
        it.attributes.originator_id = Some(Ipv4Addr::from(1));
    };
    second_wins(
        Reason::ClusterListLength,
        told(1, |it| {
            reflected(it);
            it.attributes.cluster_list = clusters(2);
        }),
        told(2, |it| {
            reflected(it);
            it.attributes.cluster_list = clusters(1);
        }),
    );
}

#[test]
fn peer_address() {
    let id = Ipv4Addr::new(1, 1, 1, 1);
    second_wins(
        Reason::PeerAddress,
        told(2, |it| it.peer.0 = id),
        told(1, |it| it.peer.0 = id),
    );
}

#[test]
fn path_id() {
    second_wins(
        Reason::PathId,
        told(1, |it| it.path_id = 2),
        told(1, |it| it.path_id = 1),
    );
}

fn paths(max_paths: u8, as_path_relax: bool) -> Rules {
    Rules {
        multipath: Multipath {
            max_paths,
            as_path_relax,
        },
        stable: false,
    }
}

#[test]
fn equal_routes_are_used_together_up_to_the_maximum() {
    let routes: Vec<Told> = (1..=5).rev().map(|peer| told(peer, |_| {})).collect();
    let decision = decided_among(&routes, paths(3, false));
    assert_eq!(decision.best, 4);
    assert_eq!(decision.multipath.as_slice(), [3, 2], "in the order of ids");
    assert_eq!(decided_among(&routes, paths(1, false)).multipath.len(), 0);
}

#[test]
fn another_path_of_equal_length_is_equal_only_where_that_is_relaxed() {
    let routes = [
        told(1, |_| {}),
        told(2, |it| {
            it.attributes.as_path = AsPath::sequence(&[65003, 65002])
        }),
    ];
    assert!(decided_among(&routes, paths(4, false)).multipath.is_empty());
    assert_eq!(
        decided_among(&routes, paths(4, true)).multipath.as_slice(),
        [1]
    );
}

#[test]
fn external_and_internal_routes_are_not_used_together() {
    let routes = [told(1, |_| {}), told(2, internal)];
    assert!(decided_among(&routes, paths(4, true)).multipath.is_empty());
}

#[test]
fn nothing_is_used_beside_what_we_originate() {
    let routes = [told(1, |it| it.source = Source::OURSELVES), told(2, |_| {})];
    assert!(decided_among(&routes, paths(4, true)).multipath.is_empty());
}

#[test]
fn a_higher_med_of_the_same_neighbour_is_not_used_beside_the_best() {
    let routes = [
        told(1, |_| {}),
        told(2, |it| it.attributes.med = Some(1)),
        told(3, |it| {
            it.attributes.med = Some(5);
            it.attributes.as_path = AsPath::sequence(&[65009, 65002]);
        }),
    ];
    assert_eq!(
        decided_among(&routes, paths(4, true)).multipath.as_slice(),
        [2]
    );
}
