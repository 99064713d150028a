//! A throw-away pair of network namespaces: the device in one, all its peers in the other.
//!
//! ```text
//! device namespace                      load namespace (the calling thread)
//! dut 10.0.0.1/16, fd00:10::a00:1/64 ── load: 10.0.128.0/17, fd00:10::a00:8000/113, all local
//! ```
//! They have no name: they go with the thread and the processes in them.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
        setsockopt, socket, sockopt,
    },
};

use super::{message::mapped, table::Prefix4};

/// The device's address.
pub const DEVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// The address of our speaker `number`.
#[must_use]
pub fn speaker(number: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 128 + (number / 250) as u8, 1 + (number % 250) as u8)
}

/// The two namespaces. The thread that made it stands in the load's.
#[derive(Debug)]
pub struct Arena {
    device: File,
    load: File,
    fib: File,
    netlink: OwnedFd,
}

impl Arena {
    /// Makes both, joined by a veth pair. The calling thread ends up in the load's namespace, for good.
    ///
    /// # Errors
    /// Not root, or `ip` is missing.
    pub fn new(speakers: u32) -> Result<Self> {
        let device = enter_new()?;
        // It says how many prefixes the namespace has in which it is opened, whoever reads it.
        let fib = File::open("/proc/thread-self/net/fib_triestat")?;
        let kind = SockFlag::SOCK_CLOEXEC;
        let netlink = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            kind,
            SockProtocol::NetlinkRoute,
        )?;
        let load = enter_new()?;
        let there = format!("/proc/{}/fd/{}", std::process::id(), device.as_raw_fd());
        ip(&[
            "link", "add", "load", "type", "veth", "peer", "name", "dut", "netns", &there,
        ])?;
        let arena = Self {
            device,
            load,
            fib,
            netlink,
        };
        batch(
            "link set lo up\nlink set load up\naddress add 10.0.255.254/16 dev load\n\
             route add local 10.0.128.0/17 dev lo\nroute add local fd00:10::a00:8000/113 dev lo\n",
        )?;
        let mac = mac_of("load")?;
        arena.in_device(|| {
            // Neighbours known for good: address resolution is not what is measured.
            let mut lines = format!(
                "link set lo up\nlink set dut up\naddress add {DEVICE}/16 dev dut\n\
                 address add {}/64 dev dut nodad\n",
                mapped(DEVICE)
            );
            for number in 0..speakers {
                let address = speaker(number);
                lines += &format!("neighbour add {address} lladdr {mac} dev dut nud permanent\n");
                lines += &format!(
                    "neighbour add {} lladdr {mac} dev dut nud permanent\n",
                    mapped(address)
                );
            }
            batch(&lines)
        })?;
        Ok(arena)
    }

    /// Does something in the device's namespace.
    ///
    /// # Errors
    /// What it says.
    pub fn in_device<T>(&self, what: impl FnOnce() -> Result<T>) -> Result<T> {
        setns(&self.device, CloneFlags::CLONE_NEWNET)?;
        let result = what();
        setns(&self.load, CloneFlags::CLONE_NEWNET)?;
        result
    }

    /// Gives the device another address, one of those that are else the load's.
    ///
    /// # Errors
    /// `ip` is missing.
    pub fn stands_at(&self, address: Ipv4Addr) -> Result<()> {
        let address6 = mapped(address);
        batch(&format!(
            "route add unicast {address}/32 dev load table local\n\
             route add unicast {address6}/128 dev load table local\n"
        ))?;
        self.in_device(|| {
            batch(&format!(
                "address add {address}/16 dev dut\naddress add {address6}/64 dev dut nodad\n"
            ))
        })
    }

    /// How many unicast routes of routelet's protocol the device's kernel has, both families together.
    ///
    /// # Errors
    /// No netlink.
    pub fn kernel_routes(&self) -> Result<usize> {
        Ok(self.dump(2)? + self.dump(10)?)
    }

    fn dump(&self, family: u8) -> Result<usize> {
        // nlmsghdr (RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP) and rtmsg.
        let mut request = [0; 28];
        request[0] = 28;
        request[4] = 26;
        request[6..8].copy_from_slice(&0x301_u16.to_ne_bytes());
        request[16] = family;
        send(self.netlink.as_raw_fd(), &request, MsgFlags::empty())?;
        let mut buffer = vec![0; 64 * 1024];
        let mut found = 0;
        loop {
            let count = recv(self.netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            found += ours(&buffer[..count], RTM_NEWROUTE);
            match buffer.get(4) {
                // NLMSG_DONE is a datagram of its own.
                Some(3) => return Ok(found),
                Some(2) | None => bail!("no dump of the routes"),
                Some(_) => {}
            }
        }
    }

    /// Counts from now on what leaves the device's kernel.
    ///
    /// # Errors
    /// No netlink.
    pub fn watch_deletions(&self) -> Result<Deletions> {
        // RTNLGRP_IPV4_ROUTE and RTNLGRP_IPV6_ROUTE.
        const GROUPS: u32 = 1 << 6 | 1 << 10;
        self.in_device(|| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
            let netlink = socket(family, kind, flags, SockProtocol::NetlinkRoute)?;
            bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
            setsockopt(&netlink, sockopt::RcvBufForce, &(16 << 20))?;
            Ok(Deletions { netlink })
        })
    }

    /// Starts a program in the device's namespace.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.in_device(|| {
            command
                .spawn()
                .with_context(|| format!("start {:?}", command.get_program()))
        })
    }

    /// How many IPv4 prefixes the device's kernel has, its own addresses included. Takes no lock that a writer wants.
    ///
    /// # Errors
    /// The kernel does not say (`CONFIG_IP_FIB_TRIE_STATS`).
    pub fn kernel_prefixes(&mut self) -> Result<usize> {
        self.fib.rewind()?;
        let mut text = String::new();
        self.fib.read_to_string(&mut text)?;
        // Main and Local are one trie as long as nobody adds a rule: it is then shown under both names.
        let main = text.lines().skip_while(|line| *line != "Main:");
        let count = main
            .filter_map(|line| line.trim().strip_prefix("Prefixes:"))
            .next();
        Ok(count
            .context("no Prefixes in fib_triestat")?
            .trim()
            .parse()?)
    }

    /// Whether the device's kernel has a route for exactly this prefix. Costs microseconds however many it has.
    ///
    /// # Errors
    /// No netlink.
    pub fn kernel_has(&self, prefix: Prefix4) -> Result<bool> {
        const RTM_F_FIB_MATCH: u32 = 0x2000;
        // nlmsghdr (RTM_GETROUTE, NLM_F_REQUEST), rtmsg (AF_INET, a host's address) and RTA_DST.
        let mut request = [0; 36];
        request[0] = 36;
        request[4] = 26;
        request[6] = 1;
        request[16] = 2;
        request[17] = 32;
        request[24..28].copy_from_slice(&RTM_F_FIB_MATCH.to_ne_bytes());
        request[28] = 8;
        request[30] = 1;
        request[32..].copy_from_slice(&prefix.address.to_be_bytes());
        send(self.netlink.as_raw_fd(), &request, MsgFlags::empty())?;
        let mut answer = [0; 1024];
        recv(self.netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        // RTM_NEWROUTE with rtm_dst_len, or an error: unreachable.
        Ok(answer[4] == 24 && answer[17] == prefix.length)
    }

    /// How many next hops of the device's IPv4 routes are this address.
    ///
    /// # Errors
    /// No netlink.
    pub fn kernel_next_hops(&self, address: Ipv4Addr) -> Result<usize> {
        // nlmsghdr (RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP) and rtmsg (AF_INET).
        let mut request = [0; 28];
        request[0] = 28;
        request[4] = 26;
        request[6..8].copy_from_slice(&0x301_u16.to_ne_bytes());
        request[16] = 2;
        send(self.netlink.as_raw_fd(), &request, MsgFlags::empty())?;
        // RTA_GATEWAY as it stands in a route, alone or in RTA_MULTIPATH.
        let mut gateway = [8, 0, 5, 0, 0, 0, 0, 0];
        gateway[4..].copy_from_slice(&address.octets());
        let mut buffer = vec![0; 64 * 1024];
        let mut found = 0;
        loop {
            let count = recv(self.netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let octets = &buffer[..count];
            // Attributes are aligned to four octets.
            let words = octets.chunks_exact(4);
            let pairs = words.clone().zip(words.skip(1));
            found += pairs
                .filter(|(head, value)| **head == gateway[..4] && **value == gateway[4..])
                .count();
            match octets.get(4) {
                // NLMSG_DONE is a datagram of its own.
                Some(3) => return Ok(found),
                Some(2) | None => bail!("no dump of the routes"),
                Some(_) => {}
            }
        }
    }
}

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;

/// How many of these netlink messages are of that type, and about a unicast route of routelet's protocol.
fn ours(mut messages: &[u8], kind: u16) -> usize {
    const PROTOCOL: u8 = 179;
    const RTN_UNICAST: u8 = 1;
    let mut found = 0;
    while let Some(header) = messages.first_chunk::<24>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let is_kind = u16::from_ne_bytes([header[4], header[5]]) == kind;
        found += usize::from(is_kind && header[21] == PROTOCOL && header[23] == RTN_UNICAST);
        // Messages are aligned to four octets.
        messages = messages
            .get(length.max(24).next_multiple_of(4)..)
            .unwrap_or_default();
    }
    found
}

