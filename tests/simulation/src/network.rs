//! A model of TCP between the nodes: octets in order within a connection, none between connections; buffers that fill; what
//! waits for a dead path and is repeated; resets from whoever has forgotten a connection.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    clock::{Clock, Event},
    paths::Paths,
    topology::Node,
};
use bytes::Bytes;

/// A connection, never numbered again.
pub type Wire = u64;

/// One side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Which connection.
    pub wire: Wire,
    /// Which side; the first dialled.
    pub side: usize,
}

impl Socket {
    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        Self {
            side: 1 - self.side,
            ..self
        }
    }
}

/// A dial under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Who dials.
    pub from: Node,
    /// Whom.
    pub to: Node,
    /// Which of all dials.
    pub number: u64,
}

/// What goes over a connection.
#[derive(Clone, Debug)]
pub enum Packet {
    /// Some of the stream.
    Octets(Bytes),
    /// Its end.
    Fin,
    /// The other side knows no such connection, or wants none.
    Reset,
}

/// How one side of a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A process has it.
    Open,
    /// It said its last words; what comes is read and thrown away for a moment.
    Lingering,
    /// It is closed: octets are answered by a reset.
    Closed,
}

/// How a side of a connection is.
#[derive(Debug)]
pub struct End {
    /// Whose.
    pub node: Node,
    /// How it stands.
    pub state: State,
    /// What has come and was not read.
    pub inbox: VecDeque<Packet>,
    /// Until then its process does not come to read it.
    pub unread_until: Option<Instant>,
    /// How long it lets what it sent go unacknowledged; zero: as long as TCP likes.
    pub patience: Duration,
    /// Since when something is.
    unacknowledged: Option<Instant>,
}

/// What is under way from one side to the other.
#[derive(Debug, Default)]
struct Way {
    flying: VecDeque<Packet>,
    /// Octets that were written and not read yet.
    octets: usize,
    /// When the last of it arrives.
    last: Option<Instant>,
    /// Something is stuck, because the path is dead.
    held: bool,
    /// The writer waits for room.
    full: bool,
    /// What was said last, for whoever wants to garble it.
    said: Bytes,
}

/// One connection; the first side dialled.
#[derive(Debug)]
pub struct Connection {
    /// Its sides.
    pub ends: [End; 2],
    ways: [Way; 2],
    /// Somebody else's octets went over it.
    pub tainted: bool,
}

/// All connections, and the paths they take.
#[derive(Debug)]
pub struct Network {
    /// All there are.
    pub connections: BTreeMap<Wire, Connection>,
    next: Wire,
    /// Which directions carry something.
    pub paths: Paths,
    /// Octets that wait in both kernels of a connection at most.
    pub window: usize,
    /// The longest a packet takes, beside the shortest.
    pub delay: (Duration, Duration),
}

/// Linux gives up after about so long where nobody says otherwise.
const TCP_PATIENCE: Duration = Duration::from_secs(924);

/// How long a side that said its last words reads on.
pub const LINGER: Duration = Duration::from_secs(1);

impl Network {
    /// No connection yet.
    #[must_use]
    pub fn new(window: usize, delay: (Duration, Duration)) -> Self {
        Self {
            connections: BTreeMap::new(),
            next: 0,
            paths: Paths::default(),
            window,
            delay,
        }
    }

    /// How long a packet takes this time.
    pub fn takes(&self, clock: &mut Clock) -> Duration {
        let (least, most) = self.delay;
        let spread = u64::try_from((most - least).as_nanos()).unwrap_or(0);
        least + Duration::from_nanos(clock.random.u64(..=spread))
    }

    /// A connection that has come about.
    pub fn connect(&mut self, dialler: Node, listener: Node) -> Wire {
        let wire = self.next;
        self.next += 1;
        let end = |node| End {
            node,
            state: State::Open,
            inbox: VecDeque::new(),
            unread_until: None,
            patience: Duration::ZERO,
            unacknowledged: None,
        };
        let connection = Connection {
            ends: [end(dialler), end(listener)],
            ways: [Way::default(), Way::default()],
            tainted: false,
        };
        self.connections.insert(wire, connection);
        wire
    }

