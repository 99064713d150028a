//! Speakers over real sockets on loopback addresses.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bgp::{
    config::*,
    prefix::Families,
    speaker::{Event, Speaker},
    status::{SessionState, SpeakerStatus},
};
use tokio::sync::broadcast;

/// The longest a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(10);

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, 0, last)
}

fn speaker(ours: Ipv4Addr, port: u16, asn: u32) -> SpeakerConfig {
    SpeakerConfig {
        asn,
        router_id: ours,
        cluster_id: ours,
        listen: vec![SocketAddr::new(ours.into(), port)],
        peers: [].into(),
        ranges: [].into(),
        originate: [].into(),
        multipath: Multipath {
            max_paths: 16,
            as_path_relax: false,
        },
        deferral: Duration::from_secs(2),
        draining: false,
    }
}

fn peer(ours: Ipv4Addr, theirs: Ipv4Addr, port: u16, asn: u32, their_asn: u32) -> PeerConfig {
    PeerConfig {
        address: theirs.into(),
        interface: None,
        port,
        asn: PeerAsn::Number(their_asn),
        local_asn: asn,
        source: Some(IpAddr::from(ours)),
        connect: if ours < theirs {
            Connect::Dial
        } else {
            Connect::After(Duration::from_secs(10))
        },
        ttl: Ttl::Send(64),
        password: Password::None,
        timers: Timers {
            connect_retry: Duration::from_secs(5),
            hold: Duration::from_secs(9),
            keepalive: Duration::from_secs(3),
            idle_hold_max: Duration::from_secs(60),
        },
        families: Families::all(),
        extended_next_hop: false,
        add_path: AddPath::default(),
        graceful_restart: None,
        next_hop: NextHopMode::Auto,
        next_hop_addresses: NextHopAddresses::default(),
        route_reflector_client: false,
        allow_own_as: 0,
        max_prefixes: MaxPrefixes {
            count: 0,
            action: OverLimit::Warn,
        },
        import: Arc::new(Policy::always("all", Verdict::Accept)),
        export: None,
        shutdown: None,
        mesh: false,
    }
}

/// Two speakers that know each other.
fn couple(port: u16, first: u8, second: u8) -> (SpeakerConfig, SpeakerConfig) {
    let (a, b) = (address(first), address(second));
    let mut one = speaker(a, port, 65001);
    let mut two = speaker(b, port, 65002);
    one.peers
        .insert("two".into(), peer(a, b, port, 65001, 65002));
    two.peers
        .insert("one".into(), peer(b, a, port, 65002, 65001));
    (one, two)
}

async fn until_up(events: &mut broadcast::Receiver<Event>) {
    let up = async {
        loop {
            match events.recv().await {
                Ok(Event::Session { up: true, .. }) => return,
                Ok(other) => println!("{other:?}"),
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, up)
        .await
        .expect("the session comes up");
}

async fn status(speaker: &Speaker) -> SpeakerStatus {
    speaker.status().await.expect("the speaker runs")
}

#[tokio::test]
async fn two_speakers_establish_a_session() {
    let (one, two) = couple(11790, 1, 2);
    let two = Speaker::start(two);
    let mut of_two = two.events();
    let started = tokio::time::Instant::now();
    let one = Speaker::start(one);
    until_up(&mut one.events()).await;
    println!("established after {:?}", started.elapsed());
    until_up(&mut of_two).await;
    let status = status(&one).await;
    let peer = &status.peers["two"];
    println!("{}", serde_json::to_string_pretty(&status).unwrap());
    assert_eq!(peer.state, SessionState::Established);
}
