//! One family's routes: put in, taken out, decided.

use std::net::Ipv4Addr;

use smallvec::SmallVec;

use super::{
    Side,
    decision::{self, Candidate, Rules},
    intern::AttributeTable,
    peer::Peers,
    route::{Flags, Route},
    table::{Number, Touched},
};
use crate::prefix::Prefix;

/// What a change to a route with these flags means for its prefix.
pub(super) fn used(flags: Flags) -> Touched {
    if flags.contains(Flags::BEST) {
        Touched::all()
    } else if flags.contains(Flags::MULTIPATH) {
        Touched::CHANGED | Touched::USED
    } else {
        Touched::CHANGED
    }
}

impl Side {
    /// Puts a route in, in the place of an earlier one of the same source and path identifier, which is given back.
    pub(super) fn insert(
        &mut self,
        prefix: Prefix,
        route: Route,
        attributes: &mut AttributeTable,
    ) -> Option<Route> {
        let number = self.table.find_or_insert(prefix)?;
        let destination = self.table.get_mut(number)?;
        let Some(place) = destination.routes.find(route.source, route.path_id) else {
            let first = destination.routes.is_empty();
            destination.routes.push(route);
            attributes.hold(route.received);
            attributes.hold(route.effective);
            self.table.live += usize::from(first);
            self.touch(number, Touched::CHANGED);
            return None;
        };
        let old = *place;
        let kept = Flags::BEST | Flags::MULTIPATH;
        let same = old.received == route.received
            && old.effective == route.effective
            && old.flags.difference(kept) == route.flags;
        if same {
            return Some(old);
        }
        attributes.hold(route.received);
        attributes.hold(route.effective);
        attributes.release(old.received);
        attributes.release(old.effective);
        let moved = old.effective != route.effective || old.eligible() != route.eligible();
        let since = if old.received == route.received {
            old.since
        } else {
            route.since
        };
        *place = Route {
            flags: route.flags | (old.flags & kept),
            since,
            number: old.number,
            ..route
        };
        self.touch(
            number,
            if moved {
                used(old.flags)
            } else {
                Touched::CHANGED
            },
        );
        Some(old)
    }

    /// Takes the first route out for which `which` holds.
    pub(super) fn remove(
        &mut self,
        number: Number,
        attributes: &mut AttributeTable,
        which: impl Fn(&Route) -> bool,
    ) -> Option<Route> {
        let destination = self.table.get_mut(number)?;
        let route = destination.routes.take(which)?;
        attributes.release(route.received);
        attributes.release(route.effective);
        let last = destination.routes.is_empty();
        self.table.live = self.table.live.saturating_sub(usize::from(last));
        self.touch(number, used(route.flags));
        Some(route)
    }

    /// Notes that a prefix has to be decided.
    pub(super) fn touch(&mut self, number: Number, how: Touched) {
        if let Some(destination) = self.table.get_mut(number) {
            if !destination.touched.contains(Touched::CHANGED) {
                self.changed.push(number);
            }
            destination.touched |= how | Touched::CHANGED;
        }
    }

    pub(super) fn settle(
        &mut self,
        number: Number,
        rules: Rules,
        attributes: &AttributeTable,
        peers: &Peers,
    ) {
        let Some(destination) = self.table.get_mut(number) else {
            return;
        };
        let mut touched = std::mem::take(&mut destination.touched);
        match destination.routes.as_mut_slice() {
            [] => {}
            [only] => {
                let mut flags = only.flags.difference(Flags::BEST | Flags::MULTIPATH);
                flags.set(Flags::BEST, only.eligible());
                if flags != only.flags {
                    touched |= Touched::BEST | Touched::USED;
                    only.flags = flags;
                }
            }
            several => touched |= choose(several, rules, attributes, peers),
        }
        for group in self.groups.values_mut() {
            group.mark(number, touched);
        }
        if touched.intersects(Touched::USED | Touched::BEST) {
            self.install.mark(number);
        }
        self.table.forget_if_unused(number);
    }
}

/// Decides between several routes, and puts the best first.
fn choose(
    routes: &mut [Route],
    rules: Rules,
    attributes: &AttributeTable,
    peers: &Peers,
) -> Touched {
    let (places, candidates): (SmallVec<[usize; 8]>, SmallVec<[Candidate<'_>; 8]>) = routes
        .iter()
        .enumerate()
        .filter(|(_, route)| route.eligible())
        .filter_map(|(place, route)| Some((place, candidate(route, attributes, peers)?)))
        .unzip();
    let decision = decision::decide(&candidates, rules);
    let at = |index: usize| places.get(index).copied();
    let best = decision.as_ref().and_then(|decision| at(decision.best));
    let beside: SmallVec<[usize; 4]> = decision
        .iter()
        .flat_map(|decision| &decision.multipath)
        .filter_map(|index| at(*index))
        .collect();
    let mut touched = Touched::empty();
    for (place, route) in routes.iter_mut().enumerate() {
        let mut flags = route.flags;
        flags.set(Flags::BEST, best == Some(place));
        flags.set(Flags::MULTIPATH, beside.contains(&place));
        let changed = flags ^ route.flags;
        if changed.contains(Flags::BEST) {
            touched |= Touched::BEST | Touched::USED;
        }
        if changed.contains(Flags::MULTIPATH) {
            touched |= Touched::USED;
        }
        route.flags = flags;
    }
    if let Some(best) = best {
        routes.swap(0, best);
    }
    touched
}

/// A route as the decision sees it.
pub(super) fn candidate<'a>(
    route: &Route,
    attributes: &'a AttributeTable,
    peers: &Peers,
) -> Option<Candidate<'a>> {
    let peer = route.source.as_peer().and_then(|peer| peers.get(&peer));
    Some(Candidate {
        source: route.source,
        path_id: route.path_id,
        flags: route.flags,
        rank: *attributes.rank(route.effective)?,
        attributes: attributes.get(route.effective)?,
        peer: (
            peer.map_or(Ipv4Addr::UNSPECIFIED, |peer| peer.router_id),
            peer.map(|peer| peer.address),
        ),
    })
}
