//! BGP messages by hand: what a source sends is encoded once, what a sink gets is read just far enough to be counted.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::table::{FIRST_ORIGIN, FIRST_SOURCE, Prefix4, Table, prefix6};

/// Message types (RFC 4271 §4.1).
pub const OPEN: u8 = 1;
/// See [`OPEN`].
pub const UPDATE: u8 = 2;
/// See [`OPEN`].
pub const NOTIFICATION: u8 = 3;
/// See [`OPEN`].
pub const KEEPALIVE: u8 = 4;
/// Octets of marker, length and type.
pub const HEADER: usize = 19;
const LONGEST: usize = 4096;

/// Wraps a message's body.
#[must_use]
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(((HEADER + body.len()) as u16).to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// OPEN with both families and four-octet AS numbers (RFC 4760, RFC 6793); hold time 90 s.
#[must_use]
pub fn open(asn: u32, id: Ipv4Addr) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(23_456).to_be_bytes());
    body.extend(90_u16.to_be_bytes());
    body.extend(id.octets());
    body.extend([capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
    body.extend(capabilities);
    message(OPEN, &body)
}

/// Cease/Administrative Shutdown (RFC 4486).
#[must_use]
pub fn cease() -> Vec<u8> {
    message(NOTIFICATION, &[6, 2])
}

fn attribute(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    if value.len() > 255 {
        out.extend([flags | 0x10, code]);
        out.extend((value.len() as u16).to_be_bytes());
    } else {
        out.extend([flags, code, value.len() as u8]);
    }
    out.extend(value);
}

fn as_path(ases: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut value = vec![2, 0];
    for asn in ases {
        value.extend(asn.to_be_bytes());
        value[1] += 1;
    }
    if value[1] == 0 { Vec::new() } else { value }
}

fn nlri(out: &mut Vec<u8>, prefix: Prefix4) {
    out.push(prefix.length);
    out.extend(&prefix.address.to_be_bytes()[..usize::from(prefix.length.div_ceil(8))]);
}

fn update(out: &mut Vec<u8>, attributes: &[u8], nlri: &[u8]) {
    let mut body = vec![0, 0];
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    out.extend(message(UPDATE, &body));
}

/// Who announces.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its number, from 0: its AS is [`FIRST_SOURCE`] and so on.
    pub number: u32,
    /// Its address, the next hop.
    pub address: Ipv4Addr,
    /// Which source has the best route to a set; `None`: there is only one. The others' paths are one AS longer.
    pub winner: fn(usize) -> Option<u32>,
}

/// All UPDATEs of an eBGP source: one a set, more where 4,096 octets do not hold it.
#[must_use]
pub fn announce(table: &Table, source: Source) -> Vec<u8> {
    let mut out = Vec::with_capacity(table.sets.len() * 100 + table.prefixes.len() * 4);
    let own = FIRST_SOURCE + source.number;
    for (number, set) in table.sets.iter().enumerate() {
        let loses = (source.winner)(number).is_some_and(|winner| winner != source.number);
        let mut attributes = Vec::with_capacity(128);
        attribute(&mut attributes, 0x40, 1, &[0]);
        let path = std::iter::repeat_n(own, 1 + usize::from(loses)).chain(set.path.iter().copied());
        attribute(&mut attributes, 0x40, 2, &as_path(path));
        attribute(&mut attributes, 0x40, 3, &source.address.octets());
        if let Some(med) = set.med {
            attribute(&mut attributes, 0x80, 4, &med.to_be_bytes());
        }
        if !set.communities.is_empty() {
            let value: Vec<u8> = set
                .communities
                .iter()
                .flat_map(|c| c.to_be_bytes())
                .collect();
            attribute(&mut attributes, 0xc0, 8, &value);
        }
        if !set.large.is_empty() {
            let value: Vec<u8> = set
                .large
                .iter()
                .flatten()
                .flat_map(|c| c.to_be_bytes())
                .collect();
            attribute(&mut attributes, 0xc0, 32, &value);
        }
        let mut prefixes = Vec::with_capacity(64);
        for &prefix in &table.prefixes[set.prefixes.clone()] {
            if HEADER + 4 + attributes.len() + prefixes.len() + 4 > LONGEST {
                update(&mut out, &attributes, &prefixes);
                prefixes.clear();
            }
            nlri(&mut prefixes, prefix);
        }
        update(&mut out, &attributes, &prefixes);
    }
    out
}

/// Withdraws the whole IPv4 table in as few UPDATEs as possible.
#[must_use]
pub fn withdraw(table: &Table) -> Vec<u8> {
    let mut out = Vec::with_capacity(table.prefixes.len() * 5);
    let mut flush = |withdrawn: &mut Vec<u8>| {
        let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
        body.extend(withdrawn.iter());
        body.extend([0, 0]);
        out.extend(message(UPDATE, &body));
        withdrawn.clear();
    };
    let mut withdrawn = Vec::with_capacity(LONGEST);
    for &prefix in &table.prefixes {
        if HEADER + 4 + withdrawn.len() + 4 > LONGEST {
            flush(&mut withdrawn);
        }
        nlri(&mut withdrawn, prefix);
    }
    if !withdrawn.is_empty() {
        flush(&mut withdrawn);
    }
    out
}

