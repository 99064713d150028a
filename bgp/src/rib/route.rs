//! A route as the table holds it: small, because a full Internet table has millions.

use smallvec::SmallVec;

use super::{intern::AttributesId, task::PeerId};

/// Who a route is from: ourselves, or a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Source(u32);

impl Source {
    /// Nobody: the place of "nothing told".
    pub(super) const NONE: Self = Self(0);
    /// We originate it.
    pub(super) const OURSELVES: Self = Self(1);
    /// Somebody we no longer know.
    pub(super) const UNKNOWN: Self = Self(u32::MAX);

    /// This peer. Ids are given out in order, so the few highest are never reached.
    pub(super) const fn peer(peer: PeerId) -> Self {
        Self(peer.0.saturating_add(2))
    }

    /// The peer, if it is one.
    pub(super) const fn as_peer(self) -> Option<PeerId> {
        match self.0 {
            0 | 1 | u32::MAX => None,
            id => Some(PeerId(id - 2)),
        }
    }

    pub(super) const fn number(self) -> u32 {
        self.0
    }
}

bitflags::bitflags! {
    /// What is known of a route beside its attributes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) struct Flags: u16 {
        /// Import does not let it be used.
        const REFUSED = 1;
        /// Kept from before a restart of its peer.
        const STALE = 2;
        /// … and any fresh route is better.
        const YIELDS = 4;
        /// From an external peer.
        const EXTERNAL = 8;
        /// The best to its prefix.
        const BEST = 16;
        /// Used beside the best.
        const MULTIPATH = 32;
        /// Not repeated yet since the peer said that it begins to tell everything again (RFC 7313).
        const UNREFRESHED = 64;
        /// Refused because it does not lead to the owner of its prefix.
        const ASTRAY = 128;
        /// Refused because it has been here: our AS number, our BGP Identifier or our cluster ID stands in it.
        const LOOPED = 256;
    }
}

/// One route: attributes for a prefix from a source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) source: Source,
    pub(super) path_id: u32,
    /// As the source said it (Adj-RIB-In before policy).
    pub(super) received: AttributesId,
    /// As import left it; what decision and export look at.
    pub(super) effective: AttributesId,
    /// Seconds since the Rib began.
    pub(super) since: u32,
    pub(super) flags: Flags,
    /// Which of the routes to its prefix it is, from 1: the path identifier under which it is told. 0: there are more than can be told.
    pub(super) number: u16,
}

impl Route {
    pub(super) fn is_from(&self, source: Source) -> bool {
        self.source == source
    }

    pub(super) fn eligible(&self) -> bool {
        !self.flags.contains(Flags::REFUSED)
    }
}

/// The routes to one prefix; mostly there is one. The best, if there is one, is the first.
#[derive(Clone, Debug)]
pub(super) enum Routes {
    One(Route),
    Many(Vec<Route>),
}

impl Default for Routes {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Routes {
    pub(super) fn as_slice(&self) -> &[Route] {
        match self {
            Self::One(route) => std::slice::from_ref(route),
            Self::Many(routes) => routes,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Route] {
        match self {
            Self::One(route) => std::slice::from_mut(route),
            Self::Many(routes) => routes,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    pub(super) fn find(&mut self, source: Source, path_id: u32) -> Option<&mut Route> {
        self.as_mut_slice()
            .iter_mut()
            .find(|route| route.source == source && route.path_id == path_id)
    }

    /// Puts one more in, under the lowest number that no other has.
    pub(super) fn push(&mut self, route: Route) {
        let route = Route {
            number: self.free_number(),
            ..route
        };
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, route]),
            Self::Many(routes) if routes.is_empty() => *self = Self::One(route),
            Self::Many(routes) => routes.push(route),
        }
    }

    fn free_number(&self) -> u16 {
        let mut used: SmallVec<[u16; 8]> =
            self.as_slice().iter().map(|route| route.number).collect();
        used.sort_unstable();
        let mut free: u16 = 1;
        for number in used.into_iter().filter(|number| *number != 0) {
            if number != free {
                break;
            }
            free = free.wrapping_add(1);
        }
        free
    }

    /// Takes out the first route for which `which` holds, leaving the others in order.
    pub(super) fn take(&mut self, which: impl Fn(&Route) -> bool) -> Option<Route> {
        match self {
            Self::One(route) if which(route) => {
                let route = *route;
                *self = Self::default();
                Some(route)
            }
            Self::One(_) => None,
            Self::Many(routes) => {
                let place = routes.iter().position(which)?;
                let route = routes.remove(place);
                if let [last] = routes.as_slice() {
                    *self = Self::One(*last);
                }
                Some(route)
            }
        }
    }

    /// The best, if any may be used.
    pub(super) fn best(&self) -> Option<&Route> {
        self.as_slice()
            .first()
            .filter(|route| route.flags.contains(Flags::BEST))
    }
}
