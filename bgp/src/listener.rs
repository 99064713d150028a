//! Where peers dial in: one task per listening address, with the MD5 keys of all peers that may come there.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::AbortHandle,
    time::MissedTickBehavior,
};

pub(crate) use self::keys::{Keys, keys};

use crate::{
    peer::{
        deadlines::doubled,
        socket_options::set_md5_key,
        sockets::{canonical, listen},
    },
    prefix::Family,
};

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
    let mut installed = Keys::new();
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

/// Brings the socket's keys in step with `wanted`; what went wrong, in words. Keys go when the new ones are there: so no peer
/// is without one in between.
fn install(
    address: SocketAddr,
    listener: &TcpListener,
    installed: &mut Keys,
    wanted: &Keys,
) -> Result<(), String> {
    let family = Family::of(address.ip());
    let wanted: Keys = wanted
        .iter()
        .filter(|(peers, _)| peers.family() == family)
        .map(|(peers, key)| (*peers, key.clone()))
        .collect();
    // A second time, for those that found room only where others had been.
    let _ = add(address, listener, installed, &wanted);
    installed.retain(|peers, _| {
        let stays = wanted.contains_key(peers);
        if !stays && let Err(error) = set_md5_key(listener, *peers, &[]) {
            tracing::debug!(%address, %peers, %error, "an MD5 key was not there to remove");
        }
        stays
    });
    add(address, listener, installed, &wanted).map_err(|problem| {
        let limit = room::optmem_max();
        limit
            .and_then(|limit| room::crowded(address, wanted.len(), limit))
            .unwrap_or(problem)
    })
}

/// Adds the keys that are not there yet, as many as can be; the last that could not, in words.
fn add(
    address: SocketAddr,
    listener: &TcpListener,
    installed: &mut Keys,
    wanted: &Keys,
) -> Result<(), String> {
    let mut result = Ok(());
    for (peers, key) in wanted {
        if installed.get(peers) == Some(key) {
            continue;
        }
        match set_md5_key(listener, *peers, key) {
            Ok(()) => drop(installed.insert(*peers, key.clone())),
            Err(error) => {
                let remedy = match error.raw_os_error() {
                    Some(libc::EPERM) => "the capability NET_ADMIN is needed",
                    Some(libc::ENOPROTOOPT) => "this kernel has no TCP_MD5SIG",
                    Some(libc::ENOMEM) => {
                        "one socket has room for no more keys: raise net.core.optmem_max on this node; it is tried again"
                    }
                    _ => "is the password 1–80 octets long?",
                };
                result = Err(format!(
                    "{address}: no MD5 key for {peers}: {error}; {remedy}"
                ));
            }
        }
    }
    result
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
