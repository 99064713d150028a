//! What happens to machines and the processes on them.

use std::time::Duration;

use bgp::{
    peer::fsm::Event as Said,
    wire::{Cease, Notification},
};
use fib::simulated::Written;

use crate::{
    clock::Event,
    fault::Fault,
    process::{Process, Sabotage},
    topology::Node,
    trace::What,
    world::World,
};

impl World {
    /// Starts the speaker of a machine that has power.
    pub(crate) fn start(&mut self, node: Node) {
        let host = &self.hosts[node];
        if !host.up || host.process.is_some() {
            return;
        }
        if self.sabotage == Some(Sabotage::EmptyKernel) && host.ran_before {
            self.empty_kernel(node);
        }
        let seed = self.clock.random.u64(..);
        let (now, epoch) = (self.clock.now, self.beginning);
        let host = &self.hosts[node];
        let process = Process::start(&self.topology, node, host, now, seed, epoch);
        self.hosts[node].process = Some(process);
        self.hosts[node].ran_before = true;
        self.tell(node, What::Fate("its speaker starts"));
        for peer in self.topology.peers(node) {
            self.begin(node, peer);
            self.watch_path(node, peer);
        }
        self.soon(node);
    }

    fn empty_kernel(&mut self, node: Node) {
        let there = self.watch.kernel(node).clone();
        self.hosts[node].boot(node);
        for prefix in there {
            self.written(node, prefix, Written::Removed);
        }
        self.hosts[node].ran_before = true;
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, node: Node) {
        if self.hosts[node].process.take().is_some() {
            self.tell(node, What::Fate("its speaker is killed"));
            self.hosts[node].paused = false;
            self.close_all(node);
        }
    }

    /// SIGTERM for an upgrade.
    pub(crate) fn leave(&mut self, node: Node) {
        let event = || Said::Reconnect {
            notification: Notification::cease(Cease::OtherConfigurationChange),
            reason: "we restart".into(),
        };
        self.end(node, "its speaker leaves for a restart", event);
    }

    /// The end for good.
    pub(crate) fn shut_down(&mut self, node: Node) {
        if self.hosts[node].acts() {
            for peer in self.topology.peers(node) {
                self.leave_path(node, peer);
            }
        }
        let event = || Said::Stop {
            notification: Notification::administrative_shutdown("for good"),
            reason: "we shut down".into(),
        };
        self.end(node, "its speaker shuts down", event);
    }

    /// The speaker ends after all its sessions heard this.
    fn end(&mut self, node: Node, fate: &'static str, event: impl Fn() -> Said) {
        if !self.hosts[node].acts() {
            return;
        }
        self.tell(node, What::Fate(fate));
        for peer in self.topology.peers(node) {
            self.feed(node, peer, event());
        }
        self.kill(node);
    }

    pub(crate) fn power_off(&mut self, node: Node) {
        if !self.hosts[node].up {
            return;
        }
        self.tell(node, What::Fate("its machine loses power"));
        self.hosts[node].process = None;
        self.hosts[node].up = false;
        self.hosts[node].paused = false;
        self.network.power_off(node);
        self.watch.forget(node);
    }

    pub(crate) fn power_on(&mut self, node: Node) {
        if self.hosts[node].up {
            return;
        }
        self.tell(node, What::Fate("its machine is back"));
        self.hosts[node].boot(node);
        self.network.power_on(node, &mut self.clock);
        let boots = Duration::from_millis(self.clock.random.u64(..3000));
        let start = Event::Fault(Fault::Start(node));
        self.clock.after(boots, start);
    }

    /// SIGSTOP.
    pub(crate) fn pause(&mut self, node: Node) {
        if self.hosts[node].acts() {
            self.tell(node, What::Fate("its speaker is stopped"));
            self.hosts[node].paused = true;
        }
    }

    /// SIGCONT: all that waited is looked at now.
    pub(crate) fn resume(&mut self, node: Node) {
        if !std::mem::take(&mut self.hosts[node].paused) {
            return;
        }
        self.tell(node, What::Fate("its speaker goes on"));
        let peers = self.topology.peers(node);
        // Which of both a task looks at first is its own affair.
        if self.clock.random.bool() {
            for peer in &peers {
                self.timer(node, *peer);
            }
        }
        self.accept(node);
        for peer in peers {
            for socket in self.network.between(node, peer) {
                self.read(socket);
            }
            self.timer(node, peer);
            self.look_at_path(node, peer);
            self.pump(node, peer);
        }
        self.rib(node);
        self.install(node);
    }
}
