mod histories;
mod objects;

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use smallvec::smallvec;

use super::*;
use crate::{
    config::{AllowedRange, Guard},
    kernel::{Done, KernelEvent, Signal},
    memory::{Memory, SharedMemory},
    network::Failure as NeighbourFailure,
    plan::Step,
    route::Mark,
    status::{Filter, RouteState},
    target::Hop,
};

/// The reconciler and a kernel in memory, with a clock moved by hand.
struct Rig {
    memory: Memory,
    reconciler: Reconciler,
    now: Instant,
    told: Vec<Event>,
}

fn config() -> Config {
    let any = |cidr: &str, max_len| AllowedRange {
        cidr: net(cidr),
        min_len: 1,
        max_len,
    };
    let guard = Guard {
        allowed: vec![any("0.0.0.0/0", 32), any("::/0", 128)],
        ..Guard::default()
    };
    Config {
        guard,
        ..Config::default()
    }
}

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn want(prefix: &str, next_hops: &[&str]) -> Change {
    Change::wanted(
        net(prefix),
        next_hops
            .iter()
            .map(|hop| NextHop::new(hop.parse().unwrap())),
    )
}

fn via(hops: &[(&str, u32)]) -> Target {
    let hop = |(gateway, interface): &(&str, u32)| Hop {
        gateway: Some(gateway.parse().unwrap()),
        interface: *interface,
        weight: 1,
        onlink: false,
    };
    Target::through(hops.iter().map(hop).collect())
}

impl Rig {
    #[expect(
        clippy::disallowed_methods,
        reason = "where the clock starts does not matter"
    )]
    fn new(memory: Memory) -> Self {
        let now = Instant::now();
        let snapshot = memory.snapshot(&Marks {
            current: Mark::default(),
            retiring: Vec::new(),
        });
        let reconciler = Reconciler::new(now, config(), snapshot);
        let mut rig = Self {
            memory,
            reconciler,
            now,
            told: Vec::new(),
        };
        rig.settle();
        rig
    }

    fn change(&mut self, changes: &[Change]) {
        self.reconciler.change(changes.to_vec());
        self.settle();
    }

    fn observe(&mut self, event: KernelEvent) {
        self.reconciler.observe(self.now, vec![event]);
        self.settle();
    }

    /// Until there is nothing more to do now.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if let Some(marks) = self.reconciler.wants_reading(self.now) {
                let snapshot = self.memory.snapshot(&marks);
                self.reconciler.compare(self.now, snapshot);
            }
            let Some(batch) = self.reconciler.poll(self.now) else {
                self.told.extend(self.reconciler.take_events().0);
                if self.reconciler.has_more() || self.reconciler.read_due(self.now) {
                    continue;
                }
                return;
            };
            let failures = self.memory.write(&batch);
            self.reconciler.done(self.now, Done { batch, failures });
        }
        panic!("it never settles");
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.reconciler.next_timeout().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.settle();
            if self.reconciler.next_timeout() == Some(next) {
                break;
            }
        }
        self.now = end;
        self.settle();
    }

    fn kernel(&self) -> BTreeMap<IpNetwork, Target> {
        self.memory.own(self.reconciler.config.mark)
    }

    fn state(&self, prefix: &str) -> Option<RouteState> {
        let filter = Filter {
            among: Some(vec![net(prefix)]),
            ..Filter::default()
        };
        let routes = self.reconciler.routes(self.now, &filter);
        routes
            .into_iter()
            .find(|route| route.prefix == net(prefix))
            .map(|route| route.state)
    }
}

#[test]
fn a_failing_route_delays_nobody_and_is_retried_ever_later() {
    let mut rig = Rig::new(Memory::node());
    rig.memory.refused.insert(net("10.244.3.0/24"), 101);
    rig.change(&[
        want("10.244.2.0/24", &["10.0.0.2"]),
        want("10.244.3.0/24", &["10.0.0.2"]),
    ]);
    assert_eq!(rig.kernel().len(), 1);
    assert!(
        rig.reconciler.is_in_sync(),
        "known to fail counts as in step"
    );
    assert!(matches!(
        rig.state("10.244.3.0/24"),
        Some(RouteState::Failed {
            errno: 101,
            retry_in_ms: 100,
            ..
        })
    ));
    rig.wait(Duration::from_secs(60));
    let attempts = rig.reconciler.totals.failures;
    assert!(
        (8..14).contains(&attempts),
        "{attempts} attempts in a minute"
    );
    rig.memory.refused.clear();
    rig.wait(Duration::from_secs(31));
    assert_eq!(rig.kernel().len(), 2);
    assert_eq!(rig.state("10.244.3.0/24"), Some(RouteState::Installed));
    assert!(rig.reconciler.failures.is_empty() && rig.reconciler.retries.is_empty());
    let failed = rig
        .told
        .iter()
        .filter(|event| matches!(event, Event::Failed { .. }))
        .count();
    assert_eq!(failed, 1, "told once, not at each attempt");
}

