//! The cluster from the API server: one task owns what all watches told, and gives a whole cluster when a burst is over.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::timeout,
};

use super::{
    client::Connection,
    outage::{Reach, UNAUTHENTICATED},
    reports::Reports,
    watch::{Failure, Told, start},
};
use crate::{
    cluster::{
        Cluster,
        api::{Event, Mirror, Subject},
    },
    crd,
    problem::{Problem, Reason},
};

/// A change is several events within this time; the cluster is told once they are over.
const QUIET: Duration = Duration::from_millis(50);
/// However busy the API server is, it is told after this time.
const AT_LAST: Duration = Duration::from_millis(500);
/// Events on their way from all watches; what does not fit waits in the watches' connections.
const EVENTS: usize = 256;
/// A kind that is unknown or forbidden so many times in a row is just that: an API server that is starting may know neither our
/// kinds nor our rights yet.
const SURELY: u32 = 2;

/// The cluster as the API server has it, and what stands in the way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot {
    /// `None`: it cannot be read as a whole yet.
    pub(crate) cluster: Option<Cluster>,
    pub(crate) problems: Vec<Problem>,
}

/// The cluster from the API server; nothing is watched any more once it is dropped.
#[derive(Debug)]
pub(crate) struct Api {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    waiting: watch::Receiver<String>,
    reports: watch::Receiver<Reports>,
    owner: AbortHandle,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.owner.abort();
    }
}

impl Api {
    /// Starts to watch.
    pub(crate) fn start(connection: Connection) -> Self {
        let (snapshots_in, snapshots) = watch::channel(None);
        let (words, waiting) = watch::channel(String::new());
        let (reports_in, reports) = watch::channel(Reports::default());
        let (sender, told) = mpsc::channel(EVENTS);
        let owner = Owner {
            mirror: Mirror::default(),
            watches: BTreeMap::new(),
            sender,
            snapshots: snapshots_in,
            waiting: words,
            reports: reports_in,
            connection,
        };
        let owner = tokio::spawn(owner.run(told)).abort_handle();
        Self {
            snapshots,
            waiting,
            reports,
            owner,
        }
    }

    /// Returns when there is a new snapshot, with it. None has a cluster before every watch has listed once.
    pub(crate) async fn next(&mut self) -> Arc<Snapshot> {
        loop {
            if self.snapshots.changed().await.is_err() {
                // Its owner has ended by a fault; its log says why. What runs goes on.
                std::future::pending::<()>().await;
            }
            if let Some(snapshot) = &*self.snapshots.borrow_and_update() {
                return snapshot.clone();
            }
        }
    }

    /// What daemons report in the status of our objects.
    pub(crate) fn reports(&self) -> watch::Receiver<Reports> {
        self.reports.clone()
    }

    /// What the first snapshot still waits for, in words.
    pub(crate) fn waiting(&self) -> watch::Receiver<String> {
        self.waiting.clone()
    }
}

