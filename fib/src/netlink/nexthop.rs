//! Next-hop objects on the wire (RTM_*NEXTHOP), which the netlink crates do not know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST};
use smallvec::SmallVec;

use crate::{
    kernel::{FoundObject, ObjectEvent, ObjectOp},
    netlink::frame::{Frame, HEADER, attributes, finish, push_attribute, start},
    objects::{IDS, Object, ObjectId, Shares, Way},
    plan::Step,
    resolve::Family,
};

pub(super) const NEW: u16 = 104;
pub(super) const DELETE: u16 = 105;
const GET: u16 = 106;

/// `struct nhmsg`: family, scope, protocol, reserved, flags.
const NHMSG: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GROUP_TYPE: u16 = 3;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;
const NHA_RES_GROUP: u16 = 12;
/// `struct nexthop_grp`: number, weight less one, the weight's high octet (newer kernels), reserved.
const SHARE: usize = 8;
const RTNH_F_ONLINK: u32 = 4;

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Appends the request for one operation.
pub(super) fn append(buffer: &mut Vec<u8>, protocol: u8, op: &ObjectOp, sequence: u32) {
    let (kind, flags, object) = match &op.step {
        Step::Create(object) => (NEW, NLM_F_CREATE | NLM_F_EXCL, Some(object)),
        // Creates too: it may have vanished with its link a moment ago.
        Step::Replace(object) => (NEW, NLM_F_CREATE | NLM_F_REPLACE, Some(object)),
        Step::Remove => (DELETE, 0, None),
    };
    let at = start(buffer, kind, NLM_F_REQUEST | flags, sequence);
    let (family, flags) = match object {
        Some(Object::Member(way)) => (
            if way.family == Family::V4 {
                AF_INET
            } else {
                AF_INET6
            },
            if way.onlink { RTNH_F_ONLINK } else { 0 },
        ),
        _ => (AF_UNSPEC, 0),
    };
    // The kernel wants no protocol where it removes.
    let protocol = object.map_or(0, |_| protocol);
    buffer.extend([family, 0, protocol, 0]);
    buffer.extend(flags.to_ne_bytes());
    push_attribute(buffer, NHA_ID, &op.id.to_ne_bytes());
    match object {
        Some(Object::Member(way)) => {
            push_attribute(buffer, NHA_OIF, &way.interface.to_ne_bytes());
            match way.gateway {
                Some(IpAddr::V4(gateway)) => push_attribute(buffer, NHA_GATEWAY, &gateway.octets()),
                Some(IpAddr::V6(gateway)) => push_attribute(buffer, NHA_GATEWAY, &gateway.octets()),
                None => {}
            }
        }
        Some(Object::Group(shares)) => {
            let mut octets = Vec::with_capacity(shares.len() * SHARE);
            for (id, weight) in shares {
                octets.extend(id.to_ne_bytes());
                octets.extend([weight.saturating_sub(1), 0, 0, 0]);
            }
            push_attribute(buffer, NHA_GROUP, &octets);
        }
        // Unknown is never written.
        Some(Object::Unknown) | None => {}
    }
    finish(buffer, at);
}

/// Asks for all of them.
pub(super) fn ask_for_all(sequence: u32) -> Vec<u8> {
    let mut buffer = Vec::new();
    let at = start(&mut buffer, GET, NLM_F_REQUEST | NLM_F_DUMP, sequence);
    buffer.extend([0; NHMSG]);
    finish(&mut buffer, at);
    buffer
}

