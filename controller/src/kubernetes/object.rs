//! Objects as they are watched: read no further than they are needed, so that thousands of them cost little.

use std::borrow::Cow;

use k8s_openapi::{
    api::{
        core::v1::{
            LoadBalancerIngress, LoadBalancerStatus, Secret, Service, ServiceSpec, ServiceStatus,
        },
        discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource,
    core::{ApiResource, ClusterResourceScope},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    cluster::{
        self, NamespacedName, Node,
        api::Item,
        node::{NodeObject, trimmed},
    },
    crd,
    kubernetes::reports::Report,
};

/// What a watch reads, and what is kept of it.
pub(crate) trait Watched:
    Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static
{
    /// Namespace and name.
    fn key(&self) -> NamespacedName {
        let meta = self.meta();
        (
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }

    /// What its status reports, where that concerns other daemons.
    fn report(&mut self) -> Option<Report> {
        None
    }

    /// What is kept.
    fn item(self) -> Item;
}

/// `v1/Node`.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct WatchedNode(NodeObject);

impl Watched for WatchedNode {
    fn item(self) -> Item {
        Item::Node(Node::of(self.0).map(Into::into))
    }
}

impl Resource for WatchedNode {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Node".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "nodes".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

/// An object of ours; its status stands apart. It is read by the rules of files afterwards, so that one that is not as it should
/// be does not end the watch of all others.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OurObject {
    #[serde(deserialize_with = "trimmed")]
    metadata: ObjectMeta,
    kind: String,
    spec: Value,
    status: Value,
}

impl OurObject {
    /// The same with its kind, which an object in a list does not say.
    pub(crate) fn of_kind(mut self, kind: &str) -> Self {
        self.kind = kind.to_owned();
        self
    }
}

impl Watched for OurObject {
    fn report(&mut self) -> Option<Report> {
        Report::of(&self.kind, self.metadata.generation, self.status.take())
    }

    fn item(self) -> Item {
        let mut object = json!({
            "apiVersion": crd::API_VERSION,
            "kind": self.kind,
            "metadata": {"name": self.metadata.name},
        });
        if let (Some(object), false) = (object.as_object_mut(), self.spec.is_null()) {
            object.insert("spec".into(), self.spec);
        }
        Item::Ours(object.into())
    }
}

impl Resource for OurObject {
    type DynamicType = ApiResource;
    type Scope = ClusterResourceScope;

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        kind.kind.as_str().into()
    }

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        kind.group.as_str().into()
    }

    fn version(kind: &ApiResource) -> Cow<'_, str> {
        kind.version.as_str().into()
    }

    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        kind.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Name, namespace and labels.
fn identity(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        labels: metadata.labels,
        ..ObjectMeta::default()
    }
}

impl Watched for Service {
    fn item(self) -> Item {
        let spec = self.spec.unwrap_or_default();
        let balancer = self.status.and_then(|status| status.load_balancer);
        let ingress = balancer.and_then(|balancer| balancer.ingress);
        let ingress: Vec<LoadBalancerIngress> = ingress
            .into_iter()
            .flatten()
            .map(|ingress| LoadBalancerIngress {
                ip: ingress.ip,
                ip_mode: ingress.ip_mode,
                ..LoadBalancerIngress::default()
            })
            .collect();
        Item::Service(Box::new(Self {
            metadata: identity(self.metadata),
            spec: Some(ServiceSpec {
                cluster_ip: spec.cluster_ip,
                cluster_ips: spec.cluster_ips,
                external_ips: spec.external_ips,
                external_traffic_policy: spec.external_traffic_policy,
                internal_traffic_policy: spec.internal_traffic_policy,
                load_balancer_class: spec.load_balancer_class,
                publish_not_ready_addresses: spec.publish_not_ready_addresses,
                type_: spec.type_,
                ..ServiceSpec::default()
            }),
            status: Some(ServiceStatus {
                load_balancer: Some(LoadBalancerStatus {
                    ingress: (!ingress.is_empty()).then_some(ingress),
                }),
                ..ServiceStatus::default()
            }),
        }))
    }
}

impl Watched for EndpointSlice {
    fn item(self) -> Item {
        // Where endpoints are and whether they are ready is all that counts: one of a kind stands for all.
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for endpoint in self.endpoints {
            let conditions = endpoint.conditions.map(|conditions| EndpointConditions {
                ready: conditions.ready,
                serving: conditions.serving,
                terminating: conditions.terminating,
            });
            let kept = Endpoint {
                conditions,
                node_name: endpoint.node_name,
                ..Endpoint::default()
            };
            if !endpoints.contains(&kept) {
                endpoints.push(kept);
            }
        }
        Item::EndpointSlice(Box::new(Self {
            address_type: self.address_type,
            endpoints,
            metadata: identity(self.metadata),
            ports: None,
        }))
    }
}

impl Watched for Secret {
    fn item(self) -> Item {
        Item::Secret(cluster::Secret::of(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_keeps_where_ready_endpoints_are_and_nothing_else() {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4",
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"},
                         "managedFields": [{"manager": "x"}]},
            "endpoints": [
                {"addresses": ["10.1.0.1"], "nodeName": "n1", "conditions": {"ready": true}},
                {"addresses": ["10.1.0.2"], "nodeName": "n1", "conditions": {"ready": true}},
                {"addresses": ["10.1.0.3"], "nodeName": "n2", "conditions": {"ready": false}},
            ],
            "ports": [{"port": 80}],
        }))
        .unwrap();
        assert_eq!(slice.key(), ("shop".into(), "web-1".into()));
        let Item::EndpointSlice(kept) = slice.item() else {
            panic!("a slice is a slice");
        };
        assert_eq!(kept.endpoints.len(), 2);
        assert_eq!(kept.metadata.managed_fields, None);
        assert_eq!(kept.ports, None);
    }
}
