//! What may be installed: allowed ranges, and nothing that would take our own network away from us.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use prefix_trie::PrefixMap;
use smallvec::SmallVec;
use thiserror::Error;

use crate::config::{AllowedRange, Guard};

/// Why a prefix may not be installed, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// 0.0.0.0/0 or ::/0.
    #[error(
        "a default route is not accepted; set kernel.acceptDefaultRoute if the fabric shall provide it"
    )]
    DefaultRoute,
    /// Overlaps 127.0.0.0/8 or ::1.
    #[error("it overlaps the loopback range {0}; filter it at the peer")]
    Loopback(IpNetwork),
    /// Overlaps 169.254.0.0/16 or fe80::/10.
    #[error("it overlaps the link-local range {0}; filter it at the peer")]
    LinkLocal(IpNetwork),
    /// Overlaps 224.0.0.0/4 or ff00::/8.
    #[error("it overlaps the multicast range {0}; filter it at the peer")]
    Multicast(IpNetwork),
    /// Overlaps 0.0.0.0/8 or 240.0.0.0/4.
    #[error("it overlaps the reserved range {0}; filter it at the peer")]
    Reserved(IpNetwork),
    /// Inside no allowed range.
    #[error(
        "it lies outside the pod network and kernel.allowedPrefixes; add it there if it is meant to be installed"
    )]
    OutsideAllowed,
    /// Inside an allowed range, but shorter or longer than allowed there.
    #[error("it lies inside {} but its length is not within {}..={}; widen minLength/maxLength there if it is meant to be installed", .0.cidr, .0.min_len, .0.max_len)]
    Length(AllowedRange),
    /// Equal to or inside our own pod CIDR.
    #[error(
        "it lies inside this node's own pod CIDR {0}; two nodes have the same pod CIDR, or a peer sends our pods back to us"
    )]
    OwnPodCidr(IpNetwork),
    /// Equal to or inside a service CIDR.
    #[error(
        "it lies inside the service CIDR {0}, which only kube-proxy serves; filter it at the peer"
    )]
    ServiceCidr(IpNetwork),
    /// An own address.
    #[error("it is the address {address} of this node on {interface}; filter it at the peer")]
    OwnAddress {
        /// The address.
        address: IpAddr,
        /// The interface it is on.
        interface: String,
    },
    /// Equal to or inside a connected subnet.
    #[error(
        "it lies inside the subnet {subnet} connected on {interface}; a route learned by BGP must not take it over: filter it at the peer"
    )]
    ConnectedSubnet {
        /// The subnet.
        subnet: IpNetwork,
        /// The interface it is on.
        interface: String,
    },
    /// Every next hop is an address of this node.
    #[error("its next hop {0} is an address of this node; the peer sends our own route back to us")]
    NextHopIsOurselves(IpAddr),
    /// A route of someone else has the same destination, table and metric.
    #[error(
        "a foreign route stands in the way: \"{0}\" has the same destination and metric; remove it or give our routes another metric"
    )]
    ForeignRoute(String),
}

impl Refusal {
    /// All kinds, in the order of `Refusal::code`.
    pub const KINDS: [&'static str; 13] = [
        "default-route",
        "loopback",
        "link-local",
        "multicast",
        "reserved",
        "outside-allowed",
        "length",
        "own-pod-cidr",
        "service-cidr",
        "own-address",
        "connected-subnet",
        "next-hop-is-ourselves",
        "foreign-route",
    ];

    /// A small number for the kind: the index into [`Refusal::KINDS`].
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::DefaultRoute => 0,
            Self::Loopback(_) => 1,
            Self::LinkLocal(_) => 2,
            Self::Multicast(_) => 3,
            Self::Reserved(_) => 4,
            Self::OutsideAllowed => 5,
            Self::Length(_) => 6,
            Self::OwnPodCidr(_) => 7,
            Self::ServiceCidr(_) => 8,
            Self::OwnAddress { .. } => 9,
            Self::ConnectedSubnet { .. } => 10,
            Self::NextHopIsOurselves(_) => 11,
            Self::ForeignRoute(_) => 12,
        }
    }

    /// One word for counters and metrics, such as `outside-allowed`.
    pub fn kind(&self) -> &'static str {
        Self::KINDS
            .get(usize::from(self.code()))
            .copied()
            .unwrap_or("other")
    }
}

