use PeerKind::{External, Internal};

use super::*;
use crate::{
    config::{NextHopAddresses, Rule, Set},
    rib::{
        fixture::{configure, ip, peer, settings},
        task::{PeerId, Settings},
    },
    wire::AsPath,
};

/// How a peer over IPv4 is treated that is told all.
fn treatment(
    kind: PeerKind,
    change: impl FnOnce(&mut Peer, &mut Context, &mut Settings),
) -> Treatment {
    let mut peer = peer(kind);
    let mut context = Context {
        internal: kind == Internal,
        ..Context::default()
    };
    let mut settings = settings();
    change(&mut peer, &mut context, &mut settings);
    Treatment::of(&settings, &peer, context)
}

fn plain(kind: PeerKind) -> Treatment {
    treatment(kind, |_, _, _| {})
}

fn learned(kind: PeerKind) -> From<'static> {
    From::Peer {
        kind,
        client: false,
        router_id: Ipv4Addr::new(5, 5, 5, 5),
    }
}

const CLIENT: From<'static> = From::Peer {
    kind: Internal,
    client: true,
    router_id: Ipv4Addr::new(5, 5, 5, 5),
};

fn v4() -> Prefix {
    "10.9.0.0/16".parse().expect("a prefix")
}

fn v6() -> Prefix {
    "fd09::/64".parse().expect("a prefix")
}

fn route() -> Attributes {
    Attributes {
        as_path: AsPath::sequence(&[65001]),
        next_hop: Some(ip("10.0.2.2").into()),
        med: Some(7),
        local_pref: Some(300),
        ..Attributes::default()
    }
}

fn own() -> Origination {
    Origination {
        source: Source::PodCIDR,
        peers: None,
        set: Set::default(),
        others: Vec::new(),
    }
}

#[test]
fn an_external_peer_gets_our_as_in_front_and_our_next_hop() {
    let out = plain(External)
        .export(v4(), learned(External), &route())
        .expect("told");
    assert_eq!(out.as_path, AsPath::sequence(&[64512, 65001]));
    assert_eq!(out.next_hop, Some(ip("10.0.1.1").into()));
    assert_eq!((out.local_pref, out.med), (None, None));
}

#[test]
fn what_is_not_transitive_stays_in_our_as() {
    let [target, bandwidth] = [
        ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 7]),
        ExtendedCommunity::of_link_bandwidth(64512, 1e9),
    ];
    let marked = Attributes {
        extended_communities: Box::new([bandwidth, target]),
        ..route()
    };
    let told = |kind| {
        let out = plain(kind).export(v4(), learned(External), &marked);
        out.expect("told").extended_communities
    };
    assert_eq!(*told(External), [target]);
    assert_eq!(*told(Internal), [bandwidth, target]);
}

#[test]
fn segments_of_a_confederation_do_not_leave_our_as() {
    let inside = Attributes {
        as_path: "(65100 65101) 65001".parse().expect("a path"),
        ..route()
    };
    let out = plain(External)
        .export(v4(), learned(Internal), &inside)
        .expect("told");
    assert_eq!(out.as_path, AsPath::sequence(&[64512, 65001]));
}

#[test]
fn an_internal_peer_gets_an_external_route_as_it_is() {
    let out = plain(Internal)
        .export(v4(), learned(External), &route())
        .expect("told");
    assert_eq!(out, route());
    let bare = Attributes {
        local_pref: None,
        ..route()
    };
    let out = plain(Internal)
        .export(v4(), learned(External), &bare)
        .expect("told");
    assert_eq!(out.local_pref, Some(100));
}

#[test]
fn without_an_export_policy_only_our_own_goes_out() {
    let closed = |kind| {
        treatment(kind, |peer, _, _| {
            configure(peer, |config| config.export = None)
        })
    };
    for kind in [External, Internal] {
        let own = own();
        assert!(
            closed(kind)
                .export(v4(), From::Ourselves(&own), &Attributes::default())
                .is_ok()
        );
        assert_eq!(
            closed(kind).export(v4(), learned(External), &route()),
            Err(Withheld::NoPolicy)
        );
    }
    assert_eq!(
        closed(External).export(v4(), learned(Internal), &route()),
        Err(Withheld::NoPolicy)
    );
    assert!(
        closed(Internal).export(v4(), CLIENT, &route()).is_ok(),
        "reflection demands it"
    );
}

