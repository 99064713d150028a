//! What a seed does to a network: storms of faults, calm in which all must come right, and graceful restarts.

use std::{fmt, time::Duration};

use bgp::{
    peer::negotiate::{Local, our_open},
    wire::{Context, Message},
};
use bytes::{Bytes, BytesMut};
use fastrand::Rng;

use crate::{
    config,
    network::{Packet, State, Wire},
    process::Sabotage,
    schedule::Event,
    topology::{Kind, Node, Topology, address},
    trace::{Trace, What},
    watch::Finding,
    world::World,
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
    /// It originates something, or no longer does, or with another MED.
    Originate(Node),
    /// It prepends otherwise.
    Prepend(Node, Node),
    /// It is on its way out, or no longer.
    Drain(Node),
    /// The first shuts its session with the second down.
    Shut(Node, Node),
    /// It opens it again.
    Open(Node, Node),
    /// It proposes another hold time, over a new session.
    Hold(Node, Node),
    /// It asks for all routes again.
    Refresh(Node, Node),
}

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What decides everything that is left to chance.
    pub seed: u64,
    /// One shape only.
    pub kind: Option<Kind>,
    /// About so many speakers.
    pub speakers: Option<usize>,
    /// So many storms.
    pub steps: Option<usize>,
    /// Prints each line of the trace.
    pub trace: bool,
    /// A deliberate fault of ours.
    pub sabotage: Option<Sabotage>,
}

/// A run that went well.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was simulated.
    pub topology: String,
    /// Equal for equal runs.
    pub hash: u64,
    /// Events.
    pub events: u64,
    /// Simulated time.
    pub time: Duration,
    /// Faults.
    pub faults: usize,
    /// How long a route without a path stayed at most, where that is bounded; and the bound.
    pub longest: Option<(Duration, Duration)>,
    /// Simulated time from the end of a storm until all was right, at most.
    pub healed: Duration,
}

/// A run that did not.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was run.
    pub options: Options,
    /// What was simulated.
    pub topology: String,
    /// When it was found.
    pub at: Duration,
    /// What.
    pub finding: Finding,
    /// The last lines of the node where it was found.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.options.seed, self.topology)?;
        writeln!(f, "after {:.3} s: {}", self.at.as_secs_f64(), self.finding)?;
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(
            f,
            "again: cargo run -p simulation -- --seed {}",
            self.options.seed
        )?;
        if let Some(kind) = self.options.kind {
            write!(f, " --kind {}", format!("{kind:?}").to_lowercase())?;
        }
        if let Some(speakers) = self.options.speakers {
            write!(f, " --speakers {speakers}")?;
        }
        if let Some(steps) = self.options.steps {
            write!(f, " --steps {steps}")?;
        }
        Ok(())
    }
}

/// Lines of the trace that a failure shows.
const SHOWN: usize = 40;

/// Simulated time in which everything has to come right after a storm, beyond the hold times and what is kept.
const PATIENCE: Duration = Duration::from_secs(400);

/// Runs a seed.
///
/// # Errors
/// What was found wrong, and how to see it again.
pub fn run(options: &Options) -> Result<Report, Box<Failure>> {
    let mut random = Rng::with_seed(options.seed);
    let kind = Kind::ALL[random.usize(..Kind::ALL.len())];
    let kind = options.kind.unwrap_or(kind);
    let few = 4 + random.usize(..12);
    let many = 30 + random.usize(..30);
    let speakers = if random.u8(..6) == 0 { many } else { few };
    let speakers = options.speakers.unwrap_or(speakers);
    let steps = options.steps.unwrap_or(2 + random.usize(..3));
    let topology = Topology::new(kind, speakers, &mut random);
    let told = topology.to_string();
    let world = World::new(
        topology,
        random,
        Trace::new(options.trace),
        options.sabotage,
    );
    let mut run = Run {
        world,
        faults: 0,
        healed: Duration::ZERO,
    };
    let outcome = run.all(steps);
    let world = run.world;
    match outcome {
        Ok(()) => Ok(Report {
            topology: told,
            hash: world.trace.hash(),
            events: world.events,
            time: world.elapsed(),
            faults: run.faults,
            longest: world.watch.bound.map(|bound| (world.watch.longest, bound)),
            healed: run.healed,
        }),
        Err(finding) => Err(Box::new(Failure {
            options: options.clone(),
            topology: told,
            at: world.elapsed(),
            trace: world
                .trace
                .last_of(finding.node, SHOWN)
                .into_iter()
                .map(ToString::to_string)
                .collect(),
            finding,
        })),
    }
}

