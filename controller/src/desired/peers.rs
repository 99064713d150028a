//! Sessions that a `BGPPeer` names: which nodes, whom, how.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use bgp::{
    config::{
        AddPath, BfdConfig, Connect, Hops, NextHopAddresses, NextHopMode, PeerAsn, PeerConfig,
        RangeConfig, Ttl, Unnumbered,
    },
    prefix::{Family, Prefix},
};

use super::{Rule, View, found, password, policy, session, session::Sessions, topology};
use crate::{
    cluster::Node,
    crd::{self, BGPPeerSpec, Verdicts, configuration::ListenMode},
    order,
    problem::Problem,
};

/// Most peers that dial in from one range at once.
const RANGE_LIMIT: usize = 1000;

/// One end of a session: whom.
pub(super) struct Whom {
    /// What is added to the BGPPeer's name, where it may stand for several.
    pub(super) suffix: Option<String>,
    /// Unspecified: not known yet.
    pub(super) address: IpAddr,
    pub(super) interface: Option<String>,
    /// It is known by its interface.
    pub(super) unnumbered: Option<Unnumbered>,
    /// The node it is, if it is one.
    pub(super) node: Option<String>,
}

/// The sessions of this node that BGPPeers name.
pub(super) fn named(view: &View<'_>, problems: &mut Vec<Problem>) -> Sessions {
    let mut sessions = Sessions::default();
    for (name, spec) in &view.cluster.peers {
        let about = format!("BGPPeer {name}");
        let selects = |node: &Arc<Node>| spec.node_selector.matches(&node.labels);
        if !spec.node_selector.is_empty() && !view.cluster.nodes.values().any(selects) {
            problems.push(Problem::warning(
                &about,
                "nodeSelector matches no node: it applies nowhere; compare it with the labels of the Nodes",
            ));
        }
        if let Some(node) = &spec.node
            && !view.cluster.nodes.contains_key(node)
        {
            problems.push(Problem::warning(
                &about,
                format!("there is no node {node}: it applies nowhere"),
            ));
        }
        if !applies(view, spec) {
            continue;
        }
        let (spec, about) = (&checked(view, spec, &about, problems), about.as_str());
        if let Some(range) = spec.peer_range {
            let peer = session_with(view, about, spec, &anyone(spec, range.0), problems);
            let range = RangeConfig {
                range: range.0,
                peer,
                limit: RANGE_LIMIT,
            };
            sessions.ranges.insert(name.clone(), range);
            sessions
                .of
                .entry(name.clone())
                .or_default()
                .push(name.clone());
            continue;
        }
        for whom in whom(view, spec, about, problems) {
            if let Some(other) =
                sessions.with(whom.address, whom.interface.as_deref(), spec.peer_port)
            {
                problems.push(Problem::error(
                    about,
                    format!("{} is the peer of {other} already: this one gets no session; drop one of the two", whom.address),
                ));
                continue;
            }
            let session = match &whom.suffix {
                Some(suffix) => format!("{name}/{suffix}"),
                None => name.clone(),
            };
            let peer = session_with(view, about, spec, &whom, problems);
            sessions.peers.insert(session.clone(), peer);
            sessions.of.entry(name.clone()).or_default().push(session);
        }
    }
    sessions
}

/// Every rule as it is for this node, given the sessions `of` each.
pub(super) fn rules(view: &View<'_>, of: &BTreeMap<String, Vec<String>>) -> BTreeMap<String, Rule> {
    let rule = |(name, spec): (&String, &BGPPeerSpec)| {
        let meant = |(node, object): &(&String, &Arc<Node>)| is_for(spec, node, object);
        let nodes: Vec<&str> = view
            .cluster
            .nodes
            .iter()
            .filter(meant)
            .map(|(node, _)| node.as_str())
            .collect();
        let here = applies(view, spec);
        let rank = match nodes.as_slice() {
            // It is for nobody, and somebody has to say so.
            [] => order::rank(
                name,
                view.name,
                view.cluster.nodes.keys().map(String::as_str),
            ),
            some if here => order::rank(name, view.name, some.iter().copied()),
            _ => usize::MAX,
        };
        let rule = Rule {
            nodes: nodes.len(),
            here,
            rank,
            sessions: of.get(name).cloned().unwrap_or_default(),
        };
        (name.clone(), rule)
    };
    view.cluster.peers.iter().map(rule).collect()
}

/// Whether the rule is for this node.
fn applies(view: &View<'_>, spec: &BGPPeerSpec) -> bool {
    is_for(spec, view.name, &view.node)
}

fn is_for(spec: &BGPPeerSpec, name: &str, node: &Node) -> bool {
    match &spec.node {
        Some(only) => only == name,
        None => spec.node_selector.matches(&node.labels),
    }
}

