//! What each table must be, computed from the whole network at once by nothing but the topology: no Rib, no messages, no
//! history.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bgp::prefix::Prefix;

use crate::topology::{Kind, Node, Relation, Role, Topology};

/// By node and prefix: whom the route leads to. A node has no route for what it originates.
pub type Tables = Vec<BTreeMap<Prefix, BTreeSet<Node>>>;

/// What is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Nodes whose speaker runs.
    pub nodes: Vec<bool>,
    /// Edges over which a session can be.
    pub edges: Vec<bool>,
}

/// What all tables must be once nothing changes any more.
#[must_use]
pub fn tables(topology: &Topology, live: &Live) -> Tables {
    let mut tables: Tables = vec![BTreeMap::new(); topology.nodes.len()];
    // Prefixes with the same origins fare alike.
    let mut groups: BTreeMap<(bool, Vec<Node>), Vec<Prefix>> = BTreeMap::new();
    let mut origins: BTreeMap<Prefix, Vec<Node>> = BTreeMap::new();
    for (node, intent) in topology.nodes.iter().enumerate() {
        if live.nodes[node] {
            for prefix in intent.originates.keys() {
                origins.entry(*prefix).or_default().push(node);
            }
        }
    }
    for (prefix, origins) in origins {
        let v4 = prefix.address().is_ipv4();
        groups.entry((v4, origins)).or_default().push(prefix);
    }
    for ((_, origins), prefixes) in groups {
        let family = prefixes[0].family();
        let usable: Vec<bool> = (0..topology.edges.len())
            .map(|edge| live.edges[edge] && topology.families(edge).has(family))
            .collect();
        let ways = match topology.kind {
            Kind::Mesh | Kind::Reflectors | Kind::Heavy => internal(topology, &usable, &origins),
            Kind::Fabric | Kind::Graph | Kind::Tiers => external(topology, &usable, &origins),
        };
        for (node, towards) in ways.into_iter().enumerate() {
            if !towards.is_empty() && live.nodes[node] && !origins.contains(&node) {
                for prefix in &prefixes {
                    tables[node].insert(*prefix, towards.clone());
                }
            }
        }
    }
    tables
}

/// How an internal route came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Itself,
    Client,
    NoClient,
}

/// iBGP: the next hop stays who originates; reflectors pass on (RFC 4456 §6). Each origin is followed on its own: with
/// several of one prefix everyone hears of all (a full mesh, or reflectors that tell several paths).
fn internal(topology: &Topology, usable: &[bool], origins: &[Node]) -> Vec<BTreeSet<Node>> {
    let mut ways = vec![BTreeSet::new(); topology.nodes.len()];
    for origin in origins {
        let mut heard: Vec<Option<From>> = vec![None; topology.nodes.len()];
        heard[*origin] = Some(From::Itself);
        let mut queue = VecDeque::from([*origin]);
        while let Some(teller) = queue.pop_front() {
            let reflects = topology.nodes[teller].role == Role::Reflector;
            for (hearer, edge) in &topology.neighbours[teller] {
                let edge_is = &topology.edges[*edge];
                let client = edge_is.relation == Relation::Client;
                let hearer_is_client = client && edge_is.ends[1] == *hearer;
                let tells = match heard[teller] {
                    Some(From::Itself) => true,
                    Some(From::Client) => reflects,
                    Some(From::NoClient) => reflects && hearer_is_client,
                    None => false,
                };
                let tells = tells && topology.passes(teller, *hearer);
                if !usable[*edge] || !tells || heard[*hearer].is_some() {
                    continue;
                }
                let teller_is_client = client && edge_is.ends[1] == teller;
                heard[*hearer] = Some(if teller_is_client {
                    From::Client
                } else {
                    From::NoClient
                });
                ways[*hearer].insert(*origin);
                queue.push_back(*hearer);
            }
        }
    }
    // Whoever is on its way out is chosen only where nobody else is left (RFC 8326).
    for way in &mut ways {
        let stays = |node: &Node| !topology.nodes[*node].draining;
        if way.iter().any(stays) {
            way.retain(stays);
        }
    }
    ways
}

/// How good an external route is, the best first: preference, then length.
type Cost = (u8, u32);

/// eBGP: a fixpoint; the next hop is the neighbour, and all that are equally good are used.
fn external(topology: &Topology, usable: &[bool], origins: &[Node]) -> Vec<BTreeSet<Node>> {
    let count = topology.nodes.len();
    let mut best: Vec<Option<Cost>> = vec![None; count];
    for origin in origins {
        best[*origin] = Some((0, 0));
    }
    let offers = |best: &[Option<Cost>], node: Node| -> Vec<(Cost, Node)> {
        let neighbours = topology.neighbours[node].iter();
        neighbours
            .filter(|(from, edge)| usable[**edge] && topology.passes(**from, node))
            .filter_map(|(from, edge)| Some((offer(topology, *edge, *from, best[*from]?)?, *from)))
            .collect()
    };
    // Whose neighbours have changed looks again.
    let mut queue: VecDeque<Node> = origins.iter().copied().collect();
    while let Some(changed) = queue.pop_front() {
        for node in topology.neighbours[changed].keys() {
            let cost = offers(&best, *node).iter().map(|(cost, _)| *cost).min();
            if !origins.contains(node) && cost != best[*node] {
                best[*node] = cost;
                queue.push_back(*node);
            }
        }
    }
    let way = |node: Node| {
        let offers = offers(&best, node).into_iter();
        offers
            .filter(|(cost, _)| Some(*cost) == best[node])
            .map(|(_, from)| from)
            .collect()
    };
    (0..count).map(way).collect()
}

/// What `from` offers over an edge of a route that it has at this cost itself; `None`: it does not.
fn offer(topology: &Topology, edge: usize, from: Node, (preference, length): Cost) -> Option<Cost> {
    let edge = &topology.edges[edge];
    let side = usize::from(edge.ends[1] == from);
    let own = preference == 0;
    if topology.nodes[from].role == Role::Leaf && !own {
        return None;
    }
    // To customers goes everything; to others only what is ours or our customers'.
    let (told, received) = match (edge.relation, side) {
        // From a provider to its customer.
        (Relation::Provider, 0) => (true, 3),
        // From a customer to its provider.
        (Relation::Provider, _) => (preference <= 1, 1),
        (Relation::Peers, _) => (preference <= 1, 2),
        (Relation::Internal | Relation::Client | Relation::External, _) => (true, 1),
    };
    told.then(|| (received, length + 1 + u32::from(edge.prepend[side])))
}
