//! Who we are: the Node object, the addresses, the router ID.

use std::{collections::BTreeMap, net::Ipv4Addr};

use bgp::prefix::Family;

use super::View;
use crate::{
    cluster::{Cluster, Node},
    order::hash,
    problem::{Problem, Reason},
};

/// The Node object of this node, or an empty one with a problem.
pub(super) fn node(cluster: &Cluster, name: &str, problems: &mut Vec<Problem>) -> Node {
    if let Some(node) = cluster.nodes.get(name) {
        return node.as_ref().clone();
    }
    let known: Vec<&str> = cluster.nodes.keys().take(10).map(String::as_str).collect();
    let known = match known.as_slice() {
        [] => "there is no Node object at all: add one with podCIDRs and an InternalIP".to_owned(),
        names => format!(
            "known are {}: start with --node set to one of them, or add it",
            names.join(", ")
        ),
    };
    problems.push(Problem::error(
        format!("Node {name}"),
        format!("there is no Node of this name; {known}"),
    ));
    Node::default()
}

/// `BGPNode.routerID`, else the IPv4 InternalIP, else a hash of the name.
pub(super) fn router_id(cluster: &Cluster, node: &str) -> Ipv4Addr {
    let given = cluster.bgp_nodes.get(node).and_then(|node| node.router_id);
    given
        .or(cluster.addresses(node).v4)
        .unwrap_or_else(|| hashed(node))
}

/// A router ID from the name: stable, never in 0/8, 127/8 or 224/3, which some routers refuse.
fn hashed(name: &str) -> Ipv4Addr {
    let [first, b, c, d, ..] = hash(name).to_be_bytes();
    let first = match first % 222 {
        low @ 0..126 => low.saturating_add(1),
        high => high.saturating_add(2),
    };
    Ipv4Addr::new(first, b, c, d)
}

/// What is wrong with this node's identity.
pub(super) fn check(view: &View<'_>, problems: &mut Vec<Problem>) {
    if !view.cluster.nodes.contains_key(view.name) {
        return;
    }
    let about = format!("Node {}", view.name);
    if view.addresses.each().next().is_none() {
        problems.push(Problem::error(
            &about,
            "it has no InternalIP: nobody can be told how to reach its pods; add one to status.addresses (the kubelet's --node-ip) or to BGPNode.spec.addresses",
        ).because(Reason::AddressProblem));
    }
    if view.node.pod_cidrs.is_empty()
        && view.config.advertise.pod_cidrs
        && view.config.kernel.install
    {
        problems.push(Problem::warning(
            &about,
            "it has no spec.podCIDRs: it has nothing to announce and no conflist is written; let the controller manager allocate them (--allocate-node-cidrs) or set advertise.podCIDRs: false",
        ).because(Reason::PodCidrMissing));
    }
    for (family, missing) in [
        (Family::IPv4, view.addresses.v4.is_none()),
        (Family::IPv6, view.addresses.v6.is_none()),
    ] {
        let pods = view
            .node
            .pod_cidrs
            .iter()
            .any(|cidr| cidr.family() == family);
        if pods && missing && view.addresses.each().next().is_some() {
            problems.push(Problem::warning(
                &about,
                format!("it has an {family} pod CIDR but no {family} InternalIP to be its next hop: add one, or peer with extendedNextHop"),
            ).because(Reason::AddressProblem));
        }
    }
    unique_router_ids(view, problems);
    for (name, node) in &view.cluster.nodes {
        for ignored in &node.migrated.ignored {
            problems.push(Problem::warning(format!("Node {name}"), ignored));
        }
    }
    for name in view.cluster.bgp_nodes.keys() {
        if !view.cluster.nodes.contains_key(name) {
            problems.push(Problem::warning(
                format!("BGPNode {name}"),
                "there is no Node of this name: it has no effect; a BGPNode is named as its Node",
            ));
        }
    }
}

/// Two speakers with one BGP Identifier refuse each other inside an AS (RFC 6286) and confuse reflectors.
fn unique_router_ids(view: &View<'_>, problems: &mut Vec<Problem>) {
    let mut owners: BTreeMap<Ipv4Addr, &str> = BTreeMap::new();
    for name in view.cluster.nodes.keys() {
        let id = router_id(view.cluster, name);
        if let Some(other) = owners.insert(id, name) {
            problems.push(Problem::error(
                format!("Node {name}"),
                format!("it has the router ID {id} of node {other}: give one of them another by BGPNode.spec.routerID"),
            ).because(Reason::RouterIdConflict));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hashed_router_id_is_one_that_every_router_takes() {
        for i in 0..10_000 {
            let id = hashed(&format!("node{i}"));
            assert!(
                !id.is_multicast() && !id.is_loopback() && !id.is_broadcast(),
                "{id}"
            );
            assert!((1..=223).contains(&id.octets()[0]), "{id}");
        }
    }

    #[test]
    fn a_hashed_router_id_never_changes() {
        assert_eq!(hashed("node1"), hashed("node1"));
        assert_ne!(hashed("node1"), hashed("node2"));
    }
}
