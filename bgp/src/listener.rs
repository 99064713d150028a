//! Where peers dial in: one task per listening address, with the keys of all peers that may come there.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::AbortHandle,
    time::MissedTickBehavior,
};

use self::install::install;
pub(crate) use self::keys::{Keys, keys};

use crate::peer::{
    deadlines::doubled,
    sockets::{canonical, listen},
};

mod install;
mod keys;
mod room;

/// What a listener tells the speaker.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Somebody dialled in.
    Accepted(TcpStream, SocketAddr),
    /// This address is listened on, or why not, in words with the remedy.
    State(SocketAddr, Result<(), String>),
}

/// One listening address. Dropping it closes the socket.
#[derive(Debug)]
pub(crate) struct Listener {
    keys: watch::Sender<Arc<Keys>>,
    task: AbortHandle,
}

impl Listener {
    /// Listens on `address`, and tries again where it cannot.
    pub(crate) fn start(
        address: SocketAddr,
        keys: Arc<Keys>,
        notices: mpsc::Sender<Notice>,
    ) -> Self {
        let (keys, changes) = watch::channel(keys);
        let task = tokio::spawn(run(address, changes, notices)).abort_handle();
        Self { keys, task }
    }

    /// The keys of all peers, of either family.
    pub(crate) fn set_keys(&self, keys: Arc<Keys>) {
        self.keys.send_if_modified(|old| {
            let changed = *old != keys;
            *old = keys;
            changed
        });
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// First and longest wait before an address is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

#[expect(
    clippy::disallowed_methods,
    reason = "the driver of a listening socket waits before it tries again"
)]
async fn run(
    address: SocketAddr,
    mut changes: watch::Receiver<Arc<Keys>>,
    notices: mpsc::Sender<Notice>,
) {
    let mut failures = 0;
    loop {
        match listen(address) {
            Ok(listener) => {
                failures = 0;
                if serve(address, &listener, &mut changes, &notices)
                    .await
                    .is_err()
                {
                    return; // the speaker has ended
                }
            }
            Err(error) => {
                let problem = Err(in_words(address, &error));
                if notices.send(Notice::State(address, problem)).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(doubled(RETRY.0, failures, RETRY.1)).await;
        failures = failures.saturating_add(1);
    }
}

/// The speaker has ended.
struct Ended;

/// Accepts, until the socket breaks.
#[expect(
    clippy::disallowed_methods,
    reason = "the driver of a listening socket waits where the kernel has no descriptors left"
)]
async fn serve(
    address: SocketAddr,
    listener: &TcpListener,
    changes: &mut watch::Receiver<Arc<Keys>>,
    notices: &mpsc::Sender<Notice>,
) -> Result<(), Ended> {
    let mut installed = Keys::default();
    // What the socket had no room for, it may have once the operator did what we asked for.
    let mut again = tokio::time::interval(RETRY.1);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = install(
        address,
        listener,
        &mut installed,
        &changes.borrow_and_update(),
    );
    tell(notices, Notice::State(address, state.clone())).await?;
    loop {
        tokio::select! {
            changed = changes.changed() => changed.map_err(|_| Ended)?,
            _ = again.tick(), if state.is_err() => {}
            accepted = listener.accept() => {
                match accepted {
                    Ok((stream, remote)) => {
                        tell(notices, Notice::Accepted(stream, canonical(remote))).await?;
                    }
                    Err(error) if out_of_descriptors(&error) => {
                        let problem = format!("{address}: too many open files: raise the limit (ulimit -n, LimitNOFILE)");
                        tell(notices, Notice::State(address, Err(problem))).await?;
                        tokio::time::sleep(RETRY.0).await;
                        tell(notices, Notice::State(address, state.clone())).await?;
                    }
                    // Who dialled is gone again, or the network was: the next one is another (accept(2)).
                    Err(error) if error.raw_os_error() == Some(libc::EBADF) => return Ok(()),
                    Err(error) => tracing::debug!(%address, %error, "accept failed"),
                }
                continue;
            }
        }
        let now = install(
            address,
            listener,
            &mut installed,
            &changes.borrow_and_update(),
        );
        if now != state {
            state = now;
            tell(notices, Notice::State(address, state.clone())).await?;
        }
    }
}

async fn tell(notices: &mpsc::Sender<Notice>, notice: Notice) -> Result<(), Ended> {
    notices.send(notice).await.map_err(|_| Ended)
}

fn out_of_descriptors(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

fn in_words(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    let remedy = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => format!(
            "another program has port {port}: another BGP daemon, or a second routelet? Stop it, or set listenPort"
        ),
        Some(libc::EACCES | libc::EPERM) => format!(
            "port {port} needs the capability NET_BIND_SERVICE (or root); or set listenPort above 1023"
        ),
        Some(libc::EADDRNOTAVAIL) => "is this address on this node?".into(),
        _ => "peers that dial us cannot get through".into(),
    };
    format!("cannot listen on {address}: {error}; {remedy}; it is tried again")
}
