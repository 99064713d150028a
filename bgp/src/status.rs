//! What is: the speaker, its peers and its routes as the command line shows them. All of it serialises.

use std::{collections::BTreeMap, net::IpAddr, time::SystemTime};

use serde::Serialize;

use crate::{
    bfd::packet::{Discard, State},
    config::Source,
    prefix::{Family, Prefix},
};

/// The speaker as a whole.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpeakerStatus {
    /// Our AS number.
    pub asn: u32,
    /// Our BGP Identifier.
    pub router_id: std::net::Ipv4Addr,
    /// Addresses we accept connections on.
    pub listen: Vec<std::net::SocketAddr>,
    /// All initial routes are in: End-of-RIB from every peer that is up, or the deferral passed.
    pub complete: bool,
    /// Prefixes known, by family.
    pub prefixes: BTreeMap<String, usize>,
    /// Distinct sets of path attributes in memory.
    pub attribute_sets: usize,
    /// Peers by name.
    pub peers: BTreeMap<String, PeerStatus>,
    /// BFD packets that were thrown away and are of no peer we know, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bfd_discarded: BTreeMap<Discard, u64>,
    /// Who is told over BMP, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub collectors: BTreeMap<String, CollectorStatus>,
    /// MRT files, where any are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mrt: Option<MrtStatus>,
    /// What stands in the way as a whole (a port in use), in words with the remedy.
    pub problems: Vec<String>,
}

/// One collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectorStatus {
    /// Where it listens.
    pub address: std::net::SocketAddr,
    /// Whether we are connected.
    pub connected: bool,
    /// Since when we are, or are not.
    pub since: SystemTime,
    /// How often we were.
    pub connections: u64,
    /// Messages for it.
    pub messages: u64,
    /// Octets of them.
    pub octets: u64,
    /// What ended the last connection or dial, in words.
    pub last_error: Option<String>,
}

/// What is written to MRT files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MrtStatus {
    /// Where they are written to.
    pub directory: std::path::PathBuf,
    /// Files that were completed.
    pub files: u64,
    /// Octets written.
    pub octets: u64,
    /// Records that were lost because they could not be written, or not soon enough.
    pub lost: u64,
    /// What went wrong last, in words, until something is written again.
    pub problem: Option<String>,
}

/// One peer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Its address; unspecified while it is known by its link only.
    pub address: IpAddr,
    /// The interface, where the address is link-local or the peer known by its link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Its AS number, from its OPEN if there was one, else the configured one if that is a number.
    pub asn: Option<u32>,
    /// The AS number we show it.
    pub local_asn: u32,
    /// `internal` or `external`, once known.
    pub kind: Option<PeerKind>,
    /// A node of the cluster.
    pub mesh: bool,
    /// State of the session (RFC 4271 §8.2.2).
    pub state: SessionState,
    /// Since when it is in this state.
    pub since: SystemTime,
    /// How often it was established.
    pub established_count: u64,
    /// What ended the last session or attempt, in words.
    pub last_error: Option<String>,
    /// What to do about it, if something is known ("MD5 on one side only?").
    pub hint: Option<String>,
    /// The NOTIFICATION, of whichever side, that ended the last session or, where there was none, the last attempt.
    pub last_notification: Option<NotificationStatus>,
    /// What was agreed, while it is up.
    pub session: Option<SessionStatus>,
    /// BFD, where it is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bfd: Option<BfdStatus>,
    /// Counts by family.
    pub families: BTreeMap<Family, FamilyCounts>,
    /// Messages since the process started.
    pub messages: MessageCounts,
    /// The last messages and state changes, the oldest first.
    pub recorder: Vec<Record>,
}

impl PeerStatus {
    /// Where it is: its address, with its interface where that says more, or the interface alone.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.interface {
            None => self.address.to_string(),
            Some(interface) if self.address.is_unspecified() => interface.clone(),
            Some(interface) => format!("{}%{interface}", self.address),
        }
    }
}

/// Internal or external.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerKind {
    /// iBGP.
    Internal,
    /// eBGP.
    External,
}

/// RFC 4271 §8.2.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum SessionState {
    /// Nothing runs.
    #[default]
    Idle,
    /// Dialling.
    Connect,
    /// Waiting to dial again, listening.
    Active,
    /// Our OPEN is sent.
    OpenSent,
    /// Both OPENs are there.
    OpenConfirm,
    /// Routes flow.
    Established,
}

/// A NOTIFICATION in numbers (RFC 4271 §4.5); what it means is in the words of the last error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationStatus {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Who said it.
    pub from: End,
}

/// One end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// This speaker.
    Us,
    /// The peer.
    Peer,
}

/// BFD with one peer. Intervals are in milliseconds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BfdStatus {
    /// Our state.
    pub state: State,
    /// Since when we are in it.
    pub since: SystemTime,
    /// More than one hop away (RFC 5883).
    pub multihop: bool,
    /// The address we speak from, once there is one.
    pub local: Option<IpAddr>,
    /// Our name for the session.
    pub discriminator: u32,
    /// What we want.
    pub ours: BfdIntervals,
    /// The other side, while it is heard.
    pub remote: Option<BfdRemote>,
    /// Time between two packets of ours; `None`: the peer wants none.
    pub transmit_ms: Option<u64>,
    /// How long the peer may be silent, while it is heard.
    pub detection_ms: Option<u64>,
    /// How often it came up.
    pub ups: u64,
    /// How often it went down, for whatever reason.
    pub downs: u64,
    /// Packets received that were used.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// Packets of this peer that were thrown away, by reason.
    pub discarded: BTreeMap<Discard, u64>,
    /// Why it last went down, in words.
    pub last_down: Option<String>,
    /// What keeps us from speaking, in words.
    pub problem: Option<String>,
}

