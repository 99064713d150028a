//! From a [`Tree`] to Rust values, with errors that say where, what and what instead.

use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, Expected, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor, value::StrDeserializer,
};

use super::{
    document::{Key, Place, Tree, Value},
    suggest::nearest,
};

/// Something in an object that is not as it should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// Where it stands.
    pub(crate) at: Place,
    /// The field, from the root of the object (`spec.timers.holdSeconds`).
    pub(crate) path: String,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

/// Reads a value of type `T` out of a tree. A field that is null counts as absent, as the API server has it.
pub(crate) fn decode<T: DeserializeOwned>(tree: &Tree) -> Result<T, Fault> {
    T::deserialize(tree).map_err(|fault| fault.or_at(tree.at))
}

impl Fault {
    fn or_at(mut self, at: Place) -> Self {
        if self.at == Place::default() {
            self.at = at;
        }
        self
    }

    fn under(mut self, step: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => step.to_owned(),
            path if path.starts_with('[') => format!("{step}{path}"),
            path => format!("{step}.{path}"),
        };
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            at: Place::default(),
            path: String::new(),
            message: message.to_string(),
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(choose("unknown field", field, expected))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(choose("unknown value", variant, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("the field {field} is required"))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {expected}, found {found}"))
    }
}

fn choose(what: &str, given: &str, known: &[&str]) -> String {
    match nearest(given, known) {
        Some(best) => format!("{what} {given:?}; did you mean {best:?}?"),
        None => format!("{what} {given:?}; known are {}", known.join(", ")),
    }
}

impl Tree {
    /// The error for a value of another kind than the one asked for.
    fn mismatch(&self, expected: &dyn Expected) -> Fault {
        let hint = match &self.value {
            Value::Bool(_) | Value::Unsigned(_) | Value::Signed(_) | Value::Float(_)
                if expected.to_string().contains("string")
                    || expected.to_string().contains("str") =>
            {
                "; put quotes around it"
            }
            _ => "",
        };
        let expected = expected.to_string();
        let expected = match expected.strip_prefix("struct ") {
            Some(_) => "an object".to_owned(),
            None => expected
                .replace("a string", "a text")
                .replace("a sequence", "a list"),
        };
        Fault {
            at: self.at,
            path: String::new(),
            message: format!("expected {expected}, found {}{hint}", self.value.describe()),
        }
    }
}

/// `visit_*` methods of the other kinds give serde's own error; ours is better, so they are never reached from here.
macro_rules! typed {
    ($($method:ident: $($variant:pat => $call:expr),+;)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match &self.value {
                $($variant => {
                    let call: &dyn Fn(V) -> Result<V::Value, Fault> = &$call;
                    call(visitor).map_err(|fault| fault.or_at(self.at))
                })+
                _ => Err(self.mismatch(&visitor)),
            }
        }
    )+};
}

macro_rules! numbers {
    ($($method:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match &self.value {
                Value::Unsigned(value) => visitor.visit_u64(*value),
                Value::Signed(value) => visitor.visit_i64(*value),
                Value::Float(value) => visitor.visit_f64(*value),
                _ => return Err(self.mismatch(&visitor)),
            }
            .map_err(|fault: Fault| fault.or_at(self.at))
        }
    )+};
}

impl<'de> de::Deserializer<'de> for &'de Tree {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Signed(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items::of(items)),
            Value::Map(entries) => visitor.visit_map(Entries::of(entries)),
        }
        .map_err(|fault: Fault| fault.or_at(self.at))
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    typed! {
        deserialize_bool: Value::Bool(value) => |visitor| visitor.visit_bool(*value);
        deserialize_char: Value::Text(text) => |visitor| visitor.visit_borrowed_str(text);
        deserialize_str: Value::Text(text) => |visitor| visitor.visit_borrowed_str(text);
        deserialize_string: Value::Text(text) => |visitor| visitor.visit_borrowed_str(text);
        deserialize_bytes: Value::Text(text) => |visitor| visitor.visit_borrowed_str(text);
        deserialize_byte_buf: Value::Text(text) => |visitor| visitor.visit_borrowed_str(text);
        deserialize_identifier: Value::Text(text) => |visitor| visitor.visit_borrowed_str(text);
        deserialize_seq: Value::List(items) => |visitor| visitor.visit_seq(Items::of(items));
        deserialize_map: Value::Map(entries) => |visitor| visitor.visit_map(Entries::of(entries));
        deserialize_unit: Value::Null => |visitor| visitor.visit_unit();
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor
            .visit_newtype_struct(self)
            .map_err(|fault| fault.or_at(self.at))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(text) => visitor
                .visit_enum(Word(text))
                .map_err(|fault| fault.or_at(self.at)),
            other => Err(Fault {
                at: self.at,
                path: String::new(),
                message: format!(
                    "expected one of {}, found {}",
                    variants.join(", "),
                    other.describe()
                ),
            }),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Tree>>,
}

