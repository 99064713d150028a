//! What is out of place, in every state that has a connection (RFC 4271 §8.2.2, RFC 6608), and OPENs that are refused.

use std::net::Ipv4Addr;

use bgp::{
    config::{PeerAsn, PeerConfig},
    peer::fsm::{Action, ConnectionId, Event, Loss},
    prefix::{Families, Family},
    status::SessionState::{self, *},
    wire::{
        Capability, Cease, Message, Notification, Open, RouteRefresh, Update, refresh::RefreshKind,
    },
};

use crate::harness::*;

const LINK: ConnectionId = ConnectionId(1);

/// A machine with one connection in this state, and the time.
fn machine(state: SessionState) -> (Side, std::time::Instant) {
    let now = beginning();
    let mut side = Side::new(peer_config(65001, 65002), 1);
    side.fsm.handle(now, Event::Start);
    side.fsm.handle(now, Event::Dialled(LINK));
    if state >= OpenConfirm {
        side.fsm
            .handle(now, Event::Received(LINK, Message::Open(open())));
    }
    if state >= Established {
        side.fsm
            .handle(now, Event::Received(LINK, Message::Keepalive));
    }
    assert_eq!(side.fsm.state(), state);
    (side, now)
}

/// The OPEN of the peer.
fn open() -> Open {
    Open {
        asn: 65002,
        hold_time: 9,
        id: Ipv4Addr::new(10, 0, 0, 2),
        capabilities: vec![
            Capability::Multiprotocol(Family::IPv4),
            Capability::Multiprotocol(Family::IPv6),
            Capability::FourOctetAs(65002),
        ],
    }
}

/// What it closes with.
fn closed(actions: &[Action]) -> Option<&Notification> {
    actions.iter().find_map(|action| match action {
        Action::Close(_, said) => said.as_ref(),
        _ => None,
    })
}

const REFRESH: RouteRefresh = RouteRefresh {
    family: Family::IPv4,
    kind: RefreshKind::Request,
};

#[test]
fn every_message_that_is_out_of_place_is_an_fsm_error_of_its_state() {
    let out_of_place = [
        (OpenSent, Message::Keepalive, 1),
        (OpenSent, Message::Update(Update::default()), 1),
        (OpenSent, Message::RouteRefresh(REFRESH), 1),
        (OpenConfirm, Message::Open(open()), 2),
        (OpenConfirm, Message::Update(Update::default()), 2),
        (OpenConfirm, Message::RouteRefresh(REFRESH), 2),
        (Established, Message::Open(open()), 3),
    ];
    for (state, message, subcode) in out_of_place {
        let (mut side, now) = machine(state);
        let kind = message.kind();
        let actions = side.fsm.handle(now, Event::Received(LINK, message));
        let said = closed(&actions).unwrap_or_else(|| panic!("{kind:?} in {state:?}"));
        assert_eq!(
            (said.code, said.subcode),
            (5, subcode),
            "{kind:?} in {state:?}"
        );
        assert_ne!(side.fsm.state(), state);
    }
}

#[test]
fn updates_before_the_session_is_up_are_an_fsm_error() {
    for (state, subcode) in [(OpenSent, 1), (OpenConfirm, 2)] {
        let (mut side, now) = machine(state);
        let event = Event::Updates(LINK, vec![Update::default()]);
        let actions = side.fsm.handle(now, event);
        assert_eq!(closed(&actions).map(|said| said.subcode), Some(subcode));
    }
}

#[test]
fn what_belongs_to_a_session_is_handed_on() {
    let (mut side, now) = machine(Established);
    let actions = side
        .fsm
        .handle(now, Event::Received(LINK, Message::RouteRefresh(REFRESH)));
    assert!(matches!(actions[..], [Action::Refresh(_)]));
    let actions = side
        .fsm
        .handle(now, Event::Updates(LINK, vec![Update::default()]));
    assert!(matches!(&actions[..], [Action::Deliver(updates)] if updates.len() == 1));
    assert!(
        side.fsm
            .handle(now, Event::Received(LINK, Message::Keepalive))
            .is_empty()
    );
}

#[test]
fn a_malformed_message_ends_the_connection_with_what_the_codec_says() {
    for state in [OpenSent, OpenConfirm, Established] {
        let (mut side, now) = machine(state);
        let said = Notification::new(Notification::MESSAGE_HEADER_ERROR, 1);
        let event = Event::Malformed(LINK, said.clone(), "marker".into());
        let actions = side.fsm.handle(now, event);
        assert_eq!(closed(&actions), Some(&said));
        assert!(side.fsm.state() < OpenSent);
    }
}

#[test]
fn a_connection_beside_a_session_that_failed_goes_too_for_idle_has_none() {
    let (mut side, now) = machine(Established);
    let spare = ConnectionId(2);
    side.fsm.handle(now, Event::Accepted(spare));
    let said = Notification::new(Notification::UPDATE_MESSAGE_ERROR, 1);
    let actions = side
        .fsm
        .handle(now, Event::Malformed(LINK, said, "malformed".into()));
    let refused = Notification::cease(Cease::ConnectionRejected);
    assert!(actions.iter().any(
        |action| matches!(action, Action::Close(id, Some(said)) if *id == spare && *said == refused)
    ));
    assert_eq!(side.fsm.state(), Idle);
    let open = Event::Received(spare, Message::Open(open()));
    assert!(side.fsm.handle(now, open).is_empty());
    assert!(side.fsm.next_timeout().is_some(), "Idle ends by itself");
}

