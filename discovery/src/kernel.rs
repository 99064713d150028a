//! The kernel's links, link-local addresses and neighbours, over rtnetlink.

use std::{
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
};

use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage},
        link::{LinkAttribute, LinkFlags, LinkMessage},
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
        },
    },
};
use tokio::task::AbortHandle;

use crate::links::{Interface, Neighbour, Reading};

/// The kernel of the network namespace it was opened in. Dropping it closes the socket.
pub(crate) struct Kernel {
    handle: Handle,
    news: Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send + Sync>>,
    connection: AbortHandle,
}

/// The kernel does not tell any more: it has to be opened anew.
#[derive(Debug)]
pub(crate) struct Ended;

impl Kernel {
    /// Opens it. What it tells begins here.
    pub(crate) fn open() -> std::io::Result<Self> {
        let (connection, handle, news) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Neigh,
        ])?;
        Ok(Self {
            handle,
            news: Box::pin(news.map(|(message, _)| message)),
            connection: tokio::spawn(connection).abort_handle(),
        })
    }

    /// All that is.
    pub(crate) async fn read(&self) -> Result<Reading, rtnetlink::Error> {
        // One after the other: a socket is told of one table at a time (EBUSY).
        let links = self.handle.link().get().execute();
        let interfaces = all(links, |link| interface(&link)).await?;
        let addresses = self.handle.address().get().execute();
        let addresses = all(addresses, |address| own(&address)).await?;
        let neighbours = self.handle.neighbours().get();
        let neighbours = neighbours.set_address_family(AddressFamily::Inet6);
        Ok(Reading {
            interfaces,
            addresses,
            neighbours: all(neighbours.execute(), |entry| neighbour(&entry)).await?,
        })
    }

    /// Returns when something has changed that a reading shows.
    pub(crate) async fn changed(&mut self) -> Result<(), Ended> {
        loop {
            let message = self.news.next().await.ok_or(Ended)?;
            if let NetlinkPayload::InnerMessage(inner) = message.payload
                && matters(&inner)
            {
                break;
            }
        }
        // What has come by now is in the reading that follows.
        while let Some(Some(_)) = self.news.next().now_or_never() {}
        Ok(())
    }

    /// Has the kernel ask whether a router is still there; what comes of it is a change.
    pub(crate) async fn probe(
        &self,
        interface: u32,
        router: Ipv6Addr,
    ) -> Result<(), rtnetlink::Error> {
        self.handle
            .neighbours()
            .add(interface, router.into())
            .state(NeighbourState::Probe)
            .flags(NeighbourFlags::Router)
            .replace()
            .execute()
            .await
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

async fn all<M, T>(
    messages: impl Stream<Item = Result<M, rtnetlink::Error>>,
    read: impl Fn(M) -> Option<T>,
) -> Result<Vec<T>, rtnetlink::Error> {
    messages
        .try_filter_map(async |message| Ok(read(message)))
        .try_collect()
        .await
}

fn interface(message: &LinkMessage) -> Option<Interface> {
    let mut attributes = message.attributes.iter();
    let name = attributes.find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let is_port = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::Controller(_));
    let mut attributes = message.attributes.iter();
    let link_layer = attributes.find_map(|attribute| match attribute {
        LinkAttribute::Address(octets) => Some(octets.clone()),
        _ => None,
    });
    let flags = message.header.flags;
    Some(Interface {
        index: message.header.index,
        name,
        link_layer: link_layer.unwrap_or_default(),
        up: flags.contains(LinkFlags::Up | LinkFlags::Running),
        subordinate: flags.contains(LinkFlags::Loopback) || message.attributes.iter().any(is_port),
    })
}

/// A link-local address of ours. One that is still looked for elsewhere (RFC 4862 §5.4) or was found there cannot be used.
fn own(message: &AddressMessage) -> Option<(u32, Ipv6Addr)> {
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed;
    let mut attributes = message.attributes.iter();
    if attributes.any(|attribute| {
        matches!(attribute, AddressAttribute::Flags(flags) if flags.intersects(unusable))
    }) {
        return None;
    }
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        AddressAttribute::Address(IpAddr::V6(address)) if address.is_unicast_link_local() => {
            Some((message.header.index, *address))
        }
        _ => None,
    })
}

/// A neighbour that is there, as far as the kernel knows.
fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let there = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    Some(Neighbour {
        interface: message.header.ifindex,
        address: link_local(message).filter(|_| there)?,
        router: message.header.flags.contains(NeighbourFlags::Router),
    })
}

fn link_local(message: &NeighbourMessage) -> Option<Ipv6Addr> {
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
            Some(*address).filter(Ipv6Addr::is_unicast_link_local)
        }
        _ => None,
    })
}

/// Whether a reading would show it: most neighbours that come and go are pods.
fn matters(message: &RouteNetlinkMessage) -> bool {
    match message {
        RouteNetlinkMessage::NewNeighbour(message) | RouteNetlinkMessage::DelNeighbour(message) => {
            link_local(message).is_some()
        }
        RouteNetlinkMessage::NewLink(_)
        | RouteNetlinkMessage::DelLink(_)
        | RouteNetlinkMessage::NewAddress(_)
        | RouteNetlinkMessage::DelAddress(_) => true,
        _ => false,
    }
}