#[test]
fn a_failed_replacement_leaves_what_was_there_and_knows_it() {
    let mut rig = Rig::new(Memory::node());
    rig.change(&[want("10.244.2.0/24", &["10.0.0.2"])]);
    rig.memory.refused.insert(net("10.244.2.0/24"), 12);
    rig.change(&[want("10.244.2.0/24", &["10.0.1.2"])]);
    assert_eq!(rig.kernel()[&net("10.244.2.0/24")], via(&[("10.0.0.2", 2)]));
    rig.memory.refused.clear();
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.kernel()[&net("10.244.2.0/24")], via(&[("10.0.1.2", 3)]));
}

#[test]
fn a_foreign_route_that_appeared_unseen_is_looked_at_and_left_alone() {
    let mut rig = Rig::new(Memory::node());
    // The event is lost on the way.
    let _ = rig
        .memory
        .put(net("10.244.2.0/24"), 4, 1024, &via(&[("10.0.0.9", 2)]));
    rig.change(&[want("10.244.2.0/24", &["10.0.0.2"])]);
    rig.wait(Duration::from_secs(1));
    assert!(matches!(
        rig.state("10.244.2.0/24"),
        Some(RouteState::Refused {
            kind: "foreign-route",
            ..
        })
    ));
    assert_eq!(
        rig.memory.routes[&(254, 1024, net("10.244.2.0/24"))].protocol,
        4
    );
    let gone = rig.memory.take(net("10.244.2.0/24"), 1024).unwrap();
    rig.observe(gone);
    assert_eq!(rig.kernel().len(), 1);
}

#[test]
fn lost_events_are_made_good_by_a_reading() {
    let mut rig = Rig::new(Memory::node());
    rig.change(&[
        want("10.244.2.0/24", &["10.0.0.2"]),
        want("10.244.3.0/24", &["10.0.1.2"]),
    ]);
    let before = rig.kernel();
    let _ = rig.memory.take(net("10.244.2.0/24"), 1024);
    let _ = rig
        .memory
        .put(net("10.244.3.0/24"), 179, 1024, &via(&[("10.0.1.9", 3)]));
    rig.reconciler.overrun(rig.now);
    rig.settle();
    assert_eq!(rig.kernel(), before);
    let totals = rig.reconciler.totals;
    assert_eq!(
        (
            totals.drifted,
            totals.healed,
            totals.overruns,
            totals.resyncs
        ),
        (2, 2, 1, 1)
    );
}

#[test]
fn events_that_come_during_a_reading_are_newer_than_it() {
    let mut rig = Rig::new(Memory::node());
    rig.change(&[want("10.244.2.0/24", &["10.0.0.2", "10.0.1.2"])]);
    rig.reconciler.overrun(rig.now);
    let marks = rig.reconciler.wants_reading(rig.now).unwrap();
    let old = rig.memory.snapshot(&marks);
    let down = rig.memory.set_carrier(3, false);
    rig.reconciler.observe(rig.now, vec![down]);
    rig.reconciler.compare(rig.now, old);
    rig.settle();
    assert_eq!(rig.kernel()[&net("10.244.2.0/24")], via(&[("10.0.0.2", 2)]));
}

