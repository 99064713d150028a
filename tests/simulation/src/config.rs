//! What the topology means for one speaker: the same structs that the controller makes of manifests.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use bgp::{
    config::{
        AddPath, BfdConfig, CommunityValue, Connect, GracefulRestartConfig, Hops, Match,
        MaxPrefixes, Multipath, NextHopAddresses, NextHopMode, Origination, OverLimit, Password,
        PeerAsn, PeerConfig, Policy, Rule, Set, Source, Timers, Ttl, Verdict,
    },
    rib::task::Settings,
    wire::Community,
};
use fib::{AllowedRange, Config, Guard};
use ipnetwork::IpNetwork;

use crate::topology::{Filter, Kind, Node, Relation, Topology, address, address6};

/// Longest wait between dials.
pub const CONNECT_RETRY: Duration = Duration::from_secs(5);
/// Longest stay in Idle.
pub const IDLE_HOLD: Duration = Duration::from_secs(10);
/// Wait of a restarted speaker for its peers.
pub const DEFERRAL: Duration = Duration::from_secs(15);
/// How long who told too much is not talked to.
pub const STAY_AWAY: Duration = Duration::from_secs(20);
/// Slow enough for hundreds of sessions, faster than any hold time.
pub const BFD: BfdConfig = BfdConfig {
    min_rx: Duration::from_secs(1),
    min_tx: Duration::from_secs(1),
    multiplier: 3,
    hops: Hops::Single,
};
/// What marks the routes of customers.
const CUSTOMER: CommunityValue = CommunityValue::Standard(Community(0xff00_0001));

/// What concerns the Rib of a node as a whole.
#[must_use]
pub fn settings(topology: &Topology, node: Node) -> Settings {
    let intent = &topology.nodes[node];
    let originate = intent.originates.iter().map(|(prefix, med)| {
        let set = Set {
            med: (*med > 0).then_some(*med),
            ..Set::default()
        };
        let origination = Origination {
            source: Source::Static,
            peers: None,
            set,
            others: Vec::new(),
        };
        (*prefix, origination)
    });
    Settings {
        asn: intent.asn,
        router_id: address(node),
        cluster_id: address(node),
        multipath: Multipath {
            max_paths: 64,
            as_path_relax: true,
        },
        deferral: DEFERRAL,
        draining: intent.draining,
        stable: true,
        originate: originate.collect(),
        owners: Arc::default(),
    }
}

/// All peers of a node.
#[must_use]
pub fn peers(topology: &Topology, node: Node, restarted: bool) -> BTreeMap<Node, Arc<PeerConfig>> {
    let neighbours = topology.neighbours[node].keys();
    neighbours
        .map(|remote| (*remote, Arc::new(peer(topology, node, *remote, restarted))))
        .collect()
}

/// How a node treats one of its neighbours.
#[must_use]
pub fn peer(topology: &Topology, node: Node, remote: Node, restarted: bool) -> PeerConfig {
    let intent = &topology.nodes[node];
    let (edge, side) = topology.edge(node, remote);
    let edge = &topology.edges[edge];
    let hold = Duration::from_secs(intent.hold);
    PeerConfig {
        address: address(remote).into(),
        interface: None,
        unnumbered: None,
        port: 179,
        asn: PeerAsn::Number(topology.nodes[remote].asn),
        local_asn: intent.asn,
        source: None,
        connect: if side == 0 || edge.both_dial {
            Connect::Dial
        } else {
            Connect::After(Duration::from_secs(10))
        },
        ttl: Ttl::Send(1),
        password: Password::None,
        timers: Timers {
            connect_retry: CONNECT_RETRY,
            hold,
            keepalive: hold / 3,
            idle_hold_max: IDLE_HOLD,
        },
        families: intent.families,
        extended_next_hop: false,
        add_path: AddPath {
            receive: intent.several_paths,
            send_max: if intent.several_paths { 32 } else { 0 },
        },
        graceful_restart: intent.grace.map(|grace| GracefulRestartConfig {
            restart_time: grace.restart,
            long_lived: grace.long_lived,
            notification: grace.notification,
            restarted,
        }),
        next_hop: NextHopMode::Auto,
        next_hop_addresses: NextHopAddresses {
            v4: Some(address(node)),
            v6: Some(address6(node)),
        },
        route_reflector_client: edge.relation == Relation::Client && side == 0,
        allow_own_as: 0,
        max_prefixes: MaxPrefixes {
            count: topology.limit,
            action: OverLimit::Shutdown(STAY_AWAY),
        },
        bfd: edge.bfd.then_some(BFD),
        import: Arc::new(match edge.filters[side] {
            Filter::Refuses => Policy::always("none", Verdict::Reject),
            _ => import(edge.relation, side),
        }),
        export: match edge.filters[side] {
            Filter::Withholds => Some(Policy::always("none", Verdict::Reject)),
            _ => export(topology.kind, edge.relation, side, edge.prepend[side]),
        }
        .map(Arc::new),
        shutdown: (edge.shut == Some(side)).then(|| "as the simulation wants it".to_owned()),
        mesh: false,
    }
}

