//! P12: a peer with 100,000 routes is lost; how long until the sink and the kernel are clean? P11:
//! 500,000 withdrawn in ascending order, which is the kernel's slowest.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};

use super::{Against, FIRST_SINK, Figure, LIMIT, Must, PAUSE, Scene, Workload, peer};
use crate::bench::{
    arena::{Arena, speaker},
    device::Setup,
    load::Load,
    message::{Source, announce, withdraw},
    now,
    table::{FIRST_SOURCE, Prefix4, Table},
    view::{Universe, View},
};

pub(super) const BY_RESET: Workload = Workload {
    name: "P12",
    about: "a peer with 100,000 routes in RIB and kernel is lost by a TCP reset",
    against: Against::All,
    figures: &[
        Figure::of(
            "P12",
            "TCP reset: until the sink is clean",
            "s",
            Must::TimesBird(1.0),
        ),
        Figure::of(
            "P12",
            "TCP reset: until the kernel is clean",
            "s",
            Must::TimesBird(1.0),
        ),
        Figure::of("P12", "before: until the sink has all", "s", Must::Tell),
        Figure::of("P12", "before: until the kernel has all", "s", Must::Tell),
        Figure::of("P12", "CPU of all", "s", Must::Tell),
    ],
    run: |scene| run(scene, 100_000, Loss::Reset),
};

pub(super) const BY_CEASE: Workload = Workload {
    name: "P12b",
    about: "the same by a Cease",
    against: Against::All,
    figures: &[
        Figure::of(
            "P12",
            "Cease: until the sink is clean",
            "s",
            Must::TimesBird(1.0),
        ),
        Figure::of(
            "P12",
            "Cease: until the kernel is clean",
            "s",
            Must::TimesBird(1.0),
        ),
    ],
    run: |scene| {
        let mut figures = run(scene, 100_000, Loss::Cease)?;
        figures.truncate(2);
        Ok(figures)
    },
};

pub(super) const OF_500_000: Workload = Workload {
    name: "P11",
    about: "a peer withdraws 500,000 routes in ascending order, from RIB and kernel",
    against: Against::All,
    figures: &[
        Figure::of(
            "P12",
            "500,000 routes: until the sink is clean",
            "s",
            Must::Tell,
        ),
        Figure {
            target: "P11",
            ..Figure::of(
                "P12",
                "500,000 routes: until the kernel is clean",
                "s",
                Must::TimesBird(0.25),
            )
        },
        Figure::of(
            "P12",
            "500,000 routes: until the sink has all",
            "s",
            Must::Tell,
        ),
        Figure {
            target: "P10",
            ..Figure::of(
                "P12",
                "500,000 routes: until the kernel has all",
                "s",
                Must::Tell,
            )
        },
        Figure::of("P12", "500,000 routes: CPU of all", "s", Must::Tell),
    ],
    run: |scene| run(scene, 500_000, Loss::Withdrawal),
};

/// How the routes are lost.
enum Loss {
    Reset,
    Cease,
    Withdrawal,
}

fn run(scene: &Scene<'_>, prefixes: usize, loss: Loss) -> Result<Vec<f64>> {
    let table = Table::internet(scene.size(prefixes), scene.size(prefixes / 1_000 * 185));
    let universe = Universe::new(&table, |_| None);
    let setup = Setup {
        peers: vec![peer(0, FIRST_SOURCE), peer(1, FIRST_SINK)],
        originate: None,
        kernel: true,
    };
    let (mut arena, mut device, mut load) = scene.open(&setup)?;
    let source = load.add(speaker(0), FIRST_SOURCE, View::new(Arc::clone(&universe)));
    let sink = load.add(speaker(1), FIRST_SINK, View::new(Arc::clone(&universe)));
    load.until(LIMIT, |_, session| session.is_up())?;
    load.quiet(PAUSE, LIMIT)?;
    let own = arena.kernel_prefixes()?;

    let all = table.prefixes.len();
    let messages = announce(
        &table,
        Source {
            number: 0,
            address: speaker(0),
            winner: |_| None,
        },
    );
    let withdrawals = withdraw(&table).into();
    let start = now();
    load.send(source, messages.into());
    let samples = samples(&table);
    let (sink_full, kernel_full) = both(&mut load, &mut arena, sink, &samples, all, own + all)?;
    let (sink_full, kernel_full) = (sink_full - start, kernel_full - start);
    load.quiet(PAUSE, LIMIT)?;

    let start = now();
    match loss {
        Loss::Reset => load.reset(source)?,
        Loss::Cease => load.cease(source),
        Loss::Withdrawal => load.send(source, withdrawals),
    }
    let (sink_clean, kernel_clean) = both(&mut load, &mut arena, sink, &samples, 0, own)?;
    let wrong = load.sessions()[sink].view.wrong;
    ensure!(wrong == 0, "{wrong} prefixes came wrong");
    Ok(vec![
        (sink_clean - start).as_secs_f64(),
        (kernel_clean - start).as_secs_f64(),
        sink_full.as_secs_f64(),
        kernel_full.as_secs_f64(),
        device.usage()?.cpu.as_secs_f64(),
    ])
}

/// So many prefixes are asked for before all are counted.
const SAMPLES: usize = 64;

/// Runs until the sink has `routes` and the device's kernel `prefixes`: both moments.
fn both(
    load: &mut Load,
    arena: &mut Arena,
    sink: usize,
    samples: &[Prefix4],
    routes: usize,
    prefixes: usize,
) -> Result<(std::time::Instant, std::time::Instant)> {
    let deadline = now() + LIMIT;
    let (mut told, mut kernel) = (None, None);
    let (mut installed, mut ask_at) = (0, now());
    loop {
        if let (Some(told), Some(kernel)) = (told, kernel) {
            return Ok((told, kernel));
        }
        let there = load.sessions()[sink].view.present;
        if told.is_none() && there == routes {
            told = Some(now());
        }
        let asked = now();
        if kernel.is_none() && asked >= ask_at && settled(arena, samples, routes > 0)? {
            // The kernel walks its whole table to count: asked without pause, it would do little else.
            let asked = now();
            installed = arena.kernel_prefixes()?;
            let answered = now();
            ask_at = answered + (answered - asked) * 2;
            kernel = (installed == prefixes).then_some(answered);
        }
        ensure!(
            now() < deadline,
            "the sink has {there} of {routes}, the kernel {installed} of {prefixes}"
        );
        load.go_on(Duration::from_millis(4))?;
    }
}

/// Prefixes that a look-up of their first address finds: none that is longer begins there too.
fn samples(table: &Table) -> Vec<Prefix4> {
    let pairs = table.prefixes.windows(2);
    let alone = pairs.filter(|pair| pair[0].address != pair[1].address);
    alone
        .map(|pair| pair[0])
        .step_by(table.prefixes.len().div_ceil(SAMPLES))
        .collect()
}

/// Whether the samples are all there, or all gone.
fn settled(arena: &Arena, samples: &[Prefix4], there: bool) -> Result<bool> {
    for prefix in samples {
        if arena.kernel_has(*prefix)? != there {
            return Ok(false);
        }
    }
    Ok(true)
}
