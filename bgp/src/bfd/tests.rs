//! The thread with real sockets: two paths that lead to each other over loopback.

use std::{collections::BTreeMap, future::poll_fn, net::UdpSocket, time::Duration};

use super::*;
use crate::{rib::fixture, status::BfdStatus};

const CONFIG: BfdConfig = BfdConfig {
    min_rx: Duration::from_millis(50),
    min_tx: Duration::from_millis(50),
    multiplier: 20,
    hops: Hops::Single,
};

fn path(source: &str, remote: &str) -> Path {
    let config = PeerConfig {
        address: remote.parse().expect("an address"),
        source: Some(source.parse().expect("an address")),
        bfd: Some(CONFIG),
        ..fixture::peer_config()
    };
    Path::of(&config).expect("BFD is configured")
}

async fn news(watch: &mut Watch) -> News {
    poll_fn(|context| watch.poll(context))
        .await
        .expect("the thread runs")
}

async fn status(watch: &Watch) -> BfdStatus {
    watch.status().await.expect("the thread runs")
}

/// Two ends of one path. `None`, and said so, where the ports of BFD are somebody else's on this machine.
async fn ends(bfd: &Bfd, [left, right]: [&str; 2]) -> Option<[Watch; 2]> {
    let mut ends = [(left, right), (right, left)]
        .map(|(source, remote)| bfd.watch(&source.into(), path(source, remote), &CONFIG));
    bfd.settle().await;
    let problem = status(&ends[0]).await.problem;
    if let Some(problem) = problem.filter(|problem| problem.contains("cannot listen")) {
        println!("skipped: {problem}");
        return None;
    }
    for end in &mut ends {
        while news(end).await != News::Up {}
    }
    Some(ends)
}

/// One test, for the ports of BFD are there once.
#[tokio::test]
async fn over_loopback() {
    let bfd = Bfd::new();
    if let Some([left, right]) = ends(&bfd, ["127.91.0.1", "127.91.0.2"]).await {
        a_watch_that_ends_is_no_dead_path(left, right).await;
    }
    if let Some([left, _right]) = ends(&bfd, ["127.91.1.1", "127.91.1.2"]).await {
        packets_from_further_away_or_strangers_are_counted(&bfd, &left).await;
    }
}

async fn a_watch_that_ends_is_no_dead_path(mut left: Watch, right: Watch) {
    let before = status(&left).await;
    assert_eq!((before.ups, before.downs), (1, 0));
    let multiplier = before.remote.map(|remote| remote.wants.multiplier);
    assert_eq!(multiplier, Some(20));
    drop(right);
    let taken_down = News::Down("it was taken down by an operator there".into());
    assert_eq!(news(&mut left).await, taken_down);
}

async fn packets_from_further_away_or_strangers_are_counted(bfd: &Bfd, left: &Watch) {
    let far = UdpSocket::bind("127.91.1.2:0").expect("an address of this machine");
    far.send_to(&[0x20; 24], "127.91.1.1:3784")
        .expect("it is sent");
    let stranger = UdpSocket::bind("127.91.1.9:0").expect("an address of this machine");
    stranger.set_ttl(255).expect("any user may set it");
    let down = packet::Packet {
        diagnostic: packet::Diagnostic::NONE,
        state: packet::State::Down,
        flags: packet::Flags::empty(),
        multiplier: 3,
        my_discriminator: 77,
        your_discriminator: 0,
        desired_min_tx: 1_000_000,
        required_min_rx: 1_000_000,
        required_min_echo_rx: 0,
    };
    for octets in [&down.write()[..], &[0xff; 24][..]] {
        stranger
            .send_to(octets, "127.91.1.1:3784")
            .expect("it is sent");
    }
    let counted = loop {
        let counted: BTreeMap<_, _> = bfd.discarded().await.into_iter().collect();
        if counted.contains_key(&Discard::Version) && counted.contains_key(&Discard::Stranger) {
            break counted;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(
        (counted[&Discard::Version], counted[&Discard::Stranger]),
        (1, 1)
    );
    let status = status(left).await;
    assert_eq!(status.discarded, [(Discard::TtlTooLow, 1)].into());
    assert_eq!((status.state, status.downs), (packet::State::Up, 0));
}
