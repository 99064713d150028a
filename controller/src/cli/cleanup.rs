//! `routelet cleanup`: removes exactly what is ours from a node whose daemon is gone.

use std::{fs, io, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;

use super::{SOCKET, STATE_DIR};
use crate::{
    cluster::files, control::socket, desired::conflist_path, kubernetes::store::Store, state::State,
};

/// Remove what is ours from a node whose daemon is gone: kernel routes, the conflist, the saved state
///
/// Only routes with our protocol number, table and metric are touched; every other route and file stays.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                        routelet cleanup\n  \
                        routelet cleanup --config /etc/routelet")]
pub(super) struct Options {
    /// The configuration that says protocol, table, metric and conflist; default: what
    /// the API server told last, or the defaults
    #[arg(long, value_name = "PATH", env = "ROUTELET_CONFIG")]
    config: Option<PathBuf>,
    /// Where the daemon kept its state
    #[arg(long, value_name = "DIR", env = "ROUTELET_STATE_DIR", default_value = STATE_DIR)]
    state_dir: PathBuf,
    /// The daemon's control socket: nobody may hold it
    #[arg(long, value_name = "PATH", env = "ROUTELET_SOCKET", default_value = SOCKET)]
    socket: PathBuf,
}

impl Options {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let store = Store::of(&self.state_dir, &self.socket);
        let cluster = match &self.config {
            // In a cluster: the configuration that the API server told last.
            None => store.read().map(|(cluster, _)| cluster).unwrap_or_default(),
            Some(path) => files::load(path).map_err(|errors| {
                let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
                anyhow::anyhow!("{}", lines.join("\n"))
            })?,
        };
        let config = cluster.configuration();
        let kernel = &config.kernel;
        let mark = fib::Mark {
            protocol: kernel.protocol,
            table: kernel.table,
            metric: kernel.metric,
        };
        // A daemon that is alive would put everything back, or stand without it.
        let _claim =
            socket::own_routes(mark).context("cleanup is for a node whose daemon is gone")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let routes = runtime.block_on(fib::cleanup(mark))?;
        println!(
            "{routes} routes removed (protocol {}, table {}, metric {})",
            mark.protocol, mark.table, mark.metric
        );
        let conflist = conflist_path(&config);
        for (what, path) in [("conflist", &conflist), ("socket", &self.socket)] {
            match fs::remove_file(path) {
                Ok(()) => println!("{what} {} removed", path.display()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => bail!("{what} {}: {error}", path.display()),
            }
        }
        State::forget(&self.state_dir)
            .and_then(|()| store.forget())
            .with_context(|| format!("the state in {}", self.state_dir.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
