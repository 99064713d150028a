//! The stories: what must hold, told in the lab against real FRR and BIRD. One file each; one program, so that it links once.

mod a_fault_stays_where_it_is;
mod a_stuck_peer_costs_nobody_else;
mod configuration_changes_live;
mod foreign_routes_are_safe;
mod malformed_messages;
mod many_routes;
mod restart_keeps_routes;
mod routes_leave_with_their_node;
mod topologies_converge;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::Container;
use tests::shell::Background;
use tests::wait::eventually;

/// One of the lab program's tools, running inside a node.
struct Tool {
    _running: Background,
    output: PathBuf,
}

fn tool(node: &Container, words: &[&str]) -> Result<Tool> {
    let program = node.path("/tmp/lab");
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_lab"), &program)?;
    }
    let output = node.path(&format!("/tmp/lab-{}", words.join("-")));
    let all: Vec<&str> = ["/tmp/lab"].iter().chain(words).copied().collect();
    let running = Background::start(node.tool(&all).stdout(File::create(&output)?))?;
    Ok(Tool {
        _running: running,
        output,
    })
}

impl Tool {
    fn said(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.output)?)
    }

    /// Waits for a line that begins with `start`, and hands back the last one.
    fn says(&self, start: &str) -> Result<String> {
        self.says_within(start, Duration::from_secs(60))
    }

    fn says_within(&self, start: &str, deadline: Duration) -> Result<String> {
        eventually(deadline, &format!("the tool says {start}"), || {
            let said = self.said()?;
            let last = said.lines().rfind(|line| line.starts_with(start));
            ensure!(last.is_some(), "it said: {said}");
            Ok(last.unwrap_or_default().to_owned())
        })
    }
}
