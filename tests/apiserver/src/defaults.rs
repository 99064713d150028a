//! What the server itself puts into objects of some kinds, and what it lets nobody change.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    field::{remove, set, text},
    kind::Kind,
    refusal::Refusal,
    store::Store,
};

/// Completes an object that is made.
pub(crate) fn made(store: &Store, kind: &Kind, object: &mut Value) {
    match kind.resource().as_str() {
        "namespaces" => set(object, "/status", json!({"phase": "Active"})),
        "pods" => set(object, "/status", json!({"phase": "Pending"})),
        "services" => service(store, object),
        "customresourcedefinitions.apiextensions.k8s.io" => {
            let condition = |type_| json!({"type": type_, "status": "True"});
            let both = [condition("NamesAccepted"), condition("Established")];
            set(object, "/status", json!({"conditions": both}));
        }
        _ => {}
    }
    changed(kind, object);
}

/// Completes an object that was written.
pub(crate) fn changed(kind: &Kind, object: &mut Value) {
    if kind.resource() == "secrets" {
        secret(object);
    }
}

/// May this object become that one?
pub(crate) fn may_become(kind: &Kind, old: &Value, new: &Value) -> Result<(), Refusal> {
    if kind.resource() != "nodes" {
        return Ok(());
    }
    let has = old.pointer("/spec/podCIDRs");
    if has.is_some() && has != new.pointer("/spec/podCIDRs") {
        let why = "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid";
        return Err(Refusal::invalid("Node", text(old, "/metadata/name"), why));
    }
    Ok(())
}

/// `stringData` is for those who write.
fn secret(object: &mut Value) {
    if let Some(Value::Object(plain)) = remove(object, "stringData") {
        for (key, value) in plain {
            let data = BASE64_STANDARD.encode(value.as_str().unwrap_or_default());
            set(object, &format!("/data/{key}"), data);
        }
    }
    if text(object, "/type").is_empty() {
        set(object, "/type", "Opaque");
    }
}

/// An address of its own, IPv4 alone, unless it asks for none.
fn service(store: &Store, object: &mut Value) {
    if text(object, "/spec/type").is_empty() {
        set(object, "/spec/type", "ClusterIP");
    }
    let kind = text(object, "/spec/type").to_owned();
    if kind != "ExternalName" {
        if text(object, "/spec/clusterIP").is_empty() {
            set(object, "/spec/clusterIP", free(store));
        }
        let address = text(object, "/spec/clusterIP").to_owned();
        set(object, "/spec/clusterIPs", json!([address]));
        if kind != "ClusterIP" && text(object, "/spec/externalTrafficPolicy").is_empty() {
            set(object, "/spec/externalTrafficPolicy", "Cluster");
        }
    }
    set(object, "/status", json!({"loadBalancer": {}}));
}

/// The first address of 10.96.0.0/16 that no service has, after that of the API server itself.
fn free(store: &Store) -> String {
    let taken: Vec<&str> = store
        .of("services", "")
        .filter_map(|(_, service)| service.pointer("/spec/clusterIP")?.as_str())
        .collect();
    let all = (2..=u16::MAX).map(|number| {
        let [high, low] = number.to_be_bytes();
        format!("10.96.{high}.{low}")
    });
    let mut free = all.filter(|address| !taken.contains(&address.as_str()));
    free.next().unwrap_or_else(|| "None".into())
}
