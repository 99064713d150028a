//! A kernel in memory: keeps the rules that matter, can be made to refuse, and lets others meddle.

mod objects;

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnetwork::IpNetwork;
use smallvec::smallvec;
use tokio::sync::Notify;

use crate::{
    kernel::{
        Batch, Done, Failure, FoundObject, Kernel, KernelEvent, Marks, Op, Owner, RouteEvent,
        RouteEventKind, Signal, Snapshot, Work,
    },
    network::{Address, Foreign, Link, Verdict},
    objects::ObjectId,
    plan::Step,
    reconciler::is_relevant,
    route::Mark,
    target::{Hop, Target},
};

/// Where a route is: one for each destination and metric of a table.
type Place = (u32, u32, IpNetwork);

/// What the kernel holds, and how it behaves.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) links: BTreeMap<u32, Link>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: BTreeMap<Place, Foreign>,
    /// Requests for these destinations fail with this error number.
    pub(crate) refused: BTreeMap<IpNetwork, i32>,
    pub(crate) objects: BTreeMap<ObjectId, FoundObject>,
    /// A kernel of before there were any.
    pub(crate) without_objects: bool,
    /// Requests for objects fail with this error number.
    pub(crate) objects_refused: Option<i32>,
    /// All operations on objects carried out, in order.
    pub(crate) object_log: Vec<(ObjectId, Step<()>)>,
    /// All operations carried out, in order.
    pub(crate) log: Vec<(IpNetwork, Step<()>)>,
    /// Who else is there: ends up in `RouteEvent::by`.
    pub(crate) stranger: u32,
}

impl Memory {
    /// A node with `eth0` (10.0.0.1/24, fd00:10::1/64) and `eth1` (10.0.1.1/24, fd00:11::1/64).
    pub(crate) fn node() -> Self {
        let mut memory = Self {
            stranger: 4711,
            ..Self::default()
        };
        for (index, name) in [(2, "eth0"), (3, "eth1")] {
            let link = Link {
                index,
                name: name.to_owned(),
                admin_up: true,
                carrier: true,
            };
            memory.links.insert(index, link);
        }
        for (index, own, subnet) in [
            (2, "10.0.0.1", "10.0.0.0/24"),
            (2, "fd00:10::1", "fd00:10::/64"),
            (3, "10.0.1.1", "10.0.1.0/24"),
            (3, "fd00:11::1", "fd00:11::/64"),
        ] {
            let (address, subnet): (IpAddr, IpNetwork) =
                (own.parse().unwrap(), subnet.parse().unwrap());
            let length = subnet.prefix();
            memory.addresses.push(Address {
                interface: index,
                address,
                length,
                peer: address,
            });
            let hop = Hop {
                gateway: None,
                interface: index,
                weight: 1,
                onlink: false,
            };
            let verdict = Verdict::Forward(smallvec![hop]);
            let connected = Foreign {
                protocol: 2,
                table: 254,
                metric: 0,
                tos: 0,
                object: None,
                verdict,
            };
            memory.routes.insert((254, 0, subnet), connected);
        }
        memory
    }

    /// Carries out operations as the kernel would.
    pub(crate) fn write(&mut self, batch: &Batch) -> Vec<(usize, Failure)> {
        let mark = batch.mark;
        let outcomes: Vec<Result<(), i32>> = match &batch.work {
            Work::Routes(ops) | Work::Retire(ops) => {
                ops.iter().map(|op| self.carry_out(mark, op)).collect()
            }
            Work::Objects(ops) => ops.iter().map(|op| self.write_object(mark, op)).collect(),
        };
        let outcomes = outcomes.into_iter().enumerate();
        outcomes
            .filter_map(|(position, outcome)| {
                let errno = outcome.err()?;
                Some((position, Failure { errno, text: None }))
            })
            .collect()
    }

    fn carry_out(&mut self, mark: Mark, op: &Op) -> Result<(), i32> {
        let prefix = op.key.prefix;
        if let Some(errno) = self.refused.get(&prefix) {
            return Err(*errno);
        }
        let place = (mark.table, op.key.layer.metric(mark), prefix);
        let there = self.routes.get(&place);
        if let Step::Create(target) | Step::Replace(target) = &op.step
            && let Target::Object(id) = **target
            && !self.is_group(id)
        {
            return Err(Failure::EINVAL);
        }
        match &op.step {
            Step::Create(_) if there.is_some() => return Err(Failure::EEXIST),
            Step::Create(target) | Step::Replace(target) => {
                let route = as_route(mark.protocol, place, target);
                self.routes.insert(place, route);
            }
            Step::Remove if there.is_some_and(|route| route.protocol == mark.protocol) => {
                self.routes.remove(&place);
            }
            Step::Remove => return Err(Failure::ESRCH),
        }
        self.log.push((prefix, op.step.clone().map(|_| ())));
        Ok(())
    }

