//! Fields of objects by their path.

use serde_json::{Map, Value};

/// The text at a JSON pointer; empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

/// Puts `value` at a path like `/metadata/name`; what is on the way and no object becomes one.
pub(crate) fn set(object: &mut Value, path: &str, value: impl Into<Value>) {
    let mut at = object;
    for field in path.split('/').skip(1) {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Some(fields) = at.as_object_mut() else {
            return;
        };
        at = fields.entry(field).or_insert(Value::Null);
    }
    *at = value.into();
}

/// Takes a field of the object away.
pub(crate) fn remove(object: &mut Value, field: &str) -> Option<Value> {
    object.as_object_mut()?.remove(field)
}
