//! Which route is the best: RFC 4271 §9.1.2.2 by removal, the last step that removed anything being the answer to "why?".

use std::{
    cmp::Reverse,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use smallvec::SmallVec;

use super::{
    intern::{Doubts, Rank},
    route::{Flags, Source},
};
use crate::{config::Multipath, wire::Attributes};

/// A step of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A next hop that leads nowhere yields to any that does not (RFC 4271 §9.1.2.1).
    Unresolved,
    /// A route kept over a restart yields to any fresh one (RFC 8538, RFC 9494 §4.3).
    Stale,
    /// What we originate ourselves comes before what we are told.
    Originated,
    /// The highest LOCAL_PREF (RFC 4271 §9.1.1).
    LocalPref,
    /// The shortest AS_PATH (§9.1.2.2 a).
    AsPathLength,
    /// The lowest ORIGIN (§9.1.2.2 b).
    Origin,
    /// The lowest MULTI_EXIT_DISC among routes of the same neighbour AS (§9.1.2.2 c).
    Med,
    /// External before internal (§9.1.2.2 d).
    EbgpOverIbgp,
    /// Of equal external routes the one that was the best already (RFC 5004).
    Stability,
    /// The lowest BGP Identifier, or ORIGINATOR_ID where reflected (§9.1.2.2 f, RFC 4456 §9).
    RouterId,
    /// The shortest CLUSTER_LIST (RFC 4456 §9).
    ClusterListLength,
    /// The lowest peer address (§9.1.2.2 g).
    PeerAddress,
    /// The lowest path identifier, between routes of one peer (RFC 7911).
    PathId,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unresolved => "its next hop leads nowhere, and one that can be used is there",
            Self::Stale => "kept from before a restart, and a fresh route is there",
            Self::Originated => "we originate the prefix ourselves",
            Self::LocalPref => "higher LOCAL_PREF",
            Self::AsPathLength => "shorter AS_PATH",
            Self::Origin => "lower ORIGIN",
            Self::Med => "lower MULTI_EXIT_DISC from the same neighbour AS",
            Self::EbgpOverIbgp => "external before internal",
            Self::Stability => "was the best before (RFC 5004)",
            Self::RouterId => "lower BGP Identifier",
            Self::ClusterListLength => "shorter CLUSTER_LIST",
            Self::PeerAddress => "lower peer address",
            Self::PathId => "lower path identifier",
        })
    }
}

/// What the decision needs to know of a route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) source: Source,
    pub(super) path_id: u32,
    pub(super) flags: Flags,
    pub(super) rank: Rank,
    pub(super) attributes: &'a Attributes,
    /// BGP Identifier and address of the peer, for the last steps.
    pub(super) peer: (Ipv4Addr, Option<IpAddr>),
}

/// How the decision may differ from speaker to speaker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) multipath: Multipath,
    /// RFC 5004.
    pub(super) stable: bool,
}

/// What became of the candidates, by their places.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) best: usize,
    /// Those used beside the best, in the order of the tie-breaks.
    pub(super) multipath: SmallVec<[usize; 4]>,
    /// The last step that removed any; `None`: there was nothing to choose.
    pub(super) decided_by: Option<Reason>,
    /// The step at which each lost; `None` for the best.
    pub(super) lost: SmallVec<[Option<Reason>; 8]>,
}

