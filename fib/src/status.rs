//! What the installer says of itself: plain structs that the daemon serves as JSON and renders as tables.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::Serialize;

use crate::{
    guard::Refusal,
    route::{Mark, NextHop},
};

/// Desired against kernel, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Which kernel routes are ours.
    pub mark: Mark,
    /// Everything asked for so far is in the kernel, refused, or known to fail.
    pub in_sync: bool,
    /// The inputs were declared complete: routes found at start and not wanted again have been swept.
    pub complete: bool,
    /// IPv4 routes.
    pub ipv4: Counts,
    /// IPv6 routes.
    pub ipv6: Counts,
    /// Blackholes of own pod CIDRs in the kernel.
    pub blackholes: u64,
    /// Next-hop objects of ours in the kernel (`ip nexthop`), groups and their members.
    pub objects: u64,
    /// Prefixes refused right now, by kind of refusal (`default-route`, `outside-allowed`, …).
    pub refusals: BTreeMap<&'static str, u64>,
    /// What has happened since the start.
    pub totals: Totals,
    /// Everything wrong, in words with the remedy; empty when all is well.
    pub problems: Vec<String>,
}

/// Routes of one family, each counted in exactly one of the states after `desired`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Prefixes somebody wants.
    pub desired: u64,
    /// Wanted and in the kernel as wanted.
    pub installed: u64,
    /// Wanted and on the way to the kernel.
    pub pending: u64,
    /// Wanted, but the guard says no.
    pub refused: u64,
    /// Wanted, but no next hop resolves.
    pub unresolved: u64,
    /// Wanted, but the kernel said no; retried with back-off.
    pub failed: u64,
    /// In the kernel from an earlier run and not wanted (yet); removed once the inputs are complete.
    pub stale: u64,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Routes added to the kernel.
    pub added: u64,
    /// Routes replaced in place.
    pub replaced: u64,
    /// Routes removed.
    pub removed: u64,
    /// Next-hop objects written.
    pub objects: u64,
    /// Routes of an earlier run taken over as they were, without a write.
    pub adopted: u64,
    /// Routes of ours that someone else removed or changed.
    pub drifted: u64,
    /// … and that were put right again.
    pub healed: u64,
    /// Requests the kernel refused.
    pub failures: u64,
    /// Times the kernel had more events than we could take.
    pub overruns: u64,
    /// Times the whole kernel table was read again.
    pub resyncs: u64,
}

/// One prefix and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// The prefix, without host bits.
    pub prefix: IpNetwork,
    /// The BGP next hops asked for; empty for stale routes.
    pub next_hops: Vec<NextHop>,
    /// What is in the kernel under our mark, in `ip route` words; `None`: nothing.
    pub kernel: Option<String>,
    /// Where it stands.
    #[serde(flatten)]
    pub state: RouteState,
}

/// Where a prefix stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(
    tag = "state",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum RouteState {
    /// In the kernel as wanted.
    Installed,
    /// On the way to the kernel.
    Pending,
    /// Not installed because the guard says no.
    Refused {
        /// The kind, as in [`Status::refusals`].
        kind: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// Not installed because no next hop resolves.
    Unresolved {
        /// Why, and what to do.
        reason: String,
    },
    /// The kernel refused it; tried again.
    Failed {
        /// The error number, positive.
        errno: i32,
        /// The error in words, with the kernel's own explanation where it gave one.
        reason: String,
        /// Milliseconds until the next attempt.
        retry_in_ms: u64,
    },
    /// In the kernel from an earlier run, not wanted (yet).
    Stale,
    /// Wanted no more, removal on the way.
    Removing,
}

/// Which prefixes [`Fib::routes`](crate::Fib::routes) gives.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this prefix and more specific ones.
    pub within: Option<IpNetwork>,
    /// Only these very prefixes: each is looked up, the others cost nothing.
    pub among: Option<Vec<IpNetwork>>,
    /// Only prefixes that are not simply installed.
    pub only_problems: bool,
    /// At most so many; 0: all.
    pub limit: usize,
}

/// The whole way of one prefix or address through the installer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What was asked.
    pub query: IpNetwork,
    /// The most specific prefix known here that covers the query.
    pub route: Option<RouteStatus>,
    /// What the guard says of that prefix (of the query where none is known): `None` is a yes.
    pub refusal: Option<Refused>,
    /// Each next hop and what it resolved to.
    pub next_hops: Vec<Resolution>,
    /// Every route for exactly that prefix in our table, ours and foreign, in `ip route` words.
    pub kernel_routes: Vec<String>,
    /// What the kernel would do with a packet for the (first) address: the answer to `ip route get`.
    pub lookup: Lookup,
}

/// A refusal in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The kind, as in [`Status::refusals`].
    pub kind: &'static str,
    /// Why, and what to do.
    pub reason: String,
}

impl From<&Refusal> for Refused {
    fn from(refusal: &Refusal) -> Self {
        Self {
            kind: refusal.kind(),
            reason: refusal.to_string(),
        }
    }
}

/// One BGP next hop and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolution {
    /// The next hop asked for.
    pub next_hop: NextHop,
    /// The kernel hops it resolved to, in `ip route` words (`via 10.0.0.2 dev eth0`).
    pub hops: Vec<String>,
    /// The kernel route that resolved it, in `ip route` words.
    pub by: Option<String>,
    /// Why it did not resolve, and what to do.
    pub failure: Option<String>,
}

/// What the kernel would do with a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Lookup {
    /// It would take this way, in `ip route` words.
    Route {
        /// The address looked up.
        address: IpAddr,
        /// The way.
        route: String,
        /// Whether the route it matched is one of ours.
        ours: bool,
    },
    /// It has no way, or one that drops.
    Unreachable {
        /// The address looked up.
        address: IpAddr,
        /// The kernel's words.
        reason: String,
    },
}

impl fmt::Display for RouteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed => f.write_str("installed"),
            Self::Pending => f.write_str("pending"),
            Self::Refused { reason, .. } => write!(f, "refused: {reason}"),
            Self::Unresolved { reason } => write!(f, "unresolved: {reason}"),
            Self::Failed {
                reason,
                retry_in_ms,
                ..
            } => {
                write!(f, "failed: {reason}; next attempt in {retry_in_ms} ms")
            }
            Self::Stale => f.write_str("stale"),
            Self::Removing => f.write_str("removing"),
        }
    }
}
