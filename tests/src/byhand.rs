//! A BGP speaker by hand: octet by octet and independent of the `bgp` crate, so that it can say anything, right or wrong.
//!
//! ```text
//! say:  Open, Update, attribute, message … → octets      hear: octets → Heard (message, close, silence) → Said
//! Peer: one TCP connection out of a node's network       Table: what a peer has announced so far
//! ```

mod hear;
mod peer;
mod say;
mod table;

pub use hear::{Heard, Said, read_update};
pub use peer::{Peer, inside};
pub use say::{
    Open, Update, attribute, capability, keepalive, message, mp_reach, mp_unreach, nlri,
    notification, refresh,
};
pub use table::{Bulk, Table, numbered, numbered_name};

/// Message types (RFC 4271 §4.1, RFC 2918 §3).
pub mod kind {
    /// OPEN.
    pub const OPEN: u8 = 1;
    /// UPDATE.
    pub const UPDATE: u8 = 2;
    /// NOTIFICATION.
    pub const NOTIFICATION: u8 = 3;
    /// KEEPALIVE.
    pub const KEEPALIVE: u8 = 4;
    /// ROUTE-REFRESH.
    pub const REFRESH: u8 = 5;
}

/// Octets of marker, length and type.
pub const HEADER: usize = 19;
/// The longest message without RFC 8654.
pub const LONGEST: usize = 4096;
