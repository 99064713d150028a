//! What is to happen, in order of time; at one time in the order it was decided.

use std::{collections::BTreeMap, time::Instant};

use crate::{network::Wire, scenario::Fault, topology::Node};

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A SYN gets to `to`, or an answer to it back to `from`.
    Dial {
        /// Who dials.
        from: Node,
        /// Whom.
        to: Node,
        /// Which of its dials.
        dial: u64,
        /// How often the SYN was repeated.
        attempt: u32,
    },
    /// The answer to a SYN: a connection, or nobody listens.
    Answer {
        /// Who dialled.
        from: Node,
        /// Whom.
        to: Node,
        /// Which of its dials.
        dial: u64,
        /// What came of it.
        wire: Option<Wire>,
    },
    /// A packet gets to a side.
    Arrival {
        /// Of which connection.
        wire: Wire,
        /// Which side.
        to: usize,
    },
    /// A side that waited for room may write again.
    Room {
        /// Of which connection.
        wire: Wire,
        /// Which side.
        side: usize,
    },
    /// A side may have waited long enough for an acknowledgement.
    Unacknowledged {
        /// Of which connection.
        wire: Wire,
        /// Which side.
        side: usize,
    },
    /// A side that said its last words closes.
    Lingered {
        /// Of which connection.
        wire: Wire,
        /// Which side.
        side: usize,
    },
    /// A process comes to read a connection again.
    Look {
        /// Of which connection.
        wire: Wire,
        /// Which side.
        side: usize,
    },
    /// A deadline of a session, if it is still the one that is armed.
    Timer {
        /// Whose.
        node: Node,
        /// With whom.
        peer: Node,
    },
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

/// All that is to happen.
#[derive(Debug, Default)]
pub struct Schedule {
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
}

impl Schedule {
    /// Something more.
    pub fn add(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    /// The next thing, if it comes no later than `until`.
    pub fn next(&mut self, until: Instant) -> Option<(Instant, Event)> {
        let first = self.events.first_entry()?;
        if first.key().0 > until {
            return None;
        }
        let ((at, _), event) = first.remove_entry();
        Some((at, event))
    }

    /// How much has been scheduled so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}
