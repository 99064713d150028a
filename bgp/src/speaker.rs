//! The front door: a speaker that is given a [`SpeakerConfig`] and tells what should be in the kernel.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use self::core::{Command, Core};
use crate::{
    config::SpeakerConfig,
    peer::driver::Detail,
    prefix::{Families, Family, Prefix},
    rib::task::{Install, NextHops, RibHandle, Settings},
    status::{Explanation, Reach, RouteStatus, SpeakerStatus},
};

mod changes;
mod core;
mod status;

/// A running speaker. Dropping it closes its sessions without a word, so that peers which agreed on graceful restart keep
/// its routes.
#[derive(Debug)]
pub struct Speaker {
    /// Unbounded: who asks waits for the answer, and what [`Speaker::lost`] says follows from the kernel's links.
    commands: mpsc::UnboundedSender<Command>,
    rib: RibHandle,
    installs: Option<mpsc::Receiver<Vec<Install>>>,
    events: broadcast::Sender<Event>,
    /// Listens from the very start, until someone asks for it.
    first_listener: Mutex<Option<broadcast::Receiver<Event>>>,
}

/// What a speaker tells of as it happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A session changed its state.
    Session {
        /// The peer's name.
        peer: String,
        /// Whether it is Established now.
        up: bool,
        /// What happened, in words.
        reason: String,
    },
    /// BFD on the path to a peer came up or went down.
    Bfd {
        /// The peer's name.
        peer: String,
        /// Whether it is up now.
        up: bool,
        /// Why it is down, in words.
        reason: String,
    },
    /// Something an operator should know: a limit, a malformed message that was survived, a port in use.
    Problem {
        /// The peer it concerns, if it is one.
        peer: Option<String>,
        /// In words, with the remedy.
        text: String,
    },
}

/// Which routes to list.
#[derive(Clone, Debug, Default)]
pub struct RouteQuery {
    /// From or to this peer only.
    pub peer: Option<String>,
    /// What was received from peers, what is advertised to them, or (neither) all we know.
    pub direction: Option<Direction>,
    /// One family only.
    pub family: Option<Family>,
    /// Routes to exactly this prefix only.
    pub prefix: Option<Prefix>,
    /// At most so many; 0: all.
    pub limit: usize,
}

/// Which side of the Rib.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Adj-RIB-In, with what import made of it.
    Received,
    /// Adj-RIB-Out.
    Advertised,
}

/// Which routes of a session are told once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// Received: the peer is asked for its routes (RFC 2918). Advertised: it is told ours.
    pub direction: Direction,
    /// One family only.
    pub family: Option<Family>,
}

/// Why nothing is told once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRefresh {
    /// Nobody has that name, or the speaker has ended.
    #[error("there is no such peer")]
    Unknown,
    /// There is no session.
    #[error("it is not Established")]
    Down,
    /// The peer cannot be asked.
    #[error(
        "it did not offer route refresh (RFC 2918) in its OPEN: it tells its routes again only in a new session"
    )]
    NotOffered,
    /// The session is without that family.
    #[error("its session does not carry {0}")]
    NotCarried(Family),
}

/// How much of an interface is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// All of it, or its carrier.
    Interface,
    /// Some addresses of ours on it.
    Addresses,
}

/// How a speaker ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// For a restart: sessions with graceful restart close without a word (or, where RFC 8538 was agreed, with a Cease that
    /// keeps routes); the others with Cease/Other Configuration Change.
    Restart,
    /// For good: Cease/Administrative Shutdown (Hard Reset where RFC 8538 demands it) with this message.
    Shutdown {
        /// RFC 9003, at most 255 octets of UTF-8.
        message: String,
    },
}

/// Events that a slow listener may be behind.
const EVENTS: usize = 4096;
/// Batches that may wait for the installer.
const INSTALLS: usize = 64;

impl Speaker {
    /// Starts with this configuration. Must be called inside a tokio runtime. Never fails: an address that cannot be
    /// listened on is a problem in [`Speaker::status`] and is tried again.
    #[must_use]
    pub fn start(config: SpeakerConfig) -> Self {
        let (events, first_listener) = broadcast::channel(EVENTS);
        let (installs_in, installs) = mpsc::channel(INSTALLS);
        let rib = RibHandle::start(Settings::from(&config), Some(installs_in), events.clone());
        let (commands, orders) = mpsc::unbounded_channel();
        drop(tokio::spawn(
            Core::new(config, rib.clone(), events.clone()).run(orders),
        ));
        Self {
            commands,
            rib,
            installs: Some(installs),
            events,
            first_listener: Mutex::new(Some(first_listener)),
        }
    }

