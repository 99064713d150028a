//! Lists of prefixes: a length in bits, then as many octets as those bits need (RFC 4271 §4.3, RFC 4760 §5, RFC 7911 §3).

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};
use nom::number::complete::be_u32;

use super::{Nlri, read::Short};
use crate::prefix::{Family, Prefix};

/// Whether path identifiers stand before the prefixes (RFC 7911 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathIds {
    With,
    Without,
}

impl From<bool> for PathIds {
    fn from(with: bool) -> Self {
        if with { Self::With } else { Self::Without }
    }
}

/// Every prefix of the list that fills `input`; host bits a peer left dirty are cleared.
pub(super) fn read(mut input: &[u8], family: Family, ids: PathIds) -> Result<Vec<Nlri>, Short> {
    // Most prefixes of a table take four octets; a list of shorter ones grows.
    let octets = match (family, ids) {
        (Family::IPv4, PathIds::Without) => 4,
        (Family::IPv4, PathIds::With) | (Family::IPv6, PathIds::Without) => 8,
        (Family::IPv6, PathIds::With) => 12,
    };
    let mut list = Vec::with_capacity(input.len().div_ceil(octets));
    while !input.is_empty() {
        let mut path_id = 0;
        if ids == PathIds::With {
            (input, path_id) = be_u32(input).map_err(|_: nom::Err<Short>| Short)?;
        }
        let (&length, rest) = input.split_first().ok_or(Short)?;
        let (octets, rest) = rest
            .split_at_checked(usize::from(length).div_ceil(8))
            .ok_or(Short)?;
        let prefix = match family {
            Family::IPv4 => Prefix::v4(Ipv4Addr::from(padded::<4>(octets)?), length),
            Family::IPv6 => Prefix::v6(Ipv6Addr::from(padded::<16>(octets)?), length),
        };
        list.push(Nlri {
            prefix: prefix.ok_or(Short)?,
            path_id,
        });
        input = rest;
    }
    Ok(list)
}

/// `octets`, then zeros up to `N`.
fn padded<const N: usize>(octets: &[u8]) -> Result<[u8; N], Short> {
    let mut address = [0; N];
    address
        .get_mut(..octets.len())
        .ok_or(Short)?
        .copy_from_slice(octets);
    Ok(address)
}

/// Appends one.
pub(super) fn put(nlri: &Nlri, ids: PathIds, out: &mut BytesMut) {
    if ids == PathIds::With {
        out.put_u32(nlri.path_id);
    }
    let length = nlri.prefix.length();
    out.put_u8(length);
    let octets = usize::from(length).div_ceil(8);
    match nlri.prefix.address() {
        std::net::IpAddr::V4(address) => {
            out.put_slice(address.octets().get(..octets).unwrap_or_default());
        }
        std::net::IpAddr::V6(address) => {
            out.put_slice(address.octets().get(..octets).unwrap_or_default());
        }
    }
}

/// The most octets one element of this family takes.
pub(super) const fn longest(family: Family, ids: PathIds) -> usize {
    let prefix = match family {
        Family::IPv4 => 5,
        Family::IPv6 => 17,
    };
    match ids {
        PathIds::With => prefix + 4,
        PathIds::Without => prefix,
    }
}

/// Whether no unicast route can lead there: multicast (224.0.0.0/4, ff00::/8) and what is reserved beside it (240.0.0.0/4).
/// RFC 4271 §6.3: "If a prefix in the NLRI field is semantically incorrect (e.g., an unexpected multicast IP address), an
/// error SHOULD be logged locally, and the prefix SHOULD be ignored."
pub(super) fn is_not_unicast(prefix: &Prefix) -> bool {
    match prefix.address() {
        std::net::IpAddr::V4(address) => {
            let [first, ..] = address.octets();
            first >= 224 && prefix.length() >= 3
        }
        std::net::IpAddr::V6(address) => address.is_multicast() && prefix.length() >= 8,
    }
}
