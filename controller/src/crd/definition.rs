//! Our kinds as CustomResourceDefinitions: what `routelet crds` prints and `deploy/crds.yaml` holds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    BGPAdvertisementSpec, BGPConfigurationSpec, BGPNodeSpec, BGPPolicySpec,
    advertisement::BGPAdvertisement, configuration::BGPConfiguration, node::BGPNode, peer::BGPPeer,
    policy::BGPPolicy,
};

/// Longest list, where the field says nothing else: CEL rules on its items must have a bounded cost.
const ITEMS: u32 = 128;
/// Longest text, where the field says nothing else.
const LETTERS: u32 = 253;

/// All of them, in the order in which an operator meets them.
pub(crate) fn all() -> serde_json::Result<Vec<Value>> {
    Ok(vec![
        finish(&BGPConfiguration::crd(), default::<BGPConfigurationSpec>()?)?,
        finish(&BGPNode::crd(), default::<BGPNodeSpec>()?)?,
        finish(&BGPPeer::crd(), None)?,
        finish(&BGPPolicy::crd(), default::<BGPPolicySpec>()?)?,
        finish(&BGPAdvertisement::crd(), default::<BGPAdvertisementSpec>()?)?,
    ])
}

/// What an object without `spec` means. It is written out, since rules are checked on it as it stands.
fn default<S: Default + Serialize>() -> serde_json::Result<Option<Value>> {
    serde_json::to_value(S::default()).map(Some)
}

/// All of them as one YAML text.
pub(crate) fn yaml() -> anyhow::Result<String> {
    let mut text = String::new();
    for definition in all()? {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition)?);
    }
    Ok(text)
}

/// Makes the generated definition one that an API server takes without a warning.
fn finish(
    definition: &CustomResourceDefinition,
    default: Option<Value>,
) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(definition)?;
    let versions = value
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") else {
            continue;
        };
        if let Some(status) = schema.pointer_mut("/properties/status") {
            walk(status, &mut tidy);
        }
        if let Some(fields) = schema.pointer_mut("/properties/spec") {
            walk(fields, &mut |schema| {
                tidy(schema);
                bound(schema);
            });
            if let (Some(default), Some(fields)) = (&default, fields.as_object_mut()) {
                fields.insert("default".into(), default.clone());
            }
        }
        if let (Some(_), Some(schema)) = (&default, schema.as_object_mut()) {
            schema.remove("required");
        }
    }
    if let Some(value) = value.as_object_mut() {
        value.remove("status");
    }
    Ok(value)
}

/// Visits a schema and all that it is made of.
fn walk(schema: &mut Value, visit: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    visit(schema);
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            walk(inner, visit);
        }
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (_, property) in properties.into_iter().flatten() {
        walk(property, visit);
    }
}

fn tidy(schema: &mut Map<String, Value>) {
    // A null counts as absent: the API server drops it where it is not allowed.
    schema.remove("nullable");
    // It knows no unsigned formats; 64 bits hold all that 32 unsigned ones do.
    let unsigned = |value: &Value| {
        value
            .as_str()
            .is_some_and(|format| format.starts_with("uint"))
    };
    if schema.get("format").is_some_and(unsigned) {
        if schema.get("format") == Some(&json!("uint32")) {
            schema.entry("maximum").or_insert(json!(u32::MAX));
        }
        schema.insert("format".into(), json!("int64"));
    }
    // `kubectl explain` breaks lines by itself.
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    whole(schema);
}

/// Bounds are whole numbers, however they were computed.
fn whole(schema: &mut Map<String, Value>) {
    for bound in ["minimum", "maximum"] {
        if let Some(value) = schema.get_mut(bound)
            && let Some(number) = value.as_f64()
            && number.fract() == 0.0
            && let Ok(number) = format!("{number:.0}").parse::<i64>()
        {
            *value = json!(number);
        }
    }
}

fn bound(schema: &mut Map<String, Value>) {
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => {
            schema.entry("maxItems").or_insert(json!(ITEMS));
        }
        Some("string") if !schema.contains_key("enum") => {
            schema.entry("maxLength").or_insert(json!(LETTERS));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_committed_file_is_what_the_types_say() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds.yaml");
        let committed = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            committed == yaml().unwrap(),
            "deploy/crds.yaml is out of date: `just crds` writes it anew"
        );
    }

    #[test]
    fn every_kind_is_there_with_a_short_name_and_columns() {
        let all = all().unwrap();
        let mut kinds: Vec<&str> = all
            .iter()
            .filter_map(|crd| crd.pointer("/spec/names/kind")?.as_str())
            .collect();
        kinds.sort_unstable();
        let mut known = super::super::KINDS;
        known.sort_unstable();
        assert_eq!(kinds, known);
        for crd in &all {
            assert_eq!(crd["spec"]["scope"], "Cluster");
            assert!(crd["spec"]["names"]["shortNames"][0].is_string());
            let columns = &crd["spec"]["versions"][0]["additionalPrinterColumns"];
            assert!(columns.as_array().is_some_and(|columns| columns.len() > 1));
        }
    }

    /// Every field is explained, and nothing is in it that a structural schema must not have.
    #[test]
    fn every_field_is_explained_and_structural() {
        for crd in &mut all().unwrap() {
            let kind = crd["spec"]["names"]["kind"].clone();
            let schema = crd
                .pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
                .unwrap();
            walk(schema, &mut |schema| {
                for forbidden in ["$ref", "nullable", "oneOf", "anyOf", "allOf", "definitions"] {
                    assert!(
                        !schema.contains_key(forbidden),
                        "{kind}: {forbidden}: {schema:?}"
                    );
                }
                assert!(
                    schema.contains_key("type")
                        || schema.contains_key("x-kubernetes-int-or-string"),
                    "{kind}: {schema:?}"
                );
                let fields = schema.get("properties").and_then(Value::as_object);
                for (name, field) in fields.into_iter().flatten() {
                    let named = field.get("description").is_some();
                    assert!(
                        named || name == "metadata",
                        "{kind}: {name} has no description"
                    );
                }
            });
        }
    }
}
