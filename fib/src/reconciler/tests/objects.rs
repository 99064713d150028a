//! Next-hop objects: who gets one, what moves with it, what goes with it, and what is left of it.

use super::*;
use crate::{
    objects::{IDS, Object, ObjectId},
    reconciler::flood::{FLOOD, LONGEST, LULL},
};

/// A reconciler that makes objects for sets of three prefixes and more.
fn objects_from_three() -> Rig {
    let mut rig = Rig::new(Memory::node());
    rig.reconciler.objects.from = 3;
    rig
}

fn prefixes(count: u8) -> Vec<String> {
    (0..count).map(|n| format!("10.244.{n}.0/24")).collect()
}

impl Rig {
    fn want_all(&mut self, count: u8, next_hops: &[&str]) {
        let changes: Vec<Change> = prefixes(count)
            .iter()
            .map(|prefix| want(prefix, next_hops))
            .collect();
        self.change(&changes);
    }

    /// The numbers that our routes go through, none twice.
    fn through(&self) -> Vec<ObjectId> {
        let mut ids: Vec<ObjectId> = self
            .memory
            .routes
            .values()
            .filter(|route| route.protocol == 179)
            .filter_map(|route| route.object)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn groups(&self) -> Vec<ObjectId> {
        self.memory
            .own_objects(179)
            .into_iter()
            .filter(|(_, object)| matches!(object, Object::Group(_)))
            .map(|(id, _)| id)
            .collect()
    }

    fn all_lead(&self, count: u8, target: &Target) {
        let kernel = self.kernel();
        assert_eq!(kernel.len(), usize::from(count));
        for (prefix, found) in kernel {
            assert_eq!(found, *target, "{prefix}");
        }
    }

    pub(super) fn nth_object(&self, n: u8) -> Option<ObjectId> {
        let own = self.memory.own_objects(179);
        (!own.is_empty()).then(|| own[usize::from(n) % own.len()].0)
    }

    pub(super) fn change_object(&mut self, n: u8) {
        let groups = self.groups();
        if groups.is_empty() {
            return;
        }
        let id = groups[usize::from(n) % groups.len()];
        let members: Vec<ObjectId> = self
            .memory
            .own_objects(179)
            .into_iter()
            .filter(|(_, object)| matches!(object, Object::Member(_)))
            .map(|(id, _)| id)
            .collect();
        let Some(member) = members.get(usize::from(n) % members.len().max(1)) else {
            return;
        };
        let event = self
            .memory
            .put_object(id, 4, Object::Group(smallvec![(*member, 7)]));
        self.reconciler.observe(self.now, vec![event]);
    }

    pub(super) fn add_foreign_object(&mut self, n: u8) {
        let id = IDS.start() + u32::from(n);
        if self.memory.objects.contains_key(&id) {
            return;
        }
        let event = self.memory.put_object(id, 4, Object::Unknown);
        self.reconciler.observe(self.now, vec![event]);
    }

    /// In the end: what is ours is used (or would be, were the prefixes not refused), and what is used is there.
    pub(super) fn objects_are_as_they_should_be(&self) {
        let objects = &self.reconciler.objects;
        let owned = objects.sets().into_iter().filter_map(|set| objects.of(set));
        let owned: Vec<ObjectId> = owned.map(|group| group.id).collect();
        let through = self.through();
        assert!(
            through.iter().all(|id| owned.contains(id)),
            "a route through what belongs to nobody"
        );
        let groups: Vec<ObjectId> = self
            .memory
            .objects
            .values()
            .filter(|found| matches!(found.object, Object::Group(_)))
            .map(|found| found.id)
            .collect();
        assert!(
            through.iter().all(|id| groups.contains(id)),
            "a route through nothing"
        );
        assert!(
            groups.iter().all(|id| owned.contains(id)),
            "a group that belongs to nobody"
        );
        let mut named: Vec<ObjectId> = self
            .memory
            .objects
            .values()
            .filter_map(|found| match &found.object {
                Object::Group(shares) => Some(shares.iter().map(|(id, _)| *id)),
                _ => None,
            })
            .flatten()
            .collect();
        named.sort_unstable();
        named.dedup();
        let members: Vec<ObjectId> = self
            .memory
            .objects
            .values()
            .filter(|found| matches!(found.object, Object::Member(_)))
            .map(|found| found.id)
            .collect();
        assert_eq!(
            members, named,
            "members without groups, or the other way round"
        );
    }
}

#[test]
fn a_small_set_stays_plain_and_one_that_has_grown_moves_as_a_whole() {
    let mut rig = objects_from_three();
    rig.want_all(2, &["10.0.0.2"]);
    assert_eq!(rig.through(), []);
    assert!(rig.memory.objects.is_empty());
    rig.want_all(3, &["10.0.0.2"]);
    assert_eq!(rig.through().len(), 1);
    assert!(
        rig.memory
            .routes
            .values()
            .all(|route| route.protocol != 179 || route.object.is_some())
    );
    rig.all_lead(3, &via(&[("10.0.0.2", 2)]));
    rig.objects_are_as_they_should_be();
}

#[test]
fn a_set_that_resolves_differently_moves_by_one_operation() {
    let mut rig = objects_from_three();
    rig.want_all(100, &["10.0.0.2", "10.0.1.2"]);
    rig.all_lead(100, &via(&[("10.0.0.2", 2), ("10.0.1.2", 3)]));
    rig.memory.log.clear();
    rig.memory.object_log.clear();
    let event = KernelEvent::Neighbour {
        interface: 2,
        address: "10.0.0.2".parse().unwrap(),
        failure: NeighbourFailure::Failed,
    };
    rig.observe(event);
    rig.all_lead(100, &via(&[("10.0.1.2", 3)]));
    assert_eq!(rig.memory.log, [], "no route was written");
    let group = rig.through()[0];
    assert_eq!(rig.memory.object_log[0], (group, Step::Replace(())));
    assert!(
        rig.memory.object_log[1..]
            .iter()
            .all(|(_, step)| *step == Step::Remove)
    );
}

#[test]
fn a_link_without_carrier_takes_its_objects_and_a_link_that_is_back_brings_everything_back() {
    let mut rig = objects_from_three();
    rig.want_all(10, &["10.0.0.2", "10.0.1.2"]);
    let event = rig.memory.set_carrier(3, false);
    rig.observe(event);
    rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
    let event = rig.memory.set_carrier(2, false);
    rig.observe(event);
    assert!(rig.kernel().is_empty(), "no way is left");
    let event = rig.memory.set_carrier(2, true);
    rig.observe(event);
    rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
    let event = rig.memory.set_carrier(3, true);
    rig.observe(event);
    rig.wait(Duration::from_secs(1));
    rig.all_lead(10, &via(&[("10.0.0.2", 2), ("10.0.1.2", 3)]));
    rig.reconciler.set_complete(Completeness::Complete);
    rig.settle();
    rig.objects_are_as_they_should_be();
}

#[test]
fn a_flap_that_is_over_before_it_is_heard_of_leaves_nothing_behind() {
    let mut rig = objects_from_three();
    rig.want_all(10, &["10.0.0.2"]);
    let down = rig.memory.set_carrier(2, false);
    let up = rig.memory.set_carrier(2, true);
    assert!(
        rig.kernel().is_empty(),
        "the kernel dropped them without a word"
    );
    rig.reconciler.observe(rig.now, vec![down, up]);
    rig.settle();
    rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
}

#[test]
fn a_large_set_that_nobody_wants_goes_with_its_object_in_one_operation() {
    let mut rig = objects_from_three();
    rig.want_all(100, &["10.0.0.2"]);
    rig.change(&[want("10.250.0.0/24", &["10.0.1.2"])]);
    rig.reconciler.set_complete(Completeness::Complete);
    rig.settle();
    rig.memory.log.clear();
    rig.memory.object_log.clear();
    let group = rig.groups()[0];
    let gone: Vec<Change> = prefixes(100)
        .iter()
        .map(|prefix| Change::Withdrawn(net(prefix)))
        .collect();
    rig.change(&gone);
    assert_eq!(rig.kernel().len(), 1, "the other set's route is untouched");
    assert_eq!(rig.memory.log, [], "no route was removed by itself");
    assert_eq!(rig.memory.object_log[0], (group, Step::Remove));
    assert!(rig.memory.own_objects(179).is_empty());
    rig.want_all(100, &["10.0.0.2"]);
    assert_eq!(rig.kernel().len(), 101);
    rig.objects_are_as_they_should_be();
}

#[test]
fn an_object_whose_removal_fails_leaves_no_route_behind() {
    let mut rig = objects_from_three();
    rig.want_all(100, &["10.0.0.2"]);
    rig.reconciler.set_complete(Completeness::Complete);
    rig.settle();
    rig.memory.objects_refused = Some(16);
    let gone: Vec<Change> = prefixes(100)
        .iter()
        .map(|prefix| Change::Withdrawn(net(prefix)))
        .collect();
    rig.change(&gone);
    rig.wait(Duration::from_secs(1));
    assert!(rig.kernel().is_empty());
}

#[test]
fn an_object_stays_while_a_route_through_it_may_still_be_wanted() {
    let mut rig = objects_from_three();
    rig.want_all(100, &["10.0.0.2"]);
    rig.reconciler.set_complete(Completeness::Complete);
    rig.settle();
    let group = rig.groups()[0];
    // One prefix moves to another set in the same breath: its route is replaced before the object goes.
    let mut changes: Vec<Change> = prefixes(100)
        .iter()
        .skip(1)
        .map(|prefix| Change::Withdrawn(net(prefix)))
        .collect();
    changes.push(want("10.244.0.0/24", &["10.0.1.2"]));
    rig.memory.log.clear();
    rig.change(&changes);
    assert_eq!(rig.memory.log, [(net("10.244.0.0/24"), Step::Replace(()))]);
    assert!(!rig.groups().contains(&group));
    rig.all_lead(1, &via(&[("10.0.1.2", 3)]));
}

#[test]
fn an_object_that_someone_removes_is_back_with_all_its_routes() {
    let mut rig = objects_from_three();
    rig.want_all(10, &["10.0.0.2"]);
    for object in [rig.groups()[0], rig.nth_object(0).unwrap()] {
        let events = rig.memory.take_object(object);
        assert!(rig.kernel().is_empty());
        rig.reconciler.observe(rig.now, events);
        rig.settle();
        rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
    }
    assert!(
        rig.told
            .iter()
            .any(|event| matches!(event, Event::ObjectDrifted { by: 4711, .. }))
    );
}

#[test]
fn who_keeps_removing_an_object_leaves_the_set_with_plain_routes_for_a_while() {
    let mut rig = objects_from_three();
    rig.want_all(10, &["10.0.0.2"]);
    for _ in 0..4 {
        let events = rig.memory.take_object(rig.groups()[0]);
        rig.reconciler.observe(rig.now, events);
        rig.settle();
        rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
    }
    assert_eq!(rig.through(), [], "plain after the fourth time");
    assert!(rig.reconciler.status().problems[0].contains("ip monitor nexthop"));
    rig.wait(Duration::from_secs(60));
    assert_eq!(rig.through().len(), 1);
    rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
}

#[test]
fn an_object_that_someone_changes_is_put_right() {
    let mut rig = objects_from_three();
    rig.want_all(10, &["10.0.0.2", "10.0.1.2"]);
    rig.change_object(0);
    rig.settle();
    rig.all_lead(10, &via(&[("10.0.0.2", 2), ("10.0.1.2", 3)]));
}

#[test]
fn a_number_that_someone_else_uses_is_left_to_them() {
    let mut rig = objects_from_three();
    for n in 0..5 {
        rig.add_foreign_object(n);
    }
    // Of these nobody told us.
    for n in 5..8 {
        rig.memory.put_object(IDS.start() + n, 4, Object::Unknown);
    }
    rig.want_all(10, &["10.0.0.2"]);
    rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
    assert_eq!(rig.through().len(), 1);
    assert_eq!(rig.memory.own_objects(4).len(), 8);
    assert!(
        rig.memory
            .own_objects(4)
            .iter()
            .all(|(_, object)| *object == Object::Unknown)
    );
}

#[test]
fn a_kernel_without_objects_gets_plain_routes_and_one_event() {
    let mut rig = Rig::new(Memory {
        without_objects: true,
        ..Memory::node()
    });
    rig.want_all(10, &["10.0.0.2"]);
    rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
    assert_eq!(rig.through(), []);

    let mut rig = objects_from_three();
    rig.memory.objects_refused = Some(Failure::EOPNOTSUPP);
    rig.want_all(10, &["10.0.0.2"]);
    rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
    let told = rig
        .told
        .iter()
        .filter(|event| **event == Event::WithoutObjects);
    assert_eq!(told.count(), 1);
}

#[test]
fn a_set_whose_object_is_refused_is_plain_until_the_kernel_takes_it() {
    let mut rig = objects_from_three();
    rig.memory.objects_refused = Some(12);
    rig.want_all(10, &["10.0.0.2"]);
    rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
    assert_eq!(rig.through(), []);
    assert!(
        rig.told
            .iter()
            .any(|event| matches!(event, Event::ObjectFailed { errno: 12, .. }))
    );
    assert!(rig.reconciler.status().problems[0].contains("next-hop object"));
    rig.memory.objects_refused = None;
    rig.wait(Duration::from_secs(60));
    assert_eq!(rig.through().len(), 1);
    rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
    assert_eq!(rig.reconciler.status().problems, [] as [String; 0]);
}

#[test]
fn the_object_goes_after_its_last_route() {
    let mut rig = objects_from_three();
    rig.reconciler.set_complete(Completeness::Complete);
    rig.want_all(10, &["10.0.0.2"]);
    let all: Vec<Change> = prefixes(10)
        .iter()
        .map(|prefix| Change::Withdrawn(net(prefix)))
        .collect();
    rig.change(&all[1..]);
    assert_eq!(rig.through().len(), 1, "it stays with the last prefix");
    rig.change(&all[..1]);
    assert!(rig.memory.objects.is_empty());
    assert!(rig.kernel().is_empty());
}

#[test]
fn a_restart_takes_over_objects_and_routes_without_a_write() {
    let mut before = objects_from_three();
    before.want_all(10, &["10.0.0.2", "10.0.1.2"]);
    before.change(&[
        want("10.245.0.0/24", &["10.0.0.2"]),
        want("10.245.1.0/24", &["10.0.0.2"]),
        want("10.245.2.0/24", &["10.0.0.2"]),
    ]);
    let mut memory = before.memory;
    memory.log.clear();
    memory.object_log.clear();

    let mut rig = Rig::new(memory);
    rig.want_all(10, &["10.0.0.2", "10.0.1.2"]);
    rig.change(&[want("10.245.0.0/24", &["10.0.0.2"])]);
    assert_eq!((rig.memory.log.len(), rig.memory.object_log.len()), (0, 0));
    rig.reconciler.set_complete(Completeness::Complete);
    rig.settle();
    assert_eq!(
        rig.memory.log.len(),
        2,
        "what nobody wants is swept, and nothing else is written"
    );
    assert_eq!(rig.reconciler.totals.adopted, 11);
    rig.objects_are_as_they_should_be();
    rig.all_lead_after_restart();
}

impl Rig {
    fn all_lead_after_restart(&self) {
        let kernel = self.kernel();
        assert_eq!(kernel.len(), 11);
        assert_eq!(kernel[&net("10.245.0.0/24")], via(&[("10.0.0.2", 2)]));
        assert_eq!(
            kernel[&net("10.244.3.0/24")],
            via(&[("10.0.0.2", 2), ("10.0.1.2", 3)])
        );
    }
}

#[test]
fn objects_nobody_takes_over_go_after_their_routes_once_the_inputs_are_complete() {
    let mut before = objects_from_three();
    before.want_all(10, &["10.0.0.2"]);
    let mut rig = Rig::new(before.memory);
    assert_eq!(rig.through().len(), 1);
    rig.wait(Duration::from_secs(60));
    rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
    rig.reconciler.set_complete(Completeness::Complete);
    rig.settle();
    assert!(rig.kernel().is_empty() && rig.memory.objects.is_empty());
}

#[test]
fn another_protocol_number_takes_the_objects_along() {
    let mut rig = objects_from_three();
    rig.reconciler.set_complete(Completeness::Complete);
    rig.want_all(10, &["10.0.0.2"]);
    let mark = Mark {
        protocol: 200,
        ..Mark::default()
    };
    rig.reconciler.apply(rig.now, Config { mark, ..config() });
    rig.settle();
    rig.wait(Duration::from_secs(5));
    rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
    assert!(rig.memory.own_objects(179).is_empty());
    assert_eq!(rig.memory.own_objects(200).len(), 2);
}

#[test]
fn lost_events_are_made_good_for_objects_too() {
    let mut rig = objects_from_three();
    rig.want_all(10, &["10.0.0.2"]);
    let group = rig.groups()[0];
    rig.memory.take_object(group);
    rig.reconciler.overrun(rig.now);
    rig.settle();
    rig.all_lead(10, &via(&[("10.0.0.2", 2)]));
    rig.objects_are_as_they_should_be();
}

/// Something for each of `count` prefixes.
fn flood(count: usize, what: impl Fn(&str) -> Change) -> Vec<Change> {
    (0..count)
        .map(|n| what(&format!("30.{}.{}.0/24", n >> 8, n & 255)))
        .collect()
}

/// All inputs are complete, and so many routes lead through one object.
fn full(count: usize) -> Rig {
    let mut rig = objects_from_three();
    rig.reconciler.set_complete(Completeness::Complete);
    rig.change(&flood(count, |prefix| want(prefix, &["10.0.0.2"])));
    assert_eq!(rig.kernel().len(), count);
    rig.told.clear();
    rig
}

fn told_removed(rig: &mut Rig) -> (usize, usize) {
    let mut counts = (0, 0);
    for event in rig.told.drain(..) {
        match event {
            Event::Written { removed, .. } => counts.0 += removed,
            Event::Flushed { routes, .. } => counts.1 += routes,
            _ => {}
        }
    }
    counts
}

#[test]
fn removals_that_come_in_a_flood_go_together() {
    const ALL: usize = 3 * FLOOD;
    let mut rig = full(ALL);
    let gone = flood(ALL, |prefix| Change::Withdrawn(net(prefix)));
    let (first, second) = gone.split_at(2 * FLOOD);
    rig.change(first);
    assert_eq!(rig.kernel().len(), ALL, "they wait for the others");
    rig.change(second);
    assert!(rig.kernel().is_empty());
    assert_eq!(told_removed(&mut rig), (0, ALL));
    assert_eq!(rig.reconciler.backlog(), 0);
}

#[test]
fn a_flood_that_ends_before_all_have_gone_is_removed_one_by_one() {
    const ALL: usize = 3 * FLOOD;
    let mut rig = full(ALL);
    rig.change(&flood(2 * FLOOD, |prefix| Change::Withdrawn(net(prefix))));
    assert_eq!(rig.kernel().len(), ALL);
    rig.wait(LULL);
    assert_eq!(rig.kernel().len(), FLOOD);
    assert_eq!(told_removed(&mut rig), (2 * FLOOD, 0));
}

#[test]
fn no_removal_waits_for_ever_for_others() {
    const ALL: usize = 3 * FLOOD;
    let mut rig = full(ALL);
    let gone = flood(ALL - 1, |prefix| Change::Withdrawn(net(prefix)));
    let (first, others) = gone.split_at(2 * FLOOD);
    rig.change(first);
    let begun = rig.now;
    let mut others = others.iter();
    while rig.kernel().len() == ALL {
        assert!(rig.now <= begun + LONGEST, "it waits on");
        rig.wait(LULL / 2);
        rig.change(&others.by_ref().take(1).cloned().collect::<Vec<_>>());
    }
    assert!(others.next().is_some(), "it waited for the last one");
}

#[test]
fn a_flood_of_plain_routes_waits_for_nobody() {
    let mut rig = Rig::new(Memory::node());
    rig.reconciler.objects.from = u32::MAX;
    rig.reconciler.set_complete(Completeness::Complete);
    rig.change(&flood(2 * FLOOD, |prefix| want(prefix, &["10.0.0.2"])));
    rig.change(&flood(2 * FLOOD - 1, |prefix| {
        Change::Withdrawn(net(prefix))
    }));
    assert_eq!(rig.kernel().len(), 1);
}