#[test]
fn routes_the_kernel_dropped_silently_with_a_link_come_back_with_it() {
    let mut rig = Rig::new(Memory::node());
    rig.change(&[
        want("10.244.2.0/24", &["10.0.0.2"]),
        want("10.244.3.0/24", &["10.0.0.2", "10.0.1.2"]),
    ]);
    let before = rig.kernel();
    let down = rig.memory.set_down(2);
    let up = rig.memory.links.get_mut(&2).unwrap();
    up.admin_up = true;
    let up = KernelEvent::LinkChanged(up.clone());
    let hop = Hop {
        gateway: None,
        interface: 2,
        weight: 1,
        onlink: false,
    };
    let connected = rig
        .memory
        .put(net("10.0.0.0/24"), 2, 0, &Target::Hops(smallvec![hop]));
    // All at once, as after a quick flap.
    rig.reconciler.observe(rig.now, vec![down, up, connected]);
    rig.settle();
    assert_eq!(rig.kernel(), before);
}

#[test]
fn a_dead_link_moves_all_its_plain_prefixes_in_one_turn() {
    let mut rig = Rig::new(Memory::node());
    rig.reconciler.objects.from = u32::MAX;
    let prefix = |n: u32| format!("10.{}.{}.0/24", 100 + n / 256, n % 256);
    let changes: Vec<Change> = (0..5000)
        .map(|n| want(&prefix(n), &["10.0.0.2", "10.0.1.2"]))
        .collect();
    rig.change(&changes);
    rig.memory.log.clear();
    let down = rig.memory.set_carrier(3, false);
    rig.observe(down);
    assert!(
        rig.kernel()
            .values()
            .all(|target| *target == via(&[("10.0.0.2", 2)]))
    );
    assert!(
        rig.memory
            .log
            .iter()
            .all(|(_, step)| *step == Step::Replace(())),
        "a route was absent"
    );
    assert_eq!(rig.memory.log.len(), 5000);
}

#[test]
fn tracked_next_hops_are_judged_by_links_addresses_and_policy() {
    let mut rig = Rig::new(Memory::node());
    let next_hops = ["10.0.0.2", "10.0.1.2", "192.0.2.1"].map(|hop| hop.parse().unwrap());
    let nowhere = |rig: &mut Rig| -> Option<Vec<String>> {
        let told = rig.reconciler.take_unresolved()?;
        Some(told.iter().map(ToString::to_string).collect())
    };
    rig.reconciler.track(next_hops.into());
    assert_eq!(nowhere(&mut rig).unwrap(), ["192.0.2.1"]);
    assert_eq!(nowhere(&mut rig), None, "nothing has changed");
    let down = rig.memory.set_carrier(3, false);
    rig.observe(down);
    assert_eq!(nowhere(&mut rig).unwrap(), ["10.0.1.2", "192.0.2.1"]);
    let up = rig.memory.set_carrier(3, true);
    rig.observe(up);
    assert_eq!(nowhere(&mut rig).unwrap(), ["192.0.2.1"]);
}

#[test]
fn a_neighbour_that_does_not_answer_is_left_out_while_there_is_another() {
    let mut rig = Rig::new(Memory::node());
    rig.change(&[
        want("10.244.2.0/24", &["10.0.0.2", "10.0.1.2"]),
        want("10.244.3.0/24", &["10.0.0.2"]),
    ]);
    let neighbour = |failure| KernelEvent::Neighbour {
        interface: 2,
        address: "10.0.0.2".parse().unwrap(),
        failure,
    };
    rig.observe(neighbour(NeighbourFailure::Failed));
    assert_eq!(rig.kernel()[&net("10.244.2.0/24")], via(&[("10.0.1.2", 3)]));
    assert_eq!(rig.kernel()[&net("10.244.3.0/24")], via(&[("10.0.0.2", 2)]));
    rig.observe(neighbour(NeighbourFailure::Answers));
    assert_eq!(
        rig.kernel()[&net("10.244.2.0/24")],
        via(&[("10.0.0.2", 2), ("10.0.1.2", 3)])
    );
}

#[test]
fn only_failed_next_hops_are_asked_for_again_and_only_while_they_are_wanted() {
    let mut rig = Rig::new(Memory::node());
    rig.change(&[want("10.244.2.0/24", &["10.0.0.2", "10.0.1.2"])]);
    let failed = |address: &str| KernelEvent::Neighbour {
        interface: 2,
        address: address.parse().unwrap(),
        failure: NeighbourFailure::Failed,
    };
    rig.observe(failed("10.0.0.77"));
    rig.observe(failed("10.0.0.2"));
    assert_eq!(rig.reconciler.wants_probing(rig.now), None);
    rig.now += Duration::from_secs(1);
    assert_eq!(
        rig.reconciler.wants_probing(rig.now),
        Some(vec![(2, "10.0.0.2".parse().unwrap())])
    );
    assert_eq!(rig.reconciler.wants_probing(rig.now), None);
    rig.change(&[want("10.244.2.0/24", &["10.0.1.2"])]);
    rig.now += Duration::from_secs(1);
    assert_eq!(rig.reconciler.wants_probing(rig.now), None);
    assert_eq!(rig.reconciler.next_timeout(), None);
}

