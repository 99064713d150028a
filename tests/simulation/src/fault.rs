//! What is done to the network: every kind of fault, which of them comes next, and how they end.

use std::time::Duration;

use bgp::speaker::{Direction, Refresh};
use fastrand::Rng;

use crate::{
    clock::Event, network::Wire, process::peer_id, topology::Node, trace::What, world::World,
};

/// Something that is done to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A speaker starts.
    Start(Node),
    /// SIGKILL.
    Kill(Node),
    /// SIGTERM for an upgrade.
    Leave(Node),
    /// The end for good: Cease.
    Shutdown(Node),
    /// A machine loses power, and all it knew.
    PowerOff(Node),
    /// It is back, and its speaker with it.
    PowerOn(Node),
    /// SIGSTOP.
    Pause(Node),
    /// SIGCONT.
    Resume(Node),
    /// Nothing gets from one to the other.
    Cut(Node, Node),
    /// It does again.
    Heal(Node, Node),
    /// A firewall resets all connections between two.
    Reset(Node, Node),
    /// One says something that is no message, or another than it meant.
    Garble(Node, Node),
    /// Somebody dials the first from the address of the second.
    Rogue(Node, Node),
    /// The first does not come to read what the second says.
    Neglect(Node, Node),
    /// The first asks the second for all routes again, or tells it its own.
    Refresh(Node, Node),
    /// It originates something, and then no longer, so many times.
    Flap(Node, u8),
    /// A configuration changes.
    Change(Change),
}

/// Another configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It originates something, or no longer does, or with another MED.
    Originate(Node),
    /// It prepends otherwise.
    Prepend(Node, Node),
    /// It is on its way out, or no longer.
    Drain(Node),
    /// The first lets in, or tells, nothing of the session with the second, or all again.
    Filter(Node, Node),
    /// It originates more than anybody takes.
    Leak(Node),
    /// It no longer does.
    Unleak(Node),
    /// The first shuts its session with the second down.
    Shut(Node, Node),
    /// It opens it again.
    Open(Node, Node),
    /// It proposes another hold time, from the next session on.
    Hold(Node),
}

impl Change {
    /// Whose configuration changes.
    #[must_use]
    pub fn node(self) -> Node {
        match self {
            Self::Originate(node)
            | Self::Prepend(node, _)
            | Self::Drain(node)
            | Self::Filter(node, _)
            | Self::Leak(node)
            | Self::Unleak(node)
            | Self::Shut(node, _)
            | Self::Open(node, _)
            | Self::Hold(node) => node,
        }
    }
}

impl World {
    fn some_neighbours(&mut self) -> (Node, Node) {
        let edge = self.clock.random.usize(..self.topology.edges.len());
        let [a, b] = self.topology.edges[edge].ends;
        if self.clock.random.bool() {
            (a, b)
        } else {
            (b, a)
        }
    }

    /// A fault, and what ends it.
    pub(crate) fn some_fault(&mut self) -> (Fault, Option<Fault>) {
        let node = self.clock.random.usize(..self.hosts.len());
        let (a, b) = self.some_neighbours();
        let random = &mut self.clock.random;
        match random.u8(..26) {
            0 | 1 => (Fault::Kill(node), Some(Fault::Start(node))),
            2 => (Fault::Leave(node), Some(Fault::Start(node))),
            3 => (Fault::Shutdown(node), Some(Fault::Start(node))),
            4 | 5 => (Fault::PowerOff(node), Some(Fault::PowerOn(node))),
            6 | 7 => (Fault::Pause(node), Some(Fault::Resume(node))),
            8..=10 => (Fault::Cut(a, b), Some(Fault::Heal(a, b))),
            11 => (Fault::Reset(a, b), None),
            12 | 13 => (Fault::Garble(a, b), None),
            14 => (Fault::Rogue(a, b), None),
            15 => (Fault::Neglect(a, b), None),
            16 | 17 => (Fault::Change(Change::Originate(node)), None),
            18 => (Fault::Change(Change::Prepend(a, b)), None),
            19 => (Fault::Change(Change::Drain(node)), None),
            20 => {
                let open = Fault::Change(Change::Open(a, b));
                (Fault::Change(Change::Shut(a, b)), Some(open))
            }
            21 => {
                let unleak = Fault::Change(Change::Unleak(node));
                (Fault::Change(Change::Leak(node)), Some(unleak))
            }
            22 => (Fault::Flap(node, 2 * random.u8(1..20)), None),
            23 | 24 => (Fault::Change(Change::Filter(a, b)), None),
            _ if random.bool() => (Fault::Change(Change::Hold(node)), None),
            _ => (Fault::Refresh(a, b), None),
        }
    }

