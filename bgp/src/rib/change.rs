//! Routes come and go: what is done to the table, and then what the decision makes of it.

use std::{borrow::Cow, sync::Arc};

use smallvec::SmallVec;

use super::{
    Rib,
    decision::Rules,
    import::{self, Refusal},
    intern::{AttributesId, Doubts},
    monitor::views,
    peer::{Inbound, Peer, Tally},
    policy,
    route::{Flags, Route, Source},
    side::used,
    table::{Number, Touched},
    task::PeerId,
};
use crate::{
    bmp::Views,
    prefix::{Families, Family, Prefix},
    status::PeerKind,
    wire::{Attributes, Community, Nlri, update::Announced},
};

/// What import makes of a route.
#[derive(Clone, Copy)]
struct Ruling {
    /// The attributes it is used with.
    effective: AttributesId,
    /// [`Flags::REFUSED`] and why, or nothing.
    refused: Flags,
    /// What of a refusal is counted.
    counted: Option<Counted>,
}

/// A refusal that is counted: the first once a prefix, the others once an announcement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Rejected,
    AsPathLoop,
    ClusterLoop,
    OriginatorLoop,
}

impl Counted {
    const fn of(refusal: &Refusal) -> Option<Self> {
        match refusal {
            Refusal::Policy { .. } | Refusal::Origin(_) => Some(Self::Rejected),
            Refusal::AsLoop { .. } => Some(Self::AsPathLoop),
            Refusal::ClusterLoop => Some(Self::ClusterLoop),
            Refusal::OwnOriginatorId => Some(Self::OriginatorLoop),
            Refusal::FirstAs { .. }
            | Refusal::NoNextHop
            | Refusal::BadNextHop(_)
            | Refusal::OwnNextHop(_) => None,
        }
    }
}

impl Tally {
    fn count(&mut self, counted: Counted) {
        let counter = match counted {
            Counted::Rejected => &mut self.rejected,
            Counted::AsPathLoop => &mut self.as_path_loops,
            Counted::ClusterLoop => &mut self.cluster_loops,
            Counted::OriginatorLoop => &mut self.originator_loops,
        };
        *counter = counter.wrapping_add(1);
    }
}

impl Rib {
    /// Routes of a peer with attributes in common.
    pub(super) fn announce(&mut self, id: PeerId, announced: &Announced) {
        let received = self.attributes.intern(&announced.attributes);
        let mut ruled: Option<Ruling> = None;
        let mut invalidated = None;
        for nlri in &announced.nlri {
            let Some(peer) = self.peers.get(&id) else {
                break;
            };
            let alone = import::depends_on_prefix(&self.settings, peer, &nlri.prefix);
            let ruling = match ruled {
                Some(ruled) if !alone => ruled,
                _ => self.import(id, nlri.prefix, &announced.attributes, received),
            };
            invalidated = ruling.counted.filter(|one| *one != Counted::Rejected);
            let taken = self.may_have_more(id, *nlri, ruling.refused);
            if taken {
                self.insert(id, *nlri, received, ruling);
            }
            if alone {
                self.attributes.release(ruling.effective);
            } else {
                // Held until the end of the loop.
                ruled = Some(ruling);
            }
            if !taken && !ruling.refused.contains(Flags::LOOPED) {
                break;
            }
        }
        if let Some(ruled) = ruled {
            self.attributes.release(ruled.effective);
        }
        if let (Some(counted), Some(peer)) = (invalidated, self.peers.get_mut(&id)) {
            peer.tally.count(counted);
        }
        self.attributes.release(received);
    }

    /// What import makes of a route; its attributes have one more holder.
    fn import(
        &mut self,
        id: PeerId,
        prefix: Prefix,
        attributes: &Attributes,
        received: AttributesId,
    ) -> Ruling {
        let outcome = self
            .peers
            .get(&id)
            .map(|peer| import::import(&self.settings, peer, prefix, attributes));
        if let Some(Ok(Cow::Owned(changed))) = outcome {
            return Ruling {
                effective: self.attributes.intern(&Arc::new(changed)),
                refused: Flags::empty(),
                counted: None,
            };
        }
        self.attributes.hold(received);
        let refusal = outcome.as_ref().and_then(|outcome| outcome.as_ref().err());
        Ruling {
            effective: received,
            counted: refusal.and_then(Counted::of),
            refused: match &outcome {
                Some(Ok(_)) => Flags::empty(),
                Some(Err(Refusal::Origin(_))) => Flags::REFUSED | Flags::ASTRAY,
                Some(Err(
                    Refusal::AsLoop { .. } | Refusal::OwnOriginatorId | Refusal::ClusterLoop,
                )) => Flags::REFUSED | Flags::LOOPED,
                Some(Err(_)) | None => Flags::REFUSED,
            },
        }
    }