/// Ends its task when dropped.
struct Following {
    task: AbortHandle,
    listed: bool,
    /// What went wrong last, and how often in a row.
    failure: Option<(Failure, u32)>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Following {
    /// Whether there is nothing more to be expected of it soon.
    fn settled(&self, subject: &Subject) -> bool {
        let without = match (&self.failure, subject) {
            // Its definition is not installed.
            (Some((Failure::Unknown, _)), Subject::Ours(_)) => true,
            // A session without its key stays down, a service without its endpoints is not announced: the rest goes on.
            (
                Some((Failure::Forbidden(_), _)),
                Subject::Secret(_) | Subject::Services | Subject::EndpointSlices,
            ) => true,
            // What we may not read is not empty for that: to go on without would take away what runs.
            _ => false,
        };
        self.listed || without && self.surely().is_some()
    }

    /// It answers, and will not tell us.
    fn refused(&self) -> bool {
        matches!(
            self.surely(),
            Some(Failure::Forbidden(_) | Failure::Unauthenticated)
        )
    }

    /// What is wrong, once it is no passing state of an API server that is starting.
    fn surely(&self) -> Option<&Failure> {
        let (failure, times) = self.failure.as_ref()?;
        (*times >= SURELY).then_some(failure)
    }
}

struct Owner {
    connection: Connection,
    mirror: Mirror,
    watches: BTreeMap<Subject, Following>,
    sender: mpsc::Sender<Told>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    waiting: watch::Sender<String>,
    reports: watch::Sender<Reports>,
}

impl Owner {
    async fn run(mut self, mut told: mpsc::Receiver<Told>) {
        let mut reach = self.connection.reach.clone();
        self.tend();
        loop {
            self.tell();
            let mut news = false;
            while !news {
                tokio::select! {
                    Some(told) = told.recv() => news = self.take(told),
                    changed = reach.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        news = true;
                    }
                }
            }
            let quiet = async {
                while let Ok(Some(told)) = timeout(QUIET, told.recv()).await {
                    self.take(told);
                }
            };
            // Elapsed is as good as quiet here.
            let _ = timeout(AT_LAST, quiet).await;
            self.tend();
        }
    }

    /// Whether anything is different now.
    fn take(&mut self, told: Told) -> bool {
        let Told {
            subject,
            what,
            report,
        } = told;
        // A last word of a watch that was ended.
        let Some(following) = self.watches.get_mut(&subject) else {
            return false;
        };
        match what {
            Ok(event) => {
                let mut news = false;
                // Listing only says that the question has been put.
                if event_answers(&event) {
                    news = following.failure.take().is_some();
                }
                if matches!(event, Event::Listed) {
                    news |= !std::mem::replace(&mut following.listed, true);
                }
                let gone = matches!(event, Event::Listed | Event::Deleted(_));
                if let (Event::Applied((_, name), _), Some(report)) = (&event, report) {
                    self.reports
                        .send_modify(|reports| reports.take(name, report));
                }
                news |= self.mirror.take(&subject, event);
                if let (Subject::Ours(kind), true) = (&subject, gone) {
                    let keys = self.mirror.keys(&subject);
                    let names = keys.into_iter().map(|(_, name)| name).collect();
                    self.reports
                        .send_modify(|reports| reports.keep(kind, &names));
                }
                news
            }
            Err(failure) => {
                let before = following.failure.take();
                let times = match &before {
                    Some((last, times)) if *last == failure => times.saturating_add(1),
                    _ => 1,
                };
                let refused = !matches!(failure, Failure::Passing(_)) && following.listed;
                let news = times <= SURELY;
                following.failure = Some((failure, times));
                if refused {
                    // Where we were means nothing to a definition that is made anew; and only a list tells that we may again:
                    // a watch that goes on says nothing until something changes.
                    let anew = self.follow(&subject);
                    self.watches.insert(subject, anew);
                }
                news
            }
        }
    }

    fn follow(&self, subject: &Subject) -> Following {
        Following {
            task: start(&self.connection, subject.clone(), self.sender.clone()),
            listed: false,
            failure: None,
        }
    }

    /// Watches what has to be watched, and nothing else.
    fn tend(&mut self) {
        let mut wanted = self.mirror.referred();
        wanted.insert(Subject::Nodes);
        wanted.extend(crd::KINDS.map(Subject::Ours));
        let unwanted: Vec<Subject> = self
            .watches
            .keys()
            .filter(|subject| !wanted.contains(subject))
            .cloned()
            .collect();
        for subject in unwanted {
            self.watches.remove(&subject);
            self.mirror.forget(&subject);
        }
        for subject in wanted {
            if !self.watches.contains_key(&subject) {
                let following = self.follow(&subject);
                self.watches.insert(subject, following);
            }
        }
    }