struct Run {
    world: World,
    faults: usize,
    healed: Duration,
}

impl Run {
    fn all(&mut self, steps: usize) -> Result<(), Finding> {
        self.begin();
        self.come_right()?;
        for _ in 0..steps {
            if self.all_graceful() && self.world.random.bool() {
                self.graceful()?;
            }
            self.storm()?;
            self.come_right()?;
        }
        Ok(())
    }

    fn begin(&mut self) {
        for node in 0..self.world.hosts.len() {
            let at = self.world.now + Duration::from_millis(self.world.random.u64(..5000));
            self.world
                .schedule
                .add(at, Event::Fault(Fault::Start(node)));
        }
        self.pass(Duration::from_secs(5));
    }

    fn pass(&mut self, time: Duration) {
        self.world.pass(time);
    }

    fn found(&self) -> Result<(), Finding> {
        match &self.world.finding {
            Some(finding) => Err(finding.clone()),
            None => Ok(()),
        }
    }

    /// Nothing more happens: in bounded time every table is what the oracle says, and stays so.
    fn come_right(&mut self) -> Result<(), Finding> {
        let began = self.world.now;
        let limit = PATIENCE + self.world.watch.bound.unwrap_or_default();
        loop {
            self.pass(Duration::from_secs(1));
            self.found()?;
            let Some(difference) = self.world.difference() else {
                break;
            };
            if self.world.now - began > limit {
                let text = format!("{limit:?} after all faults are over: {}", difference.text);
                return Err(Finding::new(difference.node, text));
            }
        }
        self.healed = self.healed.max(self.world.now - began);
        let a_while = Duration::from_secs(self.world.random.u64(5..60));
        self.pass(a_while);
        self.found()?;
        if let Some(difference) = self.world.difference() {
            let text = format!("at rest, all right before: {}", difference.text);
            return Err(Finding::new(difference.node, text));
        }
        match self.world.disagreement() {
            Some(finding) => Err(finding),
            None => Ok(()),
        }
    }

    fn all_graceful(&self) -> bool {
        let world = &self.world;
        let all = world.topology.nodes.iter().all(|node| node.grace.is_some());
        all && (0..world.hosts.len()).all(|node| world.hosts[node].acts())
    }

    /// One speaker after the other is restarted, as in an upgrade: no kernel may lose a route.
    fn graceful(&mut self) -> Result<(), Finding> {
        for _ in 0..1 + self.world.random.usize(..4) {
            self.world.watch.steady = Some(self.world.expect().clone());
            let node = self.world.random.usize(..self.world.hosts.len());
            let how = [Fault::Kill(node), Fault::Leave(node)][self.world.random.usize(..2)];
            self.world.fault(how);
            let away = Duration::from_millis(self.world.random.u64(1..8000));
            self.pass(away);
            self.found()?;
            self.world.fault(Fault::Start(node));
            self.faults += 1;
            let come_right = self.come_right();
            self.world.watch.steady = None;
            come_right?;
        }
        Ok(())
    }

    /// Faults of every kind at once, most of which end again.
    fn storm(&mut self) -> Result<(), Finding> {
        let length = Duration::from_secs(self.world.random.u64(1..120));
        let most = 4 + self.world.hosts.len() / 2;
        for _ in 0..1 + self.world.random.usize(..most) {
            let milliseconds = u64::try_from(length.as_millis()).unwrap_or(1);
            let at = Duration::from_millis(self.world.random.u64(..milliseconds));
            let (fault, undo) = self.world.some_fault();
            self.faults += 1;
            self.world
                .schedule
                .add(self.world.now + at, Event::Fault(fault));
            // Some faults last.
            let ends = self.world.random.u8(..4) > 0 || matches!(fault, Fault::Shut(..));
            if let Some(undo) = undo.filter(|_| ends) {
                let lasts = Duration::from_millis(self.world.random.u64(1..40_000));
                let over = self.world.now + at + lasts;
                self.world.schedule.add(over, Event::Fault(undo));
            }
        }
        // Until all is undone that will be.
        self.pass(length + Duration::from_secs(41));
        self.found()?;
        self.world.calm();
        self.found()
    }
}

