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
        incoming::Incoming,
        negotiate::{Local, Negotiated, our_open},
        outgoing::Outgoing,
    },
    prefix::Families,
    rib::{
        Rib,
        task::{Outbound, PeerChange, PeerId, PeerMessage, Room, Session, Settings},
    },
    wire::{Context, Message},
};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

const PEER: PeerId = PeerId(1);
const CONNECTION: ConnectionId = ConnectionId(0);

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
    fsm: Fsm,
    rib: Rib,
    incoming: Incoming,
    outgoing: Outgoing,
    session: Option<(mpsc::UnboundedReceiver<Bytes>, Arc<Room>)>,
    open: bool,
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
        let mut play = Self {
            now,
            fsm: Fsm::new(config, id, Jitter::new(1, now)),
            rib,
            incoming: Incoming::new(CONNECTION),
            outgoing: Outgoing::default(),
            session: None,
            open: true,
        };
        play.feed(Event::Start);
        play.feed(Event::Dialled(CONNECTION));
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

    fn hear(&mut self, octets: &[u8]) {
        if !self.open || self.incoming.is_deaf() {
            return;
        }
        let chunk = [self.incoming.unparsed(), octets].concat();
        let mut read = Some(self.incoming.take(&chunk, |_| {}));
        while let Some(events) = read.map(|read| read.events) {
            if events.is_empty() {
                break;
            }
            for event in events {
                self.feed(event);
            }
            if !self.open || self.incoming.is_deaf() {
                break;
            }
            read = self.incoming.resume(|_| {});
        }
        // A reader that is not deaf keeps less than one message.
        assert!(self.incoming.is_deaf() || self.incoming.unparsed().len() < 65_535 + octets.len());
        self.rib.handle_timeout(self.now);
        self.rib.flush(self.now);
        drop(self.rib.take_installs(usize::MAX));
        drop(self.rib.take_events());
        self.write();
    }

    fn write(&mut self) {
        let Some((messages, room)) = &mut self.session else {
            return;
        };
        while let Ok(octets) = messages.try_recv() {
            room.subtract(octets.len());
            self.outgoing.push(octets);
        }
        self.outgoing.went_out(self.outgoing.waiting());
        self.feed(Event::Sent(CONNECTION));
    }

    fn feed(&mut self, event: Event) {
        let actions = self.fsm.handle(self.now, event);
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(id, message) => {
                    assert!(self.open && id == CONNECTION, "it speaks where it can");
                    drop(self.outgoing.send(&message));
                }
                Action::Close(id, said) => {
                    assert!(self.open && id == CONNECTION, "it closes what is open");
                    drop(said.map(|said| self.outgoing.last_words(said)));
                    self.open = false;
                }
                Action::Agreed(_, agreed) => {
                    self.incoming.agreed(agreed.context);
                    self.outgoing.agreed(agreed.context);
                }
                Action::Up(_, agreed) => self.up(&agreed),
                Action::Down(ending, how) => {
                    assert!(self.session.take().is_some(), "what ends had begun");
                    self.rib
                        .hear(self.now, PEER, PeerMessage::Down(ending, how));
                }
                Action::Deliver(updates) => {
                    assert!(self.session.is_some(), "routes come over a session");
                    self.rib.hear(self.now, PEER, PeerMessage::Updates(updates));
                }
                Action::Refresh(refresh) => {
                    self.rib.hear(self.now, PEER, PeerMessage::Refresh(refresh));
                }
                Action::Dial(_) | Action::AbandonDial | Action::State(..) | Action::Failed(_) => {}
            }
        }
    }

    fn up(&mut self, agreed: &Negotiated) {
        let (messages, received) = mpsc::unbounded_channel();
        let (orders, _) = mpsc::unbounded_channel();
        let room = Arc::new(Room::default());
        self.session = Some((received, Arc::clone(&room)));
        let config = Arc::clone(self.fsm.config());
        let session = Session {
            context: agreed.context,
            kind: agreed.kind,
            asn: agreed.asn,
            router_id: agreed.router_id,
            address: config.address,
            local_address: Ipv4Addr::new(192, 0, 2, 1).into(),
            local_link_local: None,
            interface: None,
            refresh: agreed.refresh,
            expects_end_of_rib: agreed.expects_end_of_rib(),
            preserved: agreed.preserved(),
            knows_long_stale: agreed.knows_long_stale,
            opening: Arc::default(),
            outbound: Outbound {
                messages,
                room,
                orders,
            },
            config,
        };
        let established = PeerMessage::Established(Box::new(session));
        self.rib.hear(self.now, PEER, established);
    }

    /// Time passes, the connection ends: nothing of the peer is left.
    fn end(&mut self) {
        for _ in 0..100 {
            let Some(next) = self.fsm.next_timeout().filter(|_| self.open) else {
                break;
            };
            self.now = self.now.max(next);
            let actions = self.fsm.handle_timeout(self.now);
            self.act(actions);
            let later = self.fsm.next_timeout();
            assert!(
                later.is_none_or(|later| later > next),
                "what is due is done"
            );
        }
        if self.open {
            self.feed(Event::Closed(CONNECTION, Loss::Closed, "the end".into()));
        }
        assert!(!self.open && self.session.is_none());
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
