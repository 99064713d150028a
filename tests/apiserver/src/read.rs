//! Reading: one object, a page of a list, what a watch tells, discovery documents.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    field::set,
    kind::Kind,
    query::{Query, Selectors},
    refusal::Refusal,
    store::{Change, Store},
    target::Target,
};

/// A watch that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) kind: Kind,
    namespace: String,
    selectors: Selectors,
    /// What was told already; none where all that is there comes first.
    pub(crate) told: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) timeout: Option<Duration>,
}

impl Watch {
    pub(crate) fn new(kind: Kind, namespace: &str, query: Query) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            selectors: query.selectors,
            told: query.version.filter(|version| *version > 0),
            bookmarks: query.bookmarks,
            timeout: query.timeout,
        }
    }

    /// What is to be told now.
    pub(crate) fn events(&mut self, store: &Store) -> Result<Vec<Value>, Refusal> {
        let events = match self.told {
            None => store
                .of(&self.kind.resource(), &self.namespace)
                .filter(|(_, object)| self.selectors.choose(object))
                .map(|(_, object)| event("ADDED", object))
                .collect(),
            Some(version) => store
                .since(version)?
                .filter_map(|change| self.event(change))
                .collect(),
        };
        self.told = Some(store.version());
        Ok(events)
    }

    /// An object that a selector does not choose any more is gone, for those who asked by it.
    fn event(&self, change: &Change) -> Option<Value> {
        let inside = self.namespace.is_empty() || self.namespace == change.key.namespace;
        if change.key.resource != self.kind.resource() || !inside {
            return None;
        }
        let chosen = |object: &Option<Value>| {
            let object = object.as_ref()?;
            self.selectors.choose(object).then(|| object.clone())
        };
        match (chosen(&change.before), chosen(&change.after)) {
            (None, Some(after)) => Some(event("ADDED", &after)),
            (Some(_), Some(after)) => Some(event("MODIFIED", &after)),
            (Some(mut before), None) => {
                set(
                    &mut before,
                    "/metadata/resourceVersion",
                    change.version.to_string(),
                );
                Some(event("DELETED", &before))
            }
            (None, None) => None,
        }
    }

    /// How far it has come, for those who asked to be told.
    pub(crate) fn bookmark(&self) -> Value {
        let version = self.told.unwrap_or_default().to_string();
        let object = json!({
            "kind": self.kind.kind, "apiVersion": self.kind.api_version(),
            "metadata": {"resourceVersion": version, "creationTimestamp": null},
        });
        event("BOOKMARK", &object)
    }
}

fn event(type_: &str, object: &Value) -> Value {
    json!({"type": type_, "object": object})
}

/// How a watch ends that cannot go on.
pub(crate) fn error_event(refusal: &Refusal) -> Value {
    event("ERROR", &refusal.status())
}

/// What of an object is asked for.
pub(crate) fn only_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata"),
    })
}

/// A page of a list. What it goes on with is the last name it has.
pub(crate) fn list(
    store: &Store,
    kind: &Kind,
    namespace: &str,
    query: &Query,
) -> Result<Value, Refusal> {
    let after = query.token.as_deref().map(last_of_page).transpose()?;
    let place = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
    let resource = kind.resource();
    let mut chosen = store
        .of(&resource, namespace)
        .filter(|(key, _)| {
            let here = place(&key.namespace, &key.name);
            after.as_ref().is_none_or(|after| here > *after)
        })
        .filter(|(_, object)| query.selectors.choose(object));
    let limit = if query.limit == 0 {
        usize::MAX
    } else {
        query.limit
    };
    let page: Vec<_> = chosen.by_ref().take(limit).collect();
    let left = chosen.count();
    let mut metadata = json!({"resourceVersion": store.version().to_string()});
    if let (Some((last, _)), true) = (page.last(), left > 0) {
        let place = format!("{}/{}", last.namespace, last.name);
        set(&mut metadata, "/continue", place);
        if query.selectors == Selectors::default() {
            set(&mut metadata, "/remainingItemCount", left);
        }
    }
    // An object of a custom kind says what it is in a list, too.
    let item = |object: &Value| {
        let mut object = object.clone();
        if let (false, Some(fields)) = (kind.custom, object.as_object_mut()) {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        object
    };
    let items: Vec<Value> = page.iter().map(|(_, object)| item(object)).collect();
    Ok(json!({
        "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(), "metadata": metadata, "items": items,
    }))
}

fn last_of_page(token: &str) -> Result<(String, String), Refusal> {
    let wrong = || Refusal::bad_request("continue key is not valid");
    let (namespace, name) = token.split_once('/').ok_or_else(wrong)?;
    Ok((namespace.to_owned(), name.to_owned()))
}

/// The kinds of a group.
pub(crate) fn discovery(store: &Store, target: &Target<'_>) -> Result<Value, Refusal> {
    let is_in = |kind: &&Kind| {
        (kind.group.as_str(), kind.version.as_str()) == (target.group, target.version)
    };
    let resources: Vec<Value> = store
        .kinds()
        .iter()
        .filter(is_in)
        .flat_map(Kind::discovery)
        .collect();
    if resources.is_empty() {
        return Err(Refusal::no_such_resource());
    }
    let version = [target.group, target.version].join("/");
    Ok(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version.trim_start_matches('/'), "resources": resources,
    }))
}
