//! Speakers over real sockets on loopback addresses.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "sessions/harness.rs"]
mod harness;

#[path = "sessions/changes.rs"]
mod changes;
#[path = "sessions/hostile.rs"]
mod hostile;
#[path = "sessions/many.rs"]
mod many;
#[path = "sessions/monitored.rs"]
mod monitored;
#[path = "sessions/secured.rs"]
mod secured;

use bgp::{
    speaker::{Gone, Speaker, Stop},
    status::{PeerKind, SessionState},
    wire::{Cease, Message, Notification},
};

use crate::harness::*;

#[tokio::test]
async fn two_speakers_establish_a_session() {
    let (one, two) = couple(1);
    let two = Speaker::start(two);
    let mut of_two = two.events();
    until_listening(&two).await;
    let begun = now();
    let one = Speaker::start(one);
    until_up(&mut one.events()).await;
    let took = begun.elapsed();
    println!("established after {took:?}");
    until_up(&mut of_two).await;
    let peer = peer_status(&one, "two").await;
    assert_eq!(peer.state, SessionState::Established);
    assert_eq!(peer.kind, Some(PeerKind::External));
    assert_eq!((peer.asn, peer.established_count), (Some(65002), 1));
    let session = peer.session.expect("it is up");
    assert_eq!((session.hold_seconds, session.keepalive_seconds), (9, 3));
    assert_eq!(session.remote.to_string(), format!("127.77.1.2:{PORT}"));
    let recorder: Vec<_> = peer.recorder.iter().map(|record| &*record.what).collect();
    assert!(
        recorder
            .iter()
            .any(|what| what.starts_with("OPEN AS 65002"))
    );
    // Who looks again and again does without it.
    let brief = one.brief().await.expect("it runs");
    assert!(brief.peers.values().all(|peer| peer.recorder.is_empty()));
}

