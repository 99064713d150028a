//! The front door: what the daemon calls, turned into requests for the task that owns the routes.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnetwork::IpNetwork;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::{
    config::Config,
    driver::{Driver, clock},
    error::Error,
    event::{Event, Interface, LinkEvent},
    kernel::{Kernel, Marks, Signal},
    netlink::{self, Netlink},
    reconciler::Reconciler,
    route::{Change, Mark},
    status::{Explanation, Filter, RouteStatus, Status},
};

/// Whether the inputs are complete: only then are routes of an earlier run that nobody wants removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// Peers that are up still owe their End-of-RIB.
    Partial,
    /// End-of-RIB from every peer that is up, or the deferral time has passed.
    Complete,
}

/// The installer. Dropping it ends its task and removes nothing: the routes stay for the next run.
#[derive(Clone, Debug)]
pub struct Fib {
    requests: mpsc::Sender<Request>,
    queries: mpsc::Sender<Query>,
    events: broadcast::Sender<Event>,
    link_events: broadcast::Sender<LinkEvent>,
    links: watch::Receiver<Arc<Vec<Interface>>>,
    in_sync: watch::Receiver<bool>,
    settled: watch::Receiver<bool>,
    unresolved: watch::Receiver<BTreeSet<IpAddr>>,
}

/// What the front door asks of the task that owns the routes.
#[derive(Debug)]
pub(crate) enum Request {
    Update(Vec<Change>),
    Apply(Box<Config>, oneshot::Sender<Result<(), Error>>),
    Track(BTreeSet<IpAddr>),
    Complete(Completeness),
    Flush(oneshot::Sender<()>),
}

/// What it is asked: answered also while changes have to wait.
#[derive(Debug)]
pub(crate) enum Query {
    Status(oneshot::Sender<Status>),
    Routes(Filter, oneshot::Sender<Vec<RouteStatus>>),
    Explain(IpNetwork, oneshot::Sender<Explanation>),
}

impl Fib {
    /// Opens the kernel's sockets in the network namespace of the calling thread, reads links, addresses and
    /// routes, and takes note of the routes an earlier run left. Writes only the blackholes of `config`.
    ///
    /// # Errors
    /// [`Error::Permission`] without CAP_NET_ADMIN, [`Error::Config`] for a mark that is not allowed,
    /// [`Error::Netlink`] if the kernel does not answer.
    pub async fn start(config: Config) -> Result<Self, Error> {
        check(&config)?;
        let kernel = Netlink::open(config.mark)?;
        Self::start_on(kernel, config).await
    }

    pub(crate) async fn start_on(
        mut kernel: impl Kernel + Send + 'static,
        config: Config,
    ) -> Result<Self, Error> {
        kernel.read(Marks {
            current: config.mark,
            retiring: Vec::new(),
        });
        let mut early = Vec::new();
        let snapshot = loop {
            match kernel.next().await {
                Signal::Read(snapshot) => break snapshot?,
                Signal::Changed(events) => early.extend(events),
                Signal::Gone(reason) => return Err(reason),
                // Nothing else was asked for; lost events are made good by the reading.
                Signal::Done(_) | Signal::Found(..) | Signal::Overrun => {}
            }
        };
        let mut reconciler = Reconciler::new(clock(), config, *snapshot);
        reconciler.observe(clock(), early);

        let (requests, request_queue) = mpsc::channel(16);
        let (queries, query_queue) = mpsc::channel(16);
        let events = broadcast::Sender::new(4096);
        let link_events = broadcast::Sender::new(1024);
        let (links, links_now) = watch::channel(Arc::new(reconciler.interfaces()));
        let (sync, in_sync) = watch::channel(false);
        let (settle, settled) = watch::channel(false);
        let (lead_nowhere, unresolved) = watch::channel(BTreeSet::new());
        let driver = Driver {
            kernel,
            reconciler,
            requests: request_queue,
            queries: query_queue,
            events: events.clone(),
            link_events: link_events.clone(),
            links,
            in_sync: sync,
            settled: settle,
            unresolved: lead_nowhere,
            flushes: Vec::new(),
            explanations: HashMap::new(),
            tickets: 0,
        };
        tokio::spawn(driver.run());
        Ok(Self {
            requests,
            queries,
            events,
            link_events,
            links: links_now,
            in_sync,
            settled,
            unresolved,
        })
    }

