//! Next-hop objects: which sets of next hops have one, what each should hold, and what the kernel holds.
//!
//! An object belongs to a set of next hops as it was asked for, not to what the set resolves to: when that changes,
//! one replacement moves every prefix of the set. It is always a group, also of one; its members are objects of
//! their own, one for each way out of the node, shared by the groups. No I/O, no clock of its own.

mod healing;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::RangeInclusive,
    time::Instant,
};

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::{
    kernel::{Failure, Key, ObjectOp},
    plan::Step,
    reconciler::{RETRY_LAST, Retry},
    resolve::Family,
    target::{Hop, Id},
};

use plan::{leftovers, named, plan};

/// The number of an object (`nhid` in `ip route`, `id` in `ip nexthop`).
pub(crate) type ObjectId = u32;

/// A set of next hops has an object once so many prefixes use it. Below, routes stay plain, as every tool knows
/// them: to move so few one by one takes a millisecond.
pub(crate) const FROM_PREFIXES: u32 = 256;

/// The numbers of our objects. Zebra counts from 1, and from 2^28 for other daemons: nobody comes here by chance.
pub(crate) const IDS: RangeInclusive<ObjectId> = 1_790_000_000..=1_799_999_999;

/// What an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// Something of ours may be there, but we don't know what: it is replaced or removed, never trusted.
    Unknown,
    Member(Way),
    Group(Shares),
}

/// One way out of the node, without its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Way {
    /// Of the gateway; where there is none, of the prefixes.
    pub(crate) family: Family,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) interface: u32,
    pub(crate) onlink: bool,
}

/// The members of a group by number, ascending, with weights of 1 to 255 (older kernels take no more).
pub(crate) type Shares = SmallVec<[(ObjectId, u8); 1]>;

impl Way {
    fn of(hop: &Hop, family: Family) -> Self {
        let family = match hop.gateway {
            Some(IpAddr::V4(_)) => Family::V4,
            Some(IpAddr::V6(_)) => Family::V6,
            None => family,
        };
        Self {
            family,
            gateway: hop.gateway,
            interface: hop.interface,
            onlink: hop.onlink,
        }
    }

    pub(crate) fn hop(&self, weight: u8) -> Hop {
        Hop {
            gateway: self.gateway,
            interface: self.interface,
            weight: weight.into(),
            onlink: self.onlink,
        }
    }
}

/// How far the object of a set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The kernel has not confirmed it yet: routes through it wait.
    Awaited,
    Stands,
    /// The kernel refused it: the routes of the set are plain until it takes it.
    Failing,
}

/// The object of one set.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: ObjectId,
    /// The target of routes through it.
    pub(crate) route: Id,
    pub(crate) progress: Progress,
    /// Prefixes that wait for it.
    parked: Vec<Key>,
}

/// See the top of the file.
#[derive(Debug)]
pub(crate) struct Objects {
    /// [`FROM_PREFIXES`]; tests say less, and a kernel without objects never.
    pub(crate) from: u32,
    /// Of the mark; after it those of earlier marks.
    protocols: SmallVec<[u8; 2]>,
    desired: BTreeMap<ObjectId, Object>,
    /// What it holds once everything submitted is done.
    kernel: BTreeMap<ObjectId, Object>,
    /// Something happened to these: they are written even if they seem right.
    doubted: BTreeSet<ObjectId>,
    /// By number of the wanted set.
    groups: Vec<Option<Box<Group>>>,
    owners: HashMap<ObjectId, Id>,
    ways: HashMap<Way, ObjectId>,
    /// Numbers in our range that others use.
    taken: BTreeSet<ObjectId>,
    touched: BTreeSet<ObjectId>,
    failures: BTreeMap<ObjectId, Retry>,
    /// How often a group was taken from us with its routes, and when last.
    fights: BTreeMap<ObjectId, (u32, Instant)>,
    last: ObjectId,
    /// Something may be left that nobody needs.
    unswept: bool,
}

impl Objects {
    pub(crate) fn new(protocol: u8) -> Self {
        Self {
            from: FROM_PREFIXES,
            protocols: SmallVec::from_slice(&[protocol]),
            desired: BTreeMap::new(),
            kernel: BTreeMap::new(),
            doubted: BTreeSet::new(),
            groups: Vec::new(),
            owners: HashMap::new(),
            ways: HashMap::new(),
            taken: BTreeSet::new(),
            touched: BTreeSet::new(),
            failures: BTreeMap::new(),
            fights: BTreeMap::new(),
            last: *IDS.end(),
            unswept: false,
        }
    }

    /// The object of a set, if it has one.
    pub(crate) fn of(&self, set: Id) -> Option<&Group> {
        self.groups.get(set as usize)?.as_deref()
    }

    fn of_mut(&mut self, set: Id) -> Option<&mut Group> {
        self.groups.get_mut(set as usize)?.as_deref_mut()
    }

