//! `routelet refresh`: routes of a session once more.

use std::{fmt::Write, process::ExitCode};

use bgp::speaker::Direction;
use clap::Args;

use super::Asking;
use crate::{control::query::Query, report::RefreshReport};

/// Ask a peer for its routes again (RFC 2918), or tell it ours again; the session stays up
///
/// Policies need none of this: a changed one is applied to what peers have told already. It is for a peer whose routes are doubted, as `clear
/// bgp … soft in` is in FRR.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0 once it is asked for, 1 if some of several sessions refuse, 2 if all do: not Established, or without the capability.\n\n\
                  Examples:\n  \
                  routelet refresh tor-r1\n  \
                  routelet refresh 10.0.0.254 --family IPv6\n  \
                  routelet refresh tor-r1 --out"
)]
pub(super) struct Options {
    /// A session, a BGPPeer with all its sessions, or an address
    peer: String,
    /// Tell our routes again instead of asking for theirs
    #[arg(long)]
    out: bool,
    /// IPv4 or IPv6 only
    #[arg(long, value_name = "FAMILY")]
    family: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Options {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let direction = if self.out { "advertised" } else { "received" };
        let mut query = Query::default()
            .with("peer", self.peer)
            .with("direction", direction);
        if let Some(family) = self.family {
            query = query.with("family", family);
        }
        self.asking.order_with("/v1/refresh", &query)
    }
}

/// A line a session.
pub(crate) fn text(refreshed: &[RefreshReport]) -> String {
    let mut text = String::new();
    for one in refreshed {
        let families: Vec<String> = one.families.iter().map(ToString::to_string).collect();
        let families = families.join(" and ");
        let what = match (&one.refused, one.direction) {
            (Some(refused), _) => refused.clone(),
            (None, Direction::Received) => format!("asked for its {families} routes again"),
            (None, Direction::Advertised) => format!("our {families} routes are told again"),
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}: {what}", one.peer);
    }
    text
}
