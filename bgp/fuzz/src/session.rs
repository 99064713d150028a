//! A whole session: octets in chunks through the reader to the state machine, and on to a Rib.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use bgp::{
    config::{
        AddPath, Connect, GracefulRestartConfig, MaxPrefixes, Multipath, NextHopAddresses,
        NextHopMode, OverLimit, Password, PeerAsn, PeerConfig, Policy, Timers, Ttl, Verdict,
    },
    peer::{
        deadlines::Jitter,
        fsm::{Action, ConnectionId, Event, Fsm, Loss},
        negotiate::{Local, our_open},
        outgoing::Outgoing,
    },
    prefix::Families,
    rib::{
        Rib,
        task::{PeerChange, PeerId, Settings},
    },
    simulated::{Driver, Effect, Link},
    wire::{Context, Message},
};
use bytes::BytesMut;

const PEER: PeerId = PeerId(1);

/// Plays what `octets` choose: what both offer, whether the peer begins as it should, how long the chunks are, and all that
/// it says.
pub fn check(octets: &[u8]) {
    let &[how, size, ref said @ ..] = octets else {
        return;
    };
    let mut play = Play::new(how);
    let mut stream = Vec::new();
    if how & 0x80 != 0 {
        stream.extend(play.greeting(how));
    }
    stream.extend_from_slice(said);
    for chunk in stream.chunks(usize::from(size) + 1) {
        play.hear(chunk);
    }
    play.end();
}

/// Our side.
struct Play {
    now: Instant,
    driver: Driver<()>,
    connection: ConnectionId,
    rib: Rib,
}

fn config(how: u8, local_asn: u32, asn: u32) -> PeerConfig {
    let bit = |bit: u8| how & (1 << bit) != 0;
    PeerConfig {
        address: Ipv4Addr::new(192, 0, 2, 2).into(),
        interface: None,
        unnumbered: None,
        port: 179,
        asn: PeerAsn::Number(asn),
        local_asn,
        source: None,
        connect: Connect::Dial,
        ttl: Ttl::Send(1),
        password: Password::None,
        timers: Timers {
            connect_retry: Duration::from_secs(5),
            hold: Duration::from_secs(if bit(0) { 0 } else { 9 }),
            keepalive: Duration::from_secs(3),
            idle_hold_max: Duration::from_secs(60),
        },
        families: Families::all(),
        extended_next_hop: bit(1),
        add_path: AddPath {
            receive: bit(2),
            send_max: if bit(3) { 4 } else { 0 },
        },
        graceful_restart: bit(4).then_some(GracefulRestartConfig {
            restart_time: 20,
            long_lived: 30,
            notification: bit(5),
            restarted: false,
        }),
        next_hop: NextHopMode::Auto,
        next_hop_addresses: NextHopAddresses {
            v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
            v6: "2001:db8::1".parse().ok(),
        },
        route_reflector_client: false,
        allow_own_as: 0,
        max_prefixes: MaxPrefixes {
            count: 1000,
            action: OverLimit::Shutdown(Duration::from_secs(1)),
        },
        bfd: None,
        import: Arc::new(Policy::always("all", Verdict::Accept)),
        export: Some(Arc::new(Policy::always("all", Verdict::Accept))),
        shutdown: None,
        mesh: false,
    }
}

fn numbers(how: u8) -> (u32, u32) {
    // Internal, or external with a number that does not fit two octets.
    (
        64512,
        if how & 0x40 == 0 {
            64512
        } else {
            4_200_000_001
        },
    )
}

impl Play {
    fn new(how: u8) -> Self {
        let now = Instant::now();
        let (ours, theirs) = numbers(how);
        let id = Ipv4Addr::new(192, 0, 2, 1);
        let config = Arc::new(config(how, ours, theirs));
        let settings = Settings {
            asn: ours,
            router_id: id,
            cluster_id: id,
            multipath: Multipath {
                max_paths: 4,
                as_path_relax: true,
            },
            deferral: Duration::from_secs(15),
            draining: false,
            stable: true,
            originate: Default::default(),
            owners: Arc::default(),
        };
        let mut rib = Rib::new(settings.clone(), true, now);
        let set = PeerChange::Set {
            peer: PEER,
            name: "peer".into(),
            config: Arc::clone(&config),
        };
        rib.configure(now, settings, vec![set]);
        let fsm = Fsm::new(config, id, Jitter::new(1, now));
        let mut driver = Driver::new(fsm, id.into());
        let connection = driver.adopt(());
        let mut play = Self {
            now,
            driver,
            connection,
            rib,
        };
        play.feed(Event::Start);
        play.feed(Event::Dialled(connection));
        play
    }

