//! Messages of the kernel as our own types; what can't be read or does not matter is left out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use rtnetlink::{
    packet_core::{NLM_F_REPLACE, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{LinkAttribute, LinkFlags, LinkMessage},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
        route::{
            RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop,
            RouteNextHopFlags, RouteType, RouteVia,
        },
    },
};
use smallvec::{SmallVec, smallvec};
use tracing::debug;

use crate::{
    guard::network,
    kernel::{KernelEvent, ObjectEvent, RouteEvent, RouteEventKind},
    netlink::{frame::Frame, nexthop},
    network::{Address, Failure, Foreign, Link, Verdict},
    target::Hop,
};

/// A message that matters.
#[derive(Debug)]
pub(super) enum Decoded {
    Link {
        link: Link,
        gone: bool,
    },
    Address {
        address: Address,
        gone: bool,
    },
    Route(RouteEvent),
    Object(ObjectEvent),
    Neighbour {
        interface: u32,
        address: IpAddr,
        failure: Failure,
    },
}

impl From<Decoded> for KernelEvent {
    fn from(decoded: Decoded) -> Self {
        match decoded {
            Decoded::Link { link, gone: false } => Self::LinkChanged(link),
            Decoded::Link { link, gone: true } => Self::LinkGone(link.index),
            Decoded::Address {
                address,
                gone: false,
            } => Self::AddressAdded(address),
            Decoded::Address {
                address,
                gone: true,
            } => Self::AddressGone(address),
            Decoded::Route(event) => Self::Route(event),
            Decoded::Object(event) => Self::Object(event),
            Decoded::Neighbour {
                interface,
                address,
                failure,
            } => Self::Neighbour {
                interface,
                address,
                failure,
            },
        }
    }
}

/// One message, if it matters.
pub(super) fn message(frame: &Frame<'_>) -> Option<Decoded> {
    if let nexthop::NEW | nexthop::DELETE = frame.kind {
        return nexthop::decode(frame).map(Decoded::Object);
    }
    let message = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(frame.whole) {
        Ok(message) => message,
        Err(reason) => {
            debug!(
                kind = frame.kind,
                ?reason,
                "a message of the kernel that we can't read"
            );
            return None;
        }
    };
    let NetlinkPayload::InnerMessage(inner) = message.payload else {
        return None;
    };
    match inner {
        RouteNetlinkMessage::NewLink(link) => decode_link(&link, false),
        RouteNetlinkMessage::DelLink(link) => decode_link(&link, true),
        RouteNetlinkMessage::NewAddress(address) => decode_address(&address, false),
        RouteNetlinkMessage::DelAddress(address) => decode_address(&address, true),
        RouteNetlinkMessage::NewRoute(route) => {
            let replaced = frame.flags & NLM_F_REPLACE != 0;
            let kind = if replaced {
                RouteEventKind::Replaced
            } else {
                RouteEventKind::Added
            };
            decode_route(&route, kind, frame.port)
        }
        RouteNetlinkMessage::DelRoute(route) => {
            decode_route(&route, RouteEventKind::Gone, frame.port)
        }
        RouteNetlinkMessage::NewNeighbour(neighbour) => decode_neighbour(&neighbour, false),
        RouteNetlinkMessage::DelNeighbour(neighbour) => decode_neighbour(&neighbour, true),
        _ => None,
    }
}

fn decode_link(message: &LinkMessage, gone: bool) -> Option<Decoded> {
    // A bridge tells of its ports in the same words: leaving the bridge is not leaving the node.
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let name = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
    let flags = message.header.flags;
    let link = Link {
        index: message.header.index,
        name: name.unwrap_or_default(),
        admin_up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::Running),
    };
    Some(Decoded::Link { link, gone })
}

fn decode_address(message: &AddressMessage, gone: bool) -> Option<Decoded> {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    // IFA_ADDRESS is the far end where IFA_LOCAL differs from it.
    let own = local.or(address)?;
    let address = Address {
        interface: message.header.index,
        address: own,
        length: message.header.prefix_len,
        peer: address.unwrap_or(own),
    };
    Some(Decoded::Address { address, gone })
}

/// A route, if it is in a table that forwards.
pub(super) fn decode_route(
    message: &RouteMessage,
    kind: RouteEventKind,
    by: u32,
) -> Option<Decoded> {
    const LOCAL: u32 = 255;
    let header = &message.header;
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    if header.flags.contains(RouteFlags::Cloned) || header.source_prefix_length != 0 {
        return None;
    }
    let (mut table, mut metric, mut destination) = (u32::from(header.table), 0, unspecified);
    let mut object = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::NhId(id) => object = Some(*id),
            _ => {}
        }
    }
    if table == LOCAL {
        return None;
    }
    let route = Foreign {
        protocol: header.protocol.into(),
        table,
        metric,
        tos: header.tos,
        object,
        verdict: verdict(message),
    };
    let prefix: IpNetwork = network(destination, header.destination_prefix_length);
    Some(Decoded::Route(RouteEvent {
        prefix,
        route,
        kind,
        by,
    }))
}

fn verdict(message: &RouteMessage) -> Verdict {
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::BlackHole => return Verdict::Drop("blackhole"),
        RouteType::Unreachable => return Verdict::Drop("unreachable"),
        RouteType::Prohibit => return Verdict::Drop("prohibit"),
        RouteType::Local => return Verdict::Other("local"),
        RouteType::Throw => return Verdict::Other("throw"),
        RouteType::Nat => return Verdict::Other("nat"),
        _ => return Verdict::Other("special"),
    }
    let (mut gateway, mut interface) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::MultiPath(hops) => {
                return Verdict::Forward(hops.iter().map(multipath_hop).collect());
            }
            RouteAttribute::Encap(_) | RouteAttribute::EncapType(_) => {
                return Verdict::Other("encapsulating");
            }
            RouteAttribute::Oif(index) => interface = Some(*index),
            other => gateway = gateway.or(via(other)),
        }
    }
    match interface {
        Some(interface) => {
            let onlink = message.header.flags.contains(RouteFlags::Onlink);
            Verdict::Forward(smallvec![Hop {
                gateway,
                interface,
                weight: 1,
                onlink
            }])
        }
        None => Verdict::Other("without an interface"),
    }
}

fn multipath_hop(hop: &RouteNextHop) -> Hop {
    Hop {
        gateway: hop.attributes.iter().find_map(via),
        interface: hop.interface_index,
        weight: u16::from(hop.hops) + 1,
        onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
    }
}

fn via(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn decode_neighbour(message: &NeighbourMessage, gone: bool) -> Option<Decoded> {
    let address: SmallVec<[IpAddr; 1]> = message
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                Some((*address).into())
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                Some((*address).into())
            }
            _ => None,
        })
        .collect();
    let failure = match message.header.state {
        NeighbourState::Failed if !gone => Failure::Failed,
        // Being asked anew says nothing yet.
        NeighbourState::Incomplete | NeighbourState::Probe if !gone => return None,
        _ => Failure::Answers,
    };
    Some(Decoded::Neighbour {
        interface: message.header.ifindex,
        address: *address.first()?,
        failure,
    })
}
