//! Tells when the configuration files may have changed.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::sync::mpsc;

use crate::cluster::files::is_manifest;

/// A save is several events within this time; the files are read once they are over.
const QUIET: Duration = Duration::from_millis(100);
/// However busy the directory is, and whoever is still writing, they are read after this time.
const AT_LAST: Duration = Duration::from_secs(5);

/// Which files of the directories that are followed are read.
#[derive(Clone, Debug)]
enum Scope {
    /// All manifests.
    Manifests,
    /// One, under these names: its own, and where it is a link, that of what it leads to.
    Named(BTreeSet<OsString>),
}

impl Scope {
    fn of(path: &Path) -> Self {
        if path.is_dir() {
            return Self::Manifests;
        }
        let target = path.canonicalize().ok();
        let names = [Some(path), target.as_deref()].into_iter().flatten();
        Self::Named(
            names
                .filter_map(|path| path.file_name().map(ToOwned::to_owned))
                .collect(),
        )
    }

    fn holds(&self, file: &Path) -> bool {
        match self {
            Self::Manifests => is_manifest(file),
            Self::Named(names) => file.file_name().is_some_and(|name| names.contains(name)),
        }
    }
}

/// Files that somebody has begun to write and not closed yet: half of a manifest would end half of the sessions.
#[derive(Clone, Debug, Default)]
struct Unfinished(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Unfinished {
    /// Takes an event; whether it tells of a change.
    fn note(&self, event: &Event, scope: &Scope) -> bool {
        let mut files = self.files();
        match event.kind {
            // A log in the same directory, that is written to all the time.
            EventKind::Modify(ModifyKind::Data(_))
                if !event.paths.iter().any(|path| scope.holds(path)) =>
            {
                false
            }
            EventKind::Modify(ModifyKind::Data(_)) => {
                files.extend(event.paths.iter().cloned());
                true
            }
            // Of one that was not changed it says nothing.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                event.paths.iter().any(|path| files.remove(path))
            }
            EventKind::Access(_) => false,
            _ => {
                // Gone, renamed or replaced.
                files.retain(|file| !event.paths.contains(file));
                true
            }
        }
    }

    fn files(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows a file or directory.
#[derive(Debug)]
pub(crate) struct Changes {
    events: mpsc::Receiver<()>,
    /// Something has changed, and nobody has been told yet.
    stirred: bool,
    unfinished: Unfinished,
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
        let unfinished = Unfinished::default();
        let (noted, scope) = (unfinished.clone(), Scope::of(path));
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // What could not be told may have been a change.
            if event
                .as_ref()
                .map_or(true, |event| noted.note(event, &scope))
            {
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
            unfinished,
            _watcher: watcher,
        })
    }

    /// Returns when something has changed, is written to its end, and has then been quiet for a moment. Nothing is missed where it is not waited for to
    /// the end.
    pub(crate) async fn settled(&mut self) {
        if !self.stirred && self.events.recv().await.is_none() {
            // The watcher's thread is gone; SIGHUP still works.
            std::future::pending::<()>().await;
        }
        self.stirred = true;
        let quiet = async {
            loop {
                match tokio::time::timeout(QUIET, self.events.recv()).await {
                    Ok(Some(())) => {}
                    Ok(None) => return,
                    Err(_) if self.unfinished.files().is_empty() => return,
                    Err(_) => {}
                }
            }
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

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn folder(of: &str) -> PathBuf {
        let name = format!("routelet-watch-{of}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[tokio::test]
    async fn a_log_beside_the_manifests_is_no_change_of_them() {
        let folder = folder("log");
        let file = folder.join("nodes.yaml");
        fs::write(&file, "kind: Node\n").unwrap();
        let mut log = fs::File::create(folder.join("routelet.log")).unwrap();
        for path in [&folder, &file] {
            let mut changes = Changes::of(path).unwrap();
            log.write_all(b"started\n").unwrap();
            let told = tokio::time::timeout(4 * QUIET, changes.settled()).await;
            assert!(told.is_err(), "{path:?}: the log was taken for a manifest");
            fs::write(&file, "kind: Node\n").unwrap();
            changes.settled().await;
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_waited_for() {
        let folder = folder("half");
        let file = folder.join("nodes.yaml");
        fs::write(&file, "kind: Node\n").unwrap();
        let mut changes = Changes::of(&folder).unwrap();
        // As an editor saves in place: emptied, and filled a while later.
        let mut written = fs::File::create(&file).unwrap();
        let early = tokio::time::timeout(4 * QUIET, changes.settled()).await;
        assert!(early.is_err(), "half a file was taken for a whole one");
        written.write_all(b"kind: Node\n").unwrap();
        drop(written);
        changes.settled().await;
        fs::remove_dir_all(&folder).unwrap();
    }
}
