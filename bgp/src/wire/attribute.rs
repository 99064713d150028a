//! Path attributes: what is said of a route beside its prefix (RFC 4271 §5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

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
    /// Transitive attributes we do not know, byte for byte, Partial bit set (RFC 4271 §5).
    pub unknown: Box<[Unknown]>,
}

/// ORIGIN; the lower the better (RFC 4271 §9.1.2.2 b).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Origin {
    /// Interior to the originating AS.
    #[default]
    Igp,
    /// Learned via EGP.
    Egp,
    /// Learned by some other means.
    Incomplete,
}

/// AS_PATH: segments, the nearest AS first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AsPath(pub Box<[Segment]>);

/// One segment of an AS_PATH (RFC 4271 §4.3 b, RFC 5065).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// An unordered set: counts as one hop.
    Set(Box<[u32]>),
    /// An ordered sequence, at most 255 long.
    Sequence(Box<[u32]>),
    /// AS_CONFED_SEQUENCE, RFC 5065: counts as no hop.
    ConfedSequence(Box<[u32]>),
    /// AS_CONFED_SET, RFC 5065: counts as no hop.
    ConfedSet(Box<[u32]>),
}

/// Where packets for the route go next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The IPv4 or (global, or only) IPv6 address.
    pub address: IpAddr,
    /// The link-local address that came beside a global one (RFC 2545 §3).
    pub link_local: Option<Ipv6Addr>,
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            link_local: None,
        }
    }
}

/// AGGREGATOR: who formed the aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// Its AS number.
    pub asn: u32,
    /// Its router ID.
    pub id: Ipv4Addr,
}

/// A standard community, RFC 1997: `high:low`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// GRACEFUL_SHUTDOWN, RFC 8326.
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
    /// NO_EXPORT, RFC 1997.
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// NO_ADVERTISE, RFC 1997.
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// NO_EXPORT_SUBCONFED, RFC 1997.
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);
    /// LLGR_STALE, RFC 9494.
    pub const LLGR_STALE: Self = Self(0xffff_0006);
    /// NO_LLGR, RFC 9494.
    pub const NO_LLGR: Self = Self(0xffff_0007);
    /// BLACKHOLE, RFC 7999.
    pub const BLACKHOLE: Self = Self(0xffff_029a);
}

/// An extended community, RFC 4360: eight octets, as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// A large community, RFC 8092: `global:local1:local2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// Global Administrator, an AS number.
    pub global: u32,
    /// Local Data Part 1.
    pub local1: u32,
    /// Local Data Part 2.
    pub local2: u32,
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
