//! MD5 signatures (RFC 2385) and GTSM (RFC 5082) on real sockets.

use bgp::{
    config::*,
    prefix::Prefix,
    speaker::Speaker,
    status::{PeerStatus, SessionState, SignedWith},
};

use crate::harness::*;

fn key(text: &str) -> Password {
    Password::Key(text.as_bytes().into())
}

fn set(config: &mut SpeakerConfig, change: impl Fn(&mut PeerConfig)) {
    config.peers.values_mut().for_each(change);
}

/// Whether this user may set MD5 keys on this kernel.
async fn can_sign(speaker: &Speaker) -> bool {
    let problems = loop {
        let status = status(speaker).await;
        if !status.listen.is_empty() || !status.problems.is_empty() {
            break status.problems;
        }
        tokio::task::yield_now().await;
    };
    if problems.iter().any(|problem| problem.contains("NET_ADMIN")) {
        println!("skipped: MD5 keys need CAP_NET_ADMIN: {problems:?}");
        return false;
    }
    true
}

#[tokio::test]
async fn with_the_same_password_the_session_comes_up() {
    let (mut one, mut two) = couple(70);
    set(&mut one, |peer| peer.password = key("secret"));
    set(&mut two, |peer| peer.password = key("secret"));
    let two = Speaker::start(two);
    if !can_sign(&two).await {
        return;
    }
    let one = Speaker::start(one);
    until_up(&mut one.events()).await;
}

#[tokio::test]
async fn with_unlike_passwords_it_does_not_and_the_hint_names_md5() {
    for (test, password) in [(71, key("wrong")), (72, Password::None)] {
        let (mut one, mut two) = couple(test);
        set(&mut one, |peer| peer.password = key("secret"));
        set(&mut two, |peer| peer.password = password.clone());
        let two = Speaker::start(two);
        if !can_sign(&two).await {
            return;
        }
        let one = Speaker::start(one);
        let text = problem(&mut one.events(), "no answer to our SYN").await;
        assert!(text.contains("MD5") || text.contains("password"), "{text}");
        assert_ne!(
            peer_status(&one, "two").await.state,
            SessionState::Established
        );
    }
}

/// Segments this network namespace dropped for a wrong signature.
fn wrongly_signed() -> u64 {
    let text = std::fs::read_to_string("/proc/net/netstat").expect("the kernel counts");
    let mut rows = text.lines().filter(|row| row.starts_with("TcpExt:"));
    let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
    let mut columns = names.split(' ').zip(values.split(' '));
    let (_, count) = columns
        .find(|(name, _)| *name == "TCPMD5Failure")
        .expect("it is counted");
    count.parse().expect("a number")
}