impl<'a> Items<'a> {
    fn of(items: &'a [Tree]) -> Self {
        Self {
            items: items.iter().enumerate(),
        }
    }
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    /// Exact, so that a list takes no more room than it has items: of a thousand peers each has two with one rule.
    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        self.items
            .next()
            .map(|(i, item)| {
                seed.deserialize(item)
                    .map_err(|fault| fault.or_at(item.at).under(&format!("[{i}]")))
            })
            .transpose()
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (Key, Tree)>,
    current: Option<(&'a Key, &'a Tree)>,
}

impl<'a> Entries<'a> {
    fn of(entries: &'a [(Key, Tree)]) -> Self {
        Self {
            entries: entries.iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self
            .entries
            .by_ref()
            .find(|(_, value)| value.value != Value::Null)
        else {
            return Ok(None);
        };
        self.current = Some((key, value));
        seed.deserialize(StrDeserializer::<Fault>::new(&key.name))
            .map(Some)
            .map_err(|fault| fault.or_at(key.at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, value) = self
            .current
            .take()
            .ok_or_else(|| de::Error::custom("a value was asked for before its key"))?;
        seed.deserialize(value)
            .map_err(|fault| fault.or_at(value.at).under(&key.name))
    }
}

/// A unit variant given as a word.
struct Word<'a>(&'a str);

impl<'de> EnumAccess<'de> for Word<'de> {
    type Error = Fault;
    type Variant = Unit;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Unit), Fault> {
        let variant = seed.deserialize(StrDeserializer::<Fault>::new(self.0))?;
        Ok((variant, Unit))
    }
}

struct Unit;

impl<'de> VariantAccess<'de> for Unit {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Fault> {
        Err(de::Error::custom("expected an object"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(de::Error::custom("expected a list"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fault> {
        Err(de::Error::custom("expected an object"))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{super::document::read, *};

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
    struct Spec {
        peer_address: Option<std::net::IpAddr>,
        hold_seconds: u16,
        mode: Option<Mode>,
        names: Vec<String>,
    }

    #[derive(Debug, Deserialize)]
    enum Mode {
        Mesh,
        External,
    }

    fn fault(yaml: &str) -> String {
        let tree = read(yaml).unwrap().remove(0);
        let fault = decode::<Spec>(&tree).unwrap_err();
        format!("{}:{} {fault}", fault.at.line, fault.at.column)
    }

    #[test]
    fn a_misspelt_field_is_told_with_its_place_and_the_nearest_name() {
        assert_eq!(
            fault("holdSeconds: 3\npeerAdress: 10.0.0.1\n"),
            "2:1 unknown field \"peerAdress\"; did you mean \"peerAddress\"?"
        );
    }

    #[test]
    fn a_field_like_no_other_is_told_with_all_there_are() {
        assert_eq!(
            fault("zzz: 3\n"),
            "1:1 unknown field \"zzz\"; known are peerAddress, holdSeconds, mode, names"
        );
    }

    #[test]
    fn a_value_of_another_kind_says_what_was_expected() {
        assert_eq!(
            fault("names: [a, 5]\n"),
            "1:12 names[1]: expected a text, found the number 5; put quotes around it"
        );
        assert_eq!(
            fault("holdSeconds: soon\n"),
            "1:14 holdSeconds: expected u16, found the text \"soon\""
        );
        assert_eq!(
            fault("names: 5\n"),
            "1:8 names: expected a list, found the number 5"
        );
    }

    #[test]
    fn a_number_out_of_range_is_refused() {
        assert!(fault("holdSeconds: 70000\n").starts_with("1:14 holdSeconds: "));
    }

    #[test]
    fn a_bad_address_is_refused_where_it_stands() {
        assert_eq!(
            fault("peerAddress: 10.0.0.256\n"),
            "1:14 peerAddress: invalid IP address syntax"
        );
    }

    #[test]
    fn an_unknown_word_is_told_with_the_nearest() {
        assert_eq!(
            fault("mode: mesh\n"),
            "1:7 mode: unknown value \"mesh\"; did you mean \"Mesh\"?"
        );
    }

    #[test]
    fn null_counts_as_absent() {
        let tree = read("{names: null, mode: null, holdSeconds: null}")
            .unwrap()
            .remove(0);
        assert!(decode::<Spec>(&tree).unwrap().names.is_empty());
    }
}
