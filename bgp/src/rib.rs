//! Every route and what follows from it: Adj-RIB-In, decision, Adj-RIB-Out (RFC 4271 §3.2, §9).
//!
//! ```text
//! Update ─ import ─→ Route in its Destination ─ settle: decide ─→ best
//!                                                                  ├─ Group ─ Stream ─ export ─→ octets for all members
//!                                                                  └─ Installing ─→ Install
//! ```
//! A route stands once, with the number of its attributes as received and as import left them. What a peer or the kernel has
//! still to hear is a set of prefixes; routes are looked up when there is room to tell them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hashbrown::HashMap;

use crate::{prefix::Family, speaker::Event};

mod adj_out;
mod bits;
mod change;
mod configure;
mod decision;
mod dump;
mod export;
#[cfg(test)]
pub(crate) mod fixture;
mod import;
mod install;
mod intern;
mod monitor;
mod next_hops;
mod origin;
mod paths;
mod peer;
mod policy;
mod query;
mod reach;
mod round;
mod route;
mod session;
mod side;
mod stream;
mod table;
pub mod task;
mod told;

pub use decision::Reason;
pub use dump::Place;

use adj_out::Group;
use export::Treatment;
use install::Installing;
use intern::AttributeTable;
use monitor::Monitors;
use peer::Peers;
use stream::View;
use table::{Number, Table};
use task::{Install, PeerId, Settings};

/// Every route we know, and what each peer and the kernel has been told of them. It has no clock and no I/O: time is an
/// argument, what it says goes into channels that never make it wait.
#[derive(Debug)]
pub struct Rib {
    settings: Settings,
    peers: Peers,
    attributes: AttributeTable,
    sides: Sides,
    monitors: Monitors,
    events: Vec<Event>,
    /// Sessions so far.
    sessions: u64,
    /// Peers that asked for a refresh which has not begun.
    refresh_due: Vec<(PeerId, Family)>,
    started: Instant,
    /// The latest time we were told.
    clock: Instant,
    /// The same in seconds since the start.
    since: u32,
    configured: bool,
    complete: bool,
}

/// What exists for each family.
#[derive(Debug)]
struct Side {
    family: Family,
    table: Table,
    /// Prefixes to be decided.
    changed: Vec<Number>,
    groups: BTreeMap<u32, Group>,
    next_group: u32,
    /// The group of each peer with a session of this family.
    placed: HashMap<PeerId, u32>,
    install: Installing,
}

#[derive(Debug)]
struct Sides {
    v4: Side,
    v6: Side,
}

impl Sides {
    fn of(&self, family: Family) -> &Side {
        match family {
            Family::IPv4 => &self.v4,
            Family::IPv6 => &self.v6,
        }
    }

    fn of_mut(&mut self, family: Family) -> &mut Side {
        match family {
            Family::IPv4 => &mut self.v4,
            Family::IPv6 => &mut self.v6,
        }
    }

    fn each(&self) -> [&Side; 2] {
        [&self.v4, &self.v6]
    }

    fn each_mut(&mut self) -> [&mut Side; 2] {
        [&mut self.v4, &mut self.v6]
    }
}

impl Side {
    fn new(family: Family, installs: bool) -> Self {
        Self {
            family,
            table: Table::new(family),
            changed: Vec::new(),
            groups: BTreeMap::new(),
            next_group: 0,
            placed: HashMap::new(),
            install: Installing::new(installs),
        }
    }

    fn group_of(&self, peer: PeerId) -> Option<&Group> {
        self.groups.get(self.placed.get(&peer)?)
    }

    /// The number of the group with this treatment, a new one if need be.
    fn group_for(&mut self, treatment: &Treatment) -> u32 {
        let known = self
            .groups
            .iter()
            .find(|(_, group)| group.treatment == *treatment);
        if let Some((number, _)) = known {
            return *number;
        }
        let number = self.next_group;
        self.next_group = self.next_group.wrapping_add(1);
        self.groups.insert(number, Group::new(treatment.clone()));
        number
    }

