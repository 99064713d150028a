//! P1–P5: a full Internet table from one eBGP source to one eBGP sink, and all of it withdrawn again.

use std::sync::{Arc, OnceLock};

use anyhow::{Result, ensure};

use super::{Against, FIRST_SINK, Figure, LIMIT, Must, Scene, Workload, peer};
use crate::bench::{
    arena::speaker,
    device::Setup,
    message::{Source, announce, withdraw},
    now,
    table::{FIRST_SOURCE, Table},
    view::{Universe, View},
};

pub(super) const WORKLOAD: Workload = Workload {
    name: "P1",
    about: "1 M prefixes in 185,000 attribute sets, one source, one sink",
    against: Against::All,
    figures: &[
        Figure::of("P1", "until the sink has all", "s", Must::TimesBird(1.25)),
        Figure::of("P2", "CPU", "s", Must::TimesBird(1.5)),
        Figure::of("P2", "waited for a processor", "s", Must::Tell),
        Figure::of("P3", "peak memory", "MiB", Must::TimesBird(1.5)),
        Figure::of("P4", "until all is withdrawn", "s", Must::TimesBird(1.25)),
        Figure::of(
            "P4",
            "withdrawn prefixes an UPDATE",
            "",
            Must::AtLeast(900.0),
        ),
        Figure::of("P4", "CPU of it", "s", Must::Tell),
        Figure::of("P5", "UPDATEs out for each set in", "", Must::AtMost(1.02)),
    ],
    run,
};

struct Prepared {
    table: Table,
    universe: Arc<Universe>,
    announce: Arc<[u8]>,
    withdraw: Arc<[u8]>,
}

fn only(_: usize) -> Option<u32> {
    None
}

fn prepared(scene: &Scene<'_>) -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let table = Table::internet(scene.size(1_000_000), scene.size(185_000));
        let source = Source {
            number: 0,
            address: speaker(0),
            winner: only,
        };
        Prepared {
            universe: Universe::new(&table, only),
            announce: announce(&table, source).into(),
            withdraw: withdraw(&table).into(),
            table,
        }
    })
}

fn run(scene: &Scene<'_>) -> Result<Vec<f64>> {
    let prepared = prepared(scene);
    let all = prepared.table.prefixes.len();
    let setup = Setup {
        peers: vec![peer(0, FIRST_SOURCE), peer(1, FIRST_SINK)],
        ..Setup::default()
    };
    let (_arena, mut device, mut load) = scene.open(&setup)?;
    let view = || View::new(Arc::clone(&prepared.universe));
    let source = load.add(speaker(0), FIRST_SOURCE, view());
    let sink = load.add(speaker(1), FIRST_SINK, view());
    load.until(LIMIT, |_, session| session.is_up())?;
    load.quiet(super::PAUSE, LIMIT)?;
    let idle = device.usage()?;

    let start = now();
    load.send(source, Arc::clone(&prepared.announce));
    let wall = load.until(LIMIT, |number, session| {
        number != sink || session.view.present == all
    })? - start;
    load.quiet(super::PAUSE, LIMIT)?;
    let full = device.usage()?;
    let view = &load.sessions()[sink].view;
    ensure!(view.wrong == 0, "{} prefixes came wrong", view.wrong);
    let updates = view.updates;

    let start = now();
    load.send(source, Arc::clone(&prepared.withdraw));
    let gone = load.until(LIMIT, |number, session| {
        number != sink || session.view.present == 0
    })? - start;
    let empty = device.usage()?;
    let view = &load.sessions()[sink].view;
    Ok(vec![
        wall.as_secs_f64(),
        (full.cpu - idle.cpu).as_secs_f64(),
        (full.waited.saturating_sub(idle.waited)).as_secs_f64(),
        full.peak,
        gone.as_secs_f64(),
        view.withdrawn as f64 / view.withdrawing.max(1) as f64,
        (empty.cpu - full.cpu).as_secs_f64(),
        updates as f64 / prepared.table.sets.len() as f64,
    ])
}
