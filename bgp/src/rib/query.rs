//! What is known, in the words of the command line.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use super::{
    Rib, Side,
    decision::{self, Decision, Rules},
    export::Treatment,
    import,
    peer::Peer,
    route::{Flags, Route, Source},
    seconds,
    side::candidate,
    stream::from,
    table::{Destination, Number},
    task::{PeerCounts, PeerId, RibCounts},
};
use crate::{
    config,
    prefix::{Family, Prefix},
    speaker::{Direction, RouteQuery},
    status::{Explanation, FamilyCounts, Fate, RouteStatus},
    wire::{Attributes, PathId},
};

/// When a query is answered, on both clocks.
#[derive(Clone, Copy)]
struct Clock {
    now: Instant,
    wall: SystemTime,
}

impl Rib {
    /// Counts.
    #[must_use]
    pub fn counts(&self) -> RibCounts {
        RibCounts {
            complete: self.complete,
            prefixes: Family::ALL
                .map(|family| (family, self.sides.of(family).table.live))
                .into(),
            attribute_sets: self.attributes.len(),
            peers: self
                .peers
                .iter()
                .map(|(id, peer)| (*id, self.peer_counts(peer)))
                .collect(),
        }
    }

    fn peer_counts(&self, peer: &Peer) -> PeerCounts {
        let mut families = BTreeMap::new();
        let mut waiting = 0;
        for family in Family::ALL {
            let inbound = peer.inbound(family);
            if !peer.carries(family) && inbound.received == 0 {
                continue;
            }
            let group = self.sides.of(family).group_of(peer.id);
            waiting += group.map_or(0, |group| group.waiting(peer.id));
            families.insert(
                family,
                FamilyCounts {
                    received: inbound.received,
                    accepted: inbound.accepted,
                    stale: inbound.stale,
                    refused_by_origin: inbound.astray,
                    looped: inbound.looped,
                    advertised: group.map_or(0, |group| group.told_to(peer.id)),
                    end_of_rib: inbound.end_of_rib,
                },
            );
        }
        PeerCounts {
            families,
            updates_out: peer.updates_out,
            waiting,
        }
    }

    /// Routes, by family and prefix.
    #[must_use]
    pub fn routes(&self, query: &RouteQuery, now: Instant, wall: SystemTime) -> Vec<RouteStatus> {
        let clock = Clock { now, wall };
        let limit = match query.limit {
            0 => usize::MAX,
            limit => limit,
        };
        let mut found = Vec::new();
        for family in Family::ALL {
            if query.family.is_some_and(|wanted| wanted != family) {
                continue;
            }
            for (prefix, number) in self.numbers(family, query.prefix) {
                if found.len() >= limit {
                    return found;
                }
                match query.direction {
                    Some(Direction::Advertised) => {
                        self.advertised(family, number, prefix, query, clock, &mut found);
                    }
                    direction => {
                        let received = direction == Some(Direction::Received);
                        found.extend(self.known(family, number, prefix, clock).filter(|route| {
                            (!received || route.from.is_some())
                                && (query.peer.is_none() || route.from == query.peer)
                        }));
                    }
                }
            }
        }
        found.truncate(limit);
        found
    }

    /// The prefixes of a family in order, or the one asked for.
    fn numbers(&self, family: Family, only: Option<Prefix>) -> Vec<(Prefix, Number)> {
        let table = &self.sides.of(family).table;
        if let Some(prefix) = only {
            return table
                .find(prefix)
                .map(|number| (prefix, number))
                .into_iter()
                .collect();
        }
        let mut all: Vec<_> = table
            .iter()
            .filter_map(|(number, _)| Some((table.prefix(number)?, number)))
            .collect();
        all.sort_unstable();
        all
    }

