//! Server-side apply: whoever applies owns what he says, and what he does not say any more goes.

use serde_json::{Map, Value, json};

use crate::{
    field::set,
    merge::{has_key, keys, strategic},
};

/// Who applies what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applier<'a> {
    pub(crate) manager: &'a str,
    /// `status`; empty: the object.
    pub(crate) part: &'a str,
    pub(crate) time: &'a str,
}

impl Applier<'_> {
    /// The object once `wanted` was applied to it. Fields that others have are taken over.
    pub(crate) fn apply(&self, object: &Value, wanted: &Value) -> Value {
        let mut wanted = wanted.clone();
        if let Some(fields) = wanted.as_object_mut() {
            fields.retain(|name, _| {
                (name == "status") == (self.part == "status") || name == "metadata"
            });
        }
        let owned = owned(&wanted, "");
        let (own, mut others) = self.owners(object);
        let mut result = object.clone();
        let before = own.and_then(|entry| entry.get("fieldsV1").cloned());
        let mut kept = owned.clone();
        for other in &others {
            strategic(&mut kept, other.get("fieldsV1").unwrap_or(&Value::Null), "");
        }
        disown(&mut result, &before.unwrap_or_default(), &kept, "");
        strategic(&mut result, &wanted, "");

        let mut entry = json!({
            "manager": self.manager, "operation": "Apply", "apiVersion": object.get("apiVersion"),
            "time": self.time, "fieldsType": "FieldsV1", "fieldsV1": owned,
        });
        if !self.part.is_empty() {
            set(&mut entry, "/subresource", self.part);
        }
        others.push(entry);
        set(&mut result, "/metadata/managedFields", others);
        result
    }

    /// What this one applied before, and what others did.
    fn owners(&self, object: &Value) -> (Option<Value>, Vec<Value>) {
        let entries = object.pointer("/metadata/managedFields");
        let entries = entries.and_then(Value::as_array).cloned();
        let is_own = |entry: &Value| {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
            text("manager") == self.manager && text("subresource") == self.part
        };
        let (own, others): (Vec<_>, Vec<_>) =
            entries.unwrap_or_default().into_iter().partition(is_own);
        (own.into_iter().next(), others)
    }
}

/// The set of fields of a value, as managedFields have it: `f:` and a name, `k:` and the key of an item.
fn owned(value: &Value, name: &str) -> Value {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let named =
                |(name, value): (&String, &Value)| (format!("f:{name}"), owned(value, name));
            Value::Object(fields.iter().map(named).collect())
        }
        Value::Array(items) => {
            let Some(keys) = keys(name, items).filter(|keys| !keys.is_empty()) else {
                return json!({});
            };
            let keyed = keys
                .into_iter()
                .zip(items)
                .map(|(key, item)| (format!("k:{}", Value::Object(key)), owned(item, "")));
            Value::Object(keyed.collect())
        }
        _ => json!({}),
    }
}

/// Takes away what is in the set `before` and not in the set `kept`.
fn disown(value: &mut Value, before: &Value, kept: &Value, name: &str) {
    let Some(before) = before.as_object() else {
        return;
    };
    for (field, below) in before {
        let still = kept.get(field);
        if let (Some(field), Some(fields)) = (field.strip_prefix("f:"), value.as_object_mut()) {
            // A name is no affair of appliers.
            if name == "metadata" && ["name", "namespace"].contains(&field) {
                continue;
            }
            let Some(inner) = fields.get_mut(field) else {
                continue;
            };
            disown(inner, below, still.unwrap_or(&Value::Null), field);
            let leaf = below.as_object().is_none_or(Map::is_empty);
            if still.is_none() && (leaf || is_empty(inner)) {
                fields.remove(field);
            }
        } else if let (Some(key), Some(items)) = (field.strip_prefix("k:"), value.as_array_mut())
            && still.is_none()
        {
            let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
            items.retain(|item| !has_key(item, &key));
        } else if let (Some(key), Some(items)) = (field.strip_prefix("k:"), value.as_array_mut()) {
            let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
            for item in items.iter_mut().filter(|item| has_key(item, &key)) {
                disown(item, below, still.unwrap_or(&Value::Null), "");
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Applier;

    fn apply(object: &Value, manager: &str, wanted: &Value) -> Value {
        let applier = Applier {
            manager,
            part: "status",
            time: "",
        };
        applier.apply(object, wanted)
    }

    #[test]
    fn what_is_not_said_any_more_goes_and_what_others_said_stays() {
        let object = json!({"metadata": {"name": "n1"}, "spec": {"a": 1}});
        let ready = json!({"type": "Ready", "status": "True"});
        let other = json!({"type": "Other", "status": "True"});
        let first = json!({"metadata": {"name": "n1"}, "status": {"conditions": [ready], "fib": {"installed": 2}, "version": "1"}});
        let object = apply(&object, "one", &first);
        let object = apply(
            &object,
            "two",
            &json!({"status": {"conditions": [other], "version": "1"}}),
        );
        assert_eq!(object["status"]["conditions"], json!([ready, other]));
        let object = apply(&object, "one", &json!({"status": {"conditions": []}}));
        assert_eq!(
            object["status"],
            json!({"conditions": [other], "version": "1"})
        );
        assert_eq!(object["metadata"]["name"], "n1");
        assert_eq!(object["spec"], json!({"a": 1}));
    }
}
