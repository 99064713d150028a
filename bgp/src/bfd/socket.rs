//! Sockets of BFD: one that listens for each family and port, one that speaks for each session (RFC 5881 §4, RFC 5883 §5).

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{
        ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg,
        setsockopt, sockopt,
    },
    sys::time::TimeSpec,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;

use super::{Path, packet};
use crate::{
    config::Hops,
    peer::{socket_options::interface_index, sockets::canonical},
    prefix::Prefix,
};

/// Where BFD over a single hop listens.
const SINGLE_HOP: u16 = 3784;
/// … and over several.
const MULTIHOP: u16 = 4784;
/// What we send with, and what a packet that came over one hop still has.
pub(super) const TTL: u8 = 255;
/// DSCP CS6: network control.
const TRAFFIC_CLASS: u32 = 0xc0;
/// The first port to speak from (RFC 5881 §4); up to the last of all.
const FIRST_PORT: u16 = 49152;
/// What is read at most before the sessions are looked at: a flood must not keep us from speaking.
const MOST: usize = 4096;
/// Octets that may wait in the kernel while we sleep.
const BACKLOG: usize = 1 << 20;

/// A family and kind that is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ear {
    pub(super) v6: bool,
    pub(super) multihop: bool,
}

impl Ear {
    /// Where packets for it arrive.
    pub(super) fn port(self) -> u16 {
        if self.multihop { MULTIHOP } else { SINGLE_HOP }
    }
}

/// A socket that takes packets for all sessions of its family and kind.
pub(super) struct Listener {
    socket: tokio::net::UdpSocket,
    pub(super) ear: Ear,
    control: Vec<u8>,
    /// When it was last found empty: nothing that is found now came earlier.
    emptied: Instant,
}

/// What came.
pub(super) struct Datagram {
    pub(super) octets: [u8; 64],
    pub(super) length: usize,
    pub(super) from: SocketAddr,
    pub(super) to: IpAddr,
    /// Index of the interface it came over.
    pub(super) interface: u32,
    pub(super) ttl: u8,
    /// When the kernel took it.
    pub(super) arrived: Instant,
}

impl Datagram {
    pub(super) fn octets(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

impl Listener {
    pub(super) fn open(now: Instant, ear: Ear) -> io::Result<Self> {
        let any: IpAddr = if ear.v6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let socket = Socket::new(
            if ear.v6 { Domain::IPV6 } else { Domain::IPV4 },
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        if ear.v6 {
            socket.set_only_v6(true)?;
            socket.set_recv_hoplimit_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        socket.set_recv_buffer_size(BACKLOG)?;
        socket.bind(&SocketAddr::new(any, ear.port()).into())?;
        Ok(Self {
            socket: tokio::net::UdpSocket::from_std(socket.into())?,
            ear,
            control: cmsg_space!(libc::in6_pktinfo, libc::c_int, TimeSpec),
            emptied: now,
        })
    }

    /// Ready once something may have come.
    pub(super) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_recv_ready(context).map(drop)
    }

    /// All that has come by now. It asks the kernel, whatever was said of readiness: who was not run for a while knows nothing
    /// of what came meanwhile.
    pub(super) fn drain(&mut self, now: Instant, mut each: impl FnMut(Datagram)) {
        let (wall, before) = (SystemTime::now(), self.emptied);
        // The wall clock may jump; but no packet came before we last found nothing.
        let arrived = |stamp: Option<SystemTime>| {
            let age = wall.duration_since(stamp.unwrap_or(wall));
            let age = age
                .unwrap_or_default()
                .min(now.saturating_duration_since(before));
            now.checked_sub(age).unwrap_or(now)
        };
        for _ in 0..MOST {
            match receive(&self.socket, &mut self.control, arrived) {
                Ok(Some(datagram)) => each(datagram),
                Ok(None) => {}
                Err(_) => {
                    self.emptied = now;
                    // Tokio must hear of it too, to wake us when more comes.
                    let empty = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                    drop(self.socket.try_io(Interest::READABLE, empty));
                    return;
                }
            }
        }
    }
}

/// One datagram; `None`: it says too little about itself to be of use.
fn receive(
    socket: &impl AsRawFd,
    control: &mut [u8],
    arrived: impl Fn(Option<SystemTime>) -> Instant,
) -> Result<Option<Datagram>, Errno> {
    let mut octets = [0; 64];
    let mut pieces = [IoSliceMut::new(&mut octets)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut pieces,
        Some(control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let (length, from) = (
        message.bytes,
        message.address.as_ref().and_then(std_address),
    );
    let (mut to, mut interface, mut ttl, mut stamp) = (None, 0, None, None);
    if let Ok(all) = message.cmsgs() {
        for one in all {
            match one {
                ControlMessageOwned::Ipv4PacketInfo(about) => {
                    to = Some(Ipv4Addr::from(about.ipi_addr.s_addr.to_ne_bytes()).into());
                    interface = u32::try_from(about.ipi_ifindex).unwrap_or_default();
                }
                ControlMessageOwned::Ipv6PacketInfo(about) => {
                    to = Some(Ipv6Addr::from(about.ipi6_addr.s6_addr).into());
                    interface = about.ipi6_ifindex;
                }
                ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                    ttl = u8::try_from(value).ok();
                }
                ControlMessageOwned::ScmTimestampns(since) => {
                    stamp = UNIX_EPOCH.checked_add(Duration::from(since));
                }
                _ => {}
            }
        }
    }
    let (Some(from), Some(to), Some(ttl)) = (from, to, ttl) else {
        return Ok(None);
    };
    Ok(Some(Datagram {
        octets,
        length,
        from: canonical(from),
        to,
        interface,
        ttl,
        arrived: arrived(stamp),
    }))
}

fn std_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::V6((*v6).into()))
    })
}

