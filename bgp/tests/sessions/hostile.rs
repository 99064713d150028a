//! Peers that do wrong, say nothing, or take nothing.

use bgp::{
    config::Origination,
    prefix::Prefix,
    speaker::Speaker,
    status::SessionState,
    wire::{Message, Notification},
};
use tokio::io::AsyncReadExt;

use crate::harness::*;

/// A header with this length and type.
fn header(length: u16, kind: u8) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    octets.extend(length.to_be_bytes());
    octets.push(kind);
    octets
}

#[tokio::test]
async fn garbage_is_answered_with_the_notification_the_rfc_names_and_hurts_nobody_else() {
    let speaker = Speaker::start(waiting(50));
    let cases: Vec<(Vec<u8>, (u8, u8))> = vec![
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), (1, 1)),
        (header(18, 4), (1, 2)),
        (header(4097, 1), (1, 2)),
        (header(20, 4), (1, 2)),
        (header(19, 9), (1, 3)),
        (header(19, 4), (5, 1)),
        // An UPDATE that is none, before its time.
        ([header(23, 2), vec![0xff; 4]].concat(), (5, 1)),
        // Version 3.
        (
            [header(29, 1), vec![3, 0, 1, 0, 9, 1, 1, 1, 1, 0]].concat(),
            (2, 1),
        ),
    ];
    for (octets, expected) in cases {
        let mut hand = Hand::dial(address(50, 1), address(50, 2)).await;
        hand.say_octets(&octets).await;
        let said = hand.last_words().await.expect("it says why");
        assert_eq!((said.code, said.subcode), expected, "{octets:?}");
    }
    let mut hand = Hand::dial(address(50, 1), address(50, 2)).await;
    hand.establish(open(50)).await;
    drop(speaker);
}

#[tokio::test]
async fn octets_that_come_one_by_one_are_understood() {
    let speaker = Speaker::start(waiting(51));
    let mut events = speaker.events();
    let mut hand = Hand::dial(address(51, 1), address(51, 2)).await;
    let mut octets = bytes::BytesMut::new();
    let context = bgp::wire::Context::default();
    for message in [
        Message::Open(open(51)),
        Message::Keepalive,
        Message::Keepalive,
    ] {
        message
            .write(&context, &mut octets)
            .expect("it can be written");
    }
    for octet in octets {
        hand.say_octets(&[octet]).await;
        tokio::task::yield_now().await;
    }
    until_up(&mut events).await;
}

#[tokio::test]
async fn a_malformed_update_in_a_session_ends_it_or_is_survived_as_rfc_7606_says() {
    let speaker = Speaker::start(waiting(52));
    let mut events = speaker.events();
    let mut hand = Hand::dial(address(52, 1), address(52, 2)).await;
    hand.establish(open(52)).await;
    until_up(&mut events).await;
    // ORIGIN with a value that does not exist: treated as withdrawn.
    let mut update = vec![0, 0, 0, 4, 0x40, 1, 1, 9, 24, 10, 1, 2];
    let length = u16::try_from(update.len() + 19).expect("short");
    let mut message = header(length, 2);
    message.append(&mut update);
    hand.say_octets(&message).await;
    problem(&mut events, "malformed UPDATE survived").await;
    let peer = peer_status(&speaker, "hand").await;
    assert_eq!(peer.state, SessionState::Established);
    assert_eq!(peer.messages.faulty, 1);
    // Lengths that do not add up: nothing in it can be trusted.
    hand.say_octets(&[header(23, 2), vec![0xff, 0xff, 0, 0]].concat())
        .await;
    let said = hand.last_words().await.expect("it says why");
    assert_eq!(said.code, Notification::UPDATE_MESSAGE_ERROR);
}

