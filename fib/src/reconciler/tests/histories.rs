//! Whatever happens in whatever order, the kernel ends up as wanted.

use super::*;

/// What can happen, in any order.
#[derive(Clone, Debug)]
enum Happening {
    Wanted(u8, u8),
    Withdrawn(u8),
    Carrier(bool, bool),
    StrangerTakes(u8),
    StrangerChanges(u8),
    ForeignComes(u8),
    ForeignGoes(u8),
    Refused(u8),
    Allowed,
    LostEvents(u8),
    Time(u16),
    Complete,
    Mark(bool),
    StrangerTakesObject(u8),
    StrangerChangesObject(u8),
    ForeignObject(u8),
    ObjectsRefused(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        6 => (0..12_u8, 0..6_u8).prop_map(|(prefix, hops)| Wanted(prefix, hops)),
        3 => (0..12_u8).prop_map(Withdrawn),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(link, up)| Carrier(link, up)),
        2 => (0..12_u8).prop_map(StrangerTakes),
        2 => (0..12_u8).prop_map(StrangerChanges),
        1 => (0..12_u8).prop_map(ForeignComes),
        1 => (0..12_u8).prop_map(ForeignGoes),
        1 => (0..12_u8).prop_map(Refused),
        1 => Just(Allowed),
        1 => (0..12_u8).prop_map(LostEvents),
        1 => any::<u16>().prop_map(Time),
        1 => Just(Complete),
        1 => any::<bool>().prop_map(Mark),
        1 => any::<u8>().prop_map(StrangerTakesObject),
        1 => any::<u8>().prop_map(StrangerChangesObject),
        1 => (0..40_u8).prop_map(ForeignObject),
        1 => any::<bool>().prop_map(ObjectsRefused),
    ]
}

fn nth(n: u8) -> IpNetwork {
    if n.is_multiple_of(3) {
        net(&format!("fd00:244:{n}::/64"))
    } else {
        net(&format!("10.244.{n}.0/24"))
    }
}

fn hops(prefix: IpNetwork, n: u8) -> Vec<NextHop> {
    let all: [&str; 3] = if prefix.is_ipv4() {
        ["10.0.0.2", "10.0.1.2", "192.0.2.1"]
    } else {
        ["fd00:10::2", "fd00:11::2", "2001:db8::1"]
    };
    let sets: [&[usize]; 6] = [&[0], &[1], &[0, 1], &[2], &[0, 2], &[1, 0]];
    sets[usize::from(n)]
        .iter()
        .map(|hop| NextHop::new(all[*hop].parse().unwrap()))
        .collect()
}

impl Rig {
    fn happen(&mut self, happening: &Happening, wanted: &mut BTreeMap<IpNetwork, Vec<NextHop>>) {
        let mark = self.reconciler.config.mark;
        match *happening {
            Happening::Wanted(prefix, set) => {
                let (prefix, hops) = (nth(prefix), hops(nth(prefix), set));
                wanted.insert(prefix, hops.clone());
                self.reconciler.change(vec![Change::wanted(prefix, hops)]);
            }
            Happening::Withdrawn(prefix) => {
                wanted.remove(&nth(prefix));
                self.reconciler.change(vec![Change::Withdrawn(nth(prefix))]);
            }
            Happening::Carrier(link, up) => {
                let event = self.memory.set_carrier(if link { 2 } else { 3 }, up);
                self.reconciler.observe(self.now, vec![event]);
            }
            Happening::StrangerTakes(prefix) => {
                let ours = self.kernel().contains_key(&nth(prefix));
                if let Some(event) = ours
                    .then(|| self.memory.take(nth(prefix), mark.metric))
                    .flatten()
                {
                    self.reconciler.observe(self.now, vec![event]);
                }
            }
            Happening::StrangerChanges(prefix) => {
                if self.kernel().contains_key(&nth(prefix)) {
                    let event = self.memory.put(
                        nth(prefix),
                        mark.protocol,
                        mark.metric,
                        &Target::Blackhole,
                    );
                    self.reconciler.observe(self.now, vec![event]);
                }
            }
            Happening::ForeignComes(prefix) => {
                let event = self
                    .memory
                    .put(nth(prefix), 4, mark.metric, &Target::Blackhole);
                self.reconciler.observe(self.now, vec![event]);
            }
            Happening::ForeignGoes(prefix) => {
                let place = (254, mark.metric, nth(prefix));
                let foreign = self
                    .memory
                    .routes
                    .get(&place)
                    .is_some_and(|route| route.protocol == 4);
                if let Some(event) = foreign
                    .then(|| self.memory.take(nth(prefix), mark.metric))
                    .flatten()
                {
                    self.reconciler.observe(self.now, vec![event]);
                }
            }
            Happening::Refused(prefix) => drop(self.memory.refused.insert(nth(prefix), 105)),
            Happening::Allowed => self.memory.refused.clear(),
            Happening::LostEvents(prefix) => {
                let _ =
                    self.memory
                        .put(nth(prefix), mark.protocol, mark.metric, &Target::Blackhole);
                self.reconciler.overrun(self.now);
            }
            Happening::Time(milliseconds) => self.wait(Duration::from_millis(milliseconds.into())),
            Happening::Complete => self.reconciler.set_complete(Completeness::Complete),
            Happening::Mark(other) => {
                let metric = if other { 2000 } else { 1024 };
                let mark = Mark {
                    metric,
                    ..Mark::default()
                };
                self.reconciler.apply(self.now, Config { mark, ..config() });
            }
            Happening::StrangerTakesObject(n) => {
                if let Some(id) = self.nth_object(n) {
                    let events = self.memory.take_object(id);
                    self.reconciler.observe(self.now, events);
                }
            }
            Happening::StrangerChangesObject(n) => self.change_object(n),
            Happening::ForeignObject(n) => self.add_foreign_object(n),
            Happening::ObjectsRefused(refused) => {
                self.memory.objects_refused = refused.then_some(105);
            }
        }
    }

