//! What peers are told, together and apart: groups, lagging members, refreshes, changes of policy, packing.

use std::{sync::Arc, time::Duration};

use bgp::{
    config::{Match, MaxPrefixes, OverLimit, Policy, PrefixRange, Rule, Set, Source, Verdict},
    prefix::{Families, Family, Prefix},
    rib::task::{Ending, Order, PeerId, Refreshing, Room},
    speaker::{Direction, Event, NoRefresh, Refresh, RouteQuery},
    status::{
        Fate,
        PeerKind::{self, External, Internal},
    },
    wire::{AsPath, Nlri, RouteRefresh, refresh::RefreshKind},
};

use crate::world::{OWN_AS, World, attributes, origination, prefix, settings};

const A: &str = "10.1.0.0/16";
const B: &str = "10.2.0.0/16";

/// Peer 1 is a source, the others listen; all external.
fn world(peers: u32) -> World {
    let mut world = World::new(settings());
    for peer in 1..=peers {
        world.add(peer, External, |_| {});
        world.up(peer);
    }
    world.settle();
    world
}

fn slash_24(number: u32) -> Nlri {
    Prefix::v4((0x0b00_0000 + (number << 8)).into(), 24)
        .expect("a prefix")
        .into()
}

#[test]
fn a_source_is_not_told_its_own_route_and_loses_what_it_was_told_before() {
    let mut world = world(3);
    let mut long = attributes(2, External, 3);
    world.announce_with(2, long.clone(), vec![prefix(A).into()]);
    assert_eq!(world.prefixes_of(1), [A]);
    assert!(world.prefixes_of(2).is_empty());
    world.announce(1, &[A]);
    assert!(world.prefixes_of(1).is_empty(), "its own is the best now");
    assert_eq!(world.prefixes_of(2), [A]);
    world.withdraw(1, &[A]);
    assert_eq!(world.prefixes_of(1), [A]);
    assert!(world.prefixes_of(2).is_empty());
    long.med = Some(1);
    let withdrawn = world.peer(2).withdrawn.len();
    world.announce_with(2, long, vec![prefix(A).into()]);
    world.settle();
    assert_eq!(
        world.peer(2).withdrawn.len(),
        withdrawn,
        "no word to the source about its own"
    );
}

#[test]
fn what_changes_twice_is_told_once() {
    let mut world = world(2);
    let told = world.peer(2).updates;
    for med in 0..50 {
        let mut route = attributes(1, External, 1);
        route.communities = Box::new([bgp::wire::Community(med)]);
        world.announce_with(1, route, vec![prefix(A).into()]);
    }
    world.settle();
    assert_eq!(world.peer(2).updates, told + 1);
}

#[test]
fn what_is_said_again_unchanged_is_not_told_again() {
    let mut world = world(2);
    world.announce(1, &[A]);
    world.settle();
    let told = world.peer(2).updates;
    world.announce(1, &[A]);
    world.settle();
    assert_eq!(world.peer(2).updates, told);
}

#[test]
fn equal_attributes_meet_in_one_message_wherever_they_come_from_in_the_table() {
    let mut world = world(2);
    // 50 sets, each with every fiftieth of 10,000 prefixes, in turn.
    for number in 0..10_000 {
        let mut route = attributes(1, External, 1);
        route.communities = Box::new([bgp::wire::Community(number % 50)]);
        world.announce_with(1, route, vec![slash_24(number)]);
    }
    world.settle();
    assert_eq!(world.peer(2).view.len(), 10_000);
    assert!(world.peer(2).updates <= 51, "{}", world.peer(2).updates);
    let told = world.peer(2).updates;
    world.down(1, Ending::Gone);
    world.settle();
    assert!(world.peer(2).view.is_empty());
    assert!(world.peer(2).updates - told <= 10_000 / 900);
}

