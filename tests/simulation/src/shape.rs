//! What a seed makes of a shape of network.

use std::collections::BTreeMap;

use bgp::prefix::{Families, Family, Prefix};
use fastrand::Rng;

use crate::topology::{
    Edge, Filter, Grace, Intent, Kind, Node, Relation, Role, Topology, number, one_of_many, prefix,
    shared,
};

impl Topology {
    /// What `random` makes of this shape with about so many speakers.
    #[must_use]
    pub fn new(kind: Kind, speakers: usize, random: &mut Rng) -> Self {
        let mut topology = Self {
            kind,
            nodes: Vec::new(),
            edges: Vec::new(),
            neighbours: Vec::new(),
            limit: 0,
        };
        let terms = Terms::new(random);
        let count = match kind {
            Kind::Heavy => 3 + random.usize(..2),
            Kind::Fabric => speakers.max(4) + 2,
            _ => speakers.max(3),
        };
        let reflectors = 2 + random.usize(..2).min(count / 4);
        for node in 0..count {
            topology.nodes.push(Intent {
                asn: match kind {
                    Kind::Mesh | Kind::Reflectors | Kind::Heavy => 64512,
                    // Some of them do not fit two octets.
                    _ if node % 3 == 0 => 4_200_000_000 + number(node),
                    _ => 1000 + number(node),
                },
                role: match kind {
                    Kind::Reflectors if node < reflectors => Role::Reflector,
                    Kind::Fabric if node < 2 => Role::Transit,
                    Kind::Graph | Kind::Tiers => Role::Transit,
                    _ => Role::Leaf,
                },
                originates: topology.originates(node, speakers, random),
                families: terms.families(random),
                hold: terms.hold(random),
                grace: terms.grace(random),
                several_paths: terms.several_paths && tells_several(kind, count),
                draining: false,
            });
        }
        topology.share(random);
        topology.connect(count, reflectors, &terms, random);
        // What nobody but who leaks comes near to.
        if terms.limited && kind != Kind::Heavy && !terms.several_paths && count < 60 {
            topology.limit = number(topology.prefixes().len() + 4 * count);
        }
        topology
    }

    fn originates(&self, node: Node, speakers: usize, random: &mut Rng) -> BTreeMap<Prefix, u32> {
        if self.kind == Kind::Heavy {
            let count = number(speakers) * (60 + random.u32(..60));
            return (0..count)
                .map(|which| (one_of_many(node, which), which))
                .collect();
        }
        let count = 1 + random.u32(..3);
        let each = (0..count).flat_map(|which| {
            [
                prefix(Family::IPv4, node, which),
                prefix(Family::IPv6, node, which),
            ]
        });
        each.map(|prefix| (prefix, 0)).collect()
    }

    /// Some prefixes are originated at several places: the nearest wins, or all that are equally near. A reflector that
    /// tells one path only would hide some, and which one is its own choice.
    fn share(&mut self, random: &mut Rng) {
        let several = self.nodes.iter().all(|node| node.several_paths);
        if self.kind == Kind::Heavy || self.kind == Kind::Reflectors && !several {
            return;
        }
        for which in 0..random.u32(..4) {
            for _ in 0..2 + random.usize(..2) {
                let node = random.usize(..self.nodes.len());
                let intent = &mut self.nodes[node];
                if intent.role != Role::Reflector {
                    for family in Family::ALL {
                        intent.originates.insert(shared(family, which), 0);
                    }
                }
            }
        }
    }

