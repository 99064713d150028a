//! Where the cluster comes from: files, or the API server. What follows is the same for both.

use std::{path::PathBuf, pin::pin, sync::Arc, time::SystemTime};

use tokio::{sync::watch, task::JoinHandle};

use super::Failure;
use crate::{
    cli::run::{Options, Origin},
    cluster::{Cluster, files},
    kubernetes::{
        client::Connection,
        outage::Reach,
        publish,
        source::{Api, Snapshot},
        store::Store,
    },
    node::Running,
    problem::{Problem, Reason},
    watch::Changes,
};

/// How long a start waits for the API server where a stored cluster would do: what it says now is better than what it said.
const GRACE: std::time::Duration = std::time::Duration::from_secs(2);

/// What a source says.
#[derive(Debug)]
pub(super) struct Reading {
    /// The cluster now; `None`: it cannot be read.
    pub(super) cluster: Option<Cluster>,
    /// What stands in the way.
    pub(super) problems: Vec<Problem>,
    /// What made it speak.
    pub(super) why: &'static str,
}

/// The cluster a daemon starts with.
#[derive(Debug)]
pub(super) struct First {
    pub(super) cluster: Cluster,
    pub(super) problems: Vec<Problem>,
}

/// Where the cluster comes from.
pub(super) enum Source {
    /// Manifests in files.
    Files(Files),
    /// The API server.
    Api(Box<FromApi>),
}

/// Manifests in files.
pub(super) struct Files {
    path: PathBuf,
    changes: Option<Changes>,
    /// Why changes are not noticed.
    unfollowed: Option<Problem>,
}

/// The API server, and what it said last on disk.
pub(super) struct FromApi {
    api: Api,
    connection: Connection,
    store: Store,
    keep: watch::Sender<Option<Cluster>>,
}

impl Source {
    /// Opens what the options name.
    ///
    /// # Errors
    /// When there is no way to the API server.
    pub(super) async fn open(options: &Options) -> Result<Self, Failure> {
        match options.origin()? {
            Origin::Files(path) => Ok(Self::Files(Files {
                path: path.to_owned(),
                changes: None,
                unfollowed: None,
            })),
            Origin::Api { kubeconfig } => {
                let connection = Connection::open(kubeconfig).await?;
                let store = Store::of(&options.state_dir, &options.socket);
                let (keep, kept) = watch::channel(None);
                tokio::spawn(store.clone().keep(kept));
                Ok(Self::Api(Box::new(FromApi {
                    api: Api::start(connection.clone()),
                    connection,
                    store,
                    keep,
                })))
            }
        }
    }

    /// Where it is, to be shown.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Files(files) => files.path.display().to_string(),
            Self::Api(api) => api.connection.server.clone(),
        }
    }

    /// What the first reading waits for, where it may have to wait.
    pub(super) fn waiting(&self) -> watch::Receiver<String> {
        match self {
            Self::Files(_) => watch::channel(String::new()).1,
            Self::Api(api) => api.api.waiting(),
        }
    }

    /// The cluster to start with. Files are there or not; the API server is waited for, unless what it said last is stored.
    ///
    /// # Errors
    /// When the files do not say what their author meant: there is nothing yet that could go on.
    pub(super) async fn first(&mut self, node: &str) -> Result<First, Failure> {
        match self {
            Self::Files(files) => files.first(node),
            Self::Api(api) => Ok(api.first().await),
        }
    }

    /// Returns when there may be something new, with it.
    pub(super) async fn next(&mut self) -> Reading {
        match self {
            Self::Files(files) => {
                match &mut files.changes {
                    Some(changes) => changes.settled().await,
                    None => std::future::pending().await,
                }
                // A link may lead elsewhere now.
                files.follow();
                files.read("files changed")
            }
            Self::Api(api) => {
                let snapshot = api.api.next().await;
                Reading {
                    cluster: snapshot.cluster.clone(),
                    problems: snapshot.problems.clone(),
                    why: "the API server told",
                }
            }
        }
    }

    /// Reads again at once; `None` where there is nothing to read.
    pub(super) fn again(&mut self, why: &'static str) -> Option<Reading> {
        match self {
            Self::Files(files) => Some(files.read(why)),
            Self::Api(_) => None,
        }
    }

    /// The daemon goes by this cluster now.
    pub(super) fn taken_over(&self, cluster: &Cluster) {
        if let Self::Api(api) = self {
            api.keep.send_replace(Some(cluster.clone()));
        }
    }

    /// Tells the source of the running node, where it wants to know: the API server does. `follows`: an earlier process left
    /// its routes in the kernel.
    pub(super) fn publish(&self, running: &Arc<Running>, follows: bool) -> Option<JoinHandle<()>> {
        match self {
            Self::Files(_) => None,
            Self::Api(api) => Some(tokio::spawn(publish::run(
                api.connection.clone(),
                api.api.reports(),
                running.clone(),
                follows,
            ))),
        }
    }

    /// The daemon stops.
    pub(super) fn close(&self, cluster: &Cluster) {
        if let Self::Api(api) = self {
            // What could not be written before was logged.
            let _ = api.store.write(cluster);
        }
    }
}

