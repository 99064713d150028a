//! Whatever happened, in whatever order, and however slowly peers read: in the end each knows what it would know had
//! everything been so from the beginning.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use bgp::{
    bmp::Views,
    config::{CommunityValue, Match, Policy, PrefixRange, Rule, Set, Source, Verdict},
    owners::{Owner, Owners},
    prefix::{Families, Family, Prefix},
    rib::task::{CollectorMessage, Ending, LongLived, PeerChange},
    status::PeerKind,
    wire::{Attributes, Community, Nlri, Update, refresh::RefreshKind},
};
use proptest::prelude::*;

use crate::station::{Station, tells_several_paths};
use crate::world::{Neighbor, World, address, attributes, origination, prefix, settings};

const PEERS: u32 = 6;

#[derive(Clone, Debug)]
enum Step {
    Up(u32),
    Gone(u32),
    Restart(u32, bool),
    Announce(u32, usize, u8),
    Withdraw(u32, usize, u32),
    EndOfRib(u32),
    Read(u32, usize),
    Flush,
    Wait(u64),
    Ask(u32, bool),
    Begin(u32),
    End(u32),
    Export(u32, u8),
    Import(u32, u8),
    Client(u32, bool),
    Paths(u32, u8),
    Remove(u32),
    Originate(usize, Option<u8>),
    Owners(u8),
    Drain(bool),
    Nowhere(u8),
    Install,
    Block(u32, bool),
    Monitor,
    Hear(usize),
    Stall(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 1..=PEERS;
    prop_oneof![
        4 => peer.clone().prop_map(Step::Up),
        1 => peer.clone().prop_map(Step::Gone),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, yields)| Step::Restart(peer, yields)),
        20 => (peer.clone(), 0..PREFIXES.len(), any::<u8>()).prop_map(|(peer, which, how)| Step::Announce(peer, which, how)),
        10 => (peer.clone(), 0..PREFIXES.len(), 0..3_u32).prop_map(|(peer, which, id)| Step::Withdraw(peer, which, id)),
        1 => peer.clone().prop_map(Step::EndOfRib),
        8 => (peer.clone(), 0..5_usize).prop_map(|(peer, most)| Step::Read(peer, most)),
        8 => Just(Step::Flush),
        2 => (0..3000_u64).prop_map(Step::Wait),
        1 => (100_000..300_000_u64).prop_map(Step::Wait),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, v6)| Step::Ask(peer, v6)),
        1 => peer.clone().prop_map(Step::Begin),
        1 => peer.clone().prop_map(Step::End),
        2 => (peer.clone(), any::<u8>()).prop_map(|(peer, how)| Step::Export(peer, how)),
        1 => (peer.clone(), any::<u8>()).prop_map(|(peer, how)| Step::Import(peer, how)),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, client)| Step::Client(peer, client)),
        1 => (peer.clone(), 1..4_u8).prop_map(|(peer, most)| Step::Paths(peer, most)),
        1 => peer.prop_map(Step::Remove),
        2 => (0..PREFIXES.len(), any::<Option<u8>>()).prop_map(|(which, how)| Step::Originate(which, how)),
        2 => any::<u8>().prop_map(Step::Owners),
        1 => any::<bool>().prop_map(Step::Drain),
        2 => any::<u8>().prop_map(Step::Nowhere),
        2 => Just(Step::Install),
        5 => (1..=PEERS, any::<bool>()).prop_map(|(peer, blocked)| Step::Block(peer, blocked)),
        1 => Just(Step::Monitor),
        4 => (0..5_usize).prop_map(Step::Hear),
        2 => any::<bool>().prop_map(Step::Stall),
    ]
}

const PREFIXES: [&str; 12] = [
    "10.1.0.0/16",
    "10.2.0.0/16",
    "10.2.1.0/24",
    "10.3.0.0/24",
    "10.4.0.0/24",
    "10.5.0.0/24",
    "192.0.2.0/24",
    "0.0.0.0/0",
    "fd01::/64",
    "fd02::/64",
    "fd03::/64",
    "2001:db8::/32",
];

fn kind(peer: u32) -> PeerKind {
    if peer <= PEERS / 2 {
        PeerKind::External
    } else {
        PeerKind::Internal
    }
}

/// For some the routes of a peer stay longer.
fn long_lived(peer: u32) -> LongLived {
    let mut long_lived = LongLived::NONE;
    if peer.is_multiple_of(2) {
        long_lived.set(Family::IPv4, Duration::from_secs(600));
    }
    if peer == 4 {
        long_lived.set(Family::IPv6, Duration::from_secs(1));
    }
    long_lived
}

