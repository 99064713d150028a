//! The raw socket that advertisements go out by, and solicitations come in.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;
use tracing::debug;

use crate::{
    message::{
        ALL_NODES, ALL_ROUTERS, HOP_LIMIT, SOLICITATION, advertisement, echo_request,
        is_solicitation, solicitation,
    },
    schedule::Place,
};

/// See the top of the file.
#[derive(Debug)]
pub(crate) struct Icmp {
    /// What tokio calls it matters not: octets from and to addresses are all it knows of.
    socket: UdpSocket,
}

/// No solicitation is longer.
const LONGEST: usize = 1500;

impl Icmp {
    /// Opens it.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_RAW.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::new(
            Domain::IPV6,
            Type::RAW.nonblocking().cloexec(),
            Some(Protocol::ICMPV6),
        )?;
        socket.attach_filter(&only_solicitations())?;
        socket.set_multicast_hops_v6(HOP_LIMIT.into())?;
        socket.set_unicast_hops_v6(HOP_LIMIT.into())?;
        socket.set_multicast_loop_v6(false)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
        })
    }

    /// Hears what is said to the routers on this link.
    pub(crate) fn join(&self, link: u32) {
        // It may have joined before.
        if let Err(error) = self.socket.join_multicast_v6(&ALL_ROUTERS, link) {
            debug!(link, %error, "not joined");
        }
    }

    /// Says that we are there: to all, or to who asked.
    pub(crate) fn advertise(&self, from: Place, link_layer: &[u8], to: Option<Ipv6Addr>) {
        let octets = advertisement(link_layer);
        self.send(&octets, from, to.unwrap_or(ALL_NODES));
    }

    /// Asks who is there: those that advertise themselves, and those that do not.
    pub(crate) fn solicit(&self, from: Place, link_layer: &[u8]) {
        self.send(&solicitation(link_layer), from, ALL_ROUTERS);
        self.send(&echo_request(), from, ALL_ROUTERS);
    }

    /// What cannot be sent is said again later.
    fn send(&self, octets: &[u8], (link, _): Place, to: Ipv6Addr) {
        let to = SocketAddrV6::new(to, 0, 0, link);
        if let Err(error) = self.socket.try_send_to(octets, to.into()) {
            debug!(%to, %error, "not sent");
        }
    }

    /// The next one who asks, and on which link.
    pub(crate) async fn asked(&self) -> io::Result<(u32, Ipv6Addr)> {
        let mut buffer = [0; LONGEST];
        loop {
            let (length, from) = self.socket.recv_from(&mut buffer).await?;
            let octets = buffer.get(..length).unwrap_or_default();
            if let SocketAddr::V6(from) = from
                && from.scope_id() != 0
                && is_solicitation(octets, *from.ip())
            {
                return Ok((from.scope_id(), *from.ip()));
            }
        }
    }
}

/// A classic BPF program: solicitations that nobody has forwarded.
fn only_solicitations() -> [SockFilter; 6] {
    const LOAD_OCTET: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const TYPE: u32 = 0;
    /// Octet 7 of the IPv6 header, counted from where that begins (`SKF_NET_OFF`).
    const HOPS: u32 = 0xfff0_0000 + 7;
    [
        SockFilter::new(LOAD_OCTET, 0, 0, TYPE),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, SOLICITATION as u32),
        SockFilter::new(LOAD_OCTET, 0, 0, HOPS),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, HOP_LIMIT as u32),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
