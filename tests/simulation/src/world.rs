//! Everything there is, and the loop that lets it happen.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::{
    clock::{Clock, Event},
    network::Network,
    oracle::Live,
    process::{Host, Sabotage},
    topology::{Kind, Node, Topology},
    trace::{Trace, What},
    watch::{Finding, Watch},
};

/// All speakers and what lies between them.
#[derive(Debug)]
pub struct World {
    /// What is meant.
    pub topology: Topology,
    /// What is.
    pub hosts: Vec<Host>,
    /// The paths and connections.
    pub network: Network,
    /// The time, what is to come, and chance.
    pub clock: Clock,
    /// What was.
    pub trace: Trace,
    /// What must never be.
    pub watch: Watch,
    /// A deliberate fault of ours.
    pub sabotage: Option<Sabotage>,
    /// When the clock began.
    pub beginning: Instant,
    pub(crate) dials: u64,
    /// What has gone wrong, if something has.
    pub finding: Option<Finding>,
    /// Events so far.
    pub events: u64,
}

/// How often the world is looked at.
pub const LOOK: Duration = Duration::from_secs(1);

#[expect(
    clippy::disallowed_methods,
    reason = "a clock needs a beginning; all that counts is what is added to it"
)]
fn some_instant() -> Instant {
    Instant::now()
}

impl World {
    /// A world in which nothing runs yet.
    #[must_use]
    pub fn new(
        mut topology: Topology,
        mut random: Rng,
        trace: Trace,
        sabotage: Option<Sabotage>,
    ) -> Self {
        let beginning = some_instant();
        let window = [2048, 16 * 1024, 256 * 1024][random.usize(..3)];
        let most = [2, 20, 200][random.usize(..3)];
        // Thousands of routes must be told within the deferral.
        let (window, most) = match topology.kind {
            Kind::Heavy => (window.max(16 * 1024), most.min(20)),
            _ => (window, most),
        };
        let delay = (Duration::from_micros(50), Duration::from_millis(most));
        let hosts = (0..topology.nodes.len()).map(Host::new).collect();
        let mut clock = Clock::new(beginning, random);
        clock.after(LOOK, Event::Watch);
        let watch = Watch::new(&topology, beginning);
        if sabotage == Some(Sabotage::NoLimit) {
            topology.limit = 0;
        }
        Self {
            watch,
            topology,
            hosts,
            network: Network::new(window, delay),
            clock,
            trace,
            sabotage,
            beginning,
            dials: 0,
            finding: None,
            events: 0,
        }
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.clock.now - self.beginning
    }

    /// Something worth telling.
    pub fn tell(&mut self, node: Node, what: What) {
        self.trace.add(self.clock.now - self.beginning, node, what);
    }

    /// Something is wrong; the first of it counts.
    pub fn found(&mut self, finding: Finding) {
        self.finding.get_or_insert(finding);
    }

    /// Lets so much time pass, unless something is found wrong.
    pub fn pass(&mut self, time: Duration) {
        let until = self.clock.now + time;
        while self.finding.is_none()
            && let Some(event) = self.clock.next(until)
        {
            self.events += 1;
            self.happen(event);
        }
        if self.finding.is_none() {
            self.clock.now = until;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Syn(dial, attempt) => self.syn(dial, attempt),
            Event::Answer(dial, wire) => self.answered(dial, wire),
            Event::Arrival(socket) => self.arrival(socket),
            Event::Room(socket) => self.room(socket),
            Event::Unacknowledged(socket) => self.unacknowledged(socket),
            Event::Lingered(socket) => self.lingered(socket),
            Event::Look(socket) => self.read(socket),
            Event::Timer(node, peer) => self.timer(node, peer),
            Event::Path(node, peer) => self.path_timer(node, peer),
            Event::Datagram(from, to, packet) => self.datagram(from, to, packet),
            Event::Rib(node) => self.rib(node),
            Event::Install(node) => self.install(node),
            Event::Reread(node) => self.reread(node),
            Event::Fault(fault) => self.fault(fault),
            Event::Watch => {
                self.look_at_all();
                self.look_at_paths();
                self.look_at_limits();
                self.clock.after(LOOK, Event::Watch);
            }
        }
    }

    /// What is up now: who runs, and which neighbours can talk.
    #[must_use]
    pub fn live(&self) -> Live {
        let runs = |node: Node| self.hosts[node].acts();
        let nodes: Vec<bool> = (0..self.hosts.len()).map(runs).collect();
        let edges = self.topology.edges.iter().map(|edge| {
            let [a, b] = edge.ends;
            edge.shut.is_none() && nodes[a] && nodes[b] && self.network.paths.are_whole(a, b)
        });
        Live {
            edges: edges.collect(),
            nodes,
        }
    }
}