    /// Does something to the network.
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.watch.disturbed = self.clock.now;
        match fault {
            Fault::Start(node) => self.start(node),
            Fault::Kill(node) => self.kill(node),
            Fault::Leave(node) => self.leave(node),
            Fault::Shutdown(node) => self.shut_down(node),
            Fault::PowerOff(node) => self.power_off(node),
            Fault::PowerOn(node) => self.power_on(node),
            Fault::Pause(node) => self.pause(node),
            Fault::Resume(node) => self.resume(node),
            Fault::Cut(a, b) => {
                self.tell(a, What::Link(b, "nothing gets there"));
                self.network.paths.cut(a, b);
                if self.clock.random.u8(..3) > 0 {
                    self.network.paths.cut(b, a);
                }
            }
            Fault::Heal(a, b) => {
                self.tell(a, What::Link(b, "works again"));
                self.network.heal(a, b, &mut self.clock);
            }
            Fault::Reset(a, b) => {
                self.tell(a, What::Link(b, "connections are reset"));
                for socket in self.network.between(a, b) {
                    self.reset(socket.wire);
                }
            }
            Fault::Garble(a, b) => self.garble(a, b),
            Fault::Rogue(node, other) => self.rogue(node, other),
            Fault::Neglect(a, b) => {
                let time = Duration::from_secs(self.clock.random.u64(1..10));
                let until = self.clock.now + time;
                for socket in self.network.between(a, b) {
                    if let Some(end) = self.network.end(socket) {
                        end.unread_until = Some(until);
                        self.clock.at(until, Event::Look(socket));
                    }
                }
            }
            Fault::Refresh(a, b) => {
                let direction = if self.clock.random.bool() {
                    Direction::Received
                } else {
                    Direction::Advertised
                };
                if self.hosts[a].acts()
                    && let Some(process) = self.process(a)
                {
                    let all = Refresh {
                        direction,
                        family: None,
                    };
                    // A session that is down has nobody to ask.
                    let _ = process.rib.refresh_again(peer_id(b), all);
                    self.pump(a, b);
                }
            }
            Fault::Flap(node, times) => {
                self.change(Change::Originate(node));
                if times > 1 {
                    let wait = Duration::from_millis(self.clock.random.u64(1..500));
                    let again = Event::Fault(Fault::Flap(node, times - 1));
                    self.clock.after(wait, again);
                }
            }
            Fault::Change(change) => self.change(change),
        }
    }

    /// All faults are over, but for a few that stay where somebody would notice them.
    pub(crate) fn calm(&mut self) {
        self.watch.disturbed = self.clock.now;
        let noticed = self.watch.bound.is_some();
        let stays = |random: &mut Rng| noticed && random.u8(..3) == 0;
        let dead = self.network.paths.dead();
        for (from, to) in dead.iter().copied() {
            let again = from > to && dead.contains(&(to, from));
            if !again && !stays(&mut self.clock.random) {
                self.fault(Fault::Heal(from, to));
            }
        }
        for node in 0..self.hosts.len() {
            self.resume(node);
            if stays(&mut self.clock.random) {
                continue;
            }
            if !self.hosts[node].up {
                self.power_on(node);
            }
            self.start(node);
        }
        let connections = self.network.connections.iter();
        let tainted = connections.filter(|(_, one)| one.tainted);
        let tainted: Vec<Wire> = tainted.map(|(wire, _)| *wire).collect();
        for wire in tainted {
            self.reset(wire);
        }
    }
}
