//! P7, P8: one node of a large mesh: internal peers with an IPv4 and an IPv6 pod CIDR each, then silence.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use super::{Against, FIRST_SINK, Figure, LIMIT, Must, PAUSE, Scene, Workload, peer};
use crate::bench::{
    device::{ASN, Peer, Setup},
    message::announce_pods,
    now,
    table::Table,
    view::{Universe, View},
};

pub(super) const PACED: Workload = Workload {
    name: "P7",
    about: "1,000 internal peers with one IPv4 and one IPv6 prefix each, 4 dialling at a time",
    against: Against::All,
    figures: &[
        Figure::of("P7", "start until all sessions are up", "s", Must::Tell),
        Figure::of(
            "P7",
            "start until all routes are everywhere",
            "s",
            Must::TimesBird(1.5),
        ),
        Figure::of("P7", "CPU", "s", Must::Tell),
        Figure::of("P8", "memory", "MiB", Must::AtMost(40.0)),
        Figure::of("P8", "idle, of one processor", "%", Must::AtMost(0.2)),
    ],
    run: |scene| {
        run(
            scene,
            4,
            Duration::from_secs(if scene.quick { 3 } else { 30 }),
        )
    },
};

pub(super) const AT_ONCE: Workload = Workload {
    name: "P7b",
    about: "the same, all dialling at once",
    against: Against::All,
    figures: &[
        Figure::of(
            "P7",
            "all dialling at once: until all sessions are up",
            "s",
            Must::Tell,
        ),
        Figure::of(
            "P7",
            "all dialling at once: until all routes are everywhere",
            "s",
            Must::AtMost(2.0),
        ),
        Figure::of("P7", "all dialling at once: CPU", "s", Must::Tell),
    ],
    run: |scene| {
        let mut figures = run(scene, usize::MAX, Duration::ZERO)?;
        figures.truncate(3);
        Ok(figures)
    },
};

fn run(scene: &Scene<'_>, dial_at_once: usize, idle: Duration) -> Result<Vec<f64>> {
    let nodes = scene.size(1_000) as u32;
    // The device is the last node; behind it, an external peer looks on and wants the routes of all.
    let table = Table::pods(nodes + 1);
    let universe = Universe::new(&table, |_| None);
    let dual = |peer| Peer { dual: true, ..peer };
    let setup = Setup {
        peers: (0..nodes)
            .map(|node| dual(peer(node, ASN)))
            .chain([dual(peer(nodes, FIRST_SINK))])
            .collect(),
        originate: Some(nodes),
        kernel: false,
    };
    let (_arena, mut device, mut load) = scene.open(&setup)?;
    let started = now();
    load.dial_at_once = dial_at_once;
    for (node, peer) in (0..).zip(&setup.peers) {
        let number = load.add(peer.address, peer.asn, View::new(Arc::clone(&universe)));
        if node < nodes {
            load.greet(number, announce_pods(&table, node, peer.address, 2));
        }
    }
    let up = load.until(LIMIT, |_, session| session.is_up())? - started;
    let observer = nodes as usize;
    let all = 2 * (observer + 1);
    let reached = load.until(LIMIT, |number, session| {
        session.view.present == if number == observer { all } else { 2 }
    })?;
    let spread = reached - started;
    load.quiet(PAUSE, LIMIT)?;
    let busy = device.usage()?;
    if !idle.is_zero() {
        // What the start left to do is not idleness.
        load.go_on(Duration::from_secs(2))?;
    }
    let before = device.usage()?;
    let from = now();
    load.go_on(idle)?;
    let after = device.usage()?;
    let share = (after.on_processor - before.on_processor).as_secs_f64()
        / (now() - from).as_secs_f64().max(f64::EPSILON);
    Ok(vec![
        up.as_secs_f64(),
        spread.as_secs_f64(),
        busy.cpu.as_secs_f64(),
        after.memory,
        share * 100.0,
    ])
}
