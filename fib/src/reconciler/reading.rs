//! Reading the whole kernel table: at the start, after lost events, and whenever we can't be sure.

use std::{mem, time::Instant};

use crate::{
    event::Event,
    guard::Gate,
    kernel::{Failure, Key, Marks, Snapshot},
    network::Network,
    reconciler::{RETRY_FIRST, RETRY_LAST, Reconciler},
    target::Id,
};

impl Reconciler {
    /// The kernel had more to tell than we could take.
    pub(crate) fn overrun(&mut self, now: Instant) {
        self.totals.overruns += 1;
        self.events.push(Event::Overrun);
        self.read_at(now);
    }

    pub(super) fn read_at(&mut self, at: Instant) {
        self.read_at = Some(self.read_at.map_or(at, |already| already.min(at)));
    }

    pub(super) fn read_due(&self, now: Instant) -> bool {
        self.read_at.is_some_and(|at| at <= now)
    }

    /// The marks to read the kernel with, if it is time and nothing is on its way there.
    pub(crate) fn wants_reading(&mut self, now: Instant) -> Option<Marks> {
        if self.reading || !self.read_due(now) || self.outstanding > 0 {
            return None;
        }
        self.reading = true;
        self.read_at = None;
        Some(self.marks.clone())
    }

    /// The reading failed; once more in a while.
    pub(crate) fn reading_failed(&mut self, now: Instant) {
        self.reading = false;
        let held = mem::take(&mut self.held);
        self.observe(now, held);
        self.read_at(now + self.read_backoff);
        self.read_backoff = (self.read_backoff * 2).min(RETRY_LAST);
    }

    /// Compares everything with what the kernel really holds.
    pub(crate) fn compare(&mut self, now: Instant, snapshot: Snapshot) {
        self.reading = false;
        if snapshot.marks != self.marks {
            // The mark changed meanwhile: this tells ours apart by the wrong one.
            self.read_at(now);
            let held = mem::take(&mut self.held);
            return self.observe(now, held);
        }
        let Snapshot {
            links,
            addresses,
            foreign,
            own,
            targets,
            retiring,
            objects,
            ..
        } = snapshot;
        let mut network = Network::new(links, addresses, foreign);
        self.link_events.extend(network.differences(&self.network));
        network.succeed(mem::take(&mut self.network));
        self.network = network;
        self.network.ignore(self.marks.protocols());
        self.connected = self.network.connected();
        self.gate = Gate::new(&self.config.guard, &self.connected);
        self.compare_objects(objects);
        self.resolve_everything();

        let routes = own.len();
        let drifted_before = self.totals.drifted;
        let v4 = own.iter().filter(|(key, _)| key.prefix.is_ipv4()).count();
        self.routes.reserve(v4, routes - v4);
        self.routes.forget_seen();
        let ids: Vec<Id> = targets
            .into_iter()
            .map(|target| self.targets.acquire(target))
            .collect();
        for (key, target) in own {
            let found = ids.get(target as usize).copied().unwrap_or(self.unknown);
            self.compare_one(now, key, found);
        }
        self.found_retiring(now, retiring);
        let unseen: Vec<Key> = self
            .routes
            .iter()
            .filter(|(_, e)| e.kernel != 0 && !e.seen)
            .map(|(key, _)| key)
            .collect();
        for key in unseen {
            self.compare_one(now, key, 0);
        }
        for id in ids {
            self.targets.release(id);
        }
        self.reconsider(|_, _| true);
        if !self
            .failures
            .values()
            .any(|retry| retry.failure.errno == Failure::EEXIST)
        {
            self.read_backoff = RETRY_FIRST;
        }
        self.totals.resyncs += 1;
        let drifted = (self.totals.drifted - drifted_before) as usize;
        self.events.push(Event::Resynced { routes, drifted });
        let held = mem::take(&mut self.held);
        self.observe(now, held);
    }

    pub(super) fn compare_one(&mut self, now: Instant, key: Key, found: Id) {
        let complete = self.complete;
        let before = self.routes.update(&key, |entry| {
            entry.seen = true;
            // An entry must not vanish between the two updates.
            entry.found |= entry.wanted == 0 && !complete;
            *entry
        });
        if before.kernel != found {
            // What was not known can't have drifted.
            let expected =
                before.kernel != self.unknown && self.desired(&key) == Some(before.kernel);
            self.set_kernel(&key, found);
            if expected && before.kernel != 0 {
                let found = self
                    .targets
                    .get(found)
                    .map(|target| self.target_in_words(target));
                self.drifted(now, key, found, 0);
            }
        }
        self.routes.update(&key, |entry| {
            entry.seen = true;
            entry.found |= entry.wanted == 0 && entry.kernel != 0 && !complete;
        });
    }
}
