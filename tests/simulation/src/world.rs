//! Everything there is, and the loop that lets it happen.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::{
    network::Network,
    oracle::Live,
    process::{Host, Process, Sabotage},
    schedule::{Event, Schedule},
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
    /// What is to come.
    pub schedule: Schedule,
    /// The one source of chance.
    pub random: Rng,
    /// What was.
    pub trace: Trace,
    /// What must never be.
    pub watch: Watch,
    /// A deliberate fault of ours.
    pub sabotage: Option<Sabotage>,
    /// The time.
    pub now: Instant,
    /// Its beginning.
    pub start: Instant,
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
fn beginning() -> Instant {
    Instant::now()
}

impl World {
    /// A world in which nothing runs yet.
    #[must_use]
    pub fn new(
        topology: Topology,
        mut random: Rng,
        trace: Trace,
        sabotage: Option<Sabotage>,
    ) -> Self {
        let start = beginning();
        let window = [2048, 16 * 1024, 256 * 1024][random.usize(..3)];
        let most = [2, 20, 200][random.usize(..3)];
        // Thousands of routes must be told within the deferral.
        let (window, most) = match topology.kind {
            Kind::Heavy => (window.max(16 * 1024), most.min(20)),
            _ => (window, most),
        };
        let delay = (Duration::from_micros(50), Duration::from_millis(most));
        let hosts = (0..topology.nodes.len()).map(Host::new).collect();
        let mut schedule = Schedule::default();
        schedule.add(start + LOOK, Event::Watch);
        Self {
            watch: Watch::new(&topology),
            topology,
            hosts,
            network: Network::new(window, delay),
            schedule,
            random,
            trace,
            sabotage,
            now: start,
            start,
            dials: 0,
            finding: None,
            events: 0,
        }
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Something worth telling.
    pub fn tell(&mut self, node: Node, what: What) {
        self.trace.add(self.now - self.start, node, what);
    }

    /// Something is wrong; the first of it counts.
    pub fn found(&mut self, finding: Finding) {
        self.finding.get_or_insert(finding);
    }

    /// Lets so much time pass, unless something is found wrong.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.finding.is_none()
            && let Some((at, event)) = self.schedule.next(until)
        {
            self.now = at;
            self.events += 1;
            self.happen(event);
        }
        if self.finding.is_none() {
            self.now = until;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Dial {
                from,
                to,
                dial,
                attempt,
            } => self.syn(from, to, dial, attempt),
            Event::Answer {
                from,
                to,
                dial,
                wire,
            } => self.answered(from, to, dial, wire),
            Event::Arrival { wire, to } => self.arrival(wire, to),
            Event::Room { wire, side } => self.room(wire, side),
            Event::Unacknowledged { wire, side } => self.unacknowledged(wire, side),
            Event::Lingered { wire, side } => self.lingered(wire, side),
            Event::Look { wire, side } => self.look(wire, side),
            Event::Timer { node, peer } => self.timer(node, peer),
            Event::Rib(node) => self.rib(node),
            Event::Install(node) => self.install(node),
            Event::Reread(node) => self.reread(node),
            Event::Fault(fault) => self.fault(fault),
            Event::Watch => {
                self.look_at_all();
                self.schedule.add(self.now + LOOK, Event::Watch);
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
            edge.shut.is_none() && nodes[a] && nodes[b] && self.network.is_whole(a, b)
        });
        Live {
            edges: edges.collect(),
            nodes,
        }
    }

    /// Starts the speaker of a machine that has power.
    pub fn start(&mut self, node: Node) {
        let host = &self.hosts[node];
        if !host.up || host.process.is_some() {
            return;
        }
        if self.sabotage == Some(Sabotage::EmptyKernel) && host.ran_before {
            self.empty_kernel(node);
        }
        let seed = self.random.u64(..);
        let host = &self.hosts[node];
        let process = Process::start(&self.topology, node, host, self.now, seed, self.start);
        self.hosts[node].process = Some(process);
        self.hosts[node].ran_before = true;
        self.tell(node, What::Fate("its speaker starts"));
        let peers: Vec<Node> = self.topology.neighbours[node].keys().copied().collect();
        for peer in peers {
            self.begin(node, peer);
        }
        self.soon(node);
    }

    fn empty_kernel(&mut self, node: Node) {
        let there = self.watch.kernel(node);
        self.hosts[node].boot(node);
        for prefix in there {
            self.written(node, prefix, fib::simulated::Written::Removed);
        }
        self.hosts[node].ran_before = true;
    }
}
