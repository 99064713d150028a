//! Next-hop objects among the routes: which sets get one, when it is written, and what becomes of the routes.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::{
    event::Event,
    kernel::{Batch, Failure, FoundObject, ObjectEvent, ObjectOp, Work},
    objects::{Object, ObjectId},
    plan::Step,
    reconciler::{
        RETRY_FIRST, RETRY_LAST, Reconciler, Retry,
        drift::{AT_ONCE, SETTLE, TRUCE},
        report,
    },
    resolve::Family,
    target::{Hop, Id, Target},
};

impl Reconciler {
    /// The hops that a set resolves to, if it leads out of the node at all.
    fn hops(&self, set: Id) -> Option<(SmallVec<[Hop; 1]>, Family)> {
        let family = self.wanted.get(set)?.family;
        let target = self.outcome(set)?.as_ref().ok()?;
        match &**self.targets.get(*target)? {
            Target::Hops(hops) => Some((hops.clone(), family)),
            Target::Unknown | Target::Blackhole | Target::Object(_) => None,
        }
    }

    /// Gives the set an object if so many prefixes use it by now that it pays.
    pub(super) fn consider_object(&mut self, set: Id) {
        let pays = self.wanted.users(set) >= self.objects.from;
        if !pays || self.objects.of(set).is_some() {
            return;
        }
        if let Some((hops, family)) = self.hops(set) {
            let id = self.objects.allocate();
            self.assign_object(set, id);
            self.objects.aim(set, Some(&hops), family);
        }
    }

    /// Takes over the object that a route found at start goes through, if it holds what the set resolves to: a restart
    /// rewrites nothing.
    pub(super) fn adopt_object(&mut self, set: Id, kernel: Id) {
        let Some(Target::Object(id)) = self.targets.get(kernel).map(|target| &**target) else {
            return;
        };
        let id = *id;
        if self.objects.of(set).is_some() {
            return;
        }
        if let Some((hops, family)) = self.hops(set)
            && self.objects.is_adoptable(id, &hops, family)
        {
            self.assign_object(set, id);
            self.objects.aim(set, Some(&hops), family);
        }
    }

    fn assign_object(&mut self, set: Id, id: ObjectId) {
        let route = self.targets.acquire(Target::Object(id));
        self.objects.assign(set, id, route);
    }

    /// The set resolves differently: so does its object, and with it every route through it.
    pub(super) fn aim_object(&mut self, set: Id) {
        if self.objects.of(set).is_none() {
            return;
        }
        match self.hops(set) {
            Some((hops, family)) => self.objects.aim(set, Some(&hops), family),
            None => self.objects.aim(set, None, Family::V4),
        }
    }

    /// The set needs its object no more.
    pub(super) fn release_object(&mut self, set: Id) {
        if let Some((route, parked)) = self.objects.unassign(set) {
            self.targets.release(route);
            self.additions.extend(parked);
        }
    }

    /// Objects to write, before any route that needs them.
    pub(super) fn write_objects(&mut self) -> Option<Batch> {
        let ops = self.objects.writes();
        self.object_batch(ops)
    }

    /// Objects that nothing goes through any more.
    pub(super) fn sweep_objects(&mut self) -> Option<Batch> {
        if !self.complete || !self.retiring.is_empty() {
            return None;
        }
        let (targets, objects) = (&self.targets, &mut self.objects);
        let ops = objects.removals(|id| targets.find(&Target::Object(id)).is_some());
        self.object_batch(ops)
    }

    pub(super) fn object_batch(&mut self, ops: Vec<ObjectOp>) -> Option<Batch> {
        if ops.is_empty() {
            return None;
        }
        self.outstanding += 1;
        Some(Batch {
            mark: self.marks.current,
            work: Work::Objects(ops),
        })
    }

    /// Takes the outcome of a batch of objects.
    pub(super) fn objects_done(
        &mut self,
        now: Instant,
        ops: Vec<ObjectOp>,
        failures: Vec<(usize, Failure)>,
    ) {
        let mut failures = failures.into_iter().peekable();
        for (index, op) in ops.into_iter().enumerate() {
            let failure = failures.next_if(|(failed, _)| *failed <= index);
            match failure.map(|(_, failure)| failure) {
                Some(failure) => self.object_failed(now, &op, failure),
                None if op.step == Step::Remove => {}
                None => {
                    self.totals.objects += 1;
                    if let Some(parked) = self.objects.succeeded(op.id) {
                        self.additions.extend(parked);
                        self.stragglers = true;
                    }
                }
            }
        }
    }

