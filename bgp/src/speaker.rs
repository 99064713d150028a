//! The front door: a speaker that is given a [`SpeakerConfig`] and tells what should be in the kernel.

use std::net::IpAddr;

use tokio::sync::{broadcast, mpsc, watch};

use crate::{
    config::SpeakerConfig,
    prefix::{Family, Prefix},
    rib::task::Install,
    status::{Explanation, RouteStatus, SpeakerStatus},
};

/// A running speaker. Dropping it closes its sessions without a word, so that peers which agreed on graceful restart keep
/// its routes.
#[derive(Debug)]
pub struct Speaker {}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Adj-RIB-In, with what import made of it.
    Received,
    /// Adj-RIB-Out.
    Advertised,
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

impl Speaker {
    /// Starts with this configuration. Must be called inside a tokio runtime. Never fails: an address that cannot be
    /// listened on is a problem in [`Speaker::status`] and is tried again.
    pub fn start(config: SpeakerConfig) -> Self {
        let _ = config;
        Self {}
    }

    /// Goes over to another configuration. Peers that did not change keep their session; a changed policy is applied by
    /// looking again at what is known (and route refresh where Adj-RIB-In does not suffice), without a reset.
    pub async fn apply(&self, _config: SpeakerConfig) {}

    /// What the kernel should hold, in batches; the newest wins. Can be taken once.
    pub fn installs(&mut self) -> Option<mpsc::Receiver<Vec<Install>>> {
        None
    }

    /// Turns true when all initial routes are in: End-of-RIB from every peer that is up, or the deferral passed.
    pub fn complete(&self) -> watch::Receiver<bool> {
        watch::channel(false).1
    }

    /// What happens, as it happens; a slow listener loses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        broadcast::channel(1).1
    }

    /// The speaker and all its peers.
    pub async fn status(&self) -> Option<SpeakerStatus> {
        None
    }

    /// Routes.
    pub async fn routes(&self, _query: RouteQuery) -> Vec<RouteStatus> {
        Vec::new()
    }

    /// Everything known of a prefix, or of the longest prefix that holds an address (a host prefix asks so).
    pub async fn explain(&self, _prefix: Prefix) -> Option<Explanation> {
        None
    }

    /// An interface is gone or lost its carrier, and these were our addresses on it: sessions from one of them end at once.
    pub fn lost(&self, _interface: &str, _addresses: &[IpAddr]) {}

    /// Ends all sessions and returns when that is said.
    pub async fn stop(self, _how: Stop) {}
}