/// An own address with its subnet, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connected {
    pub(crate) address: IpAddr,
    /// The subnet without host bits; a point-to-point address has the far end's here.
    pub(crate) subnet: IpNetwork,
    pub(crate) interface: String,
}

/// [`Guard`] and the node's own addresses, prepared for many questions.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    accept_default: bool,
    ranges: PrefixMap<Ipv4Network, Range>,
    ranges6: PrefixMap<Ipv6Network, Range>,
}

/// What is said about everything inside one CIDR.
#[derive(Debug, Default)]
struct Range {
    allowed: SmallVec<[AllowedRange; 1]>,
    /// Boxed: most ranges are allowed ones.
    forbidden: Option<Box<Refusal>>,
}

impl Gate {
    pub(crate) fn new(guard: &Guard, connected: &[Connected]) -> Self {
        let mut gate = Self {
            accept_default: guard.accept_default,
            ..Self::default()
        };
        for range in &guard.allowed {
            gate.range(range.cidr).allowed.push(*range);
        }
        for own in connected {
            let subnet = own.subnet;
            // A link-local subnet is on every interface; the fixed range says it better.
            if !is_link_local(own.address) {
                gate.forbid(
                    subnet,
                    Refusal::ConnectedSubnet {
                        subnet,
                        interface: own.interface.clone(),
                    },
                );
                gate.forbid(
                    IpNetwork::from(own.address),
                    Refusal::OwnAddress {
                        address: own.address,
                        interface: own.interface.clone(),
                    },
                );
            }
        }
        for &cidr in &guard.service_cidrs {
            gate.forbid(cidr, Refusal::ServiceCidr(cidr));
        }
        for &cidr in &guard.own_pod_cidrs {
            gate.forbid(cidr, Refusal::OwnPodCidr(cidr));
        }
        gate
    }

    fn range(&mut self, cidr: IpNetwork) -> &mut Range {
        match cidr {
            IpNetwork::V4(cidr) => self.ranges.entry(trunc4(cidr)).or_default(),
            IpNetwork::V6(cidr) => self.ranges6.entry(trunc6(cidr)).or_default(),
        }
    }

    fn forbid(&mut self, cidr: IpNetwork, refusal: Refusal) {
        self.range(cidr).forbidden = Some(Box::new(refusal));
    }

    /// Whether an IPv4 prefix (without host bits) may be installed.
    pub(crate) fn check4(&self, prefix: Ipv4Network) -> Result<(), Refusal> {
        if prefix.prefix() == 0 {
            return if self.accept_default {
                Ok(())
            } else {
                Err(Refusal::DefaultRoute)
            };
        }
        fixed4(prefix)?;
        verdict(
            prefix.prefix(),
            self.ranges.cover(&prefix).map(|(_, range)| range),
        )
    }

    /// Whether an IPv6 prefix (without host bits) may be installed.
    pub(crate) fn check6(&self, prefix: Ipv6Network) -> Result<(), Refusal> {
        if prefix.prefix() == 0 {
            return if self.accept_default {
                Ok(())
            } else {
                Err(Refusal::DefaultRoute)
            };
        }
        fixed6(prefix)?;
        verdict(
            prefix.prefix(),
            self.ranges6.cover(&prefix).map(|(_, range)| range),
        )
    }
}

