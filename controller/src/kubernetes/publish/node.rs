//! `BGPNode.status`: from what the daemon knows of itself, and how much of it is news.
//!
//! Every daemon watches every `BGPNode`, so what one writes is sent to all: what only counts is refreshed rarely, and what all
//! nodes see at once (a node went away) is written a little later by each ([`super::pace`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::SystemTime,
};

use bgp::status::PeerStatus;
use jiff::Timestamp;

use super::{
    condition,
    sight::{Sight, count, short},
};
use crate::{
    crd::status::{BGPNodeStatus, PeerState, RouteCounts, RuleCounts, SessionCounts, Time},
    desired::Rule,
    report::is_up,
};

/// Most sessions that are listed one by one.
const LISTED: usize = 64;
/// Most BGPPeers whose sessions are counted.
const RULES: usize = 128;
/// Longest error of a session.
const LETTERS: usize = 256;

/// How much of a status is other than what was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    /// Nothing that is worth a write.
    Nothing,
    /// Figures and words.
    Figures,
    /// What all nodes of the cluster notice at once: a node came or went.
    Common,
    /// Something of this node.
    Own,
}

/// The status now. A condition that was so `before` has been so since then.
pub(super) fn status(
    sight: &Sight,
    before: &BGPNodeStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> BGPNodeStatus {
    let counts = &sight.status.peers;
    let (peers, omitted) = listed(&sight.peers);
    let addresses = &sight.desired.addresses;
    BGPNodeStatus {
        as_number: sight.status.asn,
        router_id: sight.status.router_id.to_string(),
        addresses: addresses
            .each()
            .map(|address| address.to_string())
            .collect(),
        sessions: SessionCounts {
            established: count(counts.established),
            total: count(counts.total),
        },
        mesh_peers: SessionCounts {
            established: count(counts.nodes_established),
            total: count(counts.nodes),
        },
        peers,
        peers_omitted: omitted,
        bgp_peers: rules(sight),
        routes: routes(sight),
        conditions: condition::since(
            &before.conditions,
            condition::of_node(sight),
            generation,
            now,
        ),
        observed_generation: generation,
        version: sight.status.version.to_owned(),
        last_updated: Some(Time(now)),
    }
}

/// Those that are down first; nodes of the cluster only where they are.
fn listed(peers: &[PeerStatus]) -> (Vec<PeerState>, u32) {
    let mut shown: Vec<&PeerStatus> = peers
        .iter()
        .filter(|peer| !peer.mesh || !is_up(peer))
        .collect();
    shown.sort_by_key(|peer| (is_up(peer), peer.mesh, peer.name.as_str()));
    let omitted = shown.len().saturating_sub(LISTED);
    shown.truncate(LISTED);
    (shown.into_iter().map(state).collect(), count(omitted))
}

/// The sessions of each BGPPeer that is for this node.
fn rules(sight: &Sight) -> Vec<RuleCounts> {
    let peers: BTreeMap<&str, &PeerStatus> = sight
        .peers
        .iter()
        .map(|peer| (peer.name.as_str(), peer))
        .collect();
    let count_of = |(name, rule): (&String, &Rule)| {
        let sessions: Vec<bool> = rule
            .sessions
            .iter()
            .flat_map(|session| {
                let dialled_in = format!("{session}/");
                let from = (Bound::Included(dialled_in.as_str()), Bound::Unbounded);
                let of_range = peers.range::<str, _>(from);
                let of_range: Vec<bool> = of_range
                    .take_while(|(name, _)| name.starts_with(&dialled_in))
                    .map(|(_, peer)| is_up(peer))
                    .collect();
                let itself = peers.get(session.as_str()).map(|peer| is_up(peer));
                itself.into_iter().chain(of_range)
            })
            .collect();
        RuleCounts {
            name: name.clone(),
            established: count(sessions.iter().filter(|up| **up).count()),
            total: count(sessions.len()),
        }
    };
    let rules = sight.desired.rules.iter();
    let here = rules.filter(|(_, rule)| rule.here);
    here.take(RULES).map(count_of).collect()
}

fn state(peer: &PeerStatus) -> PeerState {
    let sum = |of: fn(&bgp::status::FamilyCounts) -> usize| {
        peer.families.values().map(of).sum::<usize>() as u64
    };
    PeerState {
        name: peer.name.clone(),
        address: peer.place(),
        node: peer.mesh,
        asn: peer.asn,
        state: format!("{:?}", peer.state),
        since: time(peer.since),
        received: sum(|counts| counts.received),
        accepted: sum(|counts| counts.accepted),
        advertised: sum(|counts| counts.advertised),
        last_error: peer
            .last_error
            .as_ref()
            .filter(|_| !is_up(peer))
            .map(|error| short(error, LETTERS)),
    }
}

fn time(at: SystemTime) -> Option<Time> {
    Timestamp::try_from(at).ok().map(Time)
}

fn routes(sight: &Sight) -> RouteCounts {
    let families = || sight.status.routes.values();
    let received: usize = families().map(|counts| counts.received).sum();
    let accepted: usize = families().map(|counts| counts.accepted).sum();
    let kernel = |of: fn(&fib::Counts) -> u64| {
        let kernel = sight.status.kernel.as_ref();
        kernel.map_or(0, |kernel| {
            of(&kernel.ipv4).saturating_add(of(&kernel.ipv6))
        })
    };
    RouteCounts {
        received: received as u64,
        desired: kernel(|counts| counts.desired),
        installed: kernel(|counts| counts.installed),
        failed: kernel(|counts| counts.failed.saturating_add(counts.unresolved)),
        refused: (received.saturating_sub(accepted) as u64)
            .saturating_add(kernel(|counts| counts.refused)),
    }
}

/// How much of `now` is other than what was `written`.
pub(super) fn news(written: &BGPNodeStatus, now: &BGPNodeStatus) -> News {
    if own(written) != own(now) {
        News::Own
    } else if common(written) != common(now) {
        News::Common
    } else if figures(written) != figures(now) {
        News::Figures
    } else {
        News::Nothing
    }
}

fn own(status: &BGPNodeStatus) -> impl PartialEq + use<'_> {
    let peers: BTreeSet<_> = status
        .peers
        .iter()
        .filter(|peer| !peer.node)
        .map(|peer| (&peer.name, &peer.address, peer.asn, established(peer)))
        .collect();
    let conditions: BTreeSet<_> = status
        .conditions
        .iter()
        .filter(|condition| !condition::SHARED.contains(&condition.type_.as_str()))
        .map(|condition| (&condition.type_, &condition.status))
        .collect();
    let identity = (status.as_number, &status.router_id, &status.addresses);
    let written = (&status.version, status.observed_generation);
    (identity, written, peers, conditions)
}

