//! Path attributes: what is said of a route beside its prefix (RFC 4271 §5).

use std::net::Ipv4Addr;

mod aggregator;
mod as4;
mod as_path;
mod communities;
mod multiprotocol;
mod next_hop;
mod origin;
mod preference;
mod reflection;
mod table;

pub use aggregator::Aggregator;

pub use as_path::{AsPath, Segment, SegmentKind};
pub use communities::{Community, ExtendedCommunity, LargeCommunity, UnknownCommunity};
pub use next_hop::NextHop;
pub use origin::Origin;
pub(super) use table::{AttributeFault, Draft, Outgoing, put_multiprotocol, write};

/// The attributes of a route, as a struct of options. Equal values are equal routes: the RIB interns them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// ORIGIN, RFC 4271 §5.1.1.
    pub origin: Origin,
    /// AS_PATH with AS4_PATH already merged in, RFC 4271 §5.1.2, RFC 6793 §4.2.3.
    pub as_path: AsPath,
    /// NEXT_HOP or the next hop of MP_REACH_NLRI, RFC 4271 §5.1.3, RFC 4760 §3. `None` only where we originate the
    /// route: our own address is filled in on the way out.
    pub next_hop: Option<NextHop>,
    /// MULTI_EXIT_DISC, RFC 4271 §5.1.4.
    pub med: Option<u32>,
    /// LOCAL_PREF, RFC 4271 §5.1.5.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE, RFC 4271 §5.1.6.
    pub atomic_aggregate: bool,
    /// AGGREGATOR with AS4_AGGREGATOR already merged in, RFC 4271 §5.1.7.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES, RFC 1997; sorted as received.
    pub communities: Box<[Community]>,
    /// ORIGINATOR_ID, RFC 4456 §8.
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST, RFC 4456 §8; the newest first.
    pub cluster_list: Box<[Ipv4Addr]>,
    /// EXTENDED COMMUNITIES, RFC 4360.
    pub extended_communities: Box<[ExtendedCommunity]>,
    /// LARGE_COMMUNITY, RFC 8092.
    pub large_communities: Box<[LargeCommunity]>,
    /// Which of the transitive attributes we know came with their Partial bit set: it must never be cleared again
    /// (RFC 4271 §5).
    pub partial: Partial,
    /// Transitive attributes we do not know, byte for byte, Partial bit set (RFC 4271 §5); by code.
    pub unknown: Box<[Unknown]>,
}

bitflags::bitflags! {
    /// Optional transitive attributes that some speaker on the way did not recognise.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Partial: u8 {
        /// AGGREGATOR.
        const AGGREGATOR = 1;
        /// COMMUNITIES.
        const COMMUNITIES = 2;
        /// EXTENDED COMMUNITIES.
        const EXTENDED_COMMUNITIES = 4;
        /// LARGE_COMMUNITY.
        const LARGE_COMMUNITY = 8;
    }
}

/// A transitive attribute whose code we do not know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unknown {
    /// Its flags, with Partial set.
    pub flags: u8,
    /// Its type code.
    pub code: u8,
    /// Its value.
    pub value: Box<[u8]>,
}
