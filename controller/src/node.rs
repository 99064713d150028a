//! The running node: what the daemon's loop writes and the control socket reads.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use bgp::{
    prefix::Prefix,
    speaker::{Direction, NoRefresh, Refresh, RouteQuery, Speaker},
    status::{Fate, PeerStatus, SpeakerStatus},
};
use bytes::Bytes;
use fib::{Fib, Lookup};
use tokio::sync::{mpsc, oneshot};

use crate::{
    audit::{self, Audit, Evidence, lasting::Audited},
    cluster::{Addresses, Registration},
    cni::Conflist,
    desired::{Desired, Duty},
    journal::{Journal, Kind},
    kubernetes::publish::{Obstacles, sight::Sight},
    metrics::Scrape,
    problem::{Problem, Reason},
    report::{
        self, Dump, ExplainReport, FibReport, Owner, PeerCounts, RefreshReport, RoutesReport,
        StatusReport,
    },
    web,
};

/// What an operator orders over the control socket.
#[derive(Debug)]
pub(crate) enum Order {
    /// GRACEFUL_SHUTDOWN, wait, Cease. The answer comes when the sessions are down.
    Drain(oneshot::Sender<Result<String, String>>),
    /// Back in service.
    Undrain(oneshot::Sender<Result<String, String>>),
    /// Read the configuration again.
    Reload(oneshot::Sender<Result<String, String>>),
    /// Say that the loop turns.
    Ping(oneshot::Sender<()>),
}

/// The running node.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: String,
    /// Where it comes from.
    pub(crate) configuration: String,
    pub(crate) started: SystemTime,
    pub(crate) journal: Arc<Journal>,
    pub(crate) orders: mpsc::Sender<Order>,
    /// `None` once it is stopped. Held while it is asked: it answers in microseconds.
    pub(crate) speaker: tokio::sync::RwLock<Option<Speaker>>,
    pub(crate) fib: Option<Fib>,
    pub(crate) now: RwLock<Now>,
    pub(crate) web: web::State,
    /// What keeps the API server from being told.
    pub(crate) obstacles: Obstacles,
}

/// What changes with each reload.
#[derive(Clone, Debug)]
pub(crate) struct Now {
    pub(crate) desired: Arc<Desired>,
    pub(crate) addresses: Arc<BTreeMap<String, Addresses>>,
    /// What the cluster has of this node.
    pub(crate) registration: Registration,
    pub(crate) loaded: SystemTime,
    pub(crate) duty: Duty,
    /// How its routes were when they were last looked at.
    pub(crate) audited: Arc<Audited>,
    /// What the daemon itself ran into: a file that cannot be read, a conflist that cannot be written.
    pub(crate) problems: Vec<Problem>,
}

/// How fresh an audit has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// As things are now.
    Now,
    /// As they were within the last ten seconds: with thousands of nodes a look takes milliseconds.
    Last,
}

/// The daemon is on its way out and answers no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopping;

