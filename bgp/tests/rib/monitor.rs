//! What a collector hears over BMP.

use std::{net::IpAddr, sync::atomic::Ordering, time::Duration};

use bgp::{
    bmp::Views,
    config::{Match, Policy, PrefixRange, Rule, Set, Verdict},
    prefix::{Families, Family},
    rib::task::{Ending, LongLived, Room},
    status::PeerKind::{External, Internal},
    wire::{
        AsPath, Attributes, Nlri, Update,
        update::{Fault, Treatment},
    },
};

use crate::{
    station::Station,
    world::{OWN_AS, World, address, attributes, prefix, settings},
};

/// Two peers that are up, each with routes of its own and one they share; a collector comes after that.
fn monitored(views: Views) -> World {
    let mut world = World::new(settings());
    for number in [1, 2] {
        world.add(number, External, |_| {});
        world.up(number);
        world.announce(number, &["192.0.2.0/24", &format!("10.{number}.0.0/16")]);
    }
    connect(&mut world, views);
    world.settle();
    world
}

fn connect(world: &mut World, views: Views) {
    let station = Station::connect(world, 1, views, None);
    world.station = Some(station);
}

fn station(world: &World) -> &Station {
    world.station.as_ref().expect("a collector")
}

/// The prefixes it knows of a peer, those after policy with a mark.
fn knows(world: &World, number: u32) -> Vec<String> {
    let Some(peer) = station(world).peers.get(&address(number)) else {
        return vec!["down".into()];
    };
    let each = peer.routes.keys();
    each.map(|(post, nlri)| format!("{}{}", nlri.prefix, if *post { "!" } else { "" }))
        .collect()
}

fn ends(world: &World, number: u32) -> usize {
    let peer = station(world).peers.get(&address(number));
    peer.map_or(0, |peer| peer.ends.len())
}

#[test]
fn who_connects_hears_all_that_is_known_and_its_end() {
    let world = monitored(Views::PRE_POLICY);
    for number in [1, 2] {
        let own = format!("10.{number}.0.0/16");
        assert_eq!(knows(&world, number), [own.as_str(), "192.0.2.0/24"]);
        assert_eq!(ends(&world, number), 2, "one of each family");
    }
    let told = attributes(1, External, 1);
    let key = (false, Nlri::from(prefix("192.0.2.0/24")));
    let heard = &station(&world).peers[&address(1)];
    assert_eq!(*heard.routes[&key], told, "as the peer said it");
    assert_eq!(heard.asn, 65001);
}

#[test]
fn then_it_hears_what_changes() {
    let mut world = monitored(Views::PRE_POLICY);
    world.announce(1, &["10.9.0.0/16"]);
    world.withdraw(1, &["192.0.2.0/24"]);
    world.settle();
    assert_eq!(knows(&world, 1), ["10.1.0.0/16", "10.9.0.0/16"]);
    assert_eq!(knows(&world, 2), ["10.2.0.0/16", "192.0.2.0/24"]);
}

#[test]
fn what_changes_twice_before_it_is_heard_is_told_once() {
    let mut world = monitored(Views::PRE_POLICY);
    world.announce(1, &["10.9.0.0/16"]);
    world.withdraw(1, &["10.9.0.0/16", "10.1.0.0/16"]);
    world.settle();
    assert_eq!(knows(&world, 1), ["192.0.2.0/24"]);
    assert_eq!(station(&world).superfluous, 0);
}

#[test]
fn a_route_that_import_refuses_stands_before_policy_only() {
    let mut world = monitored(Views::all());
    let own_as = Attributes {
        as_path: AsPath::sequence(&[65001, OWN_AS]),
        ..attributes(1, External, 1)
    };
    world.announce_with(1, own_as, vec![prefix("10.8.0.0/16").into()]);
    world.settle();
    assert_eq!(
        knows(&world, 1),
        [
            "10.1.0.0/16",
            "10.8.0.0/16",
            "192.0.2.0/24",
            "10.1.0.0/16!",
            "192.0.2.0/24!"
        ]
    );
    assert_eq!(station(&world).superfluous, 0);
}

#[test]
fn another_policy_changes_what_stands_after_it() {
    let mut world = monitored(Views::all());
    let med = Set {
        med: Some(77),
        ..Set::default()
    };
    let policy = Policy {
        name: "one".into(),
        rules: vec![Rule {
            matches: Match {
                prefixes: vec![PrefixRange {
                    prefix: prefix("10.0.0.0/8"),
                    min_length: 8,
                    max_length: 24,
                }],
                ..Match::default()
            },
            set: med,
            verdict: Some(Verdict::Accept),
        }],
        default: Verdict::Reject,
    };
    world.change(1, |config| config.import = policy.into());
    world.settle();
    assert_eq!(
        knows(&world, 1),
        ["10.1.0.0/16", "192.0.2.0/24", "10.1.0.0/16!"]
    );
    let peer = &station(&world).peers[&address(1)];
    let nlri = Nlri::from(prefix("10.1.0.0/16"));
    assert_eq!(peer.routes[&(false, nlri)].med, None);
    assert_eq!(peer.routes[&(true, nlri)].med, Some(77));
}

