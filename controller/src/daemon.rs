//! The daemon: cluster → desired → speaker and installer; start, reload, drain, stop.

use std::{
    collections::BTreeMap,
    os::unix::net::UnixDatagram,
    sync::{Arc, RwLock},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use bgp::speaker::{Direction, RouteQuery, Speaker, Stop};
use discovery::Discovery;
use fib::{Fib, LinkEvent};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{broadcast, mpsc, oneshot, watch},
    time::Instant,
};
use tracing::info;

use crate::{
    audit,
    cli::run::Options,
    cluster::{Addresses, Cluster},
    control::{self, socket},
    desired::{Desired, Duty, Facts, InForce, desired, found},
    gateways::default_gateways,
    journal::{Journal, Kind},
    kubernetes::publish::Obstacles,
    node::{Now, Order, Running},
    problem::{Problem, Reason},
    state::State,
    web,
};

mod crossing;
mod links;
mod pumps;
mod service;
mod source;

use crossing::{Crossing, Step};
use service::Service;
use source::{First, Reading, Source};

/// How long goodbye may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why the daemon does not run.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration cannot be read: what is wrong, a line each.
    Configuration(Vec<String>),
    /// Something else.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Runs until it is told to stop.
///
/// # Errors
/// When it cannot start; what happens later is a problem in its status.
pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let mut source = Source::open(options).await?;
    // Files are read before anything else is touched: where they are wrong, nothing is.
    let ready = match &source {
        Source::Files(_) => Some(source.first(&options.node).await?),
        Source::Api(_) => None,
    };
    let (_socket, listener) = socket::Socket::bind(&options.socket)?;
    let first = match ready {
        Some(first) => first,
        None => {
            let waiting = source.waiting();
            tokio::select! {
                first = source.first(&options.node) => first?,
                () = control::wait(&listener, waiting) => return Ok(()),
                stop = told_to_stop() => return Ok(stop?),
            }
        }
    };
    let (orders_in, orders) = mpsc::channel(16);
    let mut daemon = Daemon::start(options, source.place(), first, orders_in).await?;
    let server = tokio::spawn(control::serve(listener, daemon.running.clone()));
    let web = tokio::spawn(web::serve(options.metrics_address, daemon.running.clone()));
    source.taken_over(&daemon.cluster);
    let publisher = source.publish(&daemon.running, daemon.facts.restarted);
    let result = daemon.run(orders, &mut source).await;
    daemon.stop().await;
    source.close(&daemon.cluster);
    server.abort();
    web.abort();
    if let Some(publisher) = publisher {
        publisher.abort();
    }
    result
}

/// Returns when the process is asked to end.
async fn told_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

struct Daemon<'a> {
    options: &'a Options,
    running: Arc<Running>,
    cluster: Cluster,
    facts: Facts,
    state: State,
    /// The sole right to this mark's routes.
    claim: Option<(fib::Mark, UnixDatagram)>,
    service: Service,
    /// Who looks for peers on links.
    discovery: Discovery,
    /// Who waits for the end of a drain.
    waiting: Vec<Reply>,
    /// While one topology gives way to another.
    crossing: Option<Crossing>,
    /// What could not be read at the last reload.
    unread: Vec<Problem>,
}

type Reply = oneshot::Sender<Result<String, String>>;

