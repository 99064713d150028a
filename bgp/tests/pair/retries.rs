//! When we dial, and when we do not.

use std::time::Duration;

use bgp::{
    config::Connect,
    peer::fsm::Event,
    status::SessionState,
    wire::{Cease, Notification},
};

use crate::harness::*;

/// The waits between dials.
fn waits(side: &Side) -> Vec<Duration> {
    side.dials.windows(2).map(|two| two[1] - two[0]).collect()
}

fn jittered(wait: Duration, whole: Duration) -> bool {
    (whole.mul_f64(0.75)..=whole).contains(&wait)
}

#[test]
fn attempts_that_are_refused_wait_one_second_then_longer_up_to_the_limit() {
    let mut pair = Pair::new(|_, _| {});
    pair.sides[B].listens = false;
    pair.start(A);
    pair.pass(seconds(60));
    let waits = waits(&pair.sides[A]);
    for (wait, whole) in waits.iter().zip([1, 2, 4, 5, 5, 5, 5]) {
        assert!(jittered(*wait, seconds(whole)), "{waits:?}");
    }
    assert!(waits.len() >= 12, "{waits:?}");
}

#[test]
fn a_peer_that_appears_is_found_within_the_limit() {
    let mut pair = Pair::new(|side, config| {
        if side == B {
            config.connect = Connect::Passive;
        }
    });
    pair.sides[B].listens = false;
    pair.start(A);
    pair.pass(seconds(3600));
    pair.sides[B].listens = true;
    pair.start(B);
    pair.pass(seconds(5));
    assert!(pair.sides[A].is_up());
}

#[test]
fn a_dial_without_an_answer_is_given_up_and_repeated() {
    let mut pair = Pair::new(|_, _| {});
    pair.cut = true;
    pair.start(A);
    pair.pass(seconds(60));
    assert!(pair.sides[A].dials.len() >= 6);
    assert!(pair.sides[A].failures[0].contains("no answer to our SYN"));
}

#[test]
fn the_one_that_listens_dials_a_second_after_its_start_and_then_only_after_ten() {
    let mut pair = Pair::new(|side, config| {
        if side == B {
            config.connect = Connect::After(seconds(10));
        }
    });
    pair.sides[A].listens = false;
    let begun = pair.now;
    pair.start(B);
    assert_eq!(pair.sides[B].fsm.state(), SessionState::Active);
    pair.pass(seconds(30));
    let dials = &pair.sides[B].dials;
    let (first, second) = (dials[0] - begun, dials[1] - dials[0]);
    assert!(jittered(first, seconds(1)), "{first:?}");
    assert!(jittered(second, seconds(10)), "{second:?}");
}

#[test]
fn a_passive_peer_is_never_dialled() {
    let mut pair = Pair::new(|_, config| config.connect = Connect::Passive);
    pair.start(A);
    pair.start(B);
    pair.pass(seconds(1000));
    assert!(pair.sides.iter().all(|side| side.dials.is_empty()));
    assert_eq!(pair.sides[A].fsm.state(), SessionState::Active);
}

#[test]
fn after_a_graceful_close_the_next_dial_follows_at_once() {
    let mut pair = Pair::established(|_, _| {});
    pair.pass(seconds(60));
    pair.break_all();
    assert_eq!(pair.sides[A].dials.last(), Some(&pair.now));
    pair.settle();
    assert!(pair.sides.iter().all(Side::is_up));
}

#[test]
fn a_session_that_dies_young_again_and_again_is_retried_ever_later() {
    let mut pair = Pair::established(|_, _| {});
    for _ in 0..6 {
        pair.break_all();
        // Until it is up again, and no longer.
        while !pair.sides[A].is_up() {
            pair.pass(Duration::from_millis(100));
        }
    }
    let waits = waits(&pair.sides[A]);
    assert!(jittered(waits[0], seconds(1)), "{waits:?}");
    assert!(waits.last() > waits.first(), "{waits:?}");
}

#[test]
fn a_peer_that_shut_us_down_is_not_pestered() {
    let mut pair = Pair::established(|_, _| {});
    pair.pass(seconds(60));
    let dials = pair.sides[A].dials.len();
    pair.event(
        B,
        Event::Stop {
            notification: Notification::administrative_shutdown("maintenance"),
            reason: "shut down".into(),
        },
    );
    pair.settle();
    assert_eq!(pair.sides[A].dials.len(), dials, "not at once");
    assert!(pair.sides[A].failures[0].contains("maintenance"));
    pair.pass(seconds(600));
    // It refuses each time, and says why.
    assert!((100..160).contains(&(pair.sides[A].dials.len() - dials)));
    assert_eq!(pair.sides[B].fsm.state(), SessionState::Idle);
}

#[test]
fn errors_in_sessions_keep_a_peer_in_idle_ever_longer_and_it_is_refused_there() {
    let mut pair = Pair::established(|side, config| {
        if side == B {
            config.connect = Connect::Passive;
        }
    });
    let malformed = |pair: &mut Pair| {
        let (id, _) = *pair.sides[B].ups.last().expect("it is up");
        let said = Notification::new(Notification::UPDATE_MESSAGE_ERROR, 1);
        pair.event(B, Event::Malformed(id, said, "malformed".into()));
        pair.settle();
    };
    let mut held = Vec::new();
    for _ in 0..4 {
        malformed(&mut pair);
        assert_eq!(pair.sides[B].fsm.state(), SessionState::Idle);
        let ups = pair.sides[B].ups.len();
        let since = pair.now;
        while pair.sides[B].ups.len() == ups {
            pair.pass(Duration::from_millis(100));
            assert!(pair.now - since < seconds(70));
        }
        held.push(pair.now - since);
    }
    assert!(held[3] > held[0], "{held:?}");
    // A session that lasted makes good for it.
    pair.pass(seconds(300));
    malformed(&mut pair);
    pair.pass(seconds(6));
    assert!(pair.sides[B].is_up());
}

#[test]
fn an_order_to_stay_away_is_kept_and_then_over() {
    let mut pair = Pair::established(|_, _| {});
    let order = Event::Close {
        notification: Notification::cease(Cease::MaximumPrefixes),
        reason: "too many prefixes".into(),
        stay_away: seconds(60),
    };
    pair.event(B, order);
    pair.pass(seconds(59));
    assert_eq!(pair.sides[B].fsm.state(), SessionState::Idle);
    pair.pass(seconds(20));
    assert!(pair.sides.iter().all(Side::is_up));
}
