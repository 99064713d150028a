//! Where the control socket stands, and that there is one daemon to a node.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use tokio::net::UnixListener;

/// The socket, and the lock that says it is ours. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    // The kernel gives it back whatever way the process ends.
    _lock: File,
}

impl Socket {
    /// Takes the place at `path`, clearing away what a process that was killed left there.
    ///
    /// # Errors
    /// When another daemon is alive, or the place cannot be written.
    pub(crate) fn bind(path: &Path) -> anyhow::Result<(Self, UnixListener)> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(|| {
                format!(
                    "the directory of the control socket, {}",
                    directory.display()
                )
            })?;
        }
        let lock_path = path.with_extension("lock");
        let lock = private(&lock_path).with_context(|| {
            format!(
                "the lock {} (another place: --socket PATH)",
                lock_path.display()
            )
        })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another routelet is running here: it holds {}. Stop it first, or give this one its own --socket and --state-dir",
                lock_path.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", lock_path.display()));
            }
        }
        match fs::symlink_metadata(path) {
            Ok(there) if there.file_type().is_socket() => {
                fs::remove_file(path)
                    .with_context(|| format!("a stale socket, {}", path.display()))?;
            }
            Ok(_) => bail!(
                "{} is there and is no socket: remove it, or give another --socket",
                path.display()
            ),
            Err(_) => {}
        }
        let listener =
            listen(path).with_context(|| format!("the control socket {}", path.display()))?;
        let socket = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        Ok((socket, listener))
    }
}

/// Whoever may read a file may lock it, and so keep the next daemon from starting.
fn private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o600);
    let file = file.open(path)?;
    // One that an older version left.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Listens at `path`, where others than owner and group never get in: at another name first, until its mode is right.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let unready = path.with_extension("new");
    match fs::remove_file(&unready) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&unready)?;
    fs::set_permissions(&unready, fs::Permissions::from_mode(0o660))?;
    fs::rename(&unready, path)?;
    Ok(listener)
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.path);
    }
}

/// Holds the right to this network namespace's routes of one mark, wherever sockets and state directories stand: two
/// daemons that own the same routes would take each other's away.
///
/// # Errors
/// When another process holds it.
pub(crate) fn own_routes(mark: fib::Mark) -> anyhow::Result<UnixDatagram> {
    let name = format!(
        "routelet/routes/{}/{}/{}",
        mark.protocol, mark.table, mark.metric
    );
    let address = SocketAddr::from_abstract_name(name)?;
    UnixDatagram::bind_addr(&address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "another routelet manages the routes of this node (protocol {}, table {}, metric {}): stop it first, or give this one another kernel.protocol or kernel.table",
            mark.protocol,
            mark.table,
            mark.metric
        ),
        _ => anyhow::Error::new(error).context("the claim on this node's routes"),
    })
}
