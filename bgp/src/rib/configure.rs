//! A new configuration: what is originated, how peers are treated; applied as the difference to what is.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use hashbrown::HashMap;

use super::{
    Rib, Side,
    adj_out::Group,
    bits::BitSet,
    export::{Treatment, originated},
    intern::{AttributeTable, AttributesId},
    peer::{Peer, Peers},
    route::{Flags, Route, Routes, Source},
    side::used,
    stream::from,
    table::Touched,
    task::{PeerChange, PeerId, Settings},
};
use crate::{
    config::{Origination, PeerConfig},
    prefix::{Families, Prefix},
};

impl Rib {
    /// The configuration changed.
    pub fn configure(&mut self, now: Instant, settings: Settings, peers: Vec<PeerChange>) {
        self.now(now);
        self.configured = true;
        // What was told until now must be known before anything of it changes.
        let before: HashMap<PeerId, Treatment> = self.treatments();
        let others = settings.asn != self.settings.asn
            || settings.router_id != self.settings.router_id
            || settings.cluster_id != self.settings.cluster_id;
        let choice = settings.multipath != self.settings.multipath
            || settings.stable != self.settings.stable;
        let mut again = Vec::new();
        for change in peers {
            match change {
                PeerChange::Set { peer, name, config } => {
                    if self.set_peer(peer, name, config) {
                        again.push(peer);
                    }
                }
                PeerChange::Remove(peer) => {
                    self.leave_groups(peer);
                    if let Some(peer) = self.peers.get_mut(&peer) {
                        peer.session = None;
                    }
                    self.forget_routes(peer);
                    self.peers.remove(&peer);
                    self.monitors.stir();
                }
            }
        }
        // Differences are found between two ways of telling the same routes: first those, then the routes.
        let old = std::mem::replace(&mut self.settings, settings);
        self.treat_again(&before, &old);
        self.originate(&old);
        if others {
            again = self.peers.keys().copied().collect();
            again.sort_unstable();
        }
        for peer in again {
            self.import_again(peer);
            self.count_again(peer);
        }
        self.check_origins_again(&old.owners);
        if choice {
            self.decide_all();
        }
    }

    fn treatments(&self) -> HashMap<PeerId, Treatment> {
        self.peers
            .keys()
            .filter_map(|id| Some((*id, self.treatment(*id)?.0)))
            .collect()
    }

    /// Notes how a peer is configured; whether that changes what import makes of its routes.
    fn set_peer(&mut self, id: PeerId, name: Arc<str>, config: Arc<PeerConfig>) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else {
            self.peers.insert(id, Peer::new(id, name, config));
            return false;
        };
        peer.name = name;
        let old = std::mem::replace(&mut peer.config, config);
        let new = &peer.config;
        let limited = old.max_prefixes != new.max_prefixes;
        if limited {
            peer.limit = super::peer::Limit::Far;
        }
        if old.route_reflector_client != new.route_reflector_client {
            self.touch_all_from(id);
        }
        if limited {
            self.count_again(id);
        }
        let Some(peer) = self.peers.get(&id) else {
            return false;
        };
        let new = &peer.config;
        old.import != new.import
            || old.allow_own_as != new.allow_own_as
            || old.local_asn != new.local_asn
            || old.next_hop_addresses != new.next_hop_addresses
    }

    /// How routes of a peer are passed on has changed.
    fn touch_all_from(&mut self, id: PeerId) {
        let source = Source::peer(id);
        for side in self.sides.each_mut() {
            for number in side.table.numbers() {
                let routes = side.table.get(number).map(|found| &found.routes);
                let how = routes
                    .into_iter()
                    .flat_map(Routes::as_slice)
                    .filter(|route| route.is_from(source))
                    .map(|route| used(route.flags))
                    .reduce(Touched::union);
                if let Some(how) = how {
                    side.touch(number, how);
                }
            }
        }
    }

    pub(super) fn decide_all(&mut self) {
        for side in self.sides.each_mut() {
            for number in side.table.numbers() {
                let routes = side.table.get(number).map(|found| &found.routes);
                if routes.is_some_and(|routes| routes.as_slice().len() > 1) {
                    side.touch(number, Touched::CHANGED);
                }
            }
        }
    }

    /// Moves peers that are treated otherwise than before; each is told exactly what differs.
    fn treat_again(&mut self, before: &HashMap<PeerId, Treatment>, old: &Settings) {
        let mut moves: Vec<(PeerId, Treatment, Families)> = Vec::new();
        for (id, was) in before {
            if let Some((treatment, families)) = self.treatment(*id)
                && treatment != *was
            {
                moves.push((*id, treatment, families));
            }
        }
        moves.sort_unstable_by_key(|(id, _, _)| *id);
        for side in self.sides.each_mut() {
            let comparison = Comparison {
                attributes: &self.attributes,
                peers: &self.peers,
                old,
                new: &self.settings,
            };
            let moving: Vec<(PeerId, &Treatment)> = moves
                .iter()
                .filter(|(_, _, families)| families.has(side.family))
                .map(|(id, treatment, _)| (*id, treatment))
                .collect();
            side.treat_again(moving, &comparison);
        }
    }

    /// Applies the difference between what was originated and what is to be.
    fn originate(&mut self, old: &Settings) {
        for prefix in old.originate.keys() {
            if !self.settings.originate.contains_key(prefix) {
                self.originate_no_more(*prefix);
            }
        }
        let changed: Vec<(Prefix, Origination)> = self
            .settings
            .originate
            .iter()
            .filter(|(prefix, origination)| old.originate.get(*prefix) != Some(*origination))
            .map(|(prefix, origination)| (*prefix, origination.clone()))
            .collect();
        for (prefix, origination) in changed {
            let attributes = self
                .attributes
                .intern(&Arc::new(originated(&origination.set)));
            let route = Route {
                source: Source::OURSELVES,
                path_id: 0,
                received: attributes,
                effective: attributes,
                since: self.since,
                flags: Flags::empty(),
                number: 0,
            };
            let side = self.sides.of_mut(prefix.family());
            side.insert(prefix, route, &mut self.attributes);
            self.attributes.release(attributes);
            // Who is told may have changed even where the attributes have not.
            if let Some(number) = side.table.find(prefix) {
                side.touch(number, Touched::all());
            }
        }
    }

    fn originate_no_more(&mut self, prefix: Prefix) {
        let side = self.sides.of_mut(prefix.family());
        if let Some(number) = side.table.find(prefix) {
            side.remove(number, &mut self.attributes, |route| {
                route.is_from(Source::OURSELVES)
            });
        }
    }
}

