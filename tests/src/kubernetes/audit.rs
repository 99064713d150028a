//! What daemons asked the API server for, by its audit log.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::ControlPlane;

/// As its node sees it.
pub(super) const LOG: &str = "/tmp/audit.log";

/// One line for each request of a daemon as it comes in, and none for anybody else's.
pub(super) const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [ResponseStarted, ResponseComplete]
rules:
- {level: Metadata, users: [\"system:serviceaccount:routelet:routelet\"]}
- {level: None}
";

/// Requests, counted by verb and resource.
pub type Requests = BTreeMap<String, usize>;

impl ControlPlane<'_> {
    /// What the daemons of all nodes have asked for since the start.
    pub fn requests(&self) -> Result<Requests> {
        let text = std::fs::read_to_string(self.host.path(LOG)).context("audit log")?;
        let mut all = Requests::new();
        for line in text.lines() {
            let event: Value = serde_json::from_str(line)?;
            let word = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
            let words = ["/verb", "/objectRef/resource", "/objectRef/subresource"];
            let words: Vec<&str> = words.into_iter().filter_map(word).collect();
            *all.entry(words.join(" ")).or_default() += 1;
        }
        Ok(all)
    }
}

/// What came between two counts.
#[must_use]
pub fn since(before: &Requests, after: &Requests) -> Requests {
    let more = |(what, count): (&String, &usize)| {
        let count = count - before.get(what).unwrap_or(&0);
        (count > 0).then(|| (what.clone(), count))
    };
    after.iter().filter_map(more).collect()
}
