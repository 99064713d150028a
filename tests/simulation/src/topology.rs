//! Who peers with whom, what each originates, and on which terms: what a seed makes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bgp::prefix::{Families, Family, Prefix};
use fastrand::Rng;

/// A speaker, by its place in [`Topology::nodes`].
pub type Node = usize;

/// A shape of network. In each of them the routes that BGP ends up with are the same whatever happened before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One AS, each peers with each.
    Mesh,
    /// One AS, reflectors that peer with each other, and clients of some of them.
    Reflectors,
    /// Nodes in ASes of their own, each a neighbour of two ToRs.
    Fabric,
    /// An AS each, any neighbours, the shortest path wins.
    Graph,
    /// An AS each, providers above, customers below, peers beside (Gao and Rexford's rules).
    Tiers,
    /// Three or four speakers, each with hundreds of prefixes that no UPDATE can share; the more, the more speakers were asked for.
    Heavy,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Mesh,
        Self::Reflectors,
        Self::Fabric,
        Self::Graph,
        Self::Tiers,
        Self::Heavy,
    ];
}

/// What a speaker does with routes that are not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It tells nobody.
    Leaf,
    /// It reflects them (RFC 4456).
    Reflector,
    /// It passes them on to other ASes.
    Transit,
}

/// What two neighbours are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The same AS.
    Internal,
    /// The same AS; the second end is a client of the first.
    Client,
    /// Different ASes, without preferences.
    External,
    /// The first end is the provider of the second.
    Provider,
    /// Neither is the other's provider.
    Peers,
}

/// How graceful a speaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// Restart time, seconds.
    pub restart: u16,
    /// Long-lived stale time, seconds; 0: none.
    pub long_lived: u32,
    /// RFC 8538.
    pub notification: bool,
}

/// What a speaker is meant to do.
#[derive(Clone, Debug)]
pub struct Intent {
    /// Its AS.
    pub asn: u32,
    /// What becomes of others' routes.
    pub role: Role,
    /// What it originates, each with a MED.
    pub originates: BTreeMap<Prefix, u32>,
    /// The families it offers.
    pub families: Families,
    /// Hold time it proposes, seconds.
    pub hold: u64,
    /// Graceful restart, where it offers it.
    pub grace: Option<Grace>,
    /// It takes several paths, and sends all.
    pub several_paths: bool,
    /// RFC 8326.
    pub draining: bool,
}

/// Two neighbours.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Who.
    pub ends: [Node; 2],
    /// What the first is to the second.
    pub relation: Relation,
    /// How often each end prepends its AS towards the other.
    pub prepend: [u8; 2],
    /// Both dial at once, and so collide; else the second one waits for the first.
    pub both_dial: bool,
    /// An end that has shut the session down.
    pub shut: Option<usize>,
}

/// The whole network, as it is meant to be.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Its shape.
    pub kind: Kind,
    /// All speakers.
    pub nodes: Vec<Intent>,
    /// All neighbours.
    pub edges: Vec<Edge>,
    /// By node: its neighbours, and the edge to each.
    pub neighbours: Vec<BTreeMap<Node, usize>>,
}

/// The addresses of a speaker; the first is its BGP Identifier too.
#[must_use]
pub fn address(node: Node) -> Ipv4Addr {
    Ipv4Addr::from(0xac10_0001 + number(node))
}

/// The same for IPv6.
#[must_use]
pub fn address6(node: Node) -> Ipv6Addr {
    Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(number(node) + 1))
}

/// Whose address this is.
#[must_use]
pub fn node_at(address: IpAddr) -> Node {
    let number = match address {
        IpAddr::V4(v4) => u32::from(v4).wrapping_sub(0xac10_0001),
        IpAddr::V6(v6) => u32::try_from(u128::from(v6) & 0xffff_ffff).unwrap_or(0) - 1,
    };
    number as Node
}

fn number(node: Node) -> u32 {
    u32::try_from(node).unwrap_or(u32::MAX)
}

