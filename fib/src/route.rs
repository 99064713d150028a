//! What is wanted (prefixes with BGP next hops) and the mark that says which kernel routes are ours.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// What tells our kernel routes from everyone else's: a route is ours only when protocol, table *and* metric
/// are these. Nothing else is ever changed or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// `rtm_protocol`, 5 to 255 (1 to 4 belong to the kernel and to `ip route`). 179 is taken by no other
    /// daemon; 186, 11, 12, 17 and 80 are (FRR, zebra, BIRD, kube-router, Felix) and such daemons sweep them.
    pub protocol: u8,
    /// Routing table, 1 to 4294967295, except 255 (`local`). 254 is `main`.
    pub table: u32,
    /// Priority of learned routes, 1 to 4294967293: static and DHCP routes with a lower one win.
    pub metric: u32,
}

impl Mark {
    /// The metric of the blackholes for own pod CIDRs: the worst but one, so that every other route wins.
    pub const BLACKHOLE_METRIC: u32 = u32::MAX - 1;
}

impl Default for Mark {
    fn default() -> Self {
        Self {
            protocol: 179,
            table: 254,
            metric: 1024,
        }
    }
}

/// One BGP next hop, not yet resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct NextHop {
    /// The address from the BGP UPDATE. An IPv6 one may carry IPv4 prefixes (RFC 8950).
    pub address: IpAddr,
    /// The index of the interface it is on: needed for link-local addresses, a hint for `Unresolved::Onlink`.
    pub interface: Option<u32>,
    /// Relative share of the flows in a multipath route, 1 to 256 (larger sets are scaled down); 1 is equal.
    pub weight: u16,
}

impl NextHop {
    /// A next hop on no particular interface with an equal share.
    pub fn new(address: IpAddr) -> Self {
        Self {
            address,
            interface: None,
            weight: 1,
        }
    }

    /// The same next hop on the interface with this index.
    pub fn on(self, interface: u32) -> Self {
        Self {
            interface: Some(interface),
            ..self
        }
    }
}

/// A prefix that should be in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Host bits are ignored.
    pub prefix: IpNetwork,
    /// Best first; more than `Config::max_paths` are cut off. Empty counts as withdrawn.
    pub next_hops: SmallVec<[NextHop; 1]>,
}

/// One line of [`Fib::update`](crate::Fib::update). Of several for one prefix the last counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Install this, or move it to these next hops.
    Wanted(Wanted),
    /// This prefix is wanted no more.
    Withdrawn(IpNetwork),
}

impl Change {
    /// The route to `prefix` through `next_hops`.
    pub fn wanted(prefix: IpNetwork, next_hops: impl IntoIterator<Item = NextHop>) -> Self {
        Self::Wanted(Wanted {
            prefix,
            next_hops: next_hops.into_iter().collect(),
        })
    }
}
