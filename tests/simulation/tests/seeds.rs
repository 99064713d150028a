//! Seeds of the simulation: a fixed set, fresh ones as long as the time allows, and proof that what must be found is found.
//!
//! `SIMULATION_SEED=N` runs one seed; `SIMULATION_SECONDS=N` gives the fresh ones so long.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use simulation::{Failure, Kind, Options, Report, Sabotage, run};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn must(options: &Options) -> Report {
    match run(options) {
        Ok(report) => report,
        Err(failure) => panic!("{failure}"),
    }
}

fn small(seed: u64, kind: Kind) -> Options {
    Options {
        seed,
        kind: Some(kind),
        speakers: Some(6),
        steps: Some(2),
        ..Options::default()
    }
}

#[test]
fn every_shape_of_network_comes_right_after_every_storm() {
    if let Some(seed) = number("SIMULATION_SEED") {
        let report = must(&Options {
            seed,
            ..Options::default()
        });
        return println!("{report:?}");
    }
    for kind in Kind::ALL {
        for seed in 1..=4 {
            must(&small(seed, kind));
        }
    }
}

#[test]
fn a_hundred_speakers_come_right() {
    must(&Options {
        seed: 7,
        kind: Some(Kind::Graph),
        speakers: Some(100),
        steps: Some(1),
        ..Options::default()
    });
}

#[test]
fn equal_seeds_are_equal_runs() {
    for kind in Kind::ALL {
        let options = small(11, kind);
        assert_eq!(must(&options).hash, must(&options).hash, "{kind:?}");
    }
}

/// As many as the time allows: which seeds, a clock says, so that each run of the gate sees others.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the box of time decides how many seeds run, not whether they pass"
)]
fn fresh_seeds_come_right() {
    let seconds = number("SIMULATION_SECONDS").unwrap_or(30);
    let began = Instant::now();
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let first = epoch.map_or(0, |since| since.as_secs()) << 16;
    let mut seeds = 0;
    while seeds == 0 || began.elapsed() < Duration::from_secs(seconds) {
        // One of many speakers may take minutes; they have a test of their own, and long runs.
        let seed = first + seeds;
        must(&Options {
            seed,
            speakers: Some(4 + seed as usize % 12),
            ..Options::default()
        });
        seeds += 1;
    }
    println!("{seeds} seeds from {first} on");
}

/// The first failure with a deliberate fault of ours.
fn found(sabotage: Sabotage, kind: Kind) -> Box<Failure> {
    found_among(6, sabotage, kind)
}

fn found_among(speakers: usize, sabotage: Sabotage, kind: Kind) -> Box<Failure> {
    let failure = (1..60).find_map(|seed| {
        let options = Options {
            sabotage: Some(sabotage),
            speakers: Some(speakers),
            ..small(seed, kind)
        };
        run(&options).err()
    });
    failure.unwrap_or_else(|| panic!("nothing was found of {sabotage:?}"))
}

#[test]
fn a_withdrawal_that_gets_lost_is_found() {
    let failure = found(Sabotage::LoseWithdrawals(5), Kind::Graph);
    println!("{failure}");
}

#[test]
fn a_hold_timer_that_never_expires_is_found() {
    let failure = found(Sabotage::NeverExpire, Kind::Mesh);
    println!("{failure}");
}

#[test]
fn a_kernel_that_a_restart_empties_is_found() {
    let failure = found(Sabotage::EmptyKernel, Kind::Mesh);
    assert!(
        failure.finding.text.contains("graceful restart"),
        "{failure}"
    );
}

#[test]
fn stale_routes_that_are_never_swept_are_found() {
    let failure = found(Sabotage::KeepForEver, Kind::Mesh);
    println!("{failure}");
}

#[test]
fn stale_routes_that_are_kept_longer_than_agreed_are_found() {
    let failure = found(Sabotage::KeepLonger(45), Kind::Mesh);
    assert!(failure.finding.text.contains("no path"), "{failure}");
}

#[test]
fn a_restart_that_bfd_takes_for_a_dead_kernel_is_found() {
    let failure = found(Sabotage::BlameForwarding, Kind::Mesh);
    assert!(
        failure.finding.text.contains("graceful restart"),
        "{failure}"
    );
}

#[test]
fn more_routes_than_the_limit_are_found() {
    let failure = found(Sabotage::NoLimit, Kind::Fabric);
    assert!(failure.finding.text.contains("it took"), "{failure}");
}

#[test]
fn a_queue_without_end_is_found() {
    let failure = found_among(100, Sabotage::QueueWithoutEnd, Kind::Heavy);
    assert!(failure.finding.text.contains("octets wait"), "{failure}");
}

#[test]
fn a_route_that_stays_in_the_kernel_is_found() {
    let failure = found(Sabotage::LeaveRoutes, Kind::Mesh);
    println!("{failure}");
}

#[test]
fn a_failure_says_how_to_see_it_again() {
    let failure = found(Sabotage::LeaveRoutes, Kind::Mesh);
    let again = format!(
        "cargo run -p simulation -- --seed {} --kind mesh --speakers 6 --steps 2",
        failure.options.seed
    );
    assert!(failure.to_string().ends_with(&again), "{failure}");
    assert!(!failure.trace.is_empty());
}
