//! P16-mesh: one daemon joins a mesh of 500, and comes back after a crash. The others are speakers of the `bgp` crate in this process.

use std::{fmt::Write, fs, net::Ipv4Addr, process::Command, time::Duration};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::{Against, Figure, Must, Scene, Workload};
use crate::{
    bench::{
        arena::{Arena, speaker},
        device::{Device, Running},
        message::mapped,
        now,
        speakers::{Speakers, Station},
        table::{Prefix4, Table, prefix6},
    },
    shell,
    wait::{eventually, pause},
};

pub(super) const WORKLOAD: Workload = Workload {
    name: "P16-mesh",
    about: "one daemon in a mesh with 500 speakers of the bgp crate: it joins, and comes back after SIGKILL",
    against: Against::Nobody,
    figures: &[
        Figure::of(
            "P16",
            "joins: until its 500 sessions are up",
            "s",
            Must::Tell,
        ),
        Figure::of(
            "P16",
            "until it has 1,000 pod CIDRs in its kernel",
            "s",
            Must::Tell,
        ),
        Figure::of("P16", "until all others know its pods", "s", Must::Tell),
        Figure::of("P16", "CPU", "s", Must::Tell),
        Figure::of("P16", "memory", "MiB", Must::Tell),
        Figure::of(
            "P16",
            "killed: from its start until its sessions are up",
            "s",
            Must::Tell,
        ),
        Figure::of("P16", "until its first sync is done", "s", Must::Tell),
        Figure::of(
            "P16",
            "routes that left its kernel meanwhile",
            "",
            Must::AtMost(0.0),
        ),
        Figure::of("P16", "peak memory", "MiB", Must::Tell),
    ],
    run,
};

/// In the middle: half of the others have lower addresses, and dial it.
const MIDDLE: Ipv4Addr = Ipv4Addr::new(10, 0, 128, 255);
/// What every node of the cluster has.
const ASN: u32 = 64_512;
/// So long the others have known the newcomer, and dialled in vain, when its daemon starts.
const BEFORE: Duration = Duration::from_secs(7);
/// Longest that any step may take.
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

fn run(scene: &Scene<'_>) -> Result<Vec<f64>> {
    let Device::Routelet(binary) = scene.device else {
        bail!("a mesh of Node objects is for routelet")
    };
    let count = scene.size(500) as u32;
    let arena = Arena::new(count)?;
    arena.stands_at(MIDDLE)?;
    let manifests = scene.dir.join("manifests");
    fs::create_dir_all(&manifests)?;
    fs::write(manifests.join("cluster.yaml"), cluster(count))?;
    let pods = Table::pods(count).prefixes;
    let stations = (0..).zip(pods).map(|(number, pods)| station(number, pods));
    let speakers = Speakers::start(stations)?;
    pause(BEFORE);

    let routes = 2 * count as usize;
    let up = || speakers.up() == count as usize;
    let start = now();
    let mut device = Running::routelet(binary, &arena, &manifests, scene.dir)?;
    let mut moments = [None; 3];
    while moments.contains(&None) {
        let seen = [
            up(),
            arena.kernel_routes()? == routes,
            speakers.heard() == routes,
        ];
        for (moment, seen) in moments.iter_mut().zip(seen) {
            if seen {
                moment.get_or_insert_with(|| start.elapsed());
            }
        }
        if start.elapsed() > LIMIT {
            bail!(
                "after {LIMIT:?}: {} sessions up, {} routes in the kernel, {} of {routes} prefixes at the others",
                speakers.up(),
                arena.kernel_routes()?,
                speakers.heard()
            );
        }
        pause(POLL);
    }
    let joined = device.usage()?;
    let mut figures: Vec<f64> = moments
        .into_iter()
        .flatten()
        .map(|m| m.as_secs_f64())
        .collect();
    figures.extend([joined.cpu.as_secs_f64(), joined.memory]);

    let deletions = arena.watch_deletions()?;
    drop(device);
    eventually(LIMIT, "the others miss it", || {
        ensure!(speakers.up() == 0, "{} have not noticed", speakers.up());
        Ok(())
    })?;
    let start = now();
    let mut device = Running::routelet(binary, &arena, &manifests, scene.dir)?;
    eventually(LIMIT, "all sessions are up again", || {
        ensure!(up(), "{} are", speakers.up());
        Ok(())
    })?;
    figures.push(start.elapsed().as_secs_f64());
    eventually(LIMIT, "the first sync is done", || {
        let mut ask = Command::new(binary);
        ask.args(["status", "-o", "json", "--socket"])
            .arg(scene.dir.join("routelet.sock"));
        let status: Value = serde_json::from_str(&shell::output(&mut ask, "")?.stdout)?;
        ensure!(
            status.pointer("/complete") == Some(&true.into()),
            "{status}"
        );
        Ok(())
    })?;
    figures.push(start.elapsed().as_secs_f64());
    figures.extend([deletions.count()? as f64, device.usage()?.peak]);
    Ok(figures)
}

/// Another node, by its number.
fn station(number: u32, pods: Prefix4) -> Station {
    Station {
        address: speaker(number),
        peer: MIDDLE,
        asn: ASN,
        pods4: (pods.address.into(), pods.length),
        pods6: prefix6(number),
    }
}

/// All Node objects, and what a bench does not want.
fn cluster(count: u32) -> String {
    let mut text = String::from(
        "apiVersion: routelet.dev/v1alpha1\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {cni: {writeConflist: false}}\n",
    );
    let table = Table::pods(count + 1);
    for (number, prefix) in (0..).zip(&table.prefixes) {
        let (name, address) = if number == count {
            ("dut".to_owned(), MIDDLE)
        } else {
            (format!("n{number}"), speaker(number))
        };
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDRs: [{}/{}, \"{}/64\"]}}\n\
             status: {{addresses: [{{type: InternalIP, address: {address}}}, {{type: InternalIP, address: \"{}\"}}]}}\n",
            Ipv4Addr::from(prefix.address),
            prefix.length,
            prefix6(number),
            mapped(address)
        );
    }
    text
}
