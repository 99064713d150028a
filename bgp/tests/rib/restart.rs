//! Graceful restart of a peer (RFC 4724 §4.2), refresh with marks (RFC 7313), and when all initial routes are in (§4.1).

use std::time::Duration;

use bgp::{
    prefix::{Families, Family},
    rib::task::{Ending, LongLived, Session},
    status::{Fate, PeerKind::External},
    wire::{Community, refresh::RefreshKind},
};

use crate::world::{World, attributes, prefix, settings};

const A: &str = "10.1.0.0/16";
const B: &str = "10.2.0.0/16";
const V6: &str = "fd01::/64";

const RESTART: Duration = Duration::from_secs(120);

fn restarting() -> Ending {
    Ending::Restarting {
        families: Families::all(),
        restart_time: RESTART,
        long_lived: LongLived::NONE,
        yields: false,
    }
}

fn preserving(session: &mut Session) {
    session.preserved = Families::all();
    session.expects_end_of_rib = Families::all();
}

/// Peer 1 tells A, B and an IPv6 prefix; peer 2 listens.
fn world() -> World {
    let mut world = World::new(settings());
    world.add(1, External, |_| {});
    world.add(2, External, |_| {});
    world.up_with(1, preserving);
    world.up(2);
    world.announce(1, &[A, B]);
    let mut route = attributes(1, External, 1);
    route.next_hop = Some(
        "fd00::1"
            .parse::<std::net::IpAddr>()
            .expect("an address")
            .into(),
    );
    world.announce_with(1, route, vec![prefix(V6).into()]);
    world.settle();
    world
}

fn stale(world: &World) -> usize {
    world
        .rib
        .counts()
        .peers
        .values()
        .flat_map(|peer| peer.families.values())
        .map(|family| family.stale)
        .sum()
}

/// Whose route to A is the best.
fn best_of(world: &mut World) -> String {
    world.settle();
    let explained = world
        .rib
        .explain(prefix(A), world.now, std::time::SystemTime::UNIX_EPOCH)
        .expect("known");
    let first = explained.candidates.first().expect("a route");
    assert_eq!(first.fate, Fate::Best);
    first.from.clone().expect("a peer")
}

#[test]
fn routes_of_a_peer_that_is_gone_leave_at_once() {
    let mut world = world();
    world.down(1, Ending::Gone);
    assert!(world.prefixes_of(2).is_empty());
    assert!(world.kernel.is_empty());
}

#[test]
fn routes_of_a_peer_that_restarts_stay_until_its_time_is_over() {
    let mut world = world();
    world.down(1, restarting());
    assert_eq!(world.prefixes_of(2), [A, B, V6]);
    assert_eq!((stale(&world), world.kernel.len()), (3, 3));
    world.wait(RESTART - Duration::from_secs(1));
    assert_eq!(world.prefixes_of(2).len(), 3);
    world.wait(Duration::from_secs(1));
    assert!(world.prefixes_of(2).is_empty());
    assert!(world.kernel.is_empty());
}

#[test]
fn only_families_whose_forwarding_state_is_kept_stay() {
    let mut world = world();
    world.down(
        1,
        Ending::Restarting {
            families: Families::IPV6,
            restart_time: RESTART,
            long_lived: LongLived::NONE,
            yields: false,
        },
    );
    assert_eq!(world.prefixes_of(2), [V6]);
}

#[test]
fn what_is_not_repeated_leaves_with_end_of_rib() {
    let mut world = world();
    world.down(1, restarting());
    world.up_with(1, preserving);
    let told = world.peer(2).updates;
    world.announce(1, &[A]);
    assert_eq!(world.prefixes_of(2), [A, B, V6], "nothing has left yet");
    world.end_of_rib(1, Family::IPv4);
    assert_eq!(
        world.prefixes_of(2),
        [A, V6],
        "of the other family all stays"
    );
    world.end_of_rib(1, Family::IPv6);
    assert_eq!(world.prefixes_of(2), [A]);
    assert_eq!(
        world.peer(2).updates,
        told + 2,
        "what stayed was not told again"
    );
    assert_eq!(stale(&world), 0);
}

