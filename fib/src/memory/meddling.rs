//! What tests do to the kernel in memory behind our back, and the kernel as the driver sees it.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnetwork::IpNetwork;
use tokio::sync::Notify;

use super::{Memory, as_route};
use crate::{
    kernel::{
        Batch, Done, FoundObject, Kernel, KernelEvent, Marks, RouteEvent, RouteEventKind, Signal,
    },
    network::Verdict,
    objects::{Object, ObjectId},
    target::Target,
};

impl Memory {
    /// A node with `eth0` (10.0.0.1/24, fd00:10::1/64) and `eth1` (10.0.1.1/24, fd00:11::1/64).
    pub(crate) fn node() -> Self {
        let mut memory = Self {
            stranger: 4711,
            ..Self::default()
        };
        for (index, name, own, subnet) in [
            (2, "eth0", "10.0.0.1", "10.0.0.0/24"),
            (2, "eth0", "fd00:10::1", "fd00:10::/64"),
            (3, "eth1", "10.0.1.1", "10.0.1.0/24"),
            (3, "eth1", "fd00:11::1", "fd00:11::/64"),
        ] {
            memory.attach(index, name, own.parse().unwrap(), subnet.parse().unwrap());
        }
        memory
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

    /// A link can pass nothing any more: the objects on it go, and nobody is told.
    pub(super) fn flush_objects(&mut self, interface: u32) {
        let through = |found: &&FoundObject| matches!(&found.object, Object::Member(way) if way.interface == interface);
        let members: Vec<ObjectId> = self
            .objects
            .values()
            .filter(through)
            .map(|found| found.id)
            .collect();
        for member in members {
            self.remove_object(member);
        }
    }

    /// Someone else removes an object (`ip nexthop del`).
    pub(crate) fn take_object(&mut self, id: ObjectId) -> Vec<KernelEvent> {
        self.remove_object(id)
    }

    /// Someone else writes an object (`ip nexthop replace`); a group keeps the protocol it was made with.
    pub(crate) fn put_object(&mut self, id: ObjectId, protocol: u8, object: Object) -> KernelEvent {
        let there = self.objects.get(&id).filter(|_| self.is_group(id));
        let protocol = there.map_or(protocol, |found| found.protocol);
        let found = FoundObject {
            id,
            protocol,
            object,
        };
        self.objects.insert(id, found);
        self.object_event(id)
    }

    /// The objects that bear a protocol number.
    pub(crate) fn own_objects(&self, protocol: u8) -> Vec<(ObjectId, Object)> {
        let own = self
            .objects
            .values()
            .filter(|found| found.protocol == protocol);
        own.map(|found| (found.id, found.object.clone())).collect()
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
