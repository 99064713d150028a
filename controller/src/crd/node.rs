//! `BGPNode`: what differs on one node; named as the node.

#![allow(
    clippy::duplicated_attributes,
    reason = "every column has a type and a place"
)]

use std::net::{IpAddr, Ipv4Addr};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Rules, Verdicts,
    schema::{HostText, Ipv4Text},
    status::BGPNodeStatus,
    value::{Asn, is_host},
};

/// What differs on one node.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "routelet.dev",
    version = "v1alpha1",
    kind = "BGPNode",
    plural = "bgpnodes",
    shortname = "bgpn",
    category = "routelet",
    status = "BGPNodeStatus",
    doc = "What differs on one node, and how its routelet is. Named as the Node; made by the daemon where it is absent.",
    printcolumn(name = "AS", type_ = "integer", json_path = ".status.asNumber"),
    printcolumn(name = "Router-ID", type_ = "string", json_path = ".status.routerID"),
    printcolumn(
        name = "Up",
        type_ = "integer",
        json_path = ".status.sessions.established"
    ),
    printcolumn(
        name = "Sessions",
        type_ = "integer",
        json_path = ".status.sessions.total"
    ),
    printcolumn(
        name = "Routes",
        type_ = "integer",
        json_path = ".status.routes.installed"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1
    ),
    printcolumn(name = "Updated", type_ = "date", json_path = ".status.lastUpdated"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        priority = 1
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct BGPNodeSpec {
    /// Its AS number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_number: Option<Asn>,
    /// Its BGP Identifier.
    #[serde(rename = "routerID", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Ipv4Text>")]
    pub(crate) router_id: Option<Ipv4Addr>,
    /// Its addresses as a speaker, in place of the Node's InternalIPs; the first of each family counts.
    #[schemars(with = "Vec<HostText>", length(max = 16))]
    pub(crate) addresses: Vec<IpAddr>,
    /// Its cluster ID as a route reflector.
    #[serde(
        rename = "routeReflectorClusterID",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<Ipv4Text>")]
    pub(crate) route_reflector_cluster_id: Option<Ipv4Addr>,
}

impl Rules for BGPNodeSpec {
    fn check(&self, _name: &str, verdicts: &mut Verdicts) {
        for (field, id) in [
            ("routerID", self.router_id),
            ("routeReflectorClusterID", self.route_reflector_cluster_id),
        ] {
            verdicts.demand(
                id.is_none_or(|id| !id.is_unspecified()),
                field,
                "0.0.0.0 is not allowed (RFC 6286): take any other",
            );
        }
        for (i, address) in self.addresses.iter().enumerate() {
            verdicts.demand(
                is_host(*address),
                &format!("addresses[{i}]"),
                format!("{address} is no address that others can reach"),
            );
        }
    }
}
