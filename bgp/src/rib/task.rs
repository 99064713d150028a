//! What the task that owns the Rib hears and says: the only words that sessions, the Rib and the installer share.
//!
//! In: [`ToRib`], one bounded channel, so that a busy Rib slows reading from sockets. Out: to a session a [`Outbound`]
//! channel bounded in octets, which the Rib never waits for: a session that is full is marked, gets its own set of
//! pending prefixes, and says [`PeerMessage::Writable`] when it has drained. To the installer: batches of [`Install`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

mod driver;

use driver::Task;

use crate::{
    bmp::{Down, Opening, Views},
    config::{Multipath, Origination, PeerConfig, SpeakerConfig},
    owners::Owners,
    prefix::{Families, Family, Prefix},
    rib::Place,
    speaker::{Event, NoRefresh, Refresh, RouteQuery},
    status::{Explanation, FamilyCounts, PeerKind, Reach, RouteStatus},
    wire::{self, NextHop, Notification, RouteRefresh, Update},
};

/// A configured or accepted peer: given once by the speaker, never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u32);

/// What a session says to the Rib. Messages of one session arrive in the order they were sent.
#[derive(Debug)]
pub enum PeerMessage {
    /// The session is Established. Anything kept from an earlier session of this peer is stale from here on, or gone, as
    /// [`Session::preserved`] says.
    Established(Box<Session>),
    /// UPDATEs as they came, several at once where the socket held several.
    Updates(Vec<Update>),
    /// The peer asks for a refresh, or marks the begin or the end of one (RFC 2918, RFC 7313).
    Refresh(RouteRefresh),
    /// The session ended: what becomes of its routes, and how it came about.
    Down(Ending, Down),
    /// Its outbound queue, once full, has room again.
    Writable,
}

/// How a session ended, as far as its routes go (`design.md` §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The path is dead, or the peer is gone: its routes leave at once.
    Gone,
    /// A restart: routes of these families stay as stale until End-of-RIB of the next session, or until this long has
    /// passed without one (RFC 4724 §4.2).
    Restarting {
        /// Families whose forwarding state the peer preserves.
        families: Families,
        /// Restart time it told us.
        restart_time: Duration,
        /// How long they stay after that as a last resort (RFC 9494).
        long_lived: LongLived,
        /// A stale route yields to any fresh one (RFC 8538 was agreed and the hold timer ended the session).
        yields: bool,
    },
}

/// The long-lived stale time of each family (RFC 9494); zero: nothing stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LongLived {
    v4: Duration,
    v6: Duration,
}

impl LongLived {
    /// Nothing stays.
    pub const NONE: Self = Self {
        v4: Duration::ZERO,
        v6: Duration::ZERO,
    };

    /// How long routes of a family stay.
    #[must_use]
    pub const fn of(self, family: Family) -> Duration {
        match family {
            Family::IPv4 => self.v4,
            Family::IPv6 => self.v6,
        }
    }

    /// Routes of a family stay so long.
    pub const fn set(&mut self, family: Family, time: Duration) {
        match family {
            Family::IPv4 => self.v4 = time,
            Family::IPv6 => self.v6 = time,
        }
    }

    /// The longest of them.
    #[must_use]
    pub fn longest(self) -> Duration {
        self.v4.max(self.v6)
    }

    /// The families whose routes stay.
    #[must_use]
    pub fn families(self) -> Families {
        let stays = |family: &Family| !self.of(*family).is_zero();
        Family::ALL.into_iter().filter(stays).collect()
    }
}

/// An established session, as the Rib needs to know it.
#[derive(Debug)]
pub struct Session {
    /// The peer's configuration as the session knew it. What counts is the last [`PeerChange::Set`], which may be newer.
    pub config: Arc<PeerConfig>,
    /// What was agreed.
    pub context: wire::Context,
    /// Internal or external.
    pub kind: PeerKind,
    /// Its AS number.
    pub asn: u32,
    /// Its BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Its address.
    pub address: IpAddr,
    /// Our address on this session.
    pub local_address: IpAddr,
    /// Our link-local address on the session's interface, for IPv6 next hops to a directly connected peer (RFC 2545 §3).
    pub local_link_local: Option<Ipv6Addr>,
    /// The interface of the session where its addresses are link-local, for next hops that are.
    pub interface: Option<Arc<str>>,
    /// Whether either side may ask the other for its routes again.
    pub refresh: Refreshing,
    /// Families it will send End-of-RIB for, and we wait for: it speaks graceful restart and has not itself just restarted.
    pub expects_end_of_rib: Families,
    /// Families whose forwarding state it preserved over its restart (F bit); routes of others from before are gone.
    pub preserved: Families,
    /// It knows long-lived stale routes, and may be told of them (RFC 9494 §4.3).
    pub knows_long_stale: bool,
    /// Both OPENs, for who monitors us.
    pub opening: Arc<Opening>,
    /// Where encoded messages go.
    pub outbound: Outbound,
}

