//! P13: every prefix has two next hops; one dies, and the kernel must stop using it.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};

use super::{Against, Figure, LIMIT, Must, PAUSE, Scene, Workload, peer};
use crate::bench::{
    arena::{Arena, speaker},
    device::Setup,
    load::Load,
    message::{Source, announce},
    now,
    table::{FIRST_SOURCE, Table},
    view::{Universe, View},
};

pub(super) const WORKLOAD: Workload = Workload {
    name: "P13",
    about: "10,000 prefixes with two next hops, one dies",
    against: Against::All,
    figures: &[
        Figure {
            target: "P13",
            what: "until no route uses the next hop that died",
            unit: "s",
            must: Must::TimesBird(1.0),
        },
        Figure {
            target: "P13",
            what: "before: until every route has both",
            unit: "s",
            must: Must::Tell,
        },
        Figure {
            target: "P13",
            what: "CPU of all",
            unit: "s",
            must: Must::Tell,
        },
    ],
    run,
};

fn run(scene: &Scene<'_>) -> Result<Vec<f64>> {
    let table = Table::internet(scene.size(10_000), scene.size(1_850));
    let universe = Universe::new(&table, |_| None);
    // Both in one AS: nothing but their address tells the routes apart.
    let setup = Setup {
        peers: vec![peer(0, FIRST_SOURCE), peer(1, FIRST_SOURCE)],
        originate: None,
        kernel: true,
    };
    let (arena, mut device, mut load) = scene.open(&setup)?;
    for peer in &setup.peers {
        load.add(peer.address, peer.asn, View::new(Arc::clone(&universe)));
    }
    load.until(LIMIT, |_, session| session.is_up())?;
    load.quiet(PAUSE, LIMIT)?;

    let start = now();
    for (number, peer) in setup.peers.iter().enumerate() {
        let source = Source {
            number: 0,
            address: peer.address,
            winner: |_| None,
        };
        load.send(number, announce(&table, source).into());
    }
    let all = table.prefixes.len();
    let both = until(&mut load, &arena, [all, all])? - start;
    load.quiet(PAUSE, LIMIT)?;

    let start = now();
    load.reset(0)?;
    let repaired = until(&mut load, &arena, [0, all])? - start;
    Ok(vec![
        repaired.as_secs_f64(),
        both.as_secs_f64(),
        device.usage()?.cpu.as_secs_f64(),
    ])
}

/// Runs until so many of the device's routes use each of the two next hops.
fn until(load: &mut Load, arena: &Arena, wanted: [usize; 2]) -> Result<std::time::Instant> {
    let deadline = now() + LIMIT;
    loop {
        let first = arena.kernel_next_hops(speaker(0))?;
        let used = [first, arena.kernel_next_hops(speaker(1))?];
        if used == wanted {
            return Ok(now());
        }
        ensure!(
            now() < deadline,
            "the next hops stand in {used:?} routes, not {wanted:?}"
        );
        load.go_on(Duration::from_millis(2))?;
    }
}
