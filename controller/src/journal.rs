//! What happened lately: a ring of facts for `routelet events`, each logged once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde::Serialize;
use tokio::sync::broadcast;
use tracing::{info, warn};

/// How many facts are kept.
const CAPACITY: usize = 2000;

/// One fact.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// Counts up from 1 for the life of the process.
    pub(crate) number: u64,
    /// When.
    pub(crate) at: SystemTime,
    /// What kind of thing happened.
    pub(crate) kind: Kind,
    /// Which peer it concerns, if one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<String>,
    /// In words.
    pub(crate) text: String,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A session came up or went down.
    Session,
    /// Routes in the kernel.
    Kernel,
    /// An interface or address.
    Link,
    /// The configuration.
    Config,
    /// Start, drain, stop.
    Daemon,
    /// Something an operator should look at.
    Problem,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Session,
        Self::Kernel,
        Self::Link,
        Self::Config,
        Self::Daemon,
        Self::Problem,
    ];

    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Kernel => "kernel",
            Self::Link => "link",
            Self::Config => "config",
            Self::Daemon => "daemon",
            Self::Problem => "problem",
        }
    }
}

/// The ring and those who follow it.
#[derive(Debug)]
pub(crate) struct Journal {
    ring: Mutex<Ring>,
    followers: broadcast::Sender<Entry>,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    last: u64,
    /// How many of each kind there have been, whether they are kept or not.
    counts: BTreeMap<Kind, u64>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            ring: Mutex::default(),
            followers: broadcast::channel(256).0,
        }
    }
}

impl Journal {
    /// Writes a fact down and logs it.
    pub(crate) fn write(&self, kind: Kind, peer: Option<String>, text: impl Into<String>) {
        let text = text.into();
        match (kind, &peer) {
            (Kind::Problem, Some(peer)) => warn!(%peer, "{text}"),
            (Kind::Problem, None) => warn!("{text}"),
            (_, Some(peer)) => info!(%peer, "{text}"),
            (_, None) => info!(kind = kind.word(), "{text}"),
        }
        self.note(kind, peer, text);
    }

    /// Writes down a fact that is in the log already.
    pub(crate) fn note(&self, kind: Kind, peer: Option<String>, text: impl Into<String>) {
        let mut ring = self.ring();
        ring.last = ring.last.saturating_add(1);
        let count = ring.counts.entry(kind).or_default();
        *count = count.saturating_add(1);
        let entry = Entry {
            number: ring.last,
            at: SystemTime::now(),
            kind,
            peer,
            text: text.into(),
        };
        if ring.entries.len() >= CAPACITY {
            ring.entries.pop_front();
        }
        ring.entries.push_back(entry.clone());
        // Inside the lock, so that no follower misses or doubles an entry; nobody following is no error.
        let _ = self.followers.send(entry);
    }

    /// How many facts of each kind there have been since the start.
    pub(crate) fn counts(&self) -> BTreeMap<Kind, u64> {
        self.ring().counts.clone()
    }

    /// The entries that are kept, the oldest first.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.ring().entries.iter().cloned().collect()
    }

    /// The entries that are kept, and those to come.
    pub(crate) fn follow(&self) -> (Vec<Entry>, broadcast::Receiver<Entry>) {
        let ring = self.ring();
        (
            ring.entries.iter().cloned().collect(),
            self.followers.subscribe(),
        )
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
