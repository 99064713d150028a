//! `routelet completions`: for the shell.

use std::{io, process::ExitCode};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// Completions for a shell, on standard output
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                        routelet completions bash > /etc/bash_completion.d/routelet\n  \
                        routelet completions zsh > ~/.zfunc/_routelet")]
pub(super) struct Options {
    /// The shell
    shell: Shell,
}

impl Options {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        clap_complete::generate(
            self.shell,
            &mut Cli::command(),
            "routelet",
            &mut io::stdout(),
        );
        Ok(ExitCode::SUCCESS)
    }
}
