//! The cluster as one snapshot: its nodes, what runs on them as far as routes are concerned, and our objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use k8s_openapi::api::{core::v1, discovery::v1::EndpointSlice};

use crate::{
    crd::{BGPAdvertisementSpec, BGPConfigurationSpec, BGPNodeSpec, BGPPeerSpec, BGPPolicySpec},
    problem::{Problem, Reason},
};

pub(crate) mod api;
pub(crate) mod decode;
pub(crate) mod document;
pub(crate) mod files;
pub(crate) mod manifest;
pub(crate) mod node;
pub(crate) mod object;
pub(crate) mod suggest;

pub(crate) use node::Node;

/// What is said of an object whose new version breaks a rule.
const KEPT: &str = "its last valid version stays in force until this one is put right";

/// Namespace and name; the former is empty for what has none.
pub(crate) type NamespacedName = (String, String);

/// All that [`crate::desired::desired`] looks at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cluster {
    /// Nodes by name.
    pub(crate) nodes: BTreeMap<String, Arc<Node>>,
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

impl Secret {
    /// As in the API server, `stringData` overwrites `data`.
    pub(crate) fn of(secret: v1::Secret) -> Self {
        let encoded = secret.data.unwrap_or_default().into_iter();
        let plain = secret.string_data.unwrap_or_default().into_iter();
        Self(
            encoded
                .map(|(key, value)| (key, value.0))
                .chain(plain.map(|(key, value)| (key, value.into_bytes())))
                .collect(),
        )
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
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

/// What the API server has of a node: by this a Node that is made anew is told from the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registration {
    /// When its Node was made, if there is one.
    pub(crate) created: Option<String>,
    /// There is a `BGPNode` for it.
    pub(crate) bgp_node: bool,
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
        if !own.is_empty() {
            return Addresses::of(own);
        }
        let Some(node) = self.nodes.get(node) else {
            return Addresses::default();
        };
        Addresses::of(node.migrated.addresses.iter().chain(&node.internal_ips))
    }

    /// The AS number of a node: its BGPNode's, its Node's own, or that of the configuration.
    pub(crate) fn asn(&self, node: &str) -> u32 {
        self.bgp_nodes
            .get(node)
            .and_then(|node| node.as_number)
            .or_else(|| self.nodes.get(node)?.as_number())
            .or(self.configuration.as_ref().map(|spec| spec.as_number))
            .unwrap_or(BGPConfigurationSpec::default().as_number)
            .0
    }

    /// What the API server has of a node.
    pub(crate) fn registration(&self, node: &str) -> Registration {
        Registration {
            created: self.nodes.get(node).and_then(|node| node.created.clone()),
            bgp_node: self.bgp_nodes.contains_key(node),
        }
    }

    /// Where a Node that `before` had is gone, keeps it as it was, with its `BGPNode`; says whether that is so.
    pub(crate) fn keep_node(&mut self, before: &Self, name: &str) -> bool {
        if self.nodes.contains_key(name) || !keep_one(&mut self.nodes, &before.nodes, name) {
            return false;
        }
        if !self.bgp_nodes.contains_key(name) {
            keep_one(&mut self.bgp_nodes, &before.bgp_nodes, name);
        }
        true
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
                self.problems.push(
                    Problem::warning(format!("{kind} {name}"), KEPT).because(Reason::ObjectInvalid),
                );
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
