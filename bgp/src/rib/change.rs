//! Routes come and go: what is done to the table, and then what the decision makes of it.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    Rib, Side,
    decision::{self, Candidate, Rules},
    import,
    intern::{AttributeTable, AttributesId},
    peer::{Peer, Peers},
    route::{Flags, Route, Source},
    table::{Number, Touched},
    task::PeerId,
};
use crate::{
    prefix::{Families, Family, Prefix},
    status::PeerKind,
    wire::{Attributes, Nlri, update::Announced},
};

impl Rib {
    /// Routes of a peer with attributes in common.
    pub(super) fn announce(&mut self, id: PeerId, announced: &Announced) {
        let received = self.attributes.intern(&announced.attributes);
        let mut ruled: Option<(AttributesId, bool)> = None;
        for nlri in &announced.nlri {
            if !self.may_have_more(id, *nlri) {
                break;
            }
            let Some(peer) = self.peers.get(&id) else {
                break;
            };
            let (effective, refused) = match ruled {
                Some(ruled) => ruled,
                None => {
                    let ruling = self.import(peer.id, nlri.prefix, &announced.attributes, received);
                    let Some(peer) = self.peers.get(&id) else {
                        break;
                    };
                    if !import::depends_on_prefix(peer) {
                        // Held until the end of the loop.
                        ruled = Some(ruling);
                    }
                    ruling
                }
            };
            self.insert(id, *nlri, received, (effective, refused));
            if ruled.is_none() {
                self.attributes.release(effective);
            }
        }
        if let Some((effective, _)) = ruled {
            self.attributes.release(effective);
        }
        self.attributes.release(received);
    }

    /// The attributes a route is used with (one more holder), and whether it is refused.
    fn import(
        &mut self,
        id: PeerId,
        prefix: Prefix,
        attributes: &Attributes,
        received: AttributesId,
    ) -> (AttributesId, bool) {
        let outcome = self
            .peers
            .get(&id)
            .map(|peer| import::import(&self.settings, peer, prefix, attributes));
        match outcome {
            Some(Ok(std::borrow::Cow::Owned(changed))) => {
                (self.attributes.intern(&Arc::new(changed)), false)
            }
            outcome => {
                self.attributes.hold(received);
                (received, !matches!(outcome, Some(Ok(_))))
            }
        }
    }

    fn insert(
        &mut self,
        id: PeerId,
        nlri: Nlri,
        received: AttributesId,
        (effective, refused): (AttributesId, bool),
    ) {
        let family = nlri.prefix.family();
        let since = self.since;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let mut flags = Flags::empty();
        flags.set(Flags::REFUSED, refused);
        flags.set(Flags::EXTERNAL, peer.kind == PeerKind::External);
        let route = Route {
            source: peer.source(),
            path_id: nlri.path_id,
            received,
            effective,
            since,
            flags,
        };
        let inbound = peer.inbound_mut(family);
        match self
            .sides
            .of_mut(family)
            .insert(nlri.prefix, route, &mut self.attributes)
        {
            Some(old) => {
                inbound.stale -= usize::from(old.flags.contains(Flags::STALE));
                inbound.accepted -= usize::from(old.eligible());
            }
            None => inbound.received += 1,
        }
        inbound.accepted += usize::from(route.eligible());
    }

    /// A route of a peer is gone.
    pub(super) fn withdraw(&mut self, id: PeerId, nlri: Nlri) {
        let family = nlri.prefix.family();
        let side = self.sides.of_mut(family);
        let Some(number) = side.table.find(nlri.prefix) else {
            return;
        };
        let source = Source::peer(id);
        let gone = side.remove(number, &mut self.attributes, |route| {
            route.is_from(source) && route.path_id == nlri.path_id
        });
        if let (Some(route), Some(peer)) = (gone, self.peers.get_mut(&id)) {
            peer.lost(family, &route);
        }
    }

    /// Removes those routes of a peer for which `which` holds.
    pub(super) fn remove_where(
        &mut self,
        id: PeerId,
        families: Families,
        which: impl Fn(&Route) -> bool,
    ) {
        let source = Source::peer(id);
        for family in families.each() {
            let side = self.sides.of_mut(family);
            let Some(peer) = self.peers.get_mut(&id) else {
                return;
            };
            for number in side.table.numbers() {
                if peer.inbound(family).received == 0 {
                    break;
                }
                while let Some(route) = side.remove(number, &mut self.attributes, |route| {
                    route.is_from(source) && which(route)
                }) {
                    peer.lost(family, &route);
                }
            }
        }
    }

