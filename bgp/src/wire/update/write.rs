//! From routes to octets: as few messages as possible, attributes encoded once for all of them.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};

use super::Update;
use crate::{
    prefix::Family,
    wire::{
        self, Attributes, Context, Kind, NextHop, Nlri,
        attribute::{self, Outgoing, put_multiprotocol},
        nlri::{self, PathIds},
    },
};

const MP_REACH_NLRI: u8 = 14;
const MP_UNREACH_NLRI: u8 = 15;
/// Lengths of the two lists before the prefixes of an UPDATE.
const LENGTHS: usize = 4;
/// The longest header of an attribute: flags, code, two octets of length.
const ATTRIBUTE_HEADER: usize = 4;

/// Why a route cannot be announced to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// It has no next hop: whoever announces it should have filled one in.
    #[error("the route has no next hop")]
    NoNextHop,
    /// Its next hop is of a family that this peer cannot take for these prefixes (RFC 8950, RFC 4760).
    #[error(
        "an {0} prefix with such a next hop means nothing to this peer (RFC 8950 was not agreed on)"
    )]
    NextHopFamily(Family),
    /// The attributes alone leave no room for a prefix in the longest message that was agreed on.
    #[error("its attributes take {0} octets: too many for one message (RFC 4271 §9.2)")]
    TooLong(usize),
}

/// Appends UPDATEs that announce `nlri`, all of this family, with these attributes; as few as possible. Returns how many.
///
/// IPv4 prefixes with an IPv4 next hop stand in the NLRI field, everything else in MP_REACH_NLRI. LOCAL_PREF, ORIGINATOR_ID
/// and CLUSTER_LIST go to internal peers only. What a session with two-octet AS numbers cannot say goes into AS4_PATH and
/// AS4_AGGREGATOR. On an error nothing is appended.
pub fn announce(
    attributes: &Attributes,
    family: Family,
    nlri: impl IntoIterator<Item = Nlri>,
    context: &Context,
    out: &mut BytesMut,
) -> Result<usize, Unsendable> {
    let next_hop = attributes.next_hop.ok_or(Unsendable::NoNextHop)?;
    let classic = match (family, next_hop.address) {
        (Family::IPv4, IpAddr::V4(_)) => true,
        (Family::IPv4, IpAddr::V6(_)) if context.extended_next_hop => false,
        (Family::IPv6, IpAddr::V6(_)) => false,
        _ => return Err(Unsendable::NextHopFamily(family)),
    };
    let mut block = BytesMut::with_capacity(256);
    attribute::write(attributes, &Outgoing { context, classic }, &mut block);
    let mut reach = BytesMut::new();
    if !classic {
        put_reach(family, next_hop, &mut reach);
    }
    let overhead = if classic {
        block.len()
    } else {
        [block.len(), reach.len(), ATTRIBUTE_HEADER]
            .into_iter()
            .fold(0, usize::saturating_add)
    };
    let room = room(context)
        .checked_sub(overhead)
        .filter(|room| *room >= nlri::longest(family, PathIds::With))
        .ok_or(Unsendable::TooLong(overhead))?;
    let ids = PathIds::from(context.add_path_send.has(family));
    Ok(packed(nlri, ids, room, |prefixes| {
        message(Kind::Update, out, |out| {
            out.put_u16(0);
            let start = open_length(out);
            if !classic {
                put_multiprotocol(MP_REACH_NLRI, &[&reach, prefixes], out);
            }
            out.put_slice(&block);
            close_length(out, start);
            if classic {
                out.put_slice(prefixes);
            }
        });
    }))
}

/// Appends UPDATEs that withdraw `nlri`, all of this family; as few as possible. Returns how many.
pub fn withdraw(
    family: Family,
    nlri: impl IntoIterator<Item = Nlri>,
    context: &Context,
    out: &mut BytesMut,
) -> usize {
    let ids = PathIds::from(context.add_path_send.has(family));
    match family {
        Family::IPv4 => packed(nlri, ids, room(context), |prefixes| {
            message(Kind::Update, out, |out| {
                let start = open_length(out);
                out.put_slice(prefixes);
                close_length(out, start);
                out.put_u16(0);
            });
        }),
        Family::IPv6 => {
            let room = room(context).saturating_sub(ATTRIBUTE_HEADER + 3);
            packed(nlri, ids, room, |prefixes| unreach(family, prefixes, out))
        }
    }
}

/// Appends the End-of-RIB marker of this family (RFC 4724 §2).
pub fn end_of_rib(family: Family, out: &mut BytesMut) {
    match family {
        Family::IPv4 => message(Kind::Update, out, |out| out.put_u32(0)),
        Family::IPv6 => unreach(family, &[], out),
    }
}

