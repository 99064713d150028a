//! The TCP Authentication Option (RFC 5925) as Linux has it since 6.7: structures of linux/tcp.h, octet for octet.

use std::{io, net::IpAddr, os::fd::AsFd, sync::OnceLock};

use super::set;
use crate::{
    config::{Algorithm, AoKey},
    prefix::Prefix,
};

const TCP_AO_ADD_KEY: libc::c_int = 38;
const TCP_AO_DEL_KEY: libc::c_int = 39;
const TCP_AO_INFO: libc::c_int = 40;

/// `TCP_AO_MAXKEYLEN`.
const MAX_KEY: usize = 80;

/// Octets of a MAC: what RFC 5926 demands of both its algorithms.
const MAC: u8 = 12;

/// Whether this kernel has it.
pub(crate) fn is_known() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        // A kernel that knows the option finds a key of four octets too short; another one finds no such option.
        let short = |socket| set(&socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &0_u32);
        let answer = socket.and_then(short);
        let error = answer.err().and_then(|error| error.raw_os_error());
        error != Some(libc::ENOPROTOOPT)
    })
}

/// Signs with these keys what goes to `peers`, and demands it of what comes from there. A socket that dials signs with the
/// first one and asks for it; a listening one goes by what the other side signs with. `peers` is of the socket's family.
///
/// # Errors
/// What the kernel says: `ENOPROTOOPT` where it has no TCP-AO, `ENOENT` for an algorithm it does not know, `EKEYREJECTED`
/// where an MD5 key is for the same address.
pub(crate) fn add_keys(
    socket: &impl AsFd,
    peers: Prefix,
    keys: &[AoKey],
    role: Role,
) -> io::Result<()> {
    for (index, key) in keys.iter().enumerate() {
        let preferred = role == Role::Dials && index == 0;
        add(socket, peers, key, preferred)?;
    }
    Ok(())
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A connection of one's own.
    Dials,
    /// Connections of others.
    Listens,
}

/// Takes keys off a listening socket; connections it has accepted keep theirs.
///
/// # Errors
/// What the kernel says.
pub(crate) fn remove_keys(socket: &impl AsFd, peers: Prefix, keys: &[AoKey]) -> io::Result<()> {
    for key in keys {
        let octets = delete(peers, key, None);
        set(socket, libc::IPPROTO_TCP, TCP_AO_DEL_KEY, &octets)?;
    }
    Ok(())
}

/// Brings a connection from one set of keys to another, without a break: see [`steps`].
///
/// # Errors
/// What the kernel says; `InvalidInput` where a key changed under its IDs.
pub(crate) fn roll(
    connection: &impl AsFd,
    peer: IpAddr,
    old: &[AoKey],
    new: &[AoKey],
) -> io::Result<()> {
    let peer = Prefix::host(peer);
    for step in steps(old, new).ok_or(io::ErrorKind::InvalidInput)? {
        match step {
            Step::Add(key) => add(connection, peer, key, false)?,
            Step::AskFor(key) => {
                let octets = information(key);
                set(connection, libc::IPPROTO_TCP, TCP_AO_INFO, &octets)?;
            }
            Step::Remove(key, instead) => {
                let octets = delete(peer, key, Some(instead));
                set(connection, libc::IPPROTO_TCP, TCP_AO_DEL_KEY, &octets)?;
            }
        }
    }
    Ok(())
}

