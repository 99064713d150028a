//! How fast routes get into the kernel and out again: the installer, a bare netlink loop, `ip -batch`.
//!
//! `cargo bench -p fib --bench kernel -- [--routes N,N…] [--family 4|6] [--rounds N] [--no-ip]`, as root; everything
//! happens in a network namespace of its own. Times of one machine mean little alone: read the ratios.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark that can't go on ends, and it measures time"
)]

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use fib::{AllowedRange, Change, Config, Fib, Guard, NextHop};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use nix::sched::{CloneFlags, unshare};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// Messages in one send of the bare loop.
const PER_SEND: usize = 512;
/// Changes handed to the installer at a time.
const PER_UPDATE: usize = 1000;

struct Options {
    routes: Vec<usize>,
    families: Vec<u8>,
    rounds: usize,
    ip: bool,
}

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: a network namespace of its own takes root");
        return;
    }
    let options = options();
    // The namespace belongs to this thread and what it starts; it ends with the process.
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    for command in [
        "link set lo up",
        "link add eth0 type veth peer name far0",
        "link set far0 up",
        "link set eth0 up",
        "addr add 10.0.0.1/24 dev eth0",
        "addr add fd00:10::1/64 dev eth0 nodad",
        "link add eth1 type veth peer name far1",
        "link set far1 up",
        "link set eth1 up",
        "addr add 10.0.1.1/24 dev eth1",
        "addr add fd00:11::1/64 dev eth1 nodad",
        "nexthop add id 4 via 10.0.0.2 dev eth0",
        "nexthop add id 6 via fd00:10::2 dev eth0",
    ] {
        ip(command);
    }
    println!(
        "routes/s, best of {} rounds; ratios to the bare loop ({PER_SEND} messages a send)",
        options.rounds
    );
    println!(
        "{:>8} {:>4} {:<7} {:<18} {:>9} {:>8} {:>6} {:>8} {:>6}",
        "routes", "", "", "", "routes/s", "seconds", "ratio", "cpu s", "ratio"
    );
    for &count in &options.routes {
        for &family in &options.families {
            compare(&options, count, family);
        }
    }
    for &family in &options.families {
        repair(family);
    }
}

/// How long 10,000 prefixes with two next hops take to leave a link that lost its carrier (P13).
fn repair(family: u8) {
    const PREFIXES: usize = 10_000;
    let next_hops = if family == 4 {
        ["10.0.0.2", "10.0.1.2"]
    } else {
        ["fd00:10::2", "fd00:11::2"]
    };
    let next_hops = next_hops.map(|address| NextHop::new(address.parse().unwrap()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (took, writes) = runtime.block_on(async {
        let fib = Fib::start(open()).await.unwrap();
        let all = prefixes(PREFIXES, family);
        fib.update(
            all.iter()
                .map(|prefix| Change::wanted(*prefix, next_hops))
                .collect(),
        )
        .await
        .unwrap();
        fib.flush().await.unwrap();
        let before = fib.status().await.unwrap().totals;
        let mut links = fib.links();
        ip("link set far1 down");
        let start = Instant::now();
        let down = |link: &fib::Interface| link.name == "eth1" && !link.up;
        links
            .wait_for(|links| links.iter().any(down))
            .await
            .unwrap();
        fib.flush().await.unwrap();
        let took = start.elapsed();
        let after = fib.status().await.unwrap().totals;
        let writes = after.replaced - before.replaced + after.objects - before.objects;
        fib.update(
            all.iter()
                .map(|prefix| Change::Withdrawn(*prefix))
                .collect(),
        )
        .await
        .unwrap();
        fib.flush().await.unwrap();
        (took, writes)
    });
    ip("link set far1 up");
    println!(
        "{PREFIXES:>8} IPv{family} repair  fib, one of two dead {:>16.4} by {writes} writes",
        took.as_secs_f64()
    );
}

fn open() -> Config {
    let any = |cidr: &str, max_len| AllowedRange {
        cidr: cidr.parse().unwrap(),
        min_len: 1,
        max_len,
    };
    let guard = Guard {
        allowed: vec![any("0.0.0.0/0", 32), any("::/0", 128)],
        ..Guard::default()
    };
    Config {
        guard,
        ..Config::default()
    }
}

fn options() -> Options {
    let mut options = Options {
        routes: vec![100_000, 500_000],
        families: vec![4, 6],
        rounds: 3,
        ip: true,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a value");
        match argument.as_str() {
            "--routes" => {
                options.routes = value()
                    .split(',')
                    .map(|n| n.parse().expect("a number"))
                    .collect()
            }
            "--family" => options.families = vec![value().parse().expect("4 or 6")],
            "--rounds" => options.rounds = value().parse().expect("a number"),
            "--no-ip" => options.ip = false,
            // What cargo adds by itself.
            "--bench" => {}
            other => panic_with(&format!("unknown argument {other}")),
        }
    }
    options
}

fn panic_with(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(2);
}

/// What one phase took.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    /// Of all threads of this process, kernel time included; zero where another process did the work.
    cpu: Duration,
}

impl Cost {
    const MAX: Self = Self {
        wall: Duration::MAX,
        cpu: Duration::MAX,
    };

    fn of(work: impl FnOnce()) -> Self {
        let (start, cpu) = (Instant::now(), cpu());
        work();
        Self {
            wall: start.elapsed(),
            cpu: self::cpu().saturating_sub(cpu),
        }
    }

    fn best(self, other: Self) -> Self {
        Self {
            wall: self.wall.min(other.wall),
            cpu: self.cpu.min(other.cpu),
        }
    }
}

/// Time on a processor of all threads so far; exact while none of them ends.
fn cpu() -> Duration {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let schedule = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanoseconds += schedule
            .split(' ')
            .next()
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Duration::from_nanos(nanoseconds)
}

/// The same of this thread alone.
fn own_cpu() -> Duration {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedule.split(' ').next().unwrap().parse().unwrap())
}