    fn connect(&mut self, count: usize, reflectors: usize, terms: &Terms, random: &mut Rng) {
        let mut pairs: BTreeMap<(Node, Node), Relation> = BTreeMap::new();
        match self.kind {
            Kind::Mesh | Kind::Heavy => {
                for a in 0..count {
                    pairs.extend((a + 1..count).map(|b| ((a, b), Relation::Internal)));
                }
            }
            Kind::Reflectors => {
                for a in 0..reflectors {
                    pairs.extend((a + 1..reflectors).map(|b| ((a, b), Relation::Internal)));
                }
                for client in reflectors..count {
                    let first = random.usize(..reflectors);
                    let second = random.usize(..reflectors);
                    pairs.insert((first, client), Relation::Client);
                    pairs.insert((second, client), Relation::Client);
                }
            }
            Kind::Fabric => {
                for node in 2..count {
                    pairs.insert((0, node), Relation::External);
                    pairs.insert((1, node), Relation::External);
                }
            }
            Kind::Graph | Kind::Tiers => {
                let relation = |random: &mut Rng| match self.kind {
                    Kind::Graph => Relation::External,
                    _ if random.u8(..4) == 0 => Relation::Peers,
                    _ => Relation::Provider,
                };
                for node in 1..count {
                    // Each has a provider, so that all are connected where preferences allow it.
                    let first = match self.kind {
                        Kind::Graph => Relation::External,
                        _ => Relation::Provider,
                    };
                    pairs.insert((random.usize(node.saturating_sub(8)..node), node), first);
                    for _ in 0..random.usize(..3) {
                        let other = random.usize(..node);
                        let relation = relation(random);
                        pairs.entry((other, node)).or_insert(relation);
                    }
                }
            }
        }
        self.neighbours = vec![BTreeMap::new(); count];
        for ((a, b), relation) in pairs {
            let edge = self.edges.len();
            self.neighbours[a].insert(b, edge);
            self.neighbours[b].insert(a, edge);
            let prepend = match self.kind {
                Kind::Graph => [random.u8(..3), random.u8(..3)],
                _ => [0, 0],
            };
            self.edges.push(Edge {
                ends: [a, b],
                relation,
                prepend,
                both_dial: random.u8(..4) < terms.collisions,
                shut: None,
                filters: [Filter::Open; 2],
                bfd: random.u8(..4) < terms.watched && edge < WATCHED,
            });
        }
    }
}

/// BFD watches so many sessions at most: its packets would be most of what happens.
const WATCHED: usize = 60;

/// What the speakers of a network have in common.
struct Terms {
    holds: Vec<u64>,
    grace: Option<Grace>,
    /// Of four speakers so many are graceful.
    graceful: u8,
    /// Of four sessions so many are dialled from both ends.
    collisions: u8,
    several_paths: bool,
    one_family: bool,
    /// Nobody takes more from a peer than there should be.
    limited: bool,
    /// Of four sessions BFD watches so many.
    watched: u8,
}

/// Whether speakers may tell several paths. Beside the route that it prefers an AS of the tiers would tell shorter ones; and the paths
/// through a graph, all of which are told, are too many where it is not small.
fn tells_several(kind: Kind, count: usize) -> bool {
    match kind {
        Kind::Tiers => false,
        Kind::Graph => count <= 6,
        Kind::Mesh | Kind::Reflectors | Kind::Fabric | Kind::Heavy => true,
    }
}

impl Terms {
    fn new(random: &mut Rng) -> Self {
        let holds: [&[u64]; 5] = [&[9], &[30], &[9, 30, 90], &[0], &[0, 9]];
        Self {
            holds: holds[random.usize(..holds.len())].to_vec(),
            grace: (random.u8(..3) > 0).then(|| Grace {
                restart: [20, 40][random.usize(..2)],
                long_lived: [0, 0, 30][random.usize(..3)],
                notification: random.bool(),
            }),
            graceful: [2, 4, 4][random.usize(..3)],
            collisions: random.u8(..5),
            several_paths: random.u8(..3) == 0,
            one_family: random.u8(..4) == 0,
            limited: random.u8(..3) == 0,
            watched: [0, 0, 2, 4][random.usize(..4)],
        }
    }

    fn hold(&self, random: &mut Rng) -> u64 {
        self.holds[random.usize(..self.holds.len())]
    }

    fn grace(&self, random: &mut Rng) -> Option<Grace> {
        self.grace.filter(|_| random.u8(..4) < self.graceful)
    }

    fn families(&self, random: &mut Rng) -> Families {
        if self.one_family && random.bool() {
            Families::IPV4
        } else {
            Families::all()
        }
    }
}
