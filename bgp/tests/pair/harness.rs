//! Two state machines, a wire between them that carries real octets, and a clock moved by hand.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use bgp::{
    config::*,
    peer::{
        deadlines::{Jitter, Timer},
        fsm::{Action, ConnectionId, Event, Fsm, Loss},
        negotiate::Negotiated,
    },
    prefix::Families,
    rib::task::Ending,
    status::SessionState,
    wire::{self, Context, Limit, Message, Notification},
};
use bytes::BytesMut;

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Some instant to count from.
#[expect(clippy::disallowed_methods, reason = "a clock needs a beginning")]
pub(crate) fn beginning() -> Instant {
    Instant::now()
}

/// A peer as most tests want it: AS 65001 and 65002, hold 9 s, graceful restart without the N bit.
pub(crate) fn peer_config(local_asn: u32, asn: u32) -> PeerConfig {
    PeerConfig {
        address: Ipv4Addr::new(192, 0, 2, 1).into(),
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
            connect_retry: seconds(5),
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
        export: None,
        shutdown: None,
        mesh: false,
    }
}

/// One machine and what it did.
pub(crate) struct Side {
    pub(crate) fsm: Fsm,
    /// Whether others can dial it.
    pub(crate) listens: bool,
    pub(crate) dials: Vec<Instant>,
    dialling: bool,
    pub(crate) ups: Vec<(ConnectionId, Arc<Negotiated>)>,
    pub(crate) downs: Vec<Ending>,
    /// NOTIFICATIONs it sent, and closes without one.
    pub(crate) closes: Vec<Option<Notification>>,
    pub(crate) failures: Vec<String>,
    pub(crate) states: Vec<SessionState>,
    pub(crate) keepalives: usize,
    pub(crate) opens: Vec<wire::Open>,
}

impl Side {
    pub(crate) fn new(config: PeerConfig, id: u8) -> Self {
        let id_address = Ipv4Addr::new(10, 0, 0, id);
        Self {
            fsm: Fsm::new(
                Arc::new(config),
                id_address,
                Jitter::new(u64::from(id), beginning()),
            ),
            listens: true,
            dials: Vec::new(),
            dialling: false,
            ups: Vec::new(),
            downs: Vec::new(),
            closes: Vec::new(),
            failures: Vec::new(),
            states: Vec::new(),
            keepalives: 0,
            opens: Vec::new(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.fsm.state() == SessionState::Established
    }
}

/// One TCP connection: its two ends are the two sides, and both know it by the same number.
struct Wire {
    id: ConnectionId,
    open: [bool; 2],
    /// Octets on their way to each side, and the end of the stream.
    to: [VecDeque<Packet>; 2],
    context: [Context; 2],
}

enum Packet {
    Octets(Vec<u8>),
    End,
}

/// Both sides and the network between them.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) sides: [Side; 2],
    wires: Vec<Wire>,
    next_id: u32,
    /// Nothing arrives, in either direction, and nothing is said about it.
    pub(crate) cut: bool,
    /// Which of several packets is delivered next.
    pub(crate) order: Box<dyn FnMut(usize) -> usize>,
}

pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;

impl Pair {
    /// Two sides in different ASes; B has the higher BGP Identifier.
    pub(crate) fn new(change: impl Fn(usize, &mut PeerConfig)) -> Self {
        let mut configs = [peer_config(65001, 65002), peer_config(65002, 65001)];
        for (side, config) in configs.iter_mut().enumerate() {
            change(side, config);
        }
        let [a, b] = configs;
        Self {
            now: beginning(),
            sides: [Side::new(a, 1), Side::new(b, 2)],
            wires: Vec::new(),
            next_id: 0,
            cut: false,
            order: Box::new(|_| 0),
        }
    }

    /// A dials, B listens; the session is up.
    pub(crate) fn established(change: impl Fn(usize, &mut PeerConfig)) -> Self {
        let mut pair = Self::new(|side, config| {
            if side == B {
                config.connect = Connect::After(seconds(10));
            }
            change(side, config);
        });
        pair.start(B);
        pair.start(A);
        pair.settle();
        assert!(pair.sides[A].is_up() && pair.sides[B].is_up());
        pair
    }

    pub(crate) fn start(&mut self, side: usize) {
        self.event(side, Event::Start);
    }

    pub(crate) fn event(&mut self, side: usize, event: Event) {
        let actions = self.sides[side].fsm.handle(self.now, event);
        self.act(side, actions);
    }

    /// Somebody dials `side` who is not the other side; nothing ever comes over it but what the test says.
    pub(crate) fn stranger(&mut self, side: usize) -> ConnectionId {
        let id = self.connection();
        self.event(side, Event::Accepted(id));
        id
    }

    pub(crate) fn connection(&mut self) -> ConnectionId {
        self.next_id += 1;
        ConnectionId(self.next_id)
    }

    /// Carries out what does not need time: dials and deliveries.
    pub(crate) fn settle(&mut self) {
        while self.step() {}
    }

