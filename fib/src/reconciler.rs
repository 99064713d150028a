//! Desired against kernel: takes changes and signals, gives batches to write. No I/O, no clock of its own.

mod drift;
mod flood;
mod flush;
mod objects;
mod reading;
mod report;
mod retire;
mod tracking;
mod write;

pub(crate) use drift::is_relevant;

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use ipnetwork::IpNetwork;
use smallvec::SmallVec;

use crate::{
    config::Config,
    event::{Event, LinkEvent},
    fib::Completeness,
    guard::{Connected, Gate, Refusal, trunc},
    kernel::{Failure, KernelEvent, Key, Layer, Marks, Snapshot},
    network::Network,
    objects::{ObjectId, Objects, Progress},
    plan::{Removal, step},
    reconciler::flood::Flood,
    resolve::{Family, Unresolved, resolve_all},
    route::{Change, NextHop},
    routes::{Entry, Routes, Standing},
    status::Totals,
    target::{Id, Interned, Target},
};

pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(100);
pub(crate) const RETRY_LAST: Duration = Duration::from_secs(30);

/// See the top of the file.
#[derive(Debug)]
pub(crate) struct Reconciler {
    config: Config,
    marks: Marks,
    network: Network,
    gate: Gate,
    /// What the gate was built from.
    connected: Vec<Connected>,
    wanted: Interned<WantedSet>,
    /// By number of the wanted set.
    outcomes: Vec<Option<Outcome>>,
    targets: Interned<Target>,
    unknown: Id,
    blackhole: Id,
    routes: Routes,
    objects: Objects,
    /// Objects of sets that nobody wants any more; their routes may go with them.
    abandoned: Vec<ObjectId>,
    /// Routes may stand that are plain though their set has an object by now, or the other way round.
    stragglers: bool,
    /// Prefixes to look at, oldest first; everything that may add or replace.
    additions: VecDeque<Key>,
    /// Prefixes nobody wants; taken in random order, because the kernel's IPv4 trie is slow in ascending order.
    removals: Vec<Key>,
    flood: Flood,
    passed_over: u32,
    random: u32,
    retries: BTreeSet<(Instant, Key)>,
    failures: HashMap<Key, Retry>,
    fights: HashMap<Key, drift::Fight>,
    /// When to look which fights are over.
    calm_at: Option<Instant>,
    /// When to have the neighbours that failed asked for again.
    probe_at: Option<Instant>,
    retiring: Vec<retire::Retiring>,
    complete: bool,
    outstanding: usize,
    reading: bool,
    /// Events that came while the kernel was being read.
    held: Vec<KernelEvent>,
    /// The kernel has to be read (again) at this time.
    read_at: Option<Instant>,
    read_backoff: Duration,
    sweeping: usize,
    totals: Totals,
    events: Vec<Event>,
    told: usize,
    link_events: Vec<LinkEvent>,
    tracked: tracking::Tracked,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct WantedSet {
    family: Family,
    next_hops: SmallVec<[NextHop; 1]>,
}

/// What a wanted set resolves to; holds one use of the target.
type Outcome = Result<Id, Unresolved>;

/// What should be in the kernel for one prefix.
enum Decision {
    Nothing,
    Route(Id),
    Refused(Refusal),
    Unresolved,
    /// Through an object that is on its way to the kernel.
    Awaited,
}

impl Decision {
    fn target(&self) -> Option<Id> {
        if let Self::Route(id) = self {
            Some(*id)
        } else {
            None
        }
    }

