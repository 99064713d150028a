//! Desired against kernel: takes changes and signals, gives batches to write. No I/O, no clock of its own.

mod drift;
mod report;

pub(crate) use drift::is_relevant;

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    sync::Arc,
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
    kernel::{Batch, Done, Failure, KernelEvent, Key, Layer, Marks, Op, Purpose, Snapshot},
    network::Network,
    plan::{Removal, Step, step},
    resolve::{Family, Unresolved, resolve_all},
    route::{Change, Mark, NextHop},
    routes::{Entry, Routes, Standing},
    status::Totals,
    target::{Id, Interned, Target},
};

/// Operations in one batch: enough for two full sends.
pub(crate) const BATCH: usize = 1024;
/// Batches on their way at a time: one being written, one waiting, so that the writer never idles.
const OUTSTANDING: usize = 3;
/// While this many batches with additions went before waiting removals, removals wait.
const PATIENCE: u32 = 64;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// Events of one kind told singly in one turn; a flood would help nobody.
const TELL_AT_MOST: usize = 32;

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
    /// Prefixes to look at, oldest first; everything that may add or replace.
    additions: VecDeque<Key>,
    /// Prefixes nobody wants; taken in random order, because the kernel's IPv4 trie is slow in ascending order.
    removals: Vec<Key>,
    passed_over: u32,
    random: u32,
    retries: BTreeSet<(Instant, Key)>,
    failures: HashMap<Key, Retry>,
    fights: HashMap<Key, drift::Fight>,
    retiring: Vec<(Mark, Vec<Key>)>,
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
            Self::Nothing => Standing::Undecided,
            Self::Route(_) => Standing::Installed,
            Self::Refused(refusal) => Standing::Refused(refusal.code()),
            Self::Unresolved => Standing::Unresolved,
        }
    }
}

