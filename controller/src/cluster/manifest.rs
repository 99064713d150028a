//! The cluster as manifests again: the form in which it is stored, and which the file reader reads.

use std::collections::BTreeMap;

use bgp::prefix::Prefix;
use k8s_openapi::ByteString;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Cluster, Node, Secret};
use crate::crd;

/// Everything but the Secrets, an object each.
pub(crate) fn objects(cluster: &Cluster) -> serde_json::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for (name, object) in &cluster.nodes {
        objects.push(node(name, object));
    }
    if let Some(spec) = &cluster.configuration {
        objects.push(ours("BGPConfiguration", "default", spec)?);
    }
    for (name, spec) in &cluster.bgp_nodes {
        objects.push(ours("BGPNode", name, spec)?);
    }
    for (name, spec) in &cluster.peers {
        objects.push(ours("BGPPeer", name, spec)?);
    }
    for (name, spec) in &cluster.policies {
        objects.push(ours("BGPPolicy", name, spec)?);
    }
    for (name, spec) in &cluster.advertisements {
        objects.push(ours("BGPAdvertisement", name, spec)?);
    }
    for service in cluster.services.values() {
        objects.push(serde_json::to_value(service)?);
    }
    for slice in cluster.endpoint_slices.values() {
        objects.push(serde_json::to_value(slice)?);
    }
    Ok(objects)
}

/// The Secrets, values and all.
pub(crate) fn secrets(cluster: &Cluster) -> serde_json::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for ((namespace, name), Secret(values)) in &cluster.secrets {
        let data: BTreeMap<&String, ByteString> = values
            .iter()
            .map(|(key, value)| (key, ByteString(value.clone())))
            .collect();
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": namespace, "name": name},
            "data": serde_json::to_value(data)?,
        }));
    }
    Ok(objects)
}

fn ours(kind: &str, name: &str, spec: &impl Serialize) -> serde_json::Result<Value> {
    Ok(json!({
        "apiVersion": crd::API_VERSION,
        "kind": kind,
        "metadata": {"name": name},
        "spec": serde_json::to_value(spec)?,
    }))
}

fn node(name: &str, node: &Node) -> Value {
    let addresses: Vec<Value> = node
        .internal_ips
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    let cidrs: Vec<String> = node.pod_cidrs.iter().map(Prefix::to_string).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": node.labels,
            "annotations": node.annotations,
            "creationTimestamp": node.created,
        },
        "spec": {"podCIDRs": cidrs, "unschedulable": node.unschedulable},
        "status": {"addresses": addresses},
    })
}