#[test]
fn a_newcomer_is_told_all_and_then_end_of_rib() {
    let mut world = world(2);
    world.announce(1, &[A, B]);
    world.settle();
    world.add(3, External, |_| {});
    world.up(3);
    assert_eq!(world.prefixes_of(3), [A, B]);
    assert_eq!(world.peer(3).ends.len(), 2);
    let counts = world.rib.counts();
    let advertised = |peer: u32| {
        counts
            .peers
            .get(&PeerId(peer))
            .and_then(|peer| peer.families.get(&Family::IPv4))
            .map(|family| family.advertised)
    };
    assert_eq!(
        (advertised(1), advertised(2), advertised(3)),
        (Some(0), Some(2), Some(2))
    );
}

#[test]
fn a_stuck_member_costs_the_others_a_moment_and_memory_nothing() {
    let mut world = world(3);
    world.peer_mut(3).block(true);
    let queued = world.peer(3).queued();
    for round in 0..20 {
        for number in 0..5_000 {
            let mut route = attributes(1, External, 1);
            route.communities = Box::new([bgp::wire::Community(round * 7 + number % 100)]);
            world.announce_with(1, route, vec![slash_24(number)]);
        }
        world.flush();
        world.wait(Duration::from_millis(20));
        world.settle();
        assert_eq!(world.peer(2).view.len(), 5_000);
    }
    assert_eq!(
        world.peer(3).queued(),
        queued,
        "nothing is queued for who does not read"
    );
    let counts = world.rib.counts();
    assert!(counts.attribute_sets <= 100, "old attributes are forgotten");
    let told = world.peer(3).updates;
    world.peer_mut(3).block(false);
    world.settle();
    assert_eq!(world.peer(3).view, world.peer(2).view);
    assert!(
        world.peer(3).updates - told <= 101,
        "it hears the last state only"
    );
}

#[test]
fn a_stuck_member_holds_no_prefixes_it_was_never_told() {
    let mut world = world(3);
    world.announce(1, &[A]);
    world.settle();
    world.peer_mut(3).block(true);
    for number in 0..3_000 {
        world.announce_with(1, attributes(1, External, 1), vec![slash_24(number)]);
        if number % 100 == 0 {
            world.flush();
            world.wait(Duration::from_millis(20));
            world.settle();
        }
        let gone = slash_24(number).prefix.to_string();
        world.withdraw(1, &[&gone]);
    }
    world.withdraw(1, &[A]);
    world.settle();
    world.peer_mut(3).block(false);
    world.settle();
    assert!(world.peer(3).view.is_empty());
    assert_eq!(
        world
            .peer(3)
            .withdrawn
            .iter()
            .filter(|gone| **gone != prefix(A))
            .count(),
        0,
        "it was told nothing of them, so it is told of no end of them"
    );
}

#[test]
fn octets_queued_for_one_peer_are_bounded() {
    let mut world = world(2);
    for number in 0..50_000 {
        let mut route = attributes(1, External, 1);
        route.communities = Box::new([bgp::wire::Community(number)]);
        world.announce_with(1, route, vec![slash_24(number)]);
    }
    world.flush();
    let queued = world.peer(2).queued();
    assert!(
        (Room::LIMIT..Room::LIMIT + 128 * 1024).contains(&queued),
        "{queued}"
    );
    world.settle();
    assert_eq!(world.peer(2).view.len(), 50_000);
}

#[test]
fn a_refresh_tells_all_again_between_its_marks_and_to_nobody_else() {
    let mut world = world(3);
    world.announce(1, &[A, B]);
    world.settle();
    let others = world.peer(3).updates;
    let told = world.peer(2).updates;
    world.refresh(2, Family::IPv4, RefreshKind::Request);
    world.settle();
    assert_eq!(world.peer(3).updates, others);
    assert_eq!(world.peer(2).updates, told + 1);
    let family = Family::IPv4;
    let marks = [RefreshKind::Begin, RefreshKind::End].map(|kind| RouteRefresh { family, kind });
    assert_eq!(world.peer(2).refreshes, marks);
}

