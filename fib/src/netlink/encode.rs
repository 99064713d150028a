//! Route requests: one template for each target, into which prefix and sequence number are written.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use hashbrown::HashMap;
use ipnetwork::IpNetwork;
use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    },
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{
            RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop,
            RouteNextHopFlags, RouteProtocol, RouteScope, RouteType, RouteVia,
        },
    },
};

use crate::{
    kernel::{Key, Op},
    plan::Step,
    route::Mark,
    target::{Hop, Target},
};

/// Offsets in a request whose first attribute is RTA_DST.
pub(super) const FLAGS: usize = 6;
const SEQUENCE: usize = 8;
const DST_LENGTH: usize = 17;
const DESTINATION: usize = 32;

/// Writes requests under one mark.
pub(super) struct Encoder {
    mark: Mark,
    /// By address of the target (kept alive by the operations), family and metric.
    templates: HashMap<(usize, bool, u32), Vec<u8>>,
}

impl Encoder {
    pub(super) fn new(mark: Mark) -> Self {
        Self {
            mark,
            templates: HashMap::new(),
        }
    }

    /// Appends the request for one operation.
    pub(super) fn append(&mut self, buffer: &mut Vec<u8>, op: &Op, sequence: u32) {
        let Key { layer, prefix } = op.key;
        let metric = layer.metric(self.mark);
        let (target, flags) = match &op.step {
            Step::Create(target) => (Some(target), NLM_F_CREATE | NLM_F_EXCL),
            // Creates too: the route may have vanished with its link a moment ago.
            Step::Replace(target) => (Some(target), NLM_F_CREATE | NLM_F_REPLACE),
            Step::Remove => (None, 0),
        };
        let identity = target.map_or(0, |target| Arc::as_ptr(target) as usize);
        let mark = self.mark;
        let template = self
            .templates
            .entry((identity, prefix.is_ipv4(), metric))
            .or_insert_with(|| template(mark, metric, prefix, target.map(Arc::as_ref)));
        let start = buffer.len();
        buffer.extend_from_slice(template);
        let Some(message) = buffer.get_mut(start..) else {
            return;
        };
        patch(message, FLAGS, &(NLM_F_REQUEST | flags).to_ne_bytes());
        patch(message, SEQUENCE, &sequence.to_ne_bytes());
        patch(message, DST_LENGTH, &[prefix.prefix()]);
        match prefix {
            IpNetwork::V4(prefix) => patch(message, DESTINATION, &prefix.ip().octets()),
            IpNetwork::V6(prefix) => patch(message, DESTINATION, &prefix.ip().octets()),
        }
    }
}

/// Asks for an acknowledgement of the request that starts at `start`.
pub(super) fn acknowledge(buffer: &mut [u8], start: usize) {
    let Some(message) = buffer.get_mut(start..) else {
        return;
    };
    let flags = message
        .get(FLAGS..FLAGS + 2)
        .and_then(|octets| octets.try_into().ok());
    if let Some(flags) = flags.map(u16::from_ne_bytes) {
        patch(message, FLAGS, &(flags | NLM_F_ACK).to_ne_bytes());
    }
}

pub(super) fn patch(message: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = message.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// A request with the destination left zero; without a target one that removes.
fn template(mark: Mark, metric: u32, prefix: IpNetwork, target: Option<&Target>) -> Vec<u8> {
    let mut route = RouteMessage::default();
    route.header = RouteHeader {
        protocol: RouteProtocol::from(mark.protocol),
        table: u8::try_from(mark.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        kind: RouteType::Unicast,
        scope: RouteScope::Universe,
        ..RouteHeader::default()
    };
    // First, where its offset is known.
    if prefix.is_ipv4() {
        route.header.address_family = AddressFamily::Inet;
        route
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::Inet(
                Ipv4Addr::UNSPECIFIED,
            )));
    } else {
        route.header.address_family = AddressFamily::Inet6;
        route
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::Inet6(
                Ipv6Addr::UNSPECIFIED,
            )));
    }
    route.attributes.push(RouteAttribute::Priority(metric));
    if u8::try_from(mark.table).is_err() {
        route.attributes.push(RouteAttribute::Table(mark.table));
    }
    let request = match target {
        None => {
            // Whatever it does and wherever to, as long as protocol, table and metric are ours.
            route.header.kind = RouteType::Unspec;
            route.header.scope = RouteScope::NoWhere;
            RouteNetlinkMessage::DelRoute(route)
        }
        Some(target) => {
            aim(&mut route, target, prefix.is_ipv4());
            RouteNetlinkMessage::NewRoute(route)
        }
    };
    serialize(request)
}