impl Running {
    /// What changes with each reload, as it is now.
    pub(crate) fn now(&self) -> Now {
        self.now
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes it.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.write().unwrap_or_else(PoisonError::into_inner));
    }

    async fn speaker(&self) -> Result<SpeakerStatus, Stopping> {
        match &*self.speaker.read().await {
            Some(speaker) => speaker.brief().await.ok_or(Stopping),
            None => Err(Stopping),
        }
    }

    async fn kernel(&self) -> Option<fib::Status> {
        match &self.fib {
            // It says why it ended in its log; the status without it shows that it is gone.
            Some(fib) => fib.status().await.ok(),
            None => None,
        }
    }

    /// How the routes of the pod network compare with what the cluster says should be.
    pub(crate) async fn audit(&self) -> Result<Audit, Stopping> {
        let desired = self.now().desired;
        let audit = self.audit_of(&desired, None).await?;
        if audit.missing == 0 {
            return Ok(audit);
        }
        // Only what is missing is explained by sessions, and to ask a thousand peers costs more than all the rest.
        let peers = self.speaker().await?.peers;
        self.audit_of(&desired, Some(&peers)).await
    }

    async fn audit_of(
        &self,
        desired: &Desired,
        peers: Option<&BTreeMap<String, PeerStatus>>,
    ) -> Result<Audit, Stopping> {
        let reach = match &*self.speaker.read().await {
            Some(speaker) if audit::expects(desired, *speaker.complete().borrow()) => {
                speaker.reach(audit::ranges(desired)).await
            }
            Some(_) => return Ok(Audit::default()),
            None => return Err(Stopping),
        };
        let expected = desired.speaker.owners.each();
        let not_installed = fib::Filter {
            among: Some(expected.map(|(prefix, _)| prefix.network()).collect()),
            only_problems: true,
            ..fib::Filter::default()
        };
        let kernel = match &self.fib {
            Some(fib) => fib.routes(not_installed).await.ok(),
            None => None,
        };
        Ok(audit::audit(&Evidence {
            desired,
            peers,
            reach: &reach,
            kernel: kernel.as_deref(),
        }))
    }

    /// `GET /v1/status`.
    pub(crate) async fn status(&self) -> Result<StatusReport, Stopping> {
        let (status, _) = self.status_and_peers(Look::Now).await?;
        Ok(status)
    }

    /// `GET /metrics`.
    pub(crate) async fn scrape(&self) -> Result<Scrape, Stopping> {
        let (status, peers) = self.status_and_peers(Look::Now).await?;
        Ok(Scrape {
            status,
            peers,
            desired: self.now().desired,
            events: self.journal.counts(),
        })
    }

    /// What the API server is told from.
    pub(crate) async fn sight(&self) -> Result<Sight, Stopping> {
        let (status, peers) = self.status_and_peers(Look::Last).await?;
        let now = self.now();
        let links = self.fib.iter().map(|fib| fib.links().borrow().clone());
        let on_link = links.flat_map(|links| report::on_link(&self.name, &now.desired, &links));
        Ok(Sight {
            unready: web::unready(self, &status),
            configured: now
                .desired
                .problems
                .iter()
                .chain(&now.problems)
                .cloned()
                .chain(on_link)
                .collect(),
            audited: now.audited,
            nodes: now.addresses,
            registration: now.registration,
            desired: now.desired,
            status,
            peers,
        })
    }

    /// As `status` and `peers`, asked once.
    async fn status_and_peers(
        &self,
        look: Look,
    ) -> Result<(StatusReport, Vec<PeerStatus>), Stopping> {
        let now = self.now();
        let speaker = self.speaker().await?;
        let kernel = self.kernel().await;
        let desired = &now.desired;
        let mut problems = desired.problems.clone();
        problems.extend(now.problems.iter().cloned());
        problems.extend(report::troubles(&speaker, kernel.as_ref(), desired));
        if let Some(fib) = &self.fib {
            problems.extend(report::absent(&speaker.listen, &fib.links().borrow()));
            problems.extend(report::on_link(&self.name, desired, &fib.links().borrow()));
        }
        let audit = match (look, &now.audited.last) {
            (Look::Last, Some(last)) => last.clone(),
            _ => self.audit_of(desired, Some(&speaker.peers)).await?,
        };
        problems.extend(audit::lasting(&now.audited.astray, &audit));
        problems.extend(self.web.problem());
        problems.extend(self.obstacles.problems());
        problems.extend(desired.cni.as_ref().and_then(Conflist::unplugged));
        if self.fib.is_some() && kernel.is_none() {
            problems.push(
                Problem::error(
                    "kernel",
                    "the installer has ended; its log says why: restart routelet",
                )
                .because(Reason::KernelProblem),
            );
        }
        if !speaker.complete {
            problems.push(Problem::warning(
                "speaker",
                "initial routes are not all in yet: some peers have not sent their End-of-RIB, and the deferral after the start still runs",
            ).because(Reason::InitialSync));
        }
        match now.duty {
            Duty::InService => {}
            duty if desired.deleted => problems.push(
                Problem::error(
                    "node",
                    match duty {
                        Duty::Drained => "it was deleted from the cluster: all sessions are held down until it is registered again",
                        _ => "it was deleted from the cluster: GRACEFUL_SHUTDOWN is announced, then all sessions end",
                    },
                )
                .because(Reason::OutOfService),
            ),
            Duty::Draining => problems.push(
                Problem::warning(
                    "node",
                    "it is being drained (GRACEFUL_SHUTDOWN is announced)",
                )
                .because(Reason::OutOfService),
            ),
            Duty::Drained => problems.push(
                Problem::error(
                    "node",
                    "it is drained and all sessions are held down: routelet undrain brings it back",
                )
                .because(Reason::OutOfService),
            ),
        }
        problems.sort();
        problems.dedup();
        let in_step = kernel.as_ref().is_none_or(|kernel| kernel.in_sync);
        let status = StatusReport {
            node: self.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            healthy: speaker.complete && in_step && !problems.iter().any(Problem::is_error),
            problems,
            asn: speaker.asn,
            router_id: speaker.router_id,
            listen: speaker.listen.clone(),
            started: self.started,
            configuration: self.configuration.clone(),
            loaded: now.loaded,
            duty: now.duty,
            cordoned: desired.cordoned,
            complete: speaker.complete,
            settled: self.web.settled(),
            peers: PeerCounts::of(&speaker, desired),
            routes: report::sum(&speaker),
            prefixes: speaker.prefixes.clone(),
            attribute_sets: speaker.attribute_sets,
            kernel,
            audit: audit.abridged(),
            collectors: speaker.collectors.clone(),
            mrt: speaker.mrt.clone(),
            memory_kib: report::memory_kib(),
        };
        Ok((status, speaker.peers.into_values().collect()))
    }

    /// `GET /v1/peers`: all, or those that `name` means: a session, a BGPPeer with its sessions, an address, or the interface of
    /// peers with link-local ones.
    pub(crate) async fn peers(&self, name: Option<&str>) -> Result<Vec<PeerStatus>, Stopping> {
        let speaker = match &*self.speaker.read().await {
            Some(speaker) => speaker.status().await.ok_or(Stopping)?,
            None => return Err(Stopping),
        };
        let of_rule = name.map(|name| format!("{name}/"));
        Ok(speaker
            .peers
            .into_values()
            .filter(|peer| {
                let Some(name) = name else { return true };
                peer.name == name
                    || peer.address.to_string() == name
                    || peer.place() == name
                    || peer.interface.as_deref() == Some(name)
                    || of_rule
                        .as_ref()
                        .is_some_and(|rule| peer.name.starts_with(rule))
            })
            .collect())
    }

    /// `POST /v1/refresh`: each session that `name` means, as in `peers`.
    pub(crate) async fn refresh(
        &self,
        name: &str,
        what: Refresh,
    ) -> Result<Vec<RefreshReport>, Stopping> {
        let mut reports = Vec::new();
        for peer in self.peers(Some(name)).await? {
            let done = match &*self.speaker.read().await {
                Some(speaker) => speaker.refresh(&peer.name, what).await,
                None => return Err(Stopping),
            };
            if done.is_ok() {
                let text = match what.direction {
                    Direction::Received => "asked for its routes again by the operator",
                    Direction::Advertised => "told our routes again by the operator",
                };
                self.journal
                    .write(Kind::Session, Some(peer.name.clone()), text);
            }
            reports.push(RefreshReport {
                direction: what.direction,
                families: done.map_or_else(|_| Vec::new(), |families| families.each().collect()),
                refused: done.err().map(|refusal| match (refusal, peer.last_error) {
                    (NoRefresh::Down, Some(error)) => {
                        format!("{refusal} ({:?}: {error})", peer.state)
                    }
                    (NoRefresh::Down, None) => format!("{refusal} ({:?})", peer.state),
                    (refusal, _) => refusal.to_string(),
                }),
                peer: peer.name,
            });
        }
        Ok(reports)
    }

    /// `GET /v1/routes`.
    pub(crate) async fn routes(&self, mut query: RouteQuery) -> Result<RoutesReport, Stopping> {
        let limit = query.limit;
        // One more than asked for tells whether there are more.
        query.limit = if limit == 0 {
            0
        } else {
            limit.saturating_add(1)
        };
        let mut routes = match &*self.speaker.read().await {
            Some(speaker) => speaker.routes(query).await,
            None => return Err(Stopping),
        };
        let truncated = limit > 0 && routes.len() > limit;
        if truncated {
            routes.truncate(limit);
        }
        Ok(RoutesReport { routes, truncated })
    }

    /// `GET /v1/fib`; `None` where nothing is installed.
    pub(crate) async fn fib(&self, mut filter: fib::Filter) -> Result<Option<FibReport>, Stopping> {
        let Some(fib) = &self.fib else {
            return Ok(None);
        };
        let limit = filter.limit;
        filter.limit = if limit == 0 {
            0
        } else {
            limit.saturating_add(1)
        };
        let status = fib.status().await.map_err(|_| Stopping)?;
        let mut routes = fib.routes(filter).await.map_err(|_| Stopping)?;
        let truncated = limit > 0 && routes.len() > limit;
        if truncated {
            routes.truncate(limit);
        }
        Ok(Some(FibReport {
            status,
            routes,
            truncated,
        }))
    }

    /// `GET /v1/explain`.
    pub(crate) async fn explain(&self, query: Prefix) -> Result<ExplainReport, Stopping> {
        let now = self.now();
        let speaker = match &*self.speaker.read().await {
            Some(speaker) => speaker.explain(query).await,
            None => return Err(Stopping),
        };
        let kernel = match &self.fib {
            Some(fib) => fib.explain(query.network()).await.ok(),
            None => None,
        };
        let owner = now.desired.owner(&query).map(|(cidr, node)| Owner {
            node: node.to_owned(),
            cidr: *cidr,
            addresses: now
                .addresses
                .get(node)
                .map(|addresses| addresses.each().collect())
                .unwrap_or_default(),
            here: node == self.name,
        });
        let (healthy, verdict) = match misled(&now, owner.as_ref(), speaker.as_ref()) {
            Some(misled) => (false, misled),
            None => verdict(&query, owner.as_ref(), speaker.as_ref(), kernel.as_ref()),
        };
        Ok(ExplainReport {
            query,
            verdict,
            healthy,
            owner,
            speaker,
            kernel,
        })
    }

    /// `GET /v1/mrt/table`.
    pub(crate) async fn table(&self) -> Result<mpsc::Receiver<Bytes>, Stopping> {
        let speaker = self.speaker.read().await;
        speaker.as_ref().map(Speaker::table).ok_or(Stopping)
    }

    /// `GET /v1/dump`.
    pub(crate) async fn dump(&self) -> Result<Dump, Stopping> {
        let everything = fib::Filter::default();
        Ok(Dump {
            status: self.status().await?,
            peers: self.peers(None).await?,
            routes: self.routes(RouteQuery::default()).await?.routes,
            fib: self
                .fib(everything)
                .await?
                .map(|fib| fib.routes)
                .unwrap_or_default(),
            links: self
                .fib
                .as_ref()
                .map(|fib| fib.links().borrow().to_vec())
                .unwrap_or_default(),
            desired: crate::desired::view::view(&self.now().desired),
            events: self.journal.entries(),
        })
    }
}

