//! Bidirectional Forwarding Detection (RFC 5880, 5881, 5883): whether the path to a peer works, within a few packets.
//!
//! ```text
//! peer/driver ⇄ Watch ── commands ──► driver (a thread of its own) ⇄ session (pure)
//!       ▲                                │ ▲
//!       └────────── News ◄───────────────┘ └─ socket: packets, with TTL and the time the kernel took them
//! ```
//! The thread shares nothing with the Rib: however long that computes, packets go out in time. It holds one clock against
//! the other side's packets, and that is the kernel's time of arrival: a thread that was not run for a while finds out what
//! came meanwhile before it judges a silence.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::{mpsc, oneshot};

use self::{driver::Command, news::News, packet::Discard, session::Settings};
use crate::{
    config::{BfdConfig, Hops, PeerConfig, Ttl},
    status::BfdStatus,
};

mod driver;
pub mod news;
pub mod packet;
pub mod session;
mod socket;

/// The way to the thread that speaks BFD; it starts when the first path is watched.
#[derive(Clone, Debug)]
pub(crate) struct Bfd {
    commands: mpsc::UnboundedSender<Command>,
    /// Until the thread has it.
    orders: Arc<Mutex<Option<mpsc::UnboundedReceiver<Command>>>>,
    next: Arc<AtomicU32>,
}

/// A path that is watched, until this is dropped: then the other side is told that an operator ended it.
#[derive(Debug)]
pub(crate) struct Watch {
    path: Path,
    discriminator: u32,
    commands: mpsc::UnboundedSender<Command>,
    news: mpsc::UnboundedReceiver<News>,
}

/// Where a path leads; another one is another session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    remote: IpAddr,
    interface: Option<Arc<str>>,
    source: Option<IpAddr>,
    hops: Hops,
    /// Packets over more than one hop must still have so much of their TTL.
    least_ttl: u8,
}

impl Bfd {
    pub(crate) fn new() -> Self {
        let (commands, orders) = mpsc::unbounded_channel();
        // Random enough that a restart does not name sessions as before.
        let first = RandomState::new().hash_one(std::process::id()) as u32;
        Self {
            commands,
            orders: Arc::new(Mutex::new(Some(orders))),
            next: Arc::new(AtomicU32::new(first)),
        }
    }

    /// Watches the path to a peer.
    pub(crate) fn watch(&self, peer: &Arc<str>, path: Path, config: &BfdConfig) -> Watch {
        self.start();
        let discriminator = loop {
            match self.next.fetch_add(1, Ordering::Relaxed) {
                0 => {}
                number => break number,
            }
        };
        let (tell, news) = mpsc::unbounded_channel();
        drop(self.commands.send(Command::Watch {
            discriminator,
            peer: Arc::clone(peer),
            path: path.clone(),
            settings: config.into(),
            news: tell,
        }));
        Watch {
            path,
            discriminator,
            commands: self.commands.clone(),
            news,
        }
    }

    fn start(&self) {
        let orders = self
            .orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(orders) = orders
            && let Err(error) = driver::start(orders)
        {
            tracing::error!(%error, "BFD cannot start");
        }
    }

    /// Packets that are of no path we watch.
    pub(crate) async fn discarded(&self) -> Vec<(Discard, u64)> {
        self.ask(Command::Discarded).await.unwrap_or_default()
    }

    /// Returns once all that was told before is done: last words have left.
    pub(crate) async fn settle(&self) {
        self.ask(Command::Settle).await;
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let idle = self
            .orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        if idle {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        self.commands.send(question(reply)).ok()?;
        answer.await.ok()
    }
}

impl Watch {
    /// What is new; `None`: the thread has ended.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<News>> {
        self.news.poll_recv(context)
    }

    /// Where it leads.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Other intervals; the other side is asked first where it must know (RFC 5880 §6.8.3).
    pub(crate) fn configure(&self, config: &BfdConfig) {
        drop(
            self.commands
                .send(Command::Configure(self.discriminator, config.into())),
        );
    }

    /// Ends it without a word: whoever is told that an operator did it may end the session at once, whereas a restart is over
    /// for the other side when TCP says so, and routes are kept.
    pub(crate) fn leave(self) {
        drop(self.commands.send(Command::Leave(self.discriminator)));
    }

    /// How it is.
    pub(crate) fn status(&self) -> oneshot::Receiver<BfdStatus> {
        let (reply, answer) = oneshot::channel();
        drop(
            self.commands
                .send(Command::Report(self.discriminator, reply)),
        );
        answer
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.commands.send(Command::Remove(self.discriminator)));
    }
}

impl Path {
    /// The path of a peer's sessions; `None` where BFD is not configured.
    pub(crate) fn of(config: &PeerConfig) -> Option<Self> {
        let bfd = config.bfd?;
        if config.address.is_unspecified() {
            return None; // nobody is known yet
        }
        Some(Self {
            remote: config.address,
            interface: config.interface.as_deref().map(Into::into),
            source: config.source,
            hops: bfd.hops,
            least_ttl: match config.ttl {
                Ttl::Security(hops) => 255_u8.saturating_sub(hops.saturating_sub(1)),
                Ttl::Send(_) => 0,
            },
        })
    }
}

impl From<&BfdConfig> for Settings {
    fn from(config: &BfdConfig) -> Self {
        Self {
            min_rx: config.min_rx,
            min_tx: config.min_tx,
            multiplier: config.multiplier.max(1),
        }
    }
}

#[cfg(test)]
mod tests;
