//! Tells when the configuration files may have changed.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// A save is several events within this time; the files are read once they are over.
const QUIET: Duration = Duration::from_millis(100);
/// However busy the directory is, they are read after this time.
const AT_LAST: Duration = Duration::from_secs(2);

/// Follows a file or directory.
#[derive(Debug)]
pub(crate) struct Changes {
    events: mpsc::Receiver<()>,
    /// Something has changed, and nobody has been told yet.
    stirred: bool,
    // Ends the watching when dropped.
    _watcher: RecommendedWatcher,
}

impl Changes {
    /// Follows `path`: the directory it is or is in (an editor replaces a file, the kubelet swaps the link `..data` beside
    /// it), and that of the file a link leads to.
    ///
    /// # Errors
    /// When the system has no more inotify instances or watches, or a directory is not readable.
    pub(crate) fn of(path: &Path) -> notify::Result<Self> {
        // One waiting event says all there is to say.
        let (sender, events) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let reading = matches!(&event, Ok(event) if event.kind.is_access());
            if !reading {
                // Full: somebody knows already. Closed: nobody wants to.
                let _ = sender.try_send(());
            }
        })?;
        for directory in directories(path) {
            watcher.watch(&directory, RecursiveMode::NonRecursive)?;
        }
        Ok(Self {
            events,
            stirred: false,
            _watcher: watcher,
        })
    }

    /// Returns when something has changed and then been quiet for a moment. Nothing is missed where it is not waited for to
    /// the end.
    pub(crate) async fn settled(&mut self) {
        if !self.stirred && self.events.recv().await.is_none() {
            // The watcher's thread is gone; SIGHUP still works.
            std::future::pending::<()>().await;
        }
        self.stirred = true;
        let quiet = async {
            while let Ok(Some(())) = tokio::time::timeout(QUIET, self.events.recv()).await {}
        };
        // Elapsed is as good as quiet here.
        let _ = tokio::time::timeout(AT_LAST, quiet).await;
        self.stirred = false;
    }
}

fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    };
    let mut directories = BTreeSet::new();
    if path.is_dir() {
        directories.insert(path.to_owned());
    } else {
        directories.insert(parent(path));
    }
    if let Ok(target) = path.canonicalize()
        && target != path
    {
        directories.insert(if target.is_dir() {
            target
        } else {
            parent(&target)
        });
    }
    directories
}