impl<'a> Daemon<'a> {
    async fn start(
        options: &'a Options,
        configuration: String,
        First { cluster, problems }: First,
        orders: mpsc::Sender<Order>,
    ) -> Result<Self, Failure> {
        let journal = Arc::new(Journal::default());
        let state = State::read(&options.state_dir);
        let service = Service::again(state.duty());
        let discovery = Discovery::start(found::links(&cluster, &options.node)).await;
        let mut facts = Facts {
            default_gateways: default_gateways(&cluster),
            subnets: Vec::new(),
            links: Some((**discovery.links().borrow()).clone()),
            restarted: false,
            duty: service.duty(),
            deleted: false,
            topology: state.topology(),
            leaving: None,
        };
        let first = desired(&cluster, &options.node, &facts);
        let mut claim = None;
        let fib = match first.fib {
            None => None,
            Some(config) => {
                let mark = config.mark;
                claim = Some((mark, socket::own_routes(mark)?));
                let fib = Fib::start(config).await.context(
                    "the kernel's routes cannot be managed (a speaker that installs nothing: kernel.install: false)",
                )?;
                Some(fib)
            }
        };
        // Where nothing is installed there is no forwarding state that could have been preserved.
        facts.restarted = state.ran_before() && fib.is_some();
        facts.subnets = links::subnets(fib.as_ref(), cluster.addresses(&options.node));
        let desired = desired(&cluster, &options.node, &facts);
        facts.topology = Some(desired.topology.clone());
        let mut speaker = Speaker::start(desired.speaker.clone());
        pumps::start(&mut speaker, fib.as_ref(), &journal);
        let running = Arc::new(Running {
            name: options.node.clone(),
            configuration,
            started: SystemTime::now(),
            journal: journal.clone(),
            orders,
            speaker: tokio::sync::RwLock::new(Some(speaker)),
            fib,
            now: RwLock::new(Now {
                desired: Arc::new(desired),
                addresses: addresses(&cluster),
                registration: cluster.registration(&options.node),
                loaded: SystemTime::now(),
                duty: facts.duty,
                audited: Arc::default(),
                problems: Vec::new(),
            }),
            web: web::State::default(),
            obstacles: Obstacles::default(),
        });
        tokio::spawn(audit::lasting::watch(running.clone()));
        let mut daemon = Self {
            options,
            running,
            cluster,
            facts,
            state,
            claim,
            service,
            discovery,
            waiting: Vec::new(),
            crossing: None,
            unread: problems,
        };
        let how = if daemon.facts.restarted {
            "again in this boot"
        } else {
            "for the first time in this boot"
        };
        daemon.journal(
            Kind::Daemon,
            format!("routelet {} started, {how}", env!("CARGO_PKG_VERSION")),
        );
        daemon.settle(&[]);
        Ok(daemon)
    }

    async fn run(
        &mut self,
        mut orders: mpsc::Receiver<Order>,
        source: &mut Source,
    ) -> Result<(), Failure> {
        let mut stop = std::pin::pin!(told_to_stop());
        let mut hangup = signal(SignalKind::hangup())?;
        let mut links = self.running.fib.as_ref().map(Fib::link_events);
        let mut found = self.discovery.links();
        found.mark_changed();
        let rib = self
            .running
            .speaker
            .read()
            .await
            .as_ref()
            .map(Speaker::complete);
        let mut rib = std::pin::pin!(ended(rib));
        let mut routed = std::pin::pin!(settled(self.running.fib.as_ref().map(Fib::settled)));
        let mut waiting = true;
        loop {
            tokio::select! {
                () = &mut rib => return Err(Failure::Other(anyhow::anyhow!(
                    "the task that owns the routes has ended, its log says why: start routelet again (the kernel keeps its routes)"
                ))),
                stopped = &mut stop => return Ok(stopped?),
                _ = hangup.recv() => drop(self.reload(source, "SIGHUP").await),
                reading = source.next() => drop(self.take_over(source, reading).await),
                event = next(&mut links) => self.link(event).await,
                links = links::next(&mut found) => self.found(links).await,
                Some(order) = orders.recv() => self.order(order, source).await,
                () = over(self.service.until()) => self.drained().await,
                () = Crossing::due(self.crossing.as_mut()) => self.cross().await,
                () = &mut routed, if waiting => {
                    waiting = false;
                    self.settle(&self.problems_before());
                }
            }
        }
    }

    fn journal(&self, kind: Kind, text: impl Into<String>) {
        self.running.journal.write(kind, None, text);
    }

    /// Reads again what can be read.
    async fn reload(&mut self, source: &mut Source, why: &'static str) -> Result<String, String> {
        match source.again(why) {
            Some(reading) => self.take_over(source, reading).await,
            None => Ok("nothing to read: the API server tells of every change by itself".into()),
        }
    }