async fn until_dropped(before: u64) {
    let dropped = async {
        while wrongly_signed() == before {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, dropped).await;
    waited.expect("one side speaks, and the other does not believe it");
}

/// The only peer of a speaker.
async fn other(speaker: &Speaker) -> PeerStatus {
    let mut status = status(speaker).await;
    status.peers.pop_first().expect("it has one").1
}

/// Waits until both have heard each other again, and says with which key their session is signed.
async fn goes_on(pair: [&Speaker; 2]) -> Option<SignedWith> {
    let mut signed = Vec::new();
    for speaker in pair {
        let before = other(speaker).await;
        let again = async {
            while other(speaker).await.messages.messages_in < before.messages.messages_in + 2 {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, again).await;
        waited.expect("they hear each other");
        let now = other(speaker).await;
        assert_eq!(now.state, SessionState::Established);
        assert_eq!(
            (now.since, now.established_count),
            (before.since, before.established_count),
            "it is the same session"
        );
        signed.push(now.session.and_then(|session| session.signed_with));
    }
    signed.dedup();
    assert_eq!(signed.len(), 1, "both sides say the same: {signed:?}");
    signed.pop().flatten()
}

#[tokio::test]
async fn a_key_that_changes_on_both_sides_keeps_the_session_in_either_order() {
    let (mut one, mut two) = couple(73);
    set(&mut one, |peer| peer.password = key("first"));
    set(&mut two, |peer| peer.password = key("first"));
    let speaker_two = Speaker::start(two.clone());
    if !can_sign(&speaker_two).await {
        return;
    }
    let speaker_one = Speaker::start(one.clone());
    until_up(&mut speaker_one.events()).await;
    let since = other(&speaker_one).await.since;
    for (text, one_first) in [("second", true), ("third", false)] {
        set(&mut one, |peer| peer.password = key(text));
        set(&mut two, |peer| peer.password = key(text));
        let mut changes = [(&speaker_one, &one), (&speaker_two, &two)];
        if !one_first {
            changes.reverse();
        }
        let before = wrongly_signed();
        changes[0].0.apply(changes[0].1.clone()).await;
        until_dropped(before).await;
        changes[1].0.apply(changes[1].1.clone()).await;
        let signed = goes_on([&speaker_one, &speaker_two]).await;
        assert_eq!(signed, Some(SignedWith::Current));
    }
    assert_eq!(other(&speaker_one).await.since, since);
}

#[tokio::test]
async fn a_key_that_changes_on_one_side_only_ends_the_session_with_the_hold_time() {
    let (mut one, mut two) = couple(77);
    set(&mut one, |peer| peer.password = key("old"));
    set(&mut two, |peer| peer.password = key("old"));
    let speaker_two = Speaker::start(two.clone());
    if !can_sign(&speaker_two).await {
        return;
    }
    let speaker_one = Speaker::start(one.clone());
    let mut events = speaker_one.events();
    until_up(&mut events).await;
    set(&mut one, |peer| peer.password = key("new"));
    speaker_one.apply(one).await;
    until_down(&mut events).await;
    // Late is not too late.
    set(&mut two, |peer| peer.password = key("new"));
    speaker_two.apply(two).await;
    until_up(&mut events).await;
}

#[tokio::test]
async fn a_roll_with_the_previous_key_at_hand_takes_as_long_as_it_likes() {
    let rolled = |previous: Option<&str>| {
        let mut password = Md5Key::from(&b"new"[..]);
        password.previous = previous.map(|text| text.as_bytes().into());
        Password::Key(password)
    };
    let (mut one, mut two) = couple(78);
    set(&mut one, |peer| peer.password = key("old"));
    set(&mut two, |peer| peer.password = key("old"));
    let speaker_two = Speaker::start(two.clone());
    if !can_sign(&speaker_two).await {
        return;
    }
    let speaker_one = Speaker::start(one.clone());
    until_up(&mut speaker_one.events()).await;

    // One side has the new key: the session goes on as it is.
    set(&mut one, |peer| peer.password = rolled(Some("old")));
    speaker_one.apply(one.clone()).await;
    let signed = async |speaker: &Speaker| {
        let session = other(speaker).await.session;
        session.and_then(|session| session.signed_with)
    };
    assert_eq!(signed(&speaker_one).await, Some(SignedWith::Previous));

    // Its new start finds the other side where that still is.
    drop(speaker_one);
    let speaker_one = Speaker::start(one.clone());
    until_up(&mut speaker_one.events()).await;
    assert_eq!(signed(&speaker_one).await, Some(SignedWith::Previous));

    // The other side follows: still the same session.
    set(&mut two, |peer| peer.password = rolled(Some("old")));
    speaker_two.apply(two.clone()).await;
    let pair = [&speaker_one, &speaker_two];
    assert_eq!(goes_on(pair).await, Some(SignedWith::Previous));

    // The old key goes: both sign with the new one.
    set(&mut one, |peer| peer.password = rolled(None));
    set(&mut two, |peer| peer.password = rolled(None));
    speaker_one.apply(one).await;
    speaker_two.apply(two).await;
    assert_eq!(goes_on(pair).await, Some(SignedWith::Current));
}

#[tokio::test]
async fn a_range_may_have_a_password() {
    let mut two = waiting(74);
    let mut member = two.peers.remove("hand").expect("it is configured");
    member.password = key("secret");
    let range = RangeConfig {
        range: Prefix::v4(address(74, 0), 24).expect("a prefix"),
        peer: member,
        limit: 10,
    };
    two.ranges.insert("rack".into(), range);
    let two = Speaker::start(two);
    if !can_sign(&two).await {
        return;
    }
    let (mut one, _) = couple(74);
    set(&mut one, |peer| peer.password = key("secret"));
    let one = Speaker::start(one);
    until_up(&mut one.events()).await;
}

#[tokio::test]
async fn a_key_of_a_range_that_changes_keeps_the_sessions_of_its_members() {
    let (mut one, mut two) = couple(82);
    let member = two.peers.remove("one").expect("it is configured");
    let range = RangeConfig {
        range: Prefix::v4(address(82, 0), 24).expect("a prefix"),
        peer: member,
        limit: 10,
    };
    two.ranges.insert("rack".into(), range);
    let mut know = |one: &mut SpeakerConfig, text: &str| {
        set(one, |peer| peer.password = key(text));
        for range in two.ranges.values_mut() {
            range.peer.password = key(text);
        }
        two.clone()
    };
    let two = Speaker::start(know(&mut one, "first"));
    if !can_sign(&two).await {
        return;
    }
    let speaker_one = Speaker::start(one.clone());
    until_up(&mut speaker_one.events()).await;
    for (text, members_first) in [("second", true), ("third", false)] {
        let of_range = know(&mut one, text);
        let before = wrongly_signed();
        if members_first {
            speaker_one.apply(one.clone()).await;
            until_dropped(before).await;
            two.apply(of_range).await;
        } else {
            two.apply(of_range).await;
            until_dropped(before).await;
            speaker_one.apply(one.clone()).await;
        }
        let signed = goes_on([&speaker_one, &two]).await;
        assert_eq!(signed, Some(SignedWith::Current));
    }
}

#[tokio::test]
async fn with_gtsm_on_both_sides_the_session_comes_up() {
    let (mut one, mut two) = couple(75);
    set(&mut one, |peer| peer.ttl = Ttl::Security(1));
    set(&mut two, |peer| peer.ttl = Ttl::Security(1));
    let two = Speaker::start(two);
    let one = Speaker::start(one);
    until_up(&mut one.events()).await;
    drop(two);
}

#[tokio::test]
async fn with_gtsm_packets_of_a_low_ttl_are_not_heard() {
    // Our own OPEN reaches them, theirs never reaches us.
    let (mut one, mut two) = couple(76);
    set(&mut one, |peer| peer.ttl = Ttl::Send(64));
    set(&mut two, |peer| peer.ttl = Ttl::Security(1));
    let two = Speaker::start(two);
    let mut of_two = two.events();
    let one = Speaker::start(one);
    let quiet = tokio::time::timeout(seconds(4), until_up(&mut of_two)).await;
    assert!(quiet.is_err(), "no session may come up");
    drop(one);
}

fn ao(send_id: u8, receive_id: u8, secret: &str) -> AoKey {
    AoKey {
        send_id,
        receive_id,
        algorithm: Algorithm::HmacSha1,
        secret: secret.as_bytes().into(),
    }
}

/// Whether the kernel has no TCP-AO, as the only peer of a speaker says.
async fn lacks_ao(speaker: &Speaker) -> bool {
    let told = other(speaker).await.last_error.unwrap_or_default();
    told.contains("this kernel has no TCP-AO")
}

#[tokio::test]
async fn a_kernel_without_tcp_ao_holds_its_peer_down_in_words_and_no_other_peer_notices() {
    let (mut one, mut two) = couple(80);
    set(&mut one, |peer| {
        peer.password = Password::Ao([ao(1, 2, "secret")].into())
    });
    // The other side would take a session without.
    let (second, third) = (address(80, 2), address(80, 3));
    let mut three = speaker(third, 65003);
    three
        .peers
        .insert("two".into(), peer(third, second, 65003, 65002));
    two.peers
        .insert("three".into(), peer(second, third, 65002, 65003));
    one.peers
        .insert("three".into(), peer(address(80, 1), third, 65001, 65003));
    three
        .peers
        .insert("one".into(), peer(third, address(80, 1), 65003, 65001));
    let speaker_one = Speaker::start(one);
    let mut events = speaker_one.events();
    let told = peer_status(&speaker_one, "two").await.last_error;
    let told = told.unwrap_or_default();
    if !told.contains("this kernel has no TCP-AO") {
        println!("skipped: this kernel has TCP-AO");
        return;
    }
    assert!(told.contains("CONFIG_TCP_AO"), "{told}");
    problem(&mut events, "this kernel has no TCP-AO").await;
    let three = Speaker::start(three);
    let two = Speaker::start(two);
    for (speaker, with) in [(&speaker_one, "three"), (&two, "three")] {
        let up = async {
            while peer_status(speaker, with).await.state != SessionState::Established {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, up).await;
        waited.expect("they know each other");
    }
    assert_eq!(status(&speaker_one).await.problems, Vec::<String>::new());
    // It dialled, and nobody answered it.
    assert_eq!(
        peer_status(&speaker_one, "two").await.state,
        SessionState::Idle
    );
    assert_eq!(peer_status(&two, "one").await.established_count, 0);
    drop(three);
}

#[tokio::test]
async fn keys_of_tcp_ao_roll_on_a_session_that_stays() {
    let (mut one, mut two) = couple(81);
    let mut keys = |of_one: &[AoKey]| {
        let of_two: Vec<_> = of_one
            .iter()
            .map(|key| AoKey {
                send_id: key.receive_id,
                receive_id: key.send_id,
                ..key.clone()
            })
            .collect();
        set(&mut one, |peer| peer.password = Password::Ao(of_one.into()));
        set(&mut two, |peer| {
            peer.password = Password::Ao(of_two.clone().into())
        });
        (one.clone(), two.clone())
    };
    let (old, new) = (ao(1, 2, "old"), ao(3, 4, "new"));
    let (one, two) = keys(std::slice::from_ref(&old));
    let speakers = [Speaker::start(one), Speaker::start(two)];
    if lacks_ao(&speakers[0]).await {
        println!("skipped: this kernel has no TCP-AO");
        return;
    }
    until_up(&mut speakers[0].events()).await;
    for step in [&[old.clone(), new.clone()][..], &[new.clone(), old], &[new]] {
        let (one, two) = keys(step);
        speakers[0].apply(one).await;
        speakers[1].apply(two).await;
        let signed = goes_on([&speakers[0], &speakers[1]]).await;
        assert_eq!(signed, Some(SignedWith::TcpAo));
    }
}

/// A node of the mesh in 127.79.0.0/16, which dials.
fn node(number: u16) -> std::net::Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    std::net::Ipv4Addr::new(127, 79, high, low)
}

#[tokio::test]
async fn a_mesh_of_fifteen_hundred_nodes_fits_one_socket_beside_a_peer_of_another_password_and_one_without()
 {
    let ours = node(2);
    let mut two = speaker(ours, 65002);
    let mut add = |number: u16, password: Password| {
        let mut peer = peer(ours, node(number), 65002, 65001);
        peer.connect = Connect::Passive;
        peer.password = password;
        two.peers.insert(format!("node{number}"), peer);
    };
    // Among the first of them: one that knows no password, and one that knows another.
    for number in 3..=1600 {
        add(number, key("mesh"));
    }
    add(70, Password::None);
    add(71, key("switch"));
    let mut config = two.clone();
    let two = Speaker::start(two);
    if !can_sign(&two).await {
        return;
    }
    let problems = status(&two).await.problems;
    assert_eq!(problems, Vec::<String>::new(), "there is room for all");
    let dials = |number: u16, password: Password| {
        let mut one = speaker(node(number), 65001);
        let mut to = peer(node(number), ours, 65001, 65002);
        to.connect = Connect::Dial;
        to.password = password;
        one.listen.clear();
        one.peers.insert("two".into(), to);
        Speaker::start(one)
    };
    let welcome = [
        (3, key("mesh")),
        (69, key("mesh")),
        (70, Password::None),
        (71, key("switch")),
        (72, key("mesh")),
        (1600, key("mesh")),
    ]
    .map(|(number, password)| dials(number, password));
    for one in &welcome {
        until_up(&mut one.events()).await;
    }
    for (number, password) in [
        (100, Password::None),
        (101, key("switch")),
        (70, key("mesh")),
        (71, key("mesh")),
    ] {
        let one = dials(number, password);
        problem(&mut one.events(), "no answer to our SYN").await;
    }
    // One of them needs none any more: the key is cut around it, and the others notice nothing.
    let neighbour = config.peers.get_mut("node100").expect("it is configured");
    neighbour.password = Password::None;
    two.apply(config).await;
    until_up(&mut dials(100, Password::None).events()).await;
    until_up(&mut dials(101, key("mesh")).events()).await;
    for one in &welcome {
        assert_eq!(other(one).await.established_count, 1);
    }
}