/// What a roll consists of.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    /// This key may be used from here on.
    Add(&'a AoKey),
    /// The other side is asked to sign with it (RNextKeyID, RFC 5925 §6.1): as soon as it does, all may be signed with it.
    AskFor(&'a AoKey),
    /// This key goes; if it is in use, the other takes its place.
    Remove(&'a AoKey, &'a AoKey),
}

/// New keys come first, then the preferred one is asked for, then old ones go. `None` where an ID stands for another key
/// than before: then no signature says which of the two it is.
fn steps<'a>(old: &'a [AoKey], new: &'a [AoKey]) -> Option<Vec<Step<'a>>> {
    let preferred = new.first()?;
    let clash = |one: &AoKey, other: &AoKey| {
        one != other && (one.send_id == other.send_id || one.receive_id == other.receive_id)
    };
    if old.iter().any(|old| new.iter().any(|new| clash(old, new))) {
        return None;
    }
    let added = new.iter().filter(|key| !old.contains(key)).map(Step::Add);
    let asked = (old.first() != Some(preferred)).then_some(Step::AskFor(preferred));
    let gone = old.iter().filter(|key| !new.contains(key));
    let removed = gone.map(|key| Step::Remove(key, preferred));
    Some(added.chain(asked).chain(removed).collect())
}

fn add(socket: &impl AsFd, peers: Prefix, key: &AoKey, preferred: bool) -> io::Result<()> {
    let octets = addition(peers, key, preferred).ok_or(io::ErrorKind::InvalidInput)?;
    set(socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &octets)
}

/// A structure that is written from its first octet on.
struct Structure<const SIZE: usize> {
    octets: [u8; SIZE],
    at: usize,
}

impl<const SIZE: usize> Structure<SIZE> {
    const fn new() -> Self {
        Self {
            octets: [0; SIZE],
            at: 0,
        }
    }

    /// What does not fit is left out: no caller writes more than its structure has.
    fn put(&mut self, octets: &[u8]) -> &mut Self {
        let end = self.at.saturating_add(octets.len());
        if let Some(place) = self.octets.get_mut(self.at..end) {
            place.copy_from_slice(octets);
        }
        self.at = end;
        self
    }

    fn skip(&mut self, count: usize) -> &mut Self {
        self.at = self.at.saturating_add(count);
        self
    }

    /// `struct sockaddr_storage`.
    fn address(&mut self, address: IpAddr) -> &mut Self {
        let end = self.at.saturating_add(128);
        let family = match address {
            IpAddr::V4(_) => libc::AF_INET,
            IpAddr::V6(_) => libc::AF_INET6,
        };
        let family = u16::try_from(family).unwrap_or_default();
        self.put(&family.to_ne_bytes()).skip(2); // port 0: any
        match address {
            IpAddr::V4(address) => self.put(&address.octets()),
            IpAddr::V6(address) => self.skip(4).put(&address.octets()),
        };
        self.at = end;
        self
    }

    /// Bit fields: the first one is the lowest bit of a little-endian machine, and the highest of a big-endian one.
    fn flags<const COUNT: usize>(&mut self, flags: [bool; COUNT]) -> &mut Self {
        let mut word = 0_u32;
        for (index, set) in (0_u32..).zip(flags) {
            let bit = if cfg!(target_endian = "big") {
                31_u32.saturating_sub(index)
            } else {
                index
            };
            word |= u32::from(set).checked_shl(bit).unwrap_or_default();
        }
        self.put(&word.to_ne_bytes())
    }
}

/// `struct tcp_ao_add`; `None` for a key that is too long.
fn addition(peers: Prefix, key: &AoKey, preferred: bool) -> Option<[u8; 288]> {
    let length = u8::try_from(key.secret.len()).ok()?;
    if key.secret.len() > MAX_KEY {
        return None;
    }
    let algorithm: &[u8] = match key.algorithm {
        Algorithm::HmacSha1 => b"hmac(sha1)",
        Algorithm::AesCmac => b"cmac(aes128)",
        Algorithm::HmacSha256 => b"hmac(sha256)",
    };
    let mut structure = Structure::new();
    structure
        .address(peers.address())
        .put(algorithm)
        .skip(64_usize.saturating_sub(algorithm.len()))
        .skip(4) // ifindex: no VRF
        .flags([preferred, preferred]) // set_current, set_rnext
        .skip(2)
        .put(&[peers.length(), key.send_id, key.receive_id, MAC, 0, length])
        .put(&key.secret);
    Some(structure.octets)
}

/// `struct tcp_ao_del`, with the key that takes the place of this one.
fn delete(peers: Prefix, key: &AoKey, instead: Option<&AoKey>) -> [u8; 144] {
    let (current, next) = instead.map_or((0, 0), |key| (key.send_id, key.receive_id));
    let mut structure = Structure::new();
    structure
        .address(peers.address())
        .skip(4) // ifindex: no VRF
        .flags([instead.is_some(), instead.is_some()]) // set_current, set_rnext
        .skip(2)
        .put(&[
            peers.length(),
            key.send_id,
            key.receive_id,
            current,
            next,
            0,
        ]);
    structure.octets
}

/// `struct tcp_ao_info_opt` that asks the other side for this key.
fn information(key: &AoKey) -> [u8; 48] {
    let mut structure = Structure::new();
    structure
        .flags([false, true]) // set_current, set_rnext
        .skip(2)
        .put(&[0, key.receive_id]);
    structure.octets
}

#[cfg(test)]
mod tests;
