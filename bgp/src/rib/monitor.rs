//! What collectors are told over BMP (RFC 7854): a walk over the table that begins when one connects, then the routes that
//! changed. What waits is a set of routes, looked up when there is room, so that the newest wins; a collector for which more
//! waits than the whole table is made to begin anew.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use bytes::BytesMut;
use hashbrown::HashMap;

use super::{
    Rib, Sides,
    intern::AttributeTable,
    peer::{Live, Peer, Peers},
    route::Route,
    table::Number,
    task::{CollectorId, CollectorMessage, Feed, PeerId},
};
use crate::{
    bmp::{self, Down, Subject, Views},
    prefix::{Families, Family},
    wire::Nlri,
};

mod message;

use message::{Item, Messages};

/// Routes that may wait whatever the size of the table.
const FEW: usize = 64 * 1024;
/// Prefixes of the table, or routes that changed, looked up before room is looked at again.
const CHUNK: usize = 512;
/// Chunks before others get their turn.
const ROUNDS: usize = 32;

/// All collectors that are connected.
#[derive(Debug, Default)]
pub(super) struct Monitors {
    collectors: BTreeMap<CollectorId, Collector>,
}

/// One collector, and how far it has been told.
#[derive(Debug)]
struct Collector {
    feed: Feed,
    next_report: Option<Instant>,
    /// The sessions it has been told of.
    told: BTreeMap<PeerId, Told>,
    /// Sessions may have come or gone since.
    stirred: bool,
    /// Where the walk over the table goes on; `None`: it is over.
    walk: Option<(Family, Number)>,
    /// What changed since the last look.
    changed: Changed,
    /// What changed before that, and has still to be told.
    telling: Vec<(Key, Views)>,
    /// End-of-RIBs that follow on that.
    ending: Vec<(PeerId, Family)>,
    behind: bool,
}

/// A session it has been told of.
#[derive(Clone, Copy, Debug)]
struct Told {
    subject: Subject,
    session: u64,
    families: Families,
}

/// Which route: of this peer, to this prefix.
type Key = (PeerId, Nlri);

#[derive(Debug, Default)]
struct Changed {
    /// With the views in which it stood before.
    routes: HashMap<Key, Views>,
    ends: Vec<(PeerId, Family)>,
}

/// The views in which a route stands.
pub(super) fn views(route: &Route) -> Views {
    if route.eligible() {
        Views::PRE_POLICY | Views::POST_POLICY
    } else {
        Views::PRE_POLICY
    }
}

impl Monitors {
    /// A route of the peer is another than before, when it stood in these views.
    pub(super) fn mark(&mut self, peer: &Peer, nlri: Nlri, before: Views) {
        // Of a peer without a session nothing is told.
        if self.collectors.is_empty() || peer.session.is_none() {
            return;
        }
        for collector in self.collectors.values_mut() {
            let routes = &mut collector.changed.routes;
            routes.entry((peer.id, nlri)).or_insert(before);
        }
    }

    /// The peer has told all.
    pub(super) fn end(&mut self, peer: PeerId, family: Family) {
        for collector in self.collectors.values_mut() {
            let ends = &mut collector.changed.ends;
            if !ends.contains(&(peer, family)) {
                ends.push((peer, family));
            }
        }
    }

    /// A session came or went.
    pub(super) fn stir(&mut self) {
        for collector in self.collectors.values_mut() {
            collector.stirred = true;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.collectors.is_empty()
    }

    pub(super) fn is_behind(&self) -> bool {
        self.collectors.values().any(|collector| collector.behind)
    }

    /// When the next Statistics Report is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let reports = self.collectors.values();
        reports.filter_map(|collector| collector.next_report).min()
    }
}

impl Rib {
    /// A collector came, has room again, or is gone.
    pub fn hear_collector(&mut self, now: Instant, id: CollectorId, message: CollectorMessage) {
        self.now(now);
        match message {
            CollectorMessage::Connected(feed) => {
                let collector = Collector::new(*feed, now);
                self.monitors.collectors.insert(id, collector);
            }
            // It is looked at in any case when output is flushed.
            CollectorMessage::Writable => {}
            CollectorMessage::Gone => {
                self.monitors.collectors.remove(&id);
            }
        }
    }

    /// Tells collectors what there is to tell, as far as they have room. `wall` is `now` on the other clock.
    pub fn tell_collectors(&mut self, now: Instant, wall: SystemTime) {
        if self.monitors.is_empty() {
            return;
        }
        self.now(now);
        let routes: usize = self.peers.values().map(Peer::received).sum();
        let most = routes.max(FEW);
        let known = Known {
            now,
            wall,
            started: self.started,
            sides: &self.sides,
            attributes: &self.attributes,
            peers: &self.peers,
        };
        self.monitors.collectors.retain(|_, collector| {
            collector.tell(&known);
            // Its task sees that nobody speaks to it any more, and connects again.
            collector.changed.routes.len() <= most
        });
    }

