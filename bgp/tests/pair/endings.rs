//! What becomes of routes when a session ends: a restart keeps them, a dead path does not (RFC 4724, RFC 8538).

use bgp::{
    config::GracefulRestartConfig,
    peer::fsm::{Event, Loss},
    prefix::{Families, Family},
    rib::task::{Ending, LongLived},
    wire::{Cease, Notification},
};

use crate::harness::*;

const KEPT: Ending = Ending::Restarting {
    families: Families::all(),
    restart_time: seconds(120),
    long_lived: LongLived::NONE,
    yields: false,
};
const KEPT_BUT_YIELDS: Ending = Ending::Restarting {
    families: Families::all(),
    restart_time: seconds(120),
    long_lived: LongLived::NONE,
    yields: true,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Offer {
    Nothing,
    Restart,
    WithNotification,
}

fn pair(offer: Offer) -> Pair {
    let mut pair = Pair::established(|_, config| {
        config.graceful_restart = (offer != Offer::Nothing).then_some(GracefulRestartConfig {
            restart_time: 120,
            long_lived: 0,
            notification: offer == Offer::WithNotification,
            restarted: false,
        });
    });
    pair.pass(seconds(10));
    pair
}

#[test]
fn each_cause_has_its_ending_by_what_was_agreed() {
    use Offer::*;
    let closed = |loss| move |id| Event::Closed(id, loss, "gone".into());
    let received = |said: Notification| {
        move |id| Event::Received(id, bgp::wire::Message::Notification(said.clone()))
    };
    type Cause = Box<dyn Fn(bgp::peer::fsm::ConnectionId) -> Event>;
    let causes: Vec<(&str, Cause, [Ending; 3])> = vec![
        (
            "TCP closed without a word",
            Box::new(closed(Loss::Closed)),
            [Ending::Gone, KEPT, KEPT],
        ),
        (
            "TCP got no acknowledgement",
            Box::new(closed(Loss::Unresponsive)),
            [Ending::Gone, Ending::Gone, KEPT_BUT_YIELDS],
        ),
        (
            "a NOTIFICATION",
            Box::new(received(Notification::cease(Cease::AdministrativeReset))),
            [Ending::Gone, Ending::Gone, KEPT],
        ),
        (
            "another connection is the one that stays for them",
            Box::new(received(Notification::cease(
                Cease::ConnectionCollisionResolution,
            ))),
            [Ending::Gone, KEPT, KEPT],
        ),
        (
            "their hold timer expired",
            Box::new(received(Notification::hold_timer_expired())),
            [Ending::Gone, Ending::Gone, KEPT_BUT_YIELDS],
        ),
        (
            "a Hard Reset",
            Box::new(received(Notification::hard_reset(
                &Notification::administrative_shutdown("bye"),
            ))),
            [Ending::Gone, Ending::Gone, Ending::Gone],
        ),
        (
            "a malformed message",
            Box::new(|id| Event::Malformed(id, Notification::new(1, 1), "marker".into())),
            [Ending::Gone, Ending::Gone, KEPT],
        ),
        (
            "the interface is gone",
            Box::new(|_| Event::PathDead("interface eth1 is gone".into())),
            [Ending::Gone, Ending::Gone, Ending::Gone],
        ),
        (
            "no longer configured",
            Box::new(|_| Event::Stop {
                notification: Notification::cease(Cease::PeerDeconfigured),
                reason: "no longer configured".into(),
            }),
            [Ending::Gone, Ending::Gone, Ending::Gone],
        ),
        (
            "too many prefixes",
            Box::new(|_| Event::Close {
                notification: Notification::cease(Cease::MaximumPrefixes),
                reason: "too many prefixes".into(),
                stay_away: seconds(60),
            }),
            [Ending::Gone, Ending::Gone, Ending::Gone],
        ),
        (
            "our configuration changed",
            Box::new(|_| Event::Reconnect {
                notification: Notification::cease(Cease::OtherConfigurationChange),
                reason: "our configuration changed".into(),
            }),
            [Ending::Gone, KEPT, KEPT],
        ),
    ];
    for (name, cause, endings) in &causes {
        for (offer, ending) in [Nothing, Restart, WithNotification]
            .into_iter()
            .zip(endings)
        {
            let mut pair = pair(offer);
            let (id, _) = pair.sides[A].ups[0];
            pair.event(A, cause(id));
            assert_eq!(pair.sides[A].downs, [*ending], "{name}, {offer:?}");
        }
    }
}

#[test]
fn hold_timer_expiry_keeps_routes_as_yielding_only_with_the_n_bit() {
    for (offer, ending) in [
        (Offer::Nothing, Ending::Gone),
        (Offer::Restart, Ending::Gone),
        (Offer::WithNotification, KEPT_BUT_YIELDS),
    ] {
        let mut pair = pair(offer);
        pair.cut = true;
        pair.pass(seconds(10));
        assert_eq!(pair.sides[A].downs, [ending], "{offer:?}");
        assert_eq!(pair.sides[B].downs, [ending], "{offer:?}");
    }
}

#[test]
fn a_restart_of_ours_is_silent_or_keeps_by_notification() {
    for (offer, said, theirs) in [
        (
            Offer::Nothing,
            Some(Cease::OtherConfigurationChange),
            Ending::Gone,
        ),
        (Offer::Restart, None, KEPT),
        (
            Offer::WithNotification,
            Some(Cease::OtherConfigurationChange),
            KEPT,
        ),
    ] {
        let mut pair = pair(offer);
        pair.event(
            A,
            Event::Reconnect {
                notification: Notification::cease(Cease::OtherConfigurationChange),
                reason: "we restart".into(),
            },
        );
        assert_eq!(
            pair.sides[A].closes[0],
            said.map(Notification::cease),
            "{offer:?}"
        );
        pair.settle();
        assert_eq!(pair.sides[B].downs, [theirs], "{offer:?}");
    }
}

#[test]
fn what_is_meant_for_good_becomes_a_hard_reset_where_a_notification_would_keep_routes() {
    for (offer, hard) in [(Offer::Restart, false), (Offer::WithNotification, true)] {
        let mut pair = pair(offer);
        pair.event(
            A,
            Event::Stop {
                notification: Notification::administrative_shutdown("rack moves"),
                reason: "shut down".into(),
            },
        );
        let said = pair.sides[A].closes[0].clone().expect("it is said");
        assert_eq!(said.is_hard_reset(), hard);
        assert_eq!(said.communication().as_deref(), Some("rack moves"));
        pair.settle();
        assert_eq!(pair.sides[B].downs, [Ending::Gone]);
    }
}

#[test]
fn a_peer_without_families_in_its_capability_restarts_nothing() {
    // RFC 4724 §3: the capability without families promises End-of-RIB only.
    let mut pair = Pair::new(|_, _| {});
    pair.start(A);
    let id = pair.stranger(A);
    let mut open = pair.sides[A].opens[0].clone();
    open.asn = 65002;
    open.id = std::net::Ipv4Addr::new(10, 0, 0, 2);
    for capability in &mut open.capabilities {
        if let bgp::wire::Capability::GracefulRestart(restart) = capability {
            restart.families.clear();
        }
    }
    pair.event(A, Event::Received(id, bgp::wire::Message::Open(open)));
    pair.event(A, Event::Received(id, bgp::wire::Message::Keepalive));
    let agreed = pair.sides[A].ups[0].1.clone();
    assert_eq!(agreed.expects_end_of_rib(), Families::all());
    assert_eq!(agreed.preserved(), Families::empty());
    pair.event(A, Event::Closed(id, Loss::Closed, "reset".into()));
    assert_eq!(pair.sides[A].downs, [Ending::Gone]);
}

#[test]
fn a_node_that_restarts_twice_within_the_window_loses_nothing() {
    let mut pair = pair(Offer::Restart);
    for round in 1..=2 {
        let mut config = peer_config(65001, 65002);
        config.graceful_restart = config
            .graceful_restart
            .map(|restart| GracefulRestartConfig {
                restarted: true,
                ..restart
            });
        pair.restart(A, config);
        pair.settle();
        assert_eq!(pair.sides[B].downs.len(), round);
        assert_eq!(pair.sides[B].downs.last(), Some(&KEPT));
        pair.pass(seconds(1));
        pair.start(A);
        pair.pass(seconds(12));
        assert!(pair.sides.iter().all(Side::is_up), "round {round}");
        let (_, agreed) = pair.sides[B].ups.last().expect("it is up");
        assert_eq!(
            agreed.preserved(),
            Families::all(),
            "its F bits keep what is stale"
        );
        assert_eq!(
            agreed.expects_end_of_rib(),
            Families::empty(),
            "it waits for ours"
        );
    }
}

#[test]
fn the_r_bit_is_ours_until_all_routes_are_in_and_the_f_bit_from_the_first_session_on() {
    let bits = |pair: &Pair| {
        let open = pair.sides[A].opens.last().expect("it sent one");
        let restart = open.graceful_restart().expect("it offers restart");
        (
            restart.restarted,
            restart.families.iter().all(|(_, preserved)| *preserved),
        )
    };
    // First start: nothing was preserved.
    let mut pair = pair(Offer::Restart);
    assert_eq!(bits(&pair), (false, false));
    // A connection lost in between changes nothing in our kernel.
    pair.break_all();
    pair.settle();
    assert_eq!(bits(&pair), (false, true));
    // After a restart of the process.
    let mut config = peer_config(65001, 65002);
    config.graceful_restart = config
        .graceful_restart
        .map(|restart| GracefulRestartConfig {
            restarted: true,
            ..restart
        });
    pair.restart(A, config);
    pair.start(A);
    pair.settle();
    assert_eq!(bits(&pair), (true, true));
    pair.event(A, Event::Complete);
    pair.pass(seconds(10));
    pair.break_all();
    pair.settle();
    assert_eq!(bits(&pair), (false, true));
}

/// How long routes of the peer stay on each side after a break, if A and B offer so many seconds.
fn long_lived(offers: [u32; 2]) -> [Option<LongLived>; 2] {
    let mut pair = Pair::established(|side, config| {
        if let Some(restart) = &mut config.graceful_restart {
            restart.long_lived = offers[side];
        }
    });
    pair.break_all();
    pair.sides.each_ref().map(|side| match side.downs[..] {
        [Ending::Restarting { long_lived, .. }] => Some(long_lived),
        _ => None,
    })
}

/// The same for both families.
fn both(time: u64) -> Option<LongLived> {
    let mut long_lived = LongLived::NONE;
    for family in Family::ALL {
        long_lived.set(family, seconds(time));
    }
    Some(long_lived)
}

#[test]
fn routes_stay_longer_where_both_offered_it_as_long_as_their_owner_asks() {
    assert_eq!(long_lived([600, 3600]), [both(3600), both(600)]);
    assert_eq!(long_lived([0, 3600]), [both(0); 2]);
    assert_eq!(long_lived([0, 0]), [both(0); 2]);
}
