//! What the kernel tells: changed links and addresses, routes of others, and our own routes taken from us.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use hashbrown::HashSet;

use crate::{
    event::{Event, LinkEvent},
    guard::Gate,
    kernel::{KernelEvent, Key, Marks, Owner, RouteEvent, RouteEventKind},
    network::Failure as NeighbourFailure,
    plan::{Removal, step},
    reconciler::{Decision, Reconciler, write::TELL_AT_MOST},
    resolve::resolve,
    routes::Standing,
    target::{Id, Target},
};

/// So many times in a row our route is put back at once; after that with back-off.
pub(super) const AT_ONCE: u32 = 3;
const FIGHT_FIRST: Duration = Duration::from_millis(200);
const FIGHT_LAST: Duration = Duration::from_secs(10);
/// A fight is over when nobody touched the route for so long.
pub(super) const TRUCE: Duration = Duration::from_secs(30);
/// After an address or link went, the kernel drops routes without telling; a look shortly after finds them.
pub(super) const SETTLE: Duration = Duration::from_millis(300);

/// A neighbour that failed is asked for again this often.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Someone keeps changing a route of ours.
#[derive(Debug)]
pub(super) struct Fight {
    times: u32,
    last: Instant,
    /// It is not as it should be right now.
    open: bool,
}

impl Fight {
    pub(super) fn times(&self) -> u32 {
        self.times
    }
}

impl Reconciler {
    /// Takes what the kernel told, all of it before anything is decided: several events are one change.
    pub(crate) fn observe(&mut self, now: Instant, events: Vec<KernelEvent>) {
        // What is being read may be older than an event: they are taken in order, after it.
        if self.reading {
            self.held.extend(events);
            return;
        }
        let (mut moved, mut links, mut addresses) = (false, false, false);
        let mut lost = Vec::new();
        for event in events {
            match event {
                KernelEvent::LinkChanged(link) => {
                    let (index, down) = (link.index, !link.admin_up);
                    if !link.usable() {
                        lost.extend(self.objects.flushed(index));
                    }
                    self.link_events.extend(self.network.set_link(link));
                    (moved, links) = (true, true);
                    if down {
                        self.suspect(now, index);
                    }
                }
                KernelEvent::LinkGone(index) => {
                    lost.extend(self.objects.flushed(index));
                    self.link_events.extend(self.network.remove_link(index));
                    (moved, addresses) = (true, true);
                    self.suspect(now, index);
                }
                KernelEvent::AddressAdded(address) => {
                    self.link_events.extend(self.network.add_address(address));
                    (moved, addresses) = (true, true);
                }
                KernelEvent::AddressGone(address) => {
                    self.link_events
                        .extend(self.network.remove_address(&address));
                    (moved, addresses) = (true, true);
                    if self.network.lost_ipv4(&address) {
                        self.suspect(now, address.interface);
                    }
                }
                KernelEvent::Route(event) => moved |= self.observe_route(now, event),
                KernelEvent::Object(event) => lost.extend(self.observe_object(now, event)),
                KernelEvent::Neighbour {
                    interface,
                    address,
                    failure,
                } => {
                    if failure == NeighbourFailure::Answers || self.is_next_hop(interface, address)
                    {
                        moved |= self.network.set_neighbour(interface, address, failure);
                        self.probe_at.get_or_insert(now + PROBE_EVERY);
                    }
                }
            }
        }
        self.lose_routes(now, &lost);
        if addresses {
            self.renew_gate();
        }
        if moved {
            self.settle();
        }
        if links || addresses {
            self.retry_failed();
        }
    }

    /// Guard the node's addresses as they are now.
    fn renew_gate(&mut self) {
        let connected = self.network.connected();
        if connected != self.connected {
            self.gate = Gate::new(&self.config.guard, &connected);
            self.connected = connected;
            self.reconsider(|_, _| true);
        }
    }

    /// Moves what resolves differently now.
    fn settle(&mut self) {
        let changed = self.resolve_everything();
        if changed.contains(&true) {
            self.reconsider(|_, entry| {
                changed.get(entry.wanted as usize).copied().unwrap_or(false)
            });
        }
    }

    /// What failed for want of a link or an address may go now.
    fn retry_failed(&mut self) {
        let failed: Vec<Key> = self.failures.keys().copied().collect();
        for key in failed {
            self.touch(key);
        }
    }

    /// The kernel drops IPv4 routes through a link that is set down, or loses its last address, silently.
    fn suspect(&mut self, now: Instant, interface: u32) {
        let through: Vec<Id> = self
            .targets
            .iter()
            .filter(|(_, target)| target.uses(interface))
            .map(|(id, _)| id)
            .collect();
        self.doubt(now, &through);
    }

