//! What outlives the process: every change, a line each.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
};

use anyhow::Context;

use crate::store::{Change, Store};

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// The version that was written last.
    written: u64,
}

impl Journal {
    /// Opens it, and gives the store as an earlier process left it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<(Self, Store)> {
        let open = File::options()
            .create(true)
            .read(true)
            .append(true)
            .open(path);
        let file = open.with_context(|| path.display().to_string())?;
        let mut changes = Vec::new();
        for line in BufReader::new(&file).lines() {
            changes.push(serde_json::from_str::<Change>(&line?)?);
        }
        let store = Store::restored(changes);
        let written = store.version();
        Ok((Self { file, written }, store))
    }

    /// Writes what is new.
    pub(crate) fn write(&mut self, store: &Store) -> anyhow::Result<()> {
        let mut lines = Vec::new();
        let new = store.since(self.written);
        for change in new.map_err(|refusal| anyhow::anyhow!(refusal.message))? {
            serde_json::to_writer(&mut lines, change)?;
            lines.push(b'\n');
        }
        // In one piece: whoever ends us does so before or after.
        self.file.write_all(&lines)?;
        self.written = store.version();
        Ok(())
    }
}
