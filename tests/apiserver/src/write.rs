//! Writing: what an object becomes when it is made, replaced or patched, and what is refused.

use serde_json::{Value, json};

use crate::{
    apply::Applier,
    defaults,
    field::{remove, set, text},
    kind::{Kind, Status},
    merge::{self, Format},
    refusal::Refusal,
    request::Request,
    store::{Key, Store},
    target::Target,
};

/// Which part of an object a request may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status, where that stands apart.
    Whole,
    /// The status alone.
    Status,
}

/// The object as it was written, and whether it was made just now.
pub(crate) type Written = (Value, bool);

const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// POST: an object that is not there yet.
pub(crate) fn create(
    store: &mut Store,
    kind: &Kind,
    namespace: &str,
    request: &Request<'_>,
    mut object: Value,
) -> Result<Value, Refusal> {
    is_of_kind(kind, &mut object)?;
    if text(&object, "/metadata/name").is_empty() {
        let stem = text(&object, "/metadata/generateName").to_owned();
        if stem.is_empty() {
            let why = "metadata.name: Required value: name or generateName is required";
            return Err(Refusal::invalid(&kind.kind, "", why));
        }
        set(
            &mut object,
            "/metadata/name",
            format!("{stem}{:05x}", store.version() + 1),
        );
    }
    let name = text(&object, "/metadata/name").to_owned();
    if !is_name(&name) {
        let why = format!(
            "metadata.name: Invalid value: \"{name}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
        );
        return Err(Refusal::invalid(&kind.kind, &name, &why));
    }
    let key = Key {
        resource: kind.resource(),
        namespace: namespace.into(),
        name: name.clone(),
    };
    if kind.namespaced {
        let own = text(&object, "/metadata/namespace");
        if !own.is_empty() && own != namespace {
            let why = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Refusal::bad_request(why));
        }
        set(&mut object, "/metadata/namespace", namespace);
        let home = Key {
            resource: "namespaces".into(),
            namespace: String::new(),
            name: namespace.into(),
        };
        if store.get(&home).is_none() {
            return Err(Refusal::not_found("namespaces", namespace));
        }
    }
    if store.get(&key).is_some() {
        return Err(Refusal::exists(&kind.resource(), &name));
    }
    set(&mut object, "/metadata/uid", uid(store));
    set(&mut object, "/metadata/creationTimestamp", request.time());
    if kind.counted {
        set(&mut object, "/metadata/generation", 1);
    }
    if kind.status == Status::Apart {
        remove(&mut object, "status");
    }
    defaults::made(store, kind, &mut object);
    Ok(if request.query.dry_run {
        object
    } else {
        store.commit(key, Some(object))
    })
}

/// What a test puts there, past all rules.
pub(crate) fn put(store: &mut Store, path: &str, mut object: Value) -> Result<(), Refusal> {
    let target = Target::of(path).ok_or_else(Refusal::no_such_resource)?;
    let kind = store.kind(&target)?;
    is_of_kind(&kind, &mut object)?;
    let key = Key::below(store, path, text(&object, "/metadata/name"))?;
    let known = store.get(&key).map(|known| text(known, "/metadata/uid"));
    let uid = known.map_or_else(|| uid(store), str::to_owned);
    set(&mut object, "/metadata/uid", uid);
    store.commit(key, Some(object));
    Ok(())
}

/// One that no object had before.
fn uid(store: &Store) -> String {
    format!("00000000-0000-4000-8000-{:012x}", store.version() + 1)
}

/// PUT: another object in the place of this one.
pub(crate) fn update(
    store: &mut Store,
    kind: &Kind,
    key: Key,
    request: &Request<'_>,
    mut object: Value,
    part: Part,
) -> Result<Value, Refusal> {
    is_of_kind(kind, &mut object)?;
    let old = known(store, kind, &key)?;
    if kind.custom && text(&object, "/metadata/resourceVersion").is_empty() {
        let why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
        return Err(Refusal::invalid(&kind.kind, &key.name, why));
    }
    write(store, kind, key, request, &old, object, part)
}

/// PATCH.
pub(crate) fn patch(
    store: &mut Store,
    kind: &Kind,
    key: Key,
    request: &Request<'_>,
    patch: &Value,
    part: Part,
) -> Result<Written, Refusal> {
    let Some(format) = Format::of(request.media_type) else {
        return Err(Refusal::media_type(request.media_type));
    };
    if format == Format::Apply {
        return apply(store, kind, key, request, patch, part);
    }
    let old = known(store, kind, &key)?;
    let mut object = old.clone();
    match format {
        Format::Json => object = merge::json(&old, patch.clone())?,
        Format::Strategic if kind.custom => return Err(Refusal::media_type(request.media_type)),
        Format::Strategic => merge::strategic(&mut object, patch, ""),
        Format::Merge | Format::Apply => json_patch::merge(&mut object, patch),
    }
    let object = write(store, kind, key, request, &old, object, part)?;
    Ok((object, false))
}

fn apply(
    store: &mut Store,
    kind: &Kind,
    key: Key,
    request: &Request<'_>,
    wanted: &Value,
    part: Part,
) -> Result<Written, Refusal> {
    let Some(manager) = request.query.manager.as_deref() else {
        let why = "fieldManager: Required value: is required for apply patch";
        return Err(Refusal::invalid("PatchOptions.meta.k8s.io", "", why));
    };
    let time = request.time();
    let applier = Applier {
        manager,
        part: if part == Part::Status { "status" } else { "" },
        time: &time,
    };
    match store.get(&key).cloned() {
        Some(old) => {
            let object = applier.apply(&old, wanted);
            let object = write(store, kind, key, request, &old, object, part)?;
            Ok((object, false))
        }
        None if part == Part::Status => Err(Refusal::not_found(&kind.resource(), &key.name)),
        None => {
            let mut object = wanted.clone();
            set(&mut object, "/metadata/name", key.name.as_str());
            let object = applier.apply(&object, wanted);
            let object = create(store, kind, &key.namespace, request, object)?;
            Ok((object, true))
        }
    }
}

