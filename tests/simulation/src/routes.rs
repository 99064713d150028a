//! The Rib and the installer of a speaker: when their tasks run, and what comes of it.

use std::time::{Duration, Instant};

use bgp::{
    prefix::Prefix,
    rib::task::{PeerMessage, Room},
};
use fib::{Completeness, simulated::Written};

use crate::{
    clock::Event,
    process::{Process, peer_id},
    topology::Node,
    trace::What,
    watch::Finding,
    world::World,
};

impl World {
    pub(crate) fn process(&mut self, node: Node) -> Option<&mut Process> {
        self.hosts[node].process.as_mut()
    }

    /// Says this to the Rib.
    pub(crate) fn say(&mut self, node: Node, peer: Node, message: PeerMessage) {
        if let Some(process) = self.process(node) {
            process.inbox.push((peer_id(peer), message));
        }
        self.soon(node);
    }

    /// The Rib gets its turn soon.
    pub(crate) fn soon(&mut self, node: Node) {
        let wait = Duration::from_micros(self.clock.random.u64(10..2000));
        self.rib_at(node, self.clock.now + wait);
    }

    fn rib_at(&mut self, node: Node, at: Instant) {
        if let Some(process) = &mut self.hosts[node].process {
            process.rib_runs.set(at, &mut self.clock, Event::Rib(node));
        }
    }

    fn install_at(&mut self, node: Node, at: Instant) {
        if let Some(process) = &mut self.hosts[node].process {
            let event = Event::Install(node);
            process.installer_runs.set(at, &mut self.clock, event);
        }
    }

    /// The task of the Rib runs.
    pub(crate) fn rib(&mut self, node: Node) {
        let (now, sabotage) = (self.clock.now, self.sabotage);
        if !self.hosts[node].acts() {
            return;
        }
        let Some(process) = self.process(node) else {
            return;
        };
        if !process.rib_runs.rings(now) {
            return;
        }
        let next = process.turn(now);
        let installs = process.hand_over(sabotage);
        let completes = !process.complete && process.rib.is_complete();
        if completes {
            process.complete = true;
            process.installer.set_complete(Completeness::Complete);
        }
        let up = process
            .peers
            .iter()
            .filter(|(_, peer)| peer.driver.connection().is_some())
            .map(|(peer, _)| *peer);
        let up: Vec<Node> = up.collect();
        if completes {
            self.tell(node, What::Complete);
            for peer in self.topology.peers(node) {
                self.feed(node, peer, bgp::peer::fsm::Event::Complete);
            }
        }
        if installs || completes {
            let wait = Duration::from_micros(self.clock.random.u64(1..5000));
            self.install_at(node, now + wait);
        }
        for peer in up {
            self.pump(node, peer);
        }
        self.bounded(node);
        if let Some(next) = next {
            self.rib_at(node, next);
        }
    }

    /// What waits for a peer is bounded.
    fn bounded(&mut self, node: Node) {
        let most = Room::LIMIT + 128 * 1024;
        let Some(process) = self.process(node) else {
            return;
        };
        let waits = process.peers.iter().map(|(peer, one)| {
            let links = one.driver.links().iter();
            let written: usize = links.map(|link| link.outgoing.waiting()).sum();
            (*peer, one.driver.queued().max(written))
        });
        let found: Vec<(Node, usize)> = waits.filter(|(_, waits)| *waits > most).collect();
        for (peer, octets) in found {
            let text = format!("{octets} octets wait for node {peer}, more than {most}");
            self.found(Finding::new(node, text));
        }
    }

    /// The installer runs.
    pub(crate) fn install(&mut self, node: Node) {
        let now = self.clock.now;
        if !self.hosts[node].acts() {
            return;
        }
        let host = &mut self.hosts[node];
        let Some(process) = &mut host.process else {
            return;
        };
        if !process.installer_runs.rings(now) {
            return;
        }
        process.installer.poll(now, &mut host.kernel);
        let next = process.installer.next_timeout();
        let mut written = host.kernel.take_written();
        // Between prefixes the installer keeps no order.
        written.sort_by_key(|(network, _)| *network);
        for (network, written) in written {
            if let Some(prefix) = Prefix::new(network.network(), network.prefix()) {
                self.written(node, prefix, written);
            }
        }
        if let Some(next) = next {
            self.install_at(node, next);
        }
    }

    /// The kernel's table of a node changed.
    pub(crate) fn written(&mut self, node: Node, prefix: Prefix, written: Written) {
        self.tell(node, What::Kernel(prefix, written));
        if let Some(finding) = self.watch.written(self.clock.now, node, prefix, written) {
            self.found(finding);
        }
    }
}