    /// What is kept of a peer from an earlier session belongs to this one too.
    pub(super) fn mark_kept(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id).filter(|_| !self.monitors.is_empty()) else {
            return;
        };
        for side in self.sides.each() {
            for (number, destination) in side.table.iter() {
                for route in destination.routes.as_slice() {
                    if let (true, Some(prefix)) =
                        (route.is_from(peer.source()), side.table.prefix(number))
                    {
                        let path_id = route.path_id;
                        let nlri = Nlri { prefix, path_id };
                        self.monitors.mark(peer, nlri, Views::empty());
                    }
                }
            }
        }
    }
}

/// All that collectors are told of.
struct Known<'a> {
    now: Instant,
    wall: SystemTime,
    started: Instant,
    sides: &'a Sides,
    attributes: &'a AttributeTable,
    peers: &'a Peers,
}

impl Known<'_> {
    fn live(&self, peer: PeerId) -> Option<(&Peer, &Live)> {
        let peer = self.peers.get(&peer)?;
        Some((peer, peer.session.as_ref()?))
    }

    fn at(&self, then: Instant) -> SystemTime {
        let age = self.now.saturating_duration_since(then);
        self.wall.checked_sub(age).unwrap_or(self.wall)
    }
}

impl Collector {
    fn new(feed: Feed, now: Instant) -> Self {
        Self {
            next_report: feed.statistics.map(|interval| now + interval),
            feed,
            told: BTreeMap::new(),
            stirred: true,
            walk: Some((Family::IPv4, 0)),
            changed: Changed::default(),
            telling: Vec::new(),
            ending: Vec::new(),
            behind: false,
        }
    }

    fn tell(&mut self, known: &Known<'_>) {
        let mut rounds = 0;
        self.behind = false;
        let mut report_due = self.next_report.is_some_and(|due| known.now >= due);
        if report_due {
            self.next_report = self.feed.statistics.map(|interval| known.now + interval);
        }
        while !self.feed.room.is_full() {
            let mut messages = Messages::new(known);
            if std::mem::take(&mut self.stirred) {
                self.tell_sessions(known, &mut messages);
            }
            if std::mem::take(&mut report_due) {
                self.report(known, &mut messages);
            }
            let more = self.tell_routes(known, &mut messages);
            self.feed.send(messages.finish());
            if !more {
                return;
            }
            rounds += 1;
            if rounds == ROUNDS {
                self.behind = true;
                return;
            }
        }
    }

    /// Sessions that are over, then those that are new. Of several that came and went since, the last one counts.
    fn tell_sessions(&mut self, known: &Known<'_>, messages: &mut Messages<'_>) {
        self.told.retain(|id, told| {
            let goes_on = known.live(*id).map(|(_, live)| live.number) == Some(told.session);
            if !goes_on {
                let down = match known.peers.get(id) {
                    None => &Down::Forgotten,
                    Some(peer) => &peer.last_down,
                };
                bmp::peer_down(&told.subject, down, known.wall, messages.out());
            }
            goes_on
        });
        for (id, peer) in known.peers {
            let Some(live) = peer
                .session
                .as_ref()
                .filter(|_| !self.told.contains_key(id))
            else {
                continue;
            };
            let subject = Subject {
                address: peer.address,
                asn: peer.asn,
                router_id: peer.router_id,
            };
            let told = Told {
                subject,
                session: live.number,
                families: live.context.families,
            };
            self.told.insert(*id, told);
            let local = peer.local_address.unwrap_or(peer.address);
            let since = known.at(live.since);
            bmp::peer_up(&subject, local, &live.opening, since, messages.out());
        }
    }

    /// A step of the walk, or some of what changed. Says whether there may be more.
    fn tell_routes(&mut self, known: &Known<'_>, messages: &mut Messages<'_>) -> bool {
        if let Some((family, start)) = self.walk {
            self.step(family, start, known, messages);
            return true;
        }
        if self.telling.is_empty() {
            for (peer, family) in std::mem::take(&mut self.ending) {
                self.end_of_rib(peer, family, known, messages);
            }
            let changed = std::mem::take(&mut self.changed);
            self.telling = changed.routes.into_iter().collect();
            self.ending = changed.ends;
        }
        let rest = self.telling.len().saturating_sub(CHUNK);
        let items: Vec<Item> = self
            .telling
            .drain(rest..)
            .filter(|((peer, _), _)| self.told.contains_key(peer))
            .flat_map(|(key, before)| now(key, before, self.feed.views, known))
            .collect();
        self.write(items, known, messages);
        !self.telling.is_empty() || !self.ending.is_empty()
    }

