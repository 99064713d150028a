//! The socket options that no crate offers: TCP MD5 keys (RFC 2385), the TCP Authentication Option (RFC 5925), the minimum TTL (RFC 5082)
//! and a SYN's TTL. The only unsafe code of the speaker.
#![expect(
    unsafe_code,
    reason = "socket options that neither std, socket2 nor nix know"
)]

use std::{
    io, mem,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
};

use crate::prefix::Prefix;

pub(crate) mod ao;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct Md5Signature {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: libc::c_int,
    key: [u8; libc::TCP_MD5SIG_MAXKEYLEN],
}

/// `TCP_MD5SIG_FLAG_PREFIX`: the key is for all addresses of the prefix.
const FLAG_PREFIX: u8 = 1;

/// Demands and gives MD5 signatures with this key (1–80 octets) on packets from and to `peers`; an empty key takes the
/// demand back. Of several keys on a listening socket the one with the longest prefix counts; a connection it accepts
/// keeps the key it was opened with. `peers` is of the socket's family.
///
/// # Errors
/// What the kernel says: `EINVAL` for a key that is too long or a family that does not fit, `ENOENT` where there was no
/// key to remove, `ENOPROTOOPT` where the kernel knows no MD5 signatures.
pub(crate) fn set_md5_key(socket: &impl AsFd, peers: Prefix, key: &[u8]) -> io::Result<()> {
    let key_length = u16::try_from(key.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let host = peers.length() == peers.family().bits();
    let mut signature = Md5Signature {
        address: address(peers.address()),
        flags: if host { 0 } else { FLAG_PREFIX },
        prefix_length: if host { 0 } else { peers.length() },
        key_length,
        interface: 0,
        key: [0; libc::TCP_MD5SIG_MAXKEYLEN],
    };
    signature
        .key
        .get_mut(..key.len())
        .ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(key);
    let option = if host {
        libc::TCP_MD5SIG
    } else {
        libc::TCP_MD5SIG_EXT
    };
    set(socket, libc::IPPROTO_TCP, option, &signature)
}

/// Drops what arrives with a TTL or hop limit below `least` (0: takes all). `of` says of which family the socket is.
///
/// # Errors
/// What the kernel says.
pub(crate) fn set_minimum_ttl(socket: &impl AsFd, of: IpAddr, least: u8) -> io::Result<()> {
    let least = libc::c_int::from(least);
    match of {
        IpAddr::V4(_) => set(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &least),
        IpAddr::V6(_) => set(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &least),
    }
}

/// Lets a listening socket keep the SYN of each connection until [`syn`] has looked at it.
///
/// # Errors
/// What the kernel says.
pub(crate) fn keep_syn(listener: &impl AsFd) -> io::Result<()> {
    let yes: libc::c_int = 1;
    set(listener, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, &yes)
}

/// How an accepted connection began; `None` where its SYN was not kept (as with SYN cookies), or was looked at before.
///
/// # Errors
/// What the kernel says; the SYN had more headers than a peer's ever has.
pub(crate) fn syn(accepted: &impl AsFd) -> io::Result<Option<Syn>> {
    let mut headers = [0_u8; 512];
    let mut length =
        libc::socklen_t::try_from(headers.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open, being borrowed; the kernel writes at most `length` octets to `headers`, and to
    // `length` how many it wrote.
    let result = unsafe {
        libc::getsockopt(
            accepted.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            headers.as_mut_ptr().cast(),
            std::ptr::from_mut(&mut length),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let length = usize::try_from(length).unwrap_or_default();
    Ok(headers.get(..length).and_then(Syn::read))
}

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Syn {
    /// TTL or hop limit it arrived with.
    pub(crate) ttl: u8,
    /// The signature it carried. The kernel let it pass, so there was a key for it, and it was signed with that.
    pub(crate) signature: Option<Signature>,
}

/// How a segment is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signature {
    /// TCP MD5 signature option (RFC 2385).
    Md5,
    /// TCP Authentication Option (RFC 5925).
    Ao,
}

impl Syn {
    /// From its headers, IP and TCP.
    fn read(headers: &[u8]) -> Option<Self> {
        const TCP: usize = 20;
        let first = *headers.first()?;
        let (ttl, network) = match first >> 4 {
            4 => (*headers.get(8)?, usize::from(first & 0x0f).checked_mul(4)?),
            // Extension headers, where there are any, are no peer's: what follows them is taken for no signature.
            6 => (*headers.get(7)?, 40),
            _ => return None,
        };
        let options = headers.get(network.checked_add(TCP)?..);
        Some(Self {
            ttl,
            signature: options.and_then(signature),
        })
    }
}

/// The signature among these options (RFC 2385 §3, RFC 5925 §2.2).
fn signature(mut options: &[u8]) -> Option<Signature> {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const MD5: u8 = 19;
    const AO: u8 = 29;
    loop {
        options = match options {
            [] | [END, ..] => return None,
            [NOTHING, rest @ ..] => rest,
            [MD5, 18, ..] => return Some(Signature::Md5),
            [AO, length, ..] if *length > 4 => return Some(Signature::Ao),
            [_, length, ..] if *length >= 2 => {
                options.get(usize::from(*length)..).unwrap_or_default()
            }
            _ => return None,
        };
    }
}

fn set<T>(
    socket: &impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length =
        libc::socklen_t::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open, being borrowed; `value` is a `T` of `length` octets that lives over the call; the
    // kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn address(address: IpAddr) -> libc::sockaddr_storage {
    // socket2 knows how to write a sockaddr; what it wrote is copied out of it.
    let written = socket2::SockAddr::from(std::net::SocketAddr::new(address, 0));
    // SAFETY: sockaddr_storage is plain data, for which all zeroes is a valid value.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let length = usize::try_from(written.len())
        .unwrap_or(usize::MAX)
        .min(size_of_val(&storage));
    // SAFETY: both are at least `length` octets long and do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(
            written.as_ptr().cast::<u8>(),
            std::ptr::from_mut(&mut storage).cast::<u8>(),
            length,
        );
    }
    storage
}

/// Index of an interface of this network namespace.
///
/// # Errors
/// `ENODEV` where there is none of this name.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `name` is a C string that lives over the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Name of an interface of this network namespace.
#[must_use]
pub(crate) fn interface_name(index: u32) -> Option<String> {
    let mut name = [0 as libc::c_char; libc::IF_NAMESIZE];
    // SAFETY: the buffer is of the size that the call demands.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    if found.is_null() {
        return None;
    }
    let octets: Vec<u8> = name
        .iter()
        .take_while(|octet| **octet != 0)
        .map(|octet| octet.to_ne_bytes()[0])
        .collect();
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    use super::*;

    #[test]
    fn the_signature_is_laid_out_as_the_kernel_wants_it() {
        assert_eq!(size_of::<Md5Signature>(), 216);
        assert_eq!(mem::offset_of!(Md5Signature, key), 136);
    }

    #[test]
    fn the_loopback_interface_has_an_index_and_a_name() {
        let index = interface_index("lo").expect("there is a loopback interface");
        assert_eq!(interface_name(index).as_deref(), Some("lo"));
        assert!(interface_index("surely-not-here").is_err());
    }

    #[test]
    fn a_minimum_ttl_is_taken_by_sockets_of_both_families() {
        for host in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ] {
            let socket = TcpListener::bind((host, 0)).expect("loopback can be listened on");
            set_minimum_ttl(&socket, host, 255).expect("any user may set it");
            set_minimum_ttl(&socket, host, 0).expect("any user may take it back");
        }
    }

    #[test]
    fn the_syn_of_a_connection_is_known_once() {
        for host in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ] {
            let listener = TcpListener::bind((host, 0)).expect("loopback can be listened on");
            keep_syn(&listener).expect("any user may ask for it");
            let to = listener.local_addr().expect("it is bound");
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(to),
                socket2::Type::STREAM,
                None,
            )
            .expect("a socket");
            if host.is_ipv4() {
                socket.set_ttl_v4(77).expect("any user may set it");
            } else {
                socket.set_unicast_hops_v6(77).expect("any user may set it");
            }
            socket.connect(&to.into()).expect("it listens");
            let (accepted, _) = listener.accept().expect("someone dialled");
            let plain = Syn {
                ttl: 77,
                signature: None,
            };
            assert_eq!(syn(&accepted).expect("it was kept"), Some(plain));
            assert_eq!(syn(&accepted).expect("it is asked for"), None);
        }
    }

    #[test]
    fn a_signature_is_found_wherever_it_stands_among_the_options() {
        let md5 = [&[19, 18][..], &[0; 16]].concat();
        let ao = [&[29, 16, 1, 2][..], &[0; 12]].concat();
        let size = [2, 4, 5, 0xb4];
        for (option, which) in [(&md5, Signature::Md5), (&ao, Signature::Ao)] {
            assert_eq!(signature(option), Some(which));
            let among = [&size[..], &[1, 1], option].concat();
            assert_eq!(signature(&among), Some(which));
            assert_eq!(signature(&[&[0][..], option].concat()), None);
        }
        for none in [
            &[][..],
            &size,
            &[1, 1, 1],
            &[19],
            &[19, 2],
            &[2, 0, 19, 18],
            &[2, 1, 19, 18],
            &[8],
            &[29, 4, 1, 2],
        ] {
            assert_eq!(signature(none), None, "{none:?}");
        }
    }

    #[test]
    fn md5_keys_for_hosts_and_prefixes_are_taken_and_removed() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
        for peers in ["10.1.2.3", "10.1.2.0/24"] {
            let peers: Prefix = peers.parse().expect("a prefix");
            match set_md5_key(&socket, peers, b"key") {
                Ok(()) => set_md5_key(&socket, peers, b"").expect("it was there"),
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                    println!("skipped: MD5 keys need CAP_NET_ADMIN on this kernel");
                }
                Err(error) => panic!("{peers}: {error}"),
            }
        }
        assert!(set_md5_key(&socket, "10.1.2.3".parse().expect("a prefix"), &[7; 81]).is_err());
    }
}
