//! What the installer is told: plain data, already checked by whoever built it.

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::route::Mark;

/// The whole configuration of the installer; a change is applied live by [`Fib::apply`](crate::Fib::apply).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which kernel routes are ours. A change moves all routes: the new ones are there before the old ones go.
    pub mark: Mark,
    /// How many next hops a route may have, 1 to 255; 1 means no multipath.
    pub max_paths: usize,
    /// What becomes of a route whose next hop no connected or static route leads to.
    pub unresolved: Unresolved,
    /// What may be installed at all.
    pub guard: Guard,
    /// Own pod CIDRs: each gets a `blackhole` of worst metric, so that a packet for a pod that is gone does not
    /// circle between the node and its router. Single addresses (/32, /128) are skipped.
    pub blackholes: Vec<IpNetwork>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mark: Mark::default(),
            max_paths: 16,
            unresolved: Unresolved::Reject,
            guard: Guard::default(),
            blackholes: Vec::new(),
        }
    }
}

/// What becomes of a route whose next hop lies in no connected subnet and behind no static route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unresolved {
    /// It is not installed, and says why.
    #[default]
    Reject,
    /// It goes to the gateway of the default route: for fabrics that know the pod networks.
    Gateway,
    /// The next hop is taken to be on the link of the route that leads to it (or on the interface it names).
    Onlink,
}

/// What may be installed: a learned prefix must lie inside an allowed range and outside everything of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// The pod network and whatever else is allowed; empty allows nothing.
    pub allowed: Vec<AllowedRange>,
    /// The pod CIDRs of this node: the same or more specific prefixes are refused.
    pub own_pod_cidrs: Vec<IpNetwork>,
    /// The service CIDRs of the cluster: the same or more specific prefixes are refused.
    pub service_cidrs: Vec<IpNetwork>,
    /// Whether 0.0.0.0/0 and ::/0 may be installed (they need no allowed range then).
    pub accept_default: bool,
}

/// Prefixes inside `cidr` with a length in `min_len..=max_len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AllowedRange {
    /// The prefix must be this or lie within.
    pub cidr: IpNetwork,
    /// Shortest length allowed, in bits.
    pub min_len: u8,
    /// Longest length allowed, in bits.
    pub max_len: u8,
}

impl AllowedRange {
    /// Everything inside `cidr`, down to single addresses: what a pod network is.
    pub fn within(cidr: IpNetwork) -> Self {
        let max_len = if cidr.is_ipv4() { 32 } else { 128 };
        Self {
            cidr,
            min_len: cidr.prefix(),
            max_len,
        }
    }
}