/// A route for the pods of one node whose next hop is another node: somebody announces what is not theirs.
fn misled(
    now: &Now,
    owner: Option<&Owner>,
    speaker: Option<&bgp::status::Explanation>,
) -> Option<String> {
    let owner = owner.filter(|owner| !owner.here)?;
    let used = speaker?
        .candidates
        .iter()
        .filter(|route| matches!(route.fate, Fate::Best | Fate::Multipath));
    for route in used {
        let Some(hop) = route.next_hop else { continue };
        let other = now.desired.speaker.owners.at(hop);
        if let Some(other) = other.filter(|other| other.name != owner.node && !other.forwards) {
            return Some(format!(
                "{} belongs to node {}, but the route from {} leads to node {} ({hop}): look at what that node announces",
                owner.cidr,
                owner.node,
                route.from.as_deref().unwrap_or("this node"),
                other.name
            ));
        }
    }
    None
}

/// The answer to "what happens to packets for this?", the first thing that stands in the way or the way itself.
fn verdict(
    query: &Prefix,
    owner: Option<&Owner>,
    speaker: Option<&bgp::status::Explanation>,
    kernel: Option<&fib::Explanation>,
) -> (bool, String) {
    if let Some(owner) = owner.filter(|owner| owner.here) {
        return (
            true,
            format!(
                "{query} is in {}, a pod CIDR of this node: it stays here",
                owner.cidr
            ),
        );
    }
    let whose = owner.map_or_else(String::new, |owner| {
        format!(" (pod CIDR {} of node {})", owner.cidr, owner.node)
    });
    let usable = speaker
        .into_iter()
        .flat_map(|speaker| &speaker.candidates)
        .any(|route| matches!(route.fate, Fate::Best | Fate::Multipath));
    if !usable {
        let refused = speaker
            .into_iter()
            .flat_map(|speaker| &speaker.candidates)
            .find_map(|route| match (&route.fate, &route.from) {
                (Fate::Refused(why), Some(from)) => {
                    Some(format!("{from} announces it, but it is refused: {why}"))
                }
                (Fate::Refused(why), None) => Some(format!("it is refused: {why}")),
                _ => None,
            });
        let why = refused.unwrap_or_else(|| "no peer announces it".into());
        return (false, format!("no route to {query}{whose}: {why}"));
    }
    let Some(kernel) = kernel else {
        return (
            true,
            format!(
                "{query}{whose} has a best route; nothing is installed on this node (kernel.install: false)"
            ),
        );
    };
    if let Some(refusal) = &kernel.refusal {
        return (
            false,
            format!("{query}{whose} is not installed: {}", refusal.reason),
        );
    }
    if let Some(failure) = kernel.next_hops.iter().find_map(|hop| hop.failure.as_ref()) {
        return (false, format!("{query}{whose} is not installed: {failure}"));
    }
    match &kernel.lookup {
        Lookup::Route {
            route, ours: true, ..
        } => (true, format!("{query}{whose} goes {route}")),
        Lookup::Route {
            route, ours: false, ..
        } => (
            false,
            format!("{query}{whose} goes {route}, by a route that is not ours"),
        ),
        Lookup::Unreachable { reason, .. } => {
            (false, format!("{query}{whose}: the kernel says {reason}"))
        }
    }
}
