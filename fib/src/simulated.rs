//! The installer on a kernel in memory, moved by hand: no socket, no task, no clock. What a simulation of a whole network
//! installs into.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use ipnetwork::IpNetwork;

use crate::{
    config::Config,
    fib::Completeness,
    kernel::{Done, Marks},
    memory::Memory,
    plan::Step,
    reconciler::Reconciler,
    route::{Change, Mark},
    target::Target,
};

/// A kernel without next-hop objects. It outlives the installers that write it, as a kernel outlives daemons.
#[derive(Debug, Default)]
pub struct Kernel {
    memory: Memory,
}

/// What became of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It has a route now, and had none.
    Created,
    /// It leads elsewhere.
    Replaced,
    /// It has none any more.
    Removed,
}

impl Kernel {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            memory: Memory {
                without_objects: true,
                ..Memory::default()
            },
        }
    }

    /// Gives the one interface an address and the subnet that comes with it.
    pub fn attach(&mut self, address: IpAddr, subnet: IpNetwork) {
        self.memory.attach(2, "eth0", address, subnet);
    }

    /// The gateways of every route that bears `mark`; none where it leads nowhere.
    #[must_use]
    pub fn routes(&self, mark: Mark) -> BTreeMap<IpNetwork, BTreeSet<IpAddr>> {
        let gateways = |target| match target {
            Target::Hops(hops) => hops.iter().filter_map(|hop| hop.gateway).collect(),
            Target::Object(_) | Target::Blackhole | Target::Unknown => BTreeSet::new(),
        };
        let own = self.memory.own(mark).into_iter();
        own.map(|(prefix, target)| (prefix, gateways(target)))
            .collect()
    }

    /// What was written since the last call, in order.
    pub fn take_written(&mut self) -> Vec<(IpNetwork, Written)> {
        let log = std::mem::take(&mut self.memory.log);
        log.into_iter()
            .map(|(prefix, step)| {
                let written = match step {
                    Step::Create(()) => Written::Created,
                    Step::Replace(()) => Written::Replaced,
                    Step::Remove => Written::Removed,
                };
                (prefix, written)
            })
            .collect()
    }
}

/// An installer.
#[derive(Debug)]
pub struct Installer {
    reconciler: Reconciler,
}

impl Installer {
    /// Starts from what the kernel holds: routes of ours are kept until the inputs are complete.
    #[must_use]
    pub fn start(now: Instant, config: Config, kernel: &Kernel) -> Self {
        let marks = Marks {
            current: config.mark,
            retiring: Vec::new(),
        };
        let snapshot = kernel.memory.snapshot(&marks);
        Self {
            reconciler: Reconciler::new(now, config, snapshot),
        }
    }

    /// Takes changes from a speaker.
    pub fn update(&mut self, changes: Vec<Change>) {
        self.reconciler.change(changes);
    }

    /// Says whether the inputs are complete.
    pub fn set_complete(&mut self, completeness: Completeness) {
        self.reconciler.set_complete(completeness);
    }

    /// When to call [`Installer::poll`] again even if nothing happens.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.reconciler.next_timeout()
    }

    /// Writes all that there is to write now.
    pub fn poll(&mut self, now: Instant, kernel: &mut Kernel) {
        loop {
            if let Some(marks) = self.reconciler.wants_reading(now) {
                let snapshot = kernel.memory.snapshot(&marks);
                self.reconciler.compare(now, snapshot);
            }
            if let Some(batch) = self.reconciler.poll(now) {
                let failures = kernel.memory.write(&batch);
                self.reconciler.done(now, Done { batch, failures });
            } else if !self.reconciler.has_more() {
                break;
            }
        }
        drop(self.reconciler.take_events());
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "where the clock starts does not matter"
)]
mod tests {
    use super::*;
    use crate::{
        config::{AllowedRange, Guard},
        route::NextHop,
    };

    #[test]
    fn routes_outlive_the_installer_until_another_one_is_complete() {
        let now = Instant::now();
        let mut kernel = Kernel::new();
        let subnet = "172.16.0.0/16".parse().unwrap();
        kernel.attach("172.16.0.1".parse().unwrap(), subnet);
        let config = Config {
            guard: Guard {
                allowed: vec![AllowedRange::within("10.0.0.0/8".parse().unwrap())],
                ..Guard::default()
            },
            ..Config::default()
        };
        let (prefix, gateway) = ("10.2.0.0/24".parse().unwrap(), "172.16.0.2");
        let gateway = gateway.parse::<IpAddr>().unwrap();

        let mut first = Installer::start(now, config.clone(), &kernel);
        first.update(vec![Change::wanted(prefix, [NextHop::new(gateway)])]);
        first.poll(now, &mut kernel);
        let there = BTreeMap::from([(prefix, BTreeSet::from([gateway]))]);
        assert_eq!(kernel.routes(config.mark), there);
        assert_eq!(kernel.take_written(), [(prefix, Written::Created)]);
        drop(first);

        let mut second = Installer::start(now, config.clone(), &kernel);
        second.poll(now, &mut kernel);
        assert_eq!(kernel.routes(config.mark), there);
        second.set_complete(Completeness::Complete);
        second.poll(now, &mut kernel);
        assert_eq!(kernel.routes(config.mark), BTreeMap::new());
        assert_eq!(kernel.take_written(), [(prefix, Written::Removed)]);
    }
}
