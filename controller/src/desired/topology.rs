//! Sessions between nodes, as the topology has them: full mesh or route reflectors.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::{View, identity, password, policy, session, session::Sessions};
use crate::{cluster::Addresses, crd::configuration::Topology, problem::Problem};

/// Adds the sessions that the topology demands. A BGPPeer for the same address is the more precise word and stays.
pub(super) fn add(view: &View<'_>, sessions: &mut Sessions, problems: &mut Vec<Problem>) {
    if view.config.topology == Topology::External || !view.cluster.nodes.contains_key(view.name) {
        return;
    }
    let reflectors = reflectors(view);
    if view.config.topology == Topology::RouteReflector && reflectors.is_empty() {
        problems.push(Problem::error(
            "BGPConfiguration default",
            "topology is RouteReflector, but routeReflectors.nodeSelector matches no node: a full mesh carries the routes meanwhile; label the reflectors (default label routelet.dev/route-reflector=true)",
        ));
    }
    let password = password::password(
        view,
        "BGPConfiguration default",
        view.config.mesh_password_ref.as_ref(),
        problems,
    );
    let mut seen: BTreeSet<IpAddr> = view.addresses.each().collect();
    for node in view.cluster.nodes.keys().filter(|node| *node != view.name) {
        let Some(role) = role(&reflectors, view.name, node) else {
            continue;
        };
        let theirs = view.cluster.addresses(node);
        let Some((own, address)) = common(&view.addresses, &theirs) else {
            if view.addresses.each().next().is_some() {
                problems.push(Problem::error(
                    format!("Node {node}"),
                    no_address(&theirs, view.name),
                ));
            }
            continue;
        };
        if !seen.insert(address) {
            problems.push(Problem::error(
                format!("Node {node}"),
                format!("its address {address} is that of another node: it gets no session; give it one of its own"),
            ));
            continue;
        }
        if sessions
            .with(address, None, view.config.listen_port)
            .is_some()
        {
            continue;
        }
        let import = match role {
            Role::Equal | Role::Client => Arc::new(policy::pods_of(view, node)),
            Role::Reflector => view.default_import.clone(),
        };
        let mut peer = session::between_nodes(view, node, own, address, import);
        peer.password = password.clone();
        peer.route_reflector_client = role == Role::Client;
        if role == Role::Reflector {
            let all: Vec<&str> = view.cluster.nodes.keys().map(String::as_str).collect();
            peer.max_prefixes = session::limit(view, &Default::default(), Some(&all));
        }
        let taken = sessions.peers.contains_key(node) || sessions.ranges.contains_key(node);
        let name = if taken {
            format!("node:{node}")
        } else {
            node.clone()
        };
        sessions.peers.insert(name, peer);
    }
}

fn no_address(theirs: &Addresses, own: &str) -> String {
    match theirs.each().next() {
        None => "it has no InternalIP: no session with it; add one to its status.addresses".into(),
        Some(address) => format!(
            "it has no address in a family that node {own} has too (it has {address}): no session with it; give both nodes an InternalIP of one family"
        ),
    }
}

/// What the other node is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Each tells its own.
    Equal,
    /// We reflect to it.
    Client,
    /// It reflects to us, or is a reflector as we are.
    Reflector,
}

fn role(reflectors: &BTreeSet<&str>, own: &str, other: &str) -> Option<Role> {
    if reflectors.is_empty() {
        return Some(Role::Equal);
    }
    match (reflectors.contains(own), reflectors.contains(other)) {
        (_, true) => Some(Role::Reflector),
        (true, false) => Some(Role::Client),
        (false, false) => None,
    }
}

/// The nodes that reflect; none unless the topology says so.
fn reflectors<'a>(view: &'a View<'_>) -> BTreeSet<&'a str> {
    if view.config.topology != Topology::RouteReflector {
        return BTreeSet::new();
    }
    view.cluster
        .nodes
        .iter()
        .filter(|(_, node)| {
            view.config
                .route_reflectors
                .node_selector
                .matches(&node.labels)
        })
        .map(|(name, _)| name.as_str())
        .collect()
}

/// A pair of addresses of one family: IPv4 where both have it.
pub(super) fn common(ours: &Addresses, theirs: &Addresses) -> Option<(IpAddr, IpAddr)> {
    match (ours.v4, theirs.v4, ours.v6, theirs.v6) {
        (Some(own), Some(other), _, _) => Some((own.into(), other.into())),
        (_, _, Some(own), Some(other)) => Some((own.into(), other.into())),
        _ => None,
    }
}

/// Our cluster ID: our own, the configured one, or the lowest router ID among the reflectors.
pub(super) fn cluster_id(view: &View<'_>) -> Ipv4Addr {
    let own = view
        .cluster
        .bgp_nodes
        .get(view.name)
        .and_then(|node| node.route_reflector_cluster_id);
    let reflectors = reflectors(view);
    let lowest = || {
        reflectors
            .iter()
            .map(|name| identity::router_id(view.cluster, name))
            .min()
            .filter(|_| reflectors.contains(view.name))
    };
    own.or(view.config.route_reflectors.cluster_id)
        .or_else(lowest)
        .unwrap_or(view.router_id)
}