/// What was agreed on route refresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refreshing {
    /// Nothing.
    #[default]
    No,
    /// RFC 2918.
    Plain,
    /// RFC 7313: begin and end are marked.
    Enhanced,
}

/// The way from the Rib to one session's socket: bounded in octets, never waited for.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Encoded messages, each item one or more whole messages, shared between sessions that say the same.
    pub messages: mpsc::UnboundedSender<Bytes>,
    /// How many octets are queued and how many may be.
    pub room: Arc<Room>,
    /// Orders to the session. Boxed: a channel holds room for 32, and few sessions ever get one.
    pub orders: mpsc::UnboundedSender<Box<Order>>,
}

/// The octets waiting in a session's outbound queue.
#[derive(Debug, Default)]
pub struct Room {
    /// Octets queued: the Rib adds, the session subtracts when they are written to the socket.
    pub queued: std::sync::atomic::AtomicUsize,
    /// The Rib found it full and wants [`PeerMessage::Writable`].
    pub awaited: std::sync::atomic::AtomicBool,
}

impl Room {
    /// Octets beyond which nothing more is queued: what a slow peer may cost.
    pub const LIMIT: usize = 256 * 1024;

    /// So many octets more are queued.
    pub(super) fn add(&self, octets: usize) {
        self.queued.fetch_add(octets, Ordering::SeqCst);
    }

    /// So many were written. Says whether the Rib waits to hear that there is room again.
    pub fn subtract(&self, octets: usize) -> bool {
        let before = self.queued.fetch_sub(octets, Ordering::AcqRel);
        let left = before.saturating_sub(octets);
        left <= Self::LIMIT / 2 && self.awaited.swap(false, Ordering::AcqRel)
    }

    /// Whether nothing more may be queued; then it says so when that has changed.
    pub(super) fn is_full(&self) -> bool {
        if self.queued.load(Ordering::SeqCst) < Self::LIMIT {
            return false;
        }
        self.awaited.store(true, Ordering::SeqCst);
        // It may have drained in between, before it could see that we wait. Read by a write: so either we see what it
        // subtracted, or it sees that we wait.
        self.queued.fetch_add(0, Ordering::SeqCst) >= Self::LIMIT
    }
}

/// A collector's connection: given once, never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectorId(pub u64);

/// What the task of a collector says to the Rib.
#[derive(Debug)]
pub enum CollectorMessage {
    /// It is connected, and hears all that is known and then all that changes, until its [`Feed`] is dropped: so it learns
    /// that it is too far behind, and has to begin anew.
    Connected(Box<Feed>),
    /// Its queue, once full, has room again.
    Writable,
    /// The connection is over.
    Gone,
}

/// The way from the Rib to one collector, bounded in octets, never waited for; and what it wants to hear.
#[derive(Debug)]
pub struct Feed {
    /// Which Adj-RIB-In it is told of.
    pub views: Views,
    /// How often it gets a Statistics Report of each peer.
    pub statistics: Option<Duration>,
    /// Encoded messages, each item one or more whole messages.
    pub messages: mpsc::UnboundedSender<Bytes>,
    /// How many octets are queued and how many may be.
    pub room: Arc<Room>,
}

/// What the Rib tells a session to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Close with this NOTIFICATION; come back no sooner than `stay_away`.
    Close {
        /// What the peer is told.
        notification: Notification,
        /// In words, for status.
        reason: String,
        /// How long to stay away.
        stay_away: Duration,
    },
}

/// What the installer should have for one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// The prefix.
    pub prefix: Prefix,
    /// Where the best route and its equals lead, in stable order, none twice; empty: no route.
    pub next_hops: SmallVec<[Hop; 1]>,
}

/// One of the next hops of an [`Install`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its address.
    pub next_hop: NextHop,
    /// The interface of the session it was learned over, where link-local addresses are used on it.
    pub interface: Option<Arc<str>>,
    /// Its share of the traffic, 1–256, from the link bandwidth community if all the routes have one; else 1.
    pub weight: u16,
}

