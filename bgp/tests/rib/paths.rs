//! What a peer is told that takes several paths of a prefix (RFC 7911).

use bgp::{
    prefix::{Families, Family},
    rib::task::Ending,
    speaker::{Direction, RouteQuery},
    status::PeerKind::{External, Internal},
    wire::{Nlri, refresh::RefreshKind},
};

use crate::world::{World, attributes, prefix, settings};

const A: &str = "10.1.0.0/16";

/// Peers 1 to 3 are sources, the nearer the lower the number; peer 4 takes at most `most` paths.
fn world(most: u8) -> World {
    let mut world = World::new(settings());
    for peer in 1..=3 {
        world.add(peer, External, |_| {});
        world.up(peer);
    }
    world.add(4, Internal, |config| config.add_path.send_max = most);
    world.up_with(4, |session| session.context.add_path_send = Families::all());
    for peer in 1..=3 {
        let route = attributes(peer, External, peer);
        world.announce_with(peer, route, vec![prefix(A).into()]);
    }
    world.settle();
    world
}

/// From whom the paths are that peer 4 knows, by identifier.
fn known(world: &mut World) -> Vec<(u32, u32)> {
    world.settle();
    let view = world.peer(4).view.iter();
    view.map(|(nlri, route)| {
        assert_eq!(nlri.prefix, prefix(A));
        let neighbor = route.as_path.neighbor_as().expect("an external path");
        (nlri.path_id, neighbor - 65000)
    })
    .collect()
}

fn from(world: &mut World) -> Vec<u32> {
    let mut peers: Vec<u32> = known(world).into_iter().map(|(_, peer)| peer).collect();
    peers.sort_unstable();
    peers
}

#[test]
fn the_best_paths_are_told_as_many_as_were_agreed() {
    assert_eq!(from(&mut world(1)), [1]);
    assert_eq!(from(&mut world(2)), [1, 2]);
    assert_eq!(from(&mut world(9)), [1, 2, 3]);
}

#[test]
fn a_path_keeps_its_identifier_while_others_come_and_go() {
    let mut world = world(2);
    let before = known(&mut world);
    world.withdraw(1, &[A]);
    let after = known(&mut world);
    assert_eq!(from(&mut world), [2, 3]);
    let of_second = before.iter().find(|(_, peer)| *peer == 2);
    assert!(
        after.contains(of_second.expect("told")),
        "{before:?} {after:?}"
    );
    let told = world.peer(4).updates;
    world.announce_with(1, attributes(1, External, 1), vec![prefix(A).into()]);
    assert_eq!(from(&mut world), [1, 2]);
    assert_eq!(
        world.peer(4).updates,
        told + 2,
        "one path told, one withdrawn"
    );
}

#[test]
fn a_change_of_one_path_does_not_repeat_the_others() {
    let mut world = world(3);
    let told = world.peer(4).updates;
    let mut route = attributes(3, External, 3);
    route.med = Some(7);
    world.announce_with(3, route, vec![prefix(A).into()]);
    assert_eq!(from(&mut world), [1, 2, 3]);
    assert_eq!(world.peer(4).updates, told + 1);
}

#[test]
fn nobody_is_told_its_own_paths() {
    let mut world = world(3);
    world.announce_with(4, attributes(4, Internal, 1), vec![prefix(A).into()]);
    assert_eq!(from(&mut world), [1, 2, 3]);
}

#[test]
fn paths_of_one_peer_are_told_apart() {
    let mut world = world(4);
    let nlri = |path_id| Nlri {
        prefix: prefix(A),
        path_id,
    };
    let mut other = attributes(1, External, 1);
    other.med = Some(1);
    world.announce_with(1, other, vec![nlri(7)]);
    assert_eq!(from(&mut world), [1, 1, 2, 3]);
    world.down(1, Ending::Gone);
    assert_eq!(from(&mut world), [2, 3]);
}

#[test]
fn a_refresh_repeats_every_path() {
    let mut world = world(3);
    let told = world.peer(4).updates;
    world.refresh(4, Family::IPv4, RefreshKind::Request);
    world.settle();
    assert_eq!(world.peer(4).updates, told + 3);
    assert_eq!(world.peer(4).refreshes.len(), 2, "begin and end");
}

#[test]
fn another_maximum_is_applied_live() {
    let mut world = world(1);
    world.change(4, |config| config.add_path.send_max = 3);
    assert_eq!(from(&mut world), [1, 2, 3]);
    world.change(4, |config| config.add_path.send_max = 2);
    assert_eq!(from(&mut world), [1, 2]);
}

#[test]
fn what_was_told_is_shown_path_by_path() {
    let world = world(2);
    let query = RouteQuery {
        direction: Some(Direction::Advertised),
        peer: Some("peer4".into()),
        ..RouteQuery::default()
    };
    let told = world
        .rib
        .routes(&query, world.now, std::time::SystemTime::UNIX_EPOCH);
    let mut ids: Vec<_> = told.iter().map(|route| route.path_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [Some(1), Some(2)]);
    assert!(told.iter().all(|route| route.from.is_some()));
}

#[test]
fn equal_attributes_meet_in_one_message() {
    let mut world = world(2);
    let told = world.peer(4).updates;
    let many: Vec<Nlri> = (0..1000)
        .map(|number: u32| {
            let address = (0x0b00_0000 + (number << 8)).into();
            bgp::prefix::Prefix::v4(address, 24)
                .expect("a prefix")
                .into()
        })
        .collect();
    for peer in 1..=2 {
        world.announce_with(peer, attributes(peer, External, peer), many.clone());
    }
    world.settle();
    assert_eq!(world.peer(4).view.len(), 2 * 1000 + 2);
    // 8 octets a prefix with its identifier: 500 fit.
    assert!(
        world.peer(4).updates - told <= 6,
        "{}",
        world.peer(4).updates - told
    );
}
