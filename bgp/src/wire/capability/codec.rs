//! Capabilities from and to octets (RFC 5492 §4 and the RFC of each).

use bytes::{BufMut, Bytes, BytesMut};
use nom::{
    Parser,
    combinator::map,
    number::complete::{be_u8, be_u16, be_u24, be_u32},
};

use super::{AddPathMode, Capability, GracefulRestart};
use crate::{
    prefix::Family,
    wire::{
        WireError,
        notification::is_unfit,
        read::{Parsed, Short, each, only, sized_by_u8},
    },
};

/// The R and N bits in the first octet of graceful restart; the rest of the sixteen bits is the time.
const RESTARTED: u16 = 0x8000;
const NOTIFICATION: u16 = 0x4000;
const RESTART_TIME: u16 = 0x0fff;
/// The F bit of graceful restart and of its long-lived form.
const FORWARDING: u8 = 0x80;
/// The longest stale time of RFC 9494 §3.1, seconds.
const LONGEST_STALE_TIME: u32 = 0x00ff_ffff;

impl Capability {
    /// Reads the value of the capability with this code. One we do not know, or whose text or families mean nothing to us,
    /// is kept as it is.
    pub(in crate::wire) fn read(code: u8, value: &[u8]) -> Result<Self, WireError> {
        let unknown = || Self::Unknown {
            code,
            value: Bytes::copy_from_slice(value),
        };
        let malformed = |_: Short| WireError::MalformedCapability(code);
        let flag = |known: Self| match value {
            [] => Ok(known),
            _ => Err(WireError::MalformedCapability(code)),
        };
        match code {
            1 => {
                let (afi, _, safi) =
                    only((be_u16, be_u8, be_u8).parse(value)).map_err(malformed)?;
                Ok(Family::from_afi_safi(afi, safi).map_or_else(unknown, Self::Multiprotocol))
            }
            2 => flag(Self::RouteRefresh),
            5 => extended_next_hop(value).map_err(malformed),
            6 => flag(Self::ExtendedMessage),
            64 => graceful_restart(value).map_err(malformed),
            65 => match only(be_u32(value)).map_err(malformed)? {
                0 => Err(WireError::AsZero),
                asn => Ok(Self::FourOctetAs(asn)),
            },
            69 => Ok(add_path(value).map_err(malformed)?.unwrap_or_else(unknown)),
            70 => flag(Self::EnhancedRouteRefresh),
            71 => long_lived(value).map_err(malformed),
            // Mere information: no reason to refuse a session.
            73 => Ok(fqdn(value).unwrap_or_else(unknown)),
            75 => Ok(software_version(value).unwrap_or_else(unknown)),
            _ => Ok(unknown()),
        }
    }

    /// Writes code, length and value.
    pub(in crate::wire) fn write(&self, out: &mut BytesMut) {
        let mut value = BytesMut::new();
        self.write_value(&mut value);
        // No list of ours is that long; what came from outside was no longer than this either.
        value.truncate(usize::from(u8::MAX));
        out.put_u8(self.code());
        out.put_u8(u8::try_from(value.len()).unwrap_or(u8::MAX));
        out.put_slice(&value);
    }

    fn write_value(&self, out: &mut BytesMut) {
        match self {
            Self::Multiprotocol(family) => {
                out.put_u16(family.afi());
                out.put_u16(u16::from(family.safi()));
            }
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => {}
            Self::ExtendedNextHop(families) => {
                for family in families {
                    out.put_u16(family.afi());
                    out.put_u16(u16::from(family.safi()));
                    out.put_u16(Family::IPv6.afi());
                }
            }
            Self::GracefulRestart(restart) => {
                let mut first = restart.restart_time.min(RESTART_TIME);
                if restart.restarted {
                    first |= RESTARTED;
                }
                if restart.notification {
                    first |= NOTIFICATION;
                }
                out.put_u16(first);
                for (family, preserved) in &restart.families {
                    put_family(*family, out);
                    out.put_u8(if *preserved { FORWARDING } else { 0 });
                }
            }
            Self::FourOctetAs(asn) => out.put_u32(*asn),
            Self::AddPath(families) => {
                for (family, mode) in families {
                    put_family(*family, out);
                    out.put_u8(match mode {
                        AddPathMode::Receive => 1,
                        AddPathMode::Send => 2,
                        AddPathMode::Both => 3,
                    });
                }
            }
            Self::LongLivedGracefulRestart(families) => {
                for (family, preserved, stale_time) in families {
                    put_family(*family, out);
                    out.put_u8(if *preserved { FORWARDING } else { 0 });
                    out.put_uint(u64::from((*stale_time).min(LONGEST_STALE_TIME)), 3);
                }
            }
            Self::Fqdn { host, domain } => {
                // Two lengths and 253 octets of text at most.
                let host = start(host, 126);
                put_text(host, out);
                put_text(start(domain, 126), out);
            }
            Self::SoftwareVersion(version) => put_text(start(version, 254), out),
            Self::Unknown { value, .. } => out.put_slice(value),
        }
    }
}