impl World {
    fn some_neighbours(&mut self) -> (Node, Node) {
        let edge = self.random.usize(..self.topology.edges.len());
        let [a, b] = self.topology.edges[edge].ends;
        if self.random.bool() { (a, b) } else { (b, a) }
    }

    /// A fault, and what ends it.
    fn some_fault(&mut self) -> (Fault, Option<Fault>) {
        let node = self.random.usize(..self.hosts.len());
        let (a, b) = self.some_neighbours();
        match self.random.u8(..22) {
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
            16 | 17 => (Fault::Originate(node), None),
            18 => (Fault::Prepend(a, b), None),
            19 => (Fault::Drain(node), None),
            20 => (Fault::Shut(a, b), Some(Fault::Open(a, b))),
            _ if self.random.bool() => (Fault::Hold(a, b), None),
            _ => (Fault::Refresh(a, b), None),
        }
    }

    /// All faults are over, but for a few that stay where somebody would notice them.
    fn calm(&mut self) {
        let noticed = self.watch.bound.is_some();
        let stays = |random: &mut Rng| noticed && random.u8(..3) == 0;
        let dead = self.network.dead();
        for (from, to) in dead.iter().copied() {
            let again = from > to && dead.contains(&(to, from));
            if !again && !stays(&mut self.random) {
                self.fault(Fault::Heal(from, to));
            }
        }
        for node in 0..self.hosts.len() {
            self.fault(Fault::Resume(node));
            if stays(&mut self.random) {
                continue;
            }
            if !self.hosts[node].up {
                self.fault(Fault::PowerOn(node));
            }
            self.fault(Fault::Start(node));
        }
        let tainted = self
            .network
            .connections
            .iter()
            .filter(|(_, one)| one.tainted);
        let tainted: Vec<Wire> = tainted.map(|(wire, _)| *wire).collect();
        for wire in tainted {
            self.reset(wire);
        }
    }

    /// Does something to the network.
    pub(crate) fn fault(&mut self, fault: Fault) {
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
                self.network.cut(a, b);
                if self.random.u8(..3) > 0 {
                    self.network.cut(b, a);
                }
            }
            Fault::Heal(a, b) => {
                self.tell(a, What::Link(b, "works again"));
                let Self {
                    network,
                    schedule,
                    random,
                    now,
                    ..
                } = self;
                network.heal(a, b, *now, schedule, random);
                network.heal(b, a, *now, schedule, random);
            }
            Fault::Reset(a, b) => {
                self.tell(a, What::Link(b, "connections are reset"));
                for (wire, _, _) in self.between(a, b) {
                    self.reset(wire);
                }
            }
            Fault::Garble(a, b) => self.garble(a, b),
            Fault::Rogue(node, other) => self.rogue(node, other),
            Fault::Neglect(a, b) => {
                let until = self.now + Duration::from_secs(self.random.u64(1..10));
                for (wire, side_a, _) in self.between(a, b) {
                    if let Some(connection) = self.network.connections.get_mut(&wire) {
                        connection.ends[side_a].unread_until = Some(until);
                        self.schedule.add(until, Event::Look { wire, side: side_a });
                    }
                }
            }
            Fault::Refresh(a, b) => {
                if self.hosts[a].acts()
                    && let Some(process) = self.process(a)
                {
                    let all = bgp::speaker::Refresh {
                        direction: bgp::speaker::Direction::Received,
                        family: None,
                    };
                    // A session that is down has nobody to ask.
                    let _ = process.rib.refresh_again(crate::process::peer_id(b), all);
                    self.pump(a, b);
                }
            }
            change => self.change(change),
        }
    }

    /// The configuration changes.
    fn change(&mut self, change: Fault) {
        let kind = self.topology.kind;
        let mut anew = None;
        let node = match change {
            Fault::Originate(node) => {
                let count = if kind == Kind::Heavy { 500 } else { 1 };
                for _ in 0..count {
                    self.originate_otherwise(node);
                }
                node
            }
            Fault::Prepend(node, peer) if kind == Kind::Graph => {
                let edge = self.topology.neighbours[node][&peer];
                let side = usize::from(self.topology.edges[edge].ends[1] == node);
                self.topology.edges[edge].prepend[side] = self.random.u8(..4);
                node
            }
            Fault::Drain(node) if kind == Kind::Mesh => {
                let intent = &mut self.topology.nodes[node];
                intent.draining = !intent.draining;
                node
            }
            Fault::Shut(node, peer) | Fault::Open(node, peer) => {
                let edge = self.topology.neighbours[node][&peer];
                let side = usize::from(self.topology.edges[edge].ends[1] == node);
                let shut = &mut self.topology.edges[edge].shut;
                *shut = match change {
                    Fault::Shut(..) if shut.is_none() => Some(side),
                    Fault::Open(..) if *shut == Some(side) => None,
                    _ => return,
                };
                node
            }
            Fault::Hold(node, peer) if self.topology.nodes[node].hold > 0 => {
                let intent = &mut self.topology.nodes[node];
                intent.hold = if intent.hold == 9 { 12 } else { 9 };
                anew = Some((peer, "hold time"));
                node
            }
            _ => return,
        };
        self.watch.stale = true;
        self.tell(node, What::Fate("its configuration changes"));
        if self.hosts[node].acts() {
            self.reconfigure(node, anew);
        } else if self.hosts[node].process.is_some() {
            // It reads its configuration once it gets a turn again.
            let again = self.now + Duration::from_secs(1);
            self.schedule.add(again, Event::Reread(node));
        }
    }

    fn originate_otherwise(&mut self, node: Node) {
        let intent = &mut self.topology.nodes[node];
        let prefixes: Vec<_> = intent.originates.keys().copied().collect();
        if self.topology.kind == Kind::Heavy {
            let prefix = prefixes[self.random.usize(..prefixes.len())];
            intent
                .originates
                .insert(prefix, self.random.u32(1..1_000_000));
            return;
        }
        let which = self.random.u32(4..6);
        for family in bgp::prefix::Family::ALL {
            let prefix = crate::topology::prefix(family, node, which);
            if intent.originates.remove(&prefix).is_none() {
                intent.originates.insert(prefix, 0);
            }
        }
    }
}