fn aim(route: &mut RouteMessage, target: &Target, ipv4: bool) {
    match target {
        // Unknown is never written; a blackhole is the harmless reading of it.
        Target::Unknown | Target::Blackhole => route.header.kind = RouteType::BlackHole,
        Target::Object(id) => route.attributes.push(RouteAttribute::NhId(*id)),
        Target::Hops(hops) => match hops.as_slice() {
            [hop] => {
                route
                    .attributes
                    .extend(hop.gateway.map(|gateway| via(gateway, ipv4)));
                route.attributes.push(RouteAttribute::Oif(hop.interface));
                if hop.onlink {
                    route.header.flags = RouteFlags::Onlink;
                }
            }
            hops => {
                let hops = hops.iter().map(|hop| next_hop(hop, ipv4)).collect();
                route.attributes.push(RouteAttribute::MultiPath(hops));
            }
        },
    }
}

fn next_hop(hop: &Hop, ipv4: bool) -> RouteNextHop {
    let mut next_hop = RouteNextHop::default();
    next_hop.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    next_hop.interface_index = hop.interface;
    next_hop
        .attributes
        .extend(hop.gateway.map(|gateway| via(gateway, ipv4)));
    if hop.onlink {
        next_hop.flags = RouteNextHopFlags::Onlink;
    }
    next_hop
}

/// RTA_GATEWAY, or RTA_VIA for an IPv6 gateway of an IPv4 route (RFC 8950).
fn via(gateway: IpAddr, ipv4: bool) -> RouteAttribute {
    match gateway {
        IpAddr::V4(gateway) => RouteAttribute::Gateway(RouteAddress::Inet(gateway)),
        IpAddr::V6(gateway) if ipv4 => RouteAttribute::Via(RouteVia::Inet6(gateway)),
        IpAddr::V6(gateway) => RouteAttribute::Gateway(RouteAddress::Inet6(gateway)),
    }
}

/// A message with its header, ready to send but for flags and sequence number.
pub(super) fn serialize(message: RouteNetlinkMessage) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    buffer
}

/// A request for everything of one kind (or, with `flags`, for something else).
pub(super) fn request(message: RouteNetlinkMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut buffer = serialize(message);
    patch(&mut buffer, FLAGS, &(NLM_F_REQUEST | flags).to_ne_bytes());
    patch(&mut buffer, SEQUENCE, &sequence.to_ne_bytes());
    buffer
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::{kernel::Layer, netlink::decode};

    fn written(prefix: &str, target: Target, mark: Mark) -> decode::Decoded {
        let key = Key {
            layer: Layer::Learned,
            prefix: prefix.parse().unwrap(),
        };
        let op = Op {
            key,
            step: Step::Create(Arc::new(target)),
        };
        let mut buffer = Vec::new();
        Encoder::new(mark).append(&mut buffer, &op, 42);
        let frame = crate::netlink::frame::frames(&buffer).next().unwrap();
        assert_eq!(frame.sequence, 42);
        assert_eq!(frame.whole.len(), buffer.len());
        decode::message(&frame).unwrap()
    }

    #[test]
    fn what_is_written_reads_back_as_the_same_route() {
        let v4 = Hop {
            gateway: Some("10.0.0.2".parse().unwrap()),
            interface: 3,
            weight: 1,
            onlink: false,
        };
        let v6 = Hop {
            gateway: Some("fe80::2".parse().unwrap()),
            interface: 4,
            weight: 1,
            onlink: true,
        };
        let targets = [
            ("10.244.2.0/24", Target::Hops(smallvec![v4])),
            ("10.244.2.0/24", Target::Hops(smallvec![v6])),
            ("10.244.2.0/24", Target::Blackhole),
            ("10.244.2.0/24", Target::Object(1_790_000_001)),
            ("fd00:10:244:2::/64", Target::Object(1_790_000_001)),
            (
                "10.244.2.7/32",
                Target::through(smallvec![Hop { weight: 3, ..v4 }, v6]),
            ),
            ("fd00:10:244:2::/64", Target::Hops(smallvec![v6])),
            (
                "::/0",
                Target::through(smallvec![v6, Hop { interface: 5, ..v6 }]),
            ),
        ];
        for mark in [
            Mark::default(),
            Mark {
                protocol: 200,
                table: 100_000,
                metric: 7,
            },
        ] {
            for (prefix, target) in &targets {
                let decode::Decoded::Route(route) = written(prefix, target.clone(), mark) else {
                    panic!("not a route")
                };
                assert_eq!(route.prefix.to_string(), *prefix);
                let read = &route.route;
                assert_eq!(
                    (read.protocol, read.table, read.metric),
                    (mark.protocol, mark.table, mark.metric)
                );
                assert_eq!(read.target(), *target);
            }
        }
    }
}
