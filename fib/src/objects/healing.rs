//! What others and the kernel do to our objects: lost, taken, fought over, found otherwise than they should be.

use std::time::{Duration, Instant};

use super::{Group, Object, ObjectId, Objects, Progress};
use crate::{
    kernel::{FoundObject, Key},
    reconciler::Retry,
    target::Id,
};

impl Objects {
    /// The number is someone else's: another one is taken. Gives the set, if it was a group's, which needs to be
    /// assigned anew.
    pub(crate) fn is_taken(&mut self, id: ObjectId) -> Option<Id> {
        self.kernel.remove(&id);
        self.doubted.remove(&id);
        self.failures.remove(&id);
        self.taken.insert(id);
        let set = self.owners.get(&id).copied();
        if let Some(Object::Member(way)) = self.desired.remove(&id) {
            let fresh = self.allocate();
            self.ways.insert(way, fresh);
            self.desired.insert(fresh, Object::Member(way));
            for (group, object) in &mut self.desired {
                if let Object::Group(shares) = object
                    && let Some(share) = shares.iter_mut().find(|(member, _)| *member == id)
                {
                    share.0 = fresh;
                    shares.sort_unstable();
                    self.touched.insert(*group);
                }
            }
        }
        set
    }

    /// The kernel drops what goes through a link that is down or without carrier, and says nothing: members go, groups
    /// lose them, groups without any left go with their routes. Gives those groups.
    pub(crate) fn flushed(&mut self, interface: u32) -> Vec<ObjectId> {
        let through =
            |object: &Object| matches!(object, Object::Member(way) if way.interface == interface);
        let members: Vec<ObjectId> = self
            .kernel
            .iter()
            .filter(|(_, object)| through(object))
            .map(|(id, _)| *id)
            .collect();
        members
            .into_iter()
            .flat_map(|member| {
                self.kernel.insert(member, Object::Unknown);
                self.without(member)
            })
            .collect()
    }

    /// The groups no longer have this member; gives those that have none left.
    fn without(&mut self, member: ObjectId) -> Vec<ObjectId> {
        let mut lost = Vec::new();
        for (id, object) in &mut self.kernel {
            let Object::Group(shares) = object else {
                continue;
            };
            let before = shares.len();
            shares.retain(|(other, _)| *other != member);
            if shares.len() < before {
                self.doubted.insert(*id);
                self.touched.insert(*id);
                if shares.is_empty() {
                    lost.push(*id);
                }
            }
        }
        for id in &lost {
            self.lose(*id);
        }
        self.unswept = true;
        lost
    }

    /// The group may be gone, and with it all routes through it.
    pub(crate) fn lose(&mut self, id: ObjectId) {
        self.kernel.insert(id, Object::Unknown);
        self.touched.insert(id);
        let set = self.owners.get(&id).copied();
        if let Some(group) = set
            .and_then(|set| self.of_mut(set))
            .filter(|group| group.progress == Progress::Stands)
        {
            group.progress = Progress::Awaited;
        }
    }

    /// Someone took a group from us with all its routes: how often in a row, with no more than `truce` between.
    pub(crate) fn fought(&mut self, id: ObjectId, now: Instant, truce: Duration) -> u32 {
        let (times, last) = self.fights.entry(id).or_insert((0, now));
        *times = if *last + truce < now { 1 } else { *times + 1 };
        *last = now;
        *times
    }

    /// The set is better off with plain routes until then; gives the prefixes that waited.
    pub(crate) fn suspend(&mut self, id: ObjectId, retry: Retry) -> Vec<Key> {
        self.touched.remove(&id);
        self.failures.insert(id, retry);
        let set = self.owners.get(&id).copied();
        let group = set.and_then(|set| self.of_mut(set));
        group.map_or_else(Vec::new, |group| {
            group.progress = Progress::Failing;
            std::mem::take(&mut group.parked)
        })
    }

    /// Someone removed an object. `None`: it was not ours; else the groups that are gone with it.
    pub(crate) fn removed(&mut self, id: ObjectId) -> Option<Vec<ObjectId>> {
        let Some(before) = self.kernel.remove(&id) else {
            self.taken.remove(&id);
            return None;
        };
        self.doubted.insert(id);
        self.unswept = true;
        Some(match before {
            Object::Member(_) => self.without(id),
            Object::Group(_) | Object::Unknown => {
                self.lose(id);
                vec![id]
            }
        })
    }

    /// Someone wrote an object. True if it is ours and not as it should be.
    pub(crate) fn written(&mut self, found: FoundObject) -> bool {
        let FoundObject {
            id,
            protocol,
            object,
        } = found;
        match self.kernel.get(&id) {
            Some(before) if *before == object => return false,
            None if !self.protocols.contains(&protocol) => {
                self.taken.insert(id);
                return false;
            }
            _ => {}
        }
        self.kernel.insert(id, object);
        self.unswept = true;
        let wanted = self.desired.contains_key(&id);
        if wanted {
            self.doubted.insert(id);
            self.touched.insert(id);
        }
        wanted
    }

    /// Takes what a reading found; gives those that are not as they were.
    pub(crate) fn compare(&mut self, found: Vec<FoundObject>) -> Vec<ObjectId> {
        let before = std::mem::take(&mut self.kernel);
        self.taken.clear();
        for FoundObject {
            id,
            protocol,
            object,
        } in found
        {
            if !self.protocols.contains(&protocol) {
                self.taken.insert(id);
                continue;
            }
            if let (Object::Member(way), Some(current)) = (&object, self.protocols.first())
                && *current == protocol
            {
                self.ways.entry(*way).or_insert(id);
            }
            self.kernel.insert(id, object);
        }
        for (id, object) in &self.desired {
            if self.kernel.get(id) != Some(object) {
                self.touched.insert(*id);
            }
        }
        self.unswept = true;
        let doubted = std::mem::take(&mut self.doubted);
        for set in self.sets() {
            let there = |group: &Group| self.kernel.contains_key(&group.id);
            let progress = match self.of(set) {
                Some(group) if there(group) && group.progress == Progress::Awaited => {
                    Progress::Stands
                }
                Some(group) if !there(group) && group.progress == Progress::Stands => {
                    Progress::Awaited
                }
                _ => continue,
            };
            // Awaited and there: what waits for it is told by the write or, where there is none, by `unpark`.
            if let Some(group) = self.of_mut(set) {
                group.progress = progress;
            }
        }
        let expected = |(id, object): (&ObjectId, &Object)| {
            let was_right = self.desired.get(id) == Some(object) && !doubted.contains(id);
            (was_right && self.kernel.get(id) != Some(object)).then_some(*id)
        };
        before.iter().filter_map(expected).collect()
    }
}