/// One object, if its number is in our range.
pub(super) fn decode(frame: &Frame<'_>) -> Option<ObjectEvent> {
    let header = frame.payload().get(..NHMSG)?;
    let family = *header.first()?;
    let protocol = *header.get(2)?;
    let flags = u32::from_ne_bytes(header.get(4..8)?.try_into().ok()?);
    let mut id = None;
    let (mut shares, mut interface, mut gateway) = (None, None, None);
    let mut special = false;
    for (kind, value) in attributes(frame.whole.get(HEADER + NHMSG..)?) {
        match kind {
            NHA_ID => id = number(value),
            NHA_GROUP => shares = group(value),
            NHA_OIF => interface = number(value),
            NHA_GATEWAY => gateway = address(value),
            NHA_GROUP_TYPE => special |= value != [0, 0],
            NHA_BLACKHOLE | NHA_ENCAP | NHA_ENCAP_TYPE | NHA_FDB | NHA_RES_GROUP => special = true,
            _ => {}
        }
    }
    let id: ObjectId = id.filter(|id| IDS.contains(id))?;
    let by = frame.port;
    if frame.kind == DELETE {
        return Some(ObjectEvent {
            id,
            found: None,
            by,
        });
    }
    let object = match (shares, interface) {
        _ if special => Object::Unknown,
        (Some(shares), _) => Object::Group(shares),
        (None, Some(interface)) => Object::Member(Way {
            family: if family == AF_INET {
                Family::V4
            } else {
                Family::V6
            },
            gateway,
            interface,
            onlink: flags & RTNH_F_ONLINK != 0,
        }),
        (None, None) => Object::Unknown,
    };
    Some(ObjectEvent {
        id,
        found: Some(FoundObject {
            id,
            protocol,
            object,
        }),
        by,
    })
}

fn group(value: &[u8]) -> Option<Shares> {
    let share = |share: &[u8]| {
        // Ours are never heavier than 255.
        let weight = share.get(4)?.saturating_add(1);
        Some((number(share.get(..4)?)?, weight))
    };
    let shares: Option<SmallVec<_>> = value.chunks_exact(SHARE).map(share).collect();
    shares.map(|mut shares| {
        shares.sort_unstable();
        shares
    })
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}

fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(octets).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into())
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::netlink::frame::frames;

    #[test]
    fn what_is_written_reads_back_as_the_same_object() {
        let way = |family, gateway: Option<&str>, onlink| {
            Object::Member(Way {
                family,
                gateway: gateway.map(|address| address.parse().unwrap()),
                interface: 7,
                onlink,
            })
        };
        let objects = [
            way(Family::V4, Some("10.0.0.2"), false),
            way(Family::V4, None, false),
            way(Family::V6, Some("fe80::2"), true),
            way(Family::V6, None, false),
            Object::Group(smallvec![(1_790_000_001, 1)]),
            Object::Group(smallvec![(1_790_000_001, 255), (1_790_000_002, 3)]),
        ];
        for object in objects {
            let op = ObjectOp {
                id: 1_790_000_009,
                step: Step::Create(object.clone()),
            };
            let mut buffer = Vec::new();
            append(&mut buffer, 179, &op, 42);
            let frame = frames(&buffer).next().unwrap();
            assert_eq!((frame.kind, frame.sequence), (NEW, 42));
            assert_eq!(frame.whole.len(), buffer.len());
            let found = decode(&frame).unwrap().found.unwrap();
            assert_eq!(
                (found.id, found.protocol, found.object),
                (op.id, 179, object)
            );
        }
    }

    #[test]
    fn what_is_removed_is_named_by_its_number_and_nothing_else() {
        let op = ObjectOp {
            id: 1_790_000_009,
            step: Step::Remove,
        };
        let mut buffer = Vec::new();
        append(&mut buffer, 179, &op, 42);
        let frame = frames(&buffer).next().unwrap();
        assert_eq!(frame.kind, DELETE);
        assert_eq!(frame.payload().get(..NHMSG), Some([0; NHMSG].as_slice()));
        let event = decode(&frame).unwrap();
        assert_eq!((event.id, event.found), (op.id, None));
    }

    #[test]
    fn an_object_outside_our_range_is_nobody_we_know() {
        let op = ObjectOp {
            id: 4,
            step: Step::Create(Object::Group(smallvec![(1, 1)])),
        };
        let mut buffer = Vec::new();
        append(&mut buffer, 179, &op, 42);
        assert!(decode(&frames(&buffer).next().unwrap()).is_none());
    }
}