    /// What the kernel has through these targets may be gone, and it does not say so route by route.
    pub(super) fn doubt(&mut self, now: Instant, through: &[Id]) {
        if through.is_empty() {
            return;
        }
        let keys: Vec<Key> = self
            .routes
            .iter()
            .filter(|(_, e)| through.contains(&e.kernel))
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.set_kernel(&key, self.unknown);
            self.touch(key);
        }
        self.read_at(now + SETTLE);
    }

    /// True if next hops may resolve differently now.
    fn observe_route(&mut self, now: Instant, event: RouteEvent) -> bool {
        let RouteEvent {
            prefix,
            route,
            kind,
            by,
        } = event;
        let owner = if route.tos == 0 {
            self.marks.owner(route.protocol, route.table, route.metric)
        } else {
            Owner::Foreign
        };
        match owner {
            Owner::Ours(layer) => {
                let found = (kind != RouteEventKind::Gone).then(|| route.target());
                self.observe_own(now, Key { layer, prefix }, found, by);
                false
            }
            Owner::Retiring(..) => false,
            Owner::Foreign => {
                let relevant = is_relevant(&self.marks, route.protocol, route.table, route.metric);
                if !relevant {
                    return false;
                }
                let slot = (route.tos == 0)
                    .then(|| self.marks.slot(route.table, route.metric))
                    .flatten();
                match kind {
                    RouteEventKind::Gone => self.network.remove_route(prefix, &route),
                    RouteEventKind::Added => self.network.add_route(prefix, route, false),
                    RouteEventKind::Replaced => self.network.add_route(prefix, route, true),
                }
                if prefix.prefix() == 0 {
                    self.link_events.push(LinkEvent::DefaultRoute);
                }
                if let Some(layer) = slot {
                    self.observe_occupant(now, Key { layer, prefix }, kind, by);
                }
                true
            }
        }
    }

    /// A foreign route came to, or left, a place of ours.
    fn observe_occupant(&mut self, now: Instant, key: Key, kind: RouteEventKind, by: u32) {
        let ours = self.routes.get(&key).is_some_and(|entry| entry.kernel != 0);
        if kind == RouteEventKind::Replaced && ours {
            let mark = self.marks.current;
            let occupant = self
                .network
                .occupant(key.prefix, mark.table, key.layer.metric(mark));
            let found = occupant.map(|foreign| self.network.in_words(key.prefix, foreign));
            self.drifted(now, key, found, by);
            self.set_kernel(&key, 0);
        }
        if self.routes.get(&key).is_some_and(|entry| entry.wanted != 0) {
            self.touch(key);
        }
    }

    /// Someone changed a route that bears our mark.
    fn observe_own(&mut self, now: Instant, key: Key, found: Option<Target>, by: u32) {
        let entry = self.routes.get(&key).copied().unwrap_or_default();
        let before = self
            .targets
            .get(entry.kernel)
            .map(|target| (**target).clone());
        if before == found && !entry.in_flight {
            return;
        }
        // IPv6 tells the loss of one hop of several as the loss of a route: what is left is not known.
        let several =
            matches!(&before, Some(Target::Hops(hops)) if hops.len() > 1 && key.prefix.is_ipv6());
        // With an object its IPv6 routes go, and are told one by one, perhaps after we put them back.
        let with_object = by == 0 && matches!(&before, Some(Target::Object(_)));
        let kernel = match &found {
            _ if entry.in_flight => self.unknown,
            None if several || with_object => self.unknown,
            None => 0,
            Some(target) => {
                let id = self.targets.acquire(target.clone());
                self.set_kernel(&key, id);
                self.targets.release(id);
                id
            }
        };
        self.set_kernel(&key, kernel);
        let complete = self.complete;
        self.routes
            .update(&key, |entry| entry.found |= entry.wanted == 0 && !complete);
        // What the kernel itself does follows from links and addresses, and is no drift.
        let wanted_back = self.desired(&key).is_some_and(|desired| desired != kernel);
        if by != 0 && wanted_back && !entry.in_flight {
            let found = found.map(|target| self.target_in_words(&target));
            self.drifted(now, key, found, by);
            if let Some(delay) = self.fight_delay(&key) {
                self.routes
                    .update(&key, |entry| entry.standing = Standing::Undecided);
                self.retries.insert((now + delay, key));
                return;
            }
        }
        self.touch(key);
    }

    /// What should be in the kernel for this prefix.
    pub(super) fn desired(&self, key: &Key) -> Option<Id> {
        self.routes
            .get(key)
            .and_then(|entry| self.decide(key, entry).target())
    }

    pub(super) fn drifted(&mut self, now: Instant, key: Key, found: Option<String>, by: u32) {
        self.totals.drifted += 1;
        self.calm_at.get_or_insert(now + TRUCE);
        let fight = self.fights.entry(key).or_insert(Fight {
            times: 0,
            last: now,
            open: true,
        });
        fight.times = fight.times.saturating_add(1);
        fight.last = now;
        fight.open = true;
        let times = fight.times;
        if self.told < TELL_AT_MOST {
            self.told += 1;
            self.events.push(Event::Drifted {
                prefix: key.prefix,
                found,
                by,
            });
        }
        if times == AT_ONCE + 1 {
            self.events.push(Event::Fighting {
                prefix: key.prefix,
                times,
            });
        }
    }

    fn fight_delay(&self, key: &Key) -> Option<Duration> {
        let beyond = self.fights.get(key)?.times.checked_sub(AT_ONCE + 1)?;
        Some(
            FIGHT_FIRST
                .saturating_mul(1 << beyond.min(8))
                .min(FIGHT_LAST),
        )
    }

    /// Our route stands again.
    pub(super) fn healed(&mut self, now: Instant, key: Key) {
        let desired = self.desired(&key);
        let stands = self
            .routes
            .get(&key)
            .is_some_and(|entry| Some(entry.kernel) == desired);
        if let Some(fight) = self
            .fights
            .get_mut(&key)
            .filter(|fight| fight.open && stands)
        {
            fight.open = false;
            fight.last = now;
            self.totals.healed += 1;
            if self.told < TELL_AT_MOST {
                self.told += 1;
                self.events.push(Event::Healed { prefix: key.prefix });
            }
        }
    }

    /// Forgets fights that are over.
    pub(super) fn calm(&mut self, now: Instant) {
        if self.calm_at.is_some_and(|at| at <= now) {
            self.fights.retain(|_, fight| fight.last + TRUCE > now);
            self.calm_at = (!self.fights.is_empty()).then(|| now + TRUCE);
        }
    }

    /// The neighbours to ask for again, if it is time: the next hops among those that failed.
    pub(crate) fn wants_probing(&mut self, now: Instant) -> Option<Vec<(u32, IpAddr)>> {
        if self.probe_at.is_none_or(|at| at > now) {
            return None;
        }
        let used = self.gateways();
        let failed = self
            .network
            .failed_neighbours(|neighbour| used.contains(neighbour));
        self.probe_at = (!failed.is_empty()).then(|| now + PROBE_EVERY);
        (!failed.is_empty()).then_some(failed)
    }

    /// Whether something of ours goes through this neighbour.
    fn is_next_hop(&self, interface: u32, address: IpAddr) -> bool {
        self.targets.iter().any(|(_, target)| match &**target {
            Target::Hops(hops) => hops
                .iter()
                .any(|hop| (hop.interface, hop.gateway) == (interface, Some(address))),
            Target::Unknown | Target::Blackhole | Target::Object(_) => false,
        })
    }

    /// The neighbours that wanted next hops resolve to, also those left out because they do not answer.
    fn gateways(&self) -> HashSet<(u32, IpAddr)> {
        let mut gateways = HashSet::new();
        for (_, set) in self.wanted.iter() {
            for next_hop in &set.next_hops {
                if let Ok(resolved) =
                    resolve(&self.network, next_hop, set.family, self.config.unresolved)
                {
                    gateways.extend(
                        resolved
                            .hops
                            .iter()
                            .filter_map(|hop| Some((hop.interface, hop.gateway?))),
                    );
                }
            }
        }
        gateways
    }

    /// Whether a step is still to be taken for this prefix; for reports.
    pub(super) fn is_outdated(&self, key: &Key) -> bool {
        self.routes.get(key).is_some_and(|entry| {
            let kernel = (entry.kernel != 0).then_some(entry.kernel);
            let decision = self.decide(key, entry);
            !matches!(decision, Decision::Awaited)
                && step(decision.target(), kernel, Removal::Allowed).is_some()
        })
    }
}

const MAIN: u32 = 254;

/// Whether a foreign route matters: it may resolve next hops, or stands in a place of ours.
pub(crate) fn is_relevant(marks: &Marks, protocol: u8, table: u32, metric: u32) -> bool {
    let resolves = !marks.protocols().contains(&protocol);
    let visible = table == MAIN || table == marks.current.table;
    visible && (resolves || marks.slot(table, metric).is_some())
}