    /// Every route to a prefix, the best first.
    fn known(
        &self,
        family: Family,
        number: Number,
        prefix: Prefix,
        clock: Clock,
    ) -> impl Iterator<Item = RouteStatus> {
        let routes = self
            .sides
            .of(family)
            .table
            .get(number)
            .map(|destination| destination.routes.as_slice())
            .unwrap_or_default();
        let decision = self.decision(routes);
        let mut place = 0;
        routes.iter().filter_map(move |route| {
            let mut lost = None;
            if route.eligible() {
                lost = decision
                    .as_ref()
                    .and_then(|decision| decision.lost.get(place).copied().flatten());
                place += 1;
            }
            let fate = if route.flags.contains(Flags::BEST) {
                Fate::Best
            } else if route.flags.contains(Flags::MULTIPATH) {
                Fate::Multipath
            } else if route.eligible() {
                Fate::Lost(lost.map_or_else(|| "not yet decided".into(), |lost| lost.to_string()))
            } else {
                Fate::Refused(self.refusal(prefix, route))
            };
            // As it was said: import may have changed it, and what is refused has only that.
            self.status(prefix, route, fate, clock)
        })
    }

    fn decision(&self, routes: &[Route]) -> Option<Decision> {
        let candidates: Vec<_> = routes
            .iter()
            .filter(|route| route.eligible())
            .filter_map(|route| candidate(route, &self.attributes, &self.peers))
            .collect();
        decision::decide(
            &candidates,
            Rules {
                multipath: self.settings.multipath,
                stable: self.settings.stable,
            },
        )
    }

    pub(super) fn refusal(&self, prefix: Prefix, route: &Route) -> String {
        let peer = route.source.as_peer().and_then(|id| self.peers.get(&id));
        let outcome = peer
            .zip(self.attributes.get(route.received))
            .map(|(peer, received)| import::import(&self.settings, peer, prefix, received));
        match outcome {
            Some(Err(refusal)) => refusal.to_string(),
            _ => "refused by import".into(),
        }
    }

    fn status(
        &self,
        prefix: Prefix,
        route: &Route,
        fate: Fate,
        clock: Clock,
    ) -> Option<RouteStatus> {
        let attributes = self.attributes.get(route.effective)?;
        let peer = route.source.as_peer().and_then(|id| self.peers.get(&id));
        Some(RouteStatus {
            path_id: (route.path_id != 0).then_some(route.path_id),
            from: peer.map(|peer| peer.name.to_string()),
            source: self.source(prefix, route),
            since: self.wall(route.since, clock),
            fate,
            stale: route.flags.contains(Flags::STALE),
            ..shown(prefix, attributes)
        })
    }

    fn source(&self, prefix: Prefix, route: &Route) -> config::Source {
        match route.source {
            Source::OURSELVES => self
                .settings
                .originate
                .get(&prefix)
                .map_or(config::Source::Static, |origination| origination.source),
            _ => config::Source::Learned,
        }
    }

    fn wall(&self, since: u32, clock: Clock) -> SystemTime {
        let age = clock
            .now
            .duration_since(self.started)
            .saturating_sub(seconds(since));
        clock.wall.checked_sub(age).unwrap_or(clock.wall)
    }

    /// What the peers asked for are told of a prefix, with the attributes they are told.
    fn advertised(
        &self,
        family: Family,
        number: Number,
        prefix: Prefix,
        query: &RouteQuery,
        clock: Clock,
        found: &mut Vec<RouteStatus>,
    ) {
        let side = self.sides.of(family);
        let Some(Destination { routes, .. }) = side.table.get(number) else {
            return;
        };
        let asked_for = |id: PeerId| {
            let peer = self.peers.get(&id);
            peer.is_some_and(|peer| query.peer.as_deref().is_none_or(|name| name == &*peer.name))
        };
        let told = side.groups.values().find_map(|group| {
            let mut peers = group.peers();
            let peer = peers.find(|id| group.has_told(*id, number) && asked_for(*id))?;
            Some((group, group.paths(peer, number)))
        });
        match told {
            None => {}
            Some((group, None)) => {
                let best = routes.best().into_iter();
                found.extend(best.filter_map(|route| {
                    self.as_told(prefix, route, &group.treatment, None, clock)
                }));
            }
            Some((group, Some(paths))) => found.extend(paths.iter().filter_map(|path| {
                let mut all = routes.as_slice().iter();
                let route = all.find(|route| route.number == path.id)?;
                let id = Some(path.id.into());
                self.as_told(prefix, route, &group.treatment, id, clock)
            })),
        }
    }