    /// One side of a connection, while anybody has it.
    #[must_use]
    pub fn end(&mut self, socket: Socket) -> Option<&mut End> {
        let connection = self.connections.get_mut(&socket.wire)?;
        Some(&mut connection.ends[socket.side])
    }

    /// Whether a process has that side.
    #[must_use]
    pub fn is_open(&self, socket: Socket) -> bool {
        let connection = self.connections.get(&socket.wire);
        connection.is_some_and(|connection| connection.ends[socket.side].state == State::Open)
    }

    /// Whose side that is, and whose the other.
    #[must_use]
    pub fn nodes(&self, socket: Socket) -> Option<(Node, Node)> {
        let connection = self.connections.get(&socket.wire)?;
        let [own, other] = [socket, socket.other()].map(|one| connection.ends[one.side].node);
        Some((own, other))
    }

    /// All sides of connections of a node, in order.
    #[must_use]
    pub fn sockets(&self, node: Node) -> Vec<Socket> {
        let all = self.connections.iter().flat_map(|(wire, connection)| {
            [0, 1]
                .into_iter()
                .filter(move |side| connection.ends[*side].node == node)
                .map(|side| Socket { wire: *wire, side })
        });
        all.collect()
    }

    /// The connections between two nodes, each as the side of the first.
    #[must_use]
    pub fn between(&self, node: Node, other: Node) -> Vec<Socket> {
        let mut sockets = self.sockets(node);
        sockets.retain(|socket| self.nodes(*socket) == Some((node, other)));
        sockets
    }

    /// How many octets a side could write now; the rest waits for [`Event::Room`].
    pub fn room(&mut self, socket: Socket) -> usize {
        let window = self.window;
        let Some(connection) = self.connections.get_mut(&socket.wire) else {
            return 0;
        };
        let way = &mut connection.ways[socket.side];
        let room = window.saturating_sub(way.octets);
        way.full |= room == 0;
        room
    }

    /// Somebody else's octets, as if that side had said them.
    pub fn inject(&mut self, socket: Socket, octets: Bytes, clock: &mut Clock) {
        if let Some(connection) = self.connections.get_mut(&socket.wire) {
            connection.tainted = true;
        }
        self.send(socket, Packet::Octets(octets), clock);
    }

    /// What that side said last.
    #[must_use]
    pub fn said(&self, socket: Socket) -> Bytes {
        let connection = self.connections.get(&socket.wire);
        connection.map_or_else(Bytes::new, |connection| {
            connection.ways[socket.side].said.clone()
        })
    }

    /// A side says something.
    pub fn send(&mut self, socket: Socket, packet: Packet, clock: &mut Clock) {
        let takes = self.takes(clock);
        let Some((from, to)) = self.nodes(socket) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(&socket.wire) else {
            return;
        };
        let way = &mut connection.ways[socket.side];
        if let Packet::Octets(octets) = &packet {
            way.octets += octets.len();
            way.said = octets.clone();
        }
        way.flying.push_back(packet);
        let at = (clock.now + takes).max(way.last.unwrap_or(clock.now));
        way.last = Some(at);
        clock.at(at, Event::Arrival(socket.other()));
        if !self.paths.are_whole(from, to) {
            self.waits_for_acknowledgement(socket, clock);
        }
    }

    /// Something may have arrived at a side.
    pub fn arrive(&mut self, socket: Socket, clock: &mut Clock) -> Option<Packet> {
        let (node, other) = self.nodes(socket)?;
        let carried = self.paths.carry(other, node);
        let acknowledged = self.paths.carry(node, other);
        let teller = socket.other();
        let connection = self.connections.get_mut(&socket.wire)?;
        let way = &mut connection.ways[teller.side];
        if !carried {
            way.held |= !way.flying.is_empty();
            if way.held {
                self.waits_for_acknowledgement(teller, clock);
            }
            return None;
        }
        if way.held {
            return None;
        }
        let packet = way.flying.pop_front()?;
        if acknowledged && way.flying.is_empty() {
            connection.ends[teller.side].unacknowledged = None;
        } else if !acknowledged {
            self.waits_for_acknowledgement(teller, clock);
        }
        Some(packet)
    }