    fn insert(&mut self, id: PeerId, nlri: Nlri, received: AttributesId, ruling: Ruling) {
        let family = nlri.prefix.family();
        let since = self.since;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let mut flags = ruling.refused;
        flags.set(Flags::EXTERNAL, peer.kind == PeerKind::External);
        let route = Route {
            source: peer.source(),
            path_id: nlri.path_id,
            received,
            effective: ruling.effective,
            since,
            flags,
            number: 0,
        };
        let inbound = peer.inbound_mut(family);
        let old = self
            .sides
            .of_mut(family)
            .insert(nlri.prefix, route, &mut self.attributes);
        if let Some(old) = &old {
            inbound.less(old);
        }
        inbound.more(&route);
        if ruling.counted == Some(Counted::Rejected) {
            peer.tally.count(Counted::Rejected);
        }
        let before = old.as_ref().map_or(Views::empty(), views);
        let same = old
            .is_some_and(|old| (old.received, old.effective) == (route.received, route.effective));
        if same && before == views(&route) {
            let duplicates = &mut peer.tally.duplicate_advertisements;
            *duplicates = duplicates.wrapping_add(1);
        } else {
            self.monitors.mark(peer, nlri, before);
        }
        self.tell_if_astray(id, nlri.prefix, &route, old.map(|old| old.flags));
    }

    /// A route of a peer is gone.
    pub(super) fn withdraw(&mut self, id: PeerId, nlri: Nlri) {
        let family = nlri.prefix.family();
        let side = self.sides.of_mut(family);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let source = Source::peer(id);
        let gone = side.table.find(nlri.prefix).and_then(|number| {
            side.remove(number, &mut self.attributes, |route| {
                route.is_from(source) && route.path_id == nlri.path_id
            })
        });
        match gone {
            Some(route) => {
                peer.lost(family, &route);
                self.monitors.mark(peer, nlri, views(&route));
            }
            None => {
                let duplicates = &mut peer.tally.duplicate_withdraws;
                *duplicates = duplicates.wrapping_add(1);
            }
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
                let prefix = side.table.prefix(number);
                while let Some(route) = side.remove(number, &mut self.attributes, |route| {
                    route.is_from(source) && which(route)
                }) {
                    peer.lost(family, &route);
                    if let Some(prefix) = prefix {
                        let path_id = route.path_id;
                        let nlri = Nlri { prefix, path_id };
                        self.monitors.mark(peer, nlri, views(&route));
                    }
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
                for route in self.routes_where(family, number, |route| route.is_from(source)) {
                    self.import_one_again(id, family, number, &route);
                }
            }
        }
    }

    /// Looks at all routes to a prefix again, each with the import of its peer.
    pub(super) fn import_prefix_again(&mut self, family: Family, number: Number) {
        for route in self.routes_where(family, number, |_| true) {
            if let Some(id) = route.source.as_peer() {
                self.import_one_again(id, family, number, &route);
            }
        }
    }

    /// What is stale of a peer gets LLGR_STALE, and goes where it bears NO_LLGR (RFC 9494 §4.2).
    pub(super) fn mark_long_stale(&mut self, id: PeerId, family: Family) {
        let attributes = &self.attributes;
        let refuses = |route: &Route| {
            attributes
                .get(route.received)
                .is_some_and(|received| received.communities.contains(&Community::NO_LLGR))
        };
        let source = Source::peer(id);
        let numbers = self.sides.of(family).table.numbers();
        let going: Vec<(Number, u32)> = numbers
            .clone()
            .flat_map(|number| {
                let routes = self.routes_where(family, number, |route| {
                    route.is_from(source) && route.flags.contains(Flags::STALE) && refuses(route)
                });
                routes.into_iter().map(move |route| (number, route.path_id))
            })
            .collect();
        for (number, path_id) in going {
            if let Some(prefix) = self.sides.of(family).table.prefix(number) {
                self.withdraw(id, Nlri { prefix, path_id });
            }
        }
        for number in numbers {
            let stale = |route: &Route| route.is_from(source) && route.flags.contains(Flags::STALE);
            for route in self.routes_where(family, number, stale) {
                let marked = self.long_stale(route.effective);
                self.use_with(family, number, &route, marked, route.flags);
                self.attributes.release(marked);
            }
        }
    }

