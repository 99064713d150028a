//! Routes come and go: what is done to the table, and then what the decision makes of it.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    Rib,
    decision::Rules,
    import,
    intern::AttributesId,
    peer::Peer,
    route::{Flags, Route, Source},
    side::used,
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
                inbound.stale = inbound
                    .stale
                    .saturating_sub(usize::from(old.flags.contains(Flags::STALE)));
                inbound.accepted = inbound.accepted.saturating_sub(usize::from(old.eligible()));
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
                inbound.accepted = inbound
                    .accepted
                    .saturating_sub(usize::from(route.eligible()));
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
        inbound.received = inbound.received.saturating_sub(1);
        inbound.stale = inbound
            .stale
            .saturating_sub(usize::from(route.flags.contains(Flags::STALE)));
        inbound.accepted = inbound
            .accepted
            .saturating_sub(usize::from(route.eligible()));
    }
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
