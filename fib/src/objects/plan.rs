//! What turns the kernel's objects into the desired ones: pure, and in an order in which nothing names what is not there.

use std::collections::{BTreeMap, BTreeSet};

use super::{Object, ObjectId};
use crate::{
    kernel::ObjectOp,
    plan::{Removal, Step, step},
};

/// The members that groups name.
pub(super) fn named(objects: &BTreeMap<ObjectId, Object>) -> BTreeSet<ObjectId> {
    let shares = objects.values().filter_map(|object| match object {
        Object::Group(shares) => Some(shares),
        Object::Member(_) | Object::Unknown => None,
    });
    shares.flatten().map(|(member, _)| *member).collect()
}

/// The steps from what is in the `kernel` to what is `desired` for these objects, but for removals: members before
/// the groups that name them.
pub(super) fn plan(
    desired: &BTreeMap<ObjectId, Object>,
    kernel: &BTreeMap<ObjectId, Object>,
    doubted: &BTreeSet<ObjectId>,
    ids: &BTreeSet<ObjectId>,
) -> Vec<ObjectOp> {
    let mut ops: Vec<ObjectOp> = ids
        .iter()
        .filter_map(|id| {
            let there = if doubted.contains(id) {
                Some(&Object::Unknown)
            } else {
                kernel.get(id)
            };
            let step = step(desired.get(id), there, Removal::Withheld)?.map(Clone::clone);
            Some(ObjectOp { id: *id, step })
        })
        .collect();
    ops.sort_by_key(|op| {
        matches!(
            op.step,
            Step::Create(Object::Group(_)) | Step::Replace(Object::Group(_))
        )
    });
    ops
}

/// The removals of what is in the `kernel` and not `desired`: groups that no route uses, then members that no group
/// names.
pub(super) fn leftovers(
    desired: &BTreeMap<ObjectId, Object>,
    kernel: &BTreeMap<ObjectId, Object>,
    is_used: impl Fn(ObjectId) -> bool,
) -> Vec<ObjectOp> {
    let (mut going, mut staying) = (Vec::new(), BTreeMap::new());
    for (id, object) in kernel {
        match object {
            Object::Member(_) => {}
            Object::Group(_) | Object::Unknown if !desired.contains_key(id) && !is_used(*id) => {
                going.push(*id)
            }
            Object::Group(_) | Object::Unknown => drop(staying.insert(*id, object.clone())),
        }
    }
    // What a group of which nothing is known names is not known either.
    if !staying.values().any(|object| *object == Object::Unknown) {
        let mut named = named(&staying);
        named.extend(self::named(desired));
        let members = kernel
            .iter()
            .filter(|(_, object)| matches!(object, Object::Member(_)));
        going.extend(
            members
                .map(|(id, _)| *id)
                .filter(|id| !desired.contains_key(id) && !named.contains(id)),
        );
    }
    going
        .into_iter()
        .map(|id| ObjectOp {
            id,
            step: Step::Remove,
        })
        .collect()
}