/// What a side wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BfdIntervals {
    /// The fastest it takes packets.
    pub min_rx_ms: u64,
    /// The fastest it sends them.
    pub min_tx_ms: u64,
    /// Packets that may be missed.
    pub multiplier: u8,
}

/// The other side.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BfdRemote {
    /// Its state.
    pub state: State,
    /// Its name for the session.
    pub discriminator: u32,
    /// What it wants.
    pub wants: BfdIntervals,
    /// Why it last left Up, in words.
    pub diagnostic: String,
    /// It goes on where its control plane fails (C bit).
    pub control_plane_independent: bool,
}

/// What was agreed on a session.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    /// Their BGP Identifier.
    pub router_id: std::net::Ipv4Addr,
    /// Our end of the connection.
    pub local: std::net::SocketAddr,
    /// Their end.
    pub remote: std::net::SocketAddr,
    /// Hold time, seconds; 0: none.
    pub hold_seconds: u64,
    /// Keepalive interval, seconds.
    pub keepalive_seconds: u64,
    /// Families carried.
    pub families: Vec<Family>,
    /// Capabilities in words: ours, theirs, agreed.
    pub capabilities: Vec<CapabilityStatus>,
    /// Their software version, where they say it.
    pub software: Option<String>,
    /// Their host name, where they say it.
    pub host: Option<String>,
    /// What its segments are signed with, where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_with: Option<SignedWith>,
    /// Settings, as the manifests call them, that changed since its OPEN: they wait for the next session.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<&'static str>,
}

/// What signs a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignedWith {
    /// The current MD5 key of its password.
    Current,
    /// The MD5 key before it: the roll is not over.
    Previous,
    /// Keys of the TCP Authentication Option.
    #[serde(rename = "tcpAO")]
    TcpAo,
}

/// One capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CapabilityStatus {
    /// Its name.
    pub name: String,
    /// We offered it.
    pub ours: bool,
    /// They offered it.
    pub theirs: bool,
}

/// Counts of routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyCounts {
    /// In Adj-RIB-In.
    pub received: usize,
    /// … that import accepted and that are eligible.
    pub accepted: usize,
    /// … kept from before a restart.
    pub stale: usize,
    /// … refused because they do not lead to the owner of their prefix ([`crate::owners`]).
    pub refused_by_origin: usize,
    /// … refused because they have been here: our AS number, BGP Identifier or cluster ID stands in them. They do not count
    /// against the maximum, and no more than the maximum of them are kept.
    pub looped: usize,
    /// In Adj-RIB-Out.
    pub advertised: usize,
    /// Their End-of-RIB was seen.
    pub end_of_rib: bool,
}

/// Counts of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageCounts {
    /// UPDATEs received.
    pub updates_in: u64,
    /// UPDATEs sent.
    pub updates_out: u64,
    /// All messages received.
    pub messages_in: u64,
    /// All messages sent.
    pub messages_out: u64,
    /// UPDATEs with faults that RFC 7606 let the session survive.
    pub faulty: u64,
}

/// One entry of a peer's flight recorder.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When.
    pub at: SystemTime,
    /// `in`, `out` or `state`.
    pub kind: &'static str,
    /// In words.
    pub what: String,
}

/// One route, as `routelet routes` and `explain` show it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// The prefix.
    pub prefix: Prefix,
    /// The path identifier, where add-path is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_id: Option<u32>,
    /// Who told us; `None`: we originate it.
    pub from: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// Next hop.
    pub next_hop: Option<IpAddr>,
    /// AS path as text.
    pub as_path: String,
    /// ORIGIN.
    pub origin: crate::wire::Origin,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Communities of all kinds as text.
    pub communities: Vec<String>,
    /// ORIGINATOR_ID and CLUSTER_LIST as text, where reflected.
    pub reflected: Option<String>,
    /// When it came.
    pub since: SystemTime,
    /// What became of it.
    pub fate: Fate,
    /// Kept from before its peer's restart.
    pub stale: bool,
}

/// What became of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "is", content = "because")]
pub enum Fate {
    /// It is the best.
    Best,
    /// It is used beside the best.
    Multipath,
    /// It lost, at this step of the decision, in words.
    Lost(String),
    /// It may not be used: import rule, loop, …, in words.
    Refused(String),
}

/// How a prefix is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The prefix.
    pub prefix: Prefix,
    /// Who told us the best route, or, where none may be used, one that is refused.
    pub from: Option<String>,
    /// Where the best route leads, and those used beside it; empty: none may be used.
    pub next_hops: Vec<IpAddr>,
    /// A route that is refused, where none may be used.
    pub refused: Option<Refused>,
}

/// A route that may not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Who told us.
    pub from: String,
    /// Why it may not be used, in words.
    pub why: String,
}

/// Why the best route to a prefix is the best: what `explain` shows.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The prefix asked for, or the longest one that holds the address asked for.
    pub prefix: Prefix,
    /// Every route to it, the best first.
    pub candidates: Vec<RouteStatus>,
    /// The step that decided, in words; `None` where there was nothing to choose.
    pub decided_by: Option<String>,
    /// Peers it is advertised to.
    pub advertised_to: Vec<String>,
    /// Routes to longer prefixes that hold the address asked for too, but may not be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<RouteStatus>,
}
