//! What happened, as a number that tells two runs apart, and the last of it in words.

use std::{collections::VecDeque, fmt, time::Duration};

use bgp::{
    bfd::news::News, prefix::Prefix, rib::task::Ending, status::SessionState, wire::Notification,
};
use fib::simulated::Written;

use crate::topology::Node;

/// What a node did, or what was done to it.
#[derive(Clone, Debug)]
pub enum What {
    /// Its machine or its speaker.
    Fate(&'static str),
    /// The state of its session with another.
    State(Node, SessionState, String),
    /// The session with another is over.
    Down(Node, Ending),
    /// It closed a connection, and said so.
    Closed(Node, Option<Notification>),
    /// Octets that it read from another.
    Read(Node, usize),
    /// Its kernel's table.
    Kernel(Prefix, Written),
    /// It knows all that its peers have to say.
    Complete,
    /// What BFD says of the path to another.
    Path(Node, News),
    /// What was done to the network between it and another.
    Link(Node, &'static str),
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Since the start.
    pub at: Duration,
    /// Who.
    pub node: Node,
    /// What.
    pub what: What,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.6} node {:<3} ", self.at.as_secs_f64(), self.node)?;
        match &self.what {
            What::Fate(what) => f.write_str(what),
            What::State(peer, state, reason) => write!(f, "peer {peer}: {state:?}: {reason}"),
            What::Down(peer, ending) => write!(f, "peer {peer}: session over: {ending:?}"),
            What::Closed(peer, Some(said)) => write!(f, "peer {peer}: closes: {said}"),
            What::Closed(peer, None) => write!(f, "peer {peer}: closes without a word"),
            What::Read(peer, octets) => write!(f, "peer {peer}: {octets} octets"),
            What::Kernel(prefix, written) => write!(f, "kernel: {prefix} {written:?}"),
            What::Complete => f.write_str("complete"),
            What::Path(peer, news) => write!(f, "peer {peer}: BFD: {news:?}"),
            What::Link(other, what) => write!(f, "link to {other}: {what}"),
        }
    }
}

/// All that happened.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    last: VecDeque<Line>,
    print: bool,
    /// How many lines there were.
    pub lines: u64,
}

impl Trace {
    /// Lines that are kept.
    const KEPT: usize = 200_000;

    /// Nothing yet; `print`: each line goes out as it comes.
    #[must_use]
    pub fn new(print: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            last: VecDeque::new(),
            print,
            lines: 0,
        }
    }

    /// One more line.
    pub fn add(&mut self, at: Duration, node: Node, what: What) {
        let (kind, detail): (u64, u64) = match &what {
            What::Fate(what) => (1, what.len() as u64),
            What::State(peer, state, _) => (2, (*peer as u64) << 8 | *state as u64),
            What::Down(peer, ending) => {
                (3, (*peer as u64) << 1 | u64::from(*ending == Ending::Gone))
            }
            What::Closed(peer, said) => {
                let said = said.as_ref().map_or(0, |said| {
                    1 + u64::from(said.code) * 256 + u64::from(said.subcode)
                });
                (4, (*peer as u64) << 32 | said)
            }
            What::Read(peer, octets) => (5, (*peer as u64) << 32 | *octets as u64),
            What::Kernel(prefix, written) => {
                let address = match prefix.address() {
                    std::net::IpAddr::V4(v4) => u64::from(u32::from(v4)),
                    std::net::IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
                };
                (6 + *written as u64, address)
            }
            What::Complete => (10, 0),
            What::Path(peer, news) => {
                let news = match news {
                    News::Up => 0,
                    News::Dead { .. } => 1,
                    News::Down(_) => 2,
                    News::Silent => 3,
                };
                (12, (*peer as u64) << 8 | news)
            }
            What::Link(other, what) => (11, (*other as u64) << 8 | what.len() as u64),
        };
        let time = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        for part in [time, node as u64, kind, detail] {
            self.hash = (self.hash ^ part)
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(29);
        }
        self.lines += 1;
        let line = Line { at, node, what };
        if self.print {
            println!("{line}");
        }
        if self.last.len() == Self::KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Equal for runs that were equal.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last so many lines of a node, the oldest first.
    #[must_use]
    pub fn last_of(&self, node: Node, count: usize) -> Vec<&Line> {
        let of_node = self.last.iter().rev().filter(|line| line.node == node);
        let mut lines: Vec<&Line> = of_node.take(count).collect();
        lines.reverse();
        lines
    }
}
