//! Labs of stories: each under a name of its own, with files of its own.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use super::state::{self, sweep};
use super::{Lab, Options};
use crate::clab::Topology;
use crate::shell;

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// Brings up `topologies/NAME.clab.yml` for a story: under a name of its own, with files of its own that the story may change.
    pub fn story(name: &str) -> Result<Self> {
        Self::story_with(name, |_| Ok(()))
    }

    /// As [`Lab::story`]; `change` may edit the copy of the topology's files (its folder is given) before anything starts.
    pub fn story_with(name: &str, change: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        Self::copied(name, Options::default(), change)
    }

    /// As [`Lab::story`]; all that its routelets say is captured.
    pub fn story_overheard(name: &str) -> Result<Self> {
        let options = Options {
            overhear: true,
            ..Options::default()
        };
        Self::copied(name, options, |_| Ok(()))
    }

    fn copied(
        name: &str,
        options: Options,
        change: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../topologies");
        Self::written_with(name, options, |files| {
            let clab = format!("{name}.clab.yml");
            std::fs::copy(source.join(&clab), files.join(&clab))
                .with_context(|| format!("topology {name}"))?;
            // One whose nodes are told everything by an API server has no files.
            let configuration = source.join(name);
            if configuration.exists() {
                let mut copy = std::process::Command::new("cp");
                shell::run(copy.arg("-r").arg(configuration).arg(files))?;
            }
            change(files)
        })
    }

    /// Brings up a lab under a name of its own from files that `write` makes in the folder it is given: `NAME.clab.yml`, and
    /// what that one binds.
    pub fn written(name: &str, write: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        Self::written_with(name, Options::default(), write)
    }

    /// As [`Lab::written`], in this way.
    pub fn written_with(
        name: &str,
        options: Options,
        write: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let prefix = format!(
            "rl{}x{}-",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        sweep()?;
        let files = state::folder(&format!("{prefix}{name}")).join("files");
        std::fs::create_dir_all(&files)?;
        write(&files)?;
        let topology = Topology::read(&files.join(format!("{name}.clab.yml")))?;
        Self::up(
            topology,
            Options {
                prefix: Some(prefix),
                ..options
            },
        )
    }
}