#[test]
fn a_route_between_internal_peers_needs_a_client() {
    let to_client = treatment(Internal, |peer, _, _| {
        configure(peer, |config| config.route_reflector_client = true);
    });
    let none = plain(Internal).export(v4(), learned(Internal), &route());
    assert_eq!(none, Err(Withheld::NotReflected));
    assert!(plain(Internal).export(v4(), CLIENT, &route()).is_ok());
    assert!(to_client.export(v4(), learned(Internal), &route()).is_ok());
    assert!(to_client.export(v4(), CLIENT, &route()).is_ok());
}

#[test]
fn reflection_adds_originator_and_cluster_and_leaves_the_rest() {
    let out = plain(Internal)
        .export(v4(), CLIENT, &route())
        .expect("told");
    assert_eq!(out.originator_id, Some(Ipv4Addr::new(5, 5, 5, 5)));
    assert_eq!(*out.cluster_list, [Ipv4Addr::new(9, 9, 9, 9)]);
    assert_eq!((out.next_hop, out.med), (route().next_hop, route().med));
    let again = plain(Internal)
        .export(
            v4(),
            From::Peer {
                kind: Internal,
                client: true,
                router_id: Ipv4Addr::new(6, 6, 6, 6),
            },
            &out,
        )
        .expect("told");
    assert_eq!(
        again.originator_id,
        Some(Ipv4Addr::new(5, 5, 5, 5)),
        "stays the first"
    );
    assert_eq!(again.cluster_list.len(), 2);
    let outside = plain(External).export(v4(), CLIENT, &out).expect("told");
    assert_eq!(
        (outside.originator_id, outside.cluster_list.len()),
        (None, 0)
    );
}

#[test]
fn well_known_communities_hold_for_what_we_learned() {
    let with = |community| Attributes {
        communities: Box::new([community]),
        ..route()
    };
    for (community, kind, told) in [
        (Community::NO_EXPORT, External, false),
        (Community::NO_EXPORT, Internal, true),
        (Community::NO_EXPORT_SUBCONFED, External, false),
        (Community::NO_ADVERTISE, External, false),
        (Community::NO_ADVERTISE, Internal, false),
    ] {
        let out = plain(kind).export(v4(), learned(External), &with(community));
        assert_eq!(out.is_ok(), told, "{community:?} to {kind:?}");
    }
    let own = own();
    let out = plain(External).export(v4(), From::Ourselves(&own), &with(Community::NO_EXPORT));
    assert!(
        out.is_ok(),
        "what we originate asks the peer not to pass it on"
    );
}

#[test]
fn an_origination_names_who_is_told() {
    let named = Origination {
        peers: Some(["peer1".to_owned()].into()),
        ..own()
    };
    let others = Origination {
        peers: Some(["peer2".to_owned()].into()),
        ..own()
    };
    let treatment = treatment(External, |_, _, settings| {
        settings.originate.insert(v4(), named.clone());
        settings.originate.insert(v6(), others.clone());
    });
    let bare = Attributes::default();
    assert!(
        treatment
            .export(v4(), From::Ourselves(&named), &bare)
            .is_ok()
    );
    assert_eq!(
        treatment.export(v4(), From::Ourselves(&others), &bare),
        Err(Withheld::NotForPeer)
    );
}

#[test]
fn one_prefix_may_be_told_to_some_with_other_attributes() {
    let med = |med| Set {
        med: Some(med),
        ..Set::default()
    };
    let names = |name: &str| [name.to_owned()].into();
    let told = |origination: Origination| {
        let treatment = treatment(External, |_, _, settings| {
            settings.originate.insert(v4(), origination.clone());
        });
        treatment
            .export(v4(), From::Ourselves(&origination), &Attributes::default())
            .map(|out| out.med)
    };
    let all = Origination {
        set: med(1),
        ..own()
    };
    let others = |name| vec![(names(name), med(2))];
    assert_eq!(
        told(Origination {
            others: others("peer1"),
            ..all.clone()
        }),
        Ok(Some(2))
    );
    assert_eq!(
        told(Origination {
            others: others("peer2"),
            ..all.clone()
        }),
        Ok(Some(1))
    );
    let some = Origination {
        peers: Some(names("peer3")),
        ..all
    };
    assert_eq!(
        told(Origination {
            others: others("peer1"),
            ..some.clone()
        }),
        Ok(Some(2))
    );
    assert_eq!(
        told(Origination {
            others: others("peer2"),
            ..some
        }),
        Err(Withheld::NotForPeer)
    );
}