    fn standing(&self) -> Standing {
        match self {
            Self::Nothing | Self::Awaited => Standing::Undecided,
            Self::Route(_) => Standing::Installed,
            Self::Refused(refusal) => Standing::Refused(refusal.code()),
            Self::Unresolved => Standing::Unresolved,
        }
    }
}

/// An operation that failed, and when it is tried again.
#[derive(Debug)]
pub(crate) struct Retry {
    pub(crate) failure: Failure,
    pub(crate) attempts: u32,
    pub(crate) at: Instant,
}

impl Reconciler {
    /// Starts from what the kernel holds; own routes found are kept until the inputs are complete.
    pub(crate) fn new(now: Instant, config: Config, snapshot: Snapshot) -> Self {
        let mut targets = Interned::new();
        let mut reconciler = Self {
            marks: Marks {
                current: config.mark,
                retiring: Vec::new(),
            },
            config: Config::default(),
            network: Network::default(),
            gate: Gate::default(),
            connected: Vec::new(),
            wanted: Interned::new(),
            outcomes: Vec::new(),
            unknown: targets.acquire(Target::Unknown),
            blackhole: targets.acquire(Target::Blackhole),
            targets,
            routes: Routes::default(),
            objects: Objects::new(config.mark.protocol),
            abandoned: Vec::new(),
            stragglers: false,
            additions: VecDeque::new(),
            removals: Vec::new(),
            flood: Flood::default(),
            passed_over: 0,
            random: 0x9E37_79B9,
            retries: BTreeSet::new(),
            failures: HashMap::new(),
            fights: HashMap::new(),
            calm_at: None,
            probe_at: None,
            retiring: Vec::new(),
            complete: false,
            outstanding: 0,
            reading: false,
            held: Vec::new(),
            read_at: None,
            read_backoff: RETRY_FIRST,
            sweeping: 0,
            totals: Totals::default(),
            events: Vec::new(),
            told: 0,
            link_events: Vec::new(),
            tracked: tracking::Tracked::default(),
        };
        reconciler.configure(config);
        reconciler.compare(now, snapshot);
        // The first reading is no drift, and nobody was there to miss the links.
        reconciler.totals = Totals::default();
        reconciler.events.clear();
        reconciler.link_events.clear();
        reconciler
    }