/// Some tell several paths.
fn path_id(peer: u32, id: u32) -> u32 {
    if peer.is_multiple_of(3) { id } else { 0 }
}

/// The families of which a peer takes several paths: one external and one internal peer do.
fn several(peer: u32) -> Families {
    match peer {
        2 => Families::all(),
        5 => Families::IPV4,
        _ => Families::empty(),
    }
}

/// Its address in IPv6.
fn sixth(peer: u32) -> IpAddr {
    format!("fd00::{peer}").parse().expect("an address")
}

fn route(peer: u32, prefix: Prefix, how: u8) -> Attributes {
    let mut route = attributes(peer, kind(peer), u32::from(how & 3));
    if prefix.family() == Family::IPv6 {
        route.next_hop = Some(sixth(peer).into());
    }
    route.med = (how & 4 != 0).then_some(u32::from(how >> 6));
    if how & 8 != 0 && kind(peer) == PeerKind::Internal {
        route.local_pref = Some(200);
    }
    if how & 48 == 48 {
        route.communities = Box::new([Community::NO_EXPORT, Community::NO_LLGR]);
    }
    if how & 48 == 32 {
        route.communities = Box::new([Community(7)]);
    }
    route
}

fn policy(how: u8) -> Option<Arc<Policy>> {
    let rules = match how % 4 {
        0 => return None,
        1 => Vec::new(),
        2 => vec![Rule {
            matches: Match {
                prefixes: vec![PrefixRange {
                    prefix: prefix("10.0.0.0/8"),
                    min_length: 8,
                    max_length: 16,
                }],
                ..Match::default()
            },
            set: Set {
                med: Some(u32::from(how >> 4)),
                ..Set::default()
            },
            verdict: Some(Verdict::Accept),
        }],
        _ => vec![Rule {
            matches: Match {
                communities: vec![CommunityValue::Standard(Community(7))],
                ..Match::default()
            },
            set: Set {
                add_communities: vec![CommunityValue::Standard(Community(u32::from(how >> 4)))],
                ..Set::default()
            },
            verdict: Some(Verdict::Accept),
        }],
    };
    let default = if how & 4 == 0 || rules.is_empty() {
        Verdict::Accept
    } else {
        Verdict::Reject
    };
    Some(Arc::new(Policy {
        name: "random".into(),
        rules,
        default,
    }))
}

/// Who has which prefixes: each peer is somebody's address, and the third has several.
fn owners(how: u8) -> Owners {
    let owner = |peer: u32| Owner {
        name: format!("owner{peer}"),
        addresses: vec![address(peer)],
        forwards: how & 64 != 0 && peer == 3,
    };
    let has = |peer: u32| match peer {
        _ if how & 128 != 0 => vec![],
        1 => vec![prefix("10.1.0.0/16")],
        2 if how & 1 != 0 => vec![prefix("10.2.0.0/16")],
        3 => vec![prefix("10.3.0.0/24"), prefix("fd02::/64")],
        4 if how & 2 != 0 => vec![prefix("10.2.0.0/16"), prefix("fd01::/64")],
        _ => vec![],
    };
    let nobodys = (how & 4 != 0).then(|| (prefix("10.4.0.0/24"), "disputed".to_owned()));
    let peers = 1..=PEERS - u32::from(how & 8 != 0);
    Owners::new(peers.map(|peer| (owner(peer), has(peer))), nobodys)
}

/// What is so in the end.
#[derive(Default)]
struct Known {
    routes: BTreeMap<u32, BTreeMap<Nlri, Attributes>>,
}

