//! `routelet drain`, `undrain`, `reload`: orders to the daemon.

use std::process::ExitCode;

use clap::Args;

use super::Asking;

/// Take this node out of the way: GRACEFUL_SHUTDOWN on all it announces, wait, then Cease to every peer
///
/// Peers move traffic away while the routes still work (RFC 8326); after drain.waitSeconds of BGPConfiguration all sessions end
/// with Cease, Administrative Shutdown, and stay down, over a restart and a reboot too, until `routelet undrain`.
#[derive(Debug, Args)]
#[command(
    after_help = "It returns once the sessions are down.\n\nExample:\n  routelet drain && systemctl stop routelet"
)]
pub(super) struct Drain {
    #[command(flatten)]
    asking: Asking,
}

impl Drain {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.asking.order("/v1/drain")
    }
}

/// Bring this node back after `drain` (also in the middle of one)
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  routelet undrain && routelet status")]
pub(super) struct Undrain {
    #[command(flatten)]
    asking: Asking,
}

impl Undrain {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.asking.order("/v1/undrain")
    }
}

/// Read the configuration again now (SIGHUP does the same, and so does a change of the files)
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 2 if it cannot be read: then what runs stays as it is.\n\nExample:\n  routelet check -f /etc/routelet && routelet reload"
)]
pub(super) struct Reload {
    #[command(flatten)]
    asking: Asking,
}

impl Reload {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.asking.order("/v1/reload")
    }
}