/// What happens to machines and their processes.
impl World {
    fn kill(&mut self, node: Node) {
        if self.hosts[node].process.take().is_some() {
            self.tell(node, What::Fate("its speaker is killed"));
            self.hosts[node].paused = false;
            self.close_all(node);
        }
    }

    fn leave(&mut self, node: Node) {
        if !self.hosts[node].acts() {
            return;
        }
        self.tell(node, What::Fate("its speaker leaves for a restart"));
        let peers: Vec<Node> = self.topology.neighbours[node].keys().copied().collect();
        for peer in peers {
            let event = bgp::peer::fsm::Event::Reconnect {
                notification: bgp::wire::Notification::cease(
                    bgp::wire::Cease::OtherConfigurationChange,
                ),
                reason: "we restart".into(),
            };
            self.feed(node, peer, event);
        }
        self.kill(node);
    }

    fn shut_down(&mut self, node: Node) {
        if !self.hosts[node].acts() {
            return;
        }
        self.tell(node, What::Fate("its speaker shuts down"));
        let peers: Vec<Node> = self.topology.neighbours[node].keys().copied().collect();
        for peer in peers {
            let event = bgp::peer::fsm::Event::Stop {
                notification: bgp::wire::Notification::administrative_shutdown("for good"),
                reason: "we shut down".into(),
            };
            self.feed(node, peer, event);
        }
        self.kill(node);
    }

    fn power_off(&mut self, node: Node) {
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

    fn power_on(&mut self, node: Node) {
        if self.hosts[node].up {
            return;
        }
        self.tell(node, What::Fate("its machine is back"));
        self.hosts[node].boot(node);
        let Self {
            network,
            schedule,
            random,
            now,
            ..
        } = self;
        network.power_on(node, *now, schedule, random);
        let at = self.now + Duration::from_millis(self.random.u64(..3000));
        self.schedule.add(at, Event::Fault(Fault::Start(node)));
    }

    fn pause(&mut self, node: Node) {
        if self.hosts[node].acts() {
            self.tell(node, What::Fate("its speaker is stopped"));
            self.hosts[node].paused = true;
        }
    }

    fn resume(&mut self, node: Node) {
        if !std::mem::take(&mut self.hosts[node].paused) {
            return;
        }
        self.tell(node, What::Fate("its speaker goes on"));
        let peers: Vec<Node> = self.topology.neighbours[node].keys().copied().collect();
        // Which of both a task looks at first is its own affair.
        if self.random.bool() {
            for peer in &peers {
                self.timer(node, *peer);
            }
        }
        self.accept(node);
        for peer in peers {
            for (wire, side, _) in self.between(node, peer) {
                self.read(node, peer, wire, side);
            }
            self.timer(node, peer);
            self.pump(node, peer);
        }
        self.rib(node);
        self.install(node);
    }
}

/// What happens to connections.
impl World {
    /// The open connections between two, each with the side of the first and of the second.
    fn between(&self, a: Node, b: Node) -> Vec<(Wire, usize, usize)> {
        let all = self.network.connections.iter();
        all.filter_map(|(wire, connection)| {
            let nodes = [connection.ends[0].node, connection.ends[1].node];
            let side = nodes.iter().position(|node| *node == a)?;
            (nodes[1 - side] == b).then_some((*wire, side, 1 - side))
        })
        .collect()
    }

