//! Sockets as a session wants them: addresses, TTL, signatures, failure detection.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::AsFd,
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::socket_options::{
    Signature, ao, interface_index, keep_syn, set_md5_key, set_minimum_ttl, syn,
};
use crate::{
    config::{Keys, Password, PeerConfig, Ttl},
    prefix::Prefix,
};

/// Connections that may wait to be accepted: a whole mesh dials at once.
const BACKLOG: i32 = 4096;

/// Octets that wait in the kernel beyond what is on its way: enough to keep a link busy, and so few that a peer which takes
/// nothing is noticed and what waits for it stays with us, where the newest replaces the older.
const UNSENT: u32 = 64 * 1024;

/// Listens on `address`, also before it is there. What it sends (SYN-ACKs) has the TTL that GTSM on the other side wants.
///
/// # Errors
/// What the kernel says: address in use, permission denied.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if !address.ip().is_unspecified() {
        set_freebind(&socket, address.ip())?;
    }
    set_ttl(&socket, address.ip(), 255)?;
    keep_syn(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Dials the peer, with signatures by `keys` if there are any.
///
/// # Errors
/// What the kernel says, or that an interface is not there.
pub(crate) async fn dial(config: &PeerConfig, keys: Option<&Keys>) -> io::Result<TcpStream> {
    let remote = remote(config)?;
    let socket = Socket::new(
        Domain::for_address(remote),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    limit(&socket, config, remote.ip())?;
    let peer = Prefix::host(config.address);
    match keys {
        None => {}
        Some(Keys::Md5(key)) => set_md5_key(&socket, peer, key)?,
        Some(Keys::Ao(keys)) => ao::add_keys(&socket, peer, keys, ao::Role::Dials)?,
    }
    if let Some(interface) = &config.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if let Some(source) = config.source {
        let local = match source {
            IpAddr::V6(source) if source.is_unicast_link_local() => {
                SocketAddrV6::new(source, 0, 0, scope(remote)).into()
            }
            _ => SocketAddr::new(source, 0),
        };
        socket.bind(&local.into())?;
    }
    TcpSocket::from_std_stream(socket.into())
        .connect(remote)
        .await
}

/// Prepares a connection that a listener accepted for this peer. The MD5 key came with it from the listener, if it had one
/// by then.
///
/// # Errors
/// What the kernel says; `PermissionDenied` where GTSM forbids the connection: a listener takes SYNs of any TTL, and what
/// follows such a one would be dropped in silence. And that it is not signed: so a listener takes it that has no key yet.
pub(crate) fn adopt(stream: &TcpStream, config: &PeerConfig, remote: IpAddr) -> io::Result<()> {
    if let Some(syn) = syn(stream)? {
        if let Ttl::Security(hops) = config.ttl
            && syn.ttl < least_ttl(hops)
        {
            let text = format!(
                "its connection came with TTL {}, ttlSecurity asks for {} or more",
                syn.ttl,
                least_ttl(hops)
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let wanted = match config.password {
            Password::None | Password::Missing(_) => syn.signature,
            Password::Key(_) => Some(Signature::Md5),
            Password::Ao(_) => Some(Signature::Ao),
        };
        if syn.signature != wanted {
            return Err(io::Error::other(match wanted {
                Some(Signature::Ao) => {
                    "its connection came without the TCP-AO signature that its keys ask for"
                }
                _ => "its connection came without the MD5 signature that its password asks for",
            }));
        }
    }
    limit(stream, config, remote)
}

/// TTL both ways, no delay, and an end to waiting for acknowledgements.
fn limit(socket: &impl AsFd, config: &PeerConfig, remote: IpAddr) -> io::Result<()> {
    match config.ttl {
        Ttl::Send(ttl) => set_ttl(socket, remote, ttl)?,
        Ttl::Security(hops) => {
            set_ttl(socket, remote, 255)?;
            set_minimum_ttl(socket, remote, least_ttl(hops))?;
        }
    }
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    set_patience(socket, config.timers.hold)
}

/// One hop away, a packet has lost nothing: it still arrives with 255 (RFC 5082 §3).
fn least_ttl(hops: u8) -> u8 {
    255_u8.saturating_sub(hops.saturating_sub(1))
}

/// How long what we sent may stay unacknowledged before TCP gives up; 0: as long as TCP likes.
///
/// # Errors
/// What the kernel says.
pub(crate) fn set_patience(socket: SockRef<'_>, patience: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout((!patience.is_zero()).then_some(patience))
}

fn set_ttl(socket: &impl AsFd, remote: IpAddr, ttl: u8) -> io::Result<()> {
    let socket = SockRef::from(socket);
    match remote {
        IpAddr::V4(_) => socket.set_ttl_v4(ttl.into()),
        IpAddr::V6(_) => socket.set_unicast_hops_v6(ttl.into()),
    }
}

fn set_freebind(socket: &Socket, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => socket.set_freebind_v4(true),
        IpAddr::V6(_) => socket.set_freebind_v6(true),
    }
}

/// Where to dial; a link-local address with the index its interface has now.
fn remote(config: &PeerConfig) -> io::Result<SocketAddr> {
    match (config.address, &config.interface) {
        (IpAddr::V6(address), Some(interface)) if address.is_unicast_link_local() => {
            let index = interface_index(interface)?;
            Ok(SocketAddrV6::new(address, config.port, 0, index).into())
        }
        (address, _) => Ok(SocketAddr::new(address, config.port)),
    }
}

/// The interface index in an address; 0: none.
#[must_use]
pub(crate) fn scope(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    }
}

/// An IPv4 address inside an IPv6 one is what it is.
#[must_use]
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Our link-local address on the interface that holds `local`, if `remote` is on that link too.
#[must_use]
pub(crate) fn link_local_beside(local: IpAddr, remote: IpAddr) -> Option<Ipv6Addr> {
    let (IpAddr::V6(local), IpAddr::V6(_)) = (local, remote) else {
        return None;
    };
    if local.is_unicast_link_local() {
        return Some(local);
    }
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    let rows: Vec<_> = table.lines().filter_map(InterfaceAddress::read).collect();
    let here = rows.iter().find(|row| row.address == local)?;
    let subnet = Prefix::v6(local, here.length)?;
    let on_link = subnet.contains(&Prefix::host(remote));
    rows.iter()
        .find(|row| row.index == here.index && row.address.is_unicast_link_local() && on_link)
        .map(|row| row.address)
}

/// A row of `/proc/net/if_inet6`.
struct InterfaceAddress {
    address: Ipv6Addr,
    index: u32,
    length: u8,
}

impl InterfaceAddress {
    fn read(row: &str) -> Option<Self> {
        let mut columns = row.split_ascii_whitespace();
        let address = u128::from_str_radix(columns.next()?, 16).ok()?;
        Some(Self {
            address: address.into(),
            index: u32::from_str_radix(columns.next()?, 16).ok()?,
            length: u8::from_str_radix(columns.next()?, 16).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Algorithm, AoKey};

    #[test]
    fn a_row_of_interface_addresses_is_read() {
        let row = "fe80000000000000021132fffe123456 02 40 20 80     eth0";
        let row = InterfaceAddress::read(row).expect("a row");
        assert_eq!(row.address.to_string(), "fe80::211:32ff:fe12:3456");
        assert_eq!((row.index, row.length), (2, 64));
        assert!(InterfaceAddress::read("nonsense").is_none());
    }

    #[tokio::test]
    async fn an_unsigned_connection_of_a_peer_with_a_password_is_refused_whatever_the_listener_took()
     {
        let open = crate::rib::fixture::peer_config();
        let secured = PeerConfig {
            password: Password::Key(b"secret"[..].into()),
            ..open.clone()
        };
        let key = AoKey {
            send_id: 1,
            receive_id: 2,
            algorithm: Algorithm::HmacSha1,
            secret: b"secret"[..].into(),
        };
        let authenticated = PeerConfig {
            password: Password::Ao([key].into()),
            ..open.clone()
        };
        for host in [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()] {
            let listener = listen(SocketAddr::new(host, 0)).expect("loopback can be listened on");
            let to = listener.local_addr().expect("it is bound");
            for (config, welcome) in [(&open, true), (&secured, false), (&authenticated, false)] {
                let (dialled, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
                let (stream, _) = accepted.expect("someone dialled");
                assert_eq!(adopt(&stream, config, host).is_ok(), welcome);
                drop(dialled);
            }
        }
    }

    #[test]
    fn loopback_has_no_link_local_address() {
        let loopback = IpAddr::from(Ipv6Addr::LOCALHOST);
        assert_eq!(link_local_beside(loopback, loopback), None);
    }
}
