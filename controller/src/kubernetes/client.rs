//! The way to the API server: from inside a pod, or by a kubeconfig.

use std::{env, error::Error, path::Path, time::Duration};

use anyhow::Context;
use hyper::Response;
use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::watch;
use tower::ServiceBuilder;

use super::outage::{Note, Reach};

/// Where a pod finds its ServiceAccount's token.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The namespace of the daemon where nothing says another.
const NAMESPACE: &str = "routelet";
/// How long a connection may take to stand: a pod's way to the API server is short.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection may be silent. Every watch hears a bookmark once a minute: one that hears nothing for longer hangs on a
/// connection whose other end, or whose own address, is gone, and would never hear of it.
const SILENCE: Duration = Duration::from_secs(90);

/// The API server as this daemon reaches it.
#[derive(Clone)]
pub(crate) struct Connection {
    /// Asks it.
    pub(crate) client: Client,
    /// Our own namespace: Secrets are looked up here.
    pub(crate) namespace: String,
    /// Its address, to be shown.
    pub(crate) server: String,
    /// Whether it answers.
    pub(crate) reach: watch::Receiver<Reach>,
    /// Notes what no answer tells: that none came in time.
    pub(crate) note: Note,
}

/// Whether this process runs in a pod that may speak to the API server.
pub(crate) fn inside_a_pod() -> bool {
    env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(TOKEN).exists()
}

impl Connection {
    /// Prepares it; nothing is asked yet.
    ///
    /// # Errors
    /// When the kubeconfig, or what a pod is given, is missing or not usable.
    pub(crate) async fn open(kubeconfig: Option<&Path>) -> anyhow::Result<Self> {
        let mut config = match kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)
                    .with_context(|| format!("kubeconfig {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .with_context(|| format!("kubeconfig {}", path.display()))?
            }
            None => Config::incluster().context(
                "this is no pod with a ServiceAccount token; outside a cluster give --kubeconfig PATH, or --config PATH for files",
            )?,
        };
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(SILENCE);
        let own = env::var("POD_NAMESPACE")
            .ok()
            .filter(|name| !name.is_empty());
        let namespace = own.unwrap_or_else(|| match kubeconfig {
            // In a pod it is that of the ServiceAccount; what a kubeconfig names is where its user works.
            None => config.default_namespace.clone(),
            Some(_) => NAMESPACE.into(),
        });
        let server = config.cluster_url.to_string();
        let (note, reach) = Note::new();
        let notes = note.clone();
        let noting = ServiceBuilder::new().map_result(
            move |outcome: Result<Response<_>, Box<dyn Error + Send + Sync>>| {
                notes.outcome(
                    outcome
                        .as_ref()
                        .map_err(|error| -> &(dyn Error + 'static) { &**error }),
                );
                outcome
            },
        );
        let client = ClientBuilder::try_from(config)?.with_layer(&noting).build();
        Ok(Self {
            client,
            namespace,
            server: server.trim_end_matches('/').to_owned(),
            reach,
            note,
        })
    }
}