    /// A process took octets out of its inbox: there is room for more.
    pub fn took(&mut self, socket: Socket, count: usize, clock: &mut Clock) {
        let takes = self.takes(clock);
        let teller = socket.other();
        let Some(connection) = self.connections.get_mut(&socket.wire) else {
            return;
        };
        let way = &mut connection.ways[teller.side];
        way.octets = way.octets.saturating_sub(count);
        if std::mem::take(&mut way.full) {
            clock.after(takes, Event::Room(teller));
        }
    }

    fn waits_for_acknowledgement(&mut self, socket: Socket, clock: &mut Clock) {
        let Some(end) = self.end(socket) else { return };
        if end.unacknowledged.is_none() && end.state == State::Open {
            end.unacknowledged = Some(clock.now);
            clock.after(patience(end), Event::Unacknowledged(socket));
        }
    }

    /// Whether that side must give the connection up; otherwise looks again when it might.
    pub fn gives_up(&mut self, socket: Socket, clock: &mut Clock) -> bool {
        let Some(end) = self.end(socket) else {
            return false;
        };
        let Some(since) = end.unacknowledged.filter(|_| end.state == State::Open) else {
            return false;
        };
        let at = since + patience(end);
        if clock.now < at {
            clock.at(at, Event::Unacknowledged(socket));
        }
        clock.now >= at
    }

    /// A way between two works again; what waited is repeated.
    pub fn heal(&mut self, a: Node, b: Node, clock: &mut Clock) {
        for (from, to) in [(a, b), (b, a)] {
            self.paths.heal(from, to);
            self.repeat(clock, |x, y| [(x, y), (y, x)].contains(&(from, to)));
        }
    }

    /// A machine loses power, and with it all it knew.
    pub fn power_off(&mut self, node: Node) {
        self.paths.switch_off(node);
        for Socket { wire, side } in self.sockets(node) {
            if let Some(connection) = self.connections.get_mut(&wire) {
                let (end, way) = (&mut connection.ends[side], &mut connection.ways[side]);
                end.state = State::Closed;
                end.inbox.clear();
                end.unacknowledged = None;
                way.flying.clear();
                way.octets = 0;
            }
        }
    }

    /// It is back.
    pub fn power_on(&mut self, node: Node, clock: &mut Clock) {
        self.paths.switch_on(node);
        self.repeat(clock, |a, b| a == node || b == node);
    }

    fn repeat(&mut self, clock: &mut Clock, which: impl Fn(Node, Node) -> bool) {
        for (wire, connection) in &mut self.connections {
            let nodes = [connection.ends[0].node, connection.ends[1].node];
            for side in [0, 1] {
                let (from, to) = (nodes[side], nodes[1 - side]);
                if !which(from, to) || !self.paths.are_whole(from, to) {
                    continue;
                }
                let way = &mut connection.ways[side];
                if way.flying.is_empty() {
                    // It had come; only its acknowledgement had not.
                    connection.ends[side].unacknowledged = None;
                }
                if way.held {
                    way.held = false;
                    let at = clock.now + Duration::from_millis(clock.random.u64(1..1500));
                    let socket = Socket { wire: *wire, side };
                    for _ in 0..way.flying.len() {
                        clock.at(at, Event::Arrival(socket.other()));
                    }
                    way.last = Some(at);
                }
            }
        }
    }

    /// Forgets a connection that neither side has any more.
    pub fn forget(&mut self, wire: Wire) {
        let gone = |connection: &Connection| {
            let closed = connection.ends.iter().all(|end| end.state == State::Closed);
            closed && connection.ways.iter().all(|way| way.flying.is_empty())
        };
        if self.connections.get(&wire).is_some_and(gone) {
            self.connections.remove(&wire);
        }
    }
}

fn patience(end: &End) -> Duration {
    if end.patience.is_zero() {
        TCP_PATIENCE
    } else {
        end.patience
    }
}
