//! Communities of three kinds, and how they are written as text (RFC 1997, RFC 4360, RFC 8092).

use std::{fmt, net::Ipv4Addr, str::FromStr};

use bytes::BufMut;

use super::{
    Partial,
    table::{Flags, Malformed, Row, Scope},
};
use crate::wire::update::Treatment;

/// A standard community, RFC 1997: `high:low`, or a well-known name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// GRACEFUL_SHUTDOWN, RFC 8326.
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
    /// ACCEPT_OWN, RFC 7611.
    pub const ACCEPT_OWN: Self = Self(0xffff_0001);
    /// LLGR_STALE, RFC 9494.
    pub const LLGR_STALE: Self = Self(0xffff_0006);
    /// NO_LLGR, RFC 9494.
    pub const NO_LLGR: Self = Self(0xffff_0007);
    /// BLACKHOLE, RFC 7999.
    pub const BLACKHOLE: Self = Self(0xffff_029a);
    /// NO_EXPORT, RFC 1997.
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// NO_ADVERTISE, RFC 1997.
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// NO_EXPORT_SUBCONFED, RFC 1997.
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);
    /// NOPEER, RFC 3765.
    pub const NO_PEER: Self = Self(0xffff_ff04);
}

/// Names as RFCs, Cilium and FRR have them; the first of a value is the one we write.
const WELL_KNOWN: [(&str, Community); 13] = [
    ("graceful-shutdown", Community::GRACEFUL_SHUTDOWN),
    ("planned-shut", Community::GRACEFUL_SHUTDOWN),
    ("accept-own", Community::ACCEPT_OWN),
    ("llgr-stale", Community::LLGR_STALE),
    ("no-llgr", Community::NO_LLGR),
    ("blackhole", Community::BLACKHOLE),
    ("no-export", Community::NO_EXPORT),
    ("no-advertise", Community::NO_ADVERTISE),
    ("no-export-subconfed", Community::NO_EXPORT_SUBCONFED),
    ("local-as", Community::NO_EXPORT_SUBCONFED),
    ("no-peer", Community::NO_PEER),
    ("nopeer", Community::NO_PEER),
    ("internet", Community(0)),
];

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match WELL_KNOWN
            .iter()
            .find(|(name, value)| value == self && *name != "internet")
        {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

/// A text that is no community.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCommunity {
    /// Neither `a:b` nor a well-known name.
    #[error(
        "`{0}` is no community: write 65000:100 (two numbers up to 65535) or a name such as no-export"
    )]
    Standard(String),
    /// Not `a:b:c`.
    #[error("`{0}` is no large community: write 65000:1:2 (three numbers up to 4294967295)")]
    Large(String),
}

impl FromStr for Community {
    type Err = UnknownCommunity;

    /// Reads `65000:100`, `no-export`, `NO_EXPORT`.
    fn from_str(text: &str) -> Result<Self, UnknownCommunity> {
        let number = || {
            let (high, low) = text.split_once(':')?;
            let (high, low) = (decimal::<u16>(high)?, decimal::<u16>(low)?);
            Some(Self(u32::from(high) << 16 | u32::from(low)))
        };
        let name = || {
            let name = text.to_ascii_lowercase().replace('_', "-");
            let (_, value) = WELL_KNOWN.iter().find(|(known, _)| *known == name)?;
            Some(*value)
        };
        number()
            .or_else(name)
            .ok_or_else(|| UnknownCommunity::Standard(text.to_owned()))
    }
}