/// `covering` goes from the shortest to the longest range that holds the prefix; the most specific ban is told.
fn verdict<'a>(length: u8, covering: impl Iterator<Item = &'a Range>) -> Result<(), Refusal> {
    let (mut allowed, mut near_miss, mut forbidden) = (false, None, None);
    for range in covering {
        for range in &range.allowed {
            if (range.min_len..=range.max_len).contains(&length) {
                allowed = true;
            } else {
                near_miss = Some(*range);
            }
        }
        forbidden = range.forbidden.as_deref().or(forbidden);
    }
    match (forbidden, allowed, near_miss) {
        (Some(refusal), ..) => Err(refusal.clone()),
        (None, true, _) => Ok(()),
        (None, false, Some(range)) => Err(Refusal::Length(range)),
        (None, false, None) => Err(Refusal::OutsideAllowed),
    }
}

/// Address and length of a range, and the refusal it means.
type Fixed<A> = (A, u8, fn(IpNetwork) -> Refusal);

/// Ranges no unicast route may touch, in either direction: a covering one would take them over as well.
fn fixed4(prefix: Ipv4Network) -> Result<(), Refusal> {
    const FIXED: [Fixed<Ipv4Addr>; 5] = [
        (Ipv4Addr::new(127, 0, 0, 0), 8, Refusal::Loopback),
        (Ipv4Addr::new(169, 254, 0, 0), 16, Refusal::LinkLocal),
        (Ipv4Addr::new(224, 0, 0, 0), 4, Refusal::Multicast),
        (Ipv4Addr::new(240, 0, 0, 0), 4, Refusal::Reserved),
        (Ipv4Addr::new(0, 0, 0, 0), 8, Refusal::Reserved),
    ];
    let bits = prefix.ip().to_bits();
    for (range, length, refusal) in FIXED {
        let mask = u32::MAX << (32 - u32::from(length.min(prefix.prefix()).clamp(1, 32)));
        if (bits ^ range.to_bits()) & mask == 0 {
            return Err(refusal(network(range.into(), length)));
        }
    }
    Ok(())
}

fn fixed6(prefix: Ipv6Network) -> Result<(), Refusal> {
    const FIXED: [Fixed<Ipv6Addr>; 4] = [
        (Ipv6Addr::LOCALHOST, 128, Refusal::Loopback),
        (
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
            10,
            Refusal::LinkLocal,
        ),
        (
            Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
            8,
            Refusal::Multicast,
        ),
        // IPv4-mapped addresses never stand on a wire (RFC 4291 §2.5.5.2, RFC 6890).
        (
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0),
            96,
            Refusal::Reserved,
        ),
    ];
    let bits = prefix.ip().to_bits();
    for (range, length, refusal) in FIXED {
        let mask = u128::MAX << (128 - u32::from(length.min(prefix.prefix()).clamp(1, 128)));
        if (bits ^ range.to_bits()) & mask == 0 {
            return Err(refusal(network(range.into(), length)));
        }
    }
    Ok(())
}

/// Whether an address is only good on one link.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The network of an address, without host bits; an impossible length becomes the host's own.
pub(crate) fn network(address: IpAddr, length: u8) -> IpNetwork {
    IpNetwork::new(address, length).map_or(IpNetwork::from(address), trunc)
}

/// The same prefix without host bits: keys must be canonical.
pub(crate) fn trunc(prefix: IpNetwork) -> IpNetwork {
    match prefix {
        IpNetwork::V4(prefix) => IpNetwork::V4(trunc4(prefix)),
        IpNetwork::V6(prefix) => IpNetwork::V6(trunc6(prefix)),
    }
}

pub(crate) fn trunc4(prefix: Ipv4Network) -> Ipv4Network {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(prefix.prefix()))
        .unwrap_or(0);
    Ipv4Network::new(
        Ipv4Addr::from_bits(prefix.ip().to_bits() & mask),
        prefix.prefix(),
    )
    .unwrap_or(prefix)
}

pub(crate) fn trunc6(prefix: Ipv6Network) -> Ipv6Network {
    let mask = u128::MAX
        .checked_shl(128 - u32::from(prefix.prefix()))
        .unwrap_or(0);
    Ipv6Network::new(
        Ipv6Addr::from_bits(prefix.ip().to_bits() & mask),
        prefix.prefix(),
    )
    .unwrap_or(prefix)
}

#[cfg(test)]
mod tests;