fn rule(matches: Match, set: Set, verdict: Option<Verdict>) -> Rule {
    Rule {
        matches,
        set,
        verdict,
    }
}

/// Customers before peers before providers, and who is a customer is marked.
fn import(relation: Relation, side: usize) -> Policy {
    let (local_pref, customer) = match (relation, side) {
        (Relation::Provider, 0) => (300, true),
        (Relation::Provider, _) => (100, false),
        (Relation::Peers, _) => (200, false),
        (Relation::Internal | Relation::Client | Relation::External, _) => {
            return Policy::always("all", Verdict::Accept);
        }
    };
    let clean = Set {
        local_pref: Some(local_pref),
        remove_communities: vec![CUSTOMER],
        ..Set::default()
    };
    let mark = Set {
        add_communities: if customer { vec![CUSTOMER] } else { Vec::new() },
        ..Set::default()
    };
    Policy {
        name: "by relation".into(),
        rules: vec![
            rule(Match::default(), clean, None),
            rule(Match::default(), mark, Some(Verdict::Accept)),
        ],
        default: Verdict::Reject,
    }
}

/// All to customers, to others only what is ours or our customers'.
fn export(kind: Kind, relation: Relation, side: usize, prepend: u8) -> Option<Policy> {
    let longer = Set {
        prepend: (None, prepend),
        ..Set::default()
    };
    let all = || rule(Match::default(), longer.clone(), Some(Verdict::Accept));
    let rules = match (kind, relation, side) {
        (Kind::Mesh | Kind::Heavy | Kind::Reflectors, ..) => return None,
        // The nodes of a fabric tell what they originate; its ToRs tell all.
        (Kind::Fabric, _, 1) => return None,
        (_, Relation::Provider, 1) | (_, Relation::Peers, _) => {
            let own = Match {
                source: Some(Source::Static),
                ..Match::default()
            };
            let customers = Match {
                communities: vec![CUSTOMER],
                ..Match::default()
            };
            vec![
                rule(own, longer.clone(), Some(Verdict::Accept)),
                rule(customers, longer, Some(Verdict::Accept)),
            ]
        }
        _ => vec![all()],
    };
    Some(Policy {
        name: "by relation".into(),
        rules,
        default: Verdict::Reject,
    })
}

/// What a node's installer may do.
#[must_use]
pub fn fib() -> Config {
    let ranges = [("10.0.0.0", 8), ("fd01::", 16), ("fd02::", 16)];
    let allowed = ranges.into_iter().filter_map(|(address, length)| {
        let address: IpAddr = address.parse().ok()?;
        Some(AllowedRange::within(IpNetwork::new(address, length).ok()?))
    });
    Config {
        max_paths: 64,
        guard: Guard {
            allowed: allowed.collect(),
            ..Guard::default()
        },
        ..Config::default()
    }
}

/// The subnets that all nodes are in.
#[must_use]
pub fn subnets(node: Node) -> [(IpAddr, Option<IpNetwork>); 2] {
    let own = [IpAddr::V4(address(node)), IpAddr::V6(address6(node))];
    own.map(|address| {
        let (start, length): (IpAddr, u8) = match address {
            IpAddr::V4(_) => (std::net::Ipv4Addr::new(172, 16, 0, 0).into(), 16),
            IpAddr::V6(_) => (
                std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0).into(),
                64,
            ),
        };
        (address, IpNetwork::new(start, length).ok())
    })
}