#[test]
fn removals_are_not_in_ascending_order() {
    let mut rig = Rig::new(Memory::node());
    let prefix = |n: u32| format!("10.{}.{}.0/24", 100 + n / 256, n % 256);
    rig.change(
        &(0..2000)
            .map(|n| want(&prefix(n), &["10.0.0.2"]))
            .collect::<Vec<_>>(),
    );
    rig.memory.log.clear();
    rig.change(
        &(0..2000)
            .map(|n| Change::Withdrawn(net(&prefix(n))))
            .collect::<Vec<_>>(),
    );
    let removed: Vec<IpNetwork> = rig.memory.log.iter().map(|(prefix, _)| *prefix).collect();
    assert_eq!(removed.len(), 2000);
    let ascents = removed.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((600..1400).contains(&ascents), "{ascents}");
}

#[test]
fn what_is_added_comes_before_what_is_removed() {
    let mut rig = Rig::new(Memory::node());
    rig.change(&[want("10.244.0.0/16", &["10.0.0.2"])]);
    rig.memory.log.clear();
    rig.change(&[
        Change::Withdrawn(net("10.244.0.0/16")),
        want("10.244.2.0/24", &["10.0.0.2"]),
        want("10.244.3.0/24", &["10.0.0.2"]),
    ]);
    assert_eq!(
        rig.memory.log.last(),
        Some(&(net("10.244.0.0/16"), Step::Remove))
    );
}

#[test]
fn changes_for_one_prefix_coalesce() {
    let mut rig = Rig::new(Memory::node());
    rig.change(&[
        want("10.244.2.0/24", &["10.0.0.2"]),
        want("10.244.2.0/24", &["10.0.1.2"]),
        Change::Withdrawn(net("10.244.2.0/24")),
        want("10.244.2.0/24", &["10.0.0.3"]),
        want("10.244.3.0/24", &["10.0.0.3"]),
        Change::Withdrawn(net("10.244.3.0/24")),
    ]);
    assert_eq!(rig.memory.log, [(net("10.244.2.0/24"), Step::Create(()))]);
    assert_eq!(rig.reconciler.wanted.iter().count(), 1);
}

#[test]
fn host_bits_and_mapped_next_hops_do_not_matter() {
    let mut rig = Rig::new(Memory::node());
    rig.change(&[want("10.244.2.77/24", &["::ffff:10.0.0.2"])]);
    assert_eq!(rig.kernel()[&net("10.244.2.0/24")], via(&[("10.0.0.2", 2)]));
    rig.change(&[Change::Withdrawn(net("10.244.2.1/24"))]);
    assert!(rig.kernel().is_empty());
}

#[test]
fn a_changed_mark_moves_everything_and_then_takes_the_old_away() {
    let mut rig = Rig::new(Memory::node());
    rig.change(
        &(0..3000)
            .map(|n| {
                want(
                    &format!("10.{}.{}.0/24", 100 + n / 256, n % 256),
                    &["10.0.0.2"],
                )
            })
            .collect::<Vec<_>>(),
    );
    rig.reconciler.set_complete(Completeness::Complete);
    let before = rig.kernel();
    for mark in [
        Mark {
            metric: 2000,
            ..Mark::default()
        },
        Mark {
            metric: 2000,
            protocol: 200,
            ..Mark::default()
        },
        Mark {
            table: 1000,
            ..Mark::default()
        },
        Mark::default(),
    ] {
        let others: Vec<_> = rig.memory.log.drain(..).collect();
        drop(others);
        rig.reconciler.apply(rig.now, Config { mark, ..config() });
        rig.settle();
        rig.wait(Duration::from_secs(1));
        assert_eq!(rig.kernel(), before);
        assert_eq!(
            rig.memory.routes.len(),
            before.len() + 4,
            "something of the old mark is left"
        );
        let first_removal = rig
            .memory
            .log
            .iter()
            .position(|(_, step)| *step == Step::Remove)
            .unwrap_or(3000);
        assert!(first_removal >= 3000, "removed before all was added");
        assert!(rig.reconciler.is_in_sync());
    }
}

