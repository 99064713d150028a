//! Objects by the API server's own words: where they belong, and whether it would store them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Answer, ControlPlane};
use crate::manifest::{documents, objects};

/// An object as somebody wrote it, and where.
#[derive(Debug, Clone)]
pub struct Written {
    /// The file.
    pub file: PathBuf,
    /// The object.
    pub object: Value,
}

impl ControlPlane<'_> {
    /// Would it be stored? Nothing is; a field that nobody knows is a mistake. None where the API server does not know the kind.
    pub fn try_out(&self, object: &Value) -> Result<Option<Answer>> {
        let Some(collection) = self.collection(object)? else {
            return Ok(None);
        };
        let path = format!("{collection}?dryRun=All&fieldValidation=Strict");
        self.ask("POST", &path, &object.to_string()).map(Some)
    }

    /// The status of a condition of the object at `path`.
    pub fn condition(&self, path: &str, name: &str) -> Result<String> {
        let condition = self.whole_condition(path, name)?;
        let status = condition.get("status").and_then(Value::as_str);
        let status = status.with_context(|| format!("{path}: {condition}"))?;
        Ok(status.to_owned())
    }

    /// Makes a namespace that others are tried out in.
    pub fn make_namespace(&self, name: &str) -> Result<()> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.ask("POST", "/api/v1/namespaces", &object.to_string())
            .map(drop)
    }

    /// The path under which objects of its kind are made.
    pub(super) fn collection(&self, object: &Value) -> Result<Option<String>> {
        let word = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let version = word("/apiVersion").with_context(|| object.to_string())?;
        let root = if version.contains('/') { "apis" } else { "api" };
        let answer = self.ask("GET", &format!("/{root}/{version}"), "")?;
        let known: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let resources = known.pointer("/resources").and_then(Value::as_array);
        let kind = |resource: &&Value| {
            let field = |name: &str| resource.get(name).and_then(Value::as_str);
            field("kind") == word("/kind") && !field("name").unwrap_or("/").contains('/')
        };
        let Some(resource) = resources.into_iter().flatten().find(kind) else {
            return Ok(None);
        };
        let plural = resource.get("name").and_then(Value::as_str);
        let plural = plural.context("a resource has a name")?;
        let namespaced = resource.get("namespaced") == Some(&true.into());
        let inside = match word("/metadata/namespace") {
            Some(name) if namespaced => format!("namespaces/{name}/"),
            None if namespaced => "namespaces/default/".to_owned(),
            _ => String::new(),
        };
        Ok(Some(format!("/{root}/{version}/{inside}{plural}")))
    }
}

/// The objects of the YAML files in a folder of the project and in the folders below it, but for those of a Helm chart.
pub fn in_files(folder: &Path) -> Result<Vec<Written>> {
    let mut all = Vec::new();
    let mut entries = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() && !entry.join("Chart.yaml").exists() {
            all.extend(in_files(&entry)?);
        } else if entry.extension().is_some_and(|end| end == "yaml") {
            let found = objects(&entry)?;
            all.extend(found.into_iter().map(|object| Written {
                file: entry.clone(),
                object,
            }));
        }
    }
    Ok(all)
}

/// The objects of the examples in a page of documentation.
pub fn in_page(page: &Path) -> Result<Vec<Written>> {
    let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let mut all = Vec::new();
    for block in text.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        for object in documents(block).with_context(|| page.display().to_string())? {
            all.push(Written {
                file: page.to_owned(),
                object,
            });
        }
    }
    Ok(all)
}
