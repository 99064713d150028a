//! From a BGP next hop to a way out of the node: by connected and static routes, never by a BGP route.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use smallvec::{SmallVec, smallvec};
use thiserror::Error;

use crate::{
    config::Unresolved as Policy,
    guard::is_link_local,
    network::{Foreign, Link, Network, Verdict},
    route::NextHop,
    target::{Hop, Target},
};

/// Why a next hop leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Unresolved {
    #[error("next hop {0} is an address of this node")]
    Ourselves(IpAddr),
    #[error(
        "next hop {0} is link-local and comes without an interface; peer with it on an interface"
    )]
    NoInterface(IpAddr),
    #[error("next hop {0} is on interface {1}, which is gone")]
    InterfaceGone(IpAddr, u32),
    #[error("next hop {address} is behind {interface}, which is {state}")]
    LinkDown {
        address: IpAddr,
        interface: String,
        state: &'static str,
    },
    #[error(
        "next hop {0} lies in no connected subnet and behind no static route; add one, or set kernel.unresolvedNextHop"
    )]
    NoRoute(IpAddr),
    #[error(
        "only the default route leads to next hop {0}; set kernel.unresolvedNextHop to Gateway if the fabric behind it knows the pod networks, or to Onlink if it is on the link"
    )]
    OnlyDefault(IpAddr),
    #[error("the kernel drops what goes to next hop {0}: \"{1}\"")]
    Dropped(IpAddr, String),
    #[error("the route to next hop {0} can't be used: \"{1}\"")]
    Unusable(IpAddr, String),
    #[error("IPv6 routes can't have the IPv4 next hop {0}")]
    Family(IpAddr),
    #[error("it has no next hop")]
    None,
}

/// A resolved next hop.
#[derive(Debug)]
pub(crate) struct Resolved<'a> {
    pub(crate) hops: SmallVec<[Hop; 1]>,
    /// The route that showed the way; `None` for link-local next hops.
    pub(crate) by: Option<(IpNetwork, &'a Foreign)>,
}

/// A whole set of next hops, resolved.
pub(crate) fn resolve_all(
    network: &Network,
    next_hops: &[NextHop],
    family: Family,
    policy: Policy,
    max_paths: usize,
) -> Result<Target, Unresolved> {
    let mut hops: SmallVec<[Hop; 1]> = SmallVec::new();
    let mut suspects: SmallVec<[Hop; 1]> = SmallVec::new();
    let mut failure = None;
    for next_hop in next_hops {
        match resolve(network, next_hop, family, policy) {
            Ok(resolved) => {
                for hop in resolved.hops {
                    let failed = hop
                        .gateway
                        .is_some_and(|via| network.neighbour_failed(hop.interface, via));
                    if failed { &mut suspects } else { &mut hops }.push(hop);
                }
            }
            // That it is ourselves is the least interesting of several reasons.
            Err(reason) if matches!(failure, None | Some(Unresolved::Ourselves(_))) => {
                failure = Some(reason)
            }
            Err(_) => {}
        }
    }
    // A neighbour that does not answer is better than no way at all.
    if hops.is_empty() {
        hops = suspects;
    }
    hops.truncate(max_paths.clamp(1, 255));
    if hops.is_empty() {
        Err(failure.unwrap_or(Unresolved::None))
    } else {
        Ok(Target::through(hops))
    }
}

/// The family of the prefix that goes through the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(prefix: &IpNetwork) -> Self {
        if prefix.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// One next hop, resolved.
