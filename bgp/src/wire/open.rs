//! OPEN: who a speaker is and what it can do (RFC 4271 §4.2, RFC 5492, RFC 9072).

use std::net::Ipv4Addr;

use super::Capability;

/// An OPEN message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The sender's AS: the four-octet one if its capability is there (RFC 6793), else My Autonomous System.
    pub asn: u32,
    /// Proposed hold time, in seconds: 0 or at least 3.
    pub hold_time: u16,
    /// BGP Identifier: not 0 (RFC 6286).
    pub id: Ipv4Addr,
    /// Capabilities in the order of the message.
    pub capabilities: Vec<Capability>,
}