/// DELETE: the object as it was.
pub(crate) fn delete(
    store: &mut Store,
    kind: &Kind,
    key: Key,
    request: &Request<'_>,
    options: &Value,
) -> Result<Value, Refusal> {
    let old = known(store, kind, &key)?;
    for (asked, has) in [
        ("/preconditions/uid", "/metadata/uid"),
        (
            "/preconditions/resourceVersion",
            "/metadata/resourceVersion",
        ),
    ] {
        let asked = text(options, asked);
        if !asked.is_empty() && asked != text(&old, has) {
            let why = format!(
                "the precondition does not hold: {has} is {}",
                text(&old, has)
            );
            return Err(Refusal::conflict(&kind.resource(), &key.name, &why));
        }
    }
    let details =
        json!({"name": key.name, "kind": kind.plural, "uid": old.pointer("/metadata/uid")});
    if !request.query.dry_run {
        if key.resource == "namespaces" {
            // Nothing outlives its namespace.
            let inside =
                |(other, _): (&Key, &Value)| (other.namespace == key.name).then(|| other.clone());
            let all: Vec<Key> = store.all().filter_map(inside).collect();
            for other in all {
                store.commit(other, None);
            }
        }
        store.commit(key, None);
    }
    Ok(
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
    )
}

/// The object that stands there.
pub(crate) fn known(store: &Store, kind: &Kind, key: &Key) -> Result<Value, Refusal> {
    let found = store.get(key).cloned();
    found.ok_or_else(|| Refusal::not_found(&kind.resource(), &key.name))
}

/// Stores `object` in the place of `old`, as far as the request may change it. What is the same is not stored again.
fn write(
    store: &mut Store,
    kind: &Kind,
    key: Key,
    request: &Request<'_>,
    old: &Value,
    object: Value,
    part: Part,
) -> Result<Value, Refusal> {
    if text(&object, "/metadata/name") != key.name {
        let why = format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            text(&object, "/metadata/name"),
            key.name
        );
        return Err(Refusal::bad_request(why));
    }
    for (field, why) in [
        ("/metadata/resourceVersion", MODIFIED),
        (
            "/metadata/uid",
            "Precondition failed: UID in precondition does not match",
        ),
    ] {
        let given = text(&object, field);
        if !given.is_empty() && given != text(old, field) {
            return Err(Refusal::conflict(&kind.resource(), &key.name, why));
        }
    }
    defaults::may_become(kind, old, &object)?;
    let mut next = match part {
        Part::Whole => whole(kind, old, object),
        Part::Status => status(old, &object),
    };
    defaults::changed(kind, &mut next);
    let asked = |object: &Value| {
        let mut object = object.clone();
        remove(&mut object, "metadata");
        if kind.status != Status::Absent {
            remove(&mut object, "status");
        }
        object
    };
    if kind.counted && asked(&next) != asked(old) {
        let generation = old.pointer("/metadata/generation").and_then(Value::as_u64);
        set(
            &mut next,
            "/metadata/generation",
            generation.unwrap_or(0) + 1,
        );
    }
    if request.query.dry_run || without_times(&next) == without_times(old) {
        return Ok(if request.query.dry_run {
            next
        } else {
            old.clone()
        });
    }
    Ok(store.commit(key, Some(next)))
}

fn whole(kind: &Kind, old: &Value, mut object: Value) -> Value {
    for field in [
        "uid",
        "creationTimestamp",
        "generation",
        "resourceVersion",
        "namespace",
    ] {
        if let Some(value) = old.pointer(&format!("/metadata/{field}")) {
            set(&mut object, &format!("/metadata/{field}"), value.clone());
        }
    }
    let managed = object.pointer("/metadata/managedFields").is_some();
    if let (false, Some(fields)) = (managed, old.pointer("/metadata/managedFields")) {
        set(&mut object, "/metadata/managedFields", fields.clone());
    }
    if kind.status != Status::Absent {
        take(&mut object, old, "status");
    }
    object
}

fn status(old: &Value, object: &Value) -> Value {
    let mut next = old.clone();
    take(&mut next, object, "status");
    if let Some(managed) = object.pointer("/metadata/managedFields") {
        set(&mut next, "/metadata/managedFields", managed.clone());
    }
    next
}

fn take(into: &mut Value, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => set(into, &format!("/{field}"), value.clone()),
        None => drop(remove(into, field)),
    }
}

/// When a field was applied changes nothing by itself.
fn without_times(object: &Value) -> Value {
    let mut object = object.clone();
    let managed = object.pointer_mut("/metadata/managedFields");
    for entry in managed.and_then(Value::as_array_mut).into_iter().flatten() {
        set(entry, "/time", Value::Null);
    }
    object
}

/// Says what it is, or says nothing of it.
fn is_of_kind(kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
    if !object.is_object() {
        return Err(Refusal::bad_request("the body is no object"));
    }
    for (field, is) in [
        ("apiVersion", kind.api_version()),
        ("kind", kind.kind.clone()),
    ] {
        match object.get(field).and_then(Value::as_str) {
            Some(said) if said != is => {
                let why = format!("{field} {said} does not match {is}, which the path asks for");
                return Err(Refusal::bad_request(why));
            }
            _ => object[field] = is.into(),
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let fine = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    // RBAC has names with colons.
    name.len() <= 253
        && name.starts_with(fine)
        && name.ends_with(fine)
        && name
            .chars()
            .all(|letter| fine(letter) || "-.:".contains(letter))
}
