//! Brings the keys of a listening socket in step with what they should be.

use std::{io, net::SocketAddr, os::fd::AsFd};

use super::{
    keys::{Keys, Md5Keys},
    room,
};
use crate::{
    peer::socket_options::{ao, set_md5_key},
    prefix::Family,
};

/// Brings the socket's keys in step with `wanted`; what went wrong, in words. Where nothing changes its kind, keys go when the new
/// ones are there: so no peer is without one in between. An address cannot have keys of both kinds.
pub(super) fn install(
    address: SocketAddr,
    listener: &impl AsFd,
    installed: &mut Keys,
    wanted: &Keys,
) -> Result<(), String> {
    let mut wanted = wanted.clone();
    let family = Family::of(address.ip());
    wanted.md5.retain(|peers, _| peers.family() == family);
    wanted.ao.retain(|peers, _| peers.family() == family);
    remove_ao(address, listener, installed, &wanted);
    // Some find room only where others had been.
    let first = add_md5(address, listener, &mut installed.md5, &wanted.md5);
    installed.md5.retain(|peers, _| {
        let stays = wanted.md5.contains_key(peers);
        if !stays && let Err(error) = set_md5_key(listener, *peers, &[]) {
            tracing::debug!(%address, %peers, %error, "an MD5 key was not there to remove");
        }
        stays
    });
    let again = |_| add_md5(address, listener, &mut installed.md5, &wanted.md5);
    let md5 = first.or_else(again).map_err(|problem| {
        let limit = room::optmem_max();
        limit
            .and_then(|limit| room::crowded(address, wanted.md5.len(), limit))
            .unwrap_or(problem)
    });
    let ao = add_ao(address, listener, installed, &wanted);
    md5.and(ao)
}

/// Adds the MD5 keys that are not there yet, as many as can be; the last that could not, in words.
fn add_md5(
    address: SocketAddr,
    listener: &impl AsFd,
    installed: &mut Md5Keys,
    wanted: &Md5Keys,
) -> Result<(), String> {
    let mut result = Ok(());
    for (peers, key) in wanted {
        if installed.get(peers) == Some(key) {
            continue;
        }
        match set_md5_key(listener, *peers, key) {
            Ok(()) => drop(installed.insert(*peers, key.clone())),
            Err(error) => {
                let remedy = match error.raw_os_error() {
                    Some(libc::EPERM) => "the capability NET_ADMIN is needed",
                    Some(libc::ENOPROTOOPT) => "this kernel has no TCP_MD5SIG",
                    Some(libc::ENOMEM) => {
                        "one socket has room for no more keys: raise net.core.optmem_max on this node; it is tried again"
                    }
                    _ => "is the password 1–80 octets long?",
                };
                result = Err(format!(
                    "{address}: no MD5 key for {peers}: {error}; {remedy}"
                ));
            }
        }
    }
    result
}

/// Takes off TCP-AO keys that are not wanted any more, or differently.
fn remove_ao(address: SocketAddr, listener: &impl AsFd, installed: &mut Keys, wanted: &Keys) {
    installed.ao.retain(|peers, keys| {
        let stay = wanted.ao.get(peers);
        let (left, gone): (Vec<_>, Vec<_>) = keys
            .iter()
            .cloned()
            .partition(|key| stay.is_some_and(|stay| stay.contains(key)));
        if let Err(error) = ao::remove_keys(listener, *peers, &gone) {
            tracing::debug!(%address, %peers, %error, "a TCP-AO key was not there to remove");
        }
        *keys = left.into();
        !keys.is_empty()
    });
}

/// Adds the TCP-AO keys that are not there yet; the last that could not be added, in words. A kernel without TCP-AO is told of by
/// each peer that is held down over it.
fn add_ao(
    address: SocketAddr,
    listener: &impl AsFd,
    installed: &mut Keys,
    wanted: &Keys,
) -> Result<(), String> {
    let mut result = Ok(());
    if !ao::is_known() {
        return result;
    }
    for (peers, keys) in &wanted.ao {
        let known = installed.ao.get(peers);
        let added: Vec<_> = keys
            .iter()
            .filter(|key| known.is_none_or(|known| !known.contains(key)))
            .cloned()
            .collect();
        match ao::add_keys(listener, *peers, &added, ao::Role::Listens) {
            Ok(()) => drop(installed.ao.insert(*peers, keys.clone())),
            Err(error) => {
                // All or none: some may be there by now.
                drop(ao::remove_keys(listener, *peers, &added));
                result = Err(format!(
                    "{address}: no TCP-AO key for {peers}: {error}; {}",
                    remedy(&error)
                ));
            }
        }
    }
    result
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EKEYREJECTED) => {
            "another peer with this address has an MD5 password: give both the same kind"
        }
        Some(libc::EEXIST) => {
            "another peerRange or peer has a key with this ID for the same addresses"
        }
        Some(libc::ENOENT) => {
            "this kernel has no such algorithm (CONFIG_CRYPTO_HMAC, CONFIG_CRYPTO_CMAC)"
        }
        Some(libc::ENOMEM) => {
            "one socket has room for no more keys: raise net.core.optmem_max on this node"
        }
        _ => "it is tried again",
    }
}