#[tokio::test]
async fn a_peer_with_ever_new_faults_is_spoken_of_a_few_times_and_then_only_counted() {
    let speaker = Speaker::start(waiting(56));
    let mut events = speaker.events();
    let mut hand = Hand::dial(address(56, 1), address(56, 2)).await;
    hand.establish(open(56)).await;
    until_up(&mut events).await;
    // MULTI_EXIT_DISC of every wrong length, twice.
    let lengths = (0..=200_u8).filter(|length| *length != 4);
    for length in lengths.clone().chain(lengths) {
        let value = vec![0; usize::from(length)];
        let attribute = [&[0x80, 4, length][..], &value].concat();
        let size = u16::try_from(attribute.len()).expect("short");
        let body = [
            &[0, 0][..],
            &size.to_be_bytes(),
            &attribute,
            &[24, 10, 1, 2],
        ]
        .concat();
        let message = header(u16::try_from(body.len() + 19).expect("short"), 2);
        hand.say_octets(&[message, body].concat()).await;
    }
    let faulty = async {
        while peer_status(&speaker, "hand").await.messages.faulty < 400 {
            tokio::task::yield_now().await;
        }
    };
    faulty.await;
    let mut told = 0;
    while let Ok(event) = events.try_recv() {
        told += usize::from(matches!(event, bgp::speaker::Event::Problem { .. }));
    }
    assert_eq!(told, 16);
}

#[tokio::test]
async fn silent_sockets_from_the_address_of_a_peer_do_not_keep_it_out() {
    let speaker = Speaker::start(waiting(53));
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(Hand::dial(address(53, 1), address(53, 2)).await);
    }
    let mut hand = Hand::dial(address(53, 1), address(53, 2)).await;
    hand.establish(open(53)).await;
    drop((speaker, silent));
}

#[tokio::test]
async fn a_thousand_strangers_are_refused_and_a_peer_gets_through() {
    let speaker = Speaker::start(waiting(54));
    let begun = now();
    for _ in 0..1000 {
        let mut stranger = Hand::dial(address(54, 77), address(54, 2)).await;
        let mut octet = [0];
        // The end of the stream, or a reset.
        assert!(!matches!(stranger.stream.read(&mut octet).await, Ok(1..)));
    }
    println!("a thousand strangers refused in {:?}", begun.elapsed());
    let mut hand = Hand::dial(address(54, 1), address(54, 2)).await;
    hand.establish(open(54)).await;
    drop(speaker);
}

#[tokio::test]
async fn who_takes_nothing_is_closed_by_the_send_hold_timer_while_others_get_all() {
    // RFC 9687: the stuck one goes on sending KEEPALIVEs, so nothing else would end it.
    let mut config = waiting(55);
    for number in 0..60_000_u32 {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + number * 256);
        let prefix = Prefix::v4(address, 24).expect("a prefix");
        // Each with attributes of its own, so that they do not pack.
        let set = bgp::config::Set {
            med: Some(number),
            ..Default::default()
        };
        let origination = Origination {
            source: bgp::config::Source::Static,
            peers: None,
            set,
            others: Vec::new(),
        };
        config.originate.insert(prefix, origination);
    }
    let stuck = config.peers.get_mut("hand").expect("it is configured");
    stuck.timers.hold = seconds(3);
    stuck.timers.keepalive = seconds(1);
    let speaker = Speaker::start(config);
    let mut events = speaker.events();
    let mut hand = Hand::dial(address(55, 1), address(55, 2)).await;
    socket2::SockRef::from(&hand.stream)
        .set_recv_buffer_size(4096)
        .expect("a small buffer");
    hand.establish(open(55)).await;
    until_up(&mut events).await;
    let begun = now();
    let talk = async {
        let mut tick = tokio::time::interval(seconds(1));
        loop {
            tick.tick().await;
            hand.say(&Message::Keepalive).await;
        }
    };
    let reason = tokio::select! {
        reason = until_down(&mut events) => reason,
        () = talk => String::new(),
    };
    assert!(reason.contains("send hold timer"), "{reason}");
    let waited = begun.elapsed();
    assert!(waited > seconds(5), "{waited:?}");
}