/// A listener for routes that leave the device's kernel.
#[derive(Debug)]
pub struct Deletions {
    netlink: OwnedFd,
}

impl Deletions {
    /// How many of routelet's have left since the last time.
    ///
    /// # Errors
    /// More happened than it could hear.
    pub fn count(&self) -> Result<usize> {
        let mut buffer = vec![0; 64 * 1024];
        let mut found = 0;
        loop {
            match recv(self.netlink.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(count) => found += ours(&buffer[..count], RTM_DELROUTE),
                Err(Errno::EAGAIN) => return Ok(found),
                Err(error) => return Err(error).context("hear of routes"),
            }
        }
    }
}

fn enter_new() -> Result<File> {
    unshare(CloneFlags::CLONE_NEWNET).context("a new network namespace (needs root)")?;
    Ok(File::open("/proc/thread-self/ns/net")?)
}

fn ip(arguments: &[&str]) -> Result<()> {
    let status = Command::new("ip")
        .args(arguments)
        .status()
        .context("run ip")?;
    ensure!(status.success(), "ip {arguments:?}: {status}");
    Ok(())
}

fn batch(lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("run ip")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes())?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "ip -batch: {status}");
    Ok(())
}

fn mac_of(link: &str) -> Result<String> {
    let output = Command::new("ip")
        .args(["-brief", "link", "show", link])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.split_whitespace().nth(2) {
        Some(mac) => Ok(mac.to_owned()),
        None => bail!("no MAC address of {link}: {text}"),
    }
}
