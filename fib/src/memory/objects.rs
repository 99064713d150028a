//! Next-hop objects of the kernel in memory: what they demand, and what goes with them.

use smallvec::SmallVec;

use super::Memory;
use crate::{
    kernel::{Failure, FoundObject, KernelEvent, ObjectEvent, ObjectOp},
    network::Verdict,
    objects::{Object, ObjectId},
    plan::Step,
    route::Mark,
    target::Hop,
};

const ENETDOWN: i32 = 100;

impl Memory {
    pub(super) fn write_object(&mut self, mark: Mark, op: &ObjectOp) -> Result<(), i32> {
        if let Some(errno) = self.objects_refused {
            return Err(errno);
        }
        let there = self.objects.contains_key(&op.id);
        match &op.step {
            Step::Create(_) if there => return Err(Failure::EEXIST),
            Step::Create(object) | Step::Replace(object) => {
                self.check(object)?;
                let found = FoundObject {
                    id: op.id,
                    protocol: mark.protocol,
                    object: object.clone(),
                };
                self.objects.insert(op.id, found);
            }
            Step::Remove if there => drop(self.remove_object(op.id)),
            Step::Remove => return Err(Failure::ENOENT),
        }
        self.object_log.push((op.id, op.step.clone().map(|_| ())));
        Ok(())
    }

    fn check(&self, object: &Object) -> Result<(), i32> {
        let member = |id: &ObjectId| {
            let object = self.objects.get(id).map(|found| &found.object);
            matches!(object, Some(Object::Member(_)))
        };
        match object {
            Object::Member(way) => {
                let link = self.links.get(&way.interface);
                let usable = link.is_some_and(|link| link.admin_up && link.carrier);
                usable.then_some(()).ok_or(ENETDOWN)
            }
            Object::Group(shares) => {
                let valid = !shares.is_empty() && shares.iter().all(|(id, _)| member(id));
                valid.then_some(()).ok_or(Failure::EINVAL)
            }
            Object::Unknown => Err(Failure::EINVAL),
        }
    }

    /// The hops of a group; empty where there is none.
    pub(crate) fn group(&self, id: ObjectId) -> SmallVec<[Hop; 1]> {
        let object = |id| self.objects.get(&id).map(|found| &found.object);
        let Some(Object::Group(shares)) = object(id) else {
            return SmallVec::new();
        };
        let hop = |(member, weight): &(ObjectId, u8)| match object(*member) {
            Some(Object::Member(way)) => Some(way.hop(*weight)),
            _ => None,
        };
        shares.iter().filter_map(hop).collect()
    }

    /// With an object go the groups that have nothing else, and with groups their routes, without a word.
    pub(super) fn remove_object(&mut self, id: ObjectId) -> Vec<KernelEvent> {
        let mut events = Vec::new();
        if self.objects.remove(&id).is_none() {
            return events;
        }
        events.push(self.object_event(id));
        self.routes.retain(|_, route| route.object != Some(id));
        let mut emptied = Vec::new();
        for (group, found) in &mut self.objects {
            let Object::Group(shares) = &mut found.object else {
                continue;
            };
            let before = shares.len();
            shares.retain(|(member, _)| *member != id);
            if shares.is_empty() {
                emptied.push(*group);
            } else if shares.len() < before {
                events.push(KernelEvent::Object(ObjectEvent {
                    id: *group,
                    found: Some(found.clone()),
                    by: self.stranger,
                }));
            }
        }
        for group in emptied {
            events.extend(self.remove_object(group));
        }
        events
    }

    pub(super) fn object_event(&self, id: ObjectId) -> KernelEvent {
        KernelEvent::Object(ObjectEvent {
            id,
            found: self.objects.get(&id).cloned(),
            by: self.stranger,
        })
    }

    pub(super) fn is_group(&self, id: ObjectId) -> bool {
        let object = self.objects.get(&id).map(|found| &found.object);
        matches!(object, Some(Object::Group(_)))
    }

    /// What a route does now.
    pub(super) fn verdict(&self, route: &crate::network::Foreign) -> Verdict {
        match route.object {
            Some(id) => Verdict::Forward(self.group(id)),
            None => route.verdict.clone(),
        }
    }
}