/// All ways, in turn, so that a busy moment hits each alike.
fn compare(options: &Options, count: usize, family: u8) {
    let prefixes = prefixes(count, family);
    let mut best: Vec<(&str, [Cost; 2])> = vec![
        ("bare loop", [Cost::MAX; 2]),
        ("bare loop, nhid", [Cost::MAX; 2]),
        ("fib", [Cost::MAX; 2]),
    ];
    for _ in 0..options.rounds {
        for (name, best) in &mut best {
            let costs = match *name {
                "bare loop" => bare(&prefixes, family, false),
                "bare loop, nhid" => bare(&prefixes, family, true),
                _ => installer(&prefixes, family),
            };
            *best = [best[0].best(costs[0]), best[1].best(costs[1])];
        }
    }
    if options.ip {
        best.push(("ip -batch", ip_batch(&prefixes, family)));
    }
    let floor = best[0].1;
    for (phase, phase_name) in ["install", "remove"].into_iter().enumerate() {
        for (name, costs) in &best {
            let Cost { wall, cpu } = costs[phase];
            let share = floor[phase].cpu.as_secs_f64() / cpu.as_secs_f64();
            println!(
                "{count:>8} IPv{family} {phase_name:<7} {name:<18} {:>9.0} {:>8.3} {:>6.2} {:>8.3} {:>6}",
                count as f64 / wall.as_secs_f64(),
                wall.as_secs_f64(),
                floor[phase].wall.as_secs_f64() / wall.as_secs_f64(),
                cpu.as_secs_f64(),
                if cpu.is_zero() {
                    "-".to_owned()
                } else {
                    format!("{share:.2}")
                },
            );
        }
    }
}

/// Distinct prefixes in no order, as a feed has them.
fn prefixes(count: usize, family: u8) -> Vec<IpNetwork> {
    // An odd factor modulo a power of two visits everything once.
    let mixed = (0..1_u64 << 22).map(|n| (n * 2_654_435_761) & ((1 << 22) - 1));
    let prefix = |n: u64| -> IpNetwork {
        if family == 4 {
            Ipv4Network::new((0x1400_0000 + ((n as u32) << 8)).into(), 24)
                .unwrap()
                .into()
        } else {
            let bits = 0x2a00_0000_0000_0000_0000_0000_0000_0000 | (u128::from(n) << 80);
            Ipv6Network::new(bits.into(), 48).unwrap().into()
        }
    };
    mixed.take(count).map(prefix).collect()
}

fn routes_in_kernel(family: u8) -> usize {
    // /proc/net/route takes quadratic time; a dump does not.
    let output = Command::new("ip")
        .args([&format!("-{family}"), "route", "show", "metric", "1024"])
        .output();
    let listed = output.expect("iproute2 is installed").stdout;
    let start: &[u8] = if family == 4 { b"" } else { b"2a" };
    listed
        .split(|octet| *octet == b'\n')
        .filter(|line| !line.is_empty() && line.starts_with(start))
        .count()
}

fn installer(prefixes: &[IpNetwork], family: u8) -> [Cost; 2] {
    let next_hop = NextHop::new(
        if family == 4 {
            "10.0.0.2"
        } else {
            "fd00:10::2"
        }
        .parse()
        .unwrap(),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let fib = Fib::start(open()).await.unwrap();
        let mut costs = [Cost::MAX; 2];
        for (cost, add) in costs.iter_mut().zip([true, false]) {
            let (start, before) = (Instant::now(), cpu());
            for batch in prefixes.chunks(PER_UPDATE) {
                let change = |prefix: &IpNetwork| {
                    if add {
                        Change::wanted(*prefix, [next_hop])
                    } else {
                        Change::Withdrawn(*prefix)
                    }
                };
                fib.update(batch.iter().map(change).collect())
                    .await
                    .unwrap();
            }
            fib.flush().await.unwrap();
            *cost = Cost {
                wall: start.elapsed(),
                cpu: cpu().saturating_sub(before),
            };
            assert_eq!(
                routes_in_kernel(family),
                if add { prefixes.len() } else { 0 }
            );
        }
        costs
    })
}