#[test]
fn a_family_that_comes_back_without_its_state_leaves_at_once() {
    let mut world = world();
    world.down(1, restarting());
    world.up_with(1, |session| session.preserved = Families::IPV6);
    assert_eq!(world.prefixes_of(2), [V6]);
}

#[test]
fn a_family_that_does_not_come_back_leaves_at_once() {
    let mut world = world();
    world.down(1, restarting());
    world.up_with(1, |session| {
        preserving(session);
        session.context.families = Families::IPV4;
    });
    assert_eq!(world.prefixes_of(2), [A, B]);
}

#[test]
fn another_speaker_at_the_same_address_inherits_nothing() {
    let mut world = world();
    world.down(1, restarting());
    world.up_with(1, |session| {
        preserving(session);
        session.router_id = [9, 9, 9, 9].into();
    });
    assert!(world.prefixes_of(2).is_empty());
}

#[test]
fn a_second_restart_within_the_restart_time_of_the_first_loses_nothing() {
    let mut world = world();
    world.down(1, restarting());
    world.up_with(1, preserving);
    world.announce(1, &[A]);
    world.wait(RESTART - Duration::from_secs(1));
    world.down(1, restarting());
    assert_eq!(world.prefixes_of(2), [A, B, V6]);
    assert_eq!(stale(&world), 3);
    world.wait(RESTART);
    assert!(world.prefixes_of(2).is_empty(), "it did not come back");
}

#[test]
fn a_restart_later_than_that_drops_what_the_first_left_and_keeps_what_is_fresh() {
    let mut world = world();
    world.down(1, restarting());
    world.up_with(1, preserving);
    world.announce(1, &[A]);
    world.wait(RESTART);
    world.down(1, restarting());
    assert_eq!(
        world.prefixes_of(2),
        [A],
        "B and the IPv6 prefix were stale for too long"
    );
    assert_eq!(stale(&world), 1);
}

#[test]
fn restarts_one_after_the_other_keep_nothing_for_ever() {
    let mut world = world();
    for _ in 0..5 {
        world.down(1, restarting());
        world.wait(RESTART / 3);
        world.up_with(1, preserving);
    }
    assert!(world.prefixes_of(2).is_empty());
}

#[test]
fn what_yields_still_yields_after_a_second_restart() {
    let mut world = world();
    world.add(3, External, |_| {});
    world.up(3);
    world.announce(3, &[A]);
    let yields = Ending::Restarting {
        families: Families::all(),
        restart_time: RESTART,
        long_lived: LongLived::NONE,
        yields: true,
    };
    world.down(1, yields);
    world.up_with(1, preserving);
    world.down(1, restarting());
    assert_eq!(best_of(&mut world), "peer3");
}

#[test]
fn a_peer_that_comes_back_and_never_ends_is_not_waited_for_for_ever() {
    let mut world = world();
    world.down(1, restarting());
    world.up_with(1, preserving);
    world.announce(1, &[A]);
    world.wait(Duration::from_secs(299));
    assert_eq!(world.prefixes_of(2).len(), 3);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.prefixes_of(2), [A]);
}

#[test]
fn a_new_session_without_the_end_of_the_old_one_is_a_restart() {
    let mut world = world();
    world.up_with(1, preserving);
    assert_eq!((world.prefixes_of(2).len(), stale(&world)), (3, 3));
    world.end_of_rib(1, Family::IPv4);
    world.end_of_rib(1, Family::IPv6);
    assert!(world.prefixes_of(2).is_empty());
}

#[test]
fn a_stale_route_stays_the_best_unless_it_yields() {
    for (yields, best) in [(false, "peer1"), (true, "peer3")] {
        let mut world = world();
        world.add(3, External, |_| {});
        world.up(3);
        world.announce(3, &[A]);
        world.settle();
        world.down(
            1,
            Ending::Restarting {
                families: Families::all(),
                restart_time: RESTART,
                long_lived: LongLived::NONE,
                yields,
            },
        );
        assert_eq!(best_of(&mut world), best);
    }
}

#[test]
fn a_withdrawal_counts_for_a_stale_route_too() {
    let mut world = world();
    world.down(1, restarting());
    world.up_with(1, preserving);
    world.withdraw(1, &[A]);
    assert_eq!(world.prefixes_of(2), [B, V6]);
    assert_eq!(stale(&world), 2);
}