    /// Objects in the kernel, groups and members.
    pub(crate) fn count(&self) -> usize {
        self.kernel.len()
    }

    /// The hops of a group as the kernel has it.
    pub(crate) fn hops(&self, id: ObjectId) -> SmallVec<[Hop; 1]> {
        let Some(Object::Group(shares)) = self.kernel.get(&id) else {
            return SmallVec::new();
        };
        let hop = |(member, weight): &(ObjectId, u8)| match self.kernel.get(member) {
            Some(Object::Member(way)) => Some(way.hop(*weight)),
            _ => None,
        };
        shares.iter().filter_map(hop).collect()
    }

    /// A number for a new object.
    pub(crate) fn allocate(&mut self) -> ObjectId {
        loop {
            self.last = if self.last >= *IDS.end() {
                *IDS.start()
            } else {
                self.last + 1
            };
            let used = self.taken.contains(&self.last)
                || self.kernel.contains_key(&self.last)
                || self.desired.contains_key(&self.last)
                || self.owners.contains_key(&self.last);
            if !used {
                return self.last;
            }
        }
    }

    /// Gives a set the group with this number; `route` is the target of routes through it.
    pub(crate) fn assign(&mut self, set: Id, id: ObjectId, route: Id) {
        if self.groups.len() <= set as usize {
            self.groups.resize_with(set as usize + 1, || None);
        }
        let progress = if self.kernel.contains_key(&id) {
            Progress::Stands
        } else {
            Progress::Awaited
        };
        if let Some(slot) = self.groups.get_mut(set as usize) {
            *slot = Some(Box::new(Group {
                id,
                route,
                progress,
                parked: Vec::new(),
            }));
            self.owners.insert(id, set);
        }
    }

    /// The group that stands in the kernel, belongs to nobody, and holds just these hops: an earlier run's.
    pub(crate) fn is_adoptable(&self, id: ObjectId, hops: &[Hop], family: Family) -> bool {
        let known = |hop: &Hop| Some((*self.ways.get(&Way::of(hop, family))?, weight(hop)));
        let shares: Option<Shares> = hops.iter().map(known).collect();
        let shares = shares.map(|mut shares| {
            shares.sort_unstable();
            Object::Group(shares)
        });
        !self.owners.contains_key(&id)
            && shares.is_some()
            && self.kernel.get(&id) == shares.as_ref()
    }

    /// Says what the object of a set should hold; without hops it is not needed. Nothing happens where it has none.
    pub(crate) fn aim(&mut self, set: Id, hops: Option<&[Hop]>, family: Family) {
        let Some(id) = self.of(set).map(|group| group.id) else {
            return;
        };
        let Some(hops) = hops else {
            self.desired.remove(&id);
            self.unswept = true;
            return;
        };
        let mut shares = Shares::new();
        for hop in hops {
            let way = Way::of(hop, family);
            let member = match self.ways.get(&way) {
                Some(member) => *member,
                None => {
                    let member = self.allocate();
                    self.ways.insert(way, member);
                    member
                }
            };
            self.desired.insert(member, Object::Member(way));
            shares.push((member, weight(hop)));
        }
        shares.sort_unstable();
        self.desired.insert(id, Object::Group(shares));
        let there = self.kernel.contains_key(&id);
        if let Some(group) = self
            .of_mut(set)
            .filter(|group| !there && group.progress == Progress::Stands)
        {
            group.progress = Progress::Awaited;
        }
        self.touched.insert(id);
        self.unswept = true;
    }

    /// Takes the object away from a set; gives the target of its routes and the prefixes that waited for it.
    pub(crate) fn unassign(&mut self, set: Id) -> Option<(Id, Vec<Key>)> {
        let group = self.groups.get_mut(set as usize)?.take()?;
        self.owners.remove(&group.id);
        self.desired.remove(&group.id);
        self.failures.remove(&group.id);
        self.fights.remove(&group.id);
        self.unswept = true;
        Some((group.route, group.parked))
    }

    /// The sets that have an object.
    pub(crate) fn sets(&self) -> Vec<Id> {
        self.owners.values().copied().collect()
    }

    /// The prefix waits for the object of its set.
    pub(crate) fn park(&mut self, set: Id, key: Key) {
        if let Some(group) = self.of_mut(set) {
            group.parked.push(key);
        }
    }

    /// Nothing waits to be written.
    pub(crate) fn is_settled(&self) -> bool {
        self.touched.is_empty()
    }

