//! How many MD5 keys one socket has room for: `net.core.optmem_max` says it.

use std::net::SocketAddr;

/// What the kernel counts for a key (`struct tcp_md5sig_key` of a 64-bit machine).
const KEY: usize = 136;

/// `net.core.optmem_max`; `None` where this network namespace does not show it (before Linux 6.8, in all but the first one).
pub(super) fn optmem_max() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/sys/net/core/optmem_max").ok()?;
    text.trim().parse().ok()
}

/// Keys that fit (sock_kmalloc: what is taken stays below the limit).
fn room(optmem_max: usize) -> usize {
    optmem_max.saturating_sub(1) / KEY
}

/// That a socket has no room for all these keys, with the remedy.
pub(super) fn crowded(address: SocketAddr, needed: usize, optmem_max: usize) -> Option<String> {
    let room = room(optmem_max);
    let enough = needed
        .saturating_add(1)
        .saturating_mul(KEY)
        .next_power_of_two();
    (needed > room).then(|| {
        format!(
            "{address}: {needed} MD5 keys are needed and one socket has room for {room} (net.core.optmem_max is {optmem_max}): \
             peers beyond them cannot dial in; set the sysctl net.core.optmem_max={enough} on this node, or give peers that are \
             neighbours of each other one password, which takes one key; it is tried again"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::{peer::socket_options::set_md5_key, prefix::Prefix};

    #[test]
    fn more_keys_than_fit_are_told_with_the_value_to_set() {
        let address = SocketAddr::from(([10, 0, 0, 1], 179));
        assert_eq!(crowded(address, 963, 131_072), None);
        let text = crowded(address, 1_500, 131_072).expect("it is too much");
        for part in [
            "10.0.0.1:179",
            "1500 MD5 keys are needed",
            "room for 963",
            "net.core.optmem_max is 131072",
            "sysctl net.core.optmem_max=262144",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(crowded(address, 1_500, 262_144), None);
        assert!(crowded(address, 151, 20_480).is_some(), "before Linux 6.8");
    }

    #[test]
    fn a_socket_has_room_for_as_many_as_is_said_and_then_refuses() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
        let refused = (0..1_000_000_u32).find_map(|host| {
            let peer = Prefix::host(Ipv4Addr::from(0x0a00_0000 + host).into());
            let error = set_md5_key(&socket, peer, b"key").err()?;
            Some((usize::try_from(host).expect("it fits"), error))
        });
        let (taken, error) = refused.expect("it ends");
        match error.raw_os_error() {
            Some(libc::EPERM) => println!("skipped: MD5 keys need CAP_NET_ADMIN on this kernel"),
            error => assert_eq!(error, Some(libc::ENOMEM)),
        }
        match optmem_max() {
            None => println!("skipped: this network namespace does not show net.core.optmem_max"),
            Some(_) if taken == 0 => {}
            Some(limit) => assert_eq!(taken, room(limit)),
        }
    }
}
