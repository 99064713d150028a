//! A YAML or JSON document as a tree in which every value knows its line and column.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// Where a value stands in its file; both from 1. 0 is "unknown".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

/// A value and where it stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tree {
    pub(crate) at: Place,
    pub(crate) value: Value,
}

/// What a value is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Value {
    #[default]
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(Key, Tree)>),
}

/// The key of a mapping and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) at: Place,
    pub(crate) name: String,
}

/// A text that is no YAML (or JSON) at all.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Broken {
    pub(crate) at: Place,
    pub(crate) message: String,
}

/// The documents of a file. Empty ones (a leading or trailing `---`) are left out.
pub(crate) fn read(text: &str) -> Result<Vec<Tree>, Broken> {
    // Files may hold a whole cluster; what protects against alias bombs are the limits on aliases, which stay.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 100_000_000,
            max_nodes: 50_000_000,
            max_documents: 1_000_000,
            max_total_scalar_bytes: 1 << 30,
        },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    let documents: Vec<Spanned<Value>> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| Broken {
            at: error.location().map(Place::from).unwrap_or_default(),
            message: without_place(&error.without_snippet().to_string()),
        })?;
    Ok(documents
        .into_iter()
        .map(Tree::from)
        .filter(|tree| tree.value != Value::Null)
        .collect())
}

/// The parser ends its message with the place, which we say first.
fn without_place(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let end = message.find(" at line ").unwrap_or(message.len());
    let first = message.get(..end).unwrap_or(message);
    first.lines().next().unwrap_or(first).trim().to_owned()
}

impl Tree {
    /// The value under `key`, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|(name, _)| name.name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text under `key`.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where `path` (`spec.rules[2].match`) stands, or as much of it as there is.
    pub(crate) fn place(&self, path: &str) -> Place {
        let mut here = self;
        for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
            let next = match &here.value {
                Value::List(items) => step.parse().ok().and_then(|i: usize| items.get(i)),
                _ => here.get(step),
            };
            match next {
                Some(next) => here = next,
                None => break,
            }
        }
        here.at
    }
}

impl Value {
    /// What it is, in the words of an error message.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::Unsigned(value) => format!("the number {value}"),
            Self::Signed(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Text(text) => format!("the text {text:?}"),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "an object".into(),
        }
    }
}

impl From<serde_saphyr::Location> for Place {
    fn from(location: serde_saphyr::Location) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
        }
    }
}

impl From<Spanned<Value>> for Tree {
    fn from(spanned: Spanned<Value>) -> Self {
        Self {
            at: spanned.referenced.into(),
            value: spanned.value,
        }
    }
}

/// A tree that stands in no file.
impl From<serde_json::Value> for Tree {
    fn from(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(value),
            Json::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => Value::Unsigned(value),
                (_, Some(value)) => Value::Signed(value),
                _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text),
            Json::Array(items) => Value::List(items.into_iter().map(Self::from).collect()),
            Json::Object(fields) => Value::Map(
                fields
                    .into_iter()
                    .map(|(name, value)| {
                        let at = Place::default();
                        (Key { at, name }, Self::from(value))
                    })
                    .collect(),
            ),
        };
        Self {
            at: Place::default(),
            value,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Signed(value), Value::Unsigned))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(item.into());
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let value = entries.next_value::<Spanned<Value>>()?;
            let key = Key {
                at: key.referenced.into(),
                name: key.value,
            };
            map.push((key, value.into()));
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line_and_column() {
        let documents =
            read("---\na: 1\nb:\n  c: [x, {d: true}]\n---\n---\n{\"e\": null}\n").unwrap();
        assert_eq!(documents.len(), 2);
        let first = &documents[0];
        assert_eq!(first.place("a"), Place { line: 2, column: 4 });
        assert_eq!(
            first.place("b.c[1].d"),
            Place {
                line: 4,
                column: 14
            }
        );
        assert_eq!(first.get("a").unwrap().value, Value::Unsigned(1));
        assert_eq!(documents[1].get("e").unwrap().value, Value::Null);
    }

    #[test]
    fn a_place_that_is_not_there_is_that_of_what_should_hold_it() {
        let documents = read("spec:\n  x: 1\n").unwrap();
        assert_eq!(documents[0].place("spec.y.z"), documents[0].place("spec"));
    }

    #[test]
    fn a_text_that_is_no_yaml_says_where() {
        let broken = read("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(broken.at.line >= 2, "{broken:?}");
        assert!(!broken.message.contains('\n'), "{broken:?}");
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        assert!(
            read("a: 1\na: 2\n")
                .unwrap_err()
                .message
                .contains("duplicate")
        );
    }

    #[test]
    fn json_with_tabs_is_read_too() {
        assert_eq!(read("{\n\t\"a\": [\n\t\t1\n\t]\n}\n").unwrap().len(), 1);
    }

    #[test]
    fn communities_versions_and_words_stay_text() {
        let documents = read("a: [65000:100, 1_000, 0755, yes, \"5\"]\n").unwrap();
        let Value::List(items) = &documents[0].get("a").unwrap().value else {
            panic!("a list")
        };
        assert!(
            items
                .iter()
                .all(|item| matches!(item.value, Value::Text(_))),
            "{items:?}"
        );
    }
}
