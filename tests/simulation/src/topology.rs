//! Who peers with whom, what each originates, and on which terms.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bgp::prefix::{Families, Family, Prefix};

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
    /// What each end lets in and tells.
    pub filters: [Filter; 2],
    /// BFD watches the path.
    pub bfd: bool,
}

/// What one end of a session does with all routes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// As the relation wants it.
    #[default]
    Open,
    /// It lets none in.
    Refuses,
    /// It tells none.
    Withholds,
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
    /// How many prefixes anybody takes from a peer; 0: any number.
    pub limit: u32,
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

pub(crate) fn number(node: Node) -> u32 {
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

/// A prefix that a node originates by mistake.
#[must_use]
pub fn leaked(node: Node, which: u32) -> Prefix {
    prefix(Family::IPv6, node, LEAKED + which)
}

/// Whether it does.
#[must_use]
pub fn is_leaked(prefix: &Prefix) -> bool {
    match prefix.address() {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.segments()[0] == 0xfd01 && u32::from(v6.segments()[3]) >= LEAKED,
    }
}

/// From here on the numbers of prefixes are those of leaked ones.
const LEAKED: u32 = 1000;

/// One of many.
pub(crate) fn one_of_many(node: Node, which: u32) -> Prefix {
    let address = Ipv4Addr::from(0x0a80_0000 | number(node) << 20 | which << 4);
    Prefix::v4(address, 28).unwrap_or_else(|| unreachable!("no host bits, a valid length"))
}

impl Topology {
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

    /// Whether routes of one neighbour get to the other where they have a session: one tells them, the other lets them in.
    #[must_use]
    pub fn passes(&self, teller: Node, hearer: Node) -> bool {
        let (edge, side) = self.edge(teller, hearer);
        let filters = self.edges[edge].filters;
        filters[side] != Filter::Withholds && filters[1 - side] != Filter::Refuses
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
        let watched = self.edges.iter().filter(|edge| edge.bfd).count();
        let holds: BTreeSet<u64> = self.nodes.iter().map(|node| node.hold).collect();
        write!(
            f,
            "{:?}: {} speakers, {} sessions ({watched} with BFD), {prefixes} prefixes (limit {}), {graceful} graceful, hold {holds:?}, several paths: {}",
            self.kind,
            self.nodes.len(),
            self.edges.len(),
            self.limit,
            self.nodes.iter().any(|node| node.several_paths),
        )
    }
}
