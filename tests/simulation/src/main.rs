//! Runs seeds of the simulation: one, some, or as many as fit in a time.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use simulation::{Kind, Options, run};

/// Simulates networks of speakers, and judges every table by an oracle.
#[derive(Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, env = "SIMULATION_SEED", default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// As many seeds as fit in so many seconds.
    #[arg(long, conflicts_with = "seeds")]
    seconds: Option<u64>,
    /// One shape of network only.
    #[arg(long)]
    kind: Option<Shape>,
    /// About so many speakers.
    #[arg(long)]
    speakers: Option<usize>,
    /// So many storms.
    #[arg(long)]
    steps: Option<usize>,
    /// Prints everything that happens.
    #[arg(long)]
    trace: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shape {
    Mesh,
    Reflectors,
    Fabric,
    Graph,
    Tiers,
    Heavy,
}

impl From<Shape> for Kind {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Mesh => Self::Mesh,
            Shape::Reflectors => Self::Reflectors,
            Shape::Fabric => Self::Fabric,
            Shape::Graph => Self::Graph,
            Shape::Tiers => Self::Tiers,
            Shape::Heavy => Self::Heavy,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long it really took is for whoever waits for it; the simulation has a clock of its own"
)]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let began = Instant::now();
    let limit = arguments.seconds.map(Duration::from_secs);
    let mut totals = Totals::default();
    for seed in arguments.seed.. {
        let done = match limit {
            Some(limit) => began.elapsed() >= limit,
            None => seed - arguments.seed >= arguments.seeds,
        };
        if done {
            break;
        }
        let options = Options {
            seed,
            kind: arguments.kind.map(Into::into),
            speakers: arguments.speakers,
            steps: arguments.steps,
            trace: arguments.trace,
            sabotage: None,
        };
        let started = Instant::now();
        match run(&options) {
            Ok(report) => {
                totals.runs += 1;
                totals.events += report.events;
                totals.faults += report.faults;
                totals.time += report.time;
                let longest = report.longest.map_or_else(String::new, |(longest, bound)| {
                    format!(
                        ", longest without a path {} of {} s",
                        longest.as_secs(),
                        bound.as_secs()
                    )
                });
                println!(
                    "seed {seed}: {}: {} events, {} faults, {} s, right after {} s{longest}; {:016x} in {:.1} s",
                    report.topology,
                    report.events,
                    report.faults,
                    report.time.as_secs(),
                    report.healed.as_secs(),
                    report.hash,
                    started.elapsed().as_secs_f64(),
                );
            }
            Err(failure) => {
                println!("{failure}");
                totals.failed.push(seed);
            }
        }
    }
    println!(
        "{} seeds right, {} wrong {:?}: {} events, {} faults, {} s of simulated time in {:.1} s",
        totals.runs,
        totals.failed.len(),
        totals.failed,
        totals.events,
        totals.faults,
        totals.time.as_secs(),
        began.elapsed().as_secs_f64(),
    );
    if totals.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[derive(Default)]
struct Totals {
    runs: u64,
    failed: Vec<u64>,
    events: u64,
    faults: usize,
    time: Duration,
}