    /// What a good peer says at first.
    fn greeting(&self, how: u8) -> BytesMut {
        let (ours, theirs) = numbers(how);
        let local = Local {
            router_id: Ipv4Addr::new(192, 0, 2, 2),
            restarting: false,
            preserved: true,
        };
        let open = our_open(&config(how, theirs, ours), &local);
        let mut octets = BytesMut::new();
        for message in [Message::Open(open), Message::Keepalive] {
            let written = message.write(&Context::default(), &mut octets);
            assert!(written.is_ok(), "only an UPDATE can be too long");
        }
        octets
    }

    /// Our connection, while it is open.
    fn link(&mut self) -> Option<&mut Link<()>> {
        self.driver.link(self.connection)
    }

    fn hear(&mut self, octets: &[u8]) {
        let Some(link) = self.link() else { return };
        let mut events = link.hear(octets);
        while !events.is_empty() {
            for event in events {
                self.feed(event);
            }
            events = self.link().map_or_else(Vec::new, Link::go_on);
        }
        let Some(link) = self.link() else { return };
        // A reader that is not deaf keeps less than one message.
        let kept = link.incoming.unparsed().len();
        assert!(link.incoming.is_deaf() || kept < 65_535 + octets.len());
        self.rib.handle_timeout(self.now);
        self.rib.flush(self.now);
        drop(self.rib.take_installs(usize::MAX));
        drop(self.rib.take_events());
        self.write();
    }

    fn write(&mut self) {
        if self.driver.connection().is_none() {
            return;
        }
        while let Some(order) = self.driver.order() {
            self.feed(order);
        }
        self.driver.take(|_: &Outgoing| true);
        if let Some(link) = self.link() {
            let of_rib = link.outgoing.went_out(link.outgoing.waiting());
            let _ = self.driver.wrote(self.connection, of_rib);
        }
        self.feed(Event::Sent(self.connection));
    }

    fn feed(&mut self, event: Event) {
        let actions = self.driver.fsm.handle(self.now, event);
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match &action {
                Action::Send(id, _) | Action::Close(id, _) => {
                    let link = self.driver.link(*id);
                    assert!(link.is_some(), "it speaks and closes where it can");
                }
                Action::Down(..) | Action::Deliver(_) => {
                    let up = self.driver.connection().is_some();
                    assert!(up, "routes come over a session, and what ends had begun");
                }
                _ => {}
            }
            match self.driver.carry_out(action) {
                Some(Effect::Say(message)) => self.rib.hear(self.now, PEER, message),
                Some(Effect::Closed(mut link, said)) => {
                    drop(said.map(|said| link.outgoing.last_words(said)));
                }
                _ => {}
            }
        }
    }

    /// The next deadline, while the connection is open.
    fn timeout(&self) -> Option<Instant> {
        let open = !self.driver.links().is_empty();
        self.driver.fsm.next_timeout().filter(|_| open)
    }

    /// Time passes, the connection ends: nothing of the peer is left.
    fn end(&mut self) {
        for _ in 0..100 {
            let Some(next) = self.timeout() else {
                break;
            };
            self.now = self.now.max(next);
            let actions = self.driver.fsm.handle_timeout(self.now);
            self.act(actions);
            let later = self.driver.fsm.next_timeout();
            assert!(
                later.is_none_or(|later| later > next),
                "what is due is done"
            );
        }
        if self.link().is_some() {
            let closed = Event::Closed(self.connection, Loss::Closed, "the end".into());
            self.feed(closed);
        }
        assert!(self.driver.links().is_empty() && self.driver.connection().is_none());
        self.now += Duration::from_secs(100_000);
        self.rib.handle_timeout(self.now);
        self.rib.flush(self.now);
        self.rib
            .handle_timeout(self.now + Duration::from_secs(100_000));
        self.rib.flush(self.now + Duration::from_secs(100_000));
        let counts = self.rib.counts();
        assert!(
            counts.prefixes.values().all(|count| *count == 0),
            "{counts:?}"
        );
    }
}
