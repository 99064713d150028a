//! P14: from the start of the process to the first Established, and what a speaker without routes needs.

use std::sync::Arc;

use anyhow::Result;

use super::{Against, FIRST_SINK, Figure, LIMIT, Must, Scene, Workload, peer};
use crate::bench::{
    arena::{Arena, DEVICE, speaker},
    device::Setup,
    load::Load,
    now,
    table::Table,
    view::{Universe, View},
};

pub(super) const WORKLOAD: Workload = Workload {
    name: "P14",
    about: "start with one peer, no routes",
    against: Against::All,
    figures: &[
        Figure {
            target: "P14",
            what: "start to Established",
            unit: "ms",
            must: Must::AtMost(50.0),
        },
        Figure {
            target: "P14",
            what: "memory without routes",
            unit: "MiB",
            must: Must::AtMost(12.0),
        },
        Figure {
            target: "P14",
            what: "peak memory without routes",
            unit: "MiB",
            must: Must::Tell,
        },
        Figure {
            target: "P14",
            what: "CPU",
            unit: "s",
            must: Must::Tell,
        },
    ],
    run,
};

fn run(scene: &Scene<'_>) -> Result<Vec<f64>> {
    let setup = Setup {
        peers: vec![peer(0, FIRST_SINK)],
        ..Setup::default()
    };
    let arena = Arena::new(1)?;
    let universe = Universe::new(&Table::default(), |_| None);
    let mut load = Load::new(std::net::SocketAddrV4::new(DEVICE, 179))?;
    load.add(speaker(0), FIRST_SINK, View::new(Arc::clone(&universe)));
    let start = now();
    let mut device = scene.device.start(&arena, &setup, scene.dir)?;
    let up = load.until(LIMIT, |_, session| session.is_up())? - start;
    load.go_on(std::time::Duration::from_millis(500))?;
    let usage = device.usage()?;
    Ok(vec![
        up.as_secs_f64() * 1_000.0,
        usage.memory,
        usage.peak,
        usage.cpu.as_secs_f64(),
    ])
}