#[test]
fn a_refresh_without_rfc_7313_has_no_marks() {
    let mut world = World::new(settings());
    world.add(1, External, |_| {});
    world.up_with(1, |session| session.refresh = Refreshing::Plain);
    world.reconfigure(|settings| {
        settings
            .originate
            .insert(prefix(A), origination(Source::PodCIDR));
    });
    world.settle();
    let told = world.peer(1).updates;
    world.refresh(1, Family::IPv4, RefreshKind::Request);
    world.settle();
    assert_eq!(world.peer(1).updates, told + 1);
    assert!(world.peer(1).refreshes.is_empty());
}

#[test]
fn refreshes_asked_for_without_reading_do_not_pile_up() {
    let mut world = world(2);
    world.announce(1, &[A, B]);
    world.settle();
    world.peer_mut(2).block(true);
    let queued = world.peer(2).queued();
    for _ in 0..1000 {
        world.refresh(2, Family::IPv4, RefreshKind::Request);
        world.flush();
    }
    assert!(world.peer(2).queued() <= queued + 100);
    world.peer_mut(2).block(false);
    world.settle();
    assert_eq!(world.prefixes_of(2), [A, B]);
    assert!(world.peer(2).refreshes.len() <= 4, "two refreshes at most");
}

#[test]
fn we_ask_for_a_refresh_where_that_was_agreed() {
    let mut world = world(2);
    let id = world.peer(1).id;
    let all = Refresh {
        direction: Direction::Received,
        family: None,
    };
    let v6 = Refresh {
        family: Some(Family::IPv6),
        ..all
    };
    let mut ask = |what| {
        let families = world.rib.refresh_again(id, what).expect("it was agreed");
        world.settle();
        let asked = std::mem::take(&mut world.peer_mut(1).refreshes);
        let kind = RefreshKind::Request;
        let expected: Vec<_> = families
            .each()
            .map(|family| RouteRefresh { family, kind })
            .collect();
        assert_eq!(asked, expected);
        families
    };
    assert_eq!(ask(all), Families::all());
    assert_eq!(ask(v6), Families::IPV6);
}

#[test]
fn our_routes_are_told_again_when_an_operator_wants_it() {
    let mut world = world(3);
    world.announce(1, &[A, B]);
    world.settle();
    let told = [world.peer(2).updates, world.peer(3).updates];
    let ours = Refresh {
        direction: Direction::Advertised,
        family: Some(Family::IPv4),
    };
    let id = world.peer(2).id;
    assert_eq!(world.rib.refresh_again(id, ours), Ok(Families::IPV4));
    world.settle();
    assert!(world.peer(2).updates > told[0]);
    assert_eq!(world.peer(3).updates, told[1]);
    let marks = [RefreshKind::Begin, RefreshKind::End].map(|kind| RouteRefresh {
        family: Family::IPv4,
        kind,
    });
    assert_eq!(world.peer(2).refreshes, marks);
}

#[test]
fn a_refresh_that_cannot_be_says_why() {
    let mut world = World::new(settings());
    for peer in 1..=3 {
        world.add(peer, External, |_| {});
    }
    world.peer_mut(1).refresh = Refreshing::No;
    world.peer_mut(2).context.families = Families::IPV4;
    world.up(1);
    world.up(2);
    let mut ask = |peer: u32, direction, family| {
        let what = Refresh { direction, family };
        world.rib.refresh_again(PeerId(peer), what)
    };
    let (received, v6) = (Direction::Received, Family::IPv6);
    assert_eq!(ask(1, received, None), Err(NoRefresh::NotOffered));
    assert_eq!(ask(1, Direction::Advertised, None), Ok(Families::all()));
    assert_eq!(ask(2, received, Some(v6)), Err(NoRefresh::NotCarried(v6)));
    assert_eq!(ask(3, received, None), Err(NoRefresh::Down));
    assert_eq!(ask(4, received, None), Err(NoRefresh::Unknown));
}