fn play(world: &mut World, known: &mut Known, step: &Step) {
    match *step {
        Step::Up(peer) => {
            if !world.peers.contains_key(&peer) {
                world.add(peer, kind(peer), |config| config.add_path.send_max = 2);
            }
            if !world.peer(peer).is_up() {
                let preserved = if peer % 2 == 0 {
                    Families::all()
                } else {
                    Families::IPV4
                };
                world.up_with(peer, |session| {
                    session.preserved = preserved;
                    session.context.add_path_send = several(peer);
                    session.context.add_path_receive = tells_several_paths(session.address);
                    session.knows_long_stale = peer % 2 == 1;
                });
            }
        }
        Step::Gone(peer) => {
            if is_up(world, peer) {
                world.down(peer, Ending::Gone);
                known.routes.remove(&peer);
            }
        }
        Step::Restart(peer, yields) => {
            if is_up(world, peer) {
                world.down(
                    peer,
                    Ending::Restarting {
                        families: Families::all(),
                        restart_time: Duration::from_secs(120),
                        long_lived: long_lived(peer),
                        yields,
                    },
                );
                known.routes.remove(&peer);
            }
        }
        Step::Announce(peer, which, how) => {
            if is_up(world, peer) {
                let prefix = prefix(PREFIXES[which]);
                let route = route(peer, prefix, how);
                let nlri = Nlri {
                    prefix,
                    path_id: path_id(peer, u32::from(how) % 3),
                };
                world.announce_with(peer, route.clone(), vec![nlri]);
                known.routes.entry(peer).or_default().insert(nlri, route);
            }
        }
        Step::Withdraw(peer, which, id) => {
            if is_up(world, peer) {
                let nlri = Nlri {
                    prefix: prefix(PREFIXES[which]),
                    path_id: path_id(peer, id),
                };
                world.say(
                    peer,
                    Update {
                        withdrawn: vec![nlri],
                        ..Update::default()
                    },
                );
                if let Some(routes) = known.routes.get_mut(&peer) {
                    routes.remove(&nlri);
                }
            }
        }
        Step::EndOfRib(peer) => {
            if is_up(world, peer) {
                world.end_of_rib(peer, Family::IPv4);
                world.end_of_rib(peer, Family::IPv6);
            }
        }
        Step::Read(peer, most) => {
            if let Some(peer) = world.peers.get_mut(&peer) {
                peer.read(most);
            }
        }
        Step::Flush => world.flush(),
        Step::Wait(milliseconds) => world.wait(Duration::from_millis(milliseconds)),
        Step::Ask(peer, v6) => {
            if is_up(world, peer) {
                let family = if v6 { Family::IPv6 } else { Family::IPv4 };
                world.refresh(peer, family, RefreshKind::Request);
            }
        }
        Step::Begin(peer) => {
            if is_up(world, peer) {
                world.refresh(peer, Family::IPv4, RefreshKind::Begin);
                // It repeats all it has.
                let routes = known.routes.get(&peer).cloned().unwrap_or_default();
                for (nlri, route) in routes {
                    world.announce_with(peer, route, vec![nlri]);
                }
            }
        }
        Step::End(peer) => {
            if is_up(world, peer) {
                let routes = known.routes.get(&peer).cloned().unwrap_or_default();
                for (nlri, route) in routes {
                    world.announce_with(peer, route, vec![nlri]);
                }
                world.refresh(peer, Family::IPv4, RefreshKind::End);
            }
        }
        Step::Export(peer, how) => {
            if world.peers.contains_key(&peer) {
                world.change(peer, |config| config.export = policy(how));
            }
        }
        Step::Import(peer, how) => {
            if world.peers.contains_key(&peer)
                && let Some(policy) = policy(how)
            {
                world.change(peer, |config| config.import = policy);
            }
        }
        Step::Client(peer, client) => {
            if world.peers.contains_key(&peer) {
                world.change(peer, |config| config.route_reflector_client = client);
            }
        }
        Step::Paths(peer, most) => {
            if world.peers.contains_key(&peer) {
                world.change(peer, |config| config.add_path.send_max = most);
            }
        }
        Step::Remove(peer) => {
            if let Some(gone) = world.peers.remove(&peer) {
                known.routes.remove(&peer);
                let settings = world.settings.clone();
                world
                    .rib
                    .configure(world.now, settings, vec![PeerChange::Remove(gone.id)]);
            }
        }
        Step::Originate(which, how) => world.reconfigure(|settings| {
            let prefix = prefix(PREFIXES[which]);
            match how {
                None => {
                    settings.originate.remove(&prefix);
                }
                Some(how) => {
                    let mut origination = origination(Source::Static);
                    origination.set.med = Some(u32::from(how & 3));
                    origination.set.prepend = (None, how & 1);
                    origination.peers = (how & 8 != 0)
                        .then(|| [format!("peer{}", 1 + (how >> 5))].into_iter().collect());
                    if how & 4 != 0 {
                        let set = Set {
                            med: Some(9),
                            ..Set::default()
                        };
                        origination
                            .others
                            .push(([format!("peer{}", 1 + (how >> 6))].into(), set));
                    }
                    settings.originate.insert(prefix, origination);
                }
            }
        }),
        Step::Owners(how) => {
            world.reconfigure(|settings| settings.owners = Arc::new(owners(how)));
        }
        Step::Drain(draining) => world.reconfigure(|settings| settings.draining = draining),
        Step::Nowhere(which) => {
            let peers = (1..=PEERS).filter(|peer| which & 1 << peer != 0);
            let next_hops = peers.flat_map(|peer| [address(peer), sixth(peer)]);
            world.unresolved(next_hops.collect());
        }
        Step::Install => world.install(),
        Step::Block(peer, blocked) => {
            if let Some(peer) = world.peers.get_mut(&peer) {
                peer.block(blocked);
            }
        }
        Step::Monitor => monitor(world),
        Step::Hear(most) => {
            if let Some(station) = &mut world.station {
                station.read(most);
            }
        }
        Step::Stall(stalled) => {
            if let Some(station) = &mut world.station {
                station.block(stalled);
            }
        }
    }
}

