//! Address families and prefixes, the words everything else is said in.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Serialize, Serializer};

/// An address family we route: IPv4 or IPv6, always SAFI unicast (RFC 4760).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Family {
    /// AFI 1, SAFI 1.
    IPv4,
    /// AFI 2, SAFI 1.
    IPv6,
}

impl Family {
    /// Both, in wire order.
    pub const ALL: [Self; 2] = [Self::IPv4, Self::IPv6];

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::IPv4,
            IpAddr::V6(_) => Self::IPv6,
        }
    }

    /// The Address Family Identifier (RFC 4760 §3).
    #[must_use]
    pub const fn afi(self) -> u16 {
        match self {
            Self::IPv4 => 1,
            Self::IPv6 => 2,
        }
    }

    /// The Subsequent Address Family Identifier (RFC 4760 §6): always 1, unicast.
    #[must_use]
    pub const fn safi(self) -> u8 {
        1
    }

    /// The family that an AFI and SAFI stand for, if it is one of ours.
    #[must_use]
    pub const fn from_afi_safi(afi: u16, safi: u8) -> Option<Self> {
        match (afi, safi) {
            (1, 1) => Some(Self::IPv4),
            (2, 1) => Some(Self::IPv6),
            _ => None,
        }
    }

    /// The length of a full address, in bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::IPv4 => 32,
            Self::IPv6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        })
    }
}

bitflags::bitflags! {
    /// A set of families.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Families: u8 {
        /// [`Family::IPv4`].
        const IPV4 = 1;
        /// [`Family::IPv6`].
        const IPV6 = 2;
    }
}

impl Families {
    /// Whether `family` is in the set.
    #[must_use]
    pub fn has(self, family: Family) -> bool {
        self.contains(family.into())
    }

    /// The members, in wire order.
    pub fn each(self) -> impl Iterator<Item = Family> {
        Family::ALL
            .into_iter()
            .filter(move |family| self.has(*family))
    }
}

impl From<Family> for Families {
    fn from(family: Family) -> Self {
        match family {
            Family::IPv4 => Self::IPV4,
            Family::IPv6 => Self::IPV6,
        }
    }
}

impl FromIterator<Family> for Families {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> Self {
        families
            .into_iter()
            .fold(Self::empty(), |set, family| set | family.into())
    }
}

/// A CIDR whose host bits are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNetwork);

impl Prefix {
    /// The prefix of `length` bits that holds `address`; `None` where `length` exceeds the family's bits.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Self::v4(address, length),
            IpAddr::V6(address) => Self::v6(address, length),
        }
    }

    /// The IPv4 prefix of `length` (0–32) bits that holds `address`.
    #[must_use]
    #[inline]
    pub fn v4(address: Ipv4Addr, length: u8) -> Option<Self> {
        let host_bits = 32_u8.checked_sub(length)?;
        let mask = u32::MAX.checked_shl(host_bits.into()).unwrap_or(0);
        let network = Ipv4Network::new((address.to_bits() & mask).into(), length).ok()?;
        Some(Self(IpNetwork::V4(network)))
    }

    /// The IPv6 prefix of `length` (0–128) bits that holds `address`.
    #[must_use]
    #[inline]
    pub fn v6(address: Ipv6Addr, length: u8) -> Option<Self> {
        let host_bits = 128_u8.checked_sub(length)?;
        let mask = u128::MAX.checked_shl(host_bits.into()).unwrap_or(0);
        let network = Ipv6Network::new((address.to_bits() & mask).into(), length).ok()?;
        Some(Self(IpNetwork::V6(network)))
    }

    /// The prefix that holds just this address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self(address.into())
    }

    /// The first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.0.ip()
    }

    /// The length in bits. (A prefix is never "empty", so there is no `is_empty`.)
    #[must_use]
    pub fn length(&self) -> u8 {
        self.0.prefix()
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> Family {
        match self.0 {
            IpNetwork::V4(_) => Family::IPv4,
            IpNetwork::V6(_) => Family::IPv6,
        }
    }

    /// The same as an [`IpNetwork`].
    #[must_use]
    pub fn network(&self) -> IpNetwork {
        self.0
    }

    /// Whether every address of `other` is in `self` (equal prefixes contain each other).
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.family() == other.family()
            && self.length() <= other.length()
            && self.0.contains(other.address())
    }

    /// Its lower and its upper half; `None` where it is a single address.
    #[must_use]
    pub fn halves(&self) -> Option<(Self, Self)> {
        let length = self.length().checked_add(1)?;
        let upper = match self.address() {
            IpAddr::V4(low) => {
                let bit = 1_u32.checked_shl(32_u32.checked_sub(length.into())?)?;
                Self::v4((low.to_bits() | bit).into(), length)
            }
            IpAddr::V6(low) => {
                let bit = 1_u128.checked_shl(128_u32.checked_sub(length.into())?)?;
                Self::v6((low.to_bits() | bit).into(), length)
            }
        };
        Some((Self::new(self.address(), length)?, upper?))
    }

    /// Whether any address is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other) || other.contains(self)
    }
}

impl From<IpNetwork> for Prefix {
    /// Host bits are cleared.
    fn from(network: IpNetwork) -> Self {
        // A network has no length that its address cannot have.
        Self::new(network.ip(), network.prefix()).unwrap_or(Self(network))
    }
}

impl FromStr for Prefix {
    type Err = ipnetwork::IpNetworkError;

    /// Reads `10.244.1.0/24` or `fd00::/64`; an address without a length is a host prefix; host bits are cleared.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpNetwork>().map(Self::from)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
