//! `routelet crds`: our kinds as an API server wants to know them.

use std::process::ExitCode;

use clap::Args;

use crate::crd::definition;

/// Print the CustomResourceDefinitions of this version
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  routelet crds | kubectl apply --server-side -f -")]
pub(super) struct Options {}

impl Options {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        print!("{}", definition::yaml()?);
        Ok(ExitCode::SUCCESS)
    }
}
