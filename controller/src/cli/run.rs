//! `routelet run`: the daemon.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use tracing_subscriber::{
    Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use super::{SOCKET, STATE_DIR, UNHEALTHY, USAGE};
use crate::{
    daemon::{self, Failure},
    kubernetes::client::inside_a_pod,
    web,
};

/// What is logged unless told otherwise. An API server that is away is a problem of ours, told once, with the remedy.
const LEVELS: &str = "info,kube_client=off,kube_runtime=off";
/// Most threads that carry sessions, the Rib and the kernel side.
const THREADS: usize = 4;

/// Where metrics and health are served unless told otherwise.
const METRICS_ADDRESS: &str = "127.0.0.1:9179";

/// Run the daemon of a node
///
/// Reads the manifests at --config or watches the API server, peers, announces this node's pod CIDRs and installs what it
/// learns. A change of the files (or SIGHUP) or of an object is taken over live. SIGTERM stops for a restart: peers keep our
/// routes, the kernel keeps theirs. In a pod without --config it is the API server.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 stopped, 1 could not run, 2 wrong usage or configuration.\n\n\
                        Examples:\n  \
                        routelet run --node node1 --config /etc/routelet\n  \
                        routelet run --node node1 --kubernetes --kubeconfig ~/.kube/config\n  \
                        routelet run --node $(hostname) --config cluster.yaml --log json\n  \
                        routelet run --node node1 --config /etc/routelet --metrics-address none"
)]
pub(crate) struct Options {
    /// The name of this node's Node object
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub(crate) node: String,
    /// Manifests: a file, or a directory of *.yaml, *.yml and *.json
    #[arg(long, value_name = "PATH", env = "ROUTELET_CONFIG")]
    config: Option<PathBuf>,
    /// Watch the API server instead of files
    #[arg(long, conflicts_with = "config")]
    kubernetes: bool,
    /// How the API server is reached from outside a pod
    #[arg(long, value_name = "PATH", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// The control socket
    #[arg(long, value_name = "PATH", env = "ROUTELET_SOCKET", default_value = SOCKET)]
    pub(crate) socket: PathBuf,
    /// What outlives the process
    #[arg(long, value_name = "DIR", env = "ROUTELET_STATE_DIR", default_value = STATE_DIR)]
    pub(crate) state_dir: PathBuf,
    /// Where metrics, /healthz and /readyz are served over HTTP; none: nowhere
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "ROUTELET_METRICS_ADDRESS",
        default_value = METRICS_ADDRESS
    )]
    pub(crate) metrics_address: web::Address,
    /// Form of the log, which goes to standard error
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        env = "ROUTELET_LOG_FORMAT",
        default_value = "text"
    )]
    log: LogFormat,
    /// How much is logged: error, warn, info, debug, trace, or by part: info,bgp=debug
    #[arg(
        long,
        value_name = "LEVEL",
        env = "ROUTELET_LOG",
        default_value = LEVELS
    )]
    log_level: Targets,
}

/// Where the cluster comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin<'a> {
    /// Manifests: a file or a directory.
    Files(&'a Path),
    /// The API server.
    Api {
        /// How it is reached; `None`: as a pod reaches it.
        kubeconfig: Option<&'a Path>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// A line for people
    Text,
    /// A JSON object a line
    Json,
}

impl Options {
    /// Where the cluster comes from.
    ///
    /// # Errors
    /// When nothing says it.
    pub(crate) fn origin(&self) -> Result<Origin<'_>, Failure> {
        let kubeconfig = self.kubeconfig.as_deref();
        match &self.config {
            Some(path) if !self.kubernetes => Ok(Origin::Files(path)),
            _ if self.kubernetes || kubeconfig.is_some() || inside_a_pod() => {
                Ok(Origin::Api { kubeconfig })
            }
            _ => Err(Failure::Configuration(vec![
                "nothing says where the cluster comes from: give --config PATH (files), or --kubernetes (the API server; in a pod, or with --kubeconfig)".into(),
            ])),
        }
    }

    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.start_log();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.clamp(2, THREADS))
            .thread_name("routelet")
            .enable_all()
            .build()?;
        let code = match runtime.block_on(daemon::run(&self)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure::Configuration(lines)) => {
                for line in lines {
                    eprintln!("routelet: {line}");
                }
                ExitCode::from(USAGE)
            }
            Err(Failure::Other(error)) => {
                eprintln!("routelet: {error:#}");
                ExitCode::from(UNHEALTHY)
            }
        };
        // Nobody waits for a thread that is still busy with the file system.
        runtime.shutdown_background();
        Ok(code)
    }

    fn start_log(&self) {
        let layer = fmt::layer().with_writer(std::io::stderr);
        let layer = match self.log {
            LogFormat::Text => layer
                .with_target(false)
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .boxed(),
            LogFormat::Json => layer.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry()
            .with(layer.with_filter(self.log_level.clone()))
            .init();
    }
}