#[test]
fn a_refresh_with_marks_drops_what_was_not_repeated() {
    let mut world = world();
    world.refresh(1, Family::IPv4, RefreshKind::Begin);
    world.announce(1, &[B]);
    assert_eq!(world.prefixes_of(2), [A, B, V6]);
    world.refresh(1, Family::IPv4, RefreshKind::End);
    assert_eq!(world.prefixes_of(2), [B, V6]);
}

#[test]
fn an_end_of_a_refresh_without_a_begin_means_nothing() {
    let mut world = world();
    world.refresh(1, Family::IPv4, RefreshKind::End);
    assert_eq!(world.prefixes_of(2), [A, B, V6]);
}

#[test]
fn a_second_begin_within_a_second_begins_nothing() {
    let mut world = world();
    world.refresh(1, Family::IPv4, RefreshKind::Begin);
    world.announce(1, &[A]);
    world.refresh(1, Family::IPv4, RefreshKind::Begin);
    world.announce(1, &[B]);
    world.refresh(1, Family::IPv4, RefreshKind::End);
    assert_eq!(world.prefixes_of(2), [A, B, V6]);
    // One that comes later does.
    world.wait(Duration::from_secs(2));
    world.refresh(1, Family::IPv4, RefreshKind::Begin);
    world.announce(1, &[A]);
    world.refresh(1, Family::IPv4, RefreshKind::End);
    assert_eq!(world.prefixes_of(2), [A, V6]);
}

#[test]
fn a_refresh_that_never_ends_ends_by_itself() {
    let mut world = world();
    world.refresh(1, Family::IPv4, RefreshKind::Begin);
    world.announce(1, &[B]);
    world.wait(Duration::from_secs(300));
    assert_eq!(world.prefixes_of(2), [B, V6]);
}

#[test]
fn we_are_complete_when_every_configured_peer_has_told_all() {
    let mut world = World::new(settings());
    world.add(1, External, |_| {});
    world.add(2, External, |_| {});
    world.up_with(1, preserving);
    world.end_of_rib(1, Family::IPv4);
    world.end_of_rib(1, Family::IPv6);
    world.settle();
    assert!(!world.rib.is_complete(), "peer 2 is not heard yet");
    world.up_with(2, preserving);
    world.end_of_rib(2, Family::IPv4);
    world.settle();
    assert!(!world.rib.is_complete(), "nor of all families");
    world.end_of_rib(2, Family::IPv6);
    world.settle();
    assert!(world.rib.is_complete());
    world.down(2, Ending::Gone);
    world.settle();
    assert!(world.rib.is_complete(), "once and for all");
}

#[test]
fn we_do_not_wait_longer_than_the_deferral() {
    let mut world = World::new(settings());
    world.add(1, External, |_| {});
    world.wait(Duration::from_secs(14));
    assert!(!world.rib.is_complete());
    world.wait(Duration::from_secs(1));
    assert!(world.rib.is_complete());
}

#[test]
fn a_peer_that_sends_no_end_of_rib_counts_as_heard_after_a_moment() {
    let mut world = World::new(settings());
    world.add(1, External, |_| {});
    world.up(1);
    world.settle();
    assert!(!world.rib.is_complete());
    world.wait(Duration::from_secs(3));
    assert!(world.rib.is_complete());
}

#[test]
fn a_peer_that_is_shut_down_is_not_waited_for() {
    let mut world = World::new(settings());
    world.add(1, External, |config| {
        config.shutdown = Some("maintenance".into());
    });
    world.settle();
    assert!(world.rib.is_complete());
}

#[test]
fn after_our_own_restart_end_of_rib_waits_for_the_others() {
    let restarted = |config: &mut bgp::config::PeerConfig| {
        config.graceful_restart = Some(bgp::config::GracefulRestartConfig {
            restart_time: 120,
            long_lived: 0,
            notification: false,
            restarted: true,
        });
    };
    let mut world = World::new(settings());
    world.add(1, External, restarted);
    world.add(2, External, restarted);
    world.up_with(1, preserving);
    world.up_with(2, preserving);
    world.announce(1, &[A]);
    assert_eq!(world.prefixes_of(2), [A], "routes do not wait");
    assert!(world.peer(2).ends.is_empty());
    for peer in [1, 2] {
        world.end_of_rib(peer, Family::IPv4);
        world.end_of_rib(peer, Family::IPv6);
    }
    world.settle();
    assert_eq!((world.peer(1).ends.len(), world.peer(2).ends.len()), (2, 2));
}

