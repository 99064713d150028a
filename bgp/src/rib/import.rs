//! What becomes of a route on its way in: whether it may be used, and with which attributes (RFC 4271 §9.1.1).

use std::{borrow::Cow, fmt, net::IpAddr};

mod origin;

use origin::WrongOrigin;

use super::{
    peer::Peer,
    policy::{self, OwnAs, Subject},
    task::Settings,
};
use crate::{
    config::{Source, Verdict},
    prefix::Prefix,
    status::PeerKind,
    wire::{Attributes, Community, NextHop},
};

/// Why a route may not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Our AS number stands in AS_PATH more often than allowed (RFC 4271 §9).
    AsLoop { asn: u32, times: usize },
    /// AS_PATH of an external peer does not begin with its AS (RFC 4271 §6.3).
    FirstAs { expected: u32, found: Option<u32> },
    /// ORIGINATOR_ID is our own (RFC 4456 §8).
    OwnOriginatorId,
    /// Our cluster ID stands in CLUSTER_LIST (RFC 4456 §8).
    ClusterLoop,
    /// There is no next hop.
    NoNextHop,
    /// The next hop can't be one.
    BadNextHop(IpAddr),
    /// The next hop is one of our own addresses (RFC 4271 §5.1.3).
    OwnNextHop(IpAddr),
    /// The import policy rejects it.
    Policy { name: String, rule: Option<usize> },
    /// It does not lead to the owner of its prefix.
    Origin(WrongOrigin),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsLoop { asn, times } => {
                write!(f, "AS loop: our AS {asn} stands {times} times in AS_PATH")
            }
            Self::FirstAs {
                expected,
                found: Some(found),
            } => write!(
                f,
                "AS_PATH begins with {found}, not with the peer's AS {expected}"
            ),
            Self::FirstAs {
                expected,
                found: None,
            } => write!(f, "AS_PATH does not begin with the peer's AS {expected}"),
            Self::OwnOriginatorId => f.write_str("ORIGINATOR_ID is our own: reflected back to us"),
            Self::ClusterLoop => f.write_str("our cluster ID stands in CLUSTER_LIST"),
            Self::NoNextHop => f.write_str("no next hop"),
            Self::BadNextHop(address) => write!(f, "{address} can't be a next hop"),
            Self::OwnNextHop(address) => write!(f, "next hop {address} is ourselves"),
            Self::Policy {
                name,
                rule: Some(rule),
            } => write!(f, "import policy {name}, rule {}", rule.saturating_add(1)),
            Self::Policy { name, rule: None } => {
                write!(f, "import policy {name}: no rule accepts it")
            }
            Self::Origin(wrong) => write!(f, "origin check: {wrong}"),
        }
    }
}

/// The attributes a route from `peer` is used with, or why it may not be used.
pub(super) fn import<'a>(
    settings: &Settings,
    peer: &Peer,
    prefix: Prefix,
    received: &'a Attributes,
) -> Result<Cow<'a, Attributes>, Refusal> {
    check(settings, peer, received)?;
    let outcome = ask_policy(peer, prefix, received);
    // Whatever the policy says: what it lets in must lead to the owner, and of what it keeps out this is the graver fault.
    let attributes = outcome.as_deref().unwrap_or(received);
    if let Some(next_hop) = attributes.next_hop {
        origin::check(&settings.owners, peer, prefix, next_hop).map_err(Refusal::Origin)?;
    }
    outcome
}

fn ask_policy<'a>(
    peer: &Peer,
    prefix: Prefix,
    received: &'a Attributes,
) -> Result<Cow<'a, Attributes>, Refusal> {
    let mut attributes = Cow::Borrowed(received);
    if peer.kind == PeerKind::External && received.local_pref.is_some() {
        attributes.to_mut().local_pref = None; // RFC 4271 §5.1.5
    }
    let subject = Subject {
        prefix,
        source: Source::Learned,
        own_as: match peer.kind {
            PeerKind::External => OwnAs::OfPeer(peer.asn),
            PeerKind::Internal => OwnAs::Omit(peer.config.local_asn),
        },
    };
    let ruling = policy::rule(&peer.config.import, subject, &mut attributes);
    if ruling.verdict == Verdict::Reject {
        return Err(Refusal::Policy {
            name: peer.config.import.name.clone(),
            rule: ruling.rule,
        });
    }
    if attributes
        .communities
        .contains(&Community::GRACEFUL_SHUTDOWN)
        && attributes.local_pref != Some(0)
    {
        attributes.to_mut().local_pref = Some(0); // RFC 8326 §4.2
    }
    Ok(attributes)
}

/// Whether the outcome may differ between prefixes that share their attributes.
pub(super) fn depends_on_prefix(settings: &Settings, peer: &Peer, prefix: &Prefix) -> bool {
    policy::depends_on_prefix(&peer.config.import) || settings.owners.claimed(prefix).is_some()
}

fn check(settings: &Settings, peer: &Peer, received: &Attributes) -> Result<(), Refusal> {
    let shown = peer.config.local_asn;
    for asn in [shown, settings.asn] {
        let times = received.as_path.count(asn);
        if times > usize::from(peer.config.allow_own_as) {
            return Err(Refusal::AsLoop { asn, times });
        }
    }
    match peer.kind {
        PeerKind::External => check_first_as(peer, received)?,
        PeerKind::Internal => check_reflection(settings, received)?,
    }
    check_next_hop(peer, received.next_hop)
}

/// A route server leaves itself out of AS_PATH (RFC 7947 §2.2.2.1); it is no peer for this speaker.
fn check_first_as(peer: &Peer, received: &Attributes) -> Result<(), Refusal> {
    let found = received.as_path.neighbor_as();
    if found == Some(peer.asn) {
        return Ok(());
    }
    Err(Refusal::FirstAs {
        expected: peer.asn,
        found,
    })
}

fn check_reflection(settings: &Settings, received: &Attributes) -> Result<(), Refusal> {
    if received.originator_id == Some(settings.router_id) {
        return Err(Refusal::OwnOriginatorId);
    }
    if received.cluster_list.contains(&settings.cluster_id) {
        return Err(Refusal::ClusterLoop);
    }
    Ok(())
}

fn check_next_hop(peer: &Peer, next_hop: Option<NextHop>) -> Result<(), Refusal> {
    let next_hop = next_hop.ok_or(Refusal::NoNextHop)?;
    let (address, link_local) = (next_hop.host(), next_hop.link_local);
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err(Refusal::BadNextHop(address));
    }
    let ours = peer.config.next_hop_addresses;
    let own = [
        ours.v4.map(IpAddr::V4),
        ours.v6.map(IpAddr::V6),
        peer.local_address,
        peer.local_link_local.map(IpAddr::V6),
    ];
    for address in [Some(address), link_local.map(IpAddr::V6)] {
        if address.is_some() && own.contains(&address) {
            return address.map_or(Ok(()), |address| Err(Refusal::OwnNextHop(address)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