/// Decides between candidates; `None` if there are none.
pub(super) fn decide(candidates: &[Candidate<'_>], rules: Rules) -> Option<Decision> {
    let mut left = Left::all(candidates);
    left.keep_lowest(Reason::Unresolved, |route| {
        route.rank.doubts.contains(Doubts::UNRESOLVED) && route.source != Source::OURSELVES
    });
    left.keep_lowest(Reason::Stale, |route| {
        route.flags.contains(Flags::YIELDS) || route.rank.doubts.contains(Doubts::LONG_STALE)
    });
    left.keep_lowest(Reason::Originated, |route| {
        route.source != Source::OURSELVES
    });
    left.keep_lowest(Reason::LocalPref, |route| Reverse(route.rank.local_pref));
    left.keep_lowest(Reason::AsPathLength, |route| route.rank.hops);
    left.keep_lowest(Reason::Origin, |route| route.rank.origin);
    left.keep_lowest_med_per_neighbor_as();
    left.keep_lowest(Reason::EbgpOverIbgp, |route| !is_external(route));
    // §9.1.2.2 e compares the distance to the next hop: all are equal to us. Below this line only ties are broken.
    let equal = left.routes.clone();
    if rules.stable && left.routes.iter().all(|(_, route)| is_external(route)) {
        left.keep_lowest(Reason::Stability, |route| {
            !route.flags.contains(Flags::BEST)
        });
    }
    left.keep_lowest(Reason::RouterId, originator);
    left.keep_lowest(Reason::ClusterListLength, |route| {
        route.attributes.cluster_list.len()
    });
    left.keep_lowest(Reason::PeerAddress, |route| route.peer.1);
    left.keep_lowest(Reason::PathId, |route| (route.path_id, route.source));
    let &(best, chosen) = left.routes.first()?;
    Some(Decision {
        best,
        multipath: beside((best, chosen), equal, rules.multipath),
        decided_by: left.decided_by,
        lost: left.lost,
    })
}

/// Those of the equal routes that are used beside the best, at most as many as may be.
fn beside<'a>(
    (best, chosen): (usize, &Candidate<'a>),
    mut equal: Survivors<'a>,
    multipath: Multipath,
) -> SmallVec<[usize; 4]> {
    if multipath.max_paths < 2 || chosen.source == Source::OURSELVES {
        return SmallVec::new();
    }
    equal.retain(|&mut (place, route)| {
        place != best
            && (multipath.as_path_relax || route.attributes.as_path == chosen.attributes.as_path)
    });
    equal.sort_by_key(|(_, route)| (originator(route), route.peer.1, route.path_id, route.source));
    equal
        .iter()
        .take(usize::from(multipath.max_paths) - 1)
        .map(|(place, _)| *place)
        .collect()
}

fn is_external(route: &Candidate<'_>) -> bool {
    route.flags.contains(Flags::EXTERNAL)
}

fn originator(route: &Candidate<'_>) -> Ipv4Addr {
    route.attributes.originator_id.unwrap_or(route.peer.0)
}

type Survivors<'a> = SmallVec<[(usize, &'a Candidate<'a>); 8]>;

/// The routes that no step has removed yet.
struct Left<'a> {
    routes: Survivors<'a>,
    decided_by: Option<Reason>,
    lost: SmallVec<[Option<Reason>; 8]>,
}

impl<'a> Left<'a> {
    fn all(candidates: &'a [Candidate<'a>]) -> Self {
        Self {
            routes: candidates.iter().enumerate().collect(),
            decided_by: None,
            lost: SmallVec::from_elem(None, candidates.len()),
        }
    }

    fn keep_lowest<K: Ord>(&mut self, reason: Reason, key: impl Fn(&Candidate<'_>) -> K) {
        if self.routes.len() < 2 {
            return;
        }
        if let Some(lowest) = self.routes.iter().map(|(_, route)| key(route)).min() {
            self.keep(reason, |route| key(route) == lowest);
        }
    }

    /// A route is removed if another one from the same neighbour AS has a lower MED.
    fn keep_lowest_med_per_neighbor_as(&mut self) {
        if self.routes.len() < 2 {
            return;
        }
        let mut lowest: SmallVec<[(u32, u32); 8]> = self
            .routes
            .iter()
            .map(|(_, route)| (route.rank.neighbor_as, route.rank.med))
            .collect();
        lowest.sort_unstable();
        lowest.dedup_by_key(|(neighbor_as, _)| *neighbor_as);
        self.keep(Reason::Med, |route| {
            lowest
                .binary_search(&(route.rank.neighbor_as, route.rank.med))
                .is_ok()
        });
    }

    fn keep(&mut self, reason: Reason, stays: impl Fn(&Candidate<'_>) -> bool) {
        let Self {
            routes,
            decided_by,
            lost,
        } = self;
        routes.retain(|&mut (place, route)| {
            let stays = stays(route);
            if !stays {
                *decided_by = Some(reason);
                if let Some(lost) = lost.get_mut(place) {
                    *lost = Some(reason);
                }
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests;
