//! The daemon: cluster → desired → speaker and installer; start, reload, drain, stop.

use std::{
    collections::BTreeMap,
    os::unix::net::UnixDatagram,
    sync::{Arc, RwLock},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use bgp::speaker::{Speaker, Stop};
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
    cluster::{Addresses, Cluster, files},
    control::{self, socket},
    desired::{DRAINED, Desired, Duty, Facts, desired},
    gateways::default_gateways,
    journal::{Journal, Kind},
    node::{Now, Order, Running},
    problem::Problem,
    state::State,
    watch::Changes,
    web,
};

mod pumps;

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
    let cluster = first_load(options)?;
    let (_socket, listener) = socket::Socket::bind(&options.socket)?;
    let (orders_in, orders) = mpsc::channel(16);
    let mut daemon = Daemon::start(options, cluster, orders_in).await?;
    let server = tokio::spawn(control::serve(listener, daemon.running.clone()));
    let web = tokio::spawn(web::serve(options.metrics_address, daemon.running.clone()));
    let result = daemon.run(orders).await;
    daemon.stop().await;
    server.abort();
    web.abort();
    result
}

/// At the start a configuration that cannot be read is fatal: there is nothing yet that could go on.
fn first_load(options: &Options) -> Result<Cluster, Failure> {
    let cluster = files::load(&options.config).map_err(|errors| {
        Failure::Configuration(errors.iter().map(ToString::to_string).collect())
    })?;
    let broken = |kind: &str, name: &str| {
        cluster
            .left_out
            .contains(&(kind.to_owned(), name.to_owned()))
    };
    // Others may be left out; without these the node would be something else than was meant.
    if broken("BGPConfiguration", "default") || broken("Node", &options.node) {
        return Err(Failure::Configuration(
            cluster.problems.iter().map(ToString::to_string).collect(),
        ));
    }
    Ok(cluster)
}

struct Daemon<'a> {
    options: &'a Options,
    running: Arc<Running>,
    cluster: Cluster,
    facts: Facts,
    state: State,
    /// The sole right to this mark's routes.
    claim: Option<(fib::Mark, UnixDatagram)>,
    /// While draining: until when, and who waits for it.
    drain: Option<(Instant, Vec<Reply>)>,
    /// What could not be read at the last reload.
    unread: Vec<Problem>,
}

type Reply = oneshot::Sender<Result<String, String>>;

