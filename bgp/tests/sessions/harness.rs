//! Speakers on addresses of their own, and a peer made by hand that says what a test wants said.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bgp::{
    config::*,
    prefix::Families,
    speaker::{Event, Speaker},
    status::{PeerStatus, SpeakerStatus},
    wire::{self, Capability, Context, Limit, Message, Notification, Open},
};
use bytes::BytesMut;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::broadcast,
};

/// The longest a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Every test has loopback addresses of its own, so all have the same port.
pub(crate) const PORT: u16 = 11790;

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test that measures reads the clock"
)]
pub(crate) fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

pub(crate) fn speaker(ours: Ipv4Addr, asn: u32) -> SpeakerConfig {
    SpeakerConfig {
        asn,
        router_id: ours,
        cluster_id: ours,
        listen: vec![SocketAddr::new(ours.into(), PORT)],
        peers: [].into(),
        ranges: [].into(),
        originate: [].into(),
        owners: Arc::default(),
        multipath: Multipath {
            max_paths: 16,
            as_path_relax: false,
        },
        deferral: seconds(2),
        draining: false,
        collectors: [].into(),
        mrt: None,
    }
}

pub(crate) fn peer(ours: Ipv4Addr, theirs: Ipv4Addr, asn: u32, their_asn: u32) -> PeerConfig {
    PeerConfig {
        address: theirs.into(),
        interface: None,
        unnumbered: None,
        port: PORT,
        asn: PeerAsn::Number(their_asn),
        local_asn: asn,
        source: Some(IpAddr::from(ours)),
        connect: if ours < theirs {
            Connect::Dial
        } else {
            Connect::After(seconds(10))
        },
        ttl: Ttl::Send(64),
        password: Password::None,
        timers: Timers {
            connect_retry: seconds(2),
            hold: seconds(9),
            keepalive: seconds(3),
            idle_hold_max: seconds(60),
        },
        families: Families::all(),
        extended_next_hop: false,
        add_path: AddPath::default(),
        graceful_restart: Some(GracefulRestartConfig {
            restart_time: 120,
            long_lived: 0,
            notification: false,
            restarted: false,
        }),
        next_hop: NextHopMode::Auto,
        next_hop_addresses: NextHopAddresses::default(),
        route_reflector_client: false,
        allow_own_as: 0,
        max_prefixes: MaxPrefixes {
            count: 0,
            action: OverLimit::Warn,
        },
        bfd: None,
        import: Arc::new(Policy::always("all", Verdict::Accept)),
        export: Some(Arc::new(Policy::always("all", Verdict::Accept))),
        shutdown: None,
        mesh: false,
    }
}

/// The addresses of a test: 127.77.`test`.1 and so on.
pub(crate) fn address(test: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, test, last)
}

/// Two speakers that know each other as `one` and `two`; `one` dials.
pub(crate) fn couple(test: u8) -> (SpeakerConfig, SpeakerConfig) {
    let (a, b) = (address(test, 1), address(test, 2));
    let mut one = speaker(a, 65001);
    let mut two = speaker(b, 65002);
    one.peers.insert("two".into(), peer(a, b, 65001, 65002));
    two.peers.insert("one".into(), peer(b, a, 65002, 65001));
    (one, two)
}

/// A speaker that waits for the peer `hand` to dial.
pub(crate) fn waiting(test: u8) -> SpeakerConfig {
    let (ours, theirs) = (address(test, 2), address(test, 1));
    let mut config = speaker(ours, 65002);
    let mut hand = peer(ours, theirs, 65002, 65001);
    hand.connect = Connect::Passive;
    config.peers.insert("hand".into(), hand);
    config
}

