//! The codec: bytes to messages and back, without clock or I/O (RFC 4271 §4).
//!
//! A message is framed by its length field first and then read whole, so a parser never waits for more. What was
//! negotiated comes in as [`Context`]; the codec itself has no state.
//!
//! ```text
//! octets ─ frame ─> Frame ─ message ─> Message      (Message::take does both and takes the octets off)
//! Message ─ write ─> octets                         (update::announce, withdraw, end_of_rib: packed UPDATEs)
//! WireError ─ notification ─> Notification          (what ends a session; what does not is an update::Fault)
//! ```

use crate::prefix::{Families, Prefix};

pub mod attribute;
pub mod capability;
mod error;
mod message;
mod nlri;
pub mod notification;
pub mod open;
pub(crate) mod read;
pub mod refresh;
pub mod update;
mod words;

pub use attribute::{
    Aggregator, AsPath, Attributes, Community, ExtendedCommunity, LargeCommunity, NextHop, Origin,
    Partial, Segment, SegmentKind, Unknown, UnknownCommunity,
};
pub use capability::Capability;
pub use error::WireError;
pub use message::{Frame, Limit, frame};
pub use notification::{Cease, Notification};
pub use open::Open;
pub use refresh::RouteRefresh;
pub use update::Update;

/// Octets of a header: marker, length, type (RFC 4271 §4.1).
pub const HEADER: usize = 19;
/// Octets of the longest message (RFC 4271 §4.1); OPEN and KEEPALIVE are never longer (RFC 8654 §4).
pub const MAX_MESSAGE: usize = 4096;
/// Octets of the longest message between speakers that agreed on extended messages (RFC 8654 §3).
pub const MAX_EXTENDED_MESSAGE: usize = 65535;

/// Stands for an AS number that does not fit into two octets (RFC 6793 §9).
pub const AS_TRANS: u16 = 23456;

/// The types of messages (RFC 4271 §4.1, RFC 2918 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// OPEN.
    Open = 1,
    /// UPDATE.
    Update = 2,
    /// NOTIFICATION.
    Notification = 3,
    /// KEEPALIVE.
    Keepalive = 4,
    /// ROUTE-REFRESH.
    RouteRefresh = 5,
}

/// What both sides agreed on, as far as reading and writing messages depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context {
    /// Families carried by the session.
    pub families: Families,
    /// AS numbers in AS_PATH and AGGREGATOR are four octets (RFC 6793).
    pub four_octet_as: bool,
    /// The peer's messages of these families carry path identifiers (RFC 7911).
    pub add_path_receive: Families,
    /// Our messages of these families carry path identifiers (RFC 7911).
    pub add_path_send: Families,
    /// Messages may be up to 65,535 octets (RFC 8654).
    pub extended_message: bool,
    /// IPv4 prefixes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// The session is internal (iBGP): LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST are expected.
    pub internal: bool,
}

/// One BGP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// RFC 4271 §4.2.
    Open(Open),
    /// RFC 4271 §4.3. With the faults that RFC 7606 lets a session survive.
    Update(Update),
    /// RFC 4271 §4.5.
    Notification(Notification),
    /// RFC 4271 §4.4.
    Keepalive,
    /// RFC 2918, RFC 7313.
    RouteRefresh(RouteRefresh),
}

/// The path identifier of RFC 7911; 0 where add-path was not negotiated.
pub type PathId = u32;

/// One element of Network Layer Reachability Information: a prefix and its path identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nlri {
    /// What is reachable.
    pub prefix: Prefix,
    /// Which of several paths to it (RFC 7911 §3).
    pub path_id: PathId,
}

impl From<Prefix> for Nlri {
    fn from(prefix: Prefix) -> Self {
        Self { prefix, path_id: 0 }
    }
}
