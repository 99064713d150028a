//! Which keys a listening socket needs: MD5 keys for as many peers as share one, and none that catches another peer.
//!
//! The kernel takes the key with the longest prefix, drops what is not signed with it, and knows no "no key" inside of a
//! prefix. So addresses of peers with the same password are put together in the narrowest prefix that holds them, wherever
//! all other peers in it have keys of their own, which are longer. Whoever is no peer may well be caught: he is refused
//! anyway.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    sync::Arc,
};

use crate::{
    config::{AoKey, Password, PeerConfig, SpeakerConfig},
    prefix::{Family, Prefix},
};

/// MD5 keys by whom they are for.
pub(crate) type Md5Keys = BTreeMap<Prefix, Box<[u8]>>;

/// Keys by whom they are for.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    /// Of the longest prefix the key counts.
    pub(crate) md5: Md5Keys,
    /// Keys of the TCP Authentication Option, which stand beside each other.
    pub(crate) ao: BTreeMap<Prefix, Arc<[AoKey]>>,
}

/// The shortest prefix that addresses are put together in: beyond it lie other networks than that of the nodes, where an
/// operator who tries the port should rather hear that he is no neighbor.
const fn widest(family: Family) -> u8 {
    match family {
        Family::IPv4 => 16,
        Family::IPv6 => 48,
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Keys({} of MD5, {} of TCP-AO)",
            self.md5.len(),
            self.ao.len()
        )
    }
}

/// What connections from somewhere have to be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Demand<'a> {
    /// No MD5 key.
    Unsigned,
    /// This key.
    Key(&'a [u8]),
}

impl<'a> Demand<'a> {
    /// `None` where no connection is taken at all.
    fn of(password: &'a Password) -> Option<Self> {
        match password {
            // The kernel takes no keys of both kinds for one address.
            Password::None | Password::Ao(_) => Some(Self::Unsigned),
            Password::Key(key) => Some(Self::Key(&key.current)),
            Password::Missing(_) => None,
        }
    }
}

/// Whose password is what; on a listener of one link only the peers on that link count: a link-local address says who it is
/// nowhere else.
fn passwords<'a>(
    config: &'a SpeakerConfig,
    link: Option<&'a str>,
) -> impl Iterator<Item = (Prefix, &'a Password)> {
    let ranges = config.ranges.values();
    let ranges = ranges.map(|range| (range.range, &range.peer));
    let peers = config.peers.values();
    let peers = peers.filter_map(|peer| Some((whence(peer)?, peer)));
    ranges
        .chain(peers)
        .filter(move |(_, peer)| link.is_none() || peer.interface.as_deref() == link)
        .map(|(whose, peer)| (whose, &peer.password))
}

/// The fewest keys with which each peer is held to its own password, and to no other.
pub(crate) fn keys(config: &SpeakerConfig, link: Option<&str>) -> Keys {
    let mut demands: BTreeMap<Prefix, Demand<'_>> = BTreeMap::new();
    for (whose, password) in passwords(config, link) {
        let Some(demand) = Demand::of(password) else {
            continue;
        };
        // Of two peers with one address, the one with a password decides.
        demands
            .entry(whose)
            .and_modify(|known| *known = demand.max(*known))
            .or_insert(demand);
    }
    let demands: Vec<_> = demands.into_iter().collect();
    let mut keys = Keys::default();
    for all in ["0.0.0.0/0", "::/0"].map(str::parse::<Prefix>) {
        if let Some(tree) = all.ok().and_then(|all| Tree::grow(all, None, &demands)) {
            tree.install(None, &mut keys.md5);
        }
    }
    for (whose, password) in passwords(config, link) {
        if let Password::Ao(ao) = password {
            keys.ao.insert(whose, Arc::clone(ao));
        }
    }
    keys
}