/// Waits for an event that `wanted` gives something for.
pub(crate) async fn event<T>(
    events: &mut broadcast::Receiver<Event>,
    wanted: impl Fn(&Event) -> Option<T>,
) -> T {
    let found = async {
        loop {
            match events.recv().await {
                Ok(event) => {
                    if let Some(found) = wanted(&event) {
                        return found;
                    }
                    println!("beside: {event:?}");
                }
                Err(error) => println!("events: {error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .expect("the event comes")
}

pub(crate) async fn until_up(events: &mut broadcast::Receiver<Event>) {
    let up = |event: &Event| matches!(event, Event::Session { up: true, .. }).then_some(());
    event(events, up).await;
}

/// Why the session went down.
pub(crate) async fn until_down(events: &mut broadcast::Receiver<Event>) -> String {
    event(events, |event| match event {
        Event::Session {
            up: false, reason, ..
        } => Some(reason.clone()),
        _ => None,
    })
    .await
}

/// The first problem that is told and says this.
pub(crate) async fn problem(events: &mut broadcast::Receiver<Event>, part: &str) -> String {
    event(events, |event| match event {
        Event::Problem { text, .. } if text.contains(part) => Some(text.clone()),
        _ => None,
    })
    .await
}

pub(crate) async fn status(speaker: &Speaker) -> SpeakerStatus {
    speaker.status().await.expect("the speaker runs")
}

pub(crate) async fn peer_status(speaker: &Speaker, name: &str) -> PeerStatus {
    let mut status = status(speaker).await;
    status.peers.remove(name).expect("it is configured")
}

/// A peer made by hand.
pub(crate) struct Hand {
    pub(crate) stream: TcpStream,
    buffer: BytesMut,
    context: Context,
}

impl Hand {
    /// Dials from one address to a speaker on another; as often as it takes until that listens.
    pub(crate) async fn dial(from: Ipv4Addr, to: Ipv4Addr) -> Self {
        let dial = async {
            loop {
                if let Ok(stream) = dial_once(from, to).await {
                    return stream;
                }
                tokio::task::yield_now().await;
            }
        };
        let stream = tokio::time::timeout(PATIENCE, dial)
            .await
            .expect("it listens");
        Self {
            stream,
            buffer: BytesMut::new(),
            context: Context {
                families: Families::all(),
                four_octet_as: true,
                ..Context::default()
            },
        }
    }

    pub(crate) async fn say(&mut self, message: &Message) {
        let mut octets = BytesMut::new();
        message
            .write(&self.context, &mut octets)
            .expect("it can be written");
        self.say_octets(&octets).await;
    }

    pub(crate) async fn say_octets(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).await.expect("it is taken");
    }

    /// The next message; `None` at the end.
    pub(crate) async fn hear(&mut self) -> Option<Message> {
        loop {
            let taken = Message::take(&mut self.buffer, Limit::Extended, &self.context);
            if let Some(message) = taken.expect("a good message") {
                return Some(message);
            }
            let read = self.stream.read_buf(&mut self.buffer);
            let read = tokio::time::timeout(PATIENCE, read).await;
            if read.expect("something comes").ok()? == 0 {
                return None;
            }
        }
    }

    /// The NOTIFICATION it ends with; what comes before is passed over.
    pub(crate) async fn last_words(&mut self) -> Option<Notification> {
        loop {
            match self.hear().await? {
                Message::Notification(said) => return Some(said),
                _ => continue,
            }
        }
    }

    /// OPENs and KEEPALIVEs, until the session is up.
    pub(crate) async fn establish(&mut self, open: Open) {
        assert!(matches!(self.hear().await, Some(Message::Open(_))));
        self.say(&Message::Open(open)).await;
        self.say(&Message::Keepalive).await;
        assert_eq!(self.hear().await, Some(Message::Keepalive));
    }
}

async fn dial_once(from: Ipv4Addr, to: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.into(), 0))?;
    SockRef::from(&socket).set_tcp_nodelay(true)?;
    socket.connect(SocketAddr::new(to.into(), PORT)).await
}

/// The OPEN of the peer made by hand.
pub(crate) fn open(test: u8) -> Open {
    use wire::capability::GracefulRestart;
    let families = [bgp::prefix::Family::IPv4, bgp::prefix::Family::IPv6];
    let mut capabilities: Vec<_> = families.map(Capability::Multiprotocol).into();
    capabilities.push(Capability::FourOctetAs(65001));
    capabilities.push(Capability::GracefulRestart(GracefulRestart {
        restarted: false,
        notification: false,
        restart_time: 120,
        families: families.map(|family| (family, false)).into(),
    }));
    Open {
        asn: 65001,
        hold_time: 9,
        id: address(test, 1),
        capabilities,
    }
}
