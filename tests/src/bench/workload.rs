//! What is measured: each workload is a script, the figures that it gives, and what must hold of them.

use std::{path::Path, time::Duration};

use anyhow::Result;

use super::{
    arena::{Arena, DEVICE, speaker},
    device::{Device, Peer, Running, Setup},
    load::Load,
};

mod full_mesh;
mod full_table;
mod large_cluster;
mod many_sources;
mod mesh;
mod next_hop_lost;
mod peer_lost;
mod reflector;
mod start;

/// A workload.
#[derive(Debug)]
pub struct Workload {
    /// What it is called on the command line; the first of the numbers it gives.
    pub name: &'static str,
    /// In words.
    pub about: &'static str,
    /// Whom routelet is compared with.
    pub against: Against,
    /// What it gives.
    pub figures: &'static [Figure],
    /// Runs it once; the figures in order.
    pub run: fn(&Scene<'_>) -> Result<Vec<f64>>,
}

/// Whom routelet is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Every device that was asked for.
    All,
    /// Nobody else does this.
    Nobody,
}

/// One number that a workload gives; less is better unless `must` says otherwise.
#[derive(Debug)]
pub struct Figure {
    /// The target it belongs to.
    pub target: &'static str,
    /// What it is.
    pub what: &'static str,
    /// In which unit.
    pub unit: &'static str,
    /// What must hold.
    pub must: Must,
}

impl Figure {
    /// A figure of the target.
    const fn of(target: &'static str, what: &'static str, unit: &'static str, must: Must) -> Self {
        Self {
            target,
            what,
            unit,
            must,
        }
    }
}

/// What must hold of routelet's figure.
#[derive(Clone, Copy, Debug)]
pub enum Must {
    /// At most so many times BIRD's.
    TimesBird(f64),
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Nothing: it explains the others.
    Tell,
}

/// All of them.
pub const ALL: &[Workload] = &[
    full_table::WORKLOAD,
    many_sources::WORKLOAD,
    mesh::PACED,
    mesh::AT_ONCE,
    reflector::OF_500,
    reflector::OF_1000,
    peer_lost::OF_500_000,
    peer_lost::BY_RESET,
    peer_lost::BY_CEASE,
    next_hop_lost::WORKLOAD,
    start::WORKLOAD,
    large_cluster::WORKLOAD,
    full_mesh::WORKLOAD,
];

/// Where one run takes place.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Who is measured.
    pub device: &'a Device,
    /// For files.
    pub dir: &'a Path,
    /// Everything smaller: does it work at all?
    pub quick: bool,
}

/// Longest that any step may take.
const LIMIT: Duration = Duration::from_secs(60);
/// So long nothing may come before a step counts as over.
const PAUSE: Duration = Duration::from_millis(200);
/// AS of the first eBGP peer that only listens.
const FIRST_SINK: u32 = 65_101;

impl Scene<'_> {
    fn size(&self, full: usize) -> usize {
        if self.quick { full / 20 } else { full }
    }

    /// Namespaces, the device in one, nobody dialling yet.
    fn open(&self, setup: &Setup) -> Result<(Arena, Running, Load)> {
        let arena = Arena::new(setup.peers.len() as u32)?;
        let running = self.device.start(&arena, setup, self.dir)?;
        let load = Load::new(std::net::SocketAddrV4::new(DEVICE, 179))?;
        Ok((arena, running, load))
    }
}

/// Peer `number` of the device.
fn peer(number: u32, asn: u32) -> Peer {
    Peer {
        address: speaker(number),
        asn,
        client: false,
        dual: false,
    }
}
