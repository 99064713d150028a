//! Whose pod CIDR is whose: overlaps are found and the later claim is left out.

use std::{collections::BTreeMap, net::IpAddr};

use bgp::{
    owners::{Owner, Owners},
    prefix::Prefix,
};

use super::{View, peers, session::Sessions};
use crate::{
    cluster::Cluster,
    crd::BGPConfigurationSpec,
    problem::{Problem, Reason},
};

/// Pod CIDRs and whose they are.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Those of a node.
    pub(super) owners: BTreeMap<Prefix, String>,
    /// Those that are left out and belong to nobody, with the reason.
    pub(super) nobodys: BTreeMap<Prefix, String>,
}

/// Every pod CIDR and its node. A CIDR that overlaps one of an older node, a service CIDR or the address of a node is
/// left out: it is neither announced nor accepted.
pub(super) fn claims(
    cluster: &Cluster,
    config: &BGPConfigurationSpec,
    problems: &mut Vec<Problem>,
) -> Claims {
    let mut nodes: Vec<_> = cluster.nodes.iter().collect();
    nodes.sort_by_key(|(name, node)| {
        (
            node.created.is_none(),
            node.created.as_deref(),
            name.as_str(),
        )
    });
    let mut claims = Claims::default();
    let owners = &mut claims.owners;
    for (name, node) in nodes {
        for cidr in &node.pod_cidrs {
            let about = format!("Node {name}");
            if let Some((other, owner)) = overlapping(owners, cidr) {
                if owner != name {
                    problems.push(Problem::error(
                        about,
                        format!("its pod CIDR {cidr} overlaps {other} of node {owner}, which had it first: it is neither announced nor accepted; give the node another range"),
                    ).because(Reason::PodCidrConflict));
                }
                continue;
            }
            let service = config
                .pod_network
                .service_cidrs
                .iter()
                .find(|service| service.0.overlaps(cidr));
            if let Some(service) = service {
                problems.push(Problem::error(
                    about,
                    format!("its pod CIDR {cidr} overlaps the service CIDR {service}: it is neither announced nor accepted; give the node another range"),
                ).because(Reason::PodCidrConflict));
                claims
                    .nobodys
                    .insert(*cidr, format!("it overlaps the service CIDR {service}"));
                continue;
            }
            if !config.pod_network.cluster_cidrs.is_empty()
                && !config
                    .pod_network
                    .cluster_cidrs
                    .iter()
                    .any(|pods| pods.0.contains(cidr))
            {
                problems.push(Problem::warning(
                    about,
                    format!("its pod CIDR {cidr} lies outside podNetwork.clusterCIDRs: routers that go by these refuse it; add its range there"),
                ));
            }
            owners.insert(*cidr, name.clone());
        }
    }
    apart_from_nodes(cluster, config, &mut claims, problems);
    claims
}

/// Pod CIDRs that hold the address of a node would cut it off.
fn apart_from_nodes(
    cluster: &Cluster,
    config: &BGPConfigurationSpec,
    claims: &mut Claims,
    problems: &mut Vec<Problem>,
) {
    for name in cluster.nodes.keys() {
        for address in cluster.addresses(name).each() {
            let host = Prefix::host(address);
            if let Some((cidr, owner)) = overlapping(&claims.owners, &host) {
                problems.push(Problem::error(
                    format!("Node {owner}"),
                    format!("its pod CIDR {cidr} holds the address {address} of node {name}: it is neither announced nor accepted; pods and nodes need separate ranges"),
                ).because(Reason::PodCidrConflict));
                let cidr = *cidr;
                claims.owners.remove(&cidr);
                claims.nobodys.insert(
                    cidr,
                    format!("it holds the address {address} of node {name}"),
                );
            }
            for (what, ranges) in [
                ("pod network", &config.pod_network.cluster_cidrs),
                ("service CIDR", &config.pod_network.service_cidrs),
            ] {
                if let Some(range) = ranges.iter().find(|range| range.0.contains(&host)) {
                    problems.push(Problem::warning(
                        format!("Node {name}"),
                        format!("its address {address} lies inside the {what} {range}: the three ranges must not overlap"),
                    ).because(Reason::PodCidrConflict));
                }
            }
        }
    }
}

/// The entry that shares an address with `prefix`. The keys are disjoint, so only the neighbours in order can.
fn overlapping<'a>(
    owners: &'a BTreeMap<Prefix, String>,
    prefix: &Prefix,
) -> Option<(&'a Prefix, &'a String)> {
    let before = owners.range(..=*prefix).next_back();
    let after = owners.range(*prefix..).next();
    before
        .into_iter()
        .chain(after)
        .find(|(cidr, _)| cidr.overlaps(prefix))
}

/// The entry that holds all of `prefix`.
pub(super) fn covering<'a>(
    owners: &'a BTreeMap<Prefix, String>,
    prefix: &Prefix,
) -> Option<(&'a Prefix, &'a String)> {
    overlapping(owners, prefix).filter(|(cidr, _)| cidr.contains(prefix))
}

/// What the origin check goes by: the pod CIDRs of the other nodes, and every address of every node. Our own pod CIDRs are not
/// in it: no route to them is ever installed.
pub(super) fn owners(view: &View<'_>, nobodys: &BTreeMap<Prefix, String>) -> Owners {
    let own = |cidr: &Prefix| view.node.pod_cidrs.contains(cidr);
    let nodes = view.cluster.nodes.iter().map(|(name, node)| {
        let given = view.cluster.bgp_nodes.get(name);
        let given = given.into_iter().flat_map(|given| &given.addresses);
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in given.chain(&node.internal_ips) {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        let owner = Owner {
            name: name.clone(),
            addresses,
            forwards: peers::forwards(view, name, node),
        };
        let theirs = if name == view.name {
            &[]
        } else {
            view.pod_cidrs(name)
        };
        (owner, theirs.to_vec())
    });
    let nobodys = nobodys.iter().filter(|(cidr, _)| !own(cidr));
    Owners::new(nodes, nobodys.map(|(cidr, why)| (*cidr, why.clone())))
}

/// Says it where the default import can let nothing in, for want of anything that says what the pod network is.
pub(super) fn check_import(view: &View<'_>, sessions: &Sessions, problems: &mut Vec<Problem>) {
    let others = view.owners.values().any(|owner| owner != view.name);
    let defaulted = sessions
        .all()
        .any(|peer| std::sync::Arc::ptr_eq(&peer.import, &view.default_import));
    let nothing_else =
        view.config.kernel.allowed_prefixes.is_empty() && !view.config.kernel.accept_default_route;
    if defaulted && !others && view.config.pod_network.cluster_cidrs.is_empty() && nothing_else {
        problems.push(Problem::warning(
            "BGPConfiguration default",
            "podNetwork.clusterCIDRs is empty and no other Node is known, so the default import lets nothing in: set clusterCIDRs, or give the peers an import",
        ));
    }
}
