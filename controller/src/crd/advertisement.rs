//! `BGPAdvertisement`: what to announce beside pod CIDRs.

#![allow(
    clippy::duplicated_attributes,
    reason = "every column has a type and a place"
)]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Rules, Verdicts,
    selector::LabelSelector,
    value::{Cidr, CommunityText},
};

/// Service addresses and static prefixes, with their attributes.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "routelet.dev",
    version = "v1alpha1",
    kind = "BGPAdvertisement",
    plural = "bgpadvertisements",
    shortname = "bgpadv",
    category = "routelet",
    doc = "What to announce beside pod CIDRs: service addresses and static prefixes, with their attributes.",
    printcolumn(
        name = "Services",
        type_ = "string",
        json_path = ".spec.services.addresses"
    ),
    printcolumn(name = "Prefixes", type_ = "string", json_path = ".spec.prefixes"),
    printcolumn(name = "Peers", type_ = "string", json_path = ".spec.peers"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct BGPAdvertisementSpec {
    /// Which nodes announce; empty: all.
    pub(crate) node_selector: LabelSelector,
    /// Who is told: names of BGPPeers; empty: all peers.
    pub(crate) peers: Vec<String>,
    /// Service addresses. Left out beside `prefixes`: none; left out alone: load balancer addresses of all services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) services: Option<Services>,
    /// Static prefixes.
    #[schemars(length(max = 1024))]
    pub(crate) prefixes: Vec<Cidr>,
    /// Service addresses are announced as prefixes of this length.
    pub(crate) aggregate_length: AggregateLength,
    /// What the routes carry.
    pub(crate) attributes: Attributes,
}

/// Which addresses of which services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Services {
    /// Which services; empty: all.
    pub(crate) selector: LabelSelector,
    /// Which of their addresses.
    #[schemars(length(min = 1, max = 3))]
    pub(crate) addresses: Vec<ServiceAddress>,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            selector: LabelSelector::default(),
            addresses: vec![ServiceAddress::LoadBalancer],
        }
    }
}

/// A kind of service address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum ServiceAddress {
    /// `status.loadBalancer.ingress`.
    LoadBalancer,
    /// `spec.externalIPs`.
    External,
    /// `spec.clusterIPs`.
    Cluster,
}

/// Lengths that service addresses are cut to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct AggregateLength {
    /// 1–32.
    #[schemars(range(min = 1, max = 32))]
    pub(crate) ipv4: u8,
    /// 1–128.
    #[schemars(range(min = 1, max = 128))]
    pub(crate) ipv6: u8,
}

impl Default for AggregateLength {
    fn default() -> Self {
        Self {
            ipv4: 32,
            ipv6: 128,
        }
    }
}

/// What the routes carry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Attributes {
    /// Communities.
    pub(crate) communities: Vec<CommunityText>,
    /// LOCAL_PREF, to internal peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) local_preference: Option<u32>,
    /// MULTI_EXIT_DISC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) med: Option<u32>,
    /// How often our own AS number is prepended.
    pub(crate) prepend: u8,
}

impl BGPAdvertisementSpec {
    /// The services it speaks of, if any.
    pub(crate) fn services(&self) -> Option<Services> {
        match &self.services {
            None if self.prefixes.is_empty() => Some(Services::default()),
            given => given.clone(),
        }
    }
}

impl Rules for BGPAdvertisementSpec {
    fn check(&self, _name: &str, verdicts: &mut Verdicts) {
        self.node_selector.check("nodeSelector", verdicts);
        if let Some(services) = &self.services {
            services.selector.check("services.selector", verdicts);
            verdicts.demand(
                !services.addresses.is_empty(),
                "services.addresses",
                "it is empty: give LoadBalancer, External or Cluster, or drop services",
            );
        }
        let AggregateLength { ipv4, ipv6 } = self.aggregate_length;
        verdicts.demand(
            (1..=32).contains(&ipv4),
            "aggregateLength.ipv4",
            format!("{ipv4} is out of range: 1 to 32"),
        );
        verdicts.demand(
            (1..=128).contains(&ipv6),
            "aggregateLength.ipv6",
            format!("{ipv6} is out of range: 1 to 128"),
        );
    }
}