/// An operation that failed, and when it is tried again.
#[derive(Debug)]
struct Retry {
    failure: Failure,
    attempts: u32,
    at: Instant,
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
            additions: VecDeque::new(),
            removals: Vec::new(),
            passed_over: 0,
            random: 0x9E37_79B9,
            retries: BTreeSet::new(),
            failures: HashMap::new(),
            fights: HashMap::new(),
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
        let before = self
            .routes
            .update(&key, |entry| mem::replace(&mut entry.wanted, set));
        self.release_wanted(before);
        if before != set {
            self.failures.remove(&key);
            self.touch(key);
        }
    }

    fn unwant(&mut self, key: Key) {
        if self.routes.get(&key).is_none_or(|entry| entry.wanted == 0) {
            return;
        }
        let before = self
            .routes
            .update(&key, |entry| mem::take(&mut entry.wanted));
        self.release_wanted(before);
        self.failures.remove(&key);
        self.touch(key);
    }

    fn release_wanted(&mut self, set: Id) {
        if set == 0 || !self.wanted.release(set) {
            return;
        }
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
            Some(Ok(target)) => Decision::Route(*target),
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

    /// The next batch to write, if there is something to write and room on the way.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Batch> {
        self.revive(now);
        if self.reading || self.read_due(now) || self.outstanding >= OUTSTANDING {
            return None;
        }
        let mut ops = Vec::new();
        let mut turns = 0;
        self.told = 0;
        // Bounded also where nothing comes of it: a million refusals must not hold up the task.
        while ops.len() < BATCH && turns < 4 * BATCH {
            turns += 1;
            let removals_next = self.additions.is_empty() || self.passed_over >= PATIENCE;
            let Some(key) = (if removals_next {
                self.pop_removal()
            } else {
                self.additions.pop_front()
            }) else {
                if self.additions.is_empty() {
                    break;
                }
                self.passed_over = 0;
                continue;
            };
            if let Some(op) = self.advance(key, removals_next) {
                ops.push(op);
            }
        }
        self.passed_over = if self.removals.is_empty() || self.passed_over >= PATIENCE {
            0
        } else {
            self.passed_over + 1
        };
        if !ops.is_empty() {
            self.outstanding += 1;
            return Some(Batch {
                mark: self.marks.current,
                purpose: Purpose::Write,
                ops,
            });
        }
        if self.is_idle() { self.retire() } else { None }
    }

    fn pop_removal(&mut self) -> Option<Key> {
        if self.removals.is_empty() {
            return None;
        }
        // xorshift32: any order but ascending will do.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let index = self.random as usize % self.removals.len();
        Some(self.removals.swap_remove(index))
    }

    /// Decides on one prefix; gives what is to be written, if anything.
    fn advance(&mut self, key: Key, may_remove: bool) -> Option<Op> {
        let entry = *self.routes.get(&key)?;
        let decision = self.decide(&key, &entry);
        let kernel = (entry.kernel != 0).then_some(entry.kernel);
        let step = step(decision.target(), kernel, self.removal(&entry));
        if matches!(step, Some(Step::Remove)) && !may_remove {
            self.removals.push(key);
            return None;
        }
        let after = match step {
            Some(Step::Create(id) | Step::Replace(id)) => id,
            Some(Step::Remove) => 0,
            None => entry.kernel,
        };
        if after != entry.kernel {
            self.targets.retain(after);
            self.targets.release(entry.kernel);
        }
        let standing = decision.standing();
        self.routes.update(&key, |entry| {
            entry.queued = false;
            entry.in_flight = step.is_some();
            entry.kernel = after;
            entry.standing = standing;
        });
        if step.is_none() && entry.found && decision.target().is_some() {
            self.totals.adopted += 1;
            self.routes.update(&key, |entry| entry.found = false);
        }
        if standing != entry.standing {
            self.tell_standing(key.prefix, &entry, decision);
        }
        let step = match step? {
            Step::Create(id) => Step::Create(Arc::clone(self.targets.get(id)?)),
            Step::Replace(id) => Step::Replace(Arc::clone(self.targets.get(id)?)),
            Step::Remove => Step::Remove,
        };
        Some(Op { key, step })
    }

    fn tell_standing(&mut self, prefix: IpNetwork, entry: &Entry, decision: Decision) {
        if self.told >= TELL_AT_MOST {
            return;
        }
        let event = match decision {
            Decision::Refused(refusal) => Event::Refused {
                prefix,
                kind: refusal.kind(),
                reason: refusal.to_string(),
            },
            Decision::Unresolved => match self.outcome(entry.wanted) {
                Some(Err(reason)) => Event::Unresolved {
                    prefix,
                    reason: reason.to_string(),
                },
                _ => return,
            },
            Decision::Nothing | Decision::Route(_) => return,
        };
        self.told += 1;
        self.events.push(event);
    }

    /// Takes the outcome of a batch.
    pub(crate) fn done(&mut self, now: Instant, done: Done) {
        self.outstanding = self.outstanding.saturating_sub(1);
        if done.purpose == Purpose::Retire {
            self.retired(&done);
            return;
        }
        let (mut added, mut replaced, mut removed) = (0, 0, 0);
        let mut failures = done.failures.into_iter().peekable();
        let sample = done.ops.iter().take(4).map(|op| op.key.prefix).collect();
        for (index, op) in done.ops.into_iter().enumerate() {
            let mut failure = None;
            while failures.peek().is_some_and(|(failed, _)| *failed <= index) {
                failure = failures.next().map(|(_, failure)| failure);
            }
            // Already gone is success.
            let gone = matches!(
                &failure,
                Some(Failure {
                    errno: Failure::ESRCH | Failure::ENOENT,
                    ..
                })
            );
            if matches!(op.step, Step::Remove) && gone {
                failure = None;
            }
            let Some(failure) = failure else {
                match op.step {
                    Step::Create(_) => added += 1,
                    Step::Replace(_) => replaced += 1,
                    Step::Remove => removed += 1,
                }
                self.succeeded(now, op.key);
                continue;
            };
            self.failed(now, op, failure);
        }
        self.totals.added += added as u64;
        self.totals.replaced += replaced as u64;
        self.totals.removed += removed as u64;
        if added + replaced + removed > 0 {
            self.events.push(Event::Written {
                added,
                replaced,
                removed,
                sample,
            });
        }
        self.told_swept();
    }

    fn retired(&mut self, done: &Done) {
        for (index, failure) in &done.failures {
            let gone = matches!(failure.errno, Failure::ESRCH | Failure::ENOENT);
            if let (false, Some(op)) = (gone, done.ops.get(*index)) {
                let reason = format!(
                    "removal under the earlier mark: {}",
                    report::failure_in_words(failure)
                );
                self.events.push(Event::Failed {
                    prefix: op.key.prefix,
                    errno: failure.errno,
                    reason,
                });
            }
        }
    }

    fn succeeded(&mut self, now: Instant, key: Key) {
        let complete = self.complete;
        let again = self.routes.update(&key, |entry| {
            entry.in_flight = false;
            if entry.kernel == 0 || (complete && entry.wanted != 0) {
                entry.found = false;
            }
            entry.queued.then_some(entry.wanted != 0)
        });
        match again {
            Some(true) => self.additions.push_back(key),
            Some(false) => self.removals.push(key),
            None => {}
        }
        if !self.failures.is_empty() {
            self.failures.remove(&key);
        }
        if !self.fights.is_empty() {
            self.healed(now, key);
        }
    }

    fn failed(&mut self, now: Instant, op: Op, failure: Failure) {
        let key = op.key;
        self.totals.failures += 1;
        // A replacement that failed left what was there before; a removal too.
        let left = if matches!(op.step, Step::Create(_)) {
            0
        } else {
            self.unknown
        };
        self.set_kernel(&key, left);
        let again = self.routes.update(&key, |entry| {
            entry.in_flight = false;
            entry.standing = Standing::Failed;
            mem::take(&mut entry.queued)
        });
        if failure.errno == Failure::EEXIST {
            // Something is there that we do not know of: look before anything else.
            self.read_at(now + self.read_backoff);
            self.read_backoff = (self.read_backoff * 2).min(RETRY_LAST);
        }
        let attempts = self
            .failures
            .get(&key)
            .map_or(1, |retry| retry.attempts.saturating_add(1));
        if attempts == 1 && self.told < TELL_AT_MOST {
            self.told += 1;
            let reason = report::failure_in_words(&failure);
            self.events.push(Event::Failed {
                prefix: key.prefix,
                errno: failure.errno,
                reason,
            });
        }
        let at = now
            + RETRY_FIRST
                .saturating_mul(1 << (attempts - 1).min(9))
                .min(RETRY_LAST);
        if let Some(before) = self.failures.insert(
            key,
            Retry {
                failure,
                attempts,
                at,
            },
        ) {
            self.retries.remove(&(before.at, key));
        }
        if again {
            self.touch(key);
        } else {
            self.retries.insert((at, key));
        }
    }

    fn set_kernel(&mut self, key: &Key, target: Id) {
        self.targets.retain(target);
        let before = self
            .routes
            .update(key, |entry| mem::replace(&mut entry.kernel, target));
        self.targets.release(before);
    }

    /// Looks again at what has waited long enough.
    fn revive(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.retries.first() {
            if at > now {
                break;
            }
            self.retries.pop_first();
            self.touch(key);
        }
        self.calm(now);
    }

    /// Gives what is left of routes under an earlier mark, once the new ones stand.
    fn retire(&mut self) -> Option<Batch> {
        if !self.complete {
            return None;
        }
        let (mark, keys) = self.retiring.first_mut()?;
        let mark = *mark;
        let routes = &self.routes;
        let failing = |key: &Key| {
            routes
                .get(key)
                .is_some_and(|entry| entry.wanted != 0 && entry.standing == Standing::Failed)
        };
        let mut ops = Vec::new();
        let mut kept = Vec::new();
        while let Some(key) = keys.pop() {
            if failing(&key) {
                kept.push(key);
            } else {
                ops.push(Op {
                    key,
                    step: Step::Remove,
                });
                if ops.len() == BATCH {
                    break;
                }
            }
        }
        keys.append(&mut kept);
        if keys.is_empty() {
            self.retiring.remove(0);
            self.marks.retiring = self.retiring.iter().map(|(mark, _)| *mark).collect();
        }
        if ops.is_empty() {
            return None;
        }
        self.outstanding += 1;
        Some(Batch {
            mark,
            purpose: Purpose::Retire,
            ops,
        })
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

    fn change_mark(&mut self, now: Instant, old: Mark, new: Mark) {
        let keys: Vec<Key> = self
            .routes
            .iter()
            .filter(|(_, e)| e.kernel != 0 || e.in_flight)
            .map(|(key, _)| key)
            .collect();
        for key in &keys {
            let in_place = (old.table, key.layer.metric(old)) == (new.table, key.layer.metric(new));
            self.set_kernel(key, if in_place { self.unknown } else { 0 });
            self.touch(*key);
        }
        // Coming back to a mark: what bears it is found by the reading.
        self.retiring.retain(|(mark, _)| *mark != new);
        self.retiring.push((old, keys));
        self.marks = Marks {
            current: new,
            retiring: self.retiring.iter().map(|(mark, _)| *mark).collect(),
        };
        self.network.ignore(self.marks.protocols());
        self.read_at(now);
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

    fn told_swept(&mut self) {
        if self.sweeping > 0 && self.removals.is_empty() && self.outstanding == 0 {
            self.events.push(Event::Swept {
                routes: mem::take(&mut self.sweeping),
            });
        }
    }

    /// Everything asked for is in the kernel, refused, or known to fail.
    pub(crate) fn is_in_sync(&self) -> bool {
        self.is_idle() && self.read_at.is_none()
    }

    fn is_idle(&self) -> bool {
        self.additions.is_empty()
            && self.removals.is_empty()
            && self.outstanding == 0
            && !self.reading
    }

    /// Prefixes that wait to be looked at.
    pub(crate) fn backlog(&self) -> usize {
        self.additions.len() + self.removals.len()
    }

    /// Whether [`Reconciler::poll`] stopped before it was through, with nothing to wait for.
    pub(crate) fn has_more(&self) -> bool {
        self.outstanding == 0 && !self.reading && self.backlog() > 0
    }

    /// When to call [`Reconciler::poll`] again even if nothing happens.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let retry = self.retries.first().map(|(at, _)| *at);
        let fight = self.fights.values().map(|fight| fight.forget_at()).min();
        let read = if self.reading { None } else { self.read_at };
        [retry, read, fight].into_iter().flatten().min()
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