#[test]
fn what_we_originate_is_prepended_to_external_peers_only() {
    let own = Origination {
        set: Set {
            prepend: (None, 2),
            ..Set::default()
        },
        ..own()
    };
    let told = |kind| {
        plain(kind)
            .export(v4(), From::Ourselves(&own), &Attributes::default())
            .expect("told")
            .as_path
    };
    assert_eq!(told(External), AsPath::sequence(&[64512, 64512, 64512]));
    assert_eq!(told(Internal), AsPath::empty());
}

#[test]
fn rules_change_what_goes_out_and_may_set_med() {
    let policy = Policy {
        name: "out".into(),
        rules: vec![Rule {
            matches: crate::config::Match {
                source: Some(Source::Learned),
                ..Default::default()
            },
            set: Set {
                med: Some(42),
                prepend: (None, 1),
                ..Set::default()
            },
            verdict: Some(Verdict::Accept),
        }],
        default: Verdict::Reject,
    };
    let treatment = treatment(External, |peer, _, _| {
        configure(peer, |config| config.export = Some(Arc::new(policy)));
    });
    let out = treatment
        .export(v4(), learned(External), &route())
        .expect("told");
    assert_eq!(out.med, Some(42));
    assert_eq!(out.as_path, AsPath::sequence(&[64512, 64512, 65001]));
    let own = own();
    assert_eq!(
        treatment.export(v4(), From::Ourselves(&own), &Attributes::default()),
        Err(Withheld::Policy {
            name: "out".into(),
            rule: None
        })
    );
}

#[test]
fn the_next_hop_is_as_the_mode_says() {
    let with = |kind, mode| {
        treatment(kind, |peer, _, _| {
            configure(peer, |config| config.next_hop = mode)
        })
    };
    for (kind, mode, wanted) in [
        (External, NextHopMode::Auto, "10.0.1.1"),
        (External, NextHopMode::SelfAddress, "10.0.1.1"),
        (External, NextHopMode::Keep, "10.0.2.2"),
        (Internal, NextHopMode::Auto, "10.0.2.2"),
        (Internal, NextHopMode::SelfAddress, "10.0.1.1"),
        (Internal, NextHopMode::Keep, "10.0.2.2"),
    ] {
        let out = with(kind, mode)
            .export(v4(), learned(External), &route())
            .expect("told");
        assert_eq!(out.next_hop, Some(ip(wanted).into()), "{kind:?} {mode:?}");
        let own = own();
        let out = with(kind, mode)
            .export(v4(), From::Ourselves(&own), &Attributes::default())
            .expect("told");
        assert_eq!(
            out.next_hop,
            Some(ip("10.0.1.1").into()),
            "ours, {kind:?} {mode:?}"
        );
    }
}

#[test]
fn a_configured_address_comes_before_that_of_the_session() {
    let treatment = treatment(External, |peer, _, _| {
        configure(peer, |config| {
            config.next_hop_addresses = NextHopAddresses {
                v4: Some(Ipv4Addr::new(10, 7, 7, 7)),
                v6: Some("fd07::7".parse().expect("an address")),
            };
        });
    });
    let out = treatment
        .export(v4(), learned(External), &route())
        .expect("told");
    assert_eq!(out.next_hop, Some(ip("10.7.7.7").into()));
    let out = treatment
        .export(v6(), learned(External), &route())
        .expect("told");
    assert_eq!(out.next_hop, Some(ip("fd07::7").into()));
}

#[test]
fn without_an_address_of_the_family_a_prefix_is_not_told() {
    let out = plain(External).export(v6(), learned(External), &route());
    assert!(matches!(out, Err(Withheld::NoNextHop(_))), "{out:?}");
}

