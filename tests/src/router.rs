//! What the other routers say: FRR by vtysh, BIRD by birdc; and routelet by its own command line.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::container::Container;

impl Container {
    /// The answer of FRR to a `show … json`.
    pub fn vtysh(&self, command: &str) -> Result<Value> {
        let text = self.run(&["vtysh", "-c", command])?;
        serde_json::from_str(&text).with_context(|| format!("{command}: {text}"))
    }

    /// Configures FRR, line after line.
    pub fn vtysh_configure(&self, lines: &[&str]) -> Result<()> {
        let mut words = vec!["vtysh", "-c", "configure terminal"];
        for line in lines {
            words.extend(["-c", line]);
        }
        self.run(&words).map(drop)
    }

    /// The answer of BIRD.
    pub fn birdc(&self, command: &str) -> Result<String> {
        let mut words = vec!["birdc"];
        words.extend(command.split_whitespace());
        self.run(&words)
    }

    /// The JSON answer of routelet's command line, whether the node is healthy (exit code 0) or not (1).
    pub fn routelet(&self, words: &[&str]) -> Result<Value> {
        let command: Vec<&str> = ["routelet"]
            .iter()
            .chain(words)
            .chain(&["-o", "json"])
            .copied()
            .collect();
        let done = self.output(&command)?;
        anyhow::ensure!(
            done.code <= 1,
            "{}: {} ended with {}: {}",
            self.name,
            command.join(" "),
            done.code,
            done.stderr
        );
        serde_json::from_str(&done.stdout).with_context(|| {
            format!(
                "{}: {}: {}{}",
                self.name,
                command.join(" "),
                done.stdout,
                done.stderr
            )
        })
    }
}