    fn object_failed(&mut self, now: Instant, op: &ObjectOp, failure: Failure) {
        let gone = matches!(failure.errno, Failure::ENOENT | Failure::ESRCH);
        match (&op.step, failure.errno) {
            // Already gone is success.
            (Step::Remove, _) if gone => return,
            (_, Failure::EOPNOTSUPP) => return self.without_objects(),
            (Step::Create(_), Failure::EEXIST) => {
                if let Some(set) = self.objects.is_taken(op.id) {
                    self.release_object(set);
                    self.consider_object(set);
                    self.stragglers = true;
                }
                return;
            }
            // Routes that were to go with it may still be there.
            (Step::Remove, _) => self.read_at(now + SETTLE),
            _ => {}
        }
        self.totals.failures += 1;
        let reason = report::failure_in_words(&failure);
        let errno = failure.errno;
        let retry_at = |attempts| now + backoff(attempts);
        let (attempts, parked) = self.objects.failed(op, failure, retry_at);
        if let Some(parked) = parked {
            self.additions.extend(parked);
            self.stragglers = true;
        }
        if attempts == 1 {
            let id = op.id;
            self.events.push(Event::ObjectFailed { id, errno, reason });
        }
    }

    /// This kernel has no objects: all routes are plain.
    pub(super) fn without_objects(&mut self) {
        if self.objects.from == u32::MAX {
            return;
        }
        self.objects.from = u32::MAX;
        self.events.push(Event::WithoutObjects);
        for set in self.objects.sets() {
            self.release_object(set);
        }
        self.stragglers = true;
    }

    /// Another protocol number marks what is ours: every set gets a new object.
    pub(super) fn renew_objects(&mut self, protocol: u8) {
        for set in self.objects.sets() {
            self.release_object(set);
        }
        self.objects.change_protocol(protocol);
        for set in self.wanted.ids() {
            self.consider_object(set);
        }
    }

    /// Someone, or the kernel, changed or removed an object; gives the groups that are gone with all their routes.
    pub(super) fn observe_object(&mut self, now: Instant, event: ObjectEvent) -> Vec<ObjectId> {
        let ObjectEvent { id, found, by } = event;
        let gone = match found {
            Some(found) => {
                let words = self.object_in_words(&found);
                if self.objects.written(found) {
                    self.object_drifted(id, Some(words), by);
                }
                return Vec::new();
            }
            None => self.objects.removed(id),
        };
        let Some(lost) = gone else {
            return Vec::new();
        };
        if by != 0 {
            self.object_drifted(id, None, by);
            for id in &lost {
                self.fight_for_object(now, *id);
            }
        }
        lost
    }

    /// Put back at once a few times; then the set is plain for a while, ever longer.
    fn fight_for_object(&mut self, now: Instant, id: ObjectId) {
        let attempts = self.objects.fought(id, now, TRUCE);
        if attempts <= AT_ONCE {
            return;
        }
        let failure = Failure {
            errno: Failure::ENOENT,
            text: Some(
                "another program keeps removing it; find it with `ip monitor nexthop`".to_owned(),
            ),
        };
        let at = now + backoff(attempts);
        let retry = Retry {
            failure,
            attempts,
            at,
        };
        let parked = self.objects.suspend(id, retry);
        self.additions.extend(parked);
        self.stragglers = true;
    }

    fn object_drifted(&mut self, id: ObjectId, found: Option<String>, by: u32) {
        self.totals.drifted += 1;
        self.events.push(Event::ObjectDrifted { id, found, by });
    }

    /// What went through these groups is gone from the kernel, which does not say so route by route.
    pub(super) fn lose_routes(&mut self, now: Instant, lost: &[ObjectId]) {
        let through: Vec<Id> = lost
            .iter()
            .filter_map(|id| self.targets.find(&Target::Object(*id)))
            .collect();
        self.doubt(now, &through);
    }

    /// Takes what a reading found.
    pub(super) fn compare_objects(&mut self, found: Option<Vec<FoundObject>>) {
        let Some(found) = found else {
            return self.without_objects();
        };
        for id in self.objects.compare(found) {
            self.object_drifted(id, None, 0);
        }
        let parked = self.objects.unpark();
        self.stragglers |= !parked.is_empty();
        self.additions.extend(parked);
    }

    /// A route through this object was refused: perhaps the object is gone, and its routes with it.
    pub(super) fn doubt_object(&mut self, target: &Target) {
        if let Target::Object(id) = target {
            self.objects.lose(*id);
        }
    }

    fn object_in_words(&self, found: &FoundObject) -> String {
        match &found.object {
            Object::Unknown => "(not known)".to_owned(),
            Object::Member(way) => {
                let hop = way.hop(1);
                self.network
                    .target_in_words(&Target::Hops(SmallVec::from_slice(&[hop])))
            }
            Object::Group(shares) => {
                let ids: Vec<String> = shares.iter().map(|(id, _)| id.to_string()).collect();
                format!("group {}", ids.join("/"))
            }
        }
    }

    /// A target in the words of `ip route`; through an object, with what that object holds.
    pub(super) fn target_in_words(&self, target: &Target) -> String {
        let words = self.network.target_in_words(target);
        match target {
            Target::Object(id) => {
                let hops = self.objects.hops(*id);
                if hops.is_empty() {
                    words
                } else {
                    let hops = self.network.target_in_words(&Target::Hops(hops));
                    format!("{words} {hops}")
                }
            }
            Target::Unknown | Target::Blackhole | Target::Hops(_) => words,
        }
    }
}

fn backoff(attempts: u32) -> Duration {
    RETRY_FIRST
        .saturating_mul(1 << attempts.saturating_sub(1).min(9))
        .min(RETRY_LAST)
}
