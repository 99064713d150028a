//! What is written next, and what became of it.

use std::{mem, sync::Arc, time::Instant};

use ipnetwork::IpNetwork;

use crate::{
    event::Event,
    kernel::{Batch, Done, Failure, Key, Op, Work},
    plan::{Step, step},
    reconciler::{Decision, RETRY_FIRST, RETRY_LAST, Reconciler, Retry, report},
    routes::{Entry, Standing},
};

/// Operations in one batch: enough for two full sends.
pub(super) const BATCH: usize = 1024;
/// Batches on their way at a time: one being written, the others waiting, so that the writer never idles.
const OUTSTANDING: usize = 3;
/// While this many batches with additions went before waiting removals, removals wait.
const PATIENCE: u32 = 64;
/// Events of one kind told singly in one turn; a flood would help nobody.
pub(super) const TELL_AT_MOST: usize = 32;

impl Reconciler {
    /// The next batch to write, if there is something to write and room on the way.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Batch> {
        self.revive(now);
        let held = self.holds_removals(now);
        if self.reading || self.read_due(now) || self.outstanding >= OUTSTANDING {
            return None;
        }
        if let Some(objects) = self.write_objects().or_else(|| self.flush_abandoned()) {
            return Some(objects);
        }
        let mut ops = Vec::new();
        let mut turns = 0;
        self.told = 0;
        // Bounded also where nothing comes of it: a million refusals must not hold up the task.
        while ops.len() < BATCH && turns < 4 * BATCH {
            // What can go with its object is looked at before it is removed one by one.
            if self.additions.is_empty() && !self.abandoned.is_empty() {
                break;
            }
            turns += 1;
            let removals_next =
                !held && (self.additions.is_empty() || self.passed_over >= PATIENCE);
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
            let removed = if removals_next {
                self.take_off(key)
            } else {
                None
            };
            ops.extend(removed.or_else(|| self.advance(key, removals_next)));
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
                work: Work::Routes(ops),
            });
        }
        if self.is_idle() && mem::take(&mut self.stragglers) {
            self.reconsider(|_, entry| entry.wanted != 0);
        }
        if self.is_idle() {
            self.retire(now).or_else(|| self.sweep_objects())
        } else {
            None
        }
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

    /// The removal of a prefix that nobody wants, in one look; `None` where there is more to decide.
    fn take_off(&mut self, key: Key) -> Option<Op> {
        let complete = self.complete;
        let gone = self.routes.update(&key, |entry| {
            let goes = entry.wanted == 0 && entry.kernel != 0 && (complete || !entry.found);
            if goes {
                entry.queued = false;
                entry.in_flight = true;
                entry.standing = Standing::Undecided;
            }
            goes.then(|| mem::take(&mut entry.kernel))
        })?;
        self.targets.release(gone);
        let step = Step::Remove;
        Some(Op { key, step })
    }

    /// Decides on one prefix; gives what is to be written, if anything.
    fn advance(&mut self, key: Key, may_remove: bool) -> Option<Op> {
        let entry = *self.routes.get(&key)?;
        let decision = self.decide(&key, &entry);
        if matches!(decision, Decision::Awaited) {
            self.objects.park(entry.wanted, key);
            return None;
        }
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
            Decision::Nothing | Decision::Route(_) | Decision::Awaited => return,
        };
        self.told += 1;
        self.events.push(event);
    }

    /// Takes the outcome of a batch.
    pub(crate) fn done(&mut self, now: Instant, done: Done) {
        self.outstanding = self.outstanding.saturating_sub(1);
        let Done { batch, failures } = done;
        let ops = match batch.work {
            Work::Routes(ops) => ops,
            Work::Retire(ops) => return self.retired(now, batch.mark, &ops, &failures),
            Work::Objects(ops) => return self.objects_done(now, ops, failures),
        };
        let (mut added, mut replaced, mut removed) = (0, 0, 0);
        let mut failures = failures.into_iter().peekable();
        let sample = ops.iter().take(4).map(|op| op.key.prefix).collect();
        for (index, op) in ops.into_iter().enumerate() {
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
        if let (Step::Create(target) | Step::Replace(target), 1, Failure::EINVAL) =
            (&op.step, attempts, failure.errno)
        {
            self.doubt_object(target);
        }
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

    /// Looks again at what has waited long enough.
    fn revive(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.retries.first() {
            if at > now {
                break;
            }
            self.retries.pop_first();
            self.touch(key);
        }
        self.objects.revive(now);
        self.calm(now);
    }

    fn told_swept(&mut self) {
        if self.sweeping > 0 && self.removals.is_empty() && self.outstanding == 0 {
            self.events.push(Event::Swept {
                routes: mem::take(&mut self.sweeping),
            });
        }
    }
}