#[test]
fn a_route_under_the_earlier_mark_that_nobody_knew_of_goes_too() {
    let mut rig = Rig::new(Memory::node());
    let _ = rig
        .memory
        .put(net("10.244.2.0/24"), 179, 1024, &Target::Blackhole);
    rig.reconciler.overrun(rig.now);
    rig.reconciler.apply(
        rig.now,
        Config {
            mark: Mark {
                metric: 2000,
                ..Mark::default()
            },
            ..config()
        },
    );
    rig.reconciler.set_complete(Completeness::Complete);
    rig.settle();
    assert_eq!(rig.memory.own(Mark::default()).len(), 0);
}

#[test]
fn an_interned_set_goes_with_its_last_prefix() {
    let mut rig = Rig::new(Memory::node());
    rig.change(&[
        want("10.244.2.0/24", &["10.0.0.2"]),
        want("10.244.3.0/24", &["10.0.0.2"]),
    ]);
    rig.change(&[
        Change::Withdrawn(net("10.244.2.0/24")),
        Change::Withdrawn(net("10.244.3.0/24")),
    ]);
    assert_eq!(rig.reconciler.wanted.iter().count(), 0);
    // Unknown and blackhole stay.
    assert_eq!(rig.reconciler.targets.iter().count(), 2);
    assert_eq!(rig.reconciler.routes.iter().count(), 0);
}

#[test]
fn an_explanation_tells_guard_resolution_and_kernel() {
    let mut rig = Rig::new(Memory::node());
    rig.change(&[
        want("10.244.2.0/24", &["10.0.0.2", "192.0.2.1"]),
        want("0.0.0.0/0", &["10.0.0.2"]),
    ]);
    let explained = rig.reconciler.explain(rig.now, net("10.244.2.9/32"));
    assert_eq!(explained.route.unwrap().prefix, net("10.244.2.0/24"));
    assert_eq!(explained.refusal, None);
    assert_eq!(
        explained.next_hops[0].by.as_deref(),
        Some("10.0.0.0/24 dev eth0 proto kernel")
    );
    assert!(
        explained.next_hops[1]
            .failure
            .as_ref()
            .unwrap()
            .contains("no connected subnet")
    );
    assert_eq!(
        explained.kernel_routes,
        ["10.244.2.0/24 via 10.0.0.2 dev eth0 proto 179 metric 1024"]
    );
    let explained = rig.reconciler.explain(rig.now, net("198.51.100.1/32"));
    assert_eq!(explained.refusal.unwrap().kind, "default-route");
}

#[tokio::test]
async fn the_front_door_answers_while_changes_pour_in() {
    let kernel = SharedMemory::new(Memory::node());
    let fib = crate::Fib::start_on(kernel.clone(), config())
        .await
        .unwrap();
    let mut in_sync = fib.in_sync();
    for n in 0..200 {
        let prefix = |m: u32| format!("10.{}.{}.0/24", 100 + n / 2, (n % 2) * 128 + m);
        fib.update((0..100).map(|m| want(&prefix(m), &["10.0.0.2"])).collect())
            .await
            .unwrap();
    }
    fib.flush().await.unwrap();
    assert_eq!(kernel.lock().own(Mark::default()).len(), 20_000);
    assert!(*in_sync.borrow_and_update());
    let event = kernel.lock().take(net("10.100.3.0/24"), 1024).unwrap();
    kernel.tell(Signal::Changed(vec![event]));
    let explained = fib.explain(net("10.100.3.1/32")).await.unwrap();
    assert_eq!(
        explained.lookup,
        crate::Lookup::Unreachable {
            address: "10.100.3.1".parse().unwrap(),
            reason: "no way".to_owned()
        }
    );
    fib.flush().await.unwrap();
    assert_eq!(fib.status().await.unwrap().totals.healed, 1);
    drop(fib);
    assert_eq!(
        kernel.lock().own(Mark::default()).len(),
        20_000,
        "stopping removes nothing"
    );
}