    /// Goes over to what the source says. What cannot be read changes nothing. Where our Node is gone, we take our leave as it.
    #[expect(
        clippy::disallowed_methods,
        reason = "the daemon's loop reads the clock for the drain's deadline"
    )]
    async fn take_over(&mut self, source: &Source, reading: Reading) -> Result<String, String> {
        let before = self.problems_before();
        let unread = std::mem::replace(&mut self.unread, reading.problems);
        let Some(mut cluster) = reading.cluster else {
            self.settle(&before);
            let lines: Vec<&str> = self
                .unread
                .iter()
                .map(|problem| problem.text.as_str())
                .collect();
            return Err(lines.join("\n"));
        };
        cluster.keep(&self.cluster);
        self.facts.default_gateways = default_gateways(&cluster);
        self.facts.subnets = links::subnets(
            self.running.fib.as_ref(),
            cluster.addresses(&self.options.node),
        );
        let there = !cluster.keep_node(&self.cluster, &self.options.node);
        let wait = self.running.now().desired.drain_wait;
        let turned = self.service.has_node(there, Instant::now() + wait);
        if cluster == self.cluster && !turned {
            if unread == self.unread {
                return Ok("nothing has changed".into());
            }
            self.settle(&before);
            return Ok("what runs is what is wanted".into());
        }
        self.cluster = cluster;
        source.taken_over(&self.cluster);
        self.look_on_links();
        let why = match (turned, there) {
            (true, false) => format!(
                "our Node was deleted: GRACEFUL_SHUTDOWN announced, sessions end in {} s",
                wait.as_secs()
            ),
            (true, true) => format!("our Node is there again ({})", reading.why),
            (false, _) => format!("configuration taken over ({})", reading.why),
        };
        self.apply(&why).await;
        Ok("configuration taken over".into())
    }

    /// Has speaker and installer go over to what is desired now.
    async fn apply(&mut self, why: &str) {
        let before = self.problems_before();
        self.facts.duty = self.service.duty();
        self.facts.deleted = self.service.is_deleted();
        let old_conflist = self
            .running
            .now()
            .desired
            .cni
            .as_ref()
            .map(|cni| cni.path.clone());
        let mut desired = self.desired();
        self.apply_to_kernel(&mut desired).await;
        if let Some(speaker) = &*self.running.speaker.read().await {
            speaker.apply(desired.speaker.clone()).await;
        }
        // Where it has moved, the old one would stand in the new one's light; it is ours.
        if let (Some(old), Some(new)) = (old_conflist, &desired.cni)
            && old != new.path
            && std::fs::remove_file(&old).is_ok()
        {
            self.journal(Kind::Config, format!("{} removed", old.display()));
        }
        let addresses = addresses(&self.cluster);
        let registration = self.cluster.registration(&self.options.node);
        self.running.update(|now| {
            now.desired = Arc::new(desired);
            now.addresses = addresses;
            now.registration = registration;
            now.loaded = SystemTime::now();
            now.duty = self.facts.duty;
        });
        self.journal(Kind::Config, why);
        self.settle(&before);
    }

    /// What is desired now. A new topology is entered before the old one is left.
    fn desired(&mut self) -> Desired {
        let next = desired(&self.cluster, &self.options.node, &self.facts);
        if self.facts.topology.as_ref() == Some(&next.topology) {
            return next;
        }
        let between = |topology: &InForce| *topology != InForce::External;
        let entered = between(&next.topology);
        let last = self.facts.topology.replace(next.topology.clone());
        self.facts.leaving = last.filter(|last| entered && between(last));
        if self.facts.leaving.is_none() {
            self.crossing = None;
            return next;
        }
        self.crossing = Some(Crossing::default());
        desired(&self.cluster, &self.options.node, &self.facts)
    }

    /// Looks whether the old topology can be left.
    #[expect(
        clippy::disallowed_methods,
        reason = "the daemon's loop reads the clock for how long nothing has been missing"
    )]
    async fn cross(&mut self) {
        let staying = Facts {
            leaving: None,
            ..self.facts.clone()
        };
        let after = desired(&self.cluster, &self.options.node, &staying);
        let query = RouteQuery {
            direction: Some(Direction::Received),
            ..RouteQuery::default()
        };
        let routes = match &*self.running.speaker.read().await {
            Some(speaker) => speaker.routes(query).await,
            None => return,
        };
        let now = self.running.now().desired;
        let Some(crossing) = &mut self.crossing else {
            return;
        };
        match crossing.look(
            Instant::now(),
            crossing::missing(&routes, &now.speaker, &after),
        ) {
            Step::Wait => {}
            Step::Say => self.settle(&self.problems_before()),
            Step::Leave => {
                self.crossing = None;
                self.facts.leaving = None;
                self.apply("the old topology is left: every route comes by the new one")
                    .await;
            }
        }
    }

    async fn apply_to_kernel(&mut self, desired: &mut Desired) {
        let about = "kernel";
        match (&self.running.fib, &desired.fib) {
            (None, None) => {}
            (Some(fib), Some(config)) => {
                let claimed = self.claim.as_ref().is_some_and(|(mark, _)| *mark == config.mark);
                if !claimed {
                    match socket::own_routes(config.mark) {
                        Ok(claim) => self.claim = Some((config.mark, claim)),
                        Err(error) => {
                            desired.problems.push(Problem::error(about, format!("{error:#}; the mark in use stays")).because(Reason::KernelProblem));
                            return;
                        }
                    }
                }
                if let Err(error) = fib.apply(config.clone()).await {
                    desired.problems.push(Problem::error(about, error.to_string()).because(Reason::KernelProblem));
                }
            }
            _ => desired.problems.push(Problem::error(
                about,
                "kernel.install was changed: that takes effect when routelet is restarted (routes stay meanwhile)",
            ).because(Reason::KernelProblem)),
        }
    }

    /// Everything that is known to be wrong and not asked for anew each time.
    fn problems_before(&self) -> Vec<Problem> {
        let now = self.running.now();
        now.desired
            .problems
            .iter()
            .chain(&now.problems)
            .cloned()
            .collect()
    }

    /// The first synchronisation is done.
    fn routed(&self) -> bool {
        let fib = self.running.fib.as_ref();
        fib.is_none_or(|fib| *fib.settled().borrow())
    }

    /// Writes what belongs on disk and tells of problems that were not there `before`.
    fn settle(&mut self, before: &[Problem]) {
        let mut problems = self.unread.clone();
        problems.extend(self.crossing.as_ref().and_then(Crossing::problem));
        let desired = self.running.now().desired;
        // The first one makes the kubelet place pods here: not before they are reached.
        let expected = desired.cni.as_ref();
        if let Some(cni) = expected.filter(|cni| cni.path.exists() || self.routed()) {
            match cni.write() {
                Ok(true) => self.journal(Kind::Config, format!("{} written", cni.path.display())),
                Ok(false) => {}
                Err(error) => problems.push(Problem::warning(
                    "cni",
                    format!("{} cannot be written ({error}): new pods get no network from routelet; make the directory, or set cni.writeConflist: false", cni.path.display()),
                ).because(Reason::ConflistNotWritten)),
            }
        }
        if let Err(error) = self
            .state
            .save(self.service.ordered(), self.facts.topology.clone())
        {
            problems.push(Problem::warning(
                "state",
                format!("{} cannot be written ({error}): after a restart peers are not told that our routes are still there; give a --state-dir that can", self.options.state_dir.display()),
            ));
        }
        self.running.update(|now| now.problems = problems);
        for problem in self.problems_before() {
            if !before.contains(&problem) {
                self.journal(Kind::Problem, problem.to_string());
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the daemon's loop reads the clock for the drain's deadline"
    )]
    async fn order(&mut self, order: Order, source: &mut Source) {
        // Whoever asked may have gone away meanwhile.
        match order {
            Order::Reload(reply) => {
                let done = self.reload(source, "routelet reload").await;
                let _ = reply.send(done);
            }
            Order::Ping(reply) => {
                let _ = reply.send(());
            }
            Order::Drain(reply) => {
                let wait = self.running.now().desired.drain_wait;
                let before = self.service.ordered();
                self.service.drain(Instant::now() + wait);
                if self.service.ordered() == Duty::Drained {
                    // Known to the state, where it was the Node's deletion that drained it.
                    self.settle(&self.problems_before());
                    let _ = reply.send(Ok("drained already".into()));
                    return;
                }
                self.waiting.push(reply);
                if before == Duty::Draining {
                    return;
                }
                self.apply(&format!(
                    "draining: GRACEFUL_SHUTDOWN announced, sessions end in {} s",
                    wait.as_secs()
                ))
                .await;
            }
            Order::Undrain(reply) => {
                for waiting in self.waiting.drain(..) {
                    let _ = waiting.send(Err("undrained meanwhile".into()));
                }
                if self.service.duty() == Duty::InService {
                    let _ = reply.send(Ok("in service already".into()));
                    return;
                }
                self.service.undrain();
                let done = if self.service.is_deleted() {
                    "in service again once the cluster has a Node for it again"
                } else {
                    "back in service"
                };
                self.apply(done).await;
                let _ = reply.send(Ok(done.into()));
            }
        }
    }

    /// The wait after `drain` is over.
    async fn drained(&mut self) {
        self.service.waited();
        let until = if self.service.is_deleted() {
            "the cluster has a Node for it again"
        } else {
            "routelet undrain"
        };
        self.apply(&format!(
            "drained: all sessions end and are held down until {until}"
        ))
        .await;
        for reply in self.waiting.drain(..) {
            let _ = reply.send(Ok(
                "drained: all sessions are held down until routelet undrain".into(),
            ));
        }
    }

    /// Says goodbye as the occasion demands. The kernel keeps our routes either way.
    async fn stop(&mut self) {
        let how = match self.facts.duty {
            Duty::InService => Stop::Restart,
            Duty::Draining | Duty::Drained => Stop::Shutdown {
                message: self.facts.farewell().into(),
            },
        };
        self.journal(
            Kind::Daemon,
            match how {
                Stop::Restart => "stopping for a restart: peers and kernel keep our routes",
                Stop::Shutdown { .. } => "stopping for good",
            },
        );
        let farewell = async {
            if let Some(speaker) = self.running.speaker.write().await.take() {
                speaker.stop(how).await;
            }
        };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            info!("not every peer took leave in time");
        }
    }
}

