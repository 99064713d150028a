//! MP_REACH_NLRI and MP_UNREACH_NLRI: prefixes of any family, with a next hop of any family (RFC 4760, 2545, 8950).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nom::{
    Parser,
    number::complete::{be_u8, be_u16},
};

use super::{
    NextHop, Partial,
    next_hop::is_host,
    table::{Flags, Malformed, Row, Scope},
};
use crate::{
    prefix::Family,
    wire::{
        read::{Short, sized_by_u8},
        update::Treatment,
    },
};

/// What MP_REACH_NLRI says, its prefixes still octets.
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Reach<'a> {
    /// `None`: a family that this session does not carry.
    pub(in crate::wire) family: Option<Family>,
    /// `None`: not the address of a host.
    pub(in crate::wire) next_hop: Option<NextHop>,
    pub(in crate::wire) nlri: &'a [u8],
    /// All of the attribute.
    pub(in crate::wire) whole: &'a [u8],
}

/// What MP_UNREACH_NLRI says, its prefixes still octets.
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Unreach<'a> {
    /// `None`: a family that this session does not carry.
    pub(in crate::wire) family: Option<Family>,
    pub(in crate::wire) nlri: &'a [u8],
    /// All of the attribute.
    pub(in crate::wire) whole: &'a [u8],
}

fn cut_short(_: nom::Err<Short>) -> Malformed {
    Malformed::Unlocatable("it is cut short", "5.3")
}

/// The next hop of this many octets, or why the prefixes behind it cannot be trusted. The inner `None`: it is no host.
fn next_hop(octets: &[u8], family: Family, extended: bool) -> Result<Option<NextHop>, Malformed> {
    let wrong = Malformed::Unlocatable(
        "its next hop has a length this family does not have",
        "7.11",
    );
    if let (Family::IPv4, Ok(address)) = (family, <[u8; 4]>::try_from(octets)) {
        let address = IpAddr::V4(Ipv4Addr::from(address));
        return Ok(is_host(address).then(|| address.into()));
    }
    if family == Family::IPv4 && !extended {
        return Err(wrong);
    }
    let (first, rest) = octets.split_first_chunk::<16>().ok_or(wrong)?;
    let first = Ipv6Addr::from(*first);
    if rest.is_empty() {
        return Ok(is_host(first.into()).then(|| IpAddr::V6(first).into()));
    }
    let second = <[u8; 16]>::try_from(rest).map_err(|_| wrong)?;
    // Some send zeros or their global address again in the second place: it counts only if it is what it should be.
    let link_local = Some(Ipv6Addr::from(second)).filter(Ipv6Addr::is_unicast_link_local);
    Ok(match link_local {
        _ if is_host(first.into()) && first.is_unicast_link_local() => {
            Some(IpAddr::V6(first).into())
        }
        _ if is_host(first.into()) => Some(NextHop {
            address: first.into(),
            link_local,
        }),
        // Unnumbered peers have no global address to put in the first place.
        Some(link_local) if first.is_unspecified() => Some(IpAddr::V6(link_local).into()),
        _ => None,
    })
}

pub(super) const MP_REACH_NLRI: Row = Row {
    code: 14,
    name: "MP_REACH_NLRI",
    flags: Flags::OPTIONAL,
    if_malformed: Treatment::Reset,
    rule: "RFC 7606 §7.11",
    subcode: 9,
    scope: Scope::Any,
    partial: Partial::empty(),
    read: |value, draft| {
        let (rest, (afi, safi, hop, _)) = (be_u16, be_u8, sized_by_u8, be_u8)
            .parse(value)
            .map_err(cut_short)?;
        let family =
            Family::from_afi_safi(afi, safi).filter(|family| draft.context.families.has(*family));
        let next_hop = match family {
            Some(family) => next_hop(hop, family, draft.context.extended_next_hop)?,
            None => None,
        };
        draft.reach = Some(Reach {
            family,
            next_hop,
            nlri: rest,
            whole: draft.whole,
        });
        if family.is_none() {
            let reason = format!(
                "MP_REACH_NLRI of AFI {afi} SAFI {safi}, which was not agreed on, ignored (RFC 4760 §7)"
            );
            draft.fault(Treatment::Discard, reason, 9, &[]);
        }
        Ok(())
    },
    write: |_, _, _| false,
};

pub(super) const MP_UNREACH_NLRI: Row = Row {
    code: 15,
    name: "MP_UNREACH_NLRI",
    flags: Flags::OPTIONAL,
    if_malformed: Treatment::Reset,
    rule: "RFC 7606 §5.3",
    subcode: 9,
    scope: Scope::Any,
    partial: Partial::empty(),
    read: |value, draft| {
        let (nlri, (afi, safi)) = (be_u16, be_u8).parse(value).map_err(cut_short)?;
        let family =
            Family::from_afi_safi(afi, safi).filter(|family| draft.context.families.has(*family));
        let whole = draft.whole;
        draft.unreach = Some(Unreach {
            family,
            nlri,
            whole,
        });
        Ok(())
    },
    write: |_, _, _| false,
};