/// What concerns the Rib as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Our AS number.
    pub asn: u32,
    /// Our BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Our cluster ID (RFC 4456 §7).
    pub cluster_id: Ipv4Addr,
    /// Equal-cost multipath.
    pub multipath: Multipath,
    /// Longest wait for End-of-RIB after the start (RFC 4724 §4.1).
    pub deferral: Duration,
    /// RFC 8326, as initiator.
    pub draining: bool,
    /// Between equal external routes the one that is the best stays so (RFC 5004).
    pub stable: bool,
    /// What we originate.
    pub originate: BTreeMap<Prefix, Origination>,
    /// Whose prefixes are whose.
    pub owners: Arc<Owners>,
}

impl From<&SpeakerConfig> for Settings {
    fn from(config: &SpeakerConfig) -> Self {
        Self {
            asn: config.asn,
            router_id: config.router_id,
            cluster_id: config.cluster_id,
            multipath: config.multipath,
            deferral: config.deferral,
            draining: config.draining,
            stable: true,
            originate: config.originate.clone(),
            owners: config.owners.clone(),
        }
    }
}

/// One step from the peers the Rib knows to the peers it should know.
#[derive(Clone, Debug)]
pub enum PeerChange {
    /// A peer is new, or its configuration is. Policies, limits and next hops are applied to a running session; what a
    /// session agrees in its OPEN is not the Rib's business.
    Set {
        /// Which.
        peer: PeerId,
        /// Its name in the configuration (of a range: the name its member is shown by).
        name: Arc<str>,
        /// How it is treated.
        config: Arc<PeerConfig>,
    },
    /// A peer is gone for good, and with it at once all it told us.
    Remove(PeerId),
}

/// What the task hears.
#[derive(Debug)]
pub enum ToRib {
    /// A session speaks.
    Peer(PeerId, PeerMessage),
    /// The configuration changed; all of it in one message, so that peers which stay alike stay together.
    Configure(Box<Settings>, Vec<PeerChange>),
    /// Ask this peer for its routes again, or tell it ours.
    Refresh(
        PeerId,
        Refresh,
        oneshot::Sender<Result<Families, NoRefresh>>,
    ),
    /// Counts.
    Counts(oneshot::Sender<RibCounts>),
    /// Routes.
    Routes(RouteQuery, oneshot::Sender<Vec<RouteStatus>>),
    /// All about one prefix.
    Explain(Prefix, oneshot::Sender<Option<Explanation>>),
    /// How ranges are reached.
    Reach(Vec<Prefix>, oneshot::Sender<Vec<Reach>>),
    /// The next part of the table as MRT records.
    Dump(Option<Place>, oneshot::Sender<(Bytes, Option<Place>)>),
    /// Next hops that lead nowhere.
    Unresolved(BTreeSet<IpAddr>),
    /// A collector speaks.
    Collector(CollectorId, CollectorMessage),
}

/// Counts, cheap to ask for.
#[derive(Clone, Debug, Default)]
pub struct RibCounts {
    /// [`crate::status::SpeakerStatus::complete`].
    pub complete: bool,
    /// Prefixes with at least one route, by family.
    pub prefixes: BTreeMap<Family, usize>,
    /// Distinct attribute sets in memory.
    pub attribute_sets: usize,
    /// By peer.
    pub peers: BTreeMap<PeerId, PeerCounts>,
}

/// What the Rib counts for one peer.
#[derive(Clone, Debug, Default)]
pub struct PeerCounts {
    /// Routes by family.
    pub families: BTreeMap<Family, FamilyCounts>,
    /// UPDATEs handed to its sessions since it is configured.
    pub updates_out: u64,
    /// Prefixes that wait until it has room, both families together.
    pub waiting: usize,
}

/// The way to the task. Cheap to clone; the task ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct RibHandle {
    sender: mpsc::Sender<ToRib>,
    complete: watch::Receiver<bool>,
    next_hops: watch::Receiver<BTreeSet<IpAddr>>,
}

/// What the Rib asks of whoever knows the ways out of this node: which next hops lead anywhere.
#[derive(Debug)]
pub struct NextHops {
    asked: watch::Receiver<BTreeSet<IpAddr>>,
    /// Who answers does not keep the task alive.
    answer: mpsc::WeakSender<ToRib>,
}

impl NextHops {
    /// The next hops of all routes but link-local ones, once they have changed; `None` when the task has ended.
    pub async fn changed(&mut self) -> Option<BTreeSet<IpAddr>> {
        self.asked.changed().await.ok()?;
        Some(self.asked.borrow_and_update().clone())
    }

    /// The way back.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        Verdict(self.answer.clone())
    }
}

/// The way of the answer.
#[derive(Clone, Debug)]
pub struct Verdict(mpsc::WeakSender<ToRib>);

