//! The last cluster that the API server told, on disk: what a start in an outage comes back with.
//!
//! It is stored as manifests, so that `routelet check -f` reads it too. Secrets stand apart, in the directory of the control
//! socket, which is in memory on every usual system: they outlive the daemon, but neither a reboot nor the theft of a disk.
//! Both files are for their owner only.

use std::{
    fs,
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tokio::{sync::watch, time::MissedTickBehavior};
use tracing::warn;

use crate::cluster::{Cluster, document::Tree, manifest, object};

/// In the state directory.
const CLUSTER: &str = "cluster.yaml";
/// In the directory of the control socket.
const SECRETS: &str = "secrets.yaml";
/// Between two objects, each of which is one line.
const SEPARATOR: &str = "---";
/// Shortest time from one writing to the next.
const PAUSE: Duration = Duration::from_secs(5);

/// Where the last cluster is stored.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    cluster: PathBuf,
    secrets: PathBuf,
}

impl Store {
    /// The store of a daemon with this state directory and control socket.
    pub(crate) fn of(state_dir: &Path, socket: &Path) -> Self {
        let runtime = socket.parent().unwrap_or(state_dir);
        Self {
            cluster: state_dir.join(CLUSTER),
            secrets: runtime.join(SECRETS),
        }
    }

    /// What was stored last, and when. What cannot be read any more is as good as never stored.
    pub(crate) fn read(&self) -> Option<(Cluster, SystemTime)> {
        let written = fs::metadata(&self.cluster).and_then(|file| file.modified());
        let mut cluster = Cluster::default();
        read_into(&self.cluster, &mut cluster).ok()?;
        // After a reboot they are gone; sessions that need them say so.
        let _ = read_into(&self.secrets, &mut cluster);
        Some((cluster, written.unwrap_or(SystemTime::UNIX_EPOCH)))
    }

    /// Writes it down, each file whole or not at all.
    ///
    /// # Errors
    /// When a directory cannot be made or written.
    pub(crate) fn write(&self, cluster: &Cluster) -> io::Result<()> {
        write_to(&self.secrets, &manifest::secrets(cluster)?)?;
        write_to(&self.cluster, &manifest::objects(cluster)?)
    }

    /// Forgets it: what `cleanup` does.
    ///
    /// # Errors
    /// When a file is there and cannot be removed.
    pub(crate) fn forget(&self) -> io::Result<()> {
        for file in [&self.cluster, &self.secrets] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes every cluster that comes, the newest where they come faster than they are written.
    pub(crate) async fn keep(self, mut clusters: watch::Receiver<Option<Cluster>>) {
        let mut beat = tokio::time::interval(PAUSE);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while clusters.changed().await.is_ok() {
            let Some(cluster) = clusters.borrow_and_update().clone() else {
                continue;
            };
            let store = self.clone();
            let written = tokio::task::spawn_blocking(move || store.write(&cluster)).await;
            if let Ok(Err(error)) = written {
                warn!(%error, file = %self.cluster.display(), "the cluster cannot be stored: a start while the API server is away would have to wait for it");
            }
            beat.tick().await;
        }
    }
}

/// Adds the manifests of a file, one a line.
fn read_into(file: &Path, cluster: &mut Cluster) -> io::Result<()> {
    let mut complaints = Vec::new();
    for line in BufReader::new(fs::File::open(file)?).lines() {
        let line = line?;
        if line != SEPARATOR {
            let object: Value = serde_json::from_str(&line)?;
            object::add(&Tree::from(object), cluster, &mut complaints);
        }
    }
    match complaints.first() {
        Some(complaint) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{complaint:?}"),
        )),
        None => Ok(()),
    }
}

fn write_to(file: &Path, objects: &[Value]) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let temporary = file.with_extension("tmp");
    // One that is there has the rights that somebody gave it.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let open = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let mut out = BufWriter::new(open);
    for object in objects {
        writeln!(out, "{SEPARATOR}\n{object}")?;
    }
    out.into_inner()?.sync_all()?;
    fs::rename(&temporary, file)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, sync::Arc};

    use super::*;
    use crate::cluster::{Secret, files};

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("routelet-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    /// Every case of `tests/desired` as a cluster.
    fn clusters() -> Vec<Cluster> {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/desired");
        fs::read_dir(cases)
            .unwrap()
            .map(|case| files::load(&case.unwrap().path().join("objects.yaml")).unwrap())
            .map(|cluster| Cluster {
                problems: Vec::new(),
                left_out: Default::default(),
                ..cluster
            })
            .collect()
    }

    #[test]
    fn every_cluster_comes_back_as_it_was_written() {
        let folder = folder("store");
        let store = Store::of(&folder.join("state"), &folder.join("run/routelet.sock"));
        assert_eq!(store.read(), None);
        for cluster in clusters() {
            store.write(&cluster).unwrap();
            assert_eq!(store.read().unwrap().0, cluster);
        }
        store.forget().unwrap();
        assert_eq!(store.read(), None);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn secrets_are_for_their_owner_only_and_not_in_the_state_directory() {
        let folder = folder("secrets");
        let store = Store::of(&folder.join("state"), &folder.join("run/routelet.sock"));
        let values = BTreeMap::from([("password".to_owned(), b"hush hush".to_vec())]);
        let cluster = Cluster {
            nodes: [("n1".to_owned(), Arc::default())].into(),
            secrets: [(("ns".to_owned(), "md5".to_owned()), Secret(values))].into(),
            ..Cluster::default()
        };
        store.write(&cluster).unwrap();
        for file in [&store.cluster, &store.secrets] {
            let mode = fs::metadata(file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let text = fs::read_to_string(&store.cluster).unwrap();
        assert!(!text.contains("Secret") && !text.contains("aHVzaCBodXNo"));
        // After a reboot.
        fs::remove_file(&store.secrets).unwrap();
        let (read, _) = store.read().unwrap();
        assert!(read.secrets.is_empty() && read.nodes.contains_key("n1"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_broken_file_is_as_good_as_none() {
        let folder = folder("broken");
        let store = Store::of(&folder, &folder.join("routelet.sock"));
        store.write(&Cluster::default()).unwrap();
        fs::write(&store.cluster, "---\n{\"apiVersion\": \"v1\", \"ki").unwrap();
        assert_eq!(store.read(), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
