//! Chaos: faults of every kind for minutes, drawn from a seed. Whoever always had a live path lost no more than the bound of what
//! befell it, and afterwards everything is what it must be.
//!
//! `CHAOS_SEED=7 CHAOS_MINUTES=10 tests/run chaos` tells it with other faults, and longer. A minute is a round: it ends with all faults undone
//! and everything converged. The seed of a round is its number added to the seed, so that it can be told alone.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::chaos::hole::Watch;
use tests::chaos::oracle::memory_is_bounded;
use tests::chaos::probe::Probes;
use tests::chaos::schedule::kinds;
use tests::chaos::verdict::{Verdict, judge};
use tests::chaos::{Fabric, Tor, schedule};
use tests::cni::Pod;
use tests::ping::all_to_all;
use tests::story::tell_in;
use tests::wait::{eventually, now};

/// The faults that are told where nobody asks for others: a gate is to tell of the change, not of FRR's and BIRD's luck.
const SEED: u64 = 302;
/// How long the faults of a round go on.
const ROUND: Duration = Duration::from_secs(60);
/// What is last to come back: what we stopped contending for, and a hold time of others.
const CONVERGED: Duration = Duration::from_secs(120);

#[test]
fn chaos_leaves_nothing_behind() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seed = number("CHAOS_SEED").unwrap_or(SEED);
    let rounds = number("CHAOS_MINUTES").unwrap_or(2);
    println!("CHAOS_SEED={seed} CHAOS_MINUTES={rounds} tests/run chaos");
    tell_in(Fabric::lab(), |lab| endures(Fabric::of(lab)?, seed, rounds));
}

fn endures(fabric: Fabric<'_>, seed: u64, rounds: u64) -> Result<()> {
    let cluster = fabric.lab.converged()?;
    let mut pods = Vec::new();
    for member in &cluster.members {
        pods.extend(member.pods(1)?);
    }
    // Pods alone: nobody leads back to the links of a node.
    eventually(CONVERGED, "every pod reaches every pod", || {
        let silent = all_to_all(&cluster.between_pods(&pods), 1)?;
        ensure!(silent.is_empty(), "no answer: {}", silent.join(", "));
        Ok(())
    })?;
    eventually(CONVERGED, "the fabric is whole", || fabric.is_whole())?;
    let (objects, memory) = (fabric.objects()?, fabric.memory()?);
    ensure!(
        objects.values().all(|count| *count > 0),
        "no next-hop objects: {objects:?}"
    );
    for round in seed..seed + rounds {
        let verdict = suffer(fabric, round, &pods)?;
        ensure!(
            verdict.unexplained.is_empty(),
            "round {round}: nothing explains what {} flows lost:\n  {}",
            verdict.unexplained.len(),
            verdict.unexplained.join("\n  ")
        );
        eventually(CONVERGED, "no next-hop object is left over", || {
            let left = fabric.objects()?;
            ensure!(left == objects, "{objects:?} before, {left:?} now");
            Ok(())
        })?;
        fabric.logs_are_clean()?;
        memory_is_bounded(&memory, &fabric.memory()?)?;
    }
    println!("memory at first: {memory:?}");
    println!("memory at the end: {:?}", fabric.memory()?);
    Ok(())
}

/// One round: faults under probes, until everything has converged.
fn suffer(fabric: Fabric<'_>, round: u64, pods: &[Pod<'_>]) -> Result<Verdict> {
    let steps = schedule(round, ROUND);
    println!("\nround {round}: {:?}", kinds(&steps));
    let watches = Tor::ALL.map(|tor| Watch::start(fabric, tor));
    let probes = Probes::start(pods)?;
    let happened = fabric.suffer(&steps);
    let over = now();
    let converged = eventually(CONVERGED, "everything converges", || fabric.is_whole());
    let converged_in = over.elapsed();
    let record = probes.stop()?;
    let mut holes = Vec::new();
    for watch in watches {
        holes.extend(watch?.stop()?);
    }
    let happened = happened?;
    let verdict = judge(&happened, &holes, &record);
    println!(
        "  {} probes, {} lost ({} to holes of a ToR, {} where faults met); {} under nothing that explains a loss: {} flows lost some of these; converged in {:.1} s",
        verdict.sent,
        verdict.lost,
        verdict.holes,
        verdict.several,
        verdict.strict,
        verdict.unexplained.len(),
        converged_in.as_secs_f64()
    );
    if let Some(first) = record.ticks.first() {
        let late = record.lateness(*first, now());
        println!("  a process that only sleeps was {late:?} late at worst");
    }
    for (kind, (flows, longest)) in &verdict.worst {
        println!("  {kind}: {flows} flows lost some, until {longest:?} after it at worst");
    }
    converged.map_err(|error| {
        let happened: Vec<String> = happened.iter().map(|one| one.fault.to_string()).collect();
        error.context(format!("round {round}, after {}", happened.join(", ")))
    })?;
    Ok(verdict)
}
