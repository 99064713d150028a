//! What must hold at every step: no hole while restarts are graceful, no route that outlives its last path for long.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant, SystemTime},
};

use bgp::{prefix::Prefix, speaker::RouteQuery, status::RouteStatus};
use fib::simulated::Written;

use crate::{
    oracle::{self, Live, Tables},
    topology::{Node, Topology},
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
    /// How long such a route may stay; `None`: nothing would notice that a path is dead.
    pub bound: Option<Duration>,
    /// The longest that one did stay.
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
    pub fn new(topology: &Topology) -> Self {
        Self {
            kernel: vec![BTreeSet::new(); topology.nodes.len()],
            known: topology.prefixes(),
            steady: None,
            orphans: BTreeMap::new(),
            bound: bound(topology),
            longest: Duration::ZERO,
            stale: true,
            live: None,
            expected: Tables::new(),
        }
    }

    /// The prefixes that a kernel has a route to.
    #[must_use]
    pub fn kernel(&self, node: Node) -> Vec<Prefix> {
        self.kernel[node].iter().copied().collect()
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

    /// Routes that lead nowhere, and have for longer than they may.
    fn overdue(&mut self, now: Instant, bound: Duration) -> Option<Finding> {
        let since = *self.orphans.values().min()?;
        self.longest = self.longest.max(now - since);
        let (node, prefix) = self
            .orphans
            .iter()
            .find(|(_, since)| now - **since > bound)
            .map(|(place, _)| *place)?;
        let text = format!(
            "its kernel has had a route to {prefix} for {:?} although no path is left; the bound is {bound:?}",
            now - since
        );
        Some(Finding::new(node, text))
    }
}

/// The hold time, and how long peers keep what was said to be kept.
fn bound(topology: &Topology) -> Option<Duration> {
    let holds = (0..topology.edges.len()).map(|edge| topology.hold(edge));
    let hold = holds.map(|hold| (hold > 0).then_some(hold)).max()??;
    if (0..topology.edges.len()).any(|edge| topology.hold(edge) == 0) {
        return None;
    }
    let grace = topology.nodes.iter().filter_map(|node| node.grace);
    let kept = grace
        .map(|grace| u64::from(grace.restart) + u64::from(grace.long_lived))
        .max();
    Some(Duration::from_secs(hold + 2 * kept.unwrap_or(0)) + SLACK)
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
                for prefix in self.watch.kernel(node) {
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

    /// What is not yet as it must become, in words; `None`: nothing.
    #[must_use]
    pub fn difference(&mut self) -> Option<Finding> {
        let expected = self.expect().clone();
        let live = self.live();
        for (edge, ends) in self.topology.edges.iter().enumerate() {
            if !live.edges[edge] {
                continue;
            }
            let [a, b] = ends.ends;
            for (node, peer) in [(a, b), (b, a)] {
                if let Some(text) = self.no_session(node, peer) {
                    return Some(Finding::new(node, text));
                }
            }
        }
        for (node, expected) in expected.iter().enumerate() {
            if !live.nodes[node] {
                continue;
            }
            if let Some(text) = self.wrong_table(node, expected) {
                return Some(Finding::new(node, text));
            }
        }
        None
    }

    fn no_session(&self, node: Node, peer: Node) -> Option<String> {
        let one = self.hosts[node].process.as_ref()?.peers.get(&peer)?;
        let state = one.driver.fsm.state();
        (one.driver.connection().is_none())
            .then(|| format!("no session with node {peer}: {state:?}"))
    }

    fn wrong_table(
        &self,
        node: Node,
        expected: &BTreeMap<Prefix, BTreeSet<Node>>,
    ) -> Option<String> {
        let there = &self.watch.kernel[node];
        if there.len() != expected.len() {
            let extra = there.iter().find(|prefix| !expected.contains_key(prefix));
            let missing = expected.keys().find(|prefix| !there.contains(prefix));
            let one = |prefix: Option<&Prefix>| prefix.map(ToString::to_string);
            return Some(format!(
                "{} routes instead of {}: {:?} should not be there, {:?} should",
                there.len(),
                expected.len(),
                one(extra),
                one(missing)
            ));
        }
        let routes = self.hosts[node].kernel.routes(crate::config::fib().mark);
        let table: BTreeMap<Prefix, BTreeSet<Node>> = routes
            .into_iter()
            .filter_map(|(network, gateways)| {
                let prefix = Prefix::new(network.network(), network.prefix())?;
                let nodes = gateways.into_iter().map(crate::topology::node_at);
                Some((prefix, nodes.collect()))
            })
            .collect();
        if table == *expected {
            return None;
        }
        let all: BTreeSet<&Prefix> = table.keys().chain(expected.keys()).collect();
        let wrong: Vec<&Prefix> = all
            .into_iter()
            .filter(|prefix| table.get(*prefix) != expected.get(*prefix))
            .collect();
        let first = wrong.first()?;
        Some(format!(
            "{} routes of {} are wrong; {first} leads to {:?}, not to {:?}{}",
            wrong.len(),
            expected.len(),
            table.get(*first),
            expected.get(*first),
            self.candidates(node, **first)
        ))
    }

    /// The routes that a node has to choose from, in words.
    fn candidates(&self, node: Node, prefix: Prefix) -> String {
        let query = RouteQuery {
            prefix: Some(prefix),
            ..RouteQuery::default()
        };
        let process = self.hosts[node].process.as_ref();
        let routes = process.map_or_else(Vec::new, |process| {
            process
                .rib
                .routes(&query, self.clock.now, SystemTime::UNIX_EPOCH)
        });
        let line = |route: RouteStatus| {
            format!(
                "; from {} path {:?} to {:?}: {}, preference {:?}, {:?}",
                route.from.unwrap_or_default(),
                route.path_id,
                route.next_hop,
                route.as_path,
                route.local_pref,
                route.fate
            )
        };
        routes.into_iter().map(line).collect()
    }

    /// At rest both ends of a session agree on what was said, and no more is kept than there is.
    #[must_use]
    pub fn disagreement(&self) -> Option<Finding> {
        let counts: Vec<_> = self
            .hosts
            .iter()
            .map(|host| host.process.as_ref().map(|process| process.rib.counts()))
            .collect();
        let live = self.live();
        for (edge, ends) in self.topology.edges.iter().enumerate() {
            let [a, b] = ends.ends;
            for (teller, hearer) in [(a, b), (b, a)] {
                let (Some(told), Some(heard)) = (&counts[teller], &counts[hearer]) else {
                    continue;
                };
                let told = told.peers.get(&crate::process::peer_id(hearer))?;
                let heard = heard.peers.get(&crate::process::peer_id(teller))?;
                for family in self
                    .topology
                    .families(edge)
                    .each()
                    .filter(|_| live.edges[edge])
                {
                    let told = told
                        .families
                        .get(&family)
                        .map_or(0, |count| count.advertised);
                    let heard = heard
                        .families
                        .get(&family)
                        .map_or(0, |count| count.received);
                    if told != heard {
                        let text =
                            format!("told node {hearer} {told} routes of {family}, it has {heard}");
                        return Some(Finding::new(teller, text));
                    }
                }
                if told.waiting > 0 && live.edges[edge] {
                    let text = format!("{} prefixes still wait for node {hearer}", told.waiting);
                    return Some(Finding::new(teller, text));
                }
            }
        }
        for (node, counts) in counts.iter().enumerate() {
            let Some(counts) = counts else { continue };
            let of_peers = counts
                .peers
                .values()
                .flat_map(|peer| peer.families.values());
            let received: usize = of_peers.map(|count| count.received).sum();
            let most = 2 * received + 2 * self.topology.nodes[node].originates.len() + 8;
            if counts.attribute_sets > most {
                let text = format!(
                    "{} sets of attributes for {received} routes",
                    counts.attribute_sets
                );
                return Some(Finding::new(node, text));
            }
        }
        None
    }
}