    fn join(&mut self, peer: PeerId, treatment: &Treatment) {
        let number = self.group_for(treatment);
        if let Some(group) = self.groups.get_mut(&number) {
            group.join(peer, self.family, &self.table);
            self.placed.insert(peer, number);
        }
    }

    fn leave(&mut self, peer: PeerId) {
        let Some(number) = self.placed.remove(&peer) else {
            return;
        };
        if let Some(group) = self.groups.get_mut(&number) {
            group.leave(peer, &mut self.table);
            if group.is_empty() {
                self.groups.remove(&number);
            }
        }
    }
}

impl Rib {
    /// An empty Rib. `installs`: whether anyone wants to know what the kernel should hold.
    #[must_use]
    pub fn new(settings: Settings, installs: bool, now: Instant) -> Self {
        Self {
            settings: Settings {
                originate: BTreeMap::new(),
                ..settings
            },
            peers: Peers::new(),
            attributes: AttributeTable::default(),
            sides: Sides {
                v4: Side::new(Family::IPv4, installs),
                v6: Side::new(Family::IPv6, installs),
            },
            monitors: Monitors::default(),
            events: Vec::new(),
            sessions: 0,
            refresh_due: Vec::new(),
            started: now,
            clock: now,
            since: 0,
            configured: false,
            complete: false,
        }
    }

    fn now(&mut self, now: Instant) {
        self.clock = now;
        let since = now.duration_since(self.started).as_secs();
        self.since = u32::try_from(since).unwrap_or(u32::MAX);
    }

    /// When [`Rib::handle_timeout`] and [`Rib::flush`] want to be called even if nothing happens.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let groups = self
            .sides
            .each()
            .into_iter()
            .flat_map(|side| side.groups.values().filter_map(Group::next_timeout));
        let deferral = self.started + self.settings.deferral;
        groups
            .chain(self.earliest())
            .chain(self.monitors.next_timeout())
            .chain((!self.complete).then_some(deferral))
            .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now(now);
        self.expire(now);
        if !self.complete {
            self.look_whether_complete(now);
        }
    }

    /// Whether [`Rib::flush`] or [`Rib::tell_collectors`] stopped although there was more to tell and room for it: call it again, after a look at what
    /// came in meanwhile.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.monitors.is_behind()
            || self
                .sides
                .each()
                .iter()
                .any(|side| side.groups.values().any(Group::is_behind))
    }

    /// Decides what changed, and tells peers as far as they have room.
    pub fn flush(&mut self, now: Instant) {
        self.now(now);
        self.settle();
        let due = std::mem::take(&mut self.refresh_due);
        for side in self.sides.each_mut() {
            let mut view = View {
                now,
                family: side.family,
                table: &mut side.table,
                attributes: &self.attributes,
                peers: &mut self.peers,
                settings: &self.settings,
                events: &mut self.events,
                complete: self.complete,
            };
            for (peer, _) in due.iter().filter(|(_, family)| *family == side.family) {
                let group = side.placed.get(peer);
                if let Some(group) = group.and_then(|number| side.groups.get_mut(number)) {
                    group.refresh(*peer, &mut view);
                }
            }
            for group in side.groups.values_mut() {
                group.flush(&mut view);
            }
        }
    }

    /// Whether [`Rib::take_installs`] would give something.
    #[must_use]
    pub fn wants_to_install(&self) -> bool {
        self.sides
            .each()
            .into_iter()
            .any(|side| side.install.is_pending())
    }

    /// What changed for the kernel, at most `most` prefixes.
    pub fn take_installs(&mut self, most: usize) -> Vec<Install> {
        let mut batch = Vec::new();
        for side in self.sides.each_mut() {
            side.install.take(
                most,
                &mut side.table,
                &self.attributes,
                &self.peers,
                &mut batch,
            );
        }
        batch
    }

    /// Nobody installs any more.
    pub fn stop_installing(&mut self) {
        for side in self.sides.each_mut() {
            side.install.stop(&mut side.table);
        }
    }

    /// What an operator should know.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether all initial routes are in and decided.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete && self.sides.each().iter().all(|side| side.changed.is_empty())
    }
}

/// Seconds since the start as a duration.
fn seconds(since: u32) -> Duration {
    Duration::from_secs(since.into())
}
