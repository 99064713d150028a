//! A kernel in memory: keeps the rules that matter, can be made to refuse, and lets others meddle.

#[cfg(test)]
mod meddling;
mod objects;

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use smallvec::smallvec;

#[cfg(test)]
pub(crate) use meddling::SharedMemory;

use crate::{
    kernel::{Batch, Failure, FoundObject, Marks, Op, Owner, Snapshot, Work},
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
    /// An interface with an own address, and the connected route that comes with it.
    pub(crate) fn attach(&mut self, index: u32, name: &str, address: IpAddr, subnet: IpNetwork) {
        self.links.entry(index).or_insert_with(|| Link {
            index,
            name: name.to_owned(),
            admin_up: true,
            carrier: true,
        });
        self.addresses.push(Address {
            interface: index,
            address,
            length: subnet.prefix(),
            peer: address,
        });
        let hop = Hop {
            gateway: None,
            interface: index,
            weight: 1,
            onlink: false,
        };
        let connected = Foreign {
            protocol: 2,
            table: 254,
            metric: 0,
            tos: 0,
            object: None,
            verdict: Verdict::Forward(smallvec![hop]),
        };
        self.routes.insert((254, 0, subnet), connected);
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