    /// Changes the flags of all routes of a peer; they are decided anew.
    pub(super) fn flag(&mut self, id: PeerId, families: Families, change: impl Fn(&mut Flags)) {
        let source = Source::peer(id);
        for family in families.each() {
            let side = self.sides.of_mut(family);
            let mut left = self
                .peers
                .get(&id)
                .map_or(0, |peer| peer.inbound(family).received);
            for number in side.table.numbers() {
                if left == 0 {
                    break;
                }
                let Some(destination) = side.table.get_mut(number) else {
                    continue;
                };
                let mut found = false;
                for route in destination.routes.as_mut_slice() {
                    if route.is_from(source) {
                        change(&mut route.flags);
                        found = true;
                        left = left.saturating_sub(1);
                    }
                }
                if found {
                    side.touch(number, Touched::CHANGED);
                }
            }
        }
    }

    /// Looks at all routes of a peer again with its import as it is now.
    pub(super) fn import_again(&mut self, id: PeerId) {
        let source = Source::peer(id);
        for family in Family::ALL {
            let known = |peer: &Peer| peer.inbound(family).received;
            if self.peers.get(&id).map_or(0, known) == 0 {
                continue;
            }
            for number in self.sides.of(family).table.numbers() {
                let Some(destination) = self.sides.of(family).table.get(number) else {
                    continue;
                };
                let of_peer: SmallVec<[Route; 1]> = destination
                    .routes
                    .as_slice()
                    .iter()
                    .filter(|route| route.is_from(source))
                    .copied()
                    .collect();
                for route in of_peer {
                    self.import_one_again(id, family, number, &route);
                }
            }
        }
    }

    fn import_one_again(&mut self, id: PeerId, family: Family, number: Number, route: &Route) {
        let Some(prefix) = self.sides.of(family).table.prefix(number) else {
            return;
        };
        let Some(attributes) = self.attributes.get(route.received).cloned() else {
            return;
        };
        let (effective, refused) = self.import(id, prefix, &attributes, route.received);
        if effective != route.effective || refused == route.eligible() {
            let side = self.sides.of_mut(family);
            if let Some(destination) = side.table.get_mut(number)
                && let Some(place) = destination.routes.find(route.source, route.path_id)
            {
                self.attributes.hold(effective);
                self.attributes.release(place.effective);
                place.effective = effective;
                place.flags.set(Flags::REFUSED, refused);
                let used = used(place.flags);
                side.touch(number, used);
            }
            if let Some(peer) = self.peers.get_mut(&id) {
                let inbound = peer.inbound_mut(family);
                inbound.accepted -= usize::from(route.eligible());
                inbound.accepted += usize::from(!refused);
            }
        }
        self.attributes.release(effective);
    }

    /// Decides all that changed, and marks for output what comes of it.
    pub(super) fn settle(&mut self) {
        let rules = Rules {
            multipath: self.settings.multipath,
            stable: self.settings.stable,
        };
        for family in Family::ALL {
            let side = self.sides.of_mut(family);
            for number in std::mem::take(&mut side.changed) {
                side.settle(number, rules, &self.attributes, &self.peers);
            }
        }
    }
}

impl Peer {
    /// One route of it is gone.
    fn lost(&mut self, family: Family, route: &Route) {
        let inbound = self.inbound_mut(family);
        inbound.received -= 1;
        inbound.stale -= usize::from(route.flags.contains(Flags::STALE));
        inbound.accepted -= usize::from(route.eligible());
    }
}

/// What a change to a route with these flags means for its prefix.
fn used(flags: Flags) -> Touched {
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
        self.table.live -= usize::from(last);
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

    fn settle(&mut self, number: Number, rules: Rules, attributes: &AttributeTable, peers: &Peers) {
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
        if touched.contains(Touched::BEST) {
            self.groups
                .values_mut()
                .for_each(|group| group.mark(number));
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
            peer.map_or(std::net::Ipv4Addr::UNSPECIFIED, |peer| peer.router_id),
            peer.map(|peer| peer.address),
        ),
    })
}

impl Rib {
    /// Whether this very route is known.
    pub(super) fn has_route(&self, id: PeerId, nlri: Nlri) -> bool {
        let table = &self.sides.of(nlri.prefix.family()).table;
        let source = Source::peer(id);
        table
            .find(nlri.prefix)
            .and_then(|number| table.get(number))
            .is_some_and(|destination| {
                destination
                    .routes
                    .as_slice()
                    .iter()
                    .any(|route| route.is_from(source) && route.path_id == nlri.path_id)
            })
    }
}
