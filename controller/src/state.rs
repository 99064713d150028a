//! What outlives the process: that it ran in this boot, whether the operator has drained the node, and by which
//! topology it went.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::desired::{Duty, InForce};

/// The directory and what stands in it.
#[derive(Clone, Debug)]
pub(crate) struct State {
    path: PathBuf,
    boot: String,
    saved: Option<Saved>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    /// The kernel's identifier of this boot: kernel routes and pods of an earlier one are gone.
    boot_id: String,
    /// Absent in a file of an earlier version.
    #[serde(default)]
    duty: Duty,
    /// The topology in force.
    #[serde(default)]
    topology: Option<InForce>,
}

impl State {
    /// Reads what an earlier process left in `directory`, if anything.
    pub(crate) fn read(directory: &Path) -> Self {
        let path = directory.join("state.json");
        // A file that is missing or broken says what no file says: nothing is known of an earlier run.
        let saved = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            path,
            boot: boot_id(),
            saved,
        }
    }

    /// Whether a process before this one ran in this boot, so that pods and kernel routes are still there.
    pub(crate) fn ran_before(&self) -> bool {
        !self.boot.is_empty()
            && self
                .saved
                .as_ref()
                .is_some_and(|saved| saved.boot_id == self.boot)
    }

    /// What the operator said last; a drained node stays drained over a restart, and over a reboot.
    pub(crate) fn duty(&self) -> Duty {
        self.saved
            .as_ref()
            .map(|saved| saved.duty)
            .unwrap_or_default()
    }

    /// The topology that was in force last.
    pub(crate) fn topology(&self) -> Option<InForce> {
        self.saved.as_ref()?.topology.clone()
    }

    /// Writes it down, whole or not at all.
    ///
    /// # Errors
    /// When the directory cannot be made or written.
    pub(crate) fn save(&mut self, duty: Duty, topology: Option<InForce>) -> io::Result<()> {
        let saved = Saved {
            boot_id: self.boot.clone(),
            duty,
            topology,
        };
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let temporary = self.path.with_extension("tmp");
        fs::write(&temporary, serde_json::to_vec_pretty(&saved)?)?;
        fs::rename(&temporary, &self.path)?;
        self.saved = Some(saved);
        Ok(())
    }

    /// Forgets everything: what `cleanup` does.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub(crate) fn forget(directory: &Path) -> io::Result<()> {
        match fs::remove_file(directory.join("state.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}
