//! What stands behind the question mark, and whom its selectors choose.

use std::time::Duration;

use serde_json::Value;

use crate::refusal::Refusal;

/// How a request wants to be understood.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) watch: bool,
    pub(crate) bookmarks: bool,
    pub(crate) version: Option<u64>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) limit: usize,
    pub(crate) token: Option<String>,
    pub(crate) selectors: Selectors,
    pub(crate) dry_run: bool,
    pub(crate) manager: Option<String>,
}

impl Query {
    pub(crate) fn read(text: &str) -> Result<Self, Refusal> {
        let mut query = Self::default();
        let number = |key: &str, value: &str| {
            let wrong = |_| Refusal::bad_request(format!("{key}: {value} is no number"));
            value.parse::<u64>().map_err(wrong)
        };
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            match key.as_ref() {
                "watch" => query.watch = ["true", "1"].contains(&value.as_ref()),
                "allowWatchBookmarks" => query.bookmarks = value == "true",
                "resourceVersion" if value.is_empty() => {}
                "resourceVersion" => query.version = Some(number(&key, &value)?),
                "timeoutSeconds" => {
                    query.timeout = Some(Duration::from_secs(number(&key, &value)?));
                }
                "limit" => query.limit = usize::try_from(number(&key, &value)?).unwrap_or(0),
                "continue" => query.token = Some(value.into_owned()),
                "labelSelector" => query.selectors.labels = terms(&value, label)?,
                "fieldSelector" => query.selectors.fields = terms(&value, field)?,
                "dryRun" => query.dry_run = true,
                "fieldManager" => query.manager = Some(value.into_owned()),
                _ => {}
            }
        }
        Ok(query)
    }
}

/// Chooses objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selectors {
    labels: Vec<(String, Wish)>,
    fields: Vec<(String, Wish)>,
}

/// What a label or field must be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Wish {
    fn holds(&self, value: Option<&str>) -> bool {
        let is_in = |all: &[String]| value.is_some_and(|value| all.iter().any(|one| one == value));
        match self {
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::In(all) => is_in(all),
            Self::NotIn(all) => !is_in(all),
        }
    }
}

impl Selectors {
    pub(crate) fn choose(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        let label = |key: &str| labels?.get(key)?.as_str();
        // A field that is not there is empty.
        let field = |path: &str| {
            let found = object.pointer(&format!("/{}", path.replace('.', "/")));
            Some(found.and_then(Value::as_str).unwrap_or_default())
        };
        self.labels.iter().all(|(key, wish)| wish.holds(label(key)))
            && self.fields.iter().all(|(key, wish)| wish.holds(field(key)))
    }
}

/// The terms of a selector: commas separate them, but not inside parentheses.
fn terms(
    text: &str,
    read: impl Fn(&str) -> Option<(String, Wish)>,
) -> Result<Vec<(String, Wish)>, Refusal> {
    let mut depth = 0;
    let parts = text.split(|letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        letter == ',' && depth == 0
    });
    let read = |term: &str| {
        let wrong = || Refusal::bad_request(format!("unable to parse requirement: {term}"));
        read(term).ok_or_else(wrong)
    };
    let parts = parts.map(str::trim).filter(|term| !term.is_empty());
    parts.map(read).collect()
}

fn comparison(term: &str) -> Option<(String, Wish)> {
    let one = |value: &str| vec![value.trim().to_owned()];
    let (key, wish) = if let Some((key, value)) = term.split_once("!=") {
        (key, Wish::NotIn(one(value)))
    } else if let Some((key, value)) = term.split_once("==") {
        (key, Wish::In(one(value)))
    } else {
        let (key, value) = term.split_once('=')?;
        (key, Wish::In(one(value)))
    };
    Some((key.trim().to_owned(), wish))
}

fn label(term: &str) -> Option<(String, Wish)> {
    if let Some((before, rest)) = term.split_once('(') {
        let all = rest.strip_suffix(')')?.split(',');
        let all = all.map(|value| value.trim().to_owned()).collect();
        let (key, word) = before.trim().split_once(' ')?;
        let wish = match word.trim() {
            "in" => Wish::In(all),
            "notin" => Wish::NotIn(all),
            _ => return None,
        };
        return Some((key.to_owned(), wish));
    }
    let bare = || match term.strip_prefix('!') {
        Some(key) => (key.to_owned(), Wish::Absent),
        None => (term.to_owned(), Wish::Exists),
    };
    Some(comparison(term).unwrap_or_else(bare))
}

/// The fields that may be asked for, of whatever kind.
const FIELDS: [&str; 4] = [
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "spec.unschedulable",
];

fn field(term: &str) -> Option<(String, Wish)> {
    comparison(term).filter(|(key, _)| FIELDS.contains(&key.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Query;

    fn chooses(query: &str, object: &serde_json::Value) -> bool {
        Query::read(query).unwrap().selectors.choose(object)
    }

    #[test]
    fn selectors_choose_by_labels_and_fields() {
        let object = json!({"metadata": {"name": "n1", "labels": {"rack": "r1"}}});
        for query in [
            "labelSelector=rack%3Dr1",
            "labelSelector=rack",
            "labelSelector=!zone",
            "labelSelector=rack%20in%20(r1,r2),rack!%3Dr3",
            "fieldSelector=metadata.name%3Dn1",
        ] {
            assert!(chooses(query, &object), "{query}");
        }
        for query in [
            "labelSelector=rack%3Dr2",
            "labelSelector=zone",
            "labelSelector=rack%20notin%20(r1)",
            "fieldSelector=metadata.name!%3Dn1",
        ] {
            assert!(!chooses(query, &object), "{query}");
        }
        assert!(Query::read("fieldSelector=spec.colour%3Dred").is_err());
        assert!(Query::read("limit=many").is_err());
    }
}
