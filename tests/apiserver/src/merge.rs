//! Patches: what an object is once one was applied to it.

use json_patch::Patch;
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// The kinds of patches, by the media type of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
    /// Lists of what has a key are merged by it.
    Strategic,
    /// Server-side apply.
    Apply,
}

impl Format {
    pub(crate) fn of(media_type: &str) -> Option<Self> {
        let bare = media_type.split(';').next()?.trim();
        Some(match bare {
            "application/merge-patch+json" => Self::Merge,
            "application/json-patch+json" => Self::Json,
            "application/strategic-merge-patch+json" => Self::Strategic,
            "application/apply-patch+yaml" => Self::Apply,
            _ => return None,
        })
    }
}

/// The fields that tell the items of a list apart, by the name of the list. Any other list is one value.
const KEYS: [(&str, &[&str]); 6] = [
    ("conditions", &["type"]),
    ("peers", &["name"]),
    ("ownerReferences", &["uid"]),
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("volumes", &["name"]),
];

/// The key of every item, if this is a list whose items have one.
pub(crate) fn keys(list: &str, items: &[Value]) -> Option<Vec<Map<String, Value>>> {
    let (_, names) = KEYS.iter().find(|(name, _)| *name == list)?;
    let key = |item: &Value| {
        let item = item.as_object()?;
        names
            .iter()
            .map(|name| Some(((*name).to_owned(), item.get(*name)?.clone())))
            .collect::<Option<Map<_, _>>>()
    };
    items.iter().map(key).collect()
}

/// Is that the item with this key?
pub(crate) fn has_key(item: &Value, key: &Map<String, Value>) -> bool {
    key.iter()
        .all(|(name, value)| item.get(name) == Some(value))
}

/// Puts `from`, a field of that name, into `into`: member by member, lists with keys item by item; null takes away.
pub(crate) fn strategic(into: &mut Value, from: &Value, name: &str) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (field, value) in from {
                // How the client would like a list to be sorted.
                if field.starts_with('$') {
                    continue;
                }
                if value.is_null() {
                    into.remove(field);
                } else {
                    strategic(into.entry(field).or_insert(Value::Null), value, field);
                }
            }
        }
        (Value::Array(into), Value::Array(from)) if keys(name, from).is_some() => {
            for (item, key) in from.iter().zip(keys(name, from).unwrap_or_default()) {
                match into.iter_mut().find(|known| has_key(known, &key)) {
                    Some(known) => strategic(known, item, ""),
                    None => into.push(item.clone()),
                }
            }
        }
        (into, Value::Object(_)) => {
            *into = Value::Object(Map::new());
            strategic(into, from, name);
        }
        (into, from) => *into = from.clone(),
    }
}

/// The object after a JSON patch.
pub(crate) fn json(object: &Value, patch: Value) -> Result<Value, Refusal> {
    let steps: Patch = serde_json::from_value(patch)
        .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))?;
    let mut object = object.clone();
    json_patch::patch(&mut object, &steps).map_err(|error| Refusal {
        code: 422,
        reason: "Invalid",
        message: format!("the server rejected our request due to an error in our request: {error}"),
    })?;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn conditions_are_merged_by_type_and_other_lists_replaced() {
        let mut object = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [1, 2]}});
        let patch = json!({"status": {
            "conditions": [{"type": "NetworkUnavailable", "status": "False"}, {"type": "Ready", "status": "False"}],
            "addresses": [3],
        }});
        super::strategic(&mut object, &patch, "");
        assert_eq!(
            object,
            json!({"status": {
                "conditions": [{"type": "Ready", "status": "False"}, {"type": "NetworkUnavailable", "status": "False"}],
                "addresses": [3],
            }})
        );
    }
}
