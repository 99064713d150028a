//! BMP (RFC 7854): what a monitoring station is told of our peers and their routes. Here are its messages, from values to
//! octets; `collector` is the task of one station, and what there is to tell comes from `rib::monitor`.
//!
//! ```text
//! common header ─ Initiation: who we are
//!               ├ per-peer header ─┬ Peer Up: both OPENs          ├ Peer Down: why
//!               │                  ├ Route Monitoring: an UPDATE  └ Statistics Report
//!               └ Termination
//! ```

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    prefix::Family,
    wire::{Context, Message, Notification},
};

pub(crate) mod collector;

#[cfg(test)]
mod tests;

/// The version of all messages (RFC 7854 §4.1).
const VERSION: u8 = 3;
/// Octets of the common header.
const HEADER: usize = 6;

/// Types of messages (RFC 7854 §4.1).
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    RouteMonitoring = 0,
    StatisticsReport = 1,
    PeerDown = 2,
    PeerUp = 3,
    Initiation = 4,
    Termination = 5,
}

/// Which Adj-RIB-In a message tells of (RFC 7854 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// As the peer said it.
    PrePolicy,
    /// As import let it in (the L flag).
    PostPolicy,
}

bitflags::bitflags! {
    /// A set of views.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Views: u8 {
        /// [`View::PrePolicy`].
        const PRE_POLICY = 1;
        /// [`View::PostPolicy`].
        const POST_POLICY = 2;
    }
}

impl Views {
    /// The members.
    pub fn each(self) -> impl Iterator<Item = View> {
        [View::PrePolicy, View::PostPolicy]
            .into_iter()
            .filter(move |view| self.has(*view))
    }

    /// Whether `view` is in the set.
    #[must_use]
    pub const fn has(self, view: View) -> bool {
        self.contains(match view {
            View::PrePolicy => Self::PRE_POLICY,
            View::PostPolicy => Self::POST_POLICY,
        })
    }
}

/// Whom a message is about (RFC 7854 §4.2). Distinguisher 0, type Global Instance Peer: there is one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its address.
    pub address: IpAddr,
    /// Its AS number.
    pub asn: u32,
    /// Its BGP Identifier.
    pub router_id: Ipv4Addr,
}

/// How a session came to be, for Peer Up (RFC 7854 §4.10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// Our OPEN, as it was sent.
    pub sent: Bytes,
    /// The peer's OPEN, as it came.
    pub received: Bytes,
}

/// How a session ended, for Peer Down (RFC 7854 §4.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// We closed it with this.
    WeSaid(Notification),
    /// We closed it without a word, over this event of RFC 4271 §8.1; 0: none of them.
    WeLeft(u16),
    /// The peer closed it with this.
    TheySaid(Notification),
    /// It closed without a word.
    TheyLeft,
    /// The peer is no longer configured: nothing more is told of it.
    Forgotten,
}

impl Down {
    /// TcpConnectionFails (RFC 4271 §8.1.4).
    pub const CONNECTION_FAILS: u16 = 18;
    /// AutomaticStop (RFC 4271 §8.1.2).
    pub const AUTOMATIC_STOP: u16 = 8;
}

/// One figure of a Statistics Report (RFC 7854 §4.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// Prefixes rejected by inbound policy.
    Rejected(u32),
    /// Duplicate prefix advertisements.
    DuplicateAdvertisements(u32),
    /// Withdrawals of what was not there.
    DuplicateWithdraws(u32),
    /// Updates invalidated by a loop of CLUSTER_LIST.
    ClusterLoops(u32),
    /// Updates invalidated by a loop of AS_PATH.
    AsPathLoops(u32),
    /// Updates invalidated by ORIGINATOR_ID.
    OriginatorLoops(u32),
    /// Routes in Adj-RIB-In, all families.
    AdjRibIn(u64),
    /// Routes of the peer in Loc-RIB, all families.
    LocRib(u64),
    /// Routes in Adj-RIB-In of a family.
    AdjRibInOf(Family, u64),
    /// Routes of the peer in Loc-RIB of a family.
    LocRibOf(Family, u64),
    /// Updates treated as a withdrawal (RFC 7606).
    TreatedAsWithdraw(u32),
}

/// Why we end (RFC 7854 §4.5): the operator wants it so.
const ADMINISTRATIVELY_CLOSED: u16 = 0;

/// Appends the first message: who speaks (RFC 7854 §4.3).
pub fn initiation(name: &str, description: &str, out: &mut BytesMut) {
    const DESCRIPTION: u16 = 1;
    const NAME: u16 = 2;
    message(Kind::Initiation, out, |out| {
        information(DESCRIPTION, description.as_bytes(), out);
        information(NAME, name.as_bytes(), out);
    });
}

/// Appends the last message (RFC 7854 §4.5).
pub fn termination(out: &mut BytesMut) {
    const REASON: u16 = 1;
    message(Kind::Termination, out, |out| {
        information(REASON, &ADMINISTRATIVELY_CLOSED.to_be_bytes(), out);
    });
}

/// Appends the news of a session that is up since `since`.
pub fn peer_up(
    peer: &Subject,
    local: IpAddr,
    opening: &Opening,
    since: SystemTime,
    out: &mut BytesMut,
) {
    message(Kind::PeerUp, out, |out| {
        about(peer, View::PrePolicy, since, out);
        put_address(local, out);
        out.put_u16(opening.local_port);
        out.put_u16(opening.remote_port);
        out.put_slice(&opening.sent);
        out.put_slice(&opening.received);
    });
}