fn common(status: &BGPNodeStatus) -> impl PartialEq + use<'_> {
    let away: BTreeSet<_> = status
        .peers
        .iter()
        .filter(|peer| peer.node)
        .map(|peer| &peer.name)
        .collect();
    let conditions: BTreeSet<_> = status
        .conditions
        .iter()
        .map(|condition| {
            let words = (condition.type_ == condition::VALID).then_some(&condition.message);
            (
                &condition.type_,
                &condition.status,
                &condition.reason,
                words,
            )
        })
        .collect();
    let counts = (status.sessions, status.mesh_peers, status.peers_omitted);
    (counts, &status.bgp_peers, away, conditions)
}

/// What is not in it changes for ever while a peer is away: its state from Connect to Active and back, and since when.
fn figures(status: &BGPNodeStatus) -> impl PartialEq + use<'_> {
    let peers: Vec<_> = status
        .peers
        .iter()
        .filter(|peer| !peer.node)
        .map(|peer| {
            let since = peer.since.filter(|_| established(peer));
            let routes = (peer.received, peer.accepted, peer.advertised);
            (since, routes, &peer.last_error)
        })
        .collect();
    let messages: Vec<_> = status
        .conditions
        .iter()
        .map(|condition| &condition.message)
        .collect();
    (status.routes, peers, messages)
}

fn established(peer: &PeerState) -> bool {
    peer.state == "Established"
}

#[cfg(test)]
mod tests;