    /// Everything, as one reading gives it.
    pub(crate) fn snapshot(&self, marks: &Marks) -> Snapshot {
        let mut snapshot = Snapshot {
            marks: marks.clone(),
            links: self.links.values().cloned().collect(),
            addresses: self.addresses.clone(),
            objects: (!self.without_objects).then(|| self.objects.values().cloned().collect()),
            ..Snapshot::default()
        };
        for (&(table, metric, prefix), route) in &self.routes {
            match marks.owner(route.protocol, table, metric) {
                Owner::Ours(layer) => {
                    let number = snapshot.targets.len() as u32;
                    snapshot.targets.push(route.target());
                    snapshot
                        .own
                        .push((crate::kernel::Key { layer, prefix }, number));
                }
                Owner::Retiring(mark, layer) => {
                    snapshot
                        .retiring
                        .push((mark, crate::kernel::Key { layer, prefix }));
                }
                Owner::Foreign if is_relevant(marks, route.protocol, table, metric) => {
                    snapshot.foreign.push((prefix, route.clone()));
                }
                Owner::Foreign => {}
            }
        }
        snapshot
    }

    /// What routes under `mark` do, by destination; those through objects do what these say.
    pub(crate) fn own(&self, mark: Mark) -> BTreeMap<IpNetwork, Target> {
        let marks = Marks {
            current: mark,
            retiring: Vec::new(),
        };
        let ours = |(place, route): (&Place, &Foreign)| {
            let owner = marks.owner(route.protocol, place.0, place.1);
            let route = Foreign {
                verdict: self.verdict(route),
                object: None,
                ..*route
            };
            matches!(owner, Owner::Ours(_)).then(|| (place.2, route.target()))
        };
        self.routes.iter().filter_map(ours).collect()
    }

    /// Someone else puts a route there (`ip route replace`).
    pub(crate) fn put(
        &mut self,
        prefix: IpNetwork,
        protocol: u8,
        metric: u32,
        target: &Target,
    ) -> KernelEvent {
        let place = (254, metric, prefix);
        let route = as_route(protocol, place, target);
        let before = self.routes.insert(place, route.clone());
        let kind = if before.is_some() {
            RouteEventKind::Replaced
        } else {
            RouteEventKind::Added
        };
        KernelEvent::Route(RouteEvent {
            prefix,
            route,
            kind,
            by: self.stranger,
        })
    }

    /// Someone else takes whatever is there.
    pub(crate) fn take(&mut self, prefix: IpNetwork, metric: u32) -> Option<KernelEvent> {
        let route = self.routes.remove(&(254, metric, prefix))?;
        let kind = RouteEventKind::Gone;
        Some(KernelEvent::Route(RouteEvent {
            prefix,
            route,
            kind,
            by: self.stranger,
        }))
    }

    /// The carrier of a link comes or goes.
    pub(crate) fn set_carrier(&mut self, index: u32, carrier: bool) -> KernelEvent {
        let link = self.links.get_mut(&index).unwrap();
        link.carrier = carrier;
        let event = KernelEvent::LinkChanged(link.clone());
        if !carrier {
            self.flush_objects(index);
        }
        event
    }

    /// A link is set down: its IPv4 routes go without a word.
    pub(crate) fn set_down(&mut self, index: u32) -> KernelEvent {
        let link = self.links.get_mut(&index).unwrap();
        link.admin_up = false;
        let event = KernelEvent::LinkChanged(link.clone());
        self.routes.retain(|place, route| match &mut route.verdict {
            Verdict::Forward(hops) if place.2.is_ipv4() && route.object.is_none() => {
                hops.retain(|hop| hop.interface != index);
                !hops.is_empty()
            }
            _ => true,
        });
        self.flush_objects(index);
        event
    }
}

fn as_route(protocol: u8, place: Place, target: &Target) -> Foreign {
    let verdict = match target {
        Target::Hops(hops) => Verdict::Forward(hops.clone()),
        Target::Object(_) => Verdict::Other("through an object"),
        Target::Blackhole | Target::Unknown => Verdict::Drop("blackhole"),
    };
    let object = match target {
        Target::Object(id) => Some(*id),
        _ => None,
    };
    Foreign {
        protocol,
        table: place.0,
        metric: place.1,
        tos: 0,
        object,
        verdict,
    }
}

/// [`Memory`] as a [`Kernel`], shared with a test.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedMemory {
    memory: Arc<Mutex<Memory>>,
    signals: Arc<(Mutex<VecDeque<Signal>>, Notify)>,
}

impl SharedMemory {
    pub(crate) fn new(memory: Memory) -> Self {
        Self {
            memory: Arc::new(Mutex::new(memory)),
            ..Self::default()
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tell(&self, signal: Signal) {
        self.signals
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(signal);
        self.signals.1.notify_one();
    }
}

impl Kernel for SharedMemory {
    fn submit(&mut self, batch: Batch) {
        let failures = self.lock().write(&batch);
        self.tell(Signal::Done(Done { batch, failures }));
    }

    fn read(&mut self, marks: Marks) {
        let snapshot = self.lock().snapshot(&marks);
        self.tell(Signal::Read(Ok(Box::new(snapshot))));
    }

    fn probe(&mut self, _: Vec<(u32, IpAddr)>) {}

    fn look_up(&mut self, ticket: u64, _: IpAddr) {
        self.tell(Signal::Found(ticket, Err("no way".to_owned())));
    }

    async fn next(&mut self) -> Signal {
        loop {
            let signal = self
                .signals
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            match signal {
                Some(signal) => return signal,
                None => self.signals.1.notified().await,
            }
        }
    }
}