    /// A route with the attributes and the path identifier it is told with.
    fn as_told(
        &self,
        prefix: Prefix,
        route: &Route,
        treatment: &Treatment,
        path_id: Option<PathId>,
        clock: Clock,
    ) -> Option<RouteStatus> {
        let attributes = self.attributes.get(route.effective)?;
        let from = from(&self.settings, &self.peers, route.source, prefix)?;
        let told = treatment.export(prefix, from, attributes).ok()?;
        let status = self.status(prefix, route, Fate::Best, clock)?;
        Some(RouteStatus {
            path_id,
            from: status.from,
            source: status.source,
            since: status.since,
            stale: status.stale,
            ..shown(prefix, &told)
        })
    }

    /// All about one prefix.
    #[must_use]
    pub fn explain(&self, prefix: Prefix, now: Instant, wall: SystemTime) -> Option<Explanation> {
        let family = prefix.family();
        let side = self.sides.of(family);
        let has_routes = |found: &Destination| !found.routes.is_empty();
        let asked = prefix;
        let number = if asked.length() == family.bits() {
            // Packets go by the longest prefix with a route that may be used.
            let usable = |found: &Destination| found.routes.best().is_some();
            side.table
                .longest_match(asked, usable)
                .or_else(|| side.table.longest_match(asked, has_routes))?
        } else {
            side.table
                .find(asked)
                .filter(|number| side.table.get(*number).is_some_and(has_routes))?
        };
        let prefix = side.table.prefix(number)?;
        let clock = Clock { now, wall };
        let routes = side.table.get(number)?.routes.as_slice();
        Some(Explanation {
            prefix,
            candidates: self.known(family, number, prefix, clock).collect(),
            decided_by: self
                .decision(routes)
                .and_then(|decision| decision.decided_by)
                .map(|reason| reason.to_string()),
            advertised_to: self.advertised_to(side, number),
            passed_over: (prefix.length().saturating_add(1)..=asked.length())
                .filter_map(|length| {
                    let longer = Prefix::new(asked.address(), length)?;
                    Some((longer, side.table.find(longer)?))
                })
                .flat_map(|(longer, number)| self.known(family, number, longer, clock))
                .collect(),
        })
    }

    fn advertised_to(&self, side: &Side, number: Number) -> Vec<String> {
        let mut names: Vec<String> = side
            .groups
            .values()
            .flat_map(|group| {
                group
                    .peers()
                    .filter(move |peer| group.has_told(*peer, number))
            })
            .filter_map(|id| self.peers.get(&id))
            .map(|peer| peer.name.to_string())
            .collect();
        names.sort_unstable();
        names
    }
}

/// Attributes as text.
fn shown(prefix: Prefix, attributes: &Attributes) -> RouteStatus {
    let standard = attributes.communities.iter().map(ToString::to_string);
    let large = attributes.large_communities.iter().map(ToString::to_string);
    let extended = attributes
        .extended_communities
        .iter()
        .map(ToString::to_string);
    RouteStatus {
        prefix,
        path_id: None,
        from: None,
        source: config::Source::Learned,
        next_hop: attributes.next_hop.map(|next_hop| next_hop.address),
        as_path: attributes.as_path.to_string(),
        origin: attributes.origin,
        local_pref: attributes.local_pref,
        med: attributes.med,
        communities: standard.chain(large).chain(extended).collect(),
        reflected: attributes.originator_id.map(|originator| {
            let clusters: Vec<String> = attributes
                .cluster_list
                .iter()
                .map(ToString::to_string)
                .collect();
            format!("originator {originator}, clusters {}", clusters.join(" "))
        }),
        since: SystemTime::UNIX_EPOCH,
        fate: Fate::Best,
        stale: false,
    }
}
