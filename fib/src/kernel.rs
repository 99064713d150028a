//! The kernel as the reconciler sees it: batches of operations in, signals out.

use std::{future::Future, net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use smallvec::SmallVec;

use crate::{
    error::Error,
    network::{Address, Failure as NeighbourFailure, Foreign, Link},
    objects::{Object, ObjectId},
    plan::Step,
    route::Mark,
    target::Target,
};

/// A kernel: the real one over netlink, or one in memory that can be made to fail.
pub(crate) trait Kernel {
    /// Takes a batch, to be carried out after all earlier ones; answered by one [`Signal::Done`].
    fn submit(&mut self, batch: Batch);

    /// Asks for everything that is, routes under `marks` told apart from foreign ones; answered by one
    /// [`Signal::Read`] after the batches submitted before.
    fn read(&mut self, marks: Marks);

    /// Has these neighbours asked for (again); answered by a [`Signal::Changed`] with those that answer by now,
    /// if any.
    fn probe(&mut self, neighbours: Vec<(u32, IpAddr)>);

    /// Asks what would become of a packet to `address`; answered by one [`Signal::Found`].
    fn look_up(&mut self, ticket: u64, address: IpAddr);

    /// The next thing to know. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Signal> + Send;
}

/// What to write under one mark.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) mark: Mark,
    pub(crate) work: Work,
}

/// What is in a batch.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Desired routes under the current mark.
    Routes(Vec<Op>),
    /// The removal of routes under an earlier mark.
    Retire(Vec<Op>),
    /// Next-hop objects.
    Objects(Vec<ObjectOp>),
}

/// One route to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) key: Key,
    pub(crate) step: Step<Arc<Target>>,
}

/// One next-hop object to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectOp {
    pub(crate) id: ObjectId,
    pub(crate) step: Step<Object>,
}

/// A next-hop object in our range as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundObject {
    pub(crate) id: ObjectId,
    pub(crate) protocol: u8,
    pub(crate) object: Object,
}

/// One place for a route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) layer: Layer,
    /// Without host bits.
    pub(crate) prefix: IpNetwork,
}

/// The two kinds of routes we make; each has a metric of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Layer {
    Learned,
    Blackhole,
}

impl Layer {
    pub(crate) fn metric(self, mark: Mark) -> u32 {
        match self {
            Self::Learned => mark.metric,
            Self::Blackhole => Mark::BLACKHOLE_METRIC,
        }
    }
}

/// The mark we write under, and those of routes on their way out after a change of mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) current: Mark,
    pub(crate) retiring: Vec<Mark>,
}

/// Whose a kernel route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Ours(Layer),
    /// Under this earlier mark.
    Retiring(Mark, Layer),
    Foreign,
}

impl Marks {
    pub(crate) fn owner(&self, protocol: u8, table: u32, metric: u32) -> Owner {
        let bears = |mark: &Mark| {
            let layer = if metric == mark.metric {
                Layer::Learned
            } else if metric == Mark::BLACKHOLE_METRIC {
                Layer::Blackhole
            } else {
                return None;
            };
            (protocol == mark.protocol && table == mark.table).then_some(layer)
        };
        if let Some(layer) = bears(&self.current) {
            return Owner::Ours(layer);
        }
        let earlier = self
            .retiring
            .iter()
            .find_map(|mark| Some((*mark, bears(mark)?)));
        earlier.map_or(Owner::Foreign, |(mark, layer)| Owner::Retiring(mark, layer))
    }

    /// The layer whose place in the kernel (table and metric) this is.
    pub(crate) fn slot(&self, table: u32, metric: u32) -> Option<Layer> {
        [Layer::Learned, Layer::Blackhole]
            .into_iter()
            .find(|layer| table == self.current.table && metric == layer.metric(self.current))
    }

    /// Protocols that are, or were, BGP's: no next hop is resolved through their routes.
    pub(crate) fn protocols(&self) -> SmallVec<[u8; 4]> {
        const RTPROT_BGP: u8 = 186;
        let retiring = self.retiring.iter().map(|mark| mark.protocol);
        [RTPROT_BGP, self.current.protocol]
            .into_iter()
            .chain(retiring)
            .collect()
    }
}

/// What the kernel tells.
#[derive(Debug)]
pub(crate) enum Signal {
    Done(Done),
    Read(Result<Box<Snapshot>, Error>),
    Changed(Vec<KernelEvent>),
    /// Events were lost: only reading everything helps.
    Overrun,
    Found(u64, Result<Found, String>),
    /// It will not answer any more.
    Gone(Error),
}

/// A batch was carried out.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) batch: Batch,
    /// By position in the batch, ascending; what is not here went well.
    pub(crate) failures: Vec<(usize, Failure)>,
}

/// Why the kernel refused an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Positive.
    pub(crate) errno: i32,
    /// The kernel's own explanation (`NLMSGERR_ATTR_MSG`), if it gave one.
    pub(crate) text: Option<String>,
}

impl Failure {
    pub(crate) const EPERM: i32 = 1;
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const ESRCH: i32 = 3;
    pub(crate) const EEXIST: i32 = 17;
    pub(crate) const EINVAL: i32 = 22;
    pub(crate) const EOPNOTSUPP: i32 = 95;
}

/// Everything that is, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// What the routes were told apart by.
    pub(crate) marks: Marks,
    pub(crate) links: Vec<Link>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) foreign: Vec<(IpNetwork, Foreign)>,
    /// Own routes; the number points into `targets`.
    pub(crate) own: Vec<(Key, u32)>,
    pub(crate) targets: Vec<Target>,
    /// Routes under earlier marks.
    pub(crate) retiring: Vec<(Mark, Key)>,
    /// The next-hop objects in our range, whosever; `None`: this kernel has none.
    pub(crate) objects: Option<Vec<FoundObject>>,
}

/// One change in the kernel that we did not make.
#[derive(Clone, Debug)]
pub(crate) enum KernelEvent {
    LinkChanged(Link),
    LinkGone(u32),
    AddressAdded(Address),
    AddressGone(Address),
    Route(RouteEvent),
    Object(ObjectEvent),
    Neighbour {
        interface: u32,
        address: IpAddr,
        failure: NeighbourFailure,
    },
}

/// A route appeared, changed or went.
#[derive(Clone, Debug)]
pub(crate) struct RouteEvent {
    pub(crate) prefix: IpNetwork,
    pub(crate) route: Foreign,
    pub(crate) kind: RouteEventKind,
    /// The netlink port of who did it; 0 is the kernel.
    pub(crate) by: u32,
}

/// A next-hop object appeared, changed or went.
#[derive(Clone, Debug)]
pub(crate) struct ObjectEvent {
    pub(crate) id: ObjectId,
    /// `None`: it is gone.
    pub(crate) found: Option<FoundObject>,
    /// As in [`RouteEvent`].
    pub(crate) by: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteEventKind {
    Added,
    /// Took the place of a route with the same table and metric.
    Replaced,
    Gone,
}

/// The answer to "which way would a packet go".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) route: Foreign,
    /// The destination of the route that matched.
    pub(crate) prefix: Option<IpNetwork>,
}
