//! `routelet events`: what happened lately.

use std::process::ExitCode;

use clap::Args;

use super::Asking;
use crate::{control::query::Query, journal::Entry, report::rfc3339};

/// What happened lately: sessions, kernel routes, links, configuration
#[derive(Debug, Args)]
#[command(after_help = "With -f and -o json there is one object a line.\n\n\
                        Examples:\n  \
                        routelet events\n  \
                        routelet events -f\n  \
                        routelet events -o json | jq '.[] | select(.kind == \"session\")'")]
pub(super) struct Options {
    /// Go on as things happen, until interrupted
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    asking: Asking,
}

impl Options {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let query = Query::default().with("follow", self.follow.to_string());
        self.asking.show("/v1/events", &query)
    }
}

/// One line.
pub(crate) fn line(entry: &Entry) -> String {
    let peer = entry
        .peer
        .as_ref()
        .map(|peer| format!("{peer}: "))
        .unwrap_or_default();
    format!(
        "{}  {:<7}  {peer}{}\n",
        rfc3339(entry.at),
        entry.kind.word(),
        entry.text
    )
}