    /// What the kernel should hold in the end, worked out the simple way.
    fn expected(&self, wanted: &BTreeMap<IpNetwork, Vec<NextHop>>) -> BTreeMap<IpNetwork, Target> {
        let metric = self.reconciler.config.mark.metric;
        let up = |interface: u32| self.memory.links[&interface].carrier;
        let mut expected = BTreeMap::new();
        for (prefix, hops) in wanted {
            let place = (254, metric, *prefix);
            if self
                .memory
                .routes
                .get(&place)
                .is_some_and(|route| route.protocol != 179)
            {
                continue;
            }
            let ways: SmallVec<[Hop; 1]> = hops
                .iter()
                .filter_map(|hop| {
                    let text = hop.address.to_string();
                    let interface = match text.as_str() {
                        "10.0.0.2" | "fd00:10::2" => 2,
                        "10.0.1.2" | "fd00:11::2" => 3,
                        _ => return None,
                    };
                    let gateway = Some(hop.address);
                    up(interface).then_some(Hop {
                        gateway,
                        interface,
                        weight: 1,
                        onlink: false,
                    })
                })
                .collect();
            if !ways.is_empty() {
                expected.insert(*prefix, Target::through(ways));
            }
        }
        expected
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_kernel_ends_up_as_wanted(
        happenings in proptest::collection::vec((happening(), any::<bool>()), 1..60),
        objects_from in prop_oneof![Just(1_u32), Just(2), Just(u32::MAX)],
    ) {
        let mut rig = Rig::new(Memory::node());
        rig.reconciler.objects.from = objects_from;
        let mut wanted = BTreeMap::new();
        for (happening, settle) in &happenings {
            rig.happen(happening, &mut wanted);
            if *settle {
                rig.settle();
            }
        }
        rig.memory.refused.clear();
        rig.memory.objects_refused = None;
        rig.reconciler.set_complete(Completeness::Complete);
        rig.settle();
        rig.wait(Duration::from_secs(120));
        prop_assert_eq!(rig.kernel(), rig.expected(&wanted));
        let foreign = rig.memory.routes.values().filter(|route| route.protocol == 179).count();
        prop_assert_eq!(foreign, rig.kernel().len(), "routes under an earlier mark are left");
        let counts = rig.reconciler.status();
        let (v4, v6) = (counts.ipv4, counts.ipv6);
        prop_assert_eq!(v4.desired + v6.desired, wanted.len() as u64);
        prop_assert_eq!(v4.installed + v6.installed, rig.kernel().len() as u64);
        prop_assert_eq!(v4.pending + v6.pending + v4.failed + v6.failed + v4.stale + v6.stale, 0);
        prop_assert!(rig.reconciler.is_in_sync());
        rig.objects_are_as_they_should_be();
    }
}
