//! P9: a route reflector whose clients announce one prefix each, until every client has those of all others.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::{Against, Figure, LIMIT, Must, PAUSE, Scene, Workload, peer};
use crate::bench::{
    device::{ASN, Peer, Setup},
    message::announce_pods,
    now,
    table::Table,
    view::{Universe, View},
};

pub(super) const OF_500: Workload = Workload {
    name: "P9",
    about: "route reflector with 500 clients",
    against: Against::All,
    figures: &[
        Figure::of(
            "P9",
            "500 clients: until every client has all",
            "s",
            Must::TimesBird(0.5),
        ),
        Figure::of("P9", "500 clients: CPU", "s", Must::Tell),
        Figure::of("P9", "500 clients: UPDATEs to all", "", Must::Tell),
        Figure::of("P9", "500 clients: peak memory", "MiB", Must::Tell),
    ],
    run: |scene| run(scene, 500),
};

pub(super) const OF_1000: Workload = Workload {
    name: "P9b",
    about: "route reflector with 1,000 clients",
    against: Against::All,
    figures: &[
        Figure::of(
            "P9",
            "1,000 clients: until every client has all",
            "s",
            Must::TimesBird(0.5),
        ),
        Figure::of("P9", "1,000 clients: CPU", "s", Must::Tell),
        Figure::of("P9", "1,000 clients: UPDATEs to all", "", Must::Tell),
        Figure::of("P9", "1,000 clients: peak memory", "MiB", Must::Tell),
    ],
    run: |scene| run(scene, 1_000),
};

fn run(scene: &Scene<'_>, clients: usize) -> Result<Vec<f64>> {
    let clients = scene.size(clients) as u32;
    let table = Table {
        prefixes6: 0,
        ..Table::pods(clients)
    };
    let universe = Universe::new(&table, |_| None);
    let client = |number| Peer {
        client: true,
        ..peer(number, ASN)
    };
    let setup = Setup {
        peers: (0..clients).map(client).collect(),
        ..Setup::default()
    };
    let (_arena, mut device, mut load) = scene.open(&setup)?;
    for (number, peer) in (0..).zip(&setup.peers) {
        load.add(
            peer.address,
            ASN,
            View::of_owner(Arc::clone(&universe), number),
        );
    }
    load.until(LIMIT, |_, session| session.is_up())?;
    load.quiet(PAUSE, LIMIT)?;
    let idle = device.usage()?;

    let messages: Vec<Arc<[u8]>> = (0..)
        .zip(&setup.peers)
        .map(|(number, peer)| announce_pods(&table, number, peer.address, 1).into())
        .collect();
    let start = now();
    for (number, messages) in messages.into_iter().enumerate() {
        load.send(number, messages);
    }
    let others = clients as usize - 1;
    let wall = load.until(LIMIT, |_, session| session.view.present == others)? - start;
    load.quiet(PAUSE, LIMIT)?;
    let usage = device.usage()?;
    let wrong: u64 = load
        .sessions()
        .iter()
        .map(|session| session.view.wrong)
        .sum();
    ensure!(wrong == 0, "{wrong} prefixes came wrong");
    let updates: u64 = load
        .sessions()
        .iter()
        .map(|session| session.view.updates)
        .sum();
    Ok(vec![
        wall.as_secs_f64(),
        (usage.cpu - idle.cpu).as_secs_f64(),
        updates as f64,
        usage.peak,
    ])
}