fn addresses(cluster: &Cluster) -> Arc<BTreeMap<String, Addresses>> {
    let all = cluster
        .nodes
        .keys()
        .map(|node| (node.clone(), cluster.addresses(node)));
    Arc::new(all.collect())
}

async fn next(
    links: &mut Option<broadcast::Receiver<LinkEvent>>,
) -> Result<LinkEvent, broadcast::error::RecvError> {
    let Some(receiver) = links else {
        return std::future::pending().await;
    };
    let event = receiver.recv().await;
    if matches!(event, Err(broadcast::error::RecvError::Closed)) {
        *links = None;
    }
    event
}

/// Returns when the Rib's task has ended, which it does only by a fault while the daemon runs.
async fn ended(rib: Option<watch::Receiver<bool>>) {
    let Some(mut rib) = rib else {
        return std::future::pending().await;
    };
    while rib.changed().await.is_ok() {}
}

/// Returns when the first synchronisation is done.
async fn settled(settled: Option<watch::Receiver<bool>>) {
    let Some(mut settled) = settled else {
        return std::future::pending().await;
    };
    if settled.wait_for(|settled| *settled).await.is_err() {
        // The installer has ended, which is told elsewhere.
        std::future::pending().await
    }
}

/// Returns when the drain's wait is over.
async fn over(drain: Option<Instant>) {
    match drain {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
