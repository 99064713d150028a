use PeerKind::{External, Internal};

use super::*;
use crate::{
    config::{CommunityValue, Match, Policy, Rule, Set},
    rib::fixture::{configure, ip, peer, settings},
    wire::AsPath,
};

fn prefix() -> Prefix {
    "10.9.0.0/16".parse().expect("a prefix")
}

fn route() -> Attributes {
    Attributes {
        as_path: AsPath::sequence(&[65001, 65002]),
        next_hop: Some(ip("10.0.1.2").into()),
        ..Attributes::default()
    }
}

fn imported(peer: &Peer, attributes: &Attributes) -> Result<Attributes, Refusal> {
    import(&settings(), peer, prefix(), attributes).map(Cow::into_owned)
}

#[test]
fn a_plain_route_comes_in_unchanged_and_uncopied() {
    let peer = peer(External);
    let route = route();
    assert!(matches!(
        import(&settings(), &peer, prefix(), &route),
        Ok(Cow::Borrowed(_))
    ));
}

#[test]
fn our_own_as_in_the_path_is_a_loop_unless_allowed() {
    let mut peer = peer(External);
    let looped = Attributes {
        as_path: AsPath::sequence(&[65001, 64512, 65002]),
        ..route()
    };
    assert_eq!(
        imported(&peer, &looped),
        Err(Refusal::AsLoop {
            asn: 64512,
            times: 1
        })
    );
    configure(&mut peer, |config| config.allow_own_as = 1);
    assert!(imported(&peer, &looped).is_ok());
    let twice = Attributes {
        as_path: AsPath::sequence(&[65001, 64512, 64512]),
        ..route()
    };
    assert!(imported(&peer, &twice).is_err());
}

#[test]
fn both_our_real_as_and_the_one_the_peer_sees_are_ours() {
    let mut peer = peer(External);
    configure(&mut peer, |config| config.local_asn = 64999);
    for asn in [64512, 64999] {
        let looped = Attributes {
            as_path: AsPath::sequence(&[65001, asn]),
            ..route()
        };
        assert_eq!(
            imported(&peer, &looped),
            Err(Refusal::AsLoop { asn, times: 1 })
        );
    }
}

#[test]
fn the_path_of_an_external_peer_begins_with_its_as() {
    let peer = peer(External);
    for (path, found) in [
        (AsPath::sequence(&[65002, 65001]), Some(65002)),
        (AsPath::empty(), None),
        ("{65001,65002}".parse().expect("a path"), None),
    ] {
        let wrong = Attributes {
            as_path: path,
            ..route()
        };
        let expected = 65001;
        assert_eq!(
            imported(&peer, &wrong),
            Err(Refusal::FirstAs { expected, found })
        );
    }
}

#[test]
fn an_internal_peer_may_begin_with_any_as_or_none() {
    let peer = peer(Internal);
    assert!(imported(&peer, &route()).is_ok());
    let bare = Attributes {
        as_path: AsPath::empty(),
        ..route()
    };
    assert!(imported(&peer, &bare).is_ok());
}

#[test]
fn what_was_reflected_back_to_us_is_refused() {
    let ours = Attributes {
        originator_id: Some(settings().router_id),
        ..route()
    };
    assert_eq!(
        imported(&peer(Internal), &ours),
        Err(Refusal::OwnOriginatorId)
    );
    let cluster = Attributes {
        cluster_list: Box::new([[8, 8, 8, 8].into(), settings().cluster_id]),
        ..route()
    };
    assert_eq!(
        imported(&peer(Internal), &cluster),
        Err(Refusal::ClusterLoop)
    );
}

#[test]
fn a_next_hop_is_needed_and_is_not_ourselves() {
    let mut peer = peer(External);
    configure(&mut peer, |config| {
        config.next_hop_addresses.v4 = Some([10, 7, 7, 7].into());
    });
    let via = |address: Option<&str>| Attributes {
        next_hop: address.map(|text| ip(text).into()),
        ..route()
    };
    assert_eq!(imported(&peer, &via(None)), Err(Refusal::NoNextHop));
    for text in ["10.0.1.1", "10.7.7.7"] {
        let own = Err(Refusal::OwnNextHop(ip(text)));
        assert_eq!(imported(&peer, &via(Some(text))), own);
        assert_eq!(imported(&peer, &via(Some(&format!("::ffff:{text}")))), own);
    }
    for text in ["0.0.0.0", "127.0.0.1", "224.0.0.5", "::1", "ff02::1"] {
        let bad = Err(Refusal::BadNextHop(ip(text)));
        assert_eq!(imported(&peer, &via(Some(text))), bad);
    }
}

#[test]
fn an_external_local_pref_does_not_count() {
    let with = Attributes {
        local_pref: Some(500),
        ..route()
    };
    assert_eq!(
        imported(&peer(External), &with).map(|it| it.local_pref),
        Ok(None)
    );
    assert_eq!(
        imported(&peer(Internal), &with).map(|it| it.local_pref),
        Ok(Some(500))
    );
}

#[test]
fn graceful_shutdown_gives_the_lowest_preference_whatever_the_policy_says() {
    let leaving = Attributes {
        communities: Box::new([Community::GRACEFUL_SHUTDOWN]),
        ..route()
    };
    let mut peer = peer(External);
    assert_eq!(
        imported(&peer, &leaving).map(|it| it.local_pref),
        Ok(Some(0))
    );
    let policy = Policy {
        name: "in".into(),
        rules: vec![Rule {
            matches: Match::default(),
            set: Set {
                local_pref: Some(300),
                ..Set::default()
            },
            verdict: Some(Verdict::Accept),
        }],
        default: Verdict::Reject,
    };
    configure(&mut peer, |config| config.import = policy.into());
    assert_eq!(
        imported(&peer, &leaving).map(|it| it.local_pref),
        Ok(Some(0))
    );
    assert_eq!(
        imported(&peer, &route()).map(|it| it.local_pref),
        Ok(Some(300))
    );
}

#[test]
fn a_policy_that_rejects_is_named_with_its_rule() {
    let mut peer = peer(External);
    let policy = Policy {
        name: "in".into(),
        rules: vec![Rule {
            matches: Match {
                communities: vec![CommunityValue::Standard(Community(5))],
                ..Match::default()
            },
            set: Set::default(),
            verdict: Some(Verdict::Reject),
        }],
        default: Verdict::Reject,
    };
    configure(&mut peer, |config| config.import = policy.into());
    let marked = Attributes {
        communities: Box::new([Community(5)]),
        ..route()
    };
    let words = |attributes: &Attributes| imported(&peer, attributes).unwrap_err().to_string();
    assert_eq!(words(&marked), "import policy in, rule 1");
    assert_eq!(words(&route()), "import policy in: no rule accepts it");
}

#[test]
fn a_longer_path_on_the_way_in_repeats_the_peers_as_not_ours() {
    let prepending = Policy {
        name: "longer".into(),
        rules: vec![Rule {
            matches: Match::default(),
            set: Set {
                prepend: (None, 2),
                ..Set::default()
            },
            verdict: Some(Verdict::Accept),
        }],
        default: Verdict::Reject,
    };
    for (kind, path) in [
        (External, AsPath::sequence(&[65001, 65001, 65001, 65002])),
        (Internal, route().as_path),
    ] {
        let mut peer = peer(kind);
        configure(&mut peer, |config| {
            config.import = prepending.clone().into()
        });
        let imported = imported(&peer, &route()).expect("accepted");
        assert_eq!(imported.as_path, path, "{kind:?}");
    }
}
