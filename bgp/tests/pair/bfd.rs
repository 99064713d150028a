//! What BFD means for a session (RFC 5882): a dead path ends it at once, whatever graceful restart would keep; what BFD
//! says of an earlier life of the peer does not.

use std::time::Instant;

use bgp::{
    config::{BfdConfig, Hops},
    peer::fsm::{Event, Fsm},
    rib::task::Ending,
    status::SessionState,
    wire::{Cease, Notification},
};

use crate::harness::*;

fn down(heard: Instant) -> Event {
    Event::BfdDown {
        reason: "BFD down: it said nothing for 300 ms".into(),
        heard,
        forwarding: false,
    }
}

fn established() -> Pair {
    let mut pair = Pair::established(|_, _| {});
    pair.pass(seconds(10));
    pair
}

#[test]
fn down_ends_the_session_at_once_and_keeps_no_route() {
    let mut pair = established();
    pair.event(A, down(pair.now));
    let said = Notification::cease(Cease::BfdDown);
    assert_eq!(pair.sides[A].closes, [Some(said)]);
    assert_eq!(pair.sides[A].downs, [Ending::Gone]);
    pair.settle();
    assert_eq!(pair.sides[B].downs, [Ending::Gone]);
}

#[test]
fn while_the_peer_is_heard_but_not_up_no_session_is_tried_or_taken() {
    let mut pair = established();
    pair.event(A, down(pair.now));
    let dials = pair.sides[A].dials.len();
    pair.pass(seconds(300));
    assert_eq!(pair.sides[A].fsm.state(), SessionState::Idle);
    assert!(pair.sides[A].fsm.waits_for_bfd());
    assert_eq!(pair.sides[A].dials.len(), dials);
    assert!(!pair.sides[B].is_up());
    pair.event(A, Event::BfdClear);
    pair.pass(seconds(10));
    assert!(pair.sides[A].is_up());
}

#[test]
fn when_the_peer_falls_silent_sessions_are_tried_again_after_the_penalty() {
    let mut pair = established();
    pair.event(A, down(pair.now));
    pair.event(A, Event::BfdClear);
    assert_eq!(pair.sides[A].fsm.state(), SessionState::Idle);
    pair.pass(seconds(10));
    assert!(pair.sides[A].is_up());
}

#[test]
fn a_path_that_flaps_is_left_alone_longer_each_time() {
    let mut pair = established();
    let mut waits = Vec::new();
    for _ in 0..4 {
        pair.event(A, down(pair.now));
        pair.event(A, Event::BfdClear);
        let fell = pair.now;
        while !pair.sides[A].is_up() {
            pair.pass(seconds(1) / 10);
        }
        waits.push(pair.now - fell);
    }
    assert!(waits.is_sorted(), "{waits:?}");
    assert!(waits[3] >= seconds(4), "{waits:?}");
}

#[test]
fn a_session_that_is_younger_than_the_last_packet_heard_is_not_meant() {
    let mut pair = established();
    let heard = pair.now;
    pair.pass(seconds(1) / 10);
    pair.restart(B, peer_config(65002, 65001));
    pair.start(B);
    pair.pass(seconds(1));
    assert!(pair.sides[A].is_up());
    let downs = pair.sides[A].downs.len();
    pair.event(A, down(heard));
    pair.event(A, Event::BfdClear);
    assert!(pair.sides[A].is_up());
    assert_eq!(pair.sides[A].downs.len(), downs);
}

#[test]
fn routes_kept_over_a_restart_outlive_a_bfd_that_shared_its_fate_and_no_other() {
    for (forwarding, gone) in [(false, 0), (true, 1)] {
        let mut pair = established();
        pair.sides[B].listens = false;
        pair.break_all();
        assert_ne!(pair.sides[A].downs, [Ending::Gone]);
        let kept = pair.sides[A].downs.len();
        pair.event(
            A,
            Event::BfdDown {
                reason: "BFD down".into(),
                heard: pair.now,
                forwarding,
            },
        );
        assert_eq!(pair.sides[A].downs.len(), kept + gone);
    }
}

#[test]
fn a_peer_held_down_stays_so_whatever_bfd_says() {
    let mut pair = established();
    let notification = Notification::administrative_shutdown("");
    let reason = String::new();
    pair.event(
        A,
        Event::Stop {
            notification,
            reason,
        },
    );
    pair.event(A, down(pair.now));
    pair.event(A, Event::BfdClear);
    pair.pass(seconds(60));
    assert_eq!(pair.sides[A].fsm.state(), SessionState::Idle);
    assert!(!pair.sides[A].fsm.waits_for_bfd());
}

/// A has restarted, and BFD is configured on both sides; B dials too.
fn after_a_restart() -> Pair {
    let mut pair = Pair::new(|side, config| {
        config.bfd = Some(BfdConfig {
            min_rx: seconds(1) / 10,
            min_tx: seconds(1) / 10,
            multiplier: 3,
            hops: Hops::Single,
        });
        if let (A, Some(restart)) = (side, &mut config.graceful_restart) {
            restart.restarted = true;
        }
    });
    pair.start(B);
    pair.start(A);
    // What is said of BFD when it begins.
    pair.event(A, Event::BfdClear);
    pair
}

#[test]
fn after_our_restart_bfd_comes_first_and_whoever_dials_meanwhile_hears_no_word() {
    let mut pair = after_a_restart();
    pair.pass(seconds(2));
    assert!(!pair.sides[A].is_up() && pair.sides[A].dials.is_empty());
    assert!(!pair.sides[B].dials.is_empty());
    assert!(pair.sides[A].closes.iter().all(Option::is_none));
    pair.event(A, Event::BfdUp);
    pair.settle();
    assert!(!pair.sides[A].is_up(), "B's BGP need not know of it yet");
    pair.pass(Fsm::BFD_SETTLED);
    assert!(pair.sides[A].is_up());
}

#[test]
fn after_our_restart_a_bfd_that_comes_last_is_still_given_its_moment() {
    let mut pair = after_a_restart();
    pair.pass(Fsm::BFD_FIRST - Fsm::BFD_SETTLED / 2);
    pair.event(A, Event::BfdUp);
    pair.pass(Fsm::BFD_SETTLED / 2);
    assert!(!pair.sides[A].is_up());
    pair.pass(Fsm::BFD_SETTLED / 2);
    assert!(pair.sides[A].is_up());
}

#[test]
fn after_our_restart_a_session_does_not_wait_for_a_bfd_that_never_comes() {
    let mut pair = after_a_restart();
    pair.event(A, Event::BfdClear);
    pair.pass(Fsm::BFD_FIRST + seconds(1));
    assert!(pair.sides[A].is_up());
}

#[test]
fn nothing_is_lost_where_bfd_was_never_up() {
    let mut pair = established();
    pair.event(A, Event::BfdClear);
    pair.pass(seconds(60));
    assert!(pair.sides[A].is_up() && pair.sides[A].downs.is_empty());
}
