//! Time, chance, and what is to happen: in order of time, at one time in the order it was decided.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bgp::bfd::packet::Packet;
use fastrand::Rng;

use crate::{
    fault::Fault,
    network::{Dial, Socket, Wire},
    topology::Node,
};

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A SYN sets out; so often was it repeated.
    Syn(Dial, u32),
    /// The answer to it is back: a connection, or nobody listens.
    Answer(Dial, Option<Wire>),
    /// A packet gets to a side.
    Arrival(Socket),
    /// A side that waited for room may write again.
    Room(Socket),
    /// A side may have waited long enough for an acknowledgement.
    Unacknowledged(Socket),
    /// A side that said its last words closes.
    Lingered(Socket),
    /// A process comes to read a connection again.
    Look(Socket),
    /// A deadline of the first node's session with the second, if it is still the one that is armed.
    Timer(Node, Node),
    /// BFD has something to do on the path from the first to the second.
    Path(Node, Node),
    /// A packet of BFD gets from the first to the second.
    Datagram(Node, Node, Packet),
    /// The task of a Rib runs, if this is still when.
    Rib(Node),
    /// An installer runs, if this is still when.
    Install(Node),
    /// A speaker looks at its configuration again.
    Reread(Node),
    /// Something is done to the network.
    Fault(Fault),
    /// The world is looked at.
    Watch,
}

/// The clock that is moved by hand, with all that is to happen, and the one source of chance.
#[derive(Debug)]
pub struct Clock {
    /// The time.
    pub now: Instant,
    /// What decides everything that is left to chance.
    pub random: Rng,
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
}

impl Clock {
    /// Nothing is to happen yet.
    #[must_use]
    pub fn new(now: Instant, random: Rng) -> Self {
        Self {
            now,
            random,
            events: BTreeMap::new(),
            count: 0,
        }
    }

    /// Something more is to happen then, or now if that is over.
    pub fn at(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.events.insert((at.max(self.now), self.count), event);
    }

    /// Something more is to happen once so much time has passed.
    pub fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    /// Goes on to the next thing, if it comes no later than `until`.
    pub fn next(&mut self, until: Instant) -> Option<Event> {
        let first = self.events.first_entry()?;
        if first.key().0 > until {
            return None;
        }
        let ((at, _), event) = first.remove_entry();
        self.now = at;
        Some(event)
    }
}

/// When something looks next: of several wishes the earliest counts.
#[derive(Debug, Default)]
pub struct Alarm(Option<Instant>);

impl Alarm {
    /// Lets `event` come no later than `at`.
    pub fn set(&mut self, at: Instant, clock: &mut Clock, event: Event) {
        if self.0.is_none_or(|armed| at < armed) {
            self.0 = Some(at);
            clock.at(at, event);
        }
    }

    /// Whether it is time; then it is off until it is set again.
    pub fn rings(&mut self, now: Instant) -> bool {
        let rings = self.0.is_some_and(|at| at <= now);
        if rings {
            self.0 = None;
        }
        rings
    }
}