    /// One of the things that can happen now, as `order` chooses.
    pub(crate) fn step(&mut self) -> bool {
        let mut choices = Vec::new();
        for side in [A, B] {
            if self.sides[side].dialling {
                choices.push((side, None));
            }
        }
        for (index, wire) in self.wires.iter().enumerate() {
            for side in [A, B] {
                if !wire.to[side].is_empty() && !self.cut {
                    choices.push((side, Some(index)));
                }
            }
        }
        if choices.is_empty() || self.cut {
            return false;
        }
        let chosen = (self.order)(choices.len()) % choices.len();
        let (side, wire) = choices[chosen];
        match wire {
            None => self.dial(side),
            Some(index) => self.deliver(side, index),
        }
        true
    }

    fn dial(&mut self, side: usize) {
        self.sides[side].dialling = false;
        let other = 1 - side;
        if !self.sides[other].listens {
            return self.event(side, Event::DialFailed("refused".into()));
        }
        let id = self.connection();
        self.wires.push(Wire {
            id,
            open: [true, true],
            to: [VecDeque::new(), VecDeque::new()],
            context: [Context::default(), Context::default()],
        });
        self.event(side, Event::Dialled(id));
        self.event(other, Event::Accepted(id));
    }

    fn deliver(&mut self, side: usize, index: usize) {
        let Some(packet) = self.wires[index].to[side].pop_front() else {
            return;
        };
        let id = self.wires[index].id;
        if !self.wires[index].open[side] {
            return;
        }
        match packet {
            Packet::End => {
                self.wires[index].open[side] = false;
                self.event(side, Event::Closed(id, Loss::Closed, "closed".into()));
            }
            Packet::Octets(octets) => {
                let frame = wire::frame(&octets, Limit::Extended)
                    .expect("a good header")
                    .expect("a whole message");
                let message = frame
                    .message(&self.wires[index].context[side])
                    .expect("a good message")
                    .expect("a message that means something");
                self.event(side, Event::Received(id, message));
            }
        }
    }

    fn act(&mut self, side: usize, actions: Vec<Action>) {
        for action in actions {
            let now = self.now;
            let this = &mut self.sides[side];
            match action {
                Action::Dial(_) => {
                    this.dials.push(now);
                    this.dialling = true;
                }
                Action::AbandonDial => this.dialling = false,
                Action::Send(id, message) => {
                    match &message {
                        Message::Keepalive => this.keepalives += 1,
                        Message::Open(open) => this.opens.push(open.clone()),
                        _ => {}
                    }
                    self.send(side, id, &message);
                    self.event(side, Event::Sent(id));
                }
                Action::Close(id, notification) => {
                    this.closes.push(notification.clone());
                    if let Some(notification) = notification {
                        self.send(side, id, &Message::Notification(notification));
                    }
                    self.end(side, id);
                }
                Action::Agreed(id, agreed) => {
                    for wire in self.wires.iter_mut().filter(|wire| wire.id == id) {
                        wire.context[side] = agreed.context;
                    }
                }
                Action::Up(id, agreed) => this.ups.push((id, agreed)),
                Action::Down(ending, _) => this.downs.push(ending),
                Action::Failed(reason) => this.failures.push(reason),
                Action::State(state, _) => this.states.push(state),
                Action::Deliver(_) | Action::Refresh(_) => {}
            }
        }
    }

    /// Puts a message on a connection, whatever the machine thinks of it.
    pub(crate) fn send(&mut self, side: usize, id: ConnectionId, message: &Message) {
        let Some(wire) = self.wires.iter_mut().find(|wire| wire.id == id) else {
            return;
        };
        let mut octets = BytesMut::new();
        message
            .write(&wire.context[side], &mut octets)
            .expect("it can be written");
        wire.to[1 - side].push_back(Packet::Octets(octets.to_vec()));
    }

    fn end(&mut self, side: usize, id: ConnectionId) {
        if let Some(wire) = self.wires.iter_mut().find(|wire| wire.id == id) {
            wire.open[side] = false;
            wire.to[1 - side].push_back(Packet::End);
        }
    }

    /// All connections break, and both sides learn it at once.
    pub(crate) fn break_all(&mut self) {
        for id in self.wires.iter().map(|wire| wire.id).collect::<Vec<_>>() {
            for side in [A, B] {
                self.event(side, Event::Closed(id, Loss::Closed, "reset".into()));
            }
        }
        self.wires.clear();
    }

    /// `side` is killed and begins anew, having kept its forwarding state or not; its kernel closes its connections.
    pub(crate) fn restart(&mut self, side: usize, config: PeerConfig) {
        self.sides[side] = Side::new(config, u8::try_from(side + 1).expect("small"));
        for index in 0..self.wires.len() {
            let wire = &mut self.wires[index];
            wire.to[side].clear();
            if wire.open[side] {
                wire.open[side] = false;
                wire.to[1 - side].push_back(Packet::End);
            }
        }
    }

    /// Lets time pass, with all that happens in it.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let next = self.sides.iter().filter_map(|one| one.fsm.next_timeout());
            let Some(next) = next.min().filter(|next| *next <= end) else {
                break;
            };
            self.now = next.max(self.now);
            for side in [A, B] {
                // What one side sends goes out at once.
                for id in self.sides[side].fsm.expiring(Timer::SendHold, self.now) {
                    self.event(side, Event::NothingWaits(id));
                }
                let actions = self.sides[side].fsm.handle_timeout(self.now);
                self.act(side, actions);
            }
        }
        self.now = end;
    }
}
