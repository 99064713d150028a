//! What this node announces: its pod CIDRs, service addresses, static prefixes.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::IpAddr,
};

use bgp::{
    config::{Origination, Set, Source},
    prefix::Prefix,
};
use k8s_openapi::api::core::v1::Service;

use super::{View, pods, session::Sessions};
use crate::{
    cluster::NamespacedName,
    crd::{
        BGPAdvertisementSpec,
        advertisement::{AggregateLength, Attributes, ServiceAddress},
        configuration::OnCordon,
    },
    problem::Problem,
};

type Originations = BTreeMap<Prefix, Origination>;

/// Everything this node announces.
pub(super) fn all(
    view: &View<'_>,
    sessions: &Sessions,
    on_cordon: Option<OnCordon>,
    problems: &mut Vec<Problem>,
) -> Originations {
    let mut all = Originations::new();
    if view.config.advertise.pod_cidrs {
        for cidr in view.pod_cidrs(view.name) {
            let origination = Origination {
                source: Source::PodCIDR,
                peers: None,
                set: Set::default(),
                others: Vec::new(),
            };
            all.insert(*cidr, origination);
        }
    }
    if on_cordon == Some(OnCordon::Withdraw) {
        return all;
    }
    for (name, spec) in &view.cluster.advertisements {
        if spec.node_selector.matches(&view.node.labels) {
            advertisement(view, sessions, name, spec, &mut all, problems);
        }
    }
    all
}

fn advertisement(
    view: &View<'_>,
    sessions: &Sessions,
    name: &str,
    spec: &BGPAdvertisementSpec,
    all: &mut Originations,
    problems: &mut Vec<Problem>,
) {
    let about = format!("BGPAdvertisement {name}");
    let peers = match told(view, sessions, spec, &about, problems) {
        // Its peers are none of this node's.
        Some(peers) if peers.is_empty() => return,
        peers => peers,
    };
    let mut prefixes: BTreeMap<Prefix, Source> = spec
        .prefixes
        .iter()
        .map(|cidr| (cidr.0, Source::Static))
        .collect();
    if let Some(services) = spec.services() {
        for (key, service) in &view.cluster.services {
            let labels = service.metadata.labels.clone().unwrap_or_default();
            if services.selector.matches(&labels) {
                for kind in &services.addresses {
                    let found = addresses(view, key, service, *kind, &spec.aggregate_length);
                    prefixes.extend(found.into_iter().map(|prefix| (prefix, Source::Service)));
                }
            }
        }
    }
    for (prefix, source) in prefixes {
        if let Some((cidr, owner)) = pods::covering(&view.owners, &prefix)
            && owner != view.name
        {
            let what = if *cidr == prefix {
                "is".into()
            } else {
                format!("lies in {cidr},")
            };
            problems.push(Problem::error(
                &about,
                format!("{prefix} {what} the pod CIDR of node {owner}: this node does not announce it, for packets for those pods would come here; take it out, or let nodeSelector choose only {owner}"),
            ));
            continue;
        }
        let origination = Origination {
            source,
            peers: peers.clone(),
            set: set(&spec.attributes),
            others: Vec::new(),
        };
        merge(all, prefix, origination, &about, problems);
    }
}

/// The sessions that are told; `None`: all.
fn told(
    view: &View<'_>,
    sessions: &Sessions,
    spec: &BGPAdvertisementSpec,
    about: &str,
    problems: &mut Vec<Problem>,
) -> Option<BTreeSet<String>> {
    if spec.peers.is_empty() {
        return None;
    }
    let mut told = BTreeSet::new();
    for peer in &spec.peers {
        if !view.cluster.peers.contains_key(peer) {
            problems.push(Problem::error(
                about,
                format!("peers: there is no BGPPeer {peer}"),
            ));
        }
        told.extend(sessions.of.get(peer).into_iter().flatten().cloned());
    }
    Some(told)
}