impl<'a> Daemon<'a> {
    async fn start(
        options: &'a Options,
        cluster: Cluster,
        orders: mpsc::Sender<Order>,
    ) -> Result<Self, Failure> {
        let journal = Arc::new(Journal::default());
        let state = State::read(&options.state_dir);
        let mut facts = Facts {
            default_gateways: default_gateways(&cluster),
            restarted: false,
            duty: match state.duty() {
                Duty::InService => Duty::InService,
                // Killed in the middle of a drain: what the operator wanted is what it is.
                Duty::Draining | Duty::Drained => Duty::Drained,
            },
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
        let desired = desired(&cluster, &options.node, &facts);
        let mut speaker = Speaker::start(desired.speaker.clone());
        pumps::start(&mut speaker, fib.as_ref(), &journal);
        let running = Arc::new(Running {
            name: options.node.clone(),
            configuration: options.config.clone(),
            started: SystemTime::now(),
            journal: journal.clone(),
            orders,
            speaker: tokio::sync::RwLock::new(Some(speaker)),
            fib,
            now: RwLock::new(Now {
                desired: Arc::new(desired),
                addresses: addresses(&cluster),
                loaded: SystemTime::now(),
                duty: facts.duty,
                astray: Arc::default(),
                problems: Vec::new(),
            }),
            web: web::State::default(),
        });
        tokio::spawn(audit::lasting::watch(running.clone()));
        let mut daemon = Self {
            options,
            running,
            cluster,
            facts,
            state,
            claim,
            drain: None,
            unread: Vec::new(),
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

    async fn run(&mut self, mut orders: mpsc::Receiver<Order>) -> Result<(), Failure> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut links = self.running.fib.as_ref().map(Fib::link_events);
        let mut changes = self.watch();
        let rib = self
            .running
            .speaker
            .read()
            .await
            .as_ref()
            .map(Speaker::complete);
        let mut rib = std::pin::pin!(ended(rib));
        loop {
            tokio::select! {
                () = &mut rib => return Err(Failure::Other(anyhow::anyhow!(
                    "the task that owns the routes has ended, its log says why: start routelet again (the kernel keeps its routes)"
                ))),
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hangup.recv() => drop(self.reload("SIGHUP").await),
                () = settled(&mut changes) => {
                    // A link may lead elsewhere now.
                    changes = self.watch();
                    drop(self.reload("files changed").await);
                }
                event = next(&mut links) => self.link(event).await,
                Some(order) = orders.recv() => self.order(order).await,
                () = over(self.drain.as_ref()) => self.drained().await,
            }
        }
    }

    fn journal(&self, kind: Kind, text: impl Into<String>) {
        self.running.journal.write(kind, None, text);
    }

    fn watch(&mut self) -> Option<Changes> {
        match Changes::of(&self.options.config) {
            Ok(changes) => Some(changes),
            Err(error) => {
                self.journal(
                    Kind::Problem,
                    format!("the configuration files cannot be followed ({error}): tell routelet of a change by SIGHUP or routelet reload"),
                );
                None
            }
        }
    }

    /// Reads the files again. What cannot be read changes nothing.
    async fn reload(&mut self, why: &str) -> Result<String, String> {
        match files::load(&self.options.config) {
            Err(errors) => {
                self.unread = errors
                    .iter()
                    .map(|error| {
                        Problem::error("configuration", format!("{error}; what ran before goes on"))
                    })
                    .collect();
                self.settle(&self.problems_before());
                let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
                Err(lines.join("\n"))
            }
            Ok(mut cluster) => {
                cluster.keep(&self.cluster);
                let mended = !std::mem::take(&mut self.unread).is_empty();
                self.facts.default_gateways = default_gateways(&cluster);
                if cluster == self.cluster && !mended {
                    return Ok("nothing has changed".into());
                }
                self.cluster = cluster;
                self.apply(&format!("configuration taken over ({why})"))
                    .await;
                Ok("configuration taken over".into())
            }
        }
    }

    /// Has speaker and installer go over to what is desired now.
    async fn apply(&mut self, why: &str) {
        let before = self.problems_before();
        let old_conflist = self
            .running
            .now()
            .desired
            .cni
            .as_ref()
            .map(|cni| cni.path.clone());
        let mut desired = desired(&self.cluster, &self.options.node, &self.facts);
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
        self.running.update(|now| {
            now.desired = Arc::new(desired);
            now.addresses = addresses;
            now.loaded = SystemTime::now();
            now.duty = self.facts.duty;
        });
        self.journal(Kind::Config, why);
        self.settle(&before);
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
                            desired.problems.push(Problem::error(about, format!("{error:#}; the mark in use stays")));
                            return;
                        }
                    }
                }
                if let Err(error) = fib.apply(config.clone()).await {
                    desired.problems.push(Problem::error(about, error.to_string()));
                }
            }
            _ => desired.problems.push(Problem::error(
                about,
                "kernel.install was changed: that takes effect when routelet is restarted (routes stay meanwhile)",
            )),
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

    /// Writes what belongs on disk and tells of problems that were not there `before`.
    fn settle(&mut self, before: &[Problem]) {
        let mut problems = self.unread.clone();
        let desired = self.running.now().desired;
        if let Some(cni) = &desired.cni {
            match cni.write() {
                Ok(true) => self.journal(Kind::Config, format!("{} written", cni.path.display())),
                Ok(false) => {}
                Err(error) => problems.push(Problem::warning(
                    "cni",
                    format!("{} cannot be written ({error}): new pods get no network from routelet; make the directory, or set cni.writeConflist: false", cni.path.display()),
                )),
            }
        }
        if let Err(error) = self.state.save(self.facts.duty) {
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
    async fn order(&mut self, order: Order) {
        // Whoever asked may have gone away meanwhile.
        match order {
            Order::Reload(reply) => {
                let done = self.reload("routelet reload").await;
                let _ = reply.send(done);
            }
            Order::Ping(reply) => {
                let _ = reply.send(());
            }
            Order::Drain(reply) if self.facts.duty == Duty::Drained => {
                let _ = reply.send(Ok("drained already".into()));
            }
            Order::Drain(reply) => {
                if let Some((_, waiting)) = &mut self.drain {
                    waiting.push(reply);
                    return;
                }
                let wait = self.running.now().desired.drain_wait;
                self.drain = Some((Instant::now() + wait, vec![reply]));
                self.facts.duty = Duty::Draining;
                self.apply(&format!(
                    "draining: GRACEFUL_SHUTDOWN announced, sessions end in {} s",
                    wait.as_secs()
                ))
                .await;
            }
            Order::Undrain(reply) => {
                for waiting in self
                    .drain
                    .take()
                    .into_iter()
                    .flat_map(|(_, waiting)| waiting)
                {
                    let _ = waiting.send(Err("undrained meanwhile".into()));
                }
                if self.facts.duty == Duty::InService {
                    let _ = reply.send(Ok("in service already".into()));
                    return;
                }
                self.facts.duty = Duty::InService;
                self.apply("back in service").await;
                let _ = reply.send(Ok("back in service".into()));
            }
        }
    }

    /// The wait after `drain` is over.
    async fn drained(&mut self) {
        let waiting = self
            .drain
            .take()
            .map(|(_, waiting)| waiting)
            .unwrap_or_default();
        self.facts.duty = Duty::Drained;
        self.apply("drained: all sessions end and are held down until routelet undrain")
            .await;
        for reply in waiting {
            let _ = reply.send(Ok(
                "drained: all sessions are held down until routelet undrain".into(),
            ));
        }
    }

    /// An interface or an address of ours changed.
    async fn link(&mut self, event: Result<LinkEvent, broadcast::error::RecvError>) {
        let event = match event {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => {
                self.journal(Kind::Problem, "the installer has ended; its log says why");
                return;
            }
        };
        let (text, lost) = pumps::link(&event);
        self.journal(Kind::Link, text);
        if let (Some((interface, addresses)), Some(speaker)) =
            (lost, &*self.running.speaker.read().await)
        {
            speaker.lost(&interface, &addresses);
        }
        let gateways = default_gateways(&self.cluster);
        if gateways != self.facts.default_gateways {
            self.facts.default_gateways = gateways;
            self.apply("the default route has changed").await;
        }
    }

    /// Says goodbye as the occasion demands. The kernel keeps our routes either way.
    async fn stop(&mut self) {
        let how = match self.facts.duty {
            Duty::InService => Stop::Restart,
            Duty::Draining | Duty::Drained => Stop::Shutdown {
                message: DRAINED.into(),
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

async fn settled(changes: &mut Option<Changes>) {
    match changes {
        Some(changes) => changes.settled().await,
        None => std::future::pending().await,
    }
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

/// Returns when the drain's wait is over.
async fn over(drain: Option<&(Instant, Vec<Reply>)>) {
    match drain {
        Some((until, _)) => tokio::time::sleep_until(*until).await,
        None => std::future::pending().await,
    }
}
