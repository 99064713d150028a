//! Objects made, changed and removed by HTTP, which the real API server and the stand-in understand alike.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::ControlPlane;
use crate::manifest::documents;

/// As whom a story applies.
const MANAGER: &str = "story";

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// The path of an object of ours, or of all of a kind: `ours("bgppeers", "switch")`.
#[must_use]
pub fn ours(plural: &str, name: &str) -> String {
    let path = format!("/apis/routelet.dev/v1alpha1/{plural}/{name}");
    path.trim_end_matches('/').to_owned()
}

/// The path of an object of the core, of the namespace `default` where it is in one: `v1("services", "web")`.
#[must_use]
pub fn v1(plural: &str, name: &str) -> String {
    match plural {
        "nodes" | "namespaces" => format!("/api/v1/{plural}/{name}"),
        _ => format!("/api/v1/namespaces/default/{plural}/{name}"),
    }
}

impl ControlPlane<'_> {
    /// A request that is done, or an error that says why not; the answer.
    pub fn send(&self, method: &str, path: &str, media_type: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self.proxy.ask(method, path, media_type, &body)?;
        ensure!(
            (200..300).contains(&answer.code),
            "{method} {path}: {answer:?}"
        );
        serde_json::from_str(&answer.body).with_context(|| answer.body.clone())
    }

    /// Makes an object; as it stands there.
    pub fn create(&self, object: &Value) -> Result<Value> {
        let path = self.collection(object)?;
        let path = path.with_context(|| format!("an unknown kind: {object}"))?;
        self.send("POST", &path, JSON, object)
    }

    /// Applies manifests, as `kubectl apply --server-side` does.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        for object in documents(manifests)? {
            let path = self.collection(&object)?;
            let path = path.with_context(|| format!("an unknown kind: {object}"))?;
            let name = object.pointer("/metadata/name").and_then(Value::as_str);
            let name = name.context("an object has a name")?;
            let path = format!("{path}/{name}?fieldManager={MANAGER}&force=true");
            self.send("PATCH", &path, APPLY, &object)?;
        }
        Ok(())
    }

    /// Changes what stands at `path` by a merge patch.
    pub fn patch(&self, path: &str, patch: &Value) -> Result<Value> {
        self.send("PATCH", path, MERGE, patch)
    }

    /// Removes what stands at `path`, at once.
    pub fn delete(&self, path: &str) -> Result<()> {
        let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
        self.send("DELETE", path, JSON, &now).map(drop)
    }

    /// Gives a node a label, `KEY=VALUE`, or takes it away, `KEY-`.
    pub fn label(&self, node: &str, label: &str) -> Result<()> {
        self.note(node, "labels", label)
    }

    /// The same with an annotation.
    pub fn annotate(&self, node: &str, annotation: &str) -> Result<()> {
        self.note(node, "annotations", annotation)
    }

    fn note(&self, node: &str, field: &str, note: &str) -> Result<()> {
        let (key, value) = match note.split_once('=') {
            Some((key, value)) => (key, value.into()),
            None => (note.trim_end_matches('-'), Value::Null),
        };
        let notes = Map::from_iter([(key.to_owned(), value)]);
        self.patch(&v1("nodes", node), &json!({"metadata": {field: notes}}))
            .map(drop)
    }
}