#[test]
fn a_notification_ends_the_connection_and_is_not_answered() {
    for state in [OpenSent, OpenConfirm, Established] {
        let (mut side, now) = machine(state);
        let said = Message::Notification(Notification::cease(Cease::OutOfResources));
        let actions = side.fsm.handle(now, Event::Received(LINK, said));
        assert!(
            actions
                .iter()
                .any(|action| matches!(action, Action::Close(LINK, None)))
        );
        assert!(side.fsm.state() < OpenSent);
    }
}

#[test]
fn a_lost_connection_leads_back_to_active_or_connect() {
    for state in [OpenSent, OpenConfirm, Established] {
        for loss in [Loss::Closed, Loss::Unresponsive] {
            let (mut side, now) = machine(state);
            side.fsm
                .handle(now, Event::Closed(LINK, loss, "gone".into()));
            assert!(matches!(side.fsm.state(), Active | Connect));
            assert!(side.fsm.next_timeout().is_some(), "it will be tried again");
        }
    }
}

#[test]
fn stop_leads_to_idle_from_every_state_and_start_out_of_it() {
    for state in [OpenSent, OpenConfirm, Established] {
        let (mut side, now) = machine(state);
        let actions = side.fsm.handle(
            now,
            Event::Stop {
                notification: Notification::administrative_shutdown("bye"),
                reason: "shut down".into(),
            },
        );
        assert_eq!(closed(&actions).map(|said| said.subcode), Some(2));
        assert_eq!(side.fsm.state(), Idle);
        assert_eq!(side.fsm.next_timeout(), None);
        let refused = side.fsm.handle(now, Event::Accepted(ConnectionId(7)));
        assert!(closed(&refused).is_some(), "Idle refuses connections");
        side.fsm.handle(now, Event::Start);
        assert_eq!(side.fsm.state(), Connect);
    }
}

#[test]
fn events_of_connections_that_are_gone_mean_nothing() {
    let (mut side, now) = machine(Established);
    let gone = ConnectionId(99);
    for event in [
        Event::Received(gone, Message::Keepalive),
        Event::Updates(gone, vec![Update::default()]),
        Event::Malformed(gone, Notification::new(1, 1), "late".into()),
        Event::Closed(gone, Loss::Closed, "late".into()),
        Event::Sent(gone),
        Event::Unread(gone),
        Event::DialFailed("late".into()),
    ] {
        assert!(side.fsm.handle(now, event).is_empty());
    }
    // A dial that succeeds too late is closed.
    let actions = side.fsm.handle(now, Event::Dialled(gone));
    assert!(matches!(actions[..], [Action::Close(id, None)] if id == gone));
    assert_eq!(side.fsm.state(), Established);
}

/// What our answer to an OPEN is, for a peer configured so.
fn answer(config: PeerConfig, open: Open) -> Option<Notification> {
    let now = beginning();
    let mut side = Side::new(config, 1);
    side.fsm.handle(now, Event::Start);
    side.fsm.handle(now, Event::Dialled(LINK));
    let actions = side
        .fsm
        .handle(now, Event::Received(LINK, Message::Open(open)));
    closed(&actions).cloned()
}

#[test]
fn an_open_with_the_wrong_as_number_is_refused() {
    let cases = [
        (PeerAsn::Number(65002), 65003, true),
        (PeerAsn::Number(65002), 65002, false),
        (PeerAsn::Internal, 65001, false),
        (PeerAsn::Internal, 65002, true),
        (PeerAsn::External, 65002, false),
        (PeerAsn::External, 65001, true),
        (PeerAsn::Any, 65001, false),
        (PeerAsn::Any, 4_200_000_000, false),
        (PeerAsn::Any, 0, true),
    ];
    for (configured, asn, refused) in cases {
        let mut config = peer_config(65001, 65002);
        config.asn = configured;
        let said = answer(config, Open { asn, ..open() });
        let expected = refused.then(Notification::bad_peer_as);
        assert_eq!(said, expected, "{configured:?} and {asn}");
    }
}

#[test]
fn our_own_identifier_is_refused_within_our_as_only() {
    let ours = Ipv4Addr::new(10, 0, 0, 1);
    let external = answer(peer_config(65001, 65002), Open { id: ours, ..open() });
    assert_eq!(external, None, "RFC 6286: unique within an AS is enough");
    let internal = Open {
        id: ours,
        asn: 65001,
        ..open()
    };
    assert_eq!(
        answer(peer_config(65001, 65001), internal),
        Some(Notification::bad_bgp_identifier())
    );
}

#[test]
fn a_hold_time_of_one_or_two_seconds_is_refused() {
    for (hold_time, refused) in [(0, false), (1, true), (2, true), (3, false)] {
        let said = answer(
            peer_config(65001, 65002),
            Open {
                hold_time,
                ..open()
            },
        );
        let expected = refused.then(Notification::unacceptable_hold_time);
        assert_eq!(said, expected, "{hold_time}");
    }
}

#[test]
fn without_a_common_family_the_session_is_refused_with_the_list_of_what_we_want() {
    let mut config = peer_config(65001, 65002);
    config.families = Families::IPV6;
    let mut theirs = open();
    theirs
        .capabilities
        .retain(|capability| *capability != Capability::Multiprotocol(Family::IPv6));
    let said = answer(config, theirs).expect("refused");
    assert_eq!((said.code, said.subcode), (2, 7));
    assert_eq!(&*said.data, [1, 4, 0, 2, 0, 1]);
}

#[test]
fn who_offers_no_families_speaks_ipv4() {
    let mut config = peer_config(65001, 65002);
    config.families = Families::IPV6;
    let plain = Open {
        capabilities: Vec::new(),
        ..open()
    };
    assert!(answer(config, plain.clone()).is_some());
    assert_eq!(answer(peer_config(65001, 65002), plain), None);
}