#[test]
fn a_session_that_ends_takes_its_routes_along_also_those_that_we_keep() {
    let mut world = monitored(Views::PRE_POLICY);
    let restarting = Ending::Restarting {
        families: Families::all(),
        restart_time: Duration::from_secs(120),
        long_lived: LongLived::NONE,
        yields: false,
    };
    world.down(1, restarting);
    world.down(2, Ending::Gone);
    world.settle();
    let mut downs = station(&world).downs.clone();
    downs.sort();
    assert_eq!(downs, [(4, address(1)), (4, address(2))]);
    // It is back, and has not repeated its routes yet.
    world.up_with(1, |session| session.preserved = Families::all());
    world.settle();
    assert_eq!(knows(&world, 1), ["10.1.0.0/16", "192.0.2.0/24"]);
    world.announce(1, &["10.1.0.0/16"]);
    world.end_of_rib(1, Family::IPv4);
    world.settle();
    assert_eq!(knows(&world, 1), ["10.1.0.0/16"]);
    assert_eq!(ends(&world, 1), 1, "its own End-of-RIB");
}

#[test]
fn a_session_that_came_and_went_unheard_is_told_as_one_that_began_anew() {
    let mut world = monitored(Views::PRE_POLICY);
    world.down(1, Ending::Gone);
    world.up(1);
    world.announce(1, &["10.7.0.0/16"]);
    world.settle();
    assert_eq!(station(&world).downs, [(4, address(1))]);
    assert_eq!(knows(&world, 1), ["10.7.0.0/16"]);
}

#[test]
fn a_peer_that_is_no_longer_configured_is_no_longer_told_of() {
    let mut world = monitored(Views::PRE_POLICY);
    let id = world.peer(1).id;
    let remove = vec![bgp::rib::task::PeerChange::Remove(id)];
    world.rib.configure(world.now, settings(), remove);
    world.settle();
    assert_eq!(station(&world).downs, [(5, address(1))]);
    assert_eq!(knows(&world, 1), ["down"]);
}

#[test]
fn who_takes_nothing_costs_a_set_of_routes_and_then_has_to_begin_anew() {
    let mut world = monitored(Views::PRE_POLICY);
    world.station.as_mut().expect("a collector").block(true);
    let many = |start: u32| {
        (0..70_000_u32).map(move |number| {
            let address = std::net::Ipv4Addr::from((start << 24) + (number << 8));
            let prefix = bgp::prefix::Prefix::v4(address, 24).expect("a prefix");
            Nlri::from(prefix)
        })
    };
    let told = attributes(1, External, 1);
    world.announce_with(1, told.clone(), many(20).collect());
    world.flush();
    assert_eq!(
        station(&world).room.queued.load(Ordering::SeqCst),
        Room::LIMIT
    );
    world
        .station
        .as_mut()
        .expect("a collector")
        .read(usize::MAX);
    assert!(
        !station(&world).dropped,
        "no more waits than there are routes"
    );
    let withdrawn = Update {
        withdrawn: many(20).collect(),
        ..Update::default()
    };
    world.say(1, withdrawn);
    world.flush();
    world
        .station
        .as_mut()
        .expect("a collector")
        .read(usize::MAX);
    assert!(station(&world).dropped, "more waits than a dump would take");
    assert_eq!(world.prefixes_of(2), ["10.1.0.0/16", "192.0.2.0/24"]);
}

#[test]
fn statistics_come_at_their_time_and_count_what_became_of_routes() {
    let mut world = World::new(settings());
    world.add(1, External, |_| {});
    world.add(4, Internal, |config| {
        config.import = Policy::always("nothing", Verdict::Reject).into();
    });
    let interval = Some(Duration::from_secs(60));
    let station = Station::connect(&mut world, 1, Views::PRE_POLICY, interval);
    world.station = Some(station);
    for number in [1, 4] {
        world.up(number);
        world.announce(number, &["10.1.0.0/16", "10.2.0.0/16"]);
    }
    world.announce(1, &["10.1.0.0/16"]);
    world.withdraw(1, &["10.6.0.0/16", "10.7.0.0/16"]);
    let looped = Attributes {
        as_path: AsPath::sequence(&[65001, OWN_AS]),
        ..attributes(1, External, 1)
    };
    let two = ["10.8.0.0/16", "10.9.0.0/16"].map(|text| prefix(text).into());
    world.announce_with(1, looped, two.to_vec());
    let fault = Fault {
        treatment: Treatment::Withdraw,
        reason: "of no matter".into(),
    };
    world.say(
        1,
        Update {
            faults: vec![fault],
            ..Update::default()
        },
    );
    world.settle();
    let reports = |world: &World| world.station.as_ref().map(|one| one.statistics.clone());
    assert_eq!(reports(&world).map(|reports| reports.len()), Some(0));
    world.wait(Duration::from_secs(61));
    world.settle();
    let reports = reports(&world).expect("a collector");
    let value = |peer: IpAddr, kind: u16| {
        let octets = &reports[&peer][&kind];
        octets
            .iter()
            .rev()
            .take(8)
            .rev()
            .fold(0_u64, |sum, octet| sum << 8 | u64::from(*octet))
    };
    let external = [0, 1, 2, 3, 4, 5, 7, 8, 11].map(|kind| value(address(1), kind));
    assert_eq!(external, [0, 1, 2, 0, 1, 0, 4, 2, 1]);
    let internal = [0, 1, 2, 3, 4, 5, 7, 8, 11].map(|kind| value(address(4), kind));
    assert_eq!(internal, [2, 0, 0, 0, 0, 0, 2, 0, 0]);
    assert_eq!(reports[&address(1)][&9].len(), 11);
}