    /// Gives a snapshot, or says what it waits for.
    fn tell(&self) {
        let missing: Vec<String> = self
            .watches
            .iter()
            .filter(|(subject, following)| !following.settled(subject))
            .map(|(subject, following)| match &following.failure {
                Some((Failure::Passing(why), _)) => format!("{} ({why})", words(subject)),
                _ => words(subject),
            })
            .collect();
        let problems = problems(
            &self.connection.server,
            &self.connection.reach.borrow(),
            self.watches
                .iter()
                .filter_map(|(subject, following)| Some((subject, following.surely()?))),
        );
        if missing.is_empty() {
            let snapshot = Snapshot {
                cluster: Some(self.mirror.cluster()),
                problems,
            };
            self.snapshots.send_if_modified(|known| {
                let news = known.as_deref() != Some(&snapshot);
                if news {
                    *known = Some(Arc::new(snapshot));
                }
                news
            });
            return;
        }
        // What is known stays what it is until the rest is there; only the words follow.
        let refused = self.watches.values().any(Following::refused);
        self.snapshots.send_if_modified(|known| {
            let cluster = match known {
                Some(last) if last.problems == problems => return false,
                Some(last) => last.cluster.clone(),
                // Whoever started from what was stored has said so; this is more than an outage.
                None if refused => None,
                None => return false,
            };
            let problems = problems.clone();
            *known = Some(Arc::new(Snapshot { cluster, problems }));
            true
        });
        let mut text = format!(
            "waiting for the API server {}: not listed yet: {}",
            self.connection.server,
            missing.join(", ")
        );
        for problem in &problems {
            text.push_str(&format!("; {}", problem.text));
        }
        self.waiting.send_replace(text);
    }
}

/// Whether the event came from the API server.
fn event_answers(event: &Event) -> bool {
    !matches!(event, Event::Listing)
}

fn words(subject: &Subject) -> String {
    match subject {
        Subject::Nodes => "Node".into(),
        Subject::Ours(kind) => (*kind).into(),
        Subject::Services => "Service".into(),
        Subject::EndpointSlices => "EndpointSlice".into(),
        Subject::Secret(name) => format!("Secret {name}"),
    }
}

/// What stands between us and the API server, in words with the remedy.
fn problems<'a>(
    server: &str,
    reach: &Reach,
    failures: impl Iterator<Item = (&'a Subject, &'a Failure)>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut unknown = Vec::new();
    let mut unauthenticated = false;
    for (subject, failure) in failures {
        match failure {
            Failure::Unknown if matches!(subject, Subject::Ours(_)) => unknown.push(words(subject)),
            Failure::Unknown => problems.push(Problem::error(
                "API server",
                format!("it does not know {}", words(subject)),
            ).because(Reason::ApiServerProblem)),
            Failure::Forbidden(why) => problems.push(Problem::error(
                "API server",
                format!(
                    "{} cannot be read ({why}): give the ServiceAccount of routelet the rights of deploy/rbac.yaml",
                    words(subject)
                ),
            ).because(Reason::ApiServerProblem)),
            // Whatever was asked.
            Failure::Unauthenticated => unauthenticated = true,
            // It is in the way for a moment only, or the whole API server is.
            Failure::Passing(_) => {}
        }
    }
    if unauthenticated {
        problems
            .push(Problem::error("API server", UNAUTHENTICATED).because(Reason::ApiServerProblem));
    }
    if !unknown.is_empty() {
        problems.push(Problem::warning(
            "API server",
            format!(
                "it does not know {}: the defaults hold until the definitions are installed (routelet crds | kubectl apply --server-side -f -)",
                unknown.join(", ")
            ),
        ).because(Reason::ApiServerProblem));
    }
    if let Reach::Away(since, why) = reach {
        let since = jiff::Timestamp::try_from(*since)
            .map(|since| format!("{since:.0}"))
            .unwrap_or_default();
        problems.push(Problem::warning(
            "API server",
            format!("{server} has not answered since {since} ({why}): this node goes on with what it knew; changes are seen when it is back"),
        ).because(Reason::ApiServerProblem));
    }
    problems
}

#[cfg(test)]
mod tests;