/// A prefix of a node; `which` tells its prefixes apart.
#[must_use]
pub fn prefix(family: Family, node: Node, which: u32) -> Prefix {
    let number = number(node);
    let made = match family {
        // 10.0.0.0/9: 2^15 prefixes by node and which.
        Family::IPv4 => Prefix::v4(
            Ipv4Addr::from(0x0a00_0000 | (which & 31) << 18 | (number & 1023) << 8),
            24,
        ),
        Family::IPv6 => Prefix::v6(
            Ipv6Addr::from(0xfd01_u128 << 112 | u128::from(number) << 80 | u128::from(which) << 64),
            64,
        ),
    };
    made.unwrap_or_else(|| unreachable!("no host bits, a valid length"))
}

/// A prefix that several nodes originate.
#[must_use]
pub fn shared(family: Family, which: u32) -> Prefix {
    let made = match family {
        Family::IPv4 => Prefix::v4(Ipv4Addr::from(0x0aff_0000 | which << 8), 24),
        Family::IPv6 => Prefix::v6(
            Ipv6Addr::from(0xfd02_u128 << 112 | u128::from(which) << 64),
            64,
        ),
    };
    made.unwrap_or_else(|| unreachable!("no host bits, a valid length"))
}

/// One of many.
fn one_of_many(node: Node, which: u32) -> Prefix {
    let address = Ipv4Addr::from(0x0a80_0000 | number(node) << 20 | which << 4);
    Prefix::v4(address, 28).unwrap_or_else(|| unreachable!("no host bits, a valid length"))
}

impl Topology {
    /// What `random` makes of this shape with about so many speakers.
    #[must_use]
    pub fn new(kind: Kind, speakers: usize, random: &mut Rng) -> Self {
        let mut topology = Self {
            kind,
            nodes: Vec::new(),
            edges: Vec::new(),
            neighbours: Vec::new(),
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
                // Beside the route that it prefers an AS would tell shorter ones.
                several_paths: terms.several_paths && kind != Kind::Tiers,
                draining: false,
            });
        }
        topology.share(random);
        topology.connect(count, reflectors, &terms, random);
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
            });
        }
    }

    /// The neighbours of a node.
    #[must_use]
    pub fn peers(&self, node: Node) -> Vec<Node> {
        self.neighbours[node].keys().copied().collect()
    }

    /// The edge between two neighbours, and which of its ends the first is.
    #[must_use]
    pub fn edge(&self, node: Node, peer: Node) -> (usize, usize) {
        let edge = self.neighbours[node][&peer];
        (edge, usize::from(self.edges[edge].ends[1] == node))
    }

    /// The families that two neighbours carry.
    #[must_use]
    pub fn families(&self, edge: usize) -> Families {
        let [a, b] = self.edges[edge].ends;
        self.nodes[a].families & self.nodes[b].families
    }

    /// The hold time that two neighbours agree on, seconds; 0: none.
    #[must_use]
    pub fn hold(&self, edge: usize) -> u64 {
        let [a, b] = self.edges[edge].ends;
        self.nodes[a].hold.min(self.nodes[b].hold)
    }

    /// All prefixes that anyone originates.
    #[must_use]
    pub fn prefixes(&self) -> BTreeSet<Prefix> {
        let all = self.nodes.iter().flat_map(|node| node.originates.keys());
        all.copied().collect()
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefixes: usize = self.nodes.iter().map(|node| node.originates.len()).sum();
        let graceful = self
            .nodes
            .iter()
            .filter(|node| node.grace.is_some())
            .count();
        let holds: BTreeSet<u64> = self.nodes.iter().map(|node| node.hold).collect();
        write!(
            f,
            "{:?}: {} speakers, {} sessions, {prefixes} prefixes, {graceful} graceful, hold {holds:?}, several paths: {}",
            self.kind,
            self.nodes.len(),
            self.edges.len(),
            self.nodes.iter().any(|node| node.several_paths),
        )
    }
}

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
