//! The cluster as one snapshot: its nodes, what runs on them as far as routes are concerned, and our objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bgp::prefix::Prefix;
use k8s_openapi::api::{core::v1, discovery::v1::EndpointSlice};

use crate::{
    crd::{
        BGPAdvertisementSpec, BGPConfigurationSpec, BGPNodeSpec, BGPPeerSpec, BGPPolicySpec,
        selector::Labels,
    },
    problem::Problem,
};

pub(crate) mod decode;
pub(crate) mod document;
pub(crate) mod files;
pub(crate) mod object;
pub(crate) mod suggest;

/// Namespace and name.
pub(crate) type NamespacedName = (String, String);

/// All that [`crate::desired::desired`] looks at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cluster {
    /// Nodes by name.
    pub(crate) nodes: BTreeMap<String, Node>,
    /// The one named "default", if there is one.
    pub(crate) configuration: Option<BGPConfigurationSpec>,
    /// `BGPPeer`.
    pub(crate) peers: BTreeMap<String, BGPPeerSpec>,
    /// `BGPPolicy`.
    pub(crate) policies: BTreeMap<String, BGPPolicySpec>,
    /// `BGPAdvertisement`.
    pub(crate) advertisements: BTreeMap<String, BGPAdvertisementSpec>,
    /// `BGPNode`.
    pub(crate) bgp_nodes: BTreeMap<String, BGPNodeSpec>,
    /// `v1/Service`.
    pub(crate) services: BTreeMap<NamespacedName, v1::Service>,
    /// `discovery.k8s.io/v1/EndpointSlice`.
    pub(crate) endpoint_slices: BTreeMap<NamespacedName, EndpointSlice>,
    /// `v1/Secret`: the values by key.
    pub(crate) secrets: BTreeMap<NamespacedName, Secret>,
    /// Objects that are left out, and why.
    pub(crate) problems: Vec<Problem>,
    /// … the same by kind and name, for those that may have a version from before.
    pub(crate) left_out: BTreeSet<(String, String)>,
}

/// The values of a Secret by key; never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) BTreeMap<String, Vec<u8>>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A Node, as far as routes are concerned.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Node {
    /// Its labels.
    pub(crate) labels: Labels,
    /// `spec.podCIDRs`, or `spec.podCIDR` where only that is given.
    pub(crate) pod_cidrs: Vec<Prefix>,
    /// Cordoned.
    pub(crate) unschedulable: bool,
    /// Its InternalIPs in order.
    pub(crate) internal_ips: Vec<IpAddr>,
    /// When it was made, if that is known; the older of two wins a dispute.
    pub(crate) created: Option<String>,
}

/// The first address of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// The first of each family.
    pub(crate) fn of<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> Self {
        let mut first = Self::default();
        for address in addresses {
            match address {
                IpAddr::V4(v4) => first.v4 = first.v4.or(Some(*v4)),
                IpAddr::V6(v6) => first.v6 = first.v6.or(Some(*v6)),
            }
        }
        first
    }

    /// The one in the family of `other`.
    pub(crate) fn like(&self, other: IpAddr) -> Option<IpAddr> {
        match other {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }

    /// Both, IPv4 first.
    pub(crate) fn each(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.v4
            .map(IpAddr::V4)
            .into_iter()
            .chain(self.v6.map(IpAddr::V6))
    }
}

impl Cluster {
    /// The configuration in force.
    pub(crate) fn configuration(&self) -> BGPConfigurationSpec {
        self.configuration.clone().unwrap_or_default()
    }

    /// The addresses a node speaks from and is reached by.
    pub(crate) fn addresses(&self, node: &str) -> Addresses {
        let own = self
            .bgp_nodes
            .get(node)
            .map(|node| node.addresses.as_slice())
            .unwrap_or_default();
        let internal = self
            .nodes
            .get(node)
            .map(|node| node.internal_ips.as_slice())
            .unwrap_or_default();
        Addresses::of(if own.is_empty() { internal } else { own })
    }

    /// The AS number of a node.
    pub(crate) fn asn(&self, node: &str) -> u32 {
        self.bgp_nodes
            .get(node)
            .and_then(|node| node.as_number)
            .or(self.configuration.as_ref().map(|spec| spec.as_number))
            .unwrap_or(BGPConfigurationSpec::default().as_number)
            .0
    }

    /// Where an object of this snapshot is broken, keeps what `before` had under its name.
    pub(crate) fn keep(&mut self, before: &Self) {
        for (kind, name) in std::mem::take(&mut self.left_out) {
            let kept = match kind.as_str() {
                "BGPConfiguration" if name == "default" => {
                    self.configuration = before.configuration.clone();
                    self.configuration.is_some()
                }
                "BGPPeer" => keep_one(&mut self.peers, &before.peers, &name),
                "BGPPolicy" => keep_one(&mut self.policies, &before.policies, &name),
                "BGPAdvertisement" => {
                    keep_one(&mut self.advertisements, &before.advertisements, &name)
                }
                "BGPNode" => keep_one(&mut self.bgp_nodes, &before.bgp_nodes, &name),
                "Node" => keep_one(&mut self.nodes, &before.nodes, &name),
                _ => false,
            };
            if kept {
                self.problems.push(Problem::warning(
                    format!("{kind} {name}"),
                    "its last valid version stays in force until this one is put right",
                ));
            }
            self.left_out.insert((kind, name));
        }
    }
}

fn keep_one<T: Clone>(
    now: &mut BTreeMap<String, T>,
    before: &BTreeMap<String, T>,
    name: &str,
) -> bool {
    match before.get(name) {
        Some(kept) => {
            now.insert(name.to_owned(), kept.clone());
            true
        }
        None => false,
    }
}
