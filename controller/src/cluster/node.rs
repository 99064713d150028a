//! A Node, as far as routes are concerned; all else in it is not even read.

use std::net::{IpAddr, Ipv4Addr};

use bgp::prefix::Prefix;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Deserializer};

use super::decode::Fault;
use crate::crd::{
    selector::Labels,
    value::{Asn, Cidr},
};

/// A label or annotation that gives a Node its AS number.
const AS_NUMBER: &str = "routelet.dev/as-number";
/// The same, from Calico and kube-router: read so that a cluster can move over, never written.
const CALICO_AS_NUMBER: &str = "projectcalico.org/ASNumber";
const KUBE_ROUTER_AS_NUMBER: &str = "kube-router.io/node.asn";
const CALICO_ADDRESSES: [&str; 2] = [
    "projectcalico.org/IPv4Address",
    "projectcalico.org/IPv6Address",
];
const CALICO_CLUSTER_ID: &str = "projectcalico.org/RouteReflectorClusterID";
const KUBE_ROUTER_SERVER: &str = "kube-router.io/rr.server";
const KUBE_ROUTER_CLIENT: &str = "kube-router.io/rr.client";

/// The annotations that are kept.
const ANNOTATIONS: [&str; 8] = [
    AS_NUMBER,
    CALICO_AS_NUMBER,
    KUBE_ROUTER_AS_NUMBER,
    CALICO_ADDRESSES[0],
    CALICO_ADDRESSES[1],
    CALICO_CLUSTER_ID,
    KUBE_ROUTER_SERVER,
    KUBE_ROUTER_CLIENT,
];

/// A Node, as far as routes are concerned.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Node {
    /// Its labels.
    pub(crate) labels: Labels,
    /// Those of its annotations that mean something here.
    pub(crate) annotations: Labels,
    /// `spec.podCIDRs`, or `spec.podCIDR` where only that is given.
    pub(crate) pod_cidrs: Vec<Prefix>,
    /// Cordoned.
    pub(crate) unschedulable: bool,
    /// Its InternalIPs in order.
    pub(crate) internal_ips: Vec<IpAddr>,
    /// When it was made, if that is known; the older of two wins a dispute.
    pub(crate) created: Option<String>,
    /// What the annotations of another route manager say.
    pub(crate) migrated: Migrated,
}

/// What a Node's labels and annotations say of it as a speaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Migrated {
    /// Its AS number.
    pub(crate) as_number: Option<Asn>,
    /// Its addresses as a speaker.
    pub(crate) addresses: Vec<IpAddr>,
    /// It is a route reflector, with this cluster ID.
    pub(crate) reflector: Option<Ipv4Addr>,
    /// What makes no sense, in words. It must not cost the node its pods.
    pub(crate) ignored: Vec<String>,
}

/// A Node as the API server and files have it, read no further than needed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeObject {
    #[serde(deserialize_with = "trimmed")]
    pub(crate) metadata: ObjectMeta,
    spec: SpecPart,
    status: StatusPart,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SpecPart {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    unschedulable: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct StatusPart {
    addresses: Option<Vec<AddressPart>>,
}

#[derive(Clone, Debug, Deserialize)]
struct AddressPart {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// The part of the metadata that anybody looks at: managed fields alone may be larger than the rest of an object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetadataPart {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    labels: Option<Labels>,
    annotations: Option<Labels>,
}

/// Reads metadata without what nobody looks at.
pub(crate) fn trimmed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let part = MetadataPart::deserialize(deserializer)?;
    let mut annotations = part.annotations.unwrap_or_default();
    annotations.retain(|key, _| ANNOTATIONS.contains(&key.as_str()));
    Ok(ObjectMeta {
        name: part.name,
        namespace: part.namespace,
        uid: part.uid,
        resource_version: part.resource_version,
        generation: part.generation,
        creation_timestamp: part.creation_timestamp,
        labels: part.labels,
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..ObjectMeta::default()
    })
}

impl Node {
    /// What of `object` concerns routes.
    ///
    /// # Errors
    /// The field whose value is not what it should be.
    pub(crate) fn of(object: NodeObject) -> Result<Self, Fault> {
        let mut cidrs = object.spec.pod_cidrs.unwrap_or_default();
        if cidrs.is_empty() {
            cidrs.extend(object.spec.pod_cidr);
        }
        let mut pod_cidrs = Vec::with_capacity(cidrs.len());
        for (i, text) in cidrs.iter().enumerate() {
            let cidr: Cidr = text
                .parse()
                .map_err(|message| fault(format!("spec.podCIDRs[{i}]"), message))?;
            pod_cidrs.push(cidr.0);
        }
        let mut internal_ips = Vec::new();
        let addresses = object.status.addresses.unwrap_or_default();
        for (i, address) in addresses.iter().enumerate() {
            if address.kind == "InternalIP" {
                let ip = address.address.parse().map_err(|_| {
                    fault(
                        format!("status.addresses[{i}].address"),
                        format!("{:?} is no IP address", address.address),
                    )
                })?;
                internal_ips.push(ip);
            }
        }
        let labels = object.metadata.labels.unwrap_or_default();
        let mut annotations = object.metadata.annotations.unwrap_or_default();
        annotations.retain(|key, _| ANNOTATIONS.contains(&key.as_str()));
        Ok(Self {
            migrated: Migrated::of(&labels, &annotations),
            labels,
            annotations,
            pod_cidrs,
            unschedulable: object.spec.unschedulable.unwrap_or_default(),
            internal_ips,
            created: object
                .metadata
                .creation_timestamp
                .map(|time| time.0.to_string()),
        })
    }

