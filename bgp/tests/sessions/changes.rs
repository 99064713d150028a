//! A configuration that changes under running sessions.

use std::sync::Arc;

use bgp::{
    config::*,
    prefix::{Families, Family, Prefix},
    speaker::{Event, Speaker},
    status::SessionState,
    wire::{self, Cease, Message, Notification},
};

use crate::harness::*;

/// A speaker with a session to a peer made by hand.
async fn session(test: u8) -> (SpeakerConfig, Speaker, Hand) {
    let config = waiting(test);
    let speaker = Speaker::start(config.clone());
    let mut events = speaker.events();
    let mut hand = Hand::dial(address(test, 1), address(test, 2)).await;
    let mut open = open(test);
    open.capabilities
        .retain(|capability| capability.code() != 64);
    hand.establish(open).await;
    until_up(&mut events).await;
    (config, speaker, hand)
}

fn of_hand(config: &mut SpeakerConfig) -> &mut PeerConfig {
    config.peers.get_mut("hand").expect("it is configured")
}

async fn is_up(speaker: &Speaker) -> bool {
    peer_status(speaker, "hand").await.state == SessionState::Established
}

#[tokio::test]
async fn what_concerns_only_routes_or_other_peers_keeps_the_session() {
    let (mut config, speaker, hand) = session(20).await;
    let peer = of_hand(&mut config);
    peer.import = Arc::new(Policy::always("none", Verdict::Reject));
    peer.export = None;
    peer.max_prefixes.count = 7;
    peer.route_reflector_client = true;
    peer.port = 1790;
    peer.timers.connect_retry = seconds(7);
    peer.graceful_restart = peer.graceful_restart.map(|restart| GracefulRestartConfig {
        restarted: true,
        ..restart
    });
    config.draining = true;
    let other = peer_with_address(20, 9);
    config.peers.insert("other".into(), other);
    speaker.apply(config.clone()).await;
    assert!(is_up(&speaker).await);
    config.peers.remove("other");
    speaker.apply(config).await;
    assert!(is_up(&speaker).await);
    assert_eq!(status(&speaker).await.peers.len(), 1);
    drop(hand);
}

fn peer_with_address(test: u8, last: u8) -> PeerConfig {
    peer(address(test, 2), address(test, last), 65002, 65001)
}

#[tokio::test]
async fn what_an_open_offers_is_offered_in_the_next_one_and_said_to_wait_until_then() {
    let (mut config, speaker, hand) = session(21).await;
    let peer = of_hand(&mut config);
    peer.timers.hold = seconds(30);
    peer.families = Families::IPV4;
    peer.add_path.send_max = 4;
    speaker.apply(config).await;
    let session = |peer: bgp::status::PeerStatus| peer.session.expect("it is up");
    let kept = session(peer_status(&speaker, "hand").await);
    assert_eq!(kept.hold_seconds, 9);
    assert_eq!(kept.families, Family::ALL);
    assert_eq!(kept.waiting, ["timers.holdSeconds", "families", "addPath"]);

    let mut events = speaker.events();
    drop(hand);
    until_down(&mut events).await;
    let mut hand = Hand::dial(address(21, 1), address(21, 2)).await;
    let mut theirs = open(21);
    theirs.hold_time = 90;
    hand.establish(theirs).await;
    until_up(&mut events).await;
    let next = session(peer_status(&speaker, "hand").await);
    assert_eq!(next.hold_seconds, 30);
    assert_eq!(next.families, [Family::IPv4]);
    assert!(next.waiting.is_empty());
}

#[tokio::test]
async fn who_talks_to_whom_needs_a_new_session() {
    type Change = fn(&mut PeerConfig);
    let changes: [Change; 3] = [
        |peer| peer.asn = PeerAsn::Number(65009),
        |peer| peer.ttl = Ttl::Send(3),
        |peer| peer.password = Password::Key(b"secret".as_slice().into()),
    ];
    for (test, change) in (22..).zip(changes) {
        let (mut config, speaker, mut hand) = session(test).await;
        change(of_hand(&mut config));
        speaker.apply(config).await;
        let expected = Notification::cease(Cease::OtherConfigurationChange);
        assert_eq!(hand.last_words().await, Some(expected), "change {test}");
    }
}

#[tokio::test]
async fn a_peer_that_is_no_longer_configured_is_told_so() {
    let (mut config, speaker, mut hand) = session(30).await;
    config.peers.clear();
    speaker.apply(config).await;
    let expected = Notification::cease(Cease::PeerDeconfigured);
    assert_eq!(hand.last_words().await, Some(expected));
    assert!(status(&speaker).await.peers.is_empty());
}

