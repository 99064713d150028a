//! What a lab holds of the machine, on disk, so that another process can use it, and a later one can clean up after a crash.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::clab::{Network, Topology};
use crate::container::Process;
use crate::shell;

const ROOT: &str = "/run/routelet-lab";

/// The folder of the lab `id`.
#[must_use]
pub(super) fn folder(id: &str) -> PathBuf {
    Path::new(ROOT).join(id)
}

/// One lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    id: String,
    /// The topology file.
    pub file: PathBuf,
    prefix: String,
    owner: Option<Process>,
    /// The nodes that have a network namespace of their own.
    networks: Vec<String>,
    /// The first process of each container.
    pub containers: BTreeMap<String, Process>,
}

impl State {
    /// Takes the name `id`, after removing what an earlier run left under it.
    ///
    /// # Errors
    /// If another process is running a lab of that name at this moment.
    pub(super) fn claim(id: &str, topology: &Topology, prefix: &str) -> Result<Self> {
        std::fs::create_dir_all(ROOT)?;
        let claims = File::create(Path::new(ROOT).join("claims"))?;
        claims.lock().context("lock")?;
        sweep()?;
        if let Ok(earlier) = Self::open(id) {
            if let Some(owner) = earlier.owner {
                bail!("the lab {id} is in use by process {}", owner.pid);
            }
            earlier.clean_network();
        }
        let networks = topology
            .nodes
            .values()
            .filter(|node| node.network == Network::Own)
            .map(|node| node.name.clone())
            .collect();
        let owner = Some(Process::of(std::process::id().try_into()?)?);
        let state = Self {
            id: id.to_owned(),
            file: topology.file.clone(),
            prefix: prefix.to_owned(),
            owner,
            networks,
            containers: BTreeMap::new(),
        };
        state.write()?;
        // Names that no state file knows, from a machine that lost its /run/routelet-lab but not its namespaces.
        for netns in state.namespaces() {
            if Path::new("/run/netns").join(&netns).exists() {
                empty(&netns);
            }
        }
        Ok(state)
    }

    /// Finds the lab `id`.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(id: &str) -> Result<Self> {
        let text = std::fs::read_to_string(folder(id).join("lab.json"))
            .with_context(|| format!("no lab {id} is up"))?;
        Ok(serde_json::from_str(&text)?)
    }

    fn write(&self) -> Result<()> {
        let folder = folder(&self.id);
        std::fs::create_dir_all(&folder)?;
        let next = folder.join("lab.json.next");
        std::fs::write(&next, serde_json::to_string_pretty(self)?)?;
        Ok(std::fs::rename(next, folder.join("lab.json"))?)
    }

    pub(super) fn started(&mut self, node: &str, init: Process) -> Result<()> {
        self.containers.insert(node.to_owned(), init);
        self.write()
    }

    /// Was it left up on purpose?
    #[must_use]
    pub fn kept(&self) -> bool {
        self.owner.is_none()
    }

    pub(super) fn keep(&mut self) -> Result<()> {
        self.owner = None;
        self.write()
    }

    /// The network namespace of a node.
    #[must_use]
    pub fn netns(&self, node: &str) -> String {
        format!("{}{node}", self.prefix)
    }

    /// All network namespaces of the lab.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        self.networks.iter().map(|node| self.netns(node)).collect()
    }

    /// Ends every process, deletes every namespace and every file of the lab.
    pub fn clean(&self) {
        self.clean_network();
        let _ = std::fs::remove_dir_all(folder(&self.id));
    }

    fn clean_network(&self) {
        for process in self.containers.values() {
            process.kill();
        }
        for netns in self.namespaces() {
            empty(&netns);
        }
    }
}

/// Processes first: deleting the name does not end them, and the namespace would live on unseen.
fn empty(netns: &str) {
    let pids = shell::run(Command::new("ip").args(["netns", "pids", netns])).unwrap_or_default();
    for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        if let Ok(process) = Process::of(pid) {
            process.kill();
        }
    }
    let _ = shell::run(Command::new("ip").args(["netns", "del", netns]));
}

/// Removes the labs whose process is gone without having taken them down, unless they were kept on purpose.
pub fn sweep() -> Result<()> {
    let Ok(entries) = std::fs::read_dir(ROOT) else {
        return Ok(());
    };
    for entry in entries {
        let id = entry?.file_name().to_string_lossy().into_owned();
        if let Ok(state) = State::open(&id)
            && state.owner.is_some_and(|owner| !owner.alive())
        {
            state.clean();
        }
    }
    Ok(())
}