    fn step(
        &mut self,
        family: Family,
        start: Number,
        known: &Known<'_>,
        messages: &mut Messages<'_>,
    ) {
        let table = &known.sides.of(family).table;
        let end = start
            .saturating_add(CHUNK as Number)
            .min(table.numbers().end);
        let mut items = Vec::new();
        for number in start..end {
            let (Some(destination), Some(prefix)) = (table.get(number), table.prefix(number))
            else {
                continue;
            };
            for route in destination.routes.as_slice() {
                if let Some(peer) = route.source.as_peer()
                    && self.told.contains_key(&peer)
                {
                    let path_id = route.path_id;
                    let nlri = Nlri { prefix, path_id };
                    items.extend(announced((peer, nlri), route, self.feed.views));
                }
            }
        }
        self.write(items, known, messages);
        if end < table.numbers().end {
            self.walk = Some((family, end));
            return;
        }
        for (peer, told) in &self.told {
            if told.families.has(family) {
                self.end_of_rib(*peer, family, known, messages);
            }
        }
        self.walk = match family {
            Family::IPv4 => Some((Family::IPv6, 0)),
            Family::IPv6 => None,
        };
    }

    fn end_of_rib(
        &self,
        peer: PeerId,
        family: Family,
        known: &Known<'_>,
        messages: &mut Messages<'_>,
    ) {
        if let Some(told) = self.told.get(&peer) {
            for view in self.feed.views.each() {
                messages.end_of_rib(&told.subject, view, family, known.wall);
            }
        }
    }

    /// Writes routes; those that say the same go together.
    fn write(&self, mut items: Vec<Item>, known: &Known<'_>, messages: &mut Messages<'_>) {
        items.sort_unstable();
        for alike in items.chunk_by(Item::is_told_with) {
            let first = alike.first();
            if let Some(told) = first.and_then(|item| self.told.get(&item.peer))
                && let Some((_, live)) = first.and_then(|item| known.live(item.peer))
            {
                messages.routes(&told.subject, live, alike);
            }
        }
    }

    /// The Statistics Reports.
    fn report(&self, known: &Known<'_>, messages: &mut Messages<'_>) {
        let best = best(known.sides);
        for (id, told) in &self.told {
            if let Some(peer) = known.peers.get(id) {
                let best = best.get(id).copied().unwrap_or_default();
                messages.statistics(&told.subject, peer, best);
            }
        }
    }
}

/// How a route stands now, in each of these views; withdrawn where it no longer does but did before.
fn now(
    (peer, nlri): Key,
    before: Views,
    wanted: Views,
    known: &Known<'_>,
) -> impl Iterator<Item = Item> {
    let table = &known.sides.of(nlri.prefix.family()).table;
    let destination = table.find(nlri.prefix).and_then(|number| table.get(number));
    let mut routes = destination
        .into_iter()
        .flat_map(|destination| destination.routes.as_slice());
    let route =
        routes.find(|route| route.source.as_peer() == Some(peer) && route.path_id == nlri.path_id);
    let stands = route.map_or(Views::empty(), views);
    let gone = (before - stands) & wanted;
    let withdrawn = gone
        .each()
        .map(move |view| Item::withdrawn(peer, view, nlri));
    let announced = route.map(|route| announced((peer, nlri), route, wanted));
    withdrawn.chain(announced.into_iter().flatten())
}

fn announced((peer, nlri): Key, route: &Route, wanted: Views) -> impl Iterator<Item = Item> {
    let route = *route;
    let stands = views(&route) & wanted;
    stands
        .each()
        .map(move |view| Item::announced(peer, view, &route, nlri))
}

/// How many of the best routes are of each peer, by family.
fn best(sides: &Sides) -> HashMap<PeerId, [u64; 2]> {
    let mut best: HashMap<PeerId, [u64; 2]> = HashMap::new();
    for side in sides.each() {
        for (_, destination) in side.table.iter() {
            let route = destination.routes.best();
            if let Some(peer) = route.and_then(|route| route.source.as_peer()) {
                let [v4, v6] = best.entry(peer).or_default();
                match side.family {
                    Family::IPv4 => *v4 += 1,
                    Family::IPv6 => *v6 += 1,
                }
            }
        }
    }
    best
}

impl Feed {
    /// Queues whole messages.
    fn send(&self, messages: BytesMut) {
        if !messages.is_empty() {
            self.room.add(messages.len());
            // One whose connection has ended says so itself.
            let _ = self.messages.send(messages.freeze());
        }
    }
}
