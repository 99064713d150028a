//! A change of mark: the routes under the earlier one go once the new ones stand.

use std::time::{Duration, Instant};

use crate::{
    event::Event,
    kernel::{Batch, Failure, Key, Marks, Op, Work},
    plan::Step,
    reconciler::{Reconciler, report, write::BATCH},
    route::Mark,
    routes::Standing,
};

/// A removal the kernel refused is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Routes under an earlier mark.
#[derive(Debug)]
pub(super) struct Retiring {
    pub(super) mark: Mark,
    /// What is to be removed; made exact by each reading.
    pub(super) keys: Vec<Key>,
    not_before: Option<Instant>,
}

impl Reconciler {
    pub(super) fn change_mark(&mut self, now: Instant, old: Mark, new: Mark) {
        let there = self
            .routes
            .iter()
            .filter(|(_, e)| e.kernel != 0 || e.in_flight);
        let keys: Vec<Key> = there.map(|(key, _)| key).collect();
        for key in &keys {
            let in_place = (old.table, key.layer.metric(old)) == (new.table, key.layer.metric(new));
            self.set_kernel(key, if in_place { self.unknown } else { 0 });
            self.touch(*key);
        }
        // Coming back to a mark: what bears it is found by the reading.
        self.retiring.retain(|retiring| retiring.mark != new);
        self.retiring.push(Retiring {
            mark: old,
            keys,
            not_before: None,
        });
        self.marks = Marks {
            current: new,
            retiring: Vec::new(),
        };
        self.renew_marks();
        if new.protocol != old.protocol {
            self.renew_objects(new.protocol);
        }
        self.read_at(now);
    }

    fn renew_marks(&mut self) {
        self.marks.retiring = self.retiring.iter().map(|retiring| retiring.mark).collect();
        self.network.ignore(self.marks.protocols());
    }

    /// What is left to remove under an earlier mark, now that nothing else is to be done. A route that fails
    /// under the current mark keeps its earlier self.
    pub(super) fn retire(&mut self, now: Instant) -> Option<Batch> {
        if !self.complete {
            return None;
        }
        let routes = &self.routes;
        let failing = |key: &Key| {
            routes
                .get(key)
                .is_some_and(|entry| entry.wanted != 0 && entry.standing == Standing::Failed)
        };
        for Retiring {
            mark,
            keys,
            not_before,
        } in &mut self.retiring
        {
            if not_before.is_some_and(|not_before| not_before > now) {
                continue;
            }
            *not_before = None;
            let (mut going, staying): (Vec<Key>, Vec<Key>) =
                keys.drain(..).partition(|key| !failing(key));
            *keys = going.split_off(going.len().min(BATCH));
            keys.extend(staying);
            if !going.is_empty() {
                let ops = going
                    .into_iter()
                    .map(|key| Op {
                        key,
                        step: Step::Remove,
                    })
                    .collect();
                self.outstanding += 1;
                return Some(Batch {
                    mark: *mark,
                    work: Work::Retire(ops),
                });
            }
        }
        let before = self.retiring.len();
        self.retiring.retain(|retiring| !retiring.keys.is_empty());
        if self.retiring.len() != before {
            self.renew_marks();
        }
        None
    }

    /// What the kernel refused is tried again.
    pub(super) fn retired(
        &mut self,
        now: Instant,
        mark: Mark,
        ops: &[Op],
        failures: &[(usize, Failure)],
    ) {
        let mut refused = Vec::new();
        for (index, failure) in failures {
            let gone = matches!(failure.errno, Failure::ESRCH | Failure::ENOENT);
            if let (false, Some(op)) = (gone, ops.get(*index)) {
                refused.push(op.key);
                if refused.len() == 1 {
                    let words = report::failure_in_words(failure);
                    let reason = format!("removal under the earlier mark: {words}");
                    let (prefix, errno) = (op.key.prefix, failure.errno);
                    self.events.push(Event::Failed {
                        prefix,
                        errno,
                        reason,
                    });
                }
            }
        }
        let earlier = self
            .retiring
            .iter_mut()
            .find(|retiring| retiring.mark == mark);
        if let (false, Some(retiring)) = (refused.is_empty(), earlier) {
            retiring.keys.extend(refused);
            retiring.not_before = Some(now + AGAIN);
        }
    }

    /// When a removal is tried again.
    pub(super) fn retirement(&self) -> Option<Instant> {
        self.retiring
            .iter()
            .filter_map(|retiring| retiring.not_before)
            .min()
    }

    /// Takes what a reading found under earlier marks.
    pub(super) fn found_retiring(&mut self, now: Instant, found: Vec<(Mark, Key)>) {
        for retiring in &mut self.retiring {
            retiring.keys.clear();
        }
        for (mark, key) in found {
            if let Some(retiring) = self
                .retiring
                .iter_mut()
                .find(|retiring| retiring.mark == mark)
            {
                retiring.keys.push(key);
            }
            // In a place of the current mark it is replaced, not added beside.
            if let Some(layer) = self.marks.slot(mark.table, key.layer.metric(mark)) {
                self.compare_one(now, Key { layer, ..key }, self.unknown);
            }
        }
    }
}
