//! What must hold at rest: every table is what the oracle says, both ends of a session agree, nothing is kept without need.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use bgp::{prefix::Prefix, speaker::RouteQuery, status::RouteStatus};

use crate::{
    config,
    process::peer_id,
    topology::{Node, node_at},
    watch::Finding,
    world::World,
};

impl World {
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
        let there = self.watch.kernel(node);
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
        let routes = self.hosts[node].kernel.routes(config::fib().mark);
        let table: BTreeMap<Prefix, BTreeSet<Node>> = routes
            .into_iter()
            .filter_map(|(network, gateways)| {
                let prefix = Prefix::new(network.network(), network.prefix())?;
                let nodes = gateways.into_iter().map(node_at);
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
                let told = told.peers.get(&peer_id(hearer))?;
                let heard = heard.peers.get(&peer_id(teller))?;
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