    /// Carries out another configuration; no route that stays wanted leaves the kernel.
    ///
    /// # Errors
    /// [`Error::Config`] for a mark that is not allowed (the old configuration stays), [`Error::Stopped`].
    pub async fn apply(&self, config: Config) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Apply(Box::new(config), reply)).await?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// Takes a batch of changes (a thousand or so at a time is good). Waits while the kernel is behind; what
    /// waits inside is one entry a prefix, however often it changes.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn update(&self, batch: Vec<Change>) -> Result<(), Error> {
        self.send(Request::Update(batch)).await
    }

    /// From now on [`Fib::unresolved`] is about these next hops: all that a choice is made between, not only those that routes go
    /// through.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn track(&self, next_hops: BTreeSet<IpAddr>) -> Result<(), Error> {
        self.send(Request::Track(next_hops)).await
    }

    /// Follows which of the next hops of [`Fib::track`] lead nowhere, as links, addresses and the routes of others are now.
    pub fn unresolved(&self) -> watch::Receiver<BTreeSet<IpAddr>> {
        self.unresolved.clone()
    }

    /// Says whether the inputs are complete. Until they are, nothing found at start is removed.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn set_complete(&self, completeness: Completeness) -> Result<(), Error> {
        self.send(Request::Complete(completeness)).await
    }

    /// Returns once everything sent before is in the kernel, refused, or known to fail.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn flush(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Flush(reply)).await?;
        answer.await.map_err(|_| Error::Stopped)
    }

    /// Follows whether the kernel is in step with what was asked for.
    pub fn in_sync(&self) -> watch::Receiver<bool> {
        self.in_sync.clone()
    }

    /// Turns true, for good, when the inputs are complete and the kernel is in step with them for the first time.
    pub fn settled(&self) -> watch::Receiver<bool> {
        self.settled.clone()
    }

    /// Desired against kernel, in numbers.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn status(&self) -> Result<Status, Error> {
        self.ask(Query::Status).await
    }

    /// The prefixes that `filter` selects, sorted.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn routes(&self, filter: Filter) -> Result<Vec<RouteStatus>, Error> {
        self.ask(|reply| Query::Routes(filter, reply)).await
    }

    /// The whole way of a prefix (or address, as /32 or /128) through guard, resolution and kernel.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn explain(&self, query: IpNetwork) -> Result<Explanation, Error> {
        self.ask(|reply| Query::Explain(query, reply)).await
    }

    /// Follows what happens to routes. A receiver that lags loses the oldest events.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Follows interfaces and own addresses: what ends sessions at once.
    pub fn link_events(&self) -> broadcast::Receiver<LinkEvent> {
        self.link_events.subscribe()
    }

    /// The interfaces as they are now, sorted by index.
    pub fn links(&self) -> watch::Receiver<Arc<Vec<Interface>>> {
        self.links.clone()
    }

    async fn send(&self, request: Request) -> Result<(), Error> {
        self.requests
            .send(request)
            .await
            .map_err(|_| Error::Stopped)
    }

    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.queries
            .send(query(reply))
            .await
            .map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)
    }
}

/// Removes exactly the routes that bear `mark`, blackholes included, from the kernel; for a node whose daemon is
/// gone. Gives how many there were.
///
/// # Errors
/// [`Error::Permission`] without CAP_NET_ADMIN, [`Error::Netlink`] if the kernel does not answer.
pub async fn cleanup(mark: Mark) -> Result<usize, Error> {
    check(&Config {
        mark,
        ..Config::default()
    })?;
    netlink::cleanup(mark).await
}

/// Whether a configuration can be carried out.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    let Mark {
        protocol,
        table,
        metric,
    } = config.mark;
    let wrong = match config.mark {
        _ if protocol < 5 => format!(
            "kernel.protocol {protocol} belongs to the kernel or to `ip route`; use 5 to 255, best 179"
        ),
        _ if table == 0 || table == 255 => format!(
            "kernel.table {table} can't hold routes of ours; use 1 to 4294967295 except 255, best 254"
        ),
        _ if metric == 0 || metric >= Mark::BLACKHOLE_METRIC => {
            format!("kernel.metric {metric} is out of range; use 1 to 4294967293, best 1024")
        }
        _ if !(1..=255).contains(&config.max_paths) => {
            format!(
                "kernel.maxPaths {} is out of range; use 1 to 255",
                config.max_paths
            )
        }
        _ => return Ok(()),
    };
    Err(Error::Config(wrong))
}