    /// When something that failed is tried again.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.failures.values().map(|retry| retry.at).min()
    }

    /// Has what waited long enough tried again.
    pub(crate) fn revive(&mut self, now: Instant) {
        if self.next_retry().is_none_or(|at| at > now) {
            return;
        }
        let (desired, touched) = (&self.desired, &mut self.touched);
        self.failures.retain(|id, retry| {
            let (due, wanted) = (retry.at <= now, desired.contains_key(id));
            if due && wanted {
                touched.insert(*id);
                // Until the outcome is known nothing more is due.
                retry.at = now + RETRY_LAST;
            }
            wanted || !due
        });
        self.unswept = true;
    }

    /// What to write now: nothing is removed yet.
    pub(crate) fn writes(&mut self) -> Vec<ObjectOp> {
        if self.touched.is_empty() {
            return Vec::new();
        }
        let mut ids = BTreeSet::new();
        for id in std::mem::take(&mut self.touched) {
            if let Some(Object::Group(shares)) = self.desired.get(&id) {
                ids.extend(shares.iter().map(|(member, _)| *member));
            }
            ids.insert(id);
        }
        let ops = plan(&self.desired, &self.kernel, &self.doubted, &ids);
        for ObjectOp { id, step } in &ops {
            self.doubted.remove(id);
            if let Step::Create(object) | Step::Replace(object) = step {
                self.kernel.insert(*id, object.clone());
            }
        }
        ops
    }

    /// What to remove: nobody wants it, and no route of ours goes through it.
    pub(crate) fn removals(&mut self, is_used: impl Fn(ObjectId) -> bool) -> Vec<ObjectOp> {
        if !std::mem::take(&mut self.unswept) {
            return Vec::new();
        }
        let named = named(&self.desired);
        self.desired
            .retain(|id, object| !matches!(object, Object::Member(_)) || named.contains(id));
        let failures = &self.failures;
        let ops: Vec<ObjectOp> = leftovers(&self.desired, &self.kernel, is_used)
            .into_iter()
            .filter(|op| !failures.contains_key(&op.id))
            .collect();
        for op in &ops {
            self.kernel.remove(&op.id);
            self.doubted.remove(&op.id);
        }
        let (desired, kernel) = (&self.desired, &self.kernel);
        self.ways
            .retain(|_, id| desired.contains_key(id) || kernel.contains_key(id));
        ops
    }

    /// What removes an object that belongs to no set, with all routes through it.
    pub(crate) fn discard(&mut self, id: ObjectId) -> Option<ObjectOp> {
        let needed = self.desired.contains_key(&id) || self.owners.contains_key(&id);
        if needed || self.failures.contains_key(&id) {
            return None;
        }
        self.kernel.remove(&id)?;
        self.doubted.remove(&id);
        // Its members may go now.
        self.unswept = true;
        Some(ObjectOp {
            id,
            step: Step::Remove,
        })
    }

    /// It was written: the prefixes that waited for it, if it was a group that did not stand.
    pub(crate) fn succeeded(&mut self, id: ObjectId) -> Option<Vec<Key>> {
        self.failures.remove(&id);
        let set = *self.owners.get(&id)?;
        let group = self
            .of_mut(set)
            .filter(|group| group.progress != Progress::Stands)?;
        group.progress = Progress::Stands;
        Some(std::mem::take(&mut group.parked))
    }

    /// It was refused, to be tried again at a time that `retry` gives for the number of attempts: the prefixes that
    /// waited for it, if it was a group, and the number of attempts.
    pub(crate) fn failed(
        &mut self,
        op: &ObjectOp,
        failure: Failure,
        retry_at: impl Fn(u32) -> Instant,
    ) -> (u32, Option<Vec<Key>>) {
        match op.step {
            Step::Create(_) => drop(self.kernel.remove(&op.id)),
            Step::Replace(_) | Step::Remove => {
                self.kernel.insert(op.id, Object::Unknown);
            }
        }
        let attempts = self
            .failures
            .get(&op.id)
            .map_or(1, |retry| retry.attempts.saturating_add(1));
        let at = retry_at(attempts);
        self.failures.insert(
            op.id,
            Retry {
                failure,
                attempts,
                at,
            },
        );
        let group = self
            .owners
            .get(&op.id)
            .copied()
            .and_then(|set| self.of_mut(set));
        let parked = group.map(|group| {
            group.progress = Progress::Failing;
            std::mem::take(&mut group.parked)
        });
        (attempts, parked)
    }

    /// The prefixes that wait for a group that stands.
    pub(crate) fn unpark(&mut self) -> Vec<Key> {
        let standing = self
            .groups
            .iter_mut()
            .flatten()
            .filter(|group| group.progress == Progress::Stands);
        standing
            .flat_map(|group| std::mem::take(&mut group.parked))
            .collect()
    }

    /// Another protocol number: what is there stays until the routes through it are gone.
    pub(crate) fn change_protocol(&mut self, protocol: u8) {
        self.protocols.retain(|earlier| *earlier != protocol);
        self.protocols.insert(0, protocol);
        self.ways.clear();
        self.desired.clear();
        self.unswept = true;
    }

    /// The failures, by object.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (ObjectId, &Retry)> {
        self.failures.iter().map(|(id, retry)| (*id, retry))
    }
}

/// The weight of a hop in a group.
fn weight(hop: &Hop) -> u8 {
    u8::try_from(hop.weight).unwrap_or(u8::MAX).max(1)
}
