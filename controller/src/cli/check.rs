//! `routelet check`: are these manifests right, and what would they make of a node?

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::{Map, json};

use super::{Output, UNHEALTHY};
use crate::{
    cluster::{Cluster, files},
    desired::{Facts, desired, view::view},
    problem::Problem,
};

/// Validate manifests without touching anything: every mistake with file, line, column and what would be right
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0 if all is well (warnings included), 1 if there is an error.\n\n\
                        Examples:\n  \
                        routelet check -f /etc/routelet\n  \
                        routelet check -f cluster.yaml --node node1 --show\n  \
                        kubectl get nodes,bgpconfigurations,bgppeers -o yaml > cluster.yaml && routelet check -f cluster.yaml"
)]
pub(super) struct Options {
    /// A file, or a directory of *.yaml, *.yml and *.json
    #[arg(short, long, value_name = "PATH", required = true)]
    file: Vec<PathBuf>,
    /// Look at it from this node only; default: from every node in it
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Show what each node would be: sessions, policies, announcements, kernel
    #[arg(long)]
    show: bool,
    /// How to show it
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

impl Options {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let cluster = match files::load_all(&self.file) {
            Ok(cluster) => cluster,
            Err(errors) => {
                let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
                match self.output {
                    Output::Text => println!("{}", lines.join("\n")),
                    Output::Json => println!("{}", json!({"valid": false, "errors": lines})),
                }
                return Ok(ExitCode::from(UNHEALTHY));
            }
        };
        let nodes: Vec<String> = match self.node {
            Some(node) => vec![node],
            None => cluster.nodes.keys().cloned().collect(),
        };
        let (mut problems, shown) = look(&cluster, &nodes, self.show);
        problems.sort();
        problems.dedup();
        let valid = !problems.iter().any(Problem::is_error);
        match self.output {
            Output::Json => {
                let mut all = json!({"valid": valid, "problems": problems});
                if let (true, Some(all)) = (self.show, all.as_object_mut()) {
                    all.insert("nodes".into(), shown.into());
                }
                println!("{}", serde_json::to_string_pretty(&all)?);
            }
            Output::Text => {
                if self.show {
                    print!("{}", serde_saphyr::to_string(&shown)?);
                }
                for problem in &problems {
                    println!("{problem}");
                }
                println!("{}", summary(&cluster, valid));
            }
        }
        Ok(if valid {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(UNHEALTHY)
        })
    }
}

/// What each node has to say, and what it would be.
fn look(
    cluster: &Cluster,
    nodes: &[String],
    show: bool,
) -> (Vec<Problem>, Map<String, serde_json::Value>) {
    let mut problems = cluster.problems.clone();
    let mut shown = Map::new();
    if nodes.is_empty() {
        problems.push(Problem::warning(
            "configuration",
            "there is no Node in it: a daemon that reads it has nobody to be; add the Nodes",
        ));
    }
    for node in nodes {
        let desired = desired(cluster, node, &Facts::default());
        problems.extend(desired.problems.iter().cloned());
        if show {
            shown.insert(node.clone(), view(&desired));
        }
    }
    // What one node takes for its own error, the others mention as a warning: once is enough.
    let errors: Vec<Problem> = problems
        .iter()
        .filter(|problem| problem.is_error())
        .cloned()
        .collect();
    problems.retain(|problem| {
        problem.is_error()
            || !errors
                .iter()
                .any(|error| error.about == problem.about && error.text == problem.text)
    });
    (problems, shown)
}

fn summary(cluster: &Cluster, valid: bool) -> String {
    format!(
        "{}: {}, {}, {}, {}, {}",
        if valid { "valid" } else { "not valid" },
        some(cluster.nodes.len(), "node", "nodes"),
        some(cluster.peers.len(), "peer", "peers"),
        some(cluster.policies.len(), "policy", "policies"),
        some(
            cluster.advertisements.len(),
            "advertisement",
            "advertisements"
        ),
        some(cluster.services.len(), "service", "services"),
    )
}

fn some(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
