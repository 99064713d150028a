//! `BGPNode`: what differs on one node; named as the node.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{Rules, Verdicts, value::Asn};

/// What differs on one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct BGPNodeSpec {
    /// Its AS number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_number: Option<Asn>,
    /// Its BGP Identifier.
    #[serde(rename = "routerID", skip_serializing_if = "Option::is_none")]
    pub(crate) router_id: Option<Ipv4Addr>,
    /// Its addresses as a speaker, in place of the Node's InternalIPs; the first of each family counts.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its cluster ID as a route reflector.
    #[serde(
        rename = "routeReflectorClusterID",
        skip_serializing_if = "Option::is_none"
    )]
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
                !address.is_unspecified() && !address.is_multicast(),
                &format!("addresses[{i}]"),
                format!("{address} is no address that others can reach"),
            );
        }
    }
}
