//! Sessions between nodes, as the topology has them: full mesh or route reflectors.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{View, identity, password, policy, session, session::Sessions};
use crate::{
    cluster::{Addresses, Cluster, Node},
    crd::{BGPConfigurationSpec, configuration::Topology},
    problem::{Problem, Reason},
};

/// Adds the sessions that the topology demands. A BGPPeer for the same address is the more precise word and stays.
pub(super) fn add(view: &View<'_>, sessions: &mut Sessions, problems: &mut Vec<Problem>) {
    let used = [Some(&view.topology), view.facts.leaving.as_ref()];
    let none = used
        .iter()
        .flatten()
        .all(|topology| **topology == InForce::External);
    if none || !view.cluster.nodes.contains_key(view.name) {
        return;
    }
    let password = password::password(
        view,
        "BGPConfiguration default",
        view.config.mesh_password_ref.as_ref(),
        problems,
    );
    let mut seen: BTreeSet<IpAddr> = view.addresses.each().collect();
    for node in view.cluster.nodes.keys().filter(|node| *node != view.name) {
        let roles = used.iter().flatten();
        let Some(role) = roles
            .filter_map(|topology| topology.role(view.name, node))
            .max()
        else {
            continue;
        };
        let theirs = view.cluster.addresses(node);
        let Some((own, address)) = common(&view.addresses, &theirs) else {
            if view.addresses.each().next().is_some() {
                problems.push(
                    Problem::error(format!("Node {node}"), no_address(&theirs, view.name))
                        .because(Reason::AddressProblem),
                );
            }
            continue;
        };
        if !seen.insert(address) {
            problems.push(Problem::error(
                format!("Node {node}"),
                format!("its address {address} is that of another node: it gets no session; give it one of its own"),
            ).because(Reason::AddressProblem));
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

/// What the other node is to us. While one topology gives way to another, the greater counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    /// Each tells its own.
    Equal,
    /// We reflect to it.
    Client,
    /// It reflects to us, or is a reflector as we are.
    Reflector,
}

/// The topology in force: which sessions between nodes there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum InForce {
    /// Every node with every node.
    #[default]
    Mesh,
    /// Every node with these, and these with each other.
    Reflectors(BTreeSet<String>),
    /// None but those that BGPPeers name.
    External,
}

impl InForce {
    fn role(&self, own: &str, other: &str) -> Option<Role> {
        match self {
            Self::External => None,
            Self::Mesh => Some(Role::Equal),
            Self::Reflectors(reflectors) => {
                match (reflectors.contains(own), reflectors.contains(other)) {
                    (_, true) => Some(Role::Reflector),
                    (true, false) => Some(Role::Client),
                    (false, false) => None,
                }
            }
        }
    }

    fn reflects(&self, node: &str) -> bool {
        matches!(self, Self::Reflectors(reflectors) if reflectors.contains(node))
    }

    fn words(&self) -> String {
        match self {
            Self::Mesh => "a full mesh".into(),
            Self::External => "no sessions between nodes".into(),
            Self::Reflectors(reflectors) => {
                let names: Vec<&str> = reflectors.iter().map(String::as_str).collect();
                format!("the reflectors {}", names.join(", "))
            }
        }
    }
}

/// The topology that the configuration and the nodes ask for. Where no node is a reflector, what was in force last stays.
pub(super) fn in_force(
    cluster: &Cluster,
    config: &BGPConfigurationSpec,
    last: Option<&InForce>,
    problems: &mut Vec<Problem>,
) -> InForce {
    match config.topology {
        Topology::Mesh => return InForce::Mesh,
        Topology::External => return InForce::External,
        Topology::RouteReflector => {}
    }
    let selector = &config.route_reflectors.node_selector;
    let nodes = |is: &dyn Fn(&Node) -> bool| -> BTreeSet<String> {
        let nodes = cluster.nodes.iter().filter(|(_, node)| is(node));
        nodes.map(|(name, _)| name.clone()).collect()
    };
    let selected = nodes(&|node| selector.matches(&node.labels));
    if !selected.is_empty() {
        return InForce::Reflectors(selected);
    }
    // Those that reflected under another route manager, in a cluster that moves over.
    let migrated = nodes(&|node| node.migrated.reflector.is_some());
    if !migrated.is_empty() {
        return InForce::Reflectors(migrated);
    }
    let kept = match last {
        Some(InForce::Reflectors(before)) => {
            let left = nodes(&|_| true).intersection(before).cloned().collect();
            InForce::Reflectors(left)
        }
        _ => InForce::Mesh,
    };
    let kept = match kept {
        InForce::Reflectors(left) if left.is_empty() => InForce::Mesh,
        kept => kept,
    };
    let meanwhile = match &kept {
        InForce::Reflectors(_) => format!("{} stay", kept.words()),
        _ => format!("{} carries the routes meanwhile", kept.words()),
    };
    problems.push(Problem::error(
        "BGPConfiguration default",
        format!("topology is RouteReflector, but routeReflectors.nodeSelector matches no node: {meanwhile}; label the reflectors (default label routelet.dev/route-reflector=true)"),
    ).because(Reason::NoRouteReflector));
    kept
}

/// A pair of addresses of one family: IPv4 where both have it.
pub(super) fn common(ours: &Addresses, theirs: &Addresses) -> Option<(IpAddr, IpAddr)> {
    match (ours.v4, theirs.v4, ours.v6, theirs.v6) {
        (Some(own), Some(other), _, _) => Some((own.into(), other.into())),
        (_, _, Some(own), Some(other)) => Some((own.into(), other.into())),
        _ => None,
    }
}

/// Our cluster ID: our own, the configured one, the one from before, or the lowest router ID among the reflectors.
pub(super) fn cluster_id(view: &View<'_>) -> Ipv4Addr {
    let own = view
        .cluster
        .bgp_nodes
        .get(view.name)
        .and_then(|node| node.route_reflector_cluster_id);
    let migrated = || view.cluster.nodes.get(view.name)?.migrated.reflector;
    let lowest = || {
        let used = [Some(&view.topology), view.facts.leaving.as_ref()];
        let reflecting = used
            .into_iter()
            .flatten()
            .find(|topology| topology.reflects(view.name));
        match reflecting {
            Some(InForce::Reflectors(names)) => names
                .iter()
                .map(|name| identity::router_id(view.cluster, name))
                .min(),
            _ => None,
        }
    };
    own.or(view.config.route_reflectors.cluster_id)
        .or_else(migrated)
        .or_else(lowest)
        .unwrap_or(view.router_id)
}