fn only(text: &str, verdict: Verdict) -> Arc<Policy> {
    let range = prefix(text);
    Arc::new(Policy {
        name: "only".into(),
        rules: vec![Rule {
            matches: Match {
                prefixes: vec![PrefixRange {
                    prefix: range,
                    min_length: range.length(),
                    max_length: range.length(),
                }],
                ..Match::default()
            },
            set: Set::default(),
            verdict: Some(verdict),
        }],
        default: match verdict {
            Verdict::Accept => Verdict::Reject,
            Verdict::Reject => Verdict::Accept,
        },
    })
}

#[test]
fn a_changed_export_policy_tells_exactly_the_difference() {
    let mut world = world(3);
    world.announce(1, &[A, B]);
    world.settle();
    let told = world.peer(2).updates;
    world.change(2, |config| config.export = Some(only(A, Verdict::Reject)));
    assert_eq!(world.prefixes_of(2), [B]);
    assert_eq!(world.prefixes_of(3), [A, B]);
    assert_eq!(world.peer(2).updates, told + 1);
    world.change(2, |config| config.export = Some(crate::world::accept_all()));
    assert_eq!(world.prefixes_of(2), [A, B]);
    assert_eq!(world.peer(2).updates, told + 2);
    assert_eq!(world.peer(2).withdrawn, [prefix(A)]);
}

#[test]
fn a_changed_import_policy_is_applied_to_what_is_known() {
    let mut world = world(2);
    world.announce(1, &[A, B]);
    world.settle();
    world.change(1, |config| config.import = only(A, Verdict::Reject));
    assert_eq!(world.prefixes_of(2), [B]);
    let counts = world.rib.counts();
    let family = counts
        .peers
        .get(&PeerId(1))
        .and_then(|peer| peer.families.get(&Family::IPv4))
        .expect("counts");
    assert_eq!((family.received, family.accepted), (2, 1));
    world.change(1, |config| config.import = crate::world::accept_all());
    assert_eq!(world.prefixes_of(2), [A, B]);
    assert!(world.peer(1).refreshes.is_empty(), "nobody had to be asked");
}

#[test]
fn what_is_refused_is_kept_and_explained() {
    let mut world = world(2);
    let mut looped = attributes(1, External, 1);
    looped.as_path = AsPath::sequence(&[65001, 64512]);
    world.announce_with(1, looped, vec![prefix(A).into()]);
    assert!(world.prefixes_of(2).is_empty());
    assert!(world.kernel.is_empty());
    let explained = world
        .rib
        .explain(prefix(A), world.now, std::time::SystemTime::UNIX_EPOCH)
        .expect("known");
    let fate = &explained.candidates.first().expect("a route").fate;
    assert_eq!(
        *fate,
        Fate::Refused("AS loop: our AS 64512 stands 1 times in AS_PATH".into())
    );
}

#[test]
fn an_address_is_explained_by_the_longest_prefix_that_holds_it() {
    let mut world = world(3);
    world.announce(1, &["10.0.0.0/8", "10.1.0.0/16"]);
    let mut longer = attributes(2, External, 4);
    longer.med = Some(9);
    world.announce_with(2, longer, vec![prefix(A).into()]);
    world.settle();
    let explain = |text: &str| {
        world
            .rib
            .explain(prefix(text), world.now, std::time::SystemTime::UNIX_EPOCH)
    };
    let explained = explain("10.1.2.3").expect("known");
    assert_eq!(explained.prefix, prefix(A));
    assert_eq!(explained.decided_by.as_deref(), Some("shorter AS_PATH"));
    assert_eq!(explained.advertised_to, ["peer2", "peer3"]);
    let lost = explained.candidates.get(1).map(|route| route.fate.clone());
    assert_eq!(lost, Some(Fate::Lost("shorter AS_PATH".into())));
    assert_eq!(
        explain("10.200.0.1").expect("known").prefix,
        prefix("10.0.0.0/8")
    );
    assert!(explain("11.0.0.1").is_none());
    assert!(
        explain("10.1.2.0/24").is_none(),
        "a prefix is looked for as it is"
    );
}