/// What is needed to tell whether two treatments make a difference.
struct Comparison<'a> {
    attributes: &'a AttributeTable,
    peers: &'a Peers,
    old: &'a Settings,
    new: &'a Settings,
}

impl Comparison<'_> {
    /// The prefixes that `new` tells otherwise than `old` did.
    fn differences(&self, side: &Side, old: &Treatment, new: &Treatment) -> BitSet {
        let mut different = BitSet::default();
        if new.paths(side.family).is_some() {
            // A path that is told as before is not told again, so all may be looked at.
            side.table.iter().for_each(|(number, _)| {
                different.insert(number);
            });
            return different;
        }
        let mut known: HashMap<(AttributesId, Source), bool> = HashMap::new();
        for (number, destination) in side.table.iter() {
            let (Some(route), Some(prefix)) =
                (destination.routes.best(), side.table.prefix(number))
            else {
                continue;
            };
            let key = (route.effective, route.source);
            let differs = match known.get(&key) {
                Some(differs) => *differs,
                None => {
                    let (differs, depends) = self.differ(prefix, route, old, new);
                    if !depends {
                        known.insert(key, differs);
                    }
                    differs
                }
            };
            if differs {
                different.insert(number);
            }
        }
        different
    }

    /// Whether one route is told otherwise, and whether that depends on its prefix.
    fn differ(
        &self,
        prefix: Prefix,
        route: &Route,
        old: &Treatment,
        new: &Treatment,
    ) -> (bool, bool) {
        let mut depends = false;
        let Some(attributes) = self.attributes.get(route.effective) else {
            return (true, true);
        };
        let mut told = |settings: &Settings, treatment: &Treatment| {
            let from = from(settings, self.peers, route.source, prefix)?;
            depends |= treatment.depends_on_prefix(from);
            treatment.export(prefix, from, attributes).ok()
        };
        let differs = told(self.old, old) != told(self.new, new);
        (differs, depends)
    }
}

impl Side {
    fn treat_again(&mut self, moving: Vec<(PeerId, &Treatment)>, comparison: &Comparison<'_>) {
        let mut by_group: BTreeMap<u32, Vec<(PeerId, &Treatment)>> = BTreeMap::new();
        for (peer, treatment) in moving {
            if let Some(group) = self.placed.get(&peer) {
                by_group.entry(*group).or_default().push((peer, treatment));
            }
        }
        for (number, moving) in by_group {
            let Some(mut group) = self.groups.remove(&number) else {
                continue;
            };
            if !self.change_whole(&mut group, &moving, comparison) {
                self.move_each(&mut group, &moving, comparison);
            }
            if !group.is_empty() {
                self.groups.insert(number, group);
            }
        }
    }

    /// Where all peers of a group go the same way, and nobody is there yet, the group goes as one.
    fn change_whole(
        &self,
        group: &mut Group,
        moving: &[(PeerId, &Treatment)],
        comparison: &Comparison<'_>,
    ) -> bool {
        let Some((_, treatment)) = moving.first() else {
            return true;
        };
        let together = moving.len() == group.peers().count()
            && moving.iter().all(|(_, other)| other == treatment)
            && !self
                .groups
                .values()
                .any(|other| other.treatment == **treatment);
        if together {
            let differences = comparison.differences(self, &group.treatment, treatment);
            group.change((*treatment).clone(), &differences);
        }
        together
    }

    fn move_each(
        &mut self,
        group: &mut Group,
        moving: &[(PeerId, &Treatment)],
        comparison: &Comparison<'_>,
    ) {
        let mut known: Vec<(&Treatment, BitSet)> = Vec::new();
        for (peer, treatment) in moving {
            let place = match known.iter().position(|(other, _)| other == treatment) {
                Some(place) => place,
                None => {
                    let differences = comparison.differences(self, &group.treatment, treatment);
                    known.push((treatment, differences));
                    known.len() - 1
                }
            };
            let number = self.group_for(treatment);
            let (Some((_, differences)), Some(to)) =
                (known.get(place), self.groups.get_mut(&number))
            else {
                continue;
            };
            group.hand_over(*peer, to, differences, &mut self.table);
            self.placed.insert(*peer, number);
        }
    }
}
