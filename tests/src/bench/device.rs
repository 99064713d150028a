//! A device under test: how it is configured and started, and what it used.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::arena::Arena;

mod bird;
mod frr;
mod routelet;

/// The device's AS in every workload.
pub const ASN: u32 = 65_000;

/// A BGP implementation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// Ours: the path of its binary.
    Routelet(PathBuf),
    /// BIRD 2.
    Bird,
    /// FRR's bgpd, with zebra where the kernel takes part.
    Frr,
}

/// How a device is to be configured.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Its peers; all dial it.
    pub peers: Vec<Peer>,
    /// Number of the pod CIDRs it originates itself.
    pub originate: Option<u32>,
    /// Routes go into the kernel.
    pub kernel: bool,
}

/// One peer of the device.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its AS; the device's own makes it internal.
    pub asn: u32,
    /// It is a route reflector client.
    pub client: bool,
    /// IPv6 routes are exchanged too.
    pub dual: bool,
}

impl Device {
    /// As tables call it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Routelet(_) => "routelet",
            Self::Bird => "BIRD",
            Self::Frr => "FRR",
        }
    }

    /// Starts it in the arena's device namespace, with its files in `dir`.
    ///
    /// # Errors
    /// It is not installed.
    pub fn start(&self, arena: &Arena, setup: &Setup, dir: &Path) -> Result<Running> {
        fs::create_dir_all(dir)?;
        let processes = match self {
            Self::Routelet(binary) => routelet::start(binary, arena, setup, dir)?,
            Self::Bird => bird::start(arena, setup, dir)?,
            Self::Frr => frr::start(arena, setup, dir)?,
        };
        Ok(Running { processes })
    }
}

/// The running processes of a device; they are killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    processes: Vec<Child>,
}

/// What a device has used so far, all its processes together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time, to 10 ms.
    pub cpu: Duration,
    /// Time on a processor, to the nanosecond; threads that have ended are not in it.
    pub on_processor: Duration,
    /// Time ready to run but without a processor, because of what else this machine does; of the threads there are now.
    pub waited: Duration,
    /// Highest resident set, MiB.
    pub peak: f64,
    /// Proportional set size now, MiB.
    pub memory: f64,
}

impl Running {
    /// Starts routelet as the node `dut` of the cluster that these manifests describe.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn routelet(binary: &Path, arena: &Arena, manifests: &Path, dir: &Path) -> Result<Self> {
        Ok(Self {
            processes: vec![routelet::start_with(binary, arena, manifests, dir)?],
        })
    }

    /// What it has used since its start.
    ///
    /// # Errors
    /// A process of it has ended.
    pub fn usage(&mut self) -> Result<Usage> {
        let mut usage = Usage::default();
        for process in &mut self.processes {
            let ended = process.try_wait()?;
            ensure!(
                ended.is_none(),
                "a process of the device has ended: {ended:?}"
            );
            usage.add(Path::new(&format!("/proc/{}", process.id())))?;
        }
        Ok(usage)
    }
}

impl Usage {
    /// Of one process, by its folder in a `/proc`.
    ///
    /// # Errors
    /// It has ended.
    pub fn of(process: &Path) -> Result<Self> {
        let mut usage = Self::default();
        usage.add(process)?;
        Ok(usage)
    }

    fn add(&mut self, process: &Path) -> Result<()> {
        let stat = fs::read_to_string(process.join("stat"))?;
        // Behind the name in brackets: state is field 3; utime, stime are 14 and 15.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks: u64 = fields
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        self.cpu += Duration::from_millis(ticks * 10);
        for task in fs::read_dir(process.join("task"))? {
            let schedule = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let mut nanoseconds = schedule.split(' ').map_while(|field| field.parse().ok());
            self.on_processor += Duration::from_nanos(nanoseconds.next().unwrap_or_default());
            self.waited += Duration::from_nanos(nanoseconds.next().unwrap_or_default());
        }
        self.peak += kib(&process.join("status"), "VmHWM:")? / 1024.0;
        self.memory += kib(&process.join("smaps_rollup"), "Pss:")? / 1024.0;
        Ok(())
    }
}

fn kib(file: &Path, field: &str) -> Result<f64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let value = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|value| value.parse().ok());
    value.with_context(|| format!("no {field} in {}", file.display()))
}

impl Drop for Running {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Where a device's output goes: into a file of its folder, so that a failed run can be looked into.
fn output(dir: &Path, name: &str) -> Result<std::process::Stdio> {
    Ok(fs::File::create(dir.join(name))?.into())
}