/// The least that must be done: prepared messages with the prefix patched in, one acknowledgement a send.
fn bare(prefixes: &[IpNetwork], family: u8, nhid: bool) -> [Cost; 2] {
    let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
    socket.bind_auto().unwrap();
    socket.connect(&SocketAddr::new(0, 0)).unwrap();
    let phase = |add: bool| {
        let template = template(family, add, nhid);
        let (start, before) = (Instant::now(), own_cpu());
        let mut buffer = Vec::with_capacity(PER_SEND * template.len());
        for (n, chunk) in prefixes.chunks(PER_SEND).enumerate() {
            buffer.clear();
            for prefix in chunk {
                let at = buffer.len();
                buffer.extend_from_slice(&template);
                match prefix {
                    IpNetwork::V4(prefix) => {
                        buffer[at + 32..at + 36].copy_from_slice(&prefix.ip().octets())
                    }
                    IpNetwork::V6(prefix) => {
                        buffer[at + 32..at + 48].copy_from_slice(&prefix.ip().octets())
                    }
                }
            }
            let last = buffer.len() - template.len();
            let flags = u16::from_ne_bytes([buffer[last + 6], buffer[last + 7]]) | NLM_F_ACK;
            buffer[last + 6..last + 8].copy_from_slice(&flags.to_ne_bytes());
            buffer[last + 8..last + 12].copy_from_slice(&(n as u32).to_ne_bytes());
            socket.send(&buffer, 0).unwrap();
            let mut answer = Vec::with_capacity(8192);
            socket.recv(&mut answer, 0).unwrap();
            assert_eq!(&answer[16..20], &[0; 4], "the kernel refused a route");
        }
        let cost = Cost {
            wall: start.elapsed(),
            cpu: own_cpu().saturating_sub(before),
        };
        assert_eq!(
            routes_in_kernel(family),
            if add { prefixes.len() } else { 0 }
        );
        cost
    };
    [phase(true), phase(false)]
}

fn template(family: u8, add: bool, nhid: bool) -> Vec<u8> {
    let mut route = RouteMessage::default();
    route.header.protocol = RouteProtocol::Other(200);
    route.header.table = 254;
    let gateway: RouteAddress;
    if family == 4 {
        route.header.address_family = AddressFamily::Inet;
        route.header.destination_prefix_length = 24;
        route
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::Inet(
                [0, 0, 0, 0].into(),
            )));
        gateway = RouteAddress::Inet([10, 0, 0, 2].into());
    } else {
        route.header.address_family = AddressFamily::Inet6;
        route.header.destination_prefix_length = 48;
        route
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::Inet6(0.into())));
        gateway = RouteAddress::Inet6("fd00:10::2".parse().unwrap());
    }
    route.attributes.push(RouteAttribute::Priority(1024));
    let mut message = if add {
        route.header.kind = RouteType::Unicast;
        if nhid {
            route.attributes.push(RouteAttribute::NhId(family.into()));
        } else {
            route.attributes.push(RouteAttribute::Gateway(gateway));
            route.attributes.push(RouteAttribute::Oif(
                nix::net::if_::if_nametoindex("eth0").unwrap(),
            ));
        }
        NetlinkMessage::from(RouteNetlinkMessage::NewRoute(route))
    } else {
        route.header.kind = RouteType::Unspec;
        route.header.scope = RouteScope::NoWhere;
        NetlinkMessage::from(RouteNetlinkMessage::DelRoute(route))
    };
    message.header.flags = if add {
        NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE
    } else {
        NLM_F_REQUEST
    };
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    buffer
}

fn ip_batch(prefixes: &[IpNetwork], family: u8) -> [Cost; 2] {
    let gateway = if family == 4 {
        "10.0.0.2"
    } else {
        "fd00:10::2"
    };
    ["add", "del"].map(|verb| {
        let mut lines = String::new();
        for prefix in prefixes {
            lines +=
                &format!("route {verb} {prefix} via {gateway} dev eth0 proto 200 metric 1024\n");
        }
        let cost = Cost::of(|| {
            let mut command = Command::new("ip");
            command
                .arg(format!("-{family}"))
                .args(["-batch", "-"])
                .stdin(Stdio::piped());
            let mut child = command.spawn().expect("iproute2 is installed");
            child
                .stdin
                .take()
                .unwrap()
                .write_all(lines.as_bytes())
                .unwrap();
            assert!(child.wait().unwrap().success());
        });
        Cost {
            cpu: Duration::ZERO,
            ..cost
        }
    })
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split_whitespace())
        .status()
        .expect("iproute2 is installed");
    assert!(status.success(), "ip {arguments}");
}