impl Verdict {
    /// These next hops lead nowhere, and of those that were asked about no others.
    ///
    /// # Errors
    /// [`Ended`] when the task has ended.
    pub async fn unresolved(&self, next_hops: BTreeSet<IpAddr>) -> Result<(), Ended> {
        let rib = self.0.upgrade().ok_or(Ended)?;
        let told = rib.send(ToRib::Unresolved(next_hops)).await;
        told.map_err(|_| Ended)
    }
}

/// The task is gone: the speaker is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task that owns the Rib has ended")]
pub struct Ended;

impl RibHandle {
    /// Starts the task, on a thread of its own. It waits for the first [`RibHandle::configure`] before it can be
    /// complete. `installs` gets what the kernel should hold, in batches; `None`: nobody wants it. Must be called inside a
    /// tokio runtime.
    #[must_use]
    pub fn start(
        settings: Settings,
        installs: Option<mpsc::Sender<Vec<Install>>>,
        events: broadcast::Sender<Event>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (announce, complete) = watch::channel(false);
        let (ask, next_hops) = watch::channel(BTreeSet::new());
        let task = Task {
            receiver,
            installs,
            events,
            complete: announce,
            next_hops: ask,
        };
        task.start(settings);
        Self {
            sender,
            complete,
            next_hops,
        }
    }

    /// A session speaks; waits while the Rib is busy.
    ///
    /// # Errors
    /// [`Ended`] when the task has ended.
    pub async fn send(&self, peer: PeerId, message: PeerMessage) -> Result<(), Ended> {
        self.tell(ToRib::Peer(peer, message)).await
    }

    /// The channel itself, for a session that waits for room beside other things.
    pub(crate) fn sender(&self) -> mpsc::Sender<ToRib> {
        self.sender.clone()
    }

    /// The configuration: settings as a whole, and what changes among the peers. A peer must be set before its session is
    /// established.
    ///
    /// # Errors
    /// [`Ended`] when the task has ended.
    pub async fn configure(&self, settings: Settings, peers: Vec<PeerChange>) -> Result<(), Ended> {
        self.tell(ToRib::Configure(Box::new(settings), peers)).await
    }

    /// Asks a peer for its routes again (RFC 2918 §3), or tells it ours again, and says of which families.
    ///
    /// # Errors
    /// Why that cannot be; [`NoRefresh::Unknown`] too when the task has ended.
    pub async fn refresh(&self, peer: PeerId, what: Refresh) -> Result<Families, NoRefresh> {
        self.ask(|reply| ToRib::Refresh(peer, what, reply))
            .await
            .unwrap_or(Err(NoRefresh::Unknown))
    }

    /// Counts of everything; `None` when the task has ended.
    pub async fn counts(&self) -> Option<RibCounts> {
        self.ask(ToRib::Counts).await
    }

    /// Routes; none when the task has ended.
    pub async fn routes(&self, query: RouteQuery) -> Vec<RouteStatus> {
        self.ask(|reply| ToRib::Routes(query, reply))
            .await
            .unwrap_or_default()
    }

    /// All about a prefix, or about the longest known one that holds it where it is a host prefix.
    pub async fn explain(&self, prefix: Prefix) -> Option<Explanation> {
        self.ask(|reply| ToRib::Explain(prefix, reply))
            .await
            .flatten()
    }

    /// How what meets these ranges is reached; nothing when the task has ended.
    pub async fn reach(&self, ranges: Vec<Prefix>) -> Vec<Reach> {
        self.ask(|reply| ToRib::Reach(ranges, reply))
            .await
            .unwrap_or_default()
    }

    /// The part of the table at `place`, at first the index of peers, as MRT records (RFC 6396), and where it goes on; `None`
    /// when the task has ended.
    pub async fn dump(&self, place: Option<Place>) -> Option<(Bytes, Option<Place>)> {
        self.ask(|reply| ToRib::Dump(place, reply)).await
    }

    /// Turns true when all initial routes are in ([`Settings::deferral`]); never false again.
    #[must_use]
    pub fn complete(&self) -> watch::Receiver<bool> {
        self.complete.clone()
    }

    /// What is asked of whoever knows the ways out of this node.
    #[must_use]
    pub fn next_hops(&self) -> NextHops {
        NextHops {
            asked: self.next_hops.clone(),
            answer: self.sender.downgrade(),
        }
    }

    async fn tell(&self, message: ToRib) -> Result<(), Ended> {
        self.sender.send(message).await.map_err(|_| Ended)
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> ToRib) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(question(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// Messages that may wait for the Rib. Each may hold a socket buffer's worth of UPDATEs, so this bounds memory, and
/// slows reading from sockets while the Rib is busy.
const QUEUE: usize = 64;
