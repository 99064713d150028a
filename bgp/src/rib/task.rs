//! What the task that owns the Rib hears and says: the only words that sessions, the Rib and the installer share.
//!
//! In: [`ToRib`], one bounded channel, so that a busy Rib slows reading from sockets. Out: to a session a [`Outbound`]
//! channel bounded in octets, which the Rib never waits for: a session that is full is marked, gets its own set of
//! pending prefixes, and says [`PeerMessage::Writable`] when it has drained. To the installer: batches of [`Install`].

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    config::PeerConfig,
    prefix::{Families, Prefix},
    status::PeerKind,
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
    /// The session ended.
    Down(Ending),
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
        /// A stale route yields to any fresh one (RFC 8538 was agreed and the hold timer ended the session).
        yields: bool,
    },
}

/// An established session, as the Rib needs to know it.
#[derive(Debug)]
pub struct Session {
    /// The peer's configuration: policies, next hops, limits.
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
    /// Families it will send End-of-RIB for, and we wait for: it speaks graceful restart and has not itself just restarted.
    pub expects_end_of_rib: Families,
    /// Families whose forwarding state it preserved over its restart (F bit); routes of others from before are gone.
    pub preserved: Families,
    /// Where encoded messages go.
    pub outbound: Outbound,
}

/// The way from the Rib to one session's socket: bounded in octets, never waited for.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Encoded messages, each item one or more whole messages, shared between sessions that say the same.
    pub messages: tokio::sync::mpsc::UnboundedSender<Bytes>,
    /// How many octets are queued and how many may be.
    pub room: Arc<Room>,
    /// Orders to the session.
    pub orders: tokio::sync::mpsc::UnboundedSender<Order>,
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
    /// The next hops of the best route and its equals, with weights (1: equal); empty: no route.
    pub next_hops: SmallVec<[(NextHop, u16); 1]>,
    /// The interface of the session it came over, for link-local next hops.
    pub interface: Option<Arc<str>>,
}