/// Appends the news of a session that has ended.
pub fn peer_down(peer: &Subject, down: &Down, at: SystemTime, out: &mut BytesMut) {
    message(Kind::PeerDown, out, |out| {
        about(peer, View::PrePolicy, at, out);
        match down {
            Down::WeSaid(said) => {
                out.put_u8(1);
                put_notification(said, out);
            }
            Down::WeLeft(event) => {
                out.put_u8(2);
                out.put_u16(*event);
            }
            Down::TheySaid(said) => {
                out.put_u8(3);
                put_notification(said, out);
            }
            Down::TheyLeft => out.put_u8(4),
            Down::Forgotten => out.put_u8(5),
        }
    });
}

/// Appends the UPDATEs in `updates`, whole messages with four-octet AS numbers, each as a message of its own: routes that
/// stand since `since`.
pub fn route_monitoring(
    peer: &Subject,
    view: View,
    since: SystemTime,
    mut updates: &[u8],
    out: &mut BytesMut,
) {
    while let Some((update, rest)) = first_message(updates) {
        message(Kind::RouteMonitoring, out, |out| {
            about(peer, view, since, out);
            out.put_slice(update);
        });
        updates = rest;
    }
}

/// The first of several BGP messages, and those after it.
fn first_message(messages: &[u8]) -> Option<(&[u8], &[u8])> {
    let &[high, low] = messages.get(16..18)?.first_chunk()?;
    messages.split_at_checked(usize::from(u16::from_be_bytes([high, low])))
}

/// Appends figures.
pub fn statistics_report(
    peer: &Subject,
    statistics: &[Statistic],
    at: SystemTime,
    out: &mut BytesMut,
) {
    message(Kind::StatisticsReport, out, |out| {
        about(peer, View::PrePolicy, at, out);
        out.put_u32(u32::try_from(statistics.len()).unwrap_or(u32::MAX));
        statistics.iter().for_each(|one| put_statistic(one, out));
    });
}

fn put_statistic(statistic: &Statistic, out: &mut BytesMut) {
    let counter = |kind: u16, count: u32, out: &mut BytesMut| {
        information(kind, &count.to_be_bytes(), out);
    };
    let gauge = |kind: u16, value: u64, out: &mut BytesMut| {
        information(kind, &value.to_be_bytes(), out);
    };
    let of_family = |kind: u16, family: Family, value: u64, out: &mut BytesMut| {
        out.put_u16(kind);
        out.put_u16(11);
        out.put_u16(family.afi());
        out.put_u8(family.safi());
        out.put_u64(value);
    };
    match *statistic {
        Statistic::Rejected(count) => counter(0, count, out),
        Statistic::DuplicateAdvertisements(count) => counter(1, count, out),
        Statistic::DuplicateWithdraws(count) => counter(2, count, out),
        Statistic::ClusterLoops(count) => counter(3, count, out),
        Statistic::AsPathLoops(count) => counter(4, count, out),
        Statistic::OriginatorLoops(count) => counter(5, count, out),
        Statistic::AdjRibIn(routes) => gauge(7, routes, out),
        Statistic::LocRib(routes) => gauge(8, routes, out),
        Statistic::AdjRibInOf(family, routes) => of_family(9, family, routes, out),
        Statistic::LocRibOf(family, routes) => of_family(10, family, routes, out),
        Statistic::TreatedAsWithdraw(count) => counter(11, count, out),
    }
}

/// Appends a message: the common header, what `body` writes, and the length of both.
fn message(kind: Kind, out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u8(VERSION);
    out.put_u32(0);
    out.put_u8(kind as u8);
    body(out);
    let length = out.len().saturating_sub(start);
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(start.saturating_add(1)..start.saturating_add(5)) {
        place.copy_from_slice(&length);
    }
}

/// How many messages these octets, whole messages, are.
pub(crate) fn count(mut messages: &[u8]) -> u64 {
    let mut count: u64 = 0;
    while let Some(header) = messages.first_chunk::<HEADER>() {
        let [_, length @ .., _] = *header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        messages = messages.get(length.max(HEADER)..).unwrap_or_default();
        count = count.saturating_add(1);
    }
    count
}

/// The per-peer header (RFC 7854 §4.2). AS_PATHs have four octets a number, so the A flag is never set.
fn about(peer: &Subject, view: View, time: SystemTime, out: &mut BytesMut) {
    const GLOBAL_INSTANCE: u8 = 0;
    const IPV6: u8 = 0x80;
    const POST_POLICY: u8 = 0x40;
    let mut flags = 0;
    if peer.address.is_ipv6() {
        flags |= IPV6;
    }
    if view == View::PostPolicy {
        flags |= POST_POLICY;
    }
    out.put_u8(GLOBAL_INSTANCE);
    out.put_u8(flags);
    out.put_u64(0);
    put_address(peer.address, out);
    out.put_u32(peer.asn);
    out.put_slice(&peer.router_id.octets());
    // A clock before 1970 counts as unavailable.
    let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    out.put_u32(u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
    out.put_u32(time.subsec_micros());
}

/// Sixteen octets; an IPv4 address stands in the last four.
fn put_address(address: IpAddr, out: &mut BytesMut) {
    let octets = match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
        }
        IpAddr::V6(address) => Ipv6Addr::octets(&address),
    };
    out.put_slice(&octets);
}

/// A type, a length and that many octets (RFC 7854 §4.4, §4.8).
fn information(kind: u16, value: &[u8], out: &mut BytesMut) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.put_u16(kind);
    out.put_u16(length);
    out.put_slice(value.get(..length.into()).unwrap_or_default());
}

fn put_notification(said: &Notification, out: &mut BytesMut) {
    // Only an UPDATE may not fit.
    let _ = Message::Notification(said.clone()).write(&Context::default(), out);
}