pub(crate) fn resolve<'a>(
    network: &'a Network,
    next_hop: &NextHop,
    family: Family,
    policy: Policy,
) -> Result<Resolved<'a>, Unresolved> {
    let address = next_hop.address.to_canonical();
    if family == Family::V6 && address.is_ipv4() {
        return Err(Unresolved::Family(address));
    }
    if network.is_own(address) && !(is_link_local(address) && next_hop.interface.is_some()) {
        return Err(Unresolved::Ourselves(address));
    }
    let hop = |gateway, interface, weight| Hop {
        gateway: Some(gateway),
        interface,
        weight,
        onlink: false,
    };
    if is_link_local(address) && address.is_ipv6() {
        let interface = next_hop.interface.ok_or(Unresolved::NoInterface(address))?;
        let link = network
            .link(interface)
            .ok_or(Unresolved::InterfaceGone(address, interface))?;
        usable(link, address)?;
        return Ok(Resolved {
            hops: smallvec![hop(address, interface, next_hop.weight.max(1))],
            by: None,
        });
    }

    let mut failure = None;
    for (prefix, route) in network.covering(address) {
        let is_default = prefix.prefix() == 0;
        if is_default && policy != Policy::Gateway {
            break;
        }
        match through(network, address, next_hop, prefix, route) {
            Ok(hops) => {
                return Ok(Resolved {
                    hops,
                    by: Some((prefix, route)),
                });
            }
            // The kernel falls back to a less specific route as well once the link is gone.
            Err(reason @ (Unresolved::LinkDown { .. } | Unresolved::InterfaceGone(..))) => {
                failure.get_or_insert(reason);
            }
            Err(reason) => return Err(failure.unwrap_or(reason)),
        }
    }
    let guess = policy == Policy::Onlink && failure.is_none();
    if let Some(resolved) = guess.then(|| on_link(network, address, next_hop)).flatten() {
        return resolved;
    }
    Err(failure.unwrap_or_else(|| {
        let default = network
            .covering(address)
            .iter()
            .any(|(prefix, _)| prefix.prefix() == 0);
        if default {
            Unresolved::OnlyDefault(address)
        } else {
            Unresolved::NoRoute(address)
        }
    }))
}

/// The hops of a route that leads to `address`, as hops towards it.
fn through(
    network: &Network,
    address: IpAddr,
    next_hop: &NextHop,
    prefix: IpNetwork,
    route: &Foreign,
) -> Result<SmallVec<[Hop; 1]>, Unresolved> {
    let hops = match &route.verdict {
        Verdict::Forward(hops) => hops,
        Verdict::Drop(_) => {
            return Err(Unresolved::Dropped(
                address,
                network.in_words(prefix, route),
            ));
        }
        Verdict::Other(_) => {
            return Err(Unresolved::Unusable(
                address,
                network.in_words(prefix, route),
            ));
        }
    };
    let mut failure = Unresolved::NoRoute(address);
    let mut found = SmallVec::new();
    for hop in hops {
        let Some(link) = network.link(hop.interface) else {
            failure = Unresolved::InterfaceGone(address, hop.interface);
            continue;
        };
        match usable(link, address) {
            Ok(()) => found.push(Hop {
                gateway: Some(hop.gateway.unwrap_or(address)),
                interface: hop.interface,
                weight: hop.weight.saturating_mul(next_hop.weight.max(1)),
                onlink: hop.onlink,
            }),
            Err(reason) => failure = reason,
        }
    }
    if found.is_empty() {
        Err(failure)
    } else {
        Ok(found)
    }
}

fn usable(link: &Link, address: IpAddr) -> Result<(), Unresolved> {
    let state = match link {
        Link {
            admin_up: false, ..
        } => "set down",
        Link { carrier: false, .. } => "without carrier",
        _ => return Ok(()),
    };
    Err(Unresolved::LinkDown {
        address,
        interface: link.name.clone(),
        state,
    })
}

/// The next hop taken to be on the link it names, or on the default route's.
fn on_link<'a>(
    network: &'a Network,
    address: IpAddr,
    next_hop: &NextHop,
) -> Option<Result<Resolved<'a>, Unresolved>> {
    let by = network.covering(address).into_iter().next();
    let interface = next_hop.interface.or_else(|| match &by?.1.verdict {
        Verdict::Forward(hops) => hops.iter().map(|hop| hop.interface).min(),
        Verdict::Drop(_) | Verdict::Other(_) => None,
    })?;
    let Some(link) = network.link(interface) else {
        return Some(Err(Unresolved::InterfaceGone(address, interface)));
    };
    if let Err(reason) = usable(link, address) {
        return Some(Err(reason));
    }
    let hop = Hop {
        gateway: Some(address),
        interface,
        weight: next_hop.weight.max(1),
        onlink: true,
    };
    Some(Ok(Resolved {
        hops: smallvec![hop],
        by,
    }))
}

#[cfg(test)]
mod tests;