/// A number without sign or white space.
fn decimal<T: FromStr>(text: &str) -> Option<T> {
    text.bytes()
        .all(|octet| octet.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// A large community, RFC 8092: `global:local1:local2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// Global Administrator, an AS number.
    pub global: u32,
    /// Local Data Part 1.
    pub local1: u32,
    /// Local Data Part 2.
    pub local2: u32,
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

impl FromStr for LargeCommunity {
    type Err = UnknownCommunity;

    fn from_str(text: &str) -> Result<Self, UnknownCommunity> {
        let mut parts = text.split(':').map(decimal::<u32>);
        let mut part = || parts.next().flatten();
        match (part(), part(), part(), parts.next()) {
            (Some(global), Some(local1), Some(local2), None) => Ok(Self {
                global,
                local1,
                local2,
            }),
            _ => Err(UnknownCommunity::Large(text.to_owned())),
        }
    }
}

/// An extended community, RFC 4360: eight octets, as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub [u8; 8]);

impl ExtendedCommunity {
    /// The link bandwidth community: non-transitive, two-octet AS specific, sub-type 4 (draft-ietf-idr-link-bandwidth).
    #[must_use]
    pub fn of_link_bandwidth(asn: u16, octets_per_second: f32) -> Self {
        let [a, b] = asn.to_be_bytes();
        let [c, d, e, f] = octets_per_second.to_be_bytes();
        Self([0x40, 4, a, b, c, d, e, f])
    }

    /// The bandwidth of the link in octets per second, if it is that community (transitive or not) and says something
    /// usable: a positive, finite number.
    #[must_use]
    pub fn link_bandwidth(self) -> Option<f32> {
        match self.0 {
            [0x40 | 0x00, 4, _, _, a, b, c, d] => Some(f32::from_be_bytes([a, b, c, d]))
                .filter(|bandwidth| bandwidth.is_finite() && *bandwidth > 0.0),
            _ => None,
        }
    }

    /// Whether it goes on to other ASes (RFC 4360 §2: the T bit is 0).
    #[must_use]
    pub const fn is_transitive(self) -> bool {
        let [kind, ..] = self.0;
        kind & 0x40 == 0
    }
}

impl fmt::Display for ExtendedCommunity {
    /// `rt:65000:1`, `soo:10.0.0.1:2`, `link-bandwidth:65000:125000000`, and sixteen hexadecimal digits for all others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, sub, value @ ..] = self.0;
        if let Some(bandwidth) = self.link_bandwidth() {
            let [high, low, ..] = value;
            return write!(
                f,
                "link-bandwidth:{}:{bandwidth}",
                u16::from_be_bytes([high, low])
            );
        }
        let name = match sub {
            2 => "rt",
            3 => "soo",
            _ => "",
        };
        let [a, b, c, d, e, last] = value;
        let low = u16::from_be_bytes([e, last]);
        match kind & 0x3f {
            0 if !name.is_empty() => {
                let (asn, number) = (
                    u16::from_be_bytes([a, b]),
                    u32::from_be_bytes([c, d, e, last]),
                );
                write!(f, "{name}:{asn}:{number}")
            }
            1 if !name.is_empty() => write!(f, "{name}:{}:{low}", Ipv4Addr::new(a, b, c, d)),
            2 if !name.is_empty() => write!(f, "{name}:{}:{low}", u32::from_be_bytes([a, b, c, d])),
            _ => write!(f, "0x{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

/// The elements of `N` octets that fill `value`; `None` where there is not a whole number of them, or none.
pub(super) fn list_of<T, const N: usize>(
    value: &[u8],
    element: impl Fn([u8; N]) -> T,
) -> Option<Box<[T]>> {
    match value.as_chunks::<N>() {
        ([], _) => None,
        (octets, []) => Some(octets.iter().map(|octets| element(*octets)).collect()),
        _ => None,
    }
}

pub(super) const COMMUNITIES: Row = Row {
    code: 8,
    name: "COMMUNITIES",
    flags: Flags::OPTIONAL_TRANSITIVE,
    if_malformed: Treatment::Withdraw,
    rule: "RFC 7606 §7.8",
    subcode: 9,
    scope: Scope::Any,
    partial: Partial::COMMUNITIES,
    read: |value, draft| {
        draft.attributes.communities =
            list_of(value, |octets| Community(u32::from_be_bytes(octets)))
                .ok_or(Malformed::Length("a multiple of 4 and not 0"))?;
        Ok(())
    },
    write: |attributes, _, out| {
        for community in &attributes.communities {
            out.put_u32(community.0);
        }
        !attributes.communities.is_empty()
    },
};

pub(super) const EXTENDED_COMMUNITIES: Row = Row {
    code: 16,
    name: "EXTENDED COMMUNITIES",
    flags: Flags::OPTIONAL_TRANSITIVE,
    if_malformed: Treatment::Withdraw,
    rule: "RFC 7606 §7.14",
    subcode: 9,
    scope: Scope::Any,
    partial: Partial::EXTENDED_COMMUNITIES,
    read: |value, draft| {
        draft.attributes.extended_communities = list_of(value, ExtendedCommunity)
            .ok_or(Malformed::Length("a multiple of 8 and not 0"))?;
        Ok(())
    },
    write: |attributes, _, out| {
        for community in &attributes.extended_communities {
            out.put_slice(&community.0);
        }
        !attributes.extended_communities.is_empty()
    },
};

pub(super) const LARGE_COMMUNITY: Row = Row {
    code: 32,
    name: "LARGE_COMMUNITY",
    flags: Flags::OPTIONAL_TRANSITIVE,
    if_malformed: Treatment::Withdraw,
    rule: "RFC 8092 §5",
    subcode: 9,
    scope: Scope::Any,
    partial: Partial::LARGE_COMMUNITY,
    read: |value, draft| {
        let communities = list_of(value, LargeCommunity::from_octets)
            .ok_or(Malformed::Length("a multiple of 12 and not 0"))?;
        draft.attributes.large_communities = without_duplicates(communities);
        Ok(())
    },
    write: |attributes, _, out| {
        for community in &attributes.large_communities {
            out.put_u32(community.global);
            out.put_u32(community.local1);
            out.put_u32(community.local2);
        }
        !attributes.large_communities.is_empty()
    },
};

impl LargeCommunity {
    fn from_octets([a, b, c, d, e, f, g, h, i, j, k, l]: [u8; 12]) -> Self {
        Self {
            global: u32::from_be_bytes([a, b, c, d]),
            local1: u32::from_be_bytes([e, f, g, h]),
            local2: u32::from_be_bytes([i, j, k, l]),
        }
    }
}

/// RFC 8092 §3: "A receiving speaker MUST silently remove redundant BGP Large Community values". In the order of the first
/// of each, and in a time that a long list cannot blow up.
fn without_duplicates(communities: Box<[LargeCommunity]>) -> Box<[LargeCommunity]> {
    if communities.is_sorted_by(|a, b| a < b) {
        return communities;
    }
    let mut met = hashbrown::HashSet::with_capacity(communities.len());
    let mut list = communities.into_vec();
    list.retain(|community| met.insert(*community));
    list.into()
}
