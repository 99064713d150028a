//! The command line: one file a command. All but `run`, `check`, `cleanup`, `crds` and `completions` ask the daemon and show the answer.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

mod check;
mod cleanup;
mod client;
mod completions;
mod crds;
mod duty;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod fib;
mod mrt;
pub(crate) mod peers;
pub(crate) mod refresh;
pub(crate) mod routes;
pub(crate) mod run;
pub(crate) mod status;

/// Where the control socket stands unless told otherwise.
const SOCKET: &str = "/run/routelet/routelet.sock";
/// Where state outlives the process unless told otherwise.
const STATE_DIR: &str = "/var/lib/routelet";

/// Usage is wrong, the configuration cannot be read, or no daemon answers.
pub(crate) const USAGE: u8 = 2;
/// What was asked about is not as it should be.
pub(crate) const UNHEALTHY: u8 = 1;

/// BGP between the nodes of a Kubernetes cluster and their routers; learned routes go to the kernel, so that pods reach each
/// other without encapsulation or NAT.
#[derive(Debug, Parser)]
#[command(
    name = "routelet",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 healthy, 1 unhealthy, 2 wrong usage or no daemon.\n\n\
                  Examples:\n  \
                  routelet run --node node1 --config /etc/routelet\n  \
                  routelet status\n  \
                  routelet peers tor-r1\n  \
                  routelet explain 10.244.2.17\n  \
                  curl --unix-socket /run/routelet/routelet.sock http://routelet/v1/status"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Options>),
    Status(status::Options),
    Peers(peers::Options),
    Routes(routes::Options),
    Fib(fib::Options),
    Explain(explain::Options),
    Events(events::Options),
    Mrt(mrt::Options),
    Refresh(refresh::Options),
    Drain(duty::Drain),
    Undrain(duty::Undrain),
    Reload(duty::Reload),
    Cleanup(cleanup::Options),
    Check(check::Options),
    Crds(crds::Options),
    Completions(completions::Options),
}

/// What every command that asks the daemon takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Asking {
    /// The daemon's control socket
    #[arg(long, value_name = "PATH", env = "ROUTELET_SOCKET", default_value = SOCKET)]
    socket: PathBuf,
    /// How to show the answer
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// How an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Plain, aligned text
    Text,
    /// JSON
    Json,
}

impl Cli {
    /// Does what it says.
    pub(crate) fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Run(options) => options.run(),
            Command::Status(options) => options.run(),
            Command::Peers(options) => options.run(),
            Command::Routes(options) => options.run(),
            Command::Fib(options) => options.run(),
            Command::Explain(options) => options.run(),
            Command::Events(options) => options.run(),
            Command::Mrt(options) => options.run(),
            Command::Refresh(options) => options.run(),
            Command::Drain(options) => options.run(),
            Command::Undrain(options) => options.run(),
            Command::Reload(options) => options.run(),
            Command::Cleanup(options) => options.run(),
            Command::Check(options) => options.run(),
            Command::Crds(options) => options.run(),
            Command::Completions(options) => options.run(),
        };
        done.unwrap_or_else(|error| {
            eprintln!("routelet: {error:#}");
            ExitCode::from(USAGE)
        })
    }
}