#[tokio::test]
async fn another_address_is_another_peer() {
    let (mut config, speaker, mut hand) = session(31).await;
    of_hand(&mut config).address = address(31, 9).into();
    speaker.apply(config).await;
    let expected = Notification::cease(Cease::PeerDeconfigured);
    assert_eq!(hand.last_words().await, Some(expected));
    let peer = peer_status(&speaker, "hand").await;
    assert_eq!(peer.address, std::net::IpAddr::from(address(31, 9)));
    assert_eq!(peer.established_count, 0);
}

#[tokio::test]
async fn an_administrative_shutdown_is_told_kept_and_lifted() {
    let (mut config, speaker, mut hand) = session(32).await;
    of_hand(&mut config).shutdown = Some("maintenance".into());
    speaker.apply(config.clone()).await;
    let said = hand.last_words().await.expect("it is said");
    assert_eq!(said, Notification::administrative_shutdown("maintenance"));
    let peer = peer_status(&speaker, "hand").await;
    assert_eq!(peer.state, SessionState::Idle);
    assert_eq!(
        peer.last_error.as_deref(),
        Some("administratively down: maintenance")
    );
    // Who dials in meanwhile is told the same.
    let mut refused = Hand::dial(address(32, 1), address(32, 2)).await;
    let said = refused.last_words().await;
    assert_eq!(
        said.and_then(|said| said.communication()).as_deref(),
        Some("maintenance")
    );

    of_hand(&mut config).shutdown = None;
    speaker.apply(config).await;
    let mut hand = Hand::dial(address(32, 1), address(32, 2)).await;
    hand.establish(open(32)).await;
}

#[tokio::test]
async fn a_missing_password_holds_the_session_down_and_says_why() {
    let mut config = waiting(33);
    of_hand(&mut config).password = Password::Missing("Secret bgp-md5 not found".into());
    let speaker = Speaker::start(config);
    let mut hand = Hand::dial(address(33, 1), address(33, 2)).await;
    let said = hand.last_words().await;
    assert_eq!(said, Some(Notification::cease(Cease::ConnectionRejected)));
    let peer = peer_status(&speaker, "hand").await;
    let error = peer.last_error.expect("it is said");
    assert!(error.contains("Secret bgp-md5 not found"), "{error}");
}

#[tokio::test]
async fn another_router_id_renews_all_sessions() {
    let (mut config, speaker, mut hand) = session(34).await;
    config.router_id = std::net::Ipv4Addr::new(9, 9, 9, 9);
    speaker.apply(config).await;
    assert!(hand.last_words().await.is_some());
    let mut hand = Hand::dial(address(34, 1), address(34, 2)).await;
    let Some(Message::Open(theirs)) = hand.hear().await else {
        panic!("it sends an OPEN first");
    };
    assert_eq!(theirs.id, std::net::Ipv4Addr::new(9, 9, 9, 9));
}

#[tokio::test]
async fn listening_addresses_come_and_go() {
    let mut config = waiting(35);
    config.listen.clear();
    let speaker = Speaker::start(config.clone());
    assert!(status(&speaker).await.listen.is_empty());
    config.listen = vec![(address(35, 2), PORT).into()];
    speaker.apply(config.clone()).await;
    let mut hand = Hand::dial(address(35, 1), address(35, 2)).await;
    hand.establish(open(35)).await;
    config.listen.clear();
    speaker.apply(config).await;
    assert!(
        is_up(&speaker).await,
        "a session does not need the listener"
    );
}

#[tokio::test]
async fn a_port_in_use_is_a_problem_with_a_remedy_and_tried_again() {
    let occupied = std::net::TcpListener::bind((address(36, 2), PORT)).expect("it is free");
    let speaker = Speaker::start(waiting(36));
    let text = problem(&mut speaker.events(), "cannot listen").await;
    assert!(text.contains("another program has port"), "{text}");
    assert_eq!(status(&speaker).await.problems.len(), 1);
    drop(occupied);
    let mut hand = Hand::dial(address(36, 1), address(36, 2)).await;
    hand.establish(open(36)).await;
    assert!(status(&speaker).await.problems.is_empty());
}

fn range(test: u8, limit: usize) -> SpeakerConfig {
    let mut config = waiting(test);
    let mut peer = config.peers.remove("hand").expect("it is configured");
    peer.asn = PeerAsn::Any;
    let range = RangeConfig {
        range: Prefix::v4(address(test, 0), 24).expect("a prefix"),
        peer,
        limit,
    };
    config.ranges.insert("rack".into(), range);
    config
}