#[test]
fn routes_are_listed_by_direction_peer_and_limit() {
    let mut world = world(3);
    world.announce(1, &[A, B]);
    world.reconfigure(|settings| {
        settings
            .originate
            .insert(prefix("10.9.0.0/16"), origination(Source::PodCIDR));
    });
    world.settle();
    let list = |query: RouteQuery| {
        world
            .rib
            .routes(&query, world.now, std::time::SystemTime::UNIX_EPOCH)
    };
    assert_eq!(list(RouteQuery::default()).len(), 3);
    let limited = RouteQuery {
        limit: 2,
        ..RouteQuery::default()
    };
    assert_eq!(list(limited).len(), 2);
    let of = |peer: &str, direction| RouteQuery {
        peer: Some(peer.into()),
        direction: Some(direction),
        ..RouteQuery::default()
    };
    assert_eq!(list(of("peer1", Direction::Received)).len(), 2);
    assert_eq!(
        list(of("peer1", Direction::Advertised)).len(),
        1,
        "not its own"
    );
    let told = list(of("peer2", Direction::Advertised));
    assert_eq!(told.len(), 3);
    assert!(
        told.iter().all(|route| route.as_path.starts_with("64512")),
        "as it is told"
    );
    assert!(list(of("peer2", Direction::Received)).is_empty());
}

#[test]
fn beyond_the_maximum_a_session_is_closed_and_nothing_more_is_taken() {
    let mut world = World::new(settings());
    world.add(1, External, |config| {
        config.max_prefixes = MaxPrefixes {
            count: 10,
            action: OverLimit::Shutdown(Duration::from_secs(60)),
        };
    });
    world.up(1);
    world.announce_with(
        1,
        attributes(1, External, 1),
        (0..50).map(slash_24).collect(),
    );
    world.announce_with(
        1,
        attributes(1, External, 1),
        (50..90).map(slash_24).collect(),
    );
    world.settle();
    assert_eq!(world.rib.counts().prefixes.get(&Family::IPv4), Some(&10));
    let [
        Order::Close {
            notification,
            stay_away,
            ..
        },
    ] = world.peer(1).orders.as_slice()
    else {
        panic!("{:?}", world.peer(1).orders);
    };
    assert_eq!((notification.code, notification.subcode), (6, 1));
    assert_eq!(*stay_away, Duration::from_secs(60));
}

/// A peer that may tell ten prefixes.
fn limited(kind: PeerKind) -> World {
    let mut world = World::new(settings());
    world.add(1, kind, |config| {
        config.max_prefixes = MaxPrefixes {
            count: 10,
            action: OverLimit::Shutdown(Duration::from_secs(60)),
        };
    });
    world.up(1);
    world
}

fn in_figures(world: &World) -> (usize, usize, usize) {
    let counts = world.rib.counts();
    let of_peer = counts.peers.get(&PeerId(1)).expect("it is configured");
    let counts = of_peer.families.get(&Family::IPv4).expect("it is carried");
    (counts.received, counts.accepted, counts.looped)
}

#[test]
fn what_a_peer_says_again_of_ours_does_not_count_against_its_maximum() {
    let ours = |kind| {
        let mut echo = attributes(1, kind, 0);
        match kind {
            External => echo.as_path = AsPath::sequence(&[65001, OWN_AS]),
            Internal => echo.originator_id = Some(settings().router_id),
        }
        echo
    };
    for kind in [External, Internal] {
        let mut world = limited(kind);
        world.announce_with(1, attributes(1, kind, 1), (0..10).map(slash_24).collect());
        world.announce_with(1, ours(kind), (100..108).map(slash_24).collect());
        world.settle();
        assert!(world.peer(1).orders.is_empty(), "{kind:?}");
        assert_eq!(in_figures(&world), (18, 10, 8), "{kind:?}");

        // Nobody fills our memory with them, and what is told anew in another way still is.
        world.announce_with(1, ours(kind), (200..300).map(slash_24).collect());
        world.announce_with(1, ours(kind), vec![slash_24(0)]);
        world.settle();
        assert!(world.peer(1).orders.is_empty(), "{kind:?}");
        assert_eq!(in_figures(&world), (20, 9, 11), "{kind:?}");

        // One that has been here, and now comes by another way, counts.
        world.announce_with(1, attributes(1, kind, 1), vec![slash_24(100)]);
        world.settle();
        assert!(world.peer(1).orders.is_empty(), "{kind:?}");
        assert_eq!(in_figures(&world), (20, 10, 10), "{kind:?}");
        world.announce_with(1, attributes(1, kind, 1), vec![slash_24(101)]);
        world.settle();
        assert_eq!(world.peer(1).orders.len(), 1, "{kind:?}");
    }
}