/// Where a peer dials in from.
fn whence(peer: &PeerConfig) -> Option<Prefix> {
    match peer.unnumbered {
        // Any link-local address (RFC 4291 §2.5.6).
        Some(_) => Prefix::v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
        None => Some(Prefix::host(peer.address)),
    }
}

/// A prefix and what is demanded in it. (The idea is that of ORTC, which makes routing tables small: Draves, King,
/// Venkatachary and Zill, 1999.)
struct Tree<'a> {
    prefix: Prefix,
    /// Any of these keys may be in force here, for where it is of no use longer prefixes have others; empty: none may.
    serves: BTreeSet<&'a [u8]>,
    halves: Halves<'a>,
}

enum Halves<'a> {
    /// There is nothing to tell apart.
    Alike,
    /// One key serves in both.
    Share(Box<[Tree<'a>; 2]>),
    /// None does.
    Differ(Box<[Tree<'a>; 2]>),
}

impl<'a> Tree<'a> {
    /// What is in `prefix`, of which `demand` holds where `demands` say nothing else; `None`: nothing is demanded.
    fn grow(
        prefix: Prefix,
        demand: Option<Demand<'a>>,
        demands: &[(Prefix, Demand<'a>)],
    ) -> Option<Self> {
        let inside: Vec<_> = demands
            .iter()
            .filter(|(whose, _)| prefix.contains(whose))
            .copied()
            .collect();
        let (here, longer): (Vec<_>, Vec<_>) =
            inside.into_iter().partition(|(whose, _)| *whose == prefix);
        let demand = here.first().map(|(_, demand)| *demand).or(demand);
        if let (None, [(whose, only)]) = (demand, longer.as_slice()) {
            return Some(Self::leaf(*whose, *only));
        }
        let Some((low, high)) = prefix.halves().filter(|_| !longer.is_empty()) else {
            return demand.map(|demand| Self::leaf(prefix, demand));
        };
        let [low, high] = [low, high].map(|half| Self::grow(half, demand, &longer));
        match (low, high) {
            (Some(low), Some(high)) => Some(Self::join(prefix, demand, low, high)),
            (half, other) => half.or(other),
        }
    }

    fn leaf(prefix: Prefix, demand: Demand<'a>) -> Self {
        let serves = match demand {
            Demand::Unsigned => BTreeSet::new(),
            Demand::Key(key) => [key].into(),
        };
        Self {
            prefix,
            serves,
            halves: Halves::Alike,
        }
    }

    fn join(prefix: Prefix, demand: Option<Demand<'a>>, low: Self, high: Self) -> Self {
        let asked_for = matches!(demand, Some(Demand::Key(_)));
        let too_wide = prefix.length() < widest(prefix.family()) && !asked_for;
        let none = too_wide || low.serves.is_empty() || high.serves.is_empty();
        let shared: BTreeSet<_> = low.serves.intersection(&high.serves).copied().collect();
        let either = || low.serves.union(&high.serves).copied().collect();
        let (serves, share) = match (none, shared.is_empty()) {
            (true, _) => (BTreeSet::new(), false),
            (false, true) => (either(), false),
            (false, false) => (shared, true),
        };
        let halves = Box::new([low, high]);
        let halves = if share {
            Halves::Share(halves)
        } else {
            Halves::Differ(halves)
        };
        Self {
            prefix,
            serves,
            halves,
        }
    }

    /// Adds the keys that are needed where `above` is in force.
    fn install(&self, above: Option<&'a [u8]>, keys: &mut Md5Keys) {
        let mut here = above;
        let differ = matches!(self.halves, Halves::Differ(_));
        if !differ && above.is_none_or(|key| !self.serves.contains(key)) {
            here = self.serves.first().copied();
            keys.extend(here.map(|key| (self.prefix, key.into())));
        }
        match &self.halves {
            Halves::Alike => {}
            Halves::Share(halves) | Halves::Differ(halves) => {
                for half in halves.iter() {
                    half.install(here, keys);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
