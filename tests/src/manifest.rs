//! What the manifests of a topology say about nodes: enough to know what must be reachable.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// What a `v1/Node` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its pod CIDRs.
    pub pod_cidrs: Vec<String>,
    /// Its internal addresses.
    pub addresses: Vec<String>,
}

/// All objects in a file or in the `.yaml`, `.yml` and `.json` files of a folder.
pub fn objects(path: &Path) -> Result<Vec<Value>> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        files = std::fs::read_dir(path)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        files.retain(|file| {
            file.extension().is_some_and(|extension| {
                ["yaml", "yml", "json"]
                    .iter()
                    .any(|known| extension == *known)
            })
        });
        files.sort();
    }
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        all.extend(documents(&text).with_context(|| file.display().to_string())?);
    }
    Ok(all)
}

/// All objects of a text, one a document or in lists.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for document in serde_saphyr::from_multiple::<Value>(text)? {
        match document.get("items").and_then(Value::as_array) {
            Some(items) => all.extend(items.iter().cloned()),
            None => all.push(document),
        }
    }
    Ok(all)
}

/// The nodes among `objects`, by name.
#[must_use]
pub fn nodes(objects: &[Value]) -> BTreeMap<String, NodeFacts> {
    let strings = |value: Option<&Value>| -> Vec<String> {
        value
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let mut all = BTreeMap::new();
    for object in objects
        .iter()
        .filter(|object| object.get("kind").and_then(Value::as_str) == Some("Node"))
    {
        let Some(name) = object.pointer("/metadata/name").and_then(Value::as_str) else {
            continue;
        };
        let addresses = object
            .pointer("/status/addresses")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let internal = addresses
            .filter(|address| address.get("type").and_then(Value::as_str) == Some("InternalIP"));
        let facts = NodeFacts {
            pod_cidrs: strings(object.pointer("/spec/podCIDRs")),
            addresses: internal
                .filter_map(|address| address.get("address")?.as_str())
                .map(str::to_owned)
                .collect(),
        };
        all.insert(name.to_owned(), facts);
    }
    all
}