#[test]
fn over_ipv6_the_link_local_address_stands_beside_the_global_one() {
    let over = |local: &str, link_local: Option<&str>| {
        treatment(External, |peer, _, _| {
            peer.local_address = Some(ip(local));
            peer.local_link_local = link_local.map(|text| text.parse().expect("an address"));
        })
        .export(v6(), learned(External), &route())
        .expect("told")
        .next_hop
    };
    let link_local = "fe80::1".parse().expect("an address");
    assert_eq!(
        over("fd00::1", Some("fe80::1")),
        Some(NextHop {
            address: ip("fd00::1"),
            link_local: Some(link_local)
        })
    );
    assert_eq!(over("fd00::1", None), Some(ip("fd00::1").into()));
    assert_eq!(over("fe80::1", None), Some(ip("fe80::1").into()));
}

#[test]
fn ipv4_over_an_ipv6_session_needs_rfc_8950() {
    let over = |extended| {
        treatment(External, |peer, context, _| {
            peer.local_address = Some(ip("fe80::1"));
            context.extended_next_hop = extended;
        })
        .export(v4(), learned(External), &route())
        .map(|out| out.next_hop)
    };
    assert_eq!(over(true), Ok(Some(ip("fe80::1").into())));
    assert!(matches!(over(false), Err(Withheld::NoNextHop(_))));
}

#[test]
fn a_next_hop_that_the_peer_could_not_use_is_not_passed_on() {
    let via = |text: &str| Attributes {
        next_hop: Some(ip(text).into()),
        ..route()
    };
    let over = |extended| {
        treatment(Internal, |_, context, _| {
            context.extended_next_hop = extended
        })
    };
    assert!(
        over(false)
            .export(v4(), learned(External), &via("fd00::2"))
            .is_err()
    );
    assert!(
        over(true)
            .export(v4(), learned(External), &via("fd00::2"))
            .is_ok()
    );
    assert!(
        over(true)
            .export(v4(), learned(External), &via("fe80::2"))
            .is_err()
    );
    assert!(
        over(true)
            .export(v6(), learned(External), &via("fe80::2"))
            .is_err()
    );
    assert!(
        over(true)
            .export(v6(), learned(External), &via("10.0.2.2"))
            .is_err()
    );
}

#[test]
fn draining_asks_everyone_to_go_elsewhere() {
    let draining = |kind| treatment(kind, |_, _, settings| settings.draining = true);
    for kind in [External, Internal] {
        let out = draining(kind)
            .export(v4(), learned(External), &route())
            .expect("told");
        assert_eq!(*out.communities, [Community::GRACEFUL_SHUTDOWN]);
        assert_eq!(out.local_pref, (kind == Internal).then_some(0));
    }
}

#[test]
fn peers_that_are_told_the_same_are_treated_alike() {
    let other = |change: fn(&mut crate::config::PeerConfig)| {
        treatment(External, |peer, _, _| {
            peer.id = PeerId(2);
            peer.name = "peer2".into();
            peer.asn = 65099;
            peer.address = ip("10.0.1.9");
            configure(peer, change);
        })
    };
    assert_eq!(plain(External), other(|_| {}));
    assert_eq!(
        plain(External),
        other(|config| config.allow_own_as = 3),
        "import only"
    );
    assert_ne!(plain(External), plain(Internal));
    assert_ne!(plain(External), other(|config| config.local_asn = 64999));
    assert_ne!(plain(External), other(|config| config.export = None));
    assert_ne!(
        plain(External),
        other(|config| config.next_hop = NextHopMode::Keep)
    );
}

#[test]
fn rules_that_are_the_same_under_another_name_are_the_same_treatment() {
    let named = |name: &str, verdict| {
        let policy = Arc::new(Policy::always(name, verdict));
        treatment(External, |peer, _, _| {
            configure(peer, |config| config.export = Some(policy));
        })
    };
    let one = named("export of BGPPeer a", Verdict::Accept);
    assert_eq!(one, named("export of BGPPeer b", Verdict::Accept));
    assert_ne!(one, named("export of BGPPeer a", Verdict::Reject));
}
