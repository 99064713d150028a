//! `routelet mrt`: routes as MRT records.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::{Args, Subcommand};

use super::Asking;

/// Routes as MRT records (RFC 6396), for bgpdump, tshark and their like
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Table(Table),
}

/// Dump the table: every route as its peer said it, and those of this node as of the peer 0.0.0.0
#[derive(Debug, Args)]
#[command(
    after_help = "Prefix by prefix, as each is when its turn comes. Updates are written by the daemon: spec.mrt of BGPConfiguration.\n\n\
                  Examples:\n  \
                  routelet mrt table -w rib.mrt && bgpdump -m rib.mrt\n  \
                  routelet mrt table | gzip > rib.mrt.gz"
)]
struct Table {
    /// Write to this file, which is there once it is complete; without it, to the standard output
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

impl Options {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let What::Table(table) = self.what;
        match &table.write {
            Some(file) => table.asking.save("/v1/mrt/table", file),
            None if std::io::stdout().is_terminal() => {
                bail!("MRT is not for a terminal: give -w FILE, or a pipe")
            }
            None => table
                .asking
                .show("/v1/mrt/table", &crate::control::query::Query::default()),
        }
    }
}
