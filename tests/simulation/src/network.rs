//! A model of TCP between the nodes: octets in order within a connection, none between connections; directions that go dead
//! and come back; buffers that fill; resets from whoever has forgotten a connection.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use fastrand::Rng;

use crate::{
    schedule::{Event, Schedule},
    topology::Node,
};

/// A connection, never numbered again.
pub type Wire = u64;

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

/// One side of a connection.
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
    /// Directions that carry nothing.
    dead: BTreeSet<(Node, Node)>,
    /// Machines that are off.
    off: BTreeSet<Node>,
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
            dead: BTreeSet::new(),
            off: BTreeSet::new(),
            window,
            delay,
        }
    }

    /// How long a packet takes this time.
    pub fn takes(&self, random: &mut Rng) -> Duration {
        let (least, most) = self.delay;
        let spread = u64::try_from((most - least).as_nanos()).unwrap_or(0);
        least + Duration::from_nanos(random.u64(..=spread))
    }

    /// Whether packets get from one node to another.
    #[must_use]
    pub fn carries(&self, from: Node, to: Node) -> bool {
        !self.dead.contains(&(from, to)) && !self.off.contains(&from) && !self.off.contains(&to)
    }

    /// Whether they do in both directions.
    #[must_use]
    pub fn is_whole(&self, a: Node, b: Node) -> bool {
        self.carries(a, b) && self.carries(b, a)
    }

    /// Directions that are dead.
    #[must_use]
    pub fn dead(&self) -> Vec<(Node, Node)> {
        self.dead.iter().copied().collect()
    }

    /// From here on nothing gets from one node to another.
    pub fn cut(&mut self, from: Node, to: Node) {
        self.dead.insert((from, to));
    }

    /// From here on it does again; what waited is repeated.
    pub fn heal(
        &mut self,
        from: Node,
        to: Node,
        now: Instant,
        schedule: &mut Schedule,
        random: &mut Rng,
    ) {
        self.dead.remove(&(from, to));
        self.repeat(now, schedule, random, |a, b| {
            (a, b) == (from, to) || (b, a) == (from, to)
        });
    }

    /// A machine loses power, and with it all it knew.
    pub fn power_off(&mut self, node: Node) {
        self.off.insert(node);
        for connection in self.connections.values_mut() {
            for side in [0, 1] {
                if connection.ends[side].node == node {
                    connection.ends[side].state = State::Closed;
                    connection.ends[side].inbox.clear();
                    connection.ends[side].unacknowledged = None;
                    connection.ways[side].flying.clear();
                    connection.ways[side].octets = 0;
                }
            }
        }
    }

    /// It is back.
    pub fn power_on(
        &mut self,
        node: Node,
        now: Instant,
        schedule: &mut Schedule,
        random: &mut Rng,
    ) {
        self.off.remove(&node);
        self.repeat(now, schedule, random, |a, b| a == node || b == node);
    }

    fn repeat(
        &mut self,
        now: Instant,
        schedule: &mut Schedule,
        random: &mut Rng,
        which: impl Fn(Node, Node) -> bool,
    ) {
        let (dead, off) = (&self.dead, &self.off);
        let carries = |a, b| !dead.contains(&(a, b)) && !off.contains(&a) && !off.contains(&b);
        for (wire, connection) in &mut self.connections {
            let nodes = [connection.ends[0].node, connection.ends[1].node];
            for side in [0, 1] {
                let (from, to) = (nodes[side], nodes[1 - side]);
                if !which(from, to) || !carries(from, to) || !carries(to, from) {
                    continue;
                }
                let way = &mut connection.ways[side];
                if way.flying.is_empty() {
                    // It had come; only its acknowledgement had not.
                    connection.ends[side].unacknowledged = None;
                }
                if way.held {
                    way.held = false;
                    let at = now + Duration::from_millis(random.u64(1..1500));
                    for _ in 0..way.flying.len() {
                        schedule.add(
                            at,
                            Event::Arrival {
                                wire: *wire,
                                to: 1 - side,
                            },
                        );
                    }
                    way.last = Some(at);
                }
            }
        }
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

    /// How many octets a side could write now; the rest waits for [`Event::Room`].
    pub fn room(&mut self, wire: Wire, side: usize) -> usize {
        let window = self.window;
        let Some(connection) = self.connections.get_mut(&wire) else {
            return 0;
        };
        let way = &mut connection.ways[side];
        let room = window.saturating_sub(way.octets);
        way.full |= room == 0;
        room
    }

    /// Somebody else's octets, as if that side had said them.
    pub fn inject(
        &mut self,
        wire: Wire,
        side: usize,
        octets: Bytes,
        now: Instant,
        schedule: &mut Schedule,
        random: &mut Rng,
    ) {
        if let Some(connection) = self.connections.get_mut(&wire) {
            connection.tainted = true;
        }
        self.send(wire, side, Packet::Octets(octets), now, schedule, random);
    }

    /// What that side said last.
    #[must_use]
    pub fn said(&self, wire: Wire, side: usize) -> Bytes {
        let connection = self.connections.get(&wire);
        connection.map_or_else(Bytes::new, |connection| connection.ways[side].said.clone())
    }

    /// A side says something.
    pub fn send(
        &mut self,
        wire: Wire,
        side: usize,
        packet: Packet,
        now: Instant,
        schedule: &mut Schedule,
        random: &mut Rng,
    ) {
        let takes = self.takes(random);
        let Some(connection) = self.connections.get_mut(&wire) else {
            return;
        };
        let (from, to) = (connection.ends[side].node, connection.ends[1 - side].node);
        let way = &mut connection.ways[side];
        if let Packet::Octets(octets) = &packet {
            way.octets += octets.len();
            way.said = octets.clone();
        }
        way.flying.push_back(packet);
        let at = (now + takes).max(way.last.unwrap_or(now));
        way.last = Some(at);
        schedule.add(at, Event::Arrival { wire, to: 1 - side });
        if !self.is_whole(from, to) {
            self.waits_for_acknowledgement(wire, side, now, schedule);
        }
    }

    /// Something may have arrived at a side.
    pub fn arrive(
        &mut self,
        wire: Wire,
        to: usize,
        now: Instant,
        schedule: &mut Schedule,
    ) -> Option<Packet> {
        let connection = self.connections.get(&wire)?;
        let nodes = [connection.ends[0].node, connection.ends[1].node];
        let from = 1 - to;
        let carried = self.carries(nodes[from], nodes[to]);
        let acknowledged = self.carries(nodes[to], nodes[from]);
        let connection = self.connections.get_mut(&wire)?;
        let way = &mut connection.ways[from];
        if !carried {
            way.held |= !way.flying.is_empty();
            if way.held {
                self.waits_for_acknowledgement(wire, from, now, schedule);
            }
            return None;
        }
        if way.held {
            return None;
        }
        let packet = way.flying.pop_front()?;
        if acknowledged && way.flying.is_empty() {
            connection.ends[from].unacknowledged = None;
        } else if !acknowledged {
            self.waits_for_acknowledgement(wire, from, now, schedule);
        }
        Some(packet)
    }

    /// A process took octets out of its inbox: there is room for more.
    pub fn took(
        &mut self,
        wire: Wire,
        side: usize,
        count: usize,
        now: Instant,
        schedule: &mut Schedule,
        random: &mut Rng,
    ) {
        let takes = self.takes(random);
        let Some(connection) = self.connections.get_mut(&wire) else {
            return;
        };
        let way = &mut connection.ways[1 - side];
        way.octets = way.octets.saturating_sub(count);
        if std::mem::take(&mut way.full) {
            schedule.add(
                now + takes,
                Event::Room {
                    wire,
                    side: 1 - side,
                },
            );
        }
    }

    fn waits_for_acknowledgement(
        &mut self,
        wire: Wire,
        side: usize,
        now: Instant,
        schedule: &mut Schedule,
    ) {
        let Some(connection) = self.connections.get_mut(&wire) else {
            return;
        };
        let end = &mut connection.ends[side];
        if end.unacknowledged.is_none() && end.state == State::Open {
            end.unacknowledged = Some(now);
            schedule.add(now + patience(end), Event::Unacknowledged { wire, side });
        }
    }

    /// Whether that side must give the connection up; otherwise looks again when it might.
    pub fn gives_up(
        &mut self,
        wire: Wire,
        side: usize,
        now: Instant,
        schedule: &mut Schedule,
    ) -> bool {
        let Some(connection) = self.connections.get(&wire) else {
            return false;
        };
        let end = &connection.ends[side];
        let Some(since) = end.unacknowledged.filter(|_| end.state == State::Open) else {
            return false;
        };
        let at = since + patience(end);
        if now < at {
            schedule.add(at, Event::Unacknowledged { wire, side });
        }
        now >= at
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
