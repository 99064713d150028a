//! The origin check: a route for a prefix whose owner is known counts only if it leads to that owner.

use std::{fmt, net::IpAddr};

use crate::{
    owners::{Claimed, Owner, Owners},
    prefix::Prefix,
    rib::peer::Peer,
    status::PeerKind,
    wire::NextHop,
};

/// Why a route does not lead to the owner of its prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rib) enum WrongOrigin {
    /// The next hop is another owner's address.
    LeadsToAnother {
        prefix: Prefix,
        owner: Owner,
        next_hop: IpAddr,
        other: String,
    },
    /// One owner passes on the route of another with a next hop that is nobody's.
    LeadsElsewhere {
        prefix: Prefix,
        owner: Owner,
        next_hop: IpAddr,
    },
    /// It is for a part of what an owner has, and not from that owner.
    PartOf { prefix: Prefix, owner: Owner },
    /// It leads to an owner, but the prefix is nobody's.
    Nobodys {
        prefix: Prefix,
        why: String,
        other: String,
    },
}

impl fmt::Display for WrongOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeadsToAnother {
                prefix,
                owner,
                next_hop,
                other,
            } => write!(
                f,
                "{prefix} belongs to {owner}: next hop {next_hop} is {other}"
            ),
            Self::LeadsElsewhere {
                prefix,
                owner,
                next_hop,
            } => write!(
                f,
                "{prefix} belongs to {owner}: next hop {next_hop} is none of its addresses"
            ),
            Self::PartOf { prefix, owner } => write!(
                f,
                "it lies in {prefix}, which belongs to {owner}: a part of it counts only from {} itself",
                owner.name
            ),
            Self::Nobodys { prefix, why, other } => {
                write!(f, "{prefix} is not {other}'s, to which it leads: {why}")
            }
        }
    }
}

/// Whether a route of `peer` to `prefix` by `next_hop` leads to the owner of the prefix, as far as one is known.
///
/// Certain is a next hop that is an address of the owner. One that is no owner's may be a router of the fabric on the way to
/// it: that is for routers to say, and for the owner itself, not for other owners (a node that reflects changes no next hop).
/// One that is another owner's leads astray, unless that is `peer` itself and is there to forward for others. What is nobody's
/// leads to no owner; a router may have it all the same: one mistaken claim must not cut off what was there before.
pub(in crate::rib) fn check(
    owners: &Owners,
    peer: &Peer,
    prefix: Prefix,
    next_hop: NextHop,
) -> Result<(), WrongOrigin> {
    let (claimed, owner) = match owners.claimed(&prefix) {
        None => return Ok(()),
        Some(Claimed::ByNobody { prefix, why }) => {
            let Some(other) = owners.at(next_hop.host()) else {
                return Ok(());
            };
            return Err(WrongOrigin::Nobodys {
                prefix,
                why: why.to_owned(),
                other: other.name.clone(),
            });
        }
        Some(Claimed::By { prefix, owner }) => (prefix, owner),
    };
    let next_hop = next_hop.host();
    let from_owner = owner.has(peer.address);
    let certain = owner.has(next_hop);
    // What reflectors pass on is the owner's own word, as its next hop shows.
    let reflected = certain && peer.kind == PeerKind::Internal;
    if prefix != claimed && !from_owner && !reflected {
        return Err(WrongOrigin::PartOf {
            prefix: claimed,
            owner: owner.clone(),
        });
    }
    if certain {
        return Ok(());
    }
    if let Some(other) = owners.at(next_hop) {
        if other.forwards && other.has(peer.address) {
            return Ok(());
        }
        return Err(WrongOrigin::LeadsToAnother {
            prefix: claimed,
            owner: owner.clone(),
            next_hop,
            other: other.name.clone(),
        });
    }
    if !from_owner && owners.at(peer.address).is_some() {
        return Err(WrongOrigin::LeadsElsewhere {
            prefix: claimed,
            owner: owner.clone(),
            next_hop,
        });
    }
    Ok(())
}