/// Appends attributes as a table dump holds them: AS numbers of four octets, and of MP_REACH_NLRI the next hop alone
/// (RFC 6396 §4.3.4).
pub(crate) fn table_attributes(attributes: &Attributes, family: Family, out: &mut BytesMut) {
    let context = Context {
        four_octet_as: true,
        internal: true,
        ..Context::default()
    };
    let next_hop = attributes.next_hop;
    let classic = family == Family::IPv4 && next_hop.is_none_or(|hop| hop.address.is_ipv4());
    let to = Outgoing {
        context: &context,
        classic,
    };
    attribute::write(attributes, &to, out);
    if let Some(next_hop) = next_hop.filter(|_| !classic) {
        let mut value = BytesMut::new();
        put_next_hop(next_hop, &mut value);
        put_multiprotocol(MP_REACH_NLRI, &[&value], out);
    }
}

fn unreach(family: Family, prefixes: &[u8], out: &mut BytesMut) {
    let [high, low] = family.afi().to_be_bytes();
    message(Kind::Update, out, |out| {
        out.put_u16(0);
        let start = open_length(out);
        put_multiprotocol(
            MP_UNREACH_NLRI,
            &[&[high, low, family.safi()], prefixes],
            out,
        );
        close_length(out, start);
    });
}

/// What stands before the prefixes in MP_REACH_NLRI.
fn put_reach(family: Family, next_hop: NextHop, out: &mut BytesMut) {
    out.put_u16(family.afi());
    out.put_u8(family.safi());
    put_next_hop(next_hop, out);
    // Reserved, once the number of SNPAs.
    out.put_u8(0);
}

/// A next hop behind its length.
fn put_next_hop(next_hop: NextHop, out: &mut BytesMut) {
    match (next_hop.address, next_hop.link_local) {
        (IpAddr::V4(address), _) => {
            out.put_u8(4);
            out.put_slice(&address.octets());
        }
        (IpAddr::V6(address), None) => {
            out.put_u8(16);
            out.put_slice(&address.octets());
        }
        (IpAddr::V6(address), Some(link_local)) => {
            out.put_u8(32);
            out.put_slice(&address.octets());
            out.put_slice(&link_local.octets());
        }
    }
}

/// Octets of an UPDATE for attributes and prefixes.
const fn room(context: &Context) -> usize {
    let longest = if context.extended_message {
        wire::MAX_EXTENDED_MESSAGE
    } else {
        wire::MAX_MESSAGE
    };
    longest.saturating_sub(wire::HEADER + LENGTHS)
}

/// Hands over the prefixes, encoded, in lots of at most `room` octets; returns how many lots.
fn packed(
    nlri: impl IntoIterator<Item = Nlri>,
    ids: PathIds,
    room: usize,
    mut lot: impl FnMut(&[u8]),
) -> usize {
    let mut lots: usize = 0;
    let mut prefixes = BytesMut::with_capacity(64);
    for nlri in nlri {
        let before = prefixes.len();
        nlri::put(&nlri, ids, &mut prefixes);
        if prefixes.len() > room {
            let next = prefixes.split_off(before);
            lot(&prefixes);
            lots = lots.saturating_add(1);
            prefixes.clear();
            prefixes.extend_from_slice(&next);
        }
    }
    if !prefixes.is_empty() {
        lot(&prefixes);
        lots = lots.saturating_add(1);
    }
    lots
}

/// Appends a message: the header, what `body` writes, and the length of both.
pub(in crate::wire) fn message(kind: Kind, out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&[0xff; 16]);
    out.put_u16(0);
    out.put_u8(kind as u8);
    body(out);
    let length = out.len().saturating_sub(start);
    put_length(out, start.saturating_add(16), length);
}

/// Leaves two octets for a length; returns where.
fn open_length(out: &mut BytesMut) -> usize {
    out.put_u16(0);
    out.len().saturating_sub(2)
}

/// Fills in the length of what was written since.
fn close_length(out: &mut BytesMut, start: usize) {
    let length = out.len().saturating_sub(start.saturating_add(2));
    put_length(out, start, length);
}

fn put_length(out: &mut BytesMut, at: usize, length: usize) {
    // Callers keep messages within the room there is, which is far below what two octets can say.
    let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(at..at.saturating_add(2)) {
        place.copy_from_slice(&length);
    }
}

impl Update {
    /// Appends it as messages, one for each list and family; an Update that says nothing becomes none. Returns how many.
    pub(in crate::wire) fn write(
        &self,
        context: &Context,
        out: &mut BytesMut,
    ) -> Result<usize, Unsendable> {
        let mut messages: usize = 0;
        for family in Family::ALL {
            let of_family = |nlri: &&Nlri| nlri.prefix.family() == family;
            let withdrawn = self.withdrawn.iter().filter(of_family).copied();
            messages = messages.saturating_add(withdraw(family, withdrawn, context, out));
            for announced in &self.announced {
                let nlri = announced.nlri.iter().filter(of_family).copied().peekable();
                let mut nlri = nlri;
                if nlri.peek().is_some() {
                    let more = announce(&announced.attributes, family, nlri, context, out)?;
                    messages = messages.saturating_add(more);
                }
            }
        }
        if let Some(family) = self.end_of_rib {
            end_of_rib(family, out);
            messages = messages.saturating_add(1);
        }
        Ok(messages)
    }
}