    /// Its own AS number, by label or annotation.
    pub(crate) fn as_number(&self) -> Option<Asn> {
        self.migrated.as_number
    }
}

impl Migrated {
    fn of(labels: &Labels, annotations: &Labels) -> Self {
        let mut all = Self::default();
        let numbers = [
            (labels, AS_NUMBER),
            (annotations, AS_NUMBER),
            (annotations, CALICO_AS_NUMBER),
            (annotations, KUBE_ROUTER_AS_NUMBER),
        ];
        for (map, key) in numbers {
            match map.get(key).map(|text| text.parse()) {
                Some(Ok(number)) => all.as_number = all.as_number.or(Some(number)),
                Some(Err(why)) => all.ignored.push(format!("{key} is ignored: {why}")),
                None => {}
            }
        }
        for key in CALICO_ADDRESSES {
            // With the length of its subnet: 10.0.0.1/24.
            let address = annotations.get(key).and_then(|text| {
                let (address, _) = text.split_once('/').unwrap_or((text, ""));
                address.parse::<IpAddr>().ok()
            });
            all.addresses.extend(address);
        }
        // A client of a reflector is none itself, whatever else is written.
        all.reflector = [CALICO_CLUSTER_ID, KUBE_ROUTER_SERVER]
            .iter()
            .find_map(|key| cluster_id(annotations.get(*key)?))
            .filter(|_| !annotations.contains_key(KUBE_ROUTER_CLIENT));
        all
    }
}

/// A cluster ID as an address or, as kube-router has it, a number.
fn cluster_id(text: &str) -> Option<Ipv4Addr> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<u32>().ok().map(Ipv4Addr::from))
        .filter(|id: &Ipv4Addr| !id.is_unspecified())
}

fn fault(path: String, message: String) -> Fault {
    Fault {
        at: super::document::Place::default(),
        path,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(annotations: serde_json::Value) -> Result<Node, Fault> {
        let object = serde_json::json!({"metadata": {"name": "n1", "annotations": annotations}});
        Node::of(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn calicos_annotations_give_as_number_address_and_reflector() {
        let node = node(serde_json::json!({
            "projectcalico.org/ASNumber": "65011",
            "projectcalico.org/IPv4Address": "10.0.0.1/24",
            "projectcalico.org/RouteReflectorClusterID": "10.255.0.1",
            "something.else/large": "x",
        }))
        .unwrap();
        assert_eq!(node.as_number(), Some(Asn(65011)));
        assert_eq!(
            node.migrated.addresses,
            ["10.0.0.1".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(node.migrated.reflector, "10.255.0.1".parse().ok());
        assert_eq!(node.annotations.len(), 3);
    }

    #[test]
    fn kube_routers_annotations_give_as_number_and_reflector() {
        let server = node(serde_json::json!({
            "kube-router.io/node.asn": "65012",
            "kube-router.io/rr.server": "42",
        }))
        .unwrap();
        assert_eq!(server.as_number(), Some(Asn(65012)));
        assert_eq!(server.migrated.reflector, Some(Ipv4Addr::new(0, 0, 0, 42)));
        let client = node(serde_json::json!({"kube-router.io/rr.client": "42"})).unwrap();
        assert_eq!(client.migrated.reflector, None);
    }

    #[test]
    fn our_own_word_counts_before_anothers() {
        let node = node(serde_json::json!({
            "routelet.dev/as-number": "65001",
            "projectcalico.org/ASNumber": "65011",
        }))
        .unwrap();
        assert_eq!(node.as_number(), Some(Asn(65001)));
    }

    #[test]
    fn an_as_number_that_is_none_is_ignored_aloud() {
        let node = node(serde_json::json!({"routelet.dev/as-number": "sixty"})).unwrap();
        assert_eq!(node.as_number(), None);
        assert_eq!(
            node.migrated.ignored,
            ["routelet.dev/as-number is ignored: \"sixty\" is no AS number (1–4294967295)"]
        );
    }
}
