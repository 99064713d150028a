//! What the cluster is told of its nodes, as `kubectl` shows it: conditions, events, and each step that a Node takes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::identity::FOLDER;
use super::{ControlPlane, START, ours, v1};
use crate::shell::Background;
use crate::wait::eventually;

/// A status is written 10 s after the last one at the latest, one of a BGPPeer after the next look of its daemon; on a busy machine
/// all of it takes longer.
pub const TOLD: Duration = START;

/// How a Node's condition `NetworkUnavailable` changes. Dropping it ends the watch.
#[derive(Debug)]
pub struct NetworkWatch {
    file: PathBuf,
    _kubectl: Background,
}

impl ControlPlane<'_> {
    /// The condition of an object at `path` as it is.
    pub fn whole_condition(&self, path: &str, type_: &str) -> Result<Value> {
        let object = self.get(path)?;
        let all = object
            .pointer("/status/conditions")
            .and_then(Value::as_array);
        let mut all = all.into_iter().flatten();
        let found = all.find(|condition| condition.get("type").is_some_and(|is| is == type_));
        found
            .cloned()
            .with_context(|| format!("{path} has no {type_}: {object}"))
    }

    /// Waits until a condition of an object of ours, or of a Node (`nodes/NAME`), has this status and reason; its message.
    pub fn says(&self, path: &str, type_: &str, status: &str, reason: &str) -> Result<String> {
        let what = format!("{path} says {type_} {status} {reason}");
        eventually(TOLD, &what, || {
            let path = match path.strip_prefix("nodes/") {
                Some(node) => v1("nodes", node),
                None => format!("/apis/routelet.dev/v1alpha1/{path}"),
            };
            let now = self.whole_condition(&path, type_)?;
            let field = |name: &str| now.get(name).and_then(Value::as_str).unwrap_or_default();
            ensure!(
                field("status") == status && field("reason") == reason,
                "{now}"
            );
            Ok(field("message").to_owned())
        })
    }

    /// Waits until `kubectl get events` shows one with this reason about this object; the line.
    pub fn event(&self, reason: &str, object: &str) -> Result<String> {
        let what = format!("an event {reason} of {object}");
        eventually(TOLD, &what, || {
            let events = self.kubectl(&["get", "events"])?;
            let line = events.lines().find(|line| {
                let mut words = line.split_whitespace();
                words.any(|word| word == reason) && words.any(|word| word == object)
            });
            line.map(str::to_owned).with_context(|| events.clone())
        })
    }

    /// Waits until the `BGPNode` has gone with its Node.
    pub fn forgets(&self, node: &str) -> Result<()> {
        eventually(TOLD, &format!("the BGPNode of {node} goes"), || {
            let answer = self.ask("GET", &ours("bgpnodes", node), "")?;
            ensure!(answer.code == 404, "{answer:?}");
            Ok(())
        })
    }

    /// Watches the condition `NetworkUnavailable` of a Node from now on.
    pub fn watch_network(&self, node: &str) -> Result<NetworkWatch> {
        let condition = |field: &str| {
            format!("{{.status.conditions[?(@.type==\"NetworkUnavailable\")].{field}}}")
        };
        let words = [
            "kubectl".to_owned(),
            format!("--kubeconfig={FOLDER}/admin.conf"),
            "get".into(),
            "node".into(),
            node.into(),
            "--watch".into(),
            format!(
                "--output=jsonpath=it is {} {}{{\"\\n\"}}",
                condition("status"),
                condition("reason")
            ),
        ];
        let file = self.lab.folder.join(format!("network-of-{node}"));
        let watch = NetworkWatch {
            _kubectl: Background::logged(&mut self.host.tool(&words), &file)?,
            file,
        };
        eventually(TOLD, "the watch shows the Node as it is", || {
            ensure!(!watch.steps()?.is_empty(), "nothing yet");
            Ok(watch.file.clone())
        })?;
        Ok(watch)
    }
}

impl NetworkWatch {
    /// Status and reason, each time they became others; empty where there was no such condition.
    pub fn steps(&self) -> Result<Vec<String>> {
        let told = std::fs::read_to_string(&self.file)?;
        let mut steps: Vec<String> = Vec::new();
        for line in told.lines() {
            let step = line.strip_prefix("it is ").with_context(|| told.clone())?;
            let step = step.trim().to_owned();
            if steps.last() != Some(&step) {
                steps.push(step);
            }
        }
        Ok(steps)
    }
}
