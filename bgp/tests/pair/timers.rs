//! Hold, keepalive, send hold: what keeps a session and what ends it by the clock alone.

use bgp::{
    config::Connect,
    peer::fsm::{Event, Fsm},
    rib::task::Ending,
    status::SessionState,
    wire::{Notification, Update},
};

use crate::harness::*;

#[test]
fn a_session_lives_on_keepalives_alone() {
    let mut pair = Pair::established(|_, _| {});
    pair.pass(seconds(3600));
    for side in &pair.sides {
        assert!(side.is_up() && side.downs.is_empty());
        // Every 2.25 to 3 seconds (RFC 4271 §10: jitter takes off up to a quarter).
        assert!(
            (1200..=1600).contains(&side.keepalives),
            "{}",
            side.keepalives
        );
    }
}

#[test]
fn the_smaller_hold_time_counts_and_keepalives_follow_it() {
    let mut pair = Pair::established(|side, config| {
        config.timers.hold = seconds(if side == A { 90 } else { 30 });
        config.timers.keepalive = seconds(60);
    });
    let [a, b] = &pair.sides;
    for side in [a, b] {
        let agreed = &side.ups[0].1;
        assert_eq!((agreed.hold, agreed.keepalive), (seconds(30), seconds(10)));
    }
    pair.pass(seconds(600));
    assert!(pair.sides.iter().all(Side::is_up));
}

#[test]
fn a_hold_time_that_changes_between_the_opens_is_not_the_one_that_was_offered() {
    let mut pair = Pair::new(|side, config| {
        config.timers.hold = seconds(30);
        if side == B {
            config.connect = Connect::Passive;
        }
    });
    pair.start(B);
    pair.start(A);
    while pair.sides[A].opens.is_empty() {
        assert!(pair.step());
    }
    let mut changed = (**pair.sides[A].fsm.config()).clone();
    changed.timers.hold = seconds(9);
    let id = std::net::Ipv4Addr::new(10, 0, 0, 1);
    pair.sides[A].fsm.reconfigure(changed.into(), id);
    pair.settle();
    for side in &pair.sides {
        assert_eq!(side.ups[0].1.hold, seconds(30));
    }
    assert_eq!(pair.sides[A].fsm.waiting(), ["timers.holdSeconds"]);
}

#[test]
fn hold_time_zero_means_no_keepalives_and_no_end() {
    let mut pair = Pair::established(|_, config| config.timers.hold = seconds(0));
    let before = pair.sides[A].keepalives;
    pair.cut = true;
    // Longer than the send hold time: that nothing is said is no sign that nothing is taken.
    pair.pass(Fsm::SEND_HOLD * 3);
    assert_eq!(pair.sides[A].keepalives, before);
    assert!(pair.sides.iter().all(Side::is_up));
}

#[test]
fn hold_time_zero_does_not_make_the_wait_for_the_first_keepalive_endless() {
    let mut pair = Pair::new(|side, config| {
        config.timers.hold = seconds(0);
        if side == B {
            config.connect = Connect::Passive;
        }
    });
    pair.start(B);
    pair.start(A);
    while pair.sides[A].fsm.state() != SessionState::OpenConfirm {
        assert!(pair.step());
    }
    pair.cut = true;
    pair.pass(Fsm::OPEN_HOLD);
    let said = Some(Notification::hold_timer_expired());
    assert_eq!(pair.sides[A].closes, [said]);
    assert_eq!(pair.sides[A].failures, ["it never confirmed our OPEN"]);
}

#[test]
fn silence_ends_the_session_when_the_hold_time_is_over() {
    let mut pair = Pair::established(|_, _| {});
    pair.cut = true;
    pair.pass(seconds(8));
    assert!(pair.sides.iter().all(Side::is_up));
    pair.pass(seconds(2));
    for side in &pair.sides {
        assert!(!side.is_up());
        assert_eq!(side.closes, [Some(Notification::hold_timer_expired())]);
        // Graceful restart was agreed, but a silent path is a dead path.
        assert_eq!(side.downs, [Ending::Gone]);
        assert!(side.failures[0].contains("said nothing for 9 s"));
    }
}

#[test]
fn what_is_not_read_yet_keeps_the_session() {
    let mut pair = Pair::established(|_, _| {});
    pair.cut = true;
    for _ in 0..10 {
        pair.pass(seconds(8));
        let (id, _) = pair.sides[A].ups[0];
        pair.event(A, Event::Unread(id));
    }
    assert!(pair.sides[A].is_up());
    assert!(!pair.sides[B].is_up());
}

#[test]
fn updates_keep_the_session_too() {
    let mut pair = Pair::established(|_, _| {});
    pair.cut = true;
    for _ in 0..10 {
        pair.pass(seconds(8));
        let (id, _) = pair.sides[A].ups[0];
        pair.event(A, Event::Updates(id, vec![Update::default()]));
    }
    assert!(pair.sides[A].is_up());
}

#[test]
fn an_open_may_take_four_minutes() {
    let mut pair = Pair::new(|_, _| {});
    pair.start(A);
    pair.sides[B].listens = false;
    pair.settle();
    let id = pair.stranger(A);
    let before = pair.sides[A].closes.len();
    pair.pass(Fsm::OPEN_HOLD - seconds(1));
    assert_eq!(pair.sides[A].closes.len(), before);
    pair.pass(seconds(1));
    assert_eq!(
        pair.sides[A].closes.last(),
        Some(&Some(Notification::hold_timer_expired()))
    );
    let _ = id;
}

#[test]
fn a_peer_that_takes_nothing_is_closed_after_twice_the_hold_time() {
    // RFC 9687. The peer goes on talking, so its hold timer here never expires.
    let config = peer_config(65001, 65002);
    let mut side = Side::new(config, 1);
    let mut now = beginning();
    let mut closed_after = None;
    let begun = {
        let mut pair = Pair::established(|_, _| {});
        let taken = std::mem::replace(&mut pair.sides[A], Side::new(peer_config(1, 2), 9));
        now = now.max(pair.now);
        side.fsm = taken.fsm;
        side.ups = taken.ups;
        pair.now
    };
    let (id, _) = side.ups[0];
    for _ in 0..60 {
        now += seconds(1);
        let mut actions = side
            .fsm
            .handle(now, Event::Received(id, bgp::wire::Message::Keepalive));
        // KEEPALIVEs are due, but none goes out: no Sent comes back.
        actions.extend(side.fsm.handle_timeout(now));
        let said = actions.into_iter().find_map(|action| match action {
            bgp::peer::fsm::Action::Close(_, said) => said,
            _ => None,
        });
        if let Some(said) = said {
            assert_eq!(said, Notification::send_hold_timer_expired());
            closed_after = Some(now - begun);
            break;
        }
    }
    assert_eq!(closed_after, Some(seconds(18)));
}