    fn reset(&mut self, wire: Wire) {
        let now = self.now;
        if let Some(connection) = self.network.connections.get_mut(&wire) {
            connection.tainted = false;
        }
        for side in [0, 1] {
            let Self {
                network,
                schedule,
                random,
                ..
            } = self;
            network.send(wire, side, Packet::Reset, now, schedule, random);
        }
        // Whoever is nobody's process lets go too.
        if let Some(connection) = self.network.connections.get_mut(&wire) {
            for end in &mut connection.ends {
                if end.state == State::Lingering {
                    end.state = State::Closed;
                }
            }
        }
    }

    /// A buggy peer: something it said before comes again with octets changed, or octets come that mean nothing.
    fn garble(&mut self, a: Node, b: Node) {
        let open = self
            .between(a, b)
            .into_iter()
            .filter(|(wire, side_a, side_b)| {
                self.network.connections.get(wire).is_some_and(|one| {
                    one.ends[*side_a].state == State::Open && one.ends[*side_b].state == State::Open
                })
            });
        let open: Vec<_> = open.collect();
        for (wire, side_a, _) in open {
            let mut octets = self.network.said(wire, side_a).to_vec();
            octets.truncate(4096);
            if octets.len() < 19 || self.random.u8(..4) == 0 {
                octets = [&[0xff; 16][..], &[0, 23, 2, 0, 0, 0, 0]].concat();
            }
            for _ in 0..1 + self.random.usize(..4) {
                // Mostly behind the marker.
                let from = if self.random.u8(..8) == 0 { 0 } else { 16 };
                let place = self.random.usize(from..octets.len());
                octets[place] = self.random.u8(..);
            }
            self.tell(a, What::Link(b, "garbled octets"));
            let Self {
                network,
                schedule,
                random,
                now,
                ..
            } = self;
            network.inject(wire, side_a, octets.into(), *now, schedule, random);
        }
    }

    /// Somebody dials from the address of a neighbour, and says as much of a session as chance has it.
    fn rogue(&mut self, node: Node, other: Node) {
        if self.hosts[node].process.is_none() || !self.hosts[node].up {
            return;
        }
        self.tell(node, What::Link(other, "somebody dials from there"));
        let wire = self.network.connect(other, node);
        if let Some(connection) = self.network.connections.get_mut(&wire) {
            connection.ends[0].state = State::Lingering;
            connection.tainted = true;
        }
        self.hosts[node].backlog.push((other, wire));
        let peer = config::peer(&self.topology, other, node, self.random.bool());
        let local = Local {
            router_id: address(other),
            restarting: self.random.bool(),
            preserved: self.random.bool(),
        };
        let mut octets = BytesMut::new();
        let messages = [
            Message::Open(our_open(&peer, &local)),
            Message::Keepalive,
            Message::Keepalive,
        ];
        for message in messages.iter().take(self.random.usize(..4)) {
            let _ = message.write(&Context::default(), &mut octets);
        }
        if self.random.bool() {
            let noise: Vec<u8> = (0..self.random.usize(1..60))
                .map(|_| self.random.u8(..))
                .collect();
            octets.extend_from_slice(&noise);
        }
        if !octets.is_empty() {
            let octets: Bytes = octets.freeze();
            let Self {
                network,
                schedule,
                random,
                now,
                ..
            } = self;
            network.inject(wire, 0, octets, *now, schedule, random);
        }
        self.accept(node);
    }
}