    /// The same attributes with LLGR_STALE, with one more holder.
    fn long_stale(&mut self, effective: AttributesId) -> AttributesId {
        let Some(attributes) = self.attributes.get(effective) else {
            self.attributes.hold(effective);
            return effective;
        };
        let mut marked = (**attributes).clone();
        policy::with(&mut marked.communities, Community::LLGR_STALE);
        self.attributes.intern(&Arc::new(marked))
    }

    /// A known route is used with these attributes and flags from now on.
    fn use_with(
        &mut self,
        family: Family,
        number: Number,
        route: &Route,
        effective: AttributesId,
        flags: Flags,
    ) {
        let side = self.sides.of_mut(family);
        let prefix = side.table.prefix(number);
        if let Some(destination) = side.table.get_mut(number)
            && let Some(place) = destination.routes.find(route.source, route.path_id)
        {
            self.attributes.hold(effective);
            self.attributes.release(place.effective);
            place.effective = effective;
            place.flags = flags;
            let used = used(place.flags);
            side.touch(number, used);
            let peer = route.source.as_peer().and_then(|id| self.peers.get(&id));
            if let (Some(peer), Some(prefix)) = (peer, prefix) {
                let path_id = route.path_id;
                let nlri = Nlri { prefix, path_id };
                self.monitors.mark(peer, nlri, views(route));
            }
        }
    }

    fn routes_where(
        &self,
        family: Family,
        number: Number,
        which: impl Fn(&Route) -> bool,
    ) -> SmallVec<[Route; 1]> {
        let destination = self.sides.of(family).table.get(number);
        destination
            .into_iter()
            .flat_map(|destination| destination.routes.as_slice())
            .filter(|route| which(route))
            .copied()
            .collect()
    }

    fn import_one_again(&mut self, id: PeerId, family: Family, number: Number, route: &Route) {
        let Some(prefix) = self.sides.of(family).table.prefix(number) else {
            return;
        };
        let Some(attributes) = self.attributes.get(route.received).cloned() else {
            return;
        };
        let Ruling {
            mut effective,
            refused,
            counted: _,
        } = self.import(id, prefix, &attributes, route.received);
        if self.is_long_stale(route) {
            let marked = self.long_stale(effective);
            self.attributes.release(effective);
            effective = marked;
        }
        let refusals = Flags::REFUSED | Flags::ASTRAY | Flags::LOOPED;
        let flags = route.flags.difference(refusals) | refused;
        if effective != route.effective || flags != route.flags {
            self.use_with(family, number, route, effective, flags);
            if let Some(peer) = self.peers.get_mut(&id) {
                let inbound = peer.inbound_mut(family);
                inbound.less(route);
                inbound.more(&Route { flags, ..*route });
            }
            let now = Route { flags, ..*route };
            self.tell_if_astray(id, prefix, &now, Some(route.flags));
        }
        self.attributes.release(effective);
    }

    /// Whether a stale route was marked as a last resort.
    fn is_long_stale(&self, route: &Route) -> bool {
        let rank = self.attributes.rank(route.effective);
        route.flags.contains(Flags::STALE)
            && rank.is_some_and(|rank| rank.doubts.contains(Doubts::LONG_STALE))
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
        self.inbound_mut(family).less(route);
    }
}

impl Inbound {
    /// One route more, as it is counted.
    fn more(&mut self, route: &Route) {
        self.received += 1;
        self.accepted += usize::from(route.eligible());
        self.astray += usize::from(route.flags.contains(Flags::ASTRAY));
        self.looped += usize::from(route.flags.contains(Flags::LOOPED));
        self.stale += usize::from(route.flags.contains(Flags::STALE));
    }

    /// One route less.
    fn less(&mut self, route: &Route) {
        let less = |count: &mut usize, counted: bool| {
            *count = count.saturating_sub(usize::from(counted));
        };
        less(&mut self.received, true);
        less(&mut self.accepted, route.eligible());
        less(&mut self.astray, route.flags.contains(Flags::ASTRAY));
        less(&mut self.looped, route.flags.contains(Flags::LOOPED));
        less(&mut self.stale, route.flags.contains(Flags::STALE));
    }
}

impl Rib {
    /// This very route, if it is known.
    pub(super) fn known_route(&self, id: PeerId, nlri: Nlri) -> Option<&Route> {
        let table = &self.sides.of(nlri.prefix.family()).table;
        let source = Source::peer(id);
        table
            .find(nlri.prefix)
            .and_then(|number| table.get(number))
            .and_then(|destination| {
                let mut routes = destination.routes.as_slice().iter();
                routes.find(|route| route.is_from(source) && route.path_id == nlri.path_id)
            })
    }
}