/// Two advertisements of one prefix: the peers of both are told. Where they differ in attributes, one that names a peer goes
/// before one that means all, and among equals the first stays.
fn merge(
    all: &mut Originations,
    prefix: Prefix,
    new: Origination,
    about: &str,
    problems: &mut Vec<Problem>,
) {
    match all.entry(prefix) {
        Entry::Vacant(vacant) => {
            vacant.insert(new);
        }
        Entry::Occupied(mut known) => {
            let known = known.get_mut();
            let all_told = if known.source == Source::PodCIDR {
                false
            } else if known.set == new.set {
                known.peers = match (known.peers.take(), new.peers) {
                    (Some(known), Some(new)) => Some(known.into_iter().chain(new).collect()),
                    _ => None,
                };
                true
            } else {
                differ(known, new)
            };
            if !all_told {
                problems.push(Problem::warning(
                    about,
                    format!("{prefix} is announced to the same peers already, with other attributes: these stay; drop it from one of the two"),
                ));
            }
        }
    }
}

/// Adds an advertisement with other attributes; whether it holds for everyone it means.
fn differ(known: &mut Origination, new: Origination) -> bool {
    let Some(peers) = new.peers else {
        let Some(named) = known.peers.take() else {
            return false;
        };
        let set = std::mem::replace(&mut known.set, new.set);
        known.others.push((named, set));
        return true;
    };
    let told: BTreeSet<&String> = known
        .others
        .iter()
        .map(|(peers, _)| peers)
        .chain(&known.peers)
        .flatten()
        .collect();
    let (again, first): (BTreeSet<String>, BTreeSet<String>) =
        peers.into_iter().partition(|peer| told.contains(peer));
    if !first.is_empty() {
        known.others.push((first, new.set));
    }
    again.is_empty()
}

fn set(attributes: &Attributes) -> Set {
    Set {
        local_pref: attributes.local_preference,
        med: attributes.med,
        add_communities: attributes
            .communities
            .iter()
            .map(|community| community.0)
            .collect(),
        prepend: (None, attributes.prepend),
        ..Set::default()
    }
}

/// The prefixes of a service's addresses of one kind that this node announces.
fn addresses(
    view: &View<'_>,
    key: &NamespacedName,
    service: &Service,
    kind: ServiceAddress,
    aggregate: &AggregateLength,
) -> Vec<Prefix> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let (found, policy): (Vec<&str>, _) = match kind {
        ServiceAddress::LoadBalancer => {
            let ingress = service
                .status
                .as_ref()
                .and_then(|status| status.load_balancer.as_ref())
                .and_then(|balancer| balancer.ingress.as_deref())
                .unwrap_or_default();
            let found = ingress
                .iter()
                .filter_map(|ingress| ingress.ip.as_deref())
                .collect();
            (found, &spec.external_traffic_policy)
        }
        ServiceAddress::External => {
            let found = spec
                .external_ips
                .iter()
                .flatten()
                .map(String::as_str)
                .collect();
            (found, &spec.external_traffic_policy)
        }
        ServiceAddress::Cluster => {
            let found = spec.cluster_ips.iter().flatten().map(String::as_str);
            let found = match &spec.cluster_ip {
                Some(only) if spec.cluster_ips.is_none() => vec![only.as_str()],
                _ => found.collect(),
            };
            (found, &spec.internal_traffic_policy)
        }
    };
    let local = policy.as_deref() == Some("Local");
    if local && !ready_here(view, key) {
        return Vec::new();
    }
    found
        .into_iter()
        // "None" (headless) and what is no address is not announced.
        .filter_map(|text| text.parse::<IpAddr>().ok())
        .filter_map(|address| {
            let length = match address {
                // Only nodes with endpoints announce it: an aggregate would draw traffic for others too.
                _ if local => return Some(Prefix::host(address)),
                IpAddr::V4(_) => aggregate.ipv4,
                IpAddr::V6(_) => aggregate.ipv6,
            };
            Prefix::new(address, length)
        })
        .collect()
}

/// Whether an endpoint of the service on this node is ready.
fn ready_here(view: &View<'_>, (namespace, name): &NamespacedName) -> bool {
    view.cluster
        .endpoint_slices
        .iter()
        .filter(|((slice_namespace, _), slice)| {
            let labels = slice.metadata.labels.as_ref();
            slice_namespace == namespace
                && labels.and_then(|labels| labels.get("kubernetes.io/service-name")) == Some(name)
        })
        .flat_map(|(_, slice)| slice.endpoints.iter())
        .any(|endpoint| {
            // "ready" absent counts as true (API documentation of EndpointConditions).
            let ready = endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready)
                .unwrap_or(true);
            ready && endpoint.node_name.as_deref() == Some(view.name)
        })
}