/// The socket of one session.
pub(super) struct Sender {
    socket: UdpSocket,
    pub(super) local: IpAddr,
    /// Index of the interface the session is bound to.
    pub(super) interface: Option<u32>,
    pub(super) multihop: bool,
}

impl Sender {
    /// One that speaks from a port of its own, the first free one from `port` on, which is moved behind it.
    pub(super) fn open(path: &Path, port: &mut u16) -> io::Result<Self> {
        let interface = path.interface.as_deref().map(interface_index).transpose()?;
        let multihop = match path.hops {
            Hops::Single => false,
            Hops::Multi => true,
            Hops::OnLink => !is_on_link(path.remote),
        };
        let socket = Socket::new(
            Domain::for_address(SocketAddr::new(path.remote, 0)),
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        match path.remote {
            IpAddr::V4(_) => {
                socket.set_ttl_v4(TTL.into())?;
                socket.set_tos_v4(TRAFFIC_CLASS)?;
            }
            IpAddr::V6(_) => {
                socket.set_unicast_hops_v6(TTL.into())?;
                socket.set_tclass_v6(TRAFFIC_CLASS)?;
            }
        }
        if let Some(name) = &path.interface {
            socket.bind_device(Some(name.as_bytes()))?;
        }
        let unspecified: IpAddr = match path.remote {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        bind(&socket, path.source.unwrap_or(unspecified), interface, port)?;
        let to = if multihop { MULTIHOP } else { SINGLE_HOP };
        socket.connect(&scoped(path.remote, to, interface).into())?;
        let socket = UdpSocket::from(socket);
        Ok(Self {
            local: canonical(socket.local_addr()?).ip(),
            socket,
            interface,
            multihop,
        })
    }

    /// Sends. That nobody listened for an earlier packet is no reason not to.
    pub(super) fn send(&self, octets: &[u8; packet::LENGTH]) -> Sent {
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        match self.socket.send(octets) {
            Ok(_) => Sent::Well,
            Err(error) if refused(&error) => match self.socket.send(octets) {
                Err(error) if !refused(&error) => Sent::Not(error),
                _ => Sent::Unheard,
            },
            Err(error) => Sent::Not(error),
        }
    }
}

/// What became of a packet of ours.
pub(super) enum Sent {
    /// It went out.
    Well,
    /// … and the one before met nobody.
    Unheard,
    /// It did not.
    Not(io::Error),
}

/// Binds to a free port of the range that RFC 5881 §4 gives.
fn bind(socket: &Socket, local: IpAddr, interface: Option<u32>, port: &mut u16) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in FIRST_PORT..=u16::MAX {
        let here = scoped(local, *port, interface);
        *port = port.checked_add(1).unwrap_or(FIRST_PORT).max(FIRST_PORT);
        match socket.bind(&here.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            done => return done,
        }
    }
    Err(last)
}

fn scoped(address: IpAddr, port: u16, interface: Option<u32>) -> SocketAddr {
    match (address, interface) {
        (IpAddr::V6(address), Some(index)) if address.is_unicast_link_local() => {
            SocketAddrV6::new(address, port, 0, index).into()
        }
        _ => SocketAddr::new(address, port),
    }
}

/// The first port a process tries: not the same after a restart, so that the other side's old session is not meant.
pub(super) fn first_port() -> u16 {
    let spread = u16::try_from(std::process::id() % 8192).unwrap_or_default();
    FIRST_PORT.saturating_add(spread)
}

/// Whether an address lies in a subnet of one of our interfaces.
fn is_on_link(remote: IpAddr) -> bool {
    if matches!(remote, IpAddr::V6(remote) if remote.is_unicast_link_local()) {
        return true;
    }
    let host = Prefix::host(remote);
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return false;
    };
    interfaces.into_iter().any(|interface| {
        let subnet = subnet(interface.address.as_ref(), interface.netmask.as_ref());
        subnet.is_some_and(|subnet| subnet.contains(&host))
    })
}

/// The subnet of an interface's address; a host address alone is none.
fn subnet(address: Option<&SockaddrStorage>, mask: Option<&SockaddrStorage>) -> Option<Prefix> {
    let (address, mask) = (address?, mask?);
    let v4 = |at: &SockaddrIn| at.ip();
    let v6 = |at: &SockaddrIn6| at.ip();
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(address), _) => {
            let length = mask.as_sockaddr_in().map(v4)?.to_bits().count_ones();
            Prefix::v4(v4(address), u8::try_from(length).ok()?)
        }
        (None, Some(address)) => {
            let length = mask.as_sockaddr_in6().map(v6)?.to_bits().count_ones();
            Prefix::v6(v6(address), u8::try_from(length).ok()?)
        }
        (None, None) => None,
    }
    .filter(|subnet| subnet.length() < subnet.family().bits())
}
