//! Two connections at once (RFC 4271 §6.8), silent ones, and a peer that comes back while its old one seems to live.

use bgp::{
    config::Connect,
    peer::fsm::{Event, Fsm},
    rib::task::Ending,
    status::SessionState,
    wire::{Cease, Message, Notification},
};

use crate::harness::*;

/// A small generator, so that each seed is another order of events.
fn shuffled(seed: u64) -> Box<dyn FnMut(usize) -> usize> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    Box::new(move |choices| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits") % choices
    })
}

#[test]
fn one_dial_establishes_one_session() {
    let pair = Pair::established(|_, _| {});
    assert_eq!(pair.sides[A].dials.len(), 1);
    assert!(pair.sides[B].dials.is_empty());
    for side in &pair.sides {
        assert_eq!(side.ups.len(), 1);
        assert!(side.closes.is_empty() && side.failures.is_empty());
    }
}

#[test]
fn when_both_dial_at_once_one_session_results_in_whatever_order_things_happen() {
    let mut immediately = 0;
    for seed in 0..2000 {
        let mut pair = Pair::new(|_, _| {});
        pair.order = shuffled(seed);
        pair.start(A);
        pair.start(B);
        pair.settle();
        if pair
            .sides
            .iter()
            .all(|side| side.is_up() && side.downs.is_empty())
        {
            immediately += 1;
        }
        pair.pass(seconds(10));
        let [a, b] = &pair.sides;
        assert!(
            a.is_up() && b.is_up(),
            "seed {seed}: {:?} {:?}",
            a.states,
            b.states
        );
        let last = |side: &Side| side.ups.last().map(|(id, _)| *id);
        assert_eq!(
            last(a),
            last(b),
            "seed {seed}: both must keep the same connection"
        );
        pair.pass(seconds(60));
        assert!(pair.sides.iter().all(Side::is_up), "seed {seed}: it stays");
    }
    println!("{immediately} of 2000 orders needed no second attempt");
    assert!(immediately > 1500);
}

#[test]
fn the_connection_of_the_higher_identifier_survives_a_true_collision() {
    // Both connections get their OPENs out before anything is read; then A reads first the one, then the other.
    let mut pair = Pair::new(|_, _| {});
    pair.start(A);
    pair.start(B);
    pair.step();
    pair.step();
    let mut first = [0, 1].into_iter();
    pair.order = Box::new(move |_| first.next().unwrap_or(0));
    pair.settle();
    let [a, b] = &pair.sides;
    assert!(a.is_up() && b.is_up());
    // A dialled connection 1, B (the higher) connection 2.
    assert_eq!(a.ups.last().map(|(id, _)| id.0), Some(2));
    assert!(
        a.closes
            .iter()
            .chain(&b.closes)
            .flatten()
            .all(|said| said == &Notification::cease(Cease::ConnectionCollisionResolution))
    );
}

#[test]
fn a_silent_socket_never_keeps_the_real_peer_out() {
    let mut pair = Pair::new(|side, config| {
        if side == B {
            config.connect = Connect::Passive;
        }
    });
    pair.start(B);
    for _ in 0..20 {
        pair.stranger(B);
    }
    // Only so many are kept; the others are told that it is for want of room (RFC 4486 §4).
    assert_eq!(pair.sides[B].closes.len(), 20 - Fsm::PENDING);
    let out_of_resources = Notification::cease(Cease::OutOfResources);
    for said in &pair.sides[B].closes {
        assert_eq!(said.as_ref(), Some(&out_of_resources));
    }
    pair.start(A);
    pair.settle();
    assert!(pair.sides[A].is_up() && pair.sides[B].is_up());
    // … and they all go once the session is up.
    assert_eq!(pair.sides[B].closes.len(), 20);
}

#[test]
fn sockets_that_come_and_go_do_not_put_off_our_dial() {
    let mut pair = Pair::new(|side, config| {
        if side == B {
            config.connect = Connect::After(seconds(10));
        }
    });
    pair.sides[A].listens = false;
    pair.start(B);
    for _ in 0..20 {
        let id = pair.stranger(B);
        pair.pass(seconds(1));
        let closed = Event::Closed(id, bgp::peer::fsm::Loss::Closed, "it closed".into());
        pair.event(B, closed);
    }
    assert!(!pair.sides[B].dials.is_empty());
}

#[test]
fn a_connection_beside_a_session_is_closed_and_the_session_is_asked_for_a_sign_of_life() {
    let mut pair = Pair::established(|_, config| config.graceful_restart = None);
    let before = pair.sides[B].keepalives;
    let newcomer = pair.stranger(B);
    assert_eq!(pair.sides[B].keepalives, before + 1);
    let open = pair.sides[A].opens[0].clone();
    pair.pass(seconds(2));
    pair.event(B, Event::Received(newcomer, Message::Open(open)));
    assert!(pair.sides[B].is_up() && pair.sides[B].downs.is_empty());
    assert_eq!(
        pair.sides[B].closes,
        [Some(Notification::cease(
            Cease::ConnectionCollisionResolution
        ))]
    );
}

#[test]
fn a_silent_connection_beside_a_session_goes_after_ten_seconds() {
    let mut pair = Pair::established(|_, _| {});
    pair.stranger(B);
    pair.pass(Fsm::SPARE_OPEN_HOLD);
    assert_eq!(
        pair.sides[B].closes,
        [Some(Notification::hold_timer_expired())]
    );
    assert!(pair.sides[B].is_up() && pair.sides[B].downs.is_empty());
}

#[test]
fn a_peer_that_restarts_unseen_takes_its_place_and_its_routes_are_kept() {
    // RFC 4724 §4.2: the old connection is still Established when the OPEN comes on a new one.
    let mut pair = Pair::established(|_, _| {});
    pair.pass(seconds(4));
    pair.cut = true;
    pair.pass(seconds(2));
    pair.cut = false;
    pair.restart(A, peer_config(65001, 65002));
    // B never learns that the old connection is gone.
    let newcomer = pair.stranger(B);
    let mut open = pair.sides[B].opens[0].clone();
    open.asn = 65001;
    open.id = std::net::Ipv4Addr::new(10, 0, 0, 1);
    open.capabilities
        .retain(|capability| !matches!(capability, bgp::wire::Capability::FourOctetAs(_)));
    open.capabilities
        .push(bgp::wire::Capability::FourOctetAs(65001));
    pair.event(B, Event::Received(newcomer, Message::Open(open)));
    assert_eq!(pair.sides[B].closes, [None], "without a NOTIFICATION");
    assert!(matches!(
        pair.sides[B].downs[..],
        [Ending::Restarting { yields: false, .. }]
    ));
    pair.event(B, Event::Received(newcomer, Message::Keepalive));
    assert_eq!(pair.sides[B].fsm.state(), SessionState::Established);
    assert_eq!(pair.sides[B].ups.len(), 2);
}