#[tokio::test]
async fn peers_from_a_range_come_are_counted_and_are_forgotten() {
    let config = range(37, 2);
    let speaker = Speaker::start(config.clone());
    let mut events = speaker.events();
    let mut hands = Vec::new();
    for last in [10, 11] {
        let mut hand = Hand::dial(address(37, last), address(37, 2)).await;
        let mut open = open(37);
        open.id = address(37, last);
        open.capabilities
            .retain(|capability| capability.code() != 64);
        hand.establish(open).await;
        until_up(&mut events).await;
        hands.push(hand);
    }
    let names: Vec<_> = status(&speaker).await.peers.into_keys().collect();
    assert_eq!(names, ["rack/127.77.37.10", "rack/127.77.37.11"]);
    // A third is one too many, a stranger from elsewhere none at all.
    let mut refused = Hand::dial(address(37, 12), address(37, 2)).await;
    assert_eq!(refused.hear().await, None);
    let mut stranger = Hand::dial(address(99, 1), address(37, 2)).await;
    assert_eq!(stranger.hear().await, None);
    // Another configuration of the range reaches its members.
    let mut changed = config.clone();
    for range in changed.ranges.values_mut() {
        range.peer.import = Arc::new(Policy::always("none", Verdict::Reject));
    }
    speaker.apply(changed.clone()).await;
    assert_eq!(status(&speaker).await.peers.len(), 2);
    // Who leaves makes room.
    drop(hands.pop());
    until_down(&mut events).await;
    while status(&speaker).await.peers.len() > 1 {
        tokio::task::yield_now().await;
    }
    let mut again = Hand::dial(address(37, 12), address(37, 2)).await;
    again.establish(open(37)).await;
    changed.ranges.clear();
    speaker.apply(changed).await;
    assert_eq!(
        again.last_words().await,
        Some(Notification::cease(Cease::PeerDeconfigured))
    );
}

#[tokio::test]
async fn a_range_that_is_full_is_told_once_until_it_takes_somebody_again() {
    let speaker = Speaker::start(range(39, 1));
    let mut events = speaker.events();
    let mut told = 0;
    for _ in 0..2 {
        let mut open = open(39);
        open.capabilities
            .retain(|capability| capability.code() != 64);
        let mut member = Hand::dial(address(39, 10), address(39, 2)).await;
        member.establish(open).await;
        for _ in 0..10 {
            let mut refused = Hand::dial(address(39, 11), address(39, 2)).await;
            assert_eq!(refused.hear().await, None);
        }
        drop(member);
        while !status(&speaker).await.peers.is_empty() {
            tokio::task::yield_now().await;
        }
        while let Ok(event) = events.try_recv() {
            told += usize::from(
                matches!(event, Event::Problem { text, .. } if text.contains("its limit")),
            );
        }
    }
    assert_eq!(told, 2);
}

#[tokio::test]
async fn a_peer_from_a_range_that_told_too_much_is_not_forgotten_before_it_may_come_back() {
    let mut config = range(38, 2);
    for range in config.ranges.values_mut() {
        range.peer.max_prefixes = MaxPrefixes {
            count: 1,
            action: OverLimit::Shutdown(seconds(3)),
        };
    }
    let speaker = Speaker::start(config);
    let mut hand = Hand::dial(address(38, 10), address(38, 2)).await;
    hand.establish(open(38)).await;
    let attributes = wire::Attributes {
        as_path: [65001].into(),
        next_hop: Some(std::net::IpAddr::from([192, 0, 2, 1]).into()),
        ..wire::Attributes::default()
    };
    let nlri = ["10.1.0.0/16", "10.2.0.0/16"]
        .map(|text| wire::Nlri::from(text.parse::<Prefix>().expect("a prefix")));
    hand.say(&Message::Update(wire::Update {
        announced: [wire::update::Announced {
            attributes: Arc::new(attributes),
            nlri: nlri.into(),
        }]
        .into_iter()
        .collect(),
        ..wire::Update::default()
    }))
    .await;
    let limit = Notification::max_prefixes(Family::IPv4, 1);
    assert_eq!(hand.last_words().await, Some(limit));
    drop(hand);
    let mut again = Hand::dial(address(38, 10), address(38, 2)).await;
    assert_eq!(
        again.last_words().await,
        Some(Notification::cease(Cease::ConnectionRejected))
    );
    // Once the time is over it is, and may come back.
    while !status(&speaker).await.peers.is_empty() {
        tokio::task::yield_now().await;
    }
    let mut back = Hand::dial(address(38, 10), address(38, 2)).await;
    back.establish(open(38)).await;
}
