//! What the daemon tells of itself in our objects: `BGPNode.status` and `BGPPeer.status`.

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// How the routelet of a node is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BGPNodeStatus {
    /// The AS number in force.
    pub(crate) as_number: u32,
    /// The BGP Identifier in force.
    #[serde(rename = "routerID")]
    pub(crate) router_id: String,
    /// The addresses it speaks from and is reached by.
    pub(crate) addresses: Vec<String>,
    /// All sessions.
    pub(crate) sessions: SessionCounts,
    /// Sessions with nodes of the mesh.
    pub(crate) mesh_peers: SessionCounts,
    /// Peers that are no nodes of the mesh, and those of the mesh that are not established; these first.
    pub(crate) peers: Vec<PeerState>,
    /// So many more were left out of the list.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) peers_omitted: u32,
    /// Sessions by the BGPPeer they come from.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub(crate) bgp_peers: Vec<RuleCounts>,
    /// Routes.
    pub(crate) routes: RouteCounts,
    /// Ready, SessionsEstablished, RoutesInKernel, ExpectedRoutes, ConfigurationValid.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub(crate) conditions: Vec<Condition>,
    /// The generation of this object that the status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observed_generation: Option<i64>,
    /// The version of routelet.
    pub(crate) version: String,
    /// When it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_updated: Option<Time>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Sessions that are up, of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SessionCounts {
    /// Established.
    pub(crate) established: u32,
    /// Configured.
    pub(crate) total: u32,
}

/// Sessions of one BGPPeer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleCounts {
    /// The BGPPeer.
    pub(crate) name: String,
    /// Established.
    #[serde(default)]
    pub(crate) established: u32,
    /// Configured, or accepted from its range.
    #[serde(default)]
    pub(crate) total: u32,
}

/// One session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PeerState {
    /// The session's name: that of its BGPPeer, or of the node.
    pub(crate) name: String,
    /// Its address.
    pub(crate) address: String,
    /// It is a node of the cluster.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) node: bool,
    /// Its AS number, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) asn: Option<u32>,
    /// The state of its session (RFC 4271 §8.2.2).
    pub(crate) state: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Time>,
    /// Prefixes received.
    pub(crate) received: u64,
    /// … of them accepted.
    pub(crate) accepted: u64,
    /// Prefixes advertised.
    pub(crate) advertised: u64,
    /// Why its last session ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
}

/// Routes of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RouteCounts {
    /// Received from all peers.
    pub(crate) received: u64,
    /// Wanted in the kernel.
    pub(crate) desired: u64,
    /// In the kernel.
    pub(crate) installed: u64,
    /// Wanted, but the kernel does not take them.
    pub(crate) failed: u64,
    /// Refused, by policy or because they must not be installed.
    pub(crate) refused: u64,
}

/// How a peering rule fares, over all nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BGPPeerStatus {
    /// Nodes it applies to.
    pub(crate) nodes: u32,
    /// Sessions of it that are established.
    pub(crate) established: u32,
    /// All its sessions.
    pub(crate) total: u32,
    /// Accepted, Established.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub(crate) conditions: Vec<Condition>,
}

/// One aspect of the state, as Kubernetes has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Condition {
    /// Which aspect, in CamelCase.
    #[serde(rename = "type")]
    pub(crate) type_: String,
    /// True, False or Unknown.
    pub(crate) status: String,
    /// Why, in one CamelCase word that does not change.
    pub(crate) reason: String,
    /// Why, in words.
    #[serde(default)]
    pub(crate) message: String,
    /// When the status changed last.
    pub(crate) last_transition_time: Time,
    /// The generation of the object that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) observed_generation: Option<i64>,
}

/// An instant, to the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub(crate) struct Time(pub(crate) Timestamp);

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.0}", self.0))
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}