/// Restart time 120 s, and another hour for IPv4.
fn for_long() -> Ending {
    let mut long_lived = LongLived::NONE;
    long_lived.set(Family::IPv4, Duration::from_secs(3600));
    Ending::Restarting {
        families: Families::all(),
        restart_time: RESTART,
        long_lived,
        yields: false,
    }
}

/// As `world`, and peer 3 listens who knows what long-lived stale is; A may stay long, B not.
fn long_lived() -> World {
    let mut world = world();
    world.add(3, External, |_| {});
    world.up_with(3, |session| session.knows_long_stale = true);
    let mut refuses = attributes(1, External, 1);
    refuses.communities = Box::new([Community::NO_LLGR]);
    world.announce_with(1, refuses, vec![prefix(B).into()]);
    world.settle();
    world.down(1, for_long());
    world.settle();
    world
}

#[test]
fn after_the_restart_time_routes_stay_as_a_last_resort_where_that_was_agreed() {
    let mut world = long_lived();
    assert_eq!(world.prefixes_of(2), [A, B, V6]);
    world.wait(RESTART);
    assert_eq!(
        world.prefixes_of(3),
        [A],
        "not what refuses it, nor the other family"
    );
    let told = world.peer(3).told(A).expect("told");
    assert!(told.communities.contains(&Community::LLGR_STALE));
    assert!(
        world.prefixes_of(2).is_empty(),
        "who does not know what that is"
    );
    assert!(world.kernel.contains_key(&prefix(A)));
    world.wait(Duration::from_secs(3600));
    assert!(world.prefixes_of(3).is_empty());
    assert!(world.kernel.is_empty());
}

#[test]
fn any_other_route_is_better_than_a_long_lived_stale_one() {
    let mut world = long_lived();
    world.add(4, External, |_| {});
    world.up(4);
    let worse = attributes(4, External, 7);
    world.announce_with(4, worse.clone(), vec![prefix(A).into()]);
    world.settle();
    assert_ne!(world.peer(3).told(A).expect("told").as_path.hops(), 9);
    world.wait(RESTART);
    world.settle();
    assert_eq!(world.peer(3).told(A).expect("told").as_path.hops(), 9);
    assert_eq!(world.prefixes_of(2), [A]);
}

#[test]
fn a_long_lived_stale_route_stays_until_its_peer_is_back_and_has_told_all() {
    let mut world = long_lived();
    world.wait(RESTART + Duration::from_secs(1800));
    world.up_with(1, preserving);
    world.settle();
    assert!(world.kernel.contains_key(&prefix(A)));
    world.announce(1, &[A]);
    world.settle();
    let told = world.peer(3).told(A).expect("told");
    assert!(!told.communities.contains(&Community::LLGR_STALE));
    world.end_of_rib(1, Family::IPv4);
    world.end_of_rib(1, Family::IPv6);
    world.wait(Duration::from_secs(7200));
    assert_eq!(world.prefixes_of(2), [A]);
}

#[test]
fn a_peer_that_does_not_come_back_for_good_does_not_prolong_it() {
    let mut world = long_lived();
    for _ in 0..40 {
        world.wait(RESTART);
        world.up_with(1, preserving);
        world.wait(Duration::from_secs(1));
        world.down(1, for_long());
    }
    world.settle();
    assert!(world.kernel.is_empty(), "the hour is over");
}

#[test]
fn another_import_does_not_make_a_long_lived_stale_route_fresh() {
    let mut world = long_lived();
    world.wait(RESTART);
    world.change(1, |config| {
        config.import = std::sync::Arc::new(bgp::config::Policy::always(
            "other",
            bgp::config::Verdict::Accept,
        ));
    });
    world.settle();
    let told = world.peer(3).told(A).expect("told");
    assert!(told.communities.contains(&Community::LLGR_STALE));
}
