//! Peers that are found by themselves: gateways of default routes, and routers at the other end of a link.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use bgp::config::{PeerConfig, Unnumbered};
use discovery::{Aim, Link, Wanted};

use super::{View, peers::Whom};
use crate::{
    cluster::Cluster,
    crd::{BGPPeerSpec, peer::DiscoveryMode},
    problem::Problem,
};

/// The links, by name or pattern, on which this node has to know who is there and which address is ours.
pub(crate) fn links(cluster: &Cluster, node: &str) -> Wanted {
    let labels = cluster.nodes.get(node).map(|node| &node.labels);
    let is_here = |spec: &&BGPPeerSpec| match (&spec.node, labels) {
        (Some(only), _) => only == node,
        (None, Some(labels)) => spec.node_selector.matches(labels),
        (None, None) => spec.node_selector.is_empty(),
    };
    let mut wanted = Wanted::new();
    for (link, aim) in cluster.peers.values().filter(is_here).filter_map(link) {
        let known = wanted.entry(link.to_owned()).or_insert(aim);
        *known = aim.max(*known);
    }
    wanted
}

/// The link on which a rule speaks by link-local addresses.
fn link(spec: &BGPPeerSpec) -> Option<(&str, Aim)> {
    let local = |address| matches!(address, IpAddr::V6(v6) if Ipv6Addr::is_unicast_link_local(&v6));
    let range = spec.peer_range.map(|range| range.0.address());
    if spec.peer_address.or(range).is_some_and(local) {
        return Some((spec.source_interface.as_deref()?, Aim::Know));
    }
    Some((unnumbered(spec)?, Aim::Meet))
}

fn unnumbered(spec: &BGPPeerSpec) -> Option<&str> {
    let discovery = spec.auto_discovery.as_ref()?;
    let interface = discovery.interface.as_deref();
    interface.filter(|_| discovery.mode == DiscoveryMode::Unnumbered)
}

/// Where a peer with a link-local address dials in: our own one on its link, if there is one yet.
pub(super) fn listen(view: &View<'_>, peer: &PeerConfig) -> Option<SocketAddr> {
    let links = view.facts.links.as_ref()?;
    let link = links.get(peer.interface.as_deref()?)?;
    let port = view.config.listen_port;
    let address = link.address.filter(|_| link.up)?;
    Some(SocketAddrV6::new(address, port, 0, link.index).into())
}

/// Whoever the rule finds.
pub(super) fn whom(
    view: &View<'_>,
    spec: &BGPPeerSpec,
    about: &str,
    problems: &mut Vec<Problem>,
) -> Vec<Whom> {
    match unnumbered(spec) {
        Some(pattern) => routers(view, pattern, about, problems),
        None => gateways(view, about, problems),
    }
}

/// Routers at the other end of links; where nobody is known yet, whoever dials in there.
fn routers(view: &View<'_>, pattern: &str, about: &str, problems: &mut Vec<Problem>) -> Vec<Whom> {
    let links = view.facts.links.as_ref();
    if !pattern.contains(['*', '?']) {
        let link = links.and_then(|links| links.get(pattern));
        return vec![router(pattern, link, about, problems)];
    }
    // Pods are no routers.
    let is_meant = |(name, _): &(&String, &Link)| {
        discovery::matches(pattern, name) && **name != view.config.cni.bridge
    };
    let found: Vec<Whom> = links
        .into_iter()
        .flatten()
        .filter(is_meant)
        .map(|(name, link)| router(name, Some(link), about, problems))
        .collect();
    if found.is_empty() && links.is_some() {
        problems.push(Problem::warning(
            about,
            format!("no interface matches {pattern}: it finds nobody until there is one"),
        ));
    }
    found
}

fn router(name: &str, link: Option<&Link>, about: &str, problems: &mut Vec<Problem>) -> Whom {
    let known = link.and_then(|link| link.router.filter(|_| link.up && link.address.is_some()));
    if let (Some(link), Some(router)) = (link, known)
        && link.routers.len() > 1
    {
        let all: Vec<String> = link.routers.iter().map(ToString::to_string).collect();
        problems.push(Problem::warning(
            about,
            format!(
                "{} routers are on {name} ({}): it speaks with {router}; Unnumbered is for links with one router at the other end, name the others by peerAddress and sourceInterface",
                all.len(),
                all.join(", ")
            ),
        ));
    }
    Whom {
        suffix: Some(name.to_owned()),
        address: known.unwrap_or(Ipv6Addr::UNSPECIFIED).into(),
        interface: Some(name.to_owned()),
        unnumbered: Some(Unnumbered {
            note: match known {
                None => Some(nobody(name, link)),
                Some(_) => link.and_then(|link| link.mute.as_deref()).map(unheard),
            },
        }),
        node: None,
    }
}

/// What a router may lack that is known, where we cannot advertise ourselves.
fn unheard(mute: &str) -> String {
    format!(
        "{mute}: routers that find their neighbours by those (FRR, Cumulus: \"neighbor … interface\") do not find this node; give it NET_RAW, or have them name our link-local address or take whoever dials in"
    )
}

/// Why nobody is known on a link.
fn nobody(name: &str, link: Option<&Link>) -> String {
    match link {
        None => format!("there is no interface {name}: it is waited for"),
        Some(link) if !link.up => format!("{name} is down or has no carrier"),
        Some(link) if link.address.is_none() => format!(
            "{name} has no link-local address that can be used: is IPv6 disabled there (disable_ipv6), or its address found twice?"
        ),
        Some(link) if link.hosts > 1 => format!(
            "{} neighbours are on {name}, and none says by router advertisements that it is a router: let the one meant dial in, or name it by peerAddress and sourceInterface",
            link.hosts
        ),
        Some(link) => {
            let mute = link.mute.as_deref().map(unheard);
            let mute = mute.map(|mute| format!("; {mute}")).unwrap_or_default();
            format!(
                "nobody is known on {name} yet: no router advertisement has come, and nobody has dialled in{mute}"
            )
        }
    }
}

/// Gateways of default routes; of IPv4 where there is one, for one session carries both families.
fn gateways(view: &View<'_>, about: &str, problems: &mut Vec<Problem>) -> Vec<Whom> {
    let all = &view.facts.default_gateways;
    let v4 = all.iter().any(|gateway| gateway.address.is_ipv4());
    let found: Vec<Whom> = all
        .iter()
        .filter(|gateway| gateway.address.is_ipv4() == v4)
        .map(|gateway| {
            let link_local =
                matches!(gateway.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
            Whom {
                suffix: Some(gateway.address.to_string()),
                address: gateway.address,
                interface: link_local.then(|| gateway.interface.clone()),
                unnumbered: None,
                node: None,
            }
        })
        .collect();
    if found.is_empty() {
        problems.push(Problem::warning(
            about,
            "this node has no default route, so autoDiscovery DefaultGateway finds nobody; it is looked for again when the default route changes",
        ));
    }
    found
}