/// Whether another node is told to stand as next hop in what it passes on to us: a rule of its own for a session with us says
/// nextHopMode Self, and passes on what others told it.
pub(super) fn forwards(view: &View<'_>, name: &str, node: &Node) -> bool {
    let passes_on = |spec: &BGPPeerSpec| {
        spec.next_hop_mode == crd::peer::NextHopMode::SelfAddress
            && (spec.route_reflector_client || spec.export.is_some())
    };
    let with_us = |spec: &BGPPeerSpec| {
        let is_ours = |address: IpAddr| view.addresses.each().any(|own| own == address);
        let in_range = |range: &Prefix| {
            let mut own = view.addresses.each();
            own.any(|own| range.contains(&Prefix::host(own)))
        };
        spec.peer_address.is_some_and(is_ours)
            || spec.peer_range.is_some_and(|range| in_range(&range.0))
            || spec
                .peer_selector
                .as_ref()
                .is_some_and(|selector| selector.matches(&view.node.labels))
    };
    name != view.name
        && view
            .cluster
            .peers
            .values()
            .any(|spec| passes_on(spec) && is_for(spec, name, node) && with_us(spec))
}

/// The rule with its timers merged in; what does not fit together falls back to BGPConfiguration's.
fn checked(
    view: &View<'_>,
    spec: &BGPPeerSpec,
    about: &str,
    problems: &mut Vec<Problem>,
) -> BGPPeerSpec {
    let mut spec = spec.clone();
    let mut verdicts = Verdicts::default();
    spec.timers.over(&view.config.timers).check(&mut verdicts);
    for broken in verdicts.0 {
        problems.push(Problem::error(
            about,
            format!(
                "{}, with BGPConfiguration: {}; its timers hold until this is put right",
                broken.path, broken.message
            ),
        ));
        spec.timers = Default::default();
    }
    spec
}

/// Whom the rule means, seen from this node.
fn whom(
    view: &View<'_>,
    spec: &BGPPeerSpec,
    about: &str,
    problems: &mut Vec<Problem>,
) -> Vec<Whom> {
    if let Some(address) = spec.peer_address {
        // The rule may be for all nodes, and the peer one of them.
        if view.addresses.each().any(|own| own == address) {
            return Vec::new();
        }
        return vec![Whom {
            suffix: None,
            address,
            interface: spec.source_interface.clone(),
            unnumbered: None,
            node: node_at(view, address),
        }];
    }
    if let Some(selector) = &spec.peer_selector {
        return nodes(view, selector, about, problems);
    }
    if spec.auto_discovery.is_some() {
        return found::whom(view, spec, about, problems);
    }
    Vec::new()
}

fn node_at(view: &View<'_>, address: IpAddr) -> Option<String> {
    view.cluster
        .nodes
        .keys()
        .find(|node| {
            view.cluster
                .addresses(node)
                .each()
                .any(|theirs| theirs == address)
        })
        .cloned()
}

fn nodes(
    view: &View<'_>,
    selector: &crd::selector::LabelSelector,
    about: &str,
    problems: &mut Vec<Problem>,
) -> Vec<Whom> {
    let mut found = Vec::new();
    for (node, object) in &view.cluster.nodes {
        if node == view.name || !selector.matches(&object.labels) {
            continue;
        }
        match topology::common(&view.addresses, &view.cluster.addresses(node)) {
            Some((_, address)) => found.push(Whom {
                suffix: Some(node.clone()),
                address,
                interface: None,
                unnumbered: None,
                node: Some(node.clone()),
            }),
            None => problems.push(Problem::error(
                about,
                format!("node {node} has no address in a family that this node has too: no session with it"),
            )),
        }
    }
    if found.is_empty() && !selector.matches(&view.node.labels) {
        problems.push(Problem::warning(
            about,
            "peerSelector matches no other node: label the nodes it is meant for",
        ));
    }
    found
}

/// Who dials from a range: known only when it does.
fn anyone(spec: &BGPPeerSpec, range: Prefix) -> Whom {
    Whom {
        suffix: None,
        address: match range.family() {
            Family::IPv4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::IPv6 => Ipv6Addr::UNSPECIFIED.into(),
        },
        interface: spec.source_interface.clone(),
        unnumbered: None,
        node: None,
    }
}