#[test]
fn what_has_been_here_counts_once_our_as_is_allowed() {
    let mut world = limited(External);
    let mut echo = attributes(1, External, 0);
    echo.as_path = AsPath::sequence(&[65001, OWN_AS]);
    world.announce_with(
        1,
        attributes(1, External, 1),
        (0..6).map(slash_24).collect(),
    );
    world.announce_with(1, echo, (100..106).map(slash_24).collect());
    world.settle();
    assert_eq!(in_figures(&world), (12, 6, 6));
    world.change(1, |config| config.allow_own_as = 1);
    world.settle();
    assert_eq!(world.peer(1).orders.len(), 1);
}

#[test]
fn nearing_and_passing_the_maximum_is_said_once_each() {
    let mut world = World::new(settings());
    world.add(1, External, |config| {
        config.max_prefixes = MaxPrefixes {
            count: 10,
            action: OverLimit::Warn,
        };
    });
    world.up(1);
    for number in 0..30 {
        world.announce_with(1, attributes(1, External, 1), vec![slash_24(number)]);
    }
    // What is known already is no prefix more.
    world.announce_with(
        1,
        attributes(1, External, 2),
        (0..30).map(slash_24).collect(),
    );
    world.settle();
    assert_eq!(world.rib.counts().prefixes.get(&Family::IPv4), Some(&30));
    let texts: Vec<String> = world
        .rib
        .take_events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Problem { text, .. } => Some(text),
            Event::Session { .. } | Event::Bfd { .. } => None,
        })
        .collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(world.peer(1).orders.is_empty());
}

#[test]
fn several_paths_of_one_peer_are_told_apart_by_their_identifiers() {
    let mut world = world(2);
    for path_id in [1, 2] {
        let nlri = Nlri {
            prefix: prefix(A),
            path_id,
        };
        world.announce_with(1, attributes(1, External, path_id), vec![nlri]);
    }
    assert_eq!(world.prefixes_of(2), [A]);
    let path = |world: &World| world.peer(2).told(A).map(|it| it.as_path.to_string());
    assert_eq!(path(&world).as_deref(), Some("64512 65001 65500"));
    let first = Nlri {
        prefix: prefix(A),
        path_id: 1,
    };
    world.say(
        1,
        bgp::wire::Update {
            withdrawn: vec![first],
            ..bgp::wire::Update::default()
        },
    );
    world.settle();
    assert_eq!(path(&world).as_deref(), Some("64512 65001 65500 65501"));
}

