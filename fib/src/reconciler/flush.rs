//! Routes that go with the next-hop object they lead through: one operation instead of one a prefix.

use std::mem;

use hashbrown::HashMap;

use crate::{
    event::Event,
    kernel::Batch,
    objects::ObjectId,
    reconciler::Reconciler,
    target::{Id, Target},
};

/// It pays where at least one route of so many goes: the kernel walks its whole table, and so do we.
const ONE_OF: usize = 32;

impl Reconciler {
    /// Whether it is known what goes with an object. Of a route that failed it is not known where it leads.
    pub(super) fn objects_may_go(&self) -> bool {
        self.complete && self.retiring.is_empty() && self.failures.is_empty()
    }

    /// Removes objects with all their routes, where nobody wants one of these any more. IPv4 only: of IPv6 routes the
    /// kernel tells each, as if others had removed them.
    pub(super) fn flush_abandoned(&mut self) -> Option<Batch> {
        // What is to be added or moved goes first.
        if self.abandoned.is_empty() || !self.additions.is_empty() {
            return None;
        }
        let abandoned = mem::take(&mut self.abandoned);
        if !self.objects_may_go() {
            return None;
        }
        let worth = (self.routes.len() / ONE_OF).max(self.objects.from as usize);
        let mut going: HashMap<Id, ObjectId> = abandoned
            .into_iter()
            .filter_map(|id| Some((self.targets.find(&Target::Object(id))?, id)))
            .filter(|(target, _)| self.targets.users(*target) as usize >= worth)
            .collect();
        if going.is_empty() {
            return None;
        }
        for (key, entry) in self.routes.iter() {
            if entry.wanted != 0 || key.prefix.is_ipv6() {
                going.remove(&entry.kernel);
            }
        }
        let mut ops = Vec::new();
        for (target, id) in going {
            let Some(op) = self.objects.discard(id) else {
                continue;
            };
            ops.push(op);
            let routes = self.routes.forget_kernel(target);
            for _ in 0..routes {
                self.targets.release(target);
            }
            self.totals.removed += routes as u64;
            self.events.push(Event::Flushed { id, routes });
        }
        let routes = &self.routes;
        self.removals
            .retain(|key| routes.get(key).is_some_and(|entry| entry.queued));
        self.object_batch(ops)
    }
}
