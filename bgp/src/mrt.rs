//! MRT (RFC 6396, RFC 8050): routes and messages as records in a file. Here are the records, from values to octets;
//! `record` gathers what peers say, `file` and `writer` put it on disk, and `rib::dump` goes through the table.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{BufMut, BytesMut};

use crate::{
    prefix::{Family, Prefix},
    status::SessionState,
    wire::{Attributes, Context, PathId, update::table_attributes},
};

mod file;
pub(crate) mod record;
pub(crate) mod writer;

#[cfg(test)]
mod tests;

/// Octets of the common header (RFC 6396 §2).
pub(crate) const HEADER: usize = 12;

/// TABLE_DUMP_V2.
const TABLE_DUMP_V2: u16 = 13;
/// BGP4MP_ET: with microseconds (RFC 6396 §3).
const BGP4MP_ET: u16 = 17;

/// One peer of a table dump (RFC 6396 §4.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedPeer {
    /// Its BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Its address.
    pub address: IpAddr,
    /// Its AS number.
    pub asn: u32,
}

/// One route of a table dump (RFC 6396 §4.3.4).
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Which of the peers in the index it is from.
    pub peer: u16,
    /// Since when it stands.
    pub since: SystemTime,
    /// Its path identifier, where its peer gives it one (RFC 8050 §4.1).
    pub path_id: PathId,
    /// Its attributes.
    pub attributes: &'a Attributes,
}

/// Whether the routes of a record have path identifiers (RFC 8050).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathIds {
    /// They have.
    With,
    /// They have none.
    Without,
}

/// The two ends of a session (RFC 6396 §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The peer's AS number.
    pub peer_asn: u32,
    /// Ours.
    pub local_asn: u32,
    /// The peer's address.
    pub peer: IpAddr,
    /// Ours; `None`: there is no connection.
    pub local: Option<IpAddr>,
}

/// Appends the index of peers that the entries after it count by.
pub fn peer_index_table(
    collector: Ipv4Addr,
    view: &str,
    peers: &[IndexedPeer],
    at: SystemTime,
    out: &mut BytesMut,
) {
    const SUBTYPE: u16 = 1;
    const FOUR_OCTET_AS: u8 = 2;
    const IPV6: u8 = 1;
    record(TABLE_DUMP_V2, SUBTYPE, at, out, |out| {
        out.put_slice(&collector.octets());
        let length = u16::try_from(view.len()).unwrap_or(0);
        out.put_u16(length);
        out.put_slice(view.as_bytes().get(..length.into()).unwrap_or_default());
        out.put_u16(u16::try_from(peers.len()).unwrap_or(u16::MAX));
        for peer in peers {
            out.put_u8(match peer.address {
                IpAddr::V4(_) => FOUR_OCTET_AS,
                IpAddr::V6(_) => FOUR_OCTET_AS | IPV6,
            });
            out.put_slice(&peer.router_id.octets());
            put_address(peer.address, out);
            out.put_u32(peer.asn);
        }
    });
}

