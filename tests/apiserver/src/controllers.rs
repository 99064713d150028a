//! What the controllers of a cluster do, as far as anything here waits for it: pod CIDRs for nodes, and nothing outlives its owner.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    field::set,
    store::{Key, Store},
};

/// Looks at the whole and puts right what is not as it should be; whether anything was done.
pub(crate) fn reconcile(store: &mut Store) -> bool {
    let before = store.version();
    collect(store);
    allocate(store);
    store.version() != before
}

/// Removes what has owners, none of which is there any more.
fn collect(store: &mut Store) {
    let uid = |object: &Value| Some(object.pointer("/metadata/uid")?.as_str()?.to_owned());
    loop {
        let alive: BTreeSet<String> = store.all().filter_map(|(_, object)| uid(object)).collect();
        let is_orphan = |object: &Value| {
            let owners = object
                .pointer("/metadata/ownerReferences")
                .and_then(Value::as_array);
            let is_alive = |owner: &Value| {
                let uid = owner.get("uid").and_then(Value::as_str);
                uid.is_some_and(|uid| alive.contains(uid))
            };
            owners.is_some_and(|owners| !owners.is_empty() && !owners.iter().any(is_alive))
        };
        let orphans: Vec<Key> = store
            .all()
            .filter(|(_, object)| is_orphan(object))
            .map(|(key, _)| key.clone())
            .collect();
        if orphans.is_empty() {
            return;
        }
        for key in orphans {
            store.commit(key, None);
        }
    }
}

/// The pod CIDRs number `index`: a /24 of 10.244.0.0/16 and a /64 of fd00:10:244::/48.
fn cidrs(index: u8) -> [String; 2] {
    let sixth = if index == 0 {
        "fd00:10:244::/64".to_owned()
    } else {
        format!("fd00:10:244:{index:x}::/64")
    };
    [format!("10.244.{index}.0/24"), sixth]
}

/// Gives every node that has none the first that are free.
fn allocate(store: &mut Store) {
    let has = |node: &Value| {
        node.pointer("/spec/podCIDRs")
            .and_then(Value::as_array)
            .cloned()
    };
    let mut taken: Vec<Value> = Vec::new();
    let mut without: Vec<(Key, Value)> = Vec::new();
    for (key, node) in store.of("nodes", "") {
        match has(node) {
            Some(own) => taken.extend(own),
            None => without.push((key.clone(), node.clone())),
        }
    }
    for (key, mut node) in without {
        let is_free =
            |own: &[String; 2]| !own.iter().any(|cidr| taken.contains(&cidr.as_str().into()));
        let Some(own) = (0..=u8::MAX).map(cidrs).find(is_free) else {
            return;
        };
        let [first, _] = &own;
        set(&mut node, "/spec/podCIDR", first.as_str());
        set(&mut node, "/spec/podCIDRs", json!(own));
        taken.extend(own.map(Value::from));
        store.commit(key, Some(node));
    }
}
