//! What a seed makes of a network: storms of faults, calm in which all must come right, and graceful restarts.

use std::{fmt, time::Duration};

use fastrand::Rng;

use crate::{
    clock::Event,
    config::DEFERRAL,
    fault::{Change, Fault},
    process::Sabotage,
    topology::{Kind, Topology},
    trace::Trace,
    watch::Finding,
    world::World,
};

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
            if self.all_graceful() && self.world.clock.random.bool() {
                self.graceful()?;
            }
            self.storm()?;
            self.come_right()?;
        }
        Ok(())
    }

    fn begin(&mut self) {
        for node in 0..self.world.hosts.len() {
            let wait = Duration::from_millis(self.world.clock.random.u64(..5000));
            let start = Event::Fault(Fault::Start(node));
            self.world.clock.after(wait, start);
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
        let began = self.world.clock.now;
        let limit = PATIENCE + self.world.watch.bound.unwrap_or_default();
        loop {
            self.pass(Duration::from_secs(1));
            self.found()?;
            let Some(difference) = self.world.difference() else {
                break;
            };
            if self.world.clock.now - began > limit {
                let text = format!("{limit:?} after all faults are over: {}", difference.text);
                return Err(Finding::new(difference.node, text));
            }
        }
        self.healed = self.healed.max(self.world.clock.now - began);
        let a_while = Duration::from_secs(self.world.clock.random.u64(5..60));
        self.pass(a_while);
        self.found()?;
        if let Some(difference) = self.world.difference() {
            let text = format!("at rest, all right before: {}", difference.text);
            return Err(Finding::new(difference.node, text));
        }
        // What a speaker that restarted does not say again goes with its End-of-RIB, and that waits for its own peers.
        self.pass((DEFERRAL + Duration::from_secs(5)).saturating_sub(a_while));
        self.found()?;
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
        for _ in 0..1 + self.world.clock.random.usize(..4) {
            self.world.watch.steady = Some(self.world.expect().clone());
            let node = self.world.clock.random.usize(..self.world.hosts.len());
            let how = [Fault::Kill(node), Fault::Leave(node)][self.world.clock.random.usize(..2)];
            self.world.fault(how);
            let away = Duration::from_millis(self.world.clock.random.u64(1..8000));
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
        let length = Duration::from_secs(self.world.clock.random.u64(1..120));
        let most = 4 + self.world.hosts.len() / 2;
        for _ in 0..1 + self.world.clock.random.usize(..most) {
            let milliseconds = u64::try_from(length.as_millis()).unwrap_or(1);
            let at = Duration::from_millis(self.world.clock.random.u64(..milliseconds));
            let (fault, undo) = self.world.some_fault();
            self.faults += 1;
            self.world.clock.after(at, Event::Fault(fault));
            // Some faults last.
            let ends = self.world.clock.random.u8(..4) > 0
                || matches!(fault, Fault::Change(Change::Shut(..) | Change::Leak(_)));
            if let Some(undo) = undo.filter(|_| ends) {
                let lasts = Duration::from_millis(self.world.clock.random.u64(1..40_000));
                self.world.clock.after(at + lasts, Event::Fault(undo));
            }
        }
        // Until all is undone that will be.
        self.pass(length + Duration::from_secs(41));
        self.found()?;
        self.world.calm();
        self.found()
    }
}