fn session_with(
    view: &View<'_>,
    about: &str,
    spec: &BGPPeerSpec,
    whom: &Whom,
    problems: &mut Vec<Problem>,
) -> PeerConfig {
    let local_asn = spec.local_asn.map_or(view.asn, |asn| asn.0);
    let asn = match spec.peer_asn {
        crd::value::PeerAsn::Number(asn) => PeerAsn::Number(asn),
        crd::value::PeerAsn::Internal => PeerAsn::Internal,
        crd::value::PeerAsn::External => PeerAsn::External,
        crd::value::PeerAsn::Any => PeerAsn::Any,
    };
    let internal = session::is_internal(asn, local_asn);
    let ttl = match (spec.ttl_security, internal) {
        (Some(hops), _) => Ttl::Security(hops),
        (None, Some(true)) => Ttl::Send(255),
        (None, _) => Ttl::Send(spec.ebgp_multihop),
    };
    // A router is spoken to from the node's own address, for that is the one it knows; but one on the same link only where the
    // node's address is on that link too, else from one that is, which the kernel chooses.
    let on_link = internal != Some(true)
        && matches!(ttl, Ttl::Send(1) | Ttl::Security(1))
        && whom.node.is_none()
        || whom.unnumbered.is_some();
    let interface = whom.interface.as_deref();
    let serves = |own: &IpAddr| match on_link {
        true => view.facts.share_a_subnet(*own, whom.address, interface),
        false => interface.is_none() && spec.peer_range.is_none(),
    };
    let own = view.addresses.like(whom.address);
    let source = spec.source_address.or_else(|| own.filter(serves));
    let nodes: Option<Vec<&str>> = whom.node.as_deref().map(|node| vec![node]);
    PeerConfig {
        address: whom.address,
        interface: whom.interface.clone(),
        unnumbered: whom.unnumbered.clone(),
        port: spec.peer_port,
        asn,
        local_asn,
        source,
        connect: connect(view, about, spec, whom, problems),
        ttl,
        password: match &spec.tcp_ao {
            Some(tcp_ao) => password::tcp_ao(view, about, tcp_ao, problems),
            None => password::password(view, about, spec.auth_secret_ref.as_ref(), problems),
        },
        timers: session::timers(&spec.timers.over(&view.config.timers)),
        families: spec
            .families
            .iter()
            .map(|family| Family::from(*family))
            .collect(),
        extended_next_hop: spec.extended_next_hop || whom.unnumbered.is_some(),
        add_path: AddPath {
            receive: spec.add_path.receive,
            send_max: spec.add_path.send_max,
        },
        graceful_restart: session::graceful_restart(
            view,
            &spec.graceful_restart.over(&view.config.graceful_restart),
        ),
        next_hop: match spec.next_hop_mode {
            crd::peer::NextHopMode::Auto => NextHopMode::Auto,
            crd::peer::NextHopMode::SelfAddress => NextHopMode::SelfAddress,
            crd::peer::NextHopMode::Keep => NextHopMode::Keep,
        },
        next_hop_addresses: next_hops(view, whom.address, on_link),
        route_reflector_client: spec.route_reflector_client,
        allow_own_as: spec.allow_own_as,
        max_prefixes: session::limit(view, &spec.max_prefixes, nodes.as_deref()),
        bfd: spec.bfd.map(|bfd| watched(&bfd, internal, ttl)),
        import: match &spec.import {
            Some(given) => policy::given(view, about, "import", given, problems),
            None => view.default_import.clone(),
        },
        export: spec
            .export
            .as_ref()
            .map(|given| policy::given(view, about, "export", given, problems)),
        shutdown: spec
            .shutdown
            .as_ref()
            .map(|shutdown| shutdown.message.clone()),
        mesh: whom.node.is_some(),
    }
}

/// BFD in the speaker's terms. How far away the peer is follows from what BGP is told of it; only towards our own AS, where
/// BGP does not ask, the link decides, as in FRR.
fn watched(bfd: &crd::peer::Bfd, internal: Option<bool>, ttl: Ttl) -> BfdConfig {
    let interval = |milliseconds: u32| Duration::from_millis(milliseconds.into());
    BfdConfig {
        min_rx: interval(bfd.min_rx_ms),
        min_tx: interval(bfd.min_tx_ms),
        multiplier: bfd.multiplier,
        hops: match (bfd.multihop, ttl) {
            (Some(true), _) => Hops::Multi,
            (Some(false), _) | (None, Ttl::Send(1) | Ttl::Security(1)) => Hops::Single,
            (None, _) if internal == Some(true) => Hops::OnLink,
            (None, _) => Hops::Multi,
        },
    }
}

/// Our addresses as next hops. To a router on the same link that is the session's own address in its family: it can
/// reach that, whereas the node's address may be on another link.
fn next_hops(view: &View<'_>, peer: IpAddr, on_link: bool) -> NextHopAddresses {
    let mut ours = session::node_addresses(view);
    if on_link {
        match peer {
            IpAddr::V4(_) => ours.v4 = None,
            IpAddr::V6(_) => ours.v6 = None,
        }
    }
    ours
}

fn connect(
    view: &View<'_>,
    about: &str,
    spec: &BGPPeerSpec,
    whom: &Whom,
    problems: &mut Vec<Problem>,
) -> Connect {
    let deaf = view.config.listen_mode == ListenMode::None;
    if spec.passive || spec.peer_range.is_some() {
        if deaf {
            problems.push(Problem::error(
                about,
                "it waits for the peer to dial, but listenMode is None: nobody can; set listenMode: NodeIP, or let us dial",
            ));
        }
        return Connect::Passive;
    }
    if whom.address.is_unspecified() {
        return Connect::Passive;
    }
    match (&whom.node, view.addresses.like(whom.address)) {
        (Some(_), Some(own)) => session::turn(view, own, whom.address),
        _ => Connect::Dial,
    }
}