    /// Takes changes from the speaker.
    pub(crate) fn change(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Wanted(wanted) if !wanted.next_hops.is_empty() => {
                    self.want(learned(wanted.prefix), wanted.next_hops);
                }
                Change::Wanted(wanted) => self.unwant(learned(wanted.prefix)),
                Change::Withdrawn(prefix) => self.unwant(learned(prefix)),
            }
        }
    }

    fn want(&mut self, key: Key, next_hops: SmallVec<[NextHop; 1]>) {
        let family = Family::of(&key.prefix);
        let set = self.wanted.acquire(WantedSet { family, next_hops });
        if self.outcome(set).is_none() {
            self.resolve(set);
        }
        // One look instead of an update and a touch: this is the busiest path of all.
        let (before, push, found) = self.routes.update(&key, |entry| {
            let before = mem::replace(&mut entry.wanted, set);
            let waits = before == set || entry.queued || entry.in_flight;
            entry.queued |= before != set;
            (before, !waits, if entry.found { entry.kernel } else { 0 })
        });
        self.release_wanted(before);
        if found != 0 {
            self.adopt_object(set, found);
        }
        self.consider_object(set);
        if push {
            self.additions.push_back(key);
        }
        if before != set && !self.failures.is_empty() {
            self.failures.remove(&key);
        }
    }

    fn unwant(&mut self, key: Key) {
        // One look here too.
        let (before, push) = self.routes.update(&key, |entry| {
            let before = mem::take(&mut entry.wanted);
            let there = before != 0 && (entry.kernel != 0 || entry.in_flight);
            let waits = entry.queued || entry.in_flight;
            entry.queued |= there;
            (before, there && !waits)
        });
        if before == 0 {
            return;
        }
        self.release_wanted(before);
        if push {
            self.flood.arrived += 1;
            self.removals.push(key);
        }
        if !self.failures.is_empty() {
            self.failures.remove(&key);
        }
    }

    fn release_wanted(&mut self, set: Id) {
        if set == 0 || !self.wanted.release(set) {
            return;
        }
        self.abandoned
            .extend(self.objects.of(set).map(|group| group.id));
        self.release_object(set);
        if let Some(Some(Ok(target))) = self.outcomes.get_mut(set as usize).map(Option::take) {
            self.targets.release(target);
        }
    }

    fn outcome(&self, set: Id) -> Option<&Outcome> {
        self.outcomes.get(set as usize)?.as_ref()
    }

    /// Resolves a set anew; true if the outcome is another than before.
    fn resolve(&mut self, set: Id) -> bool {
        let Some(wanted) = self.wanted.get(set) else {
            return false;
        };
        let outcome: Outcome = if wanted.next_hops.is_empty() {
            self.targets.retain(self.blackhole);
            Ok(self.blackhole)
        } else {
            let Config {
                unresolved,
                max_paths,
                ..
            } = self.config;
            resolve_all(
                &self.network,
                &wanted.next_hops,
                wanted.family,
                unresolved,
                max_paths,
            )
            .map(|target| self.targets.acquire(target))
        };
        if self.outcomes.len() <= set as usize {
            self.outcomes.resize(set as usize + 1, None);
        }
        let Some(slot) = self.outcomes.get_mut(set as usize) else {
            return false;
        };
        let changed = slot.as_ref() != Some(&outcome);
        if let Some(Ok(before)) = slot.replace(outcome) {
            self.targets.release(before);
        }
        if changed {
            self.aim_object(set);
            self.consider_object(set);
        }
        changed
    }

    /// Puts a prefix on the list of those to look at.
    fn touch(&mut self, key: Key) {
        let push = self.routes.update(&key, |entry| {
            if entry.wanted == 0 && entry.kernel == 0 && !entry.in_flight {
                return None;
            }
            let waits = entry.queued || entry.in_flight;
            entry.queued = true;
            (!waits).then_some(entry.wanted != 0)
        });
        match push {
            Some(true) => self.additions.push_back(key),
            Some(false) => self.removals.push(key),
            None => {}
        }
    }

    fn decide(&self, key: &Key, entry: &Entry) -> Decision {
        if entry.wanted == 0 {
            return Decision::Nothing;
        }
        if key.layer == Layer::Learned {
            let verdict = match key.prefix {
                IpNetwork::V4(prefix) => self.gate.check4(prefix),
                IpNetwork::V6(prefix) => self.gate.check6(prefix),
            };
            if let Err(refusal) = verdict {
                return Decision::Refused(refusal);
            }
        }
        let mark = self.marks.current;
        if let Some(foreign) = self
            .network
            .occupant(key.prefix, mark.table, key.layer.metric(mark))
        {
            return Decision::Refused(Refusal::ForeignRoute(
                self.network.in_words(key.prefix, foreign),
            ));
        }
        match self.outcome(entry.wanted) {
            Some(Ok(target)) => match self.objects.of(entry.wanted) {
                Some(group) if group.progress == Progress::Stands => Decision::Route(group.route),
                Some(group) if group.progress == Progress::Awaited => Decision::Awaited,
                Some(_) | None => Decision::Route(*target),
            },
            Some(Err(Unresolved::Ourselves(address))) => {
                Decision::Refused(Refusal::NextHopIsOurselves(*address))
            }
            Some(Err(_)) | None => Decision::Unresolved,
        }
    }

    fn removal(&self, entry: &Entry) -> Removal {
        if entry.found && !self.complete {
            Removal::Withheld
        } else {
            Removal::Allowed
        }
    }

    fn set_kernel(&mut self, key: &Key, target: Id) {
        self.targets.retain(target);
        let before = self
            .routes
            .update(key, |entry| mem::replace(&mut entry.kernel, target));
        self.targets.release(before);
    }

    /// Takes another configuration.
    pub(crate) fn apply(&mut self, now: Instant, config: Config) {
        let old = self.config.mark;
        if config.mark != old {
            self.change_mark(now, old, config.mark);
        }
        self.configure(config);
        self.resolve_everything();
        self.reconsider(|_, _| true);
    }

    fn configure(&mut self, config: Config) {
        let blackholes: Vec<Key> = config
            .blackholes
            .iter()
            .filter(|cidr| cidr.prefix() < if cidr.is_ipv4() { 32 } else { 128 })
            .map(|cidr| Key {
                layer: Layer::Blackhole,
                prefix: trunc(*cidr),
            })
            .collect();
        let before: Vec<Key> = self
            .routes
            .iter()
            .map(|(key, _)| key)
            .filter(|key| key.layer == Layer::Blackhole)
            .collect();
        self.config = config;
        self.gate = Gate::new(&self.config.guard, &self.connected);
        for key in before.into_iter().filter(|key| !blackholes.contains(key)) {
            self.unwant(key);
        }
        for key in blackholes {
            self.want(key, SmallVec::new());
        }
    }

    /// Resolves every set anew; true for the sets whose outcome is another than before.
    fn resolve_everything(&mut self) -> Vec<bool> {
        self.tracked.stir();
        let mut changed = vec![false; self.outcomes.len()];
        for set in self.wanted.ids() {
            let moved = self.resolve(set);
            if let Some(changed) = changed.get_mut(set as usize) {
                *changed = moved;
            }
        }
        changed
    }

    /// Touches those of the selected prefixes for which something is to be done.
    fn reconsider(&mut self, select: impl Fn(&Key, &Entry) -> bool) {
        let outdated = |(key, entry): &(Key, &Entry)| {
            if entry.queued || !select(key, entry) {
                return false;
            }
            let decision = self.decide(key, entry);
            if matches!(decision, Decision::Awaited) {
                return false;
            }
            let kernel = (entry.kernel != 0).then_some(entry.kernel);
            step(decision.target(), kernel, self.removal(entry)).is_some()
                || (entry.wanted != 0 && decision.standing() != entry.standing)
        };
        let keys: Vec<Key> = self
            .routes
            .iter()
            .filter(outdated)
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.touch(key);
        }
    }

    /// Says whether the inputs are complete.
    pub(crate) fn set_complete(&mut self, completeness: Completeness) {
        let complete = completeness == Completeness::Complete;
        if complete && !self.complete {
            self.complete = true;
            self.sweeping = self
                .routes
                .iter()
                .filter(|(_, e)| e.wanted == 0 && e.found)
                .count();
            self.reconsider(|_, entry| entry.found);
        }
        self.complete = complete;
    }

    /// Whether the inputs were declared complete.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Everything asked for is in the kernel, refused, or known to fail.
    pub(crate) fn is_in_sync(&self) -> bool {
        self.is_idle() && !self.stragglers
    }

    fn is_idle(&self) -> bool {
        self.additions.is_empty()
            && self.removals.is_empty()
            && self.objects.is_settled()
            && self.outstanding == 0
            && !self.reading
    }

    /// Prefixes that wait to be looked at.
    pub(crate) fn backlog(&self) -> usize {
        self.additions.len() + self.removals.len()
    }

    /// Whether [`Reconciler::poll`] stopped before it was through, with nothing to wait for.
    pub(crate) fn has_more(&self) -> bool {
        let held = self.flood.held_until().is_some();
        let waiting = !self.additions.is_empty() || !self.removals.is_empty() && !held;
        self.outstanding == 0 && !self.reading && waiting
    }

    /// When to call [`Reconciler::poll`] again even if nothing happens.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let retry = self.retries.first().map(|(at, _)| *at);
        let read = if self.reading { None } else { self.read_at };
        [
            retry,
            read,
            self.calm_at,
            self.probe_at,
            self.retirement(),
            self.objects.next_retry(),
            self.flood.held_until(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What there is to tell.
    pub(crate) fn take_events(&mut self) -> (Vec<Event>, Vec<LinkEvent>) {
        (
            mem::take(&mut self.events),
            mem::take(&mut self.link_events),
        )
    }
}

fn learned(prefix: IpNetwork) -> Key {
    Key {
        layer: Layer::Learned,
        prefix: trunc(prefix),
    }
}

#[cfg(test)]
mod tests;
