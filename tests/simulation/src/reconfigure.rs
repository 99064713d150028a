//! Configurations that change while speakers run.

use std::{sync::Arc, time::Duration};

use bgp::{peer::fsm::Event as Said, prefix::Family, wire::Notification};

use crate::{
    clock::Event,
    config,
    fault::Change,
    process::set,
    topology::{Filter, Kind, Node, address, is_leaked, leaked, prefix},
    trace::What,
    world::World,
};

impl World {
    /// The configuration changes.
    pub(crate) fn change(&mut self, change: Change) {
        if !self.intend(change) {
            return;
        }
        let node = change.node();
        self.watch.stale = true;
        self.tell(node, What::Fate("its configuration changes"));
        self.reread(node);
    }

    /// Another intent; whether it is one where the topology knows such a thing.
    fn intend(&mut self, change: Change) -> bool {
        let kind = self.topology.kind;
        match change {
            Change::Originate(node) => {
                let count = if kind == Kind::Heavy { 500 } else { 1 };
                for _ in 0..count {
                    self.originate_otherwise(node);
                }
            }
            Change::Prepend(node, peer) if kind == Kind::Graph => {
                let (edge, side) = self.topology.edge(node, peer);
                self.topology.edges[edge].prepend[side] = self.clock.random.u8(..4);
            }
            Change::Drain(node) if kind == Kind::Mesh => {
                let intent = &mut self.topology.nodes[node];
                intent.draining = !intent.draining;
            }
            Change::Filter(node, peer) => {
                let (edge, side) = self.topology.edge(node, peer);
                let filters = [Filter::Open, Filter::Refuses, Filter::Withholds];
                let filter = filters[self.clock.random.usize(..filters.len())];
                self.topology.edges[edge].filters[side] = filter;
            }
            Change::Leak(node) if self.watch.limit > 0 => {
                let too_many = (0..self.watch.limit + 10).map(|which| (leaked(node, which), 0));
                self.topology.nodes[node].originates.extend(too_many);
            }
            Change::Unleak(node) => {
                let intent = &mut self.topology.nodes[node];
                intent.originates.retain(|prefix, _| !is_leaked(prefix));
            }
            Change::Shut(node, peer) => {
                let (edge, side) = self.topology.edge(node, peer);
                let shut = &mut self.topology.edges[edge].shut;
                if shut.is_some() {
                    return false;
                }
                *shut = Some(side);
            }
            Change::Open(node, peer) => {
                let (edge, side) = self.topology.edge(node, peer);
                let shut = &mut self.topology.edges[edge].shut;
                if *shut != Some(side) {
                    return false;
                }
                *shut = None;
            }
            Change::Hold(node) if self.topology.nodes[node].hold > 0 => {
                let intent = &mut self.topology.nodes[node];
                intent.hold = if intent.hold == 9 { 12 } else { 9 };
            }
            Change::Prepend(..) | Change::Drain(_) | Change::Leak(_) | Change::Hold(_) => {
                return false;
            }
        }
        true
    }

    fn originate_otherwise(&mut self, node: Node) {
        let random = &mut self.clock.random;
        let intent = &mut self.topology.nodes[node];
        if self.topology.kind == Kind::Heavy {
            let prefixes: Vec<_> = intent.originates.keys().copied().collect();
            let prefix = prefixes[random.usize(..prefixes.len())];
            let med = random.u32(1..1_000_000);
            intent.originates.insert(prefix, med);
            return;
        }
        let which = random.u32(4..6);
        for family in Family::ALL {
            let prefix = prefix(family, node, which);
            if intent.originates.remove(&prefix).is_none() {
                intent.originates.insert(prefix, 0);
            }
        }
    }

    /// A speaker looks at its configuration; one that is stopped does so once it goes on.
    pub(crate) fn reread(&mut self, node: Node) {
        if self.hosts[node].acts() {
            self.reconfigure(node);
        } else if self.hosts[node].process.is_some() {
            let again = Duration::from_secs(1);
            self.clock.after(again, Event::Reread(node));
        }
    }

    /// Another configuration of a node is in force.
    fn reconfigure(&mut self, node: Node) {
        let now = self.clock.now;
        let settings = config::settings(&self.topology, node);
        let Some(process) = self.hosts[node].process.as_mut() else {
            return;
        };
        let mut changes = Vec::new();
        let mut shut = Vec::new();
        for (peer, one) in &mut process.peers {
            let fsm = &mut one.driver.fsm;
            let restart = fsm.config().graceful_restart;
            let restarted = restart.is_some_and(|restart| restart.restarted);
            let new = config::peer(&self.topology, node, *peer, restarted);
            if new == **fsm.config() {
                continue;
            }
            let (was, is) = (fsm.config().shutdown.clone(), new.shutdown.clone());
            let new = Arc::new(new);
            changes.push(set(*peer, &new));
            fsm.reconfigure(new, address(node));
            if was != is {
                shut.push((*peer, is));
            }
        }
        process.rib.configure(now, settings, changes);
        for (peer, shutdown) in shut {
            if shutdown.is_some() {
                self.leave_path(node, peer);
            }
            let event = match shutdown {
                Some(message) => Said::Stop {
                    notification: Notification::administrative_shutdown(&message),
                    reason: "administratively down".into(),
                },
                None => Said::Start,
            };
            self.feed(node, peer, event);
            self.watch_path(node, peer);
        }
        self.soon(node);
    }
}