/// Appends the routes to a prefix, as RIB_IPV4_UNICAST, RIB_IPV6_UNICAST, or one of their kin with path identifiers.
pub fn rib(
    sequence: u32,
    prefix: Prefix,
    ids: PathIds,
    entries: &[Entry<'_>],
    at: SystemTime,
    out: &mut BytesMut,
) {
    let family = prefix.family();
    let subtype = match (family, ids) {
        (Family::IPv4, PathIds::Without) => 2,
        (Family::IPv6, PathIds::Without) => 4,
        (Family::IPv4, PathIds::With) => 8,
        (Family::IPv6, PathIds::With) => 10,
    };
    record(TABLE_DUMP_V2, subtype, at, out, |out| {
        out.put_u32(sequence);
        put_prefix(prefix, out);
        out.put_u16(u16::try_from(entries.len()).unwrap_or(u16::MAX));
        for entry in entries {
            out.put_u16(entry.peer);
            out.put_u32(seconds(entry.since));
            if ids == PathIds::With {
                out.put_u32(entry.path_id);
            }
            let start = out.len();
            out.put_u16(0);
            table_attributes(entry.attributes, family, out);
            let length = out.len().saturating_sub(start.saturating_add(2));
            let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
            if let Some(place) = out.get_mut(start..start.saturating_add(2)) {
                place.copy_from_slice(&length);
            }
        }
    });
}

/// Appends an UPDATE, all of it as it came over a session that speaks so; its prefixes are of this family.
pub fn message(
    ends: &Ends,
    context: &Context,
    family: Family,
    message: &[u8],
    at: SystemTime,
    out: &mut BytesMut,
) {
    let subtype = match (context.four_octet_as, context.add_path_receive.has(family)) {
        (false, false) => 1, // BGP4MP_MESSAGE
        (true, false) => 4,  // BGP4MP_MESSAGE_AS4
        (false, true) => 8,  // BGP4MP_MESSAGE_ADDPATH
        (true, true) => 9,   // BGP4MP_MESSAGE_AS4_ADDPATH
    };
    record(BGP4MP_ET, subtype, at, out, |out| {
        put_ends(ends, context.four_octet_as, out);
        out.put_slice(message);
    });
}

/// Appends a change of state, as BGP4MP_STATE_CHANGE_AS4.
pub fn state_change(
    ends: &Ends,
    from: SessionState,
    to: SessionState,
    at: SystemTime,
    out: &mut BytesMut,
) {
    const SUBTYPE: u16 = 5;
    record(BGP4MP_ET, SUBTYPE, at, out, |out| {
        put_ends(ends, true, out);
        out.put_u16(number(from));
        out.put_u16(number(to));
    });
}

/// RFC 6396 §4.4.1.
const fn number(state: SessionState) -> u16 {
    match state {
        SessionState::Idle => 1,
        SessionState::Connect => 2,
        SessionState::Active => 3,
        SessionState::OpenSent => 4,
        SessionState::OpenConfirm => 5,
        SessionState::Established => 6,
    }
}

fn put_ends(ends: &Ends, four_octet_as: bool, out: &mut BytesMut) {
    for asn in [ends.peer_asn, ends.local_asn] {
        if four_octet_as {
            out.put_u32(asn);
        } else {
            out.put_u16(u16::try_from(asn).unwrap_or(crate::wire::AS_TRANS));
        }
    }
    out.put_u16(0); // the interface is not known here
    let family = Family::of(ends.peer);
    out.put_u16(family.afi());
    put_address(ends.peer, out);
    match ends.local {
        Some(local) if Family::of(local) == family => put_address(local, out),
        _ => out.put_bytes(0, usize::from(family.bits() / 8)),
    }
}

/// Appends a record: the common header, what `body` writes, and its length.
fn record(
    kind: u16,
    subtype: u16,
    at: SystemTime,
    out: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut),
) {
    let start = out.len();
    out.put_u32(seconds(at));
    out.put_u16(kind);
    out.put_u16(subtype);
    out.put_u32(0);
    if kind == BGP4MP_ET {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        out.put_u32(since.subsec_micros());
    }
    body(out);
    let length = out.len().saturating_sub(start.saturating_add(HEADER));
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let place = start.saturating_add(8)..start.saturating_add(HEADER);
    if let Some(place) = out.get_mut(place) {
        place.copy_from_slice(&length);
    }
}

fn seconds(time: SystemTime) -> u32 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

fn put_address(address: IpAddr, out: &mut BytesMut) {
    match address {
        IpAddr::V4(address) => out.put_slice(&address.octets()),
        IpAddr::V6(address) => out.put_slice(&address.octets()),
    }
}

fn put_prefix(prefix: Prefix, out: &mut BytesMut) {
    let length = prefix.length();
    let octets = usize::from(length.div_ceil(8));
    out.put_u8(length);
    match prefix.address() {
        IpAddr::V4(address) => out.put_slice(address.octets().get(..octets).unwrap_or_default()),
        IpAddr::V6(address) => out.put_slice(address.octets().get(..octets).unwrap_or_default()),
    }
}
