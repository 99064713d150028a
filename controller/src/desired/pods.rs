//! Whose pod CIDR is whose: overlaps are found and the later claim is left out.

use std::collections::BTreeMap;

use bgp::prefix::Prefix;

use super::{View, session::Sessions};
use crate::{cluster::Cluster, crd::BGPConfigurationSpec, problem::Problem};

/// Every pod CIDR and its node. A CIDR that overlaps one of an older node, a service CIDR or the address of a node is
/// left out: it is neither announced nor accepted.
pub(super) fn owners(
    cluster: &Cluster,
    config: &BGPConfigurationSpec,
    problems: &mut Vec<Problem>,
) -> BTreeMap<Prefix, String> {
    let mut nodes: Vec<_> = cluster.nodes.iter().collect();
    nodes.sort_by_key(|(name, node)| {
        (
            node.created.is_none(),
            node.created.as_deref(),
            name.as_str(),
        )
    });
    let mut owners: BTreeMap<Prefix, String> = BTreeMap::new();
    for (name, node) in nodes {
        for cidr in &node.pod_cidrs {
            let about = format!("Node {name}");
            if let Some((other, owner)) = overlapping(&owners, cidr) {
                if owner != name {
                    problems.push(Problem::error(
                        about,
                        format!("its pod CIDR {cidr} overlaps {other} of node {owner}, which had it first: it is neither announced nor accepted; give the node another range"),
                    ));
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
                ));
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
    apart_from_nodes(cluster, config, &mut owners, problems);
    owners
}

/// Pod CIDRs that hold the address of a node would cut it off.
fn apart_from_nodes(
    cluster: &Cluster,
    config: &BGPConfigurationSpec,
    owners: &mut BTreeMap<Prefix, String>,
    problems: &mut Vec<Problem>,
) {
    for name in cluster.nodes.keys() {
        for address in cluster.addresses(name).each() {
            let host = Prefix::host(address);
            if let Some((cidr, owner)) = overlapping(owners, &host) {
                problems.push(Problem::error(
                    format!("Node {owner}"),
                    format!("its pod CIDR {cidr} holds the address {address} of node {name}: it is neither announced nor accepted; pods and nodes need separate ranges"),
                ));
                let cidr = *cidr;
                owners.remove(&cidr);
            }
            for (what, ranges) in [
                ("pod network", &config.pod_network.cluster_cidrs),
                ("service CIDR", &config.pod_network.service_cidrs),
            ] {
                if let Some(range) = ranges.iter().find(|range| range.0.contains(&host)) {
                    problems.push(Problem::warning(
                        format!("Node {name}"),
                        format!("its address {address} lies inside the {what} {range}: the three ranges must not overlap"),
                    ));
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