#[test]
fn the_kernel_gets_equal_routes_in_stable_order_with_their_weights() {
    let mut settings = settings();
    settings.multipath.max_paths = 4;
    settings.multipath.as_path_relax = true;
    let mut world = World::new(settings);
    for peer in [3, 1, 2] {
        world.add(peer, External, |_| {});
        world.up(peer);
        let mut route = attributes(peer, External, 1);
        let bandwidth = 1_000_000.0 * f32::from(u8::try_from(peer).expect("small"));
        route.extended_communities = Box::new([bgp::wire::ExtendedCommunity::of_link_bandwidth(
            1, bandwidth,
        )]);
        world.announce_with(peer, route, vec![prefix(A).into()]);
    }
    world.settle();
    let weights = |world: &World| -> Vec<(String, u16)> {
        let install = world.kernel.get(&prefix(A)).expect("installed");
        install
            .next_hops
            .iter()
            .map(|hop| (hop.next_hop.address.to_string(), hop.weight))
            .collect()
    };
    let all = [("10.0.1.1", 85), ("10.0.1.2", 171), ("10.0.1.3", 256)];
    assert_eq!(
        weights(&world),
        all.map(|(hop, weight)| (hop.to_owned(), weight))
    );
    world.announce(2, &[A]);
    world.settle();
    assert!(
        weights(&world).iter().all(|(_, weight)| *weight == 1),
        "one does not say"
    );
    world.down(1, Ending::Gone);
    world.settle();
    assert_eq!(weights(&world).len(), 2);
}

#[test]
fn what_we_originate_is_not_installed_and_hides_what_we_learn() {
    let mut world = world(2);
    world.announce(1, &[A]);
    world.settle();
    assert_eq!(world.kernel.len(), 1);
    world.reconfigure(|settings| {
        settings
            .originate
            .insert(prefix(A), origination(Source::PodCIDR));
    });
    world.settle();
    assert!(world.kernel.is_empty());
    assert_eq!(
        world.prefixes_of(1),
        [A],
        "ours is told to the other source"
    );
    world.reconfigure(|settings| settings.originate.clear());
    world.settle();
    assert_eq!(world.kernel.len(), 1);
    assert!(world.prefixes_of(1).is_empty());
}

#[test]
fn nobody_is_told_again_what_stays_when_something_else_is_originated() {
    let mut world = world(2);
    world.reconfigure(|settings| {
        settings
            .originate
            .insert(prefix(A), origination(Source::PodCIDR));
    });
    world.settle();
    let told = world.peer(2).updates;
    world.reconfigure(|settings| {
        settings
            .originate
            .insert(prefix(B), origination(Source::Service));
    });
    world.settle();
    assert_eq!(world.peer(2).updates, told + 1);
    assert_eq!(world.prefixes_of(2), [A, B]);
}

#[test]
fn a_reflector_tells_clients_of_each_other_and_others_of_clients() {
    let mut world = World::new(settings());
    world.add(1, Internal, |config| config.export = None);
    world.add(2, Internal, |config| config.export = None);
    for other in [3, 4] {
        world.add(other, Internal, |config| {
            config.export = None;
            config.route_reflector_client = false;
        });
    }
    (1..=4).for_each(|peer| world.up(peer));
    world.announce(1, &["10.1.0.0/16"]);
    world.announce(3, &["10.3.0.0/16"]);
    assert_eq!(world.prefixes_of(1), ["10.3.0.0/16"]);
    assert_eq!(world.prefixes_of(2), ["10.1.0.0/16", "10.3.0.0/16"]);
    assert!(world.prefixes_of(3).contains(&"10.1.0.0/16".to_owned()));
    assert_eq!(
        world.prefixes_of(4),
        ["10.1.0.0/16"],
        "not from the other non-client"
    );
}

#[test]
fn attributes_too_long_for_any_message_are_withdrawn_and_that_is_said() {
    let mut world = world(2);
    world.announce(1, &[A, B]);
    world.settle();
    let mut long = attributes(1, External, 1);
    long.communities = (0..1_200).map(bgp::wire::Community).collect();
    world.rib.take_events();
    world.announce_with(1, long, vec![prefix(A).into()]);
    assert_eq!(world.prefixes_of(2), [B]);
    let said = world.rib.take_events();
    assert!(
        matches!(said.as_slice(), [Event::Problem { peer: Some(peer), text }]
            if peer == "peer2" && text.contains(A) && text.contains("too many for one message")),
        "{said:?}"
    );
    world.announce(1, &[A]);
    assert_eq!(world.prefixes_of(2), [A, B]);
}