fn put_family(family: Family, out: &mut BytesMut) {
    out.put_u16(family.afi());
    out.put_u8(family.safi());
}

/// One octet of length, then the text.
fn put_text(text: &str, out: &mut BytesMut) {
    out.put_u8(u8::try_from(text.len()).unwrap_or_default());
    out.put_slice(text.as_bytes());
}

/// As much of `text` as fits into so many octets.
fn start(text: &str, most: usize) -> &str {
    text.char_indices()
        .map(|(at, character)| at.saturating_add(character.len_utf8()))
        .take_while(|end| *end <= most)
        .last()
        .and_then(|end| text.get(..end))
        .unwrap_or_default()
}

/// AFI and SAFI, as a family if it is one of ours.
fn family(input: &[u8]) -> Parsed<'_, Option<Family>> {
    map((be_u16, be_u8), |(afi, safi)| {
        Family::from_afi_safi(afi, safi)
    })
    .parse(input)
}

/// RFC 8950 §4: the AFI and SAFI of the NLRI (two octets each here), and the AFI of its next hop.
fn extended_next_hop(value: &[u8]) -> Result<Capability, Short> {
    let tuples = each(value, |input| (be_u16, be_u16, be_u16).parse(input))?;
    let families = tuples.into_iter().filter_map(|(afi, safi, next_hop)| {
        let safi = u8::try_from(safi).ok()?;
        (next_hop == Family::IPv6.afi())
            .then(|| Family::from_afi_safi(afi, safi))
            .flatten()
    });
    Ok(Capability::ExtendedNextHop(families.collect()))
}

/// RFC 4724 §3, RFC 8538 §2.
fn graceful_restart(value: &[u8]) -> Result<Capability, Short> {
    let (families, first) = be_u16(value).map_err(|_: nom::Err<Short>| Short)?;
    let families = each(families, |input| (family, be_u8).parse(input))?
        .into_iter()
        .filter_map(|(family, flags)| Some((family?, flags & FORWARDING != 0)));
    Ok(Capability::GracefulRestart(GracefulRestart {
        restarted: first & RESTARTED != 0,
        notification: first & NOTIFICATION != 0,
        restart_time: first & RESTART_TIME,
        families: families.collect(),
    }))
}

/// RFC 7911 §4; `None` where the mode is none of the three: then it counts as not understood.
fn add_path(value: &[u8]) -> Result<Option<Capability>, Short> {
    let tuples = each(value, |input| (family, be_u8).parse(input))?;
    let mut families = Vec::with_capacity(tuples.len());
    for (family, mode) in tuples {
        let mode = match mode {
            1 => AddPathMode::Receive,
            2 => AddPathMode::Send,
            3 => AddPathMode::Both,
            _ => return Ok(None),
        };
        // Only the first instance of a family counts.
        if let Some(family) = family
            && !families.iter().any(|(other, _)| *other == family)
        {
            families.push((family, mode));
        }
    }
    Ok(Some(Capability::AddPath(families)))
}

/// RFC 9494 §3.1.
fn long_lived(value: &[u8]) -> Result<Capability, Short> {
    let families = each(value, |input| (family, be_u8, be_u24).parse(input))?
        .into_iter()
        .filter_map(|(family, flags, time)| Some((family?, flags & FORWARDING != 0, time)));
    Ok(Capability::LongLivedGracefulRestart(families.collect()))
}

fn fqdn(value: &[u8]) -> Option<Capability> {
    let (host, domain) = only((sized_by_u8, sized_by_u8).parse(value)).ok()?;
    Some(Capability::Fqdn {
        host: text(host)?,
        domain: text(domain)?,
    })
}

fn software_version(value: &[u8]) -> Option<Capability> {
    text(only(sized_by_u8(value)).ok()?).map(Capability::SoftwareVersion)
}

/// UTF-8 that may be shown as it is.
fn text(octets: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(octets).ok()?;
    (!text.contains(is_unfit)).then(|| text.to_owned())
}
