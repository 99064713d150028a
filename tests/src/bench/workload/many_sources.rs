//! P6: ten sources announce the same prefixes with different attributes; each of ten sinks wants the best.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::{Against, FIRST_SINK, Figure, LIMIT, Must, PAUSE, Scene, Workload, peer};
use crate::bench::{
    arena::speaker,
    device::Setup,
    message::{Source, announce},
    now,
    table::{FIRST_SOURCE, Table},
    view::{Universe, View},
};

pub(super) const WORKLOAD: Workload = Workload {
    name: "P6",
    about: "10 sources of the same 100,000 prefixes, 10 sinks",
    against: Against::All,
    figures: &[
        Figure {
            target: "P6",
            what: "until all sinks have the best of all",
            unit: "s",
            must: Must::TimesBird(1.0),
        },
        Figure {
            target: "P6",
            what: "UPDATEs to all sinks",
            unit: "",
            must: Must::Tell,
        },
        Figure {
            target: "P6",
            what: "CPU",
            unit: "s",
            must: Must::Tell,
        },
        Figure {
            target: "P6",
            what: "peak memory",
            unit: "MiB",
            must: Must::Tell,
        },
    ],
    run,
};

const SOURCES: u32 = 10;
const SINKS: u32 = 10;

/// Scattered, so that the best of a prefix seldom comes first.
fn winner(set: usize) -> Option<u32> {
    Some((set as u32).wrapping_mul(2_654_435_769) >> 16).map(|scattered| scattered % SOURCES)
}

fn run(scene: &Scene<'_>) -> Result<Vec<f64>> {
    let table = Table::internet(scene.size(100_000), scene.size(18_500));
    let universe = Universe::new(&table, winner);
    let sources = (0..SOURCES).map(|number| peer(number, FIRST_SOURCE + number));
    let sinks = (0..SINKS).map(|number| peer(SOURCES + number, FIRST_SINK + number));
    let setup = Setup {
        peers: sources.chain(sinks).collect(),
        ..Setup::default()
    };
    let messages = (0..SOURCES).map(|number| {
        let address = speaker(number);
        announce(
            &table,
            Source {
                number,
                address,
                winner,
            },
        )
    });
    let messages: Vec<Arc<[u8]>> = messages.map(Into::into).collect();
    let (_arena, mut device, mut load) = scene.open(&setup)?;
    for peer in &setup.peers {
        load.add(peer.address, peer.asn, View::new(Arc::clone(&universe)));
    }
    load.until(LIMIT, |_, session| session.is_up())?;
    load.quiet(PAUSE, LIMIT)?;
    let idle = device.usage()?;

    let start = now();
    for (source, messages) in messages.into_iter().enumerate() {
        load.send(source, messages);
    }
    let first_sink = SOURCES as usize;
    let all = table.prefixes.len();
    let wall = load.until(LIMIT, |number, session| {
        number < first_sink || session.view.right == all
    })? - start;
    load.quiet(PAUSE, LIMIT)?;
    let usage = device.usage()?;
    let sinks = &load.sessions()[first_sink..];
    let wrong: u64 = sinks.iter().map(|sink| sink.view.wrong).sum();
    ensure!(wrong == 0, "{wrong} prefixes came wrong");
    let updates: u64 = sinks.iter().map(|sink| sink.view.updates).sum();
    Ok(vec![
        wall.as_secs_f64(),
        updates as f64,
        (usage.cpu - idle.cpu).as_secs_f64(),
        usage.peak,
    ])
}