/// A collector connects, or connects again.
fn monitor(world: &mut World) {
    let last = world.station.take();
    if let Some(last) = &last {
        let gone = CollectorMessage::Gone;
        world.rib.hear_collector(world.now, last.id, gone);
    }
    let id = last.map_or(1, |last| last.id.0 + 1);
    let minute = Some(Duration::from_secs(60));
    let station = Station::connect(world, id, Views::all(), minute);
    world.station = Some(station);
}

fn is_up(world: &World, peer: u32) -> bool {
    world.peers.get(&peer).is_some_and(|peer| peer.is_up())
}

/// The same state without a history.
fn afresh(world: &World, known: &Known) -> World {
    let mut fresh = World::new(world.settings.clone());
    fresh.unresolved(world.unresolved.clone());
    for (number, peer) in &world.peers {
        let config = (*peer.config).clone();
        fresh.add(*number, peer.kind, |new| *new = config);
        if peer.is_up() {
            fresh.up_with(*number, |session| {
                session.context.add_path_send = several(*number);
                session.context.add_path_receive = tells_several_paths(session.address);
                session.knows_long_stale = number % 2 == 1;
            });
            for (nlri, route) in known.routes.get(number).into_iter().flatten() {
                fresh.announce_with(*number, route.clone(), vec![*nlri]);
            }
        }
    }
    fresh.settle();
    fresh
}

/// What a peer knows, whatever the path identifiers: those depend on what was there before.
fn knows(peer: &Neighbor) -> Vec<(Prefix, String)> {
    let view = peer.view.iter();
    let mut all: Vec<_> = view
        .map(|(nlri, attributes)| (nlri.prefix, format!("{attributes:?}")))
        .collect();
    all.sort();
    all
}

fn check(steps: &[Step]) {
    let (mut world, mut known) = (World::new(settings()), Known::default());
    for step in steps {
        play(&mut world, &mut known, step);
    }
    world.peers.values_mut().for_each(|peer| peer.block(false));
    if let Some(station) = &mut world.station {
        station.block(false);
    }
    // Nothing is kept from before a restart for longer than this.
    world.wait(Duration::from_secs(3600));
    world.settle();
    world.wait(Duration::from_secs(3600));
    world.settle();
    if let Some(heard) = world.station.as_ref().map(Station::routes) {
        let prefixes = known.routes.values().flat_map(BTreeMap::keys);
        let before_policy = heard.keys().filter(|(_, (post, _))| !post);
        assert_eq!(before_policy.count(), prefixes.count(), "what it heard");
        monitor(&mut world);
        world.settle();
        let station = world.station.as_ref().expect("it has just come");
        assert_eq!(heard, station.routes(), "what one hears that has just come");
    }
    let fresh = afresh(&world, &known);
    for (number, peer) in &world.peers {
        let other = fresh.peer(*number);
        assert_eq!(knows(peer), knows(other), "what peer {number} knows");
        if peer.is_up() {
            assert_eq!(peer.ends.len(), 2, "peer {number} got End-of-RIB");
        }
    }
    assert_eq!(world.kernel, fresh.kernel, "what the kernel has");
    let (mut counts, mut afresh) = (world.rib.counts(), fresh.rib.counts());
    for counts in [&mut counts, &mut afresh] {
        counts.complete = true;
        for peer in counts.peers.values_mut() {
            peer.updates_out = 0;
            peer.families
                .values_mut()
                .for_each(|family| family.end_of_rib = false);
        }
    }
    assert_eq!(
        format!("{counts:?}"),
        format!("{afresh:?}"),
        "what is counted"
    );
    for (number, peer) in &world.peers {
        let counts = counts.peers.get(&peer.id).expect("counts");
        let advertised: usize = counts.families.values().map(|it| it.advertised).sum();
        assert_eq!(advertised, peer.view.len(), "advertised to peer {number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn history_leaves_no_trace(steps in prop::collection::vec(step(), 1..120)) {
        check(&steps);
    }
}