    /// Goes over to another configuration. Peers that did not change keep their session; a changed policy is applied by
    /// looking again at what is known (and route refresh where Adj-RIB-In does not suffice), without a reset. Returns when
    /// every peer knows.
    pub async fn apply(&self, config: SpeakerConfig) {
        self.ask(|reply| Command::Apply(Box::new(config), reply))
            .await;
    }

    /// What the kernel should hold, in batches; the newest wins. Can be taken once.
    pub fn installs(&mut self) -> Option<mpsc::Receiver<Vec<Install>>> {
        self.installs.take()
    }

    /// Turns true when all initial routes are in (End-of-RIB from every peer that is up, or the deferral passed) and have gone
    /// into [`Speaker::installs`].
    #[must_use]
    pub fn complete(&self) -> watch::Receiver<bool> {
        self.rib.complete()
    }

    /// The next hops of all routes, to be answered by whoever knows the ways out of this node. Without an answer all of them are taken to
    /// lead somewhere.
    #[must_use]
    pub fn next_hops(&self) -> NextHops {
        self.rib.next_hops()
    }

    /// What happens, as it happens; a slow listener loses the oldest. The first one hears all since the start.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        let first = self
            .first_listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        first.unwrap_or_else(|| self.events.subscribe())
    }

    /// The speaker and all its peers; `None` once it has ended.
    pub async fn status(&self) -> Option<SpeakerStatus> {
        self.ask(|reply| Command::Status(Detail::Full, reply)).await
    }

    /// The same without the flight recorders of the peers, which cost most of it: for who looks again and again.
    pub async fn brief(&self) -> Option<SpeakerStatus> {
        self.ask(|reply| Command::Status(Detail::Brief, reply))
            .await
    }

    /// Returns once the task that owns the routes answers, however busy it is; false when it has ended.
    pub async fn answers(&self) -> bool {
        self.rib.counts().await.is_some()
    }

    /// Routes.
    pub async fn routes(&self, query: RouteQuery) -> Vec<RouteStatus> {
        self.rib.routes(query).await
    }

    /// Everything known of a prefix, or of the longest prefix that holds an address (a host prefix asks so).
    pub async fn explain(&self, prefix: Prefix) -> Option<Explanation> {
        self.rib.explain(prefix).await
    }

    /// How the prefixes that peers told us of and that meet one of these ranges are reached.
    pub async fn reach(&self, ranges: Vec<Prefix>) -> Vec<Reach> {
        self.rib.reach(ranges).await
    }

    /// The table as MRT records (RFC 6396), part by part. Must be called inside a tokio runtime.
    #[must_use]
    pub fn table(&self) -> mpsc::Receiver<Bytes> {
        let (sender, parts) = mpsc::channel(1);
        let rib = self.rib.clone();
        drop(tokio::spawn(async move {
            let mut place = None;
            while let Some((part, next)) = rib.dump(place).await {
                if sender.send(part).await.is_err() || next.is_none() {
                    return;
                }
                place = next;
            }
        }));
        parts
    }

    /// Asks a peer for its routes again, or tells it ours again, and says of which families.
    ///
    /// # Errors
    /// Why that cannot be.
    pub async fn refresh(&self, peer: &str, what: Refresh) -> Result<Families, NoRefresh> {
        let name = peer.to_owned();
        self.ask(|reply| Command::Refresh(name, what, reply))
            .await
            .unwrap_or(Err(NoRefresh::Unknown))
    }

    /// These were our addresses on an interface, of which so much is gone: sessions from one of them end at once, and with all of
    /// the interface those that are bound to it.
    pub fn lost(&self, interface: &str, addresses: &[IpAddr], gone: Gone) {
        let command = Command::Lost(interface.into(), addresses.into(), gone);
        drop(self.commands.send(command));
    }

    /// Ends all sessions and returns when that is said (or after two seconds, whatever peers do).
    pub async fn stop(self, how: Stop) {
        self.ask(|reply| Command::Stop(how, reply)).await;
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(question(reply)).ok()?;
        answer.await.ok()
    }
}