/// What one node of a cluster (iBGP) announces: its pod CIDRs, one of each family.
#[must_use]
pub fn announce_pods(table: &Table, node: u32, address: Ipv4Addr, families: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut attributes = Vec::new();
    attribute(&mut attributes, 0x40, 1, &[0]);
    attribute(&mut attributes, 0x40, 2, &[]);
    attribute(&mut attributes, 0x40, 3, &address.octets());
    attribute(&mut attributes, 0x40, 5, &100_u32.to_be_bytes());
    let mut prefix = Vec::new();
    nlri(&mut prefix, table.prefixes[node as usize]);
    update(&mut out, &attributes, &prefix);
    if families > 1 {
        let mut reach = vec![0, 2, 1, 16];
        reach.extend(mapped(address).octets());
        reach.extend([0, 64]);
        reach.extend(&prefix6(node).octets()[..8]);
        let mut attributes = Vec::new();
        attribute(&mut attributes, 0x80, 14, &reach);
        attribute(&mut attributes, 0x40, 1, &[0]);
        attribute(&mut attributes, 0x40, 2, &[]);
        attribute(&mut attributes, 0x40, 5, &100_u32.to_be_bytes());
        update(&mut out, &attributes, &[]);
    }
    out
}

/// The IPv6 address on the arena's link that goes with an IPv4 one: `fd00:10::a.b.c.d`.
#[must_use]
pub fn mapped(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets();
    Ipv6Addr::from([0xfd, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d])
}

/// What one UPDATE said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// Withdrawn IPv4 prefixes.
    pub withdrawn: &'a [u8],
    /// Announced IPv4 prefixes.
    pub announced: &'a [u8],
    /// Withdrawn IPv6 prefixes (MP_UNREACH_NLRI).
    pub withdrawn6: &'a [u8],
    /// Announced IPv6 prefixes (MP_REACH_NLRI).
    pub announced6: &'a [u8],
    /// The set, by the last AS of the path.
    pub set: Option<u32>,
    /// The source, by its AS.
    pub source: Option<u32>,
}

/// Reads the body of an UPDATE.
///
/// # Panics
/// Where a length in it lies.
#[must_use]
pub fn read_update(body: &[u8]) -> Said<'_> {
    let mut said = Said::default();
    let (withdrawn, rest) = body[2..].split_at(be16(body));
    let (mut attributes, announced) = rest[2..].split_at(be16(rest));
    (said.withdrawn, said.announced) = (withdrawn, announced);
    while !attributes.is_empty() {
        let (flags, code) = (attributes[0], attributes[1]);
        let (length, start) = if flags & 0x10 == 0 {
            (usize::from(attributes[2]), 3)
        } else {
            (be16(&attributes[2..]), 4)
        };
        let (value, rest) = attributes[start..].split_at(length);
        match code {
            2 => (said.set, said.source) = read_path(value),
            14 if value[..3] == [0, 2, 1] => {
                said.announced6 = &value[4 + usize::from(value[3]) + 1..]
            }
            15 if value[..3] == [0, 2, 1] => said.withdrawn6 = &value[3..],
            14 if value[..3] == [0, 1, 1] => {
                said.announced = &value[4 + usize::from(value[3]) + 1..]
            }
            15 if value[..3] == [0, 1, 1] => said.withdrawn = &value[3..],
            _ => {}
        }
        attributes = rest;
    }
    said
}

fn read_path(value: &[u8]) -> (Option<u32>, Option<u32>) {
    let mut source = None;
    let mut last = 0;
    for asn in value.get(2..).unwrap_or_default().chunks_exact(4) {
        last = u32::from_be_bytes([asn[0], asn[1], asn[2], asn[3]]);
        if source.is_none() {
            source = last
                .checked_sub(FIRST_SOURCE)
                .filter(|&number| number < 250);
        }
    }
    (last.checked_sub(FIRST_ORIGIN), source)
}

fn be16(octets: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([octets[0], octets[1]]))
}

/// Calls `each` with every IPv4 prefix of a list.
pub fn each4(mut list: &[u8], mut each: impl FnMut(Prefix4)) {
    while let Some((&length, rest)) = list.split_first() {
        let octets = usize::from(length.div_ceil(8));
        let mut address = [0; 4];
        address[..octets].copy_from_slice(&rest[..octets]);
        each(Prefix4 {
            address: u32::from_be_bytes(address),
            length,
        });
        list = &rest[octets..];
    }
}

/// Calls `each` with the number (see [`prefix6`]) of every IPv6 prefix of a list; `None` if it is none of ours.
pub fn each6(mut list: &[u8], mut each: impl FnMut(Option<u32>)) {
    while let Some((&length, rest)) = list.split_first() {
        let (prefix, rest) = rest.split_at(usize::from(length.div_ceil(8)));
        each(match prefix {
            &[0x20, 0x01, 0x0d, 0xb8, a, b, c, d] if length == 64 => {
                Some(u32::from_be_bytes([a, b, c, d]))
            }
            _ => None,
        });
        list = rest;
    }
}
