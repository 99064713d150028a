//! What must hold at every step: no hole while restarts are graceful, no route that outlives its last path for long, no more
//! taken of a peer than there should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use bgp::prefix::Prefix;
use fib::simulated::Written;

use crate::{
    oracle::{self, Live, Tables},
    topology::{Grace, Node, Topology},
    world::World,
};

/// Something that must not be.
#[derive(Clone, Debug)]
pub struct Finding {
    /// At which node.
    pub node: Node,
    /// In words.
    pub text: String,
}

impl Finding {
    /// Something that must not be.
    #[must_use]
    pub fn new(node: Node, text: String) -> Self {
        Self { node, text }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}: {}", self.node, self.text)
    }
}

/// What the invariants need to remember.
#[derive(Debug)]
pub struct Watch {
    kernel: Vec<BTreeSet<Prefix>>,
    /// Every prefix that anyone was ever meant to originate.
    known: BTreeSet<Prefix>,
    /// While only graceful restarts happen: what no kernel may lose.
    pub steady: Option<Tables>,
    /// Routes without any path, and since when.
    orphans: BTreeMap<(Node, Prefix), Instant>,
    /// How many routes anybody may take from a peer; 0: any number.
    pub limit: u32,
    /// How long such a route may stay once nothing more is done to the network; `None`: nothing would notice that a path is dead.
    pub bound: Option<Duration>,
    /// When something was last done to it.
    pub disturbed: Instant,
    /// The longest that one did stay from then on.
    pub longest: Duration,
    /// The topology has changed since what is expected was computed.
    pub stale: bool,
    live: Option<Live>,
    expected: Tables,
}

/// What comes on top of the timers: delays, repeated packets, processes that do not come to read, one announcement after
/// another on the way to none.
const SLACK: Duration = Duration::from_secs(30);

impl Watch {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(topology: &Topology, now: Instant) -> Self {
        Self {
            kernel: vec![BTreeSet::new(); topology.nodes.len()],
            known: topology.prefixes(),
            steady: None,
            orphans: BTreeMap::new(),
            limit: topology.limit,
            bound: bound(topology),
            disturbed: now,
            longest: Duration::ZERO,
            stale: true,
            live: None,
            expected: Tables::new(),
        }
    }

    /// The prefixes that a kernel has a route to.
    #[must_use]
    pub fn kernel(&self, node: Node) -> &BTreeSet<Prefix> {
        &self.kernel[node]
    }

    /// A machine that has been switched off has no routes.
    pub fn forget(&mut self, node: Node) {
        self.kernel[node].clear();
        self.orphans.retain(|(whose, _), _| *whose != node);
    }

    /// A kernel's table changed.
    pub fn written(
        &mut self,
        now: Instant,
        node: Node,
        prefix: Prefix,
        written: Written,
    ) -> Option<Finding> {
        if written != Written::Removed {
            self.kernel[node].insert(prefix);
            self.consider(now, node, prefix);
            return None;
        }
        self.kernel[node].remove(&prefix);
        self.orphans.remove(&(node, prefix));
        let steady = self.steady.as_ref()?;
        let hole = steady[node].contains_key(&prefix);
        hole.then(|| {
            let text = format!("a graceful restart took {prefix} out of the kernel's table");
            Finding::new(node, text)
        })
    }

    /// Notes whether a route that is there leads anywhere.
    fn consider(&mut self, now: Instant, node: Node, prefix: Prefix) {
        let runs = self.live.as_ref().is_some_and(|live| live.nodes[node]);
        let leads = self
            .expected
            .get(node)
            .is_some_and(|table| table.contains_key(&prefix));
        if runs && !leads && self.known.contains(&prefix) {
            self.orphans.entry((node, prefix)).or_insert(now);
        } else {
            self.orphans.remove(&(node, prefix));
        }
    }

    /// Routes that lead nowhere, and have for longer than they may: since nothing more was done to the network, or (whoever
    /// is disturbed while it keeps something for another may be kept for in turn) for twice as long at all.
    fn overdue(&mut self, now: Instant, bound: Duration) -> Option<Finding> {
        let since = *self.orphans.values().min()?;
        let quiet = |since: Instant| now - since.max(self.disturbed);
        self.longest = self.longest.max(quiet(since));
        let overdue = |since: Instant| quiet(since) > bound || now - since > 2 * bound;
        let mut orphans = self.orphans.iter();
        let ((node, prefix), since) = orphans.find(|(_, since)| overdue(**since))?;
        let text = format!(
            "its kernel has had a route to {prefix} for {:?} although no path is left; the bound is {bound:?}, and {:?} ago something was done to the network",
            now - *since,
            now - self.disturbed
        );
        Some(Finding::new(*node, text))
    }
}

/// The hold time, and how long who shares a session with somebody keeps what was said to be kept: its restart time and its
/// long-lived stale time.
fn bound(topology: &Topology) -> Option<Duration> {
    let edges = 0..topology.edges.len();
    let each = edges.map(|edge| {
        let hold = topology.hold(edge);
        let graces = topology.edges[edge]
            .ends
            .map(|end| topology.nodes[end].grace);
        let kept = |grace: Grace| u64::from(grace.restart) + u64::from(grace.long_lived);
        let kept = match graces {
            [Some(one), Some(other)] => kept(one).max(kept(other)),
            _ => 0,
        };
        (hold > 0).then_some(hold + kept)
    });
    let all: Option<Vec<u64>> = each.collect();
    Some(Duration::from_secs(all?.into_iter().max()?) + SLACK)
}

impl World {
    /// What all tables must become if things stay as they are.
    pub(crate) fn expect(&mut self) -> &Tables {
        let live = self.live();
        if self.watch.stale || self.watch.live.as_ref() != Some(&live) {
            self.watch.expected = oracle::tables(&self.topology, &live);
            self.watch.known.extend(self.topology.prefixes());
            self.watch.live = Some(live);
            self.watch.stale = false;
            for node in 0..self.hosts.len() {
                for prefix in self.watch.kernel(node).clone() {
                    self.watch.consider(self.clock.now, node, prefix);
                }
            }
        }
        &self.watch.expected
    }

    /// Looks at every table: does it hold something that nothing leads to?
    pub(crate) fn look_at_all(&mut self) {
        self.expect();
        let tainted = self.network.connections.values().any(|one| one.tainted);
        if tainted {
            // Somebody else's octets may have brought anything; it goes with their connection.
            for since in self.watch.orphans.values_mut() {
                *since = self.clock.now;
            }
        }
        if let Some(bound) = self.watch.bound
            && let Some(finding) = self.watch.overdue(self.clock.now, bound)
        {
            self.found(finding);
        }
    }

    /// Nobody has taken more from a peer than there should be.
    pub(crate) fn look_at_limits(&mut self) {
        let most = self.watch.limit as usize;
        if most == 0 {
            return;
        }
        for node in 0..self.hosts.len() {
            let Some(process) = &self.hosts[node].process else {
                continue;
            };
            let counts = process.rib.counts();
            let taken = counts.peers.values().map(|peer| {
                let each = peer.families.values();
                // What has been here is not the peer's to say.
                each.map(|count| count.received - count.looped)
                    .sum::<usize>()
            });
            if let Some(taken) = taken.max().filter(|taken| *taken > most) {
                let text = format!("it took {taken} routes from a peer, and may {most}");
                return self.found(Finding::new(node, text));
            }
        }
    }
}