/// Waits until all its addresses are listened on.
async fn until_listening(speaker: &Speaker) {
    while status(speaker).await.listen.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_explained() {
    let (one, _) = couple(2);
    let one = Speaker::start(one);
    let text = problem(&mut one.events(), "refused").await;
    assert!(text.contains("nothing listens there"), "{text}");
    let peer = peer_status(&one, "two").await;
    assert!(
        peer.hint
            .is_some_and(|hint| hint.contains("is BGP running"))
    );
}

#[tokio::test]
async fn a_wrong_as_number_is_explained_on_both_sides() {
    let (mut one, two) = couple(3);
    for peer in one.peers.values_mut() {
        peer.asn = bgp::config::PeerAsn::Number(65099);
    }
    let two = Speaker::start(two);
    let mut of_two = two.events();
    let one = Speaker::start(one);
    let text = problem(&mut one.events(), "AS 65002").await;
    assert!(text.contains("we expect AS 65099"), "{text}");
    let text = problem(&mut of_two, "Bad Peer AS").await;
    assert!(text.contains("expects another AS number from us"), "{text}");
}

#[tokio::test]
async fn a_shutdown_is_told_with_its_message() {
    let (one, two) = couple(4);
    let two = Speaker::start(two);
    let mut of_two = two.events();
    let one = Speaker::start(one);
    until_up(&mut of_two).await;
    let how = Stop::Shutdown {
        message: "rack moves".into(),
    };
    one.stop(how).await;
    let reason = until_down(&mut of_two).await;
    assert!(reason.contains("Administrative Shutdown"), "{reason}");
    assert!(reason.contains("rack moves"), "{reason}");
}

#[tokio::test]
async fn a_restart_is_silent_where_graceful_restart_was_agreed() {
    let two = Speaker::start(waiting(5));
    let mut hand = Hand::dial(address(5, 1), address(5, 2)).await;
    hand.establish(open(5)).await;
    two.stop(Stop::Restart).await;
    assert_eq!(hand.last_words().await, None);
}

#[tokio::test]
async fn a_restart_is_told_where_it_was_not() {
    let two = Speaker::start(waiting(6));
    let mut hand = Hand::dial(address(6, 1), address(6, 2)).await;
    let mut open = open(6);
    open.capabilities
        .retain(|capability| capability.code() != 64);
    hand.establish(open).await;
    two.stop(Stop::Restart).await;
    let said = hand.last_words().await;
    let expected = Notification::cease(Cease::OtherConfigurationChange);
    assert_eq!(said, Some(expected));
}

#[tokio::test]
async fn a_restart_takes_nothing_out_of_the_kernel() {
    let (mut one, two) = couple(10);
    let prefix = "10.9.8.0/24".parse().expect("a prefix");
    let origination = bgp::config::Origination {
        source: bgp::config::Source::Static,
        peers: None,
        set: bgp::config::Set::default(),
        others: Vec::new(),
    };
    one.originate.insert(prefix, origination);
    for peer in one.peers.values_mut() {
        peer.graceful_restart = None;
        // A loopback address is no next hop.
        peer.next_hop_addresses.v4 = Some(std::net::Ipv4Addr::new(192, 0, 2, 1));
    }
    let mut two = Speaker::start(two);
    let mut installs = two.installs().expect("it is the first to ask");
    let one = Speaker::start(one);
    let installed = tokio::time::timeout(PATIENCE, installs.recv()).await;
    let installed = installed.ok().flatten().expect("a route comes");
    assert!(installed.iter().any(|install| install.prefix == prefix));
    two.stop(Stop::Restart).await;
    // Nothing more, until the channel closes with the Rib.
    let more = tokio::time::timeout(PATIENCE, installs.recv()).await;
    assert_eq!(more.expect("the Rib ends"), None);
    drop(one);
}

#[tokio::test]
async fn a_speaker_that_is_dropped_says_nothing() {
    let two = Speaker::start(waiting(7));
    let mut hand = Hand::dial(address(7, 1), address(7, 2)).await;
    hand.establish(open(7)).await;
    drop(two);
    assert_eq!(hand.last_words().await, None);
}

#[tokio::test]
async fn a_lost_interface_ends_the_sessions_on_its_addresses() {
    let (one, two) = couple(8);
    let two = Speaker::start(two);
    let one = Speaker::start(one);
    let mut events = one.events();
    until_up(&mut events).await;
    one.lost("eth9", &[address(8, 7).into()], Gone::Interface);
    one.lost("eth1", &[address(8, 1).into()], Gone::Interface);
    let reason = until_down(&mut events).await;
    assert_eq!(reason, "interface eth1 is gone or has no carrier");
    drop(two);
}

#[tokio::test]
async fn another_address_that_goes_leaves_the_sessions_bound_to_its_interface_alone() {
    let (mut one, two) = couple(91);
    for peer in one.peers.values_mut() {
        peer.interface = Some("lo".into());
    }
    let two = Speaker::start(two);
    let one = Speaker::start(one);
    let mut events = one.events();
    until_up(&mut events).await;
    one.lost("lo", &[address(91, 7).into()], Gone::Addresses);
    one.lost("lo", &[], Gone::Interface);
    let reason = until_down(&mut events).await;
    assert_eq!(reason, "interface lo is gone or has no carrier");
    drop(two);
}

#[tokio::test]
async fn the_hold_timer_does_not_expire_while_the_peer_talks_and_does_when_it_is_silent() {
    let two = Speaker::start(waiting(9));
    let mut events = two.events();
    let mut hand = Hand::dial(address(9, 1), address(9, 2)).await;
    let mut open = open(9);
    open.hold_time = 3;
    hand.establish(open).await;
    let begun = now();
    for _ in 0..5 {
        // It speaks every second, so we may as well.
        while hand.hear().await != Some(Message::Keepalive) {}
        hand.say(&Message::Keepalive).await;
    }
    assert!(begun.elapsed() > seconds(3));
    let silent_since = now();
    let said = hand.last_words().await;
    assert_eq!(said, Some(Notification::hold_timer_expired()));
    let waited = silent_since.elapsed();
    assert!(waited > seconds(2), "{waited:?}");
    let reason = until_down(&mut events).await;
    assert!(reason.contains("said nothing for 3 s"), "{reason}");
}