impl Files {
    fn first(&mut self, node: &str) -> Result<First, Failure> {
        self.follow();
        let cluster = files::load(&self.path).map_err(|errors| {
            Failure::Configuration(errors.iter().map(ToString::to_string).collect())
        })?;
        let broken = |kind: &str, name: &str| {
            cluster
                .left_out
                .contains(&(kind.to_owned(), name.to_owned()))
        };
        // Others may be left out; without these the node would be something else than was meant.
        if broken("BGPConfiguration", "default") || broken("Node", node) {
            return Err(Failure::Configuration(
                cluster.problems.iter().map(ToString::to_string).collect(),
            ));
        }
        Ok(First {
            cluster,
            problems: self.unfollowed.clone().into_iter().collect(),
        })
    }

    fn follow(&mut self) {
        match Changes::of(&self.path) {
            Ok(changes) => {
                self.changes = Some(changes);
                self.unfollowed = None;
            }
            Err(error) => {
                self.changes = None;
                self.unfollowed = Some(Problem::warning(
                    "configuration",
                    format!(
                        "the files cannot be followed ({error}): tell routelet of a change by SIGHUP or routelet reload"
                    ),
                ));
            }
        }
    }

    fn read(&self, why: &'static str) -> Reading {
        let mut problems: Vec<Problem> = self.unfollowed.clone().into_iter().collect();
        let cluster = match files::load(&self.path) {
            Ok(cluster) => Some(cluster),
            Err(errors) => {
                problems.extend(errors.iter().map(|error| {
                    Problem::error("configuration", format!("{error}; what ran before goes on"))
                }));
                None
            }
        };
        Reading {
            cluster,
            problems,
            why,
        }
    }
}

impl FromApi {
    async fn first(&mut self) -> First {
        let Some((stored, when)) = self.store.read() else {
            return self.whole().await;
        };
        let mut reach = self.connection.reach.clone();
        let away = async {
            // The sender lives as long as the client.
            let _ = reach
                .wait_for(|reach| matches!(reach, Reach::Away(..)))
                .await;
        };
        let first = {
            let mut away = pin!(away);
            let told = async {
                tokio::select! {
                    first = self.whole() => Some(first),
                    () = &mut away => None,
                }
            };
            tokio::time::timeout(GRACE, told).await.ok().flatten()
        };
        match first {
            Some(mut first) => {
                first.cluster.keep(&stored);
                first
            }
            None => First {
                problems: vec![from_store(&self.connection.server, when)],
                cluster: stored,
            },
        }
    }

    /// The first cluster that is told as a whole.
    async fn whole(&mut self) -> First {
        loop {
            let Snapshot { cluster, problems } = &*self.api.next().await;
            if let Some(cluster) = cluster.clone() {
                let problems = problems.clone();
                return First { cluster, problems };
            }
        }
    }
}

fn from_store(server: &str, when: SystemTime) -> Problem {
    let when = jiff::Timestamp::try_from(when)
        .map(|when| format!("{when:.0}"))
        .unwrap_or_default();
    Problem::warning(
        "API server",
        format!(
            "{server} does not answer: this node started from what it said last ({when}); changes since then are seen when it is back"
        ),
    ).because(Reason::ApiServerProblem)
}
