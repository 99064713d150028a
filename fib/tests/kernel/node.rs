//! A network namespace that lives as long as its test, with links to nowhere in particular.

use std::{
    future::Future,
    process::{Command, Output},
    time::Duration,
};

use fib::{AllowedRange, Change, Config, Fib, Guard, NextHop};
use nix::sched::{CloneFlags, unshare};

/// How long anything may take; far more than it should.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test in a fresh network namespace with `eth0` (10.0.0.1/24, fd00:10::1/64) and `eth1` (10.0.1.1/24,
/// fd00:11::1/64), both veths whose far ends `far0` and `far1` are in the same namespace, without addresses.
pub(crate) fn in_a_node<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: a network namespace of its own takes root");
        return;
    }
    std::thread::scope(|scope| {
        let body = move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            ip("link set lo up");
            for (n, v4, v6) in [
                (0, "10.0.0.1/24", "fd00:10::1/64"),
                (1, "10.0.1.1/24", "fd00:11::1/64"),
            ] {
                ip(&format!("link add eth{n} type veth peer name far{n}"));
                ip(&format!("link set far{n} up"));
                ip(&format!("link set eth{n} up"));
                ip(&format!("addr add {v4} dev eth{n}"));
                ip(&format!("addr add {v6} dev eth{n} nodad"));
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::time::timeout(PATIENCE * 10, test())
                    .await
                    .expect("the test ends in time");
            });
        };
        // A namespace belongs to a thread: this one ends with the test.
        std::thread::Builder::new()
            .spawn_scoped(scope, body)
            .unwrap();
    });
}

fn run(arguments: &str) -> Output {
    Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("iproute2 is installed")
}

/// Runs `ip` in the test's namespace; it must succeed.
pub(crate) fn ip(arguments: &str) -> String {
    let output = run(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The routes of one protocol in a table, one a line, IPv4 then IPv6, without what says nothing.
pub(crate) fn routes(protocol: u8) -> Vec<String> {
    let mut lines = Vec::new();
    for family in ["-4", "-6"] {
        let output = run(&format!("{family} route show table 254 proto {protocol}"));
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            match line.strip_prefix("nexthop") {
                Some(hop) => lines
                    .last_mut()
                    .map(|last: &mut String| last.push_str(&format!(" |{hop}"))),
                None => {
                    lines.push(line.replace(" pref medium", ""));
                    Some(())
                }
            };
        }
    }
    lines
}

/// Waits until `condition` gives something, asking often; fails with `what` when patience ends.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let asked = async {
        let mut interval = tokio::time::interval(Duration::from_millis(10));
        loop {
            if let Some(result) = condition() {
                return result;
            }
            interval.tick().await;
        }
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(result) => result,
        Err(_) => panic!("never came: {what}\n{}", ip("route show table all")),
    }
}

/// Waits until the routes of our protocol are exactly these.
pub(crate) async fn expect_routes(expected: &[&str]) {
    let asked = async {
        let mut interval = tokio::time::interval(Duration::from_millis(10));
        while routes(179) != expected {
            interval.tick().await;
        }
    };
    if tokio::time::timeout(PATIENCE, asked).await.is_err() {
        assert_eq!(routes(179), expected);
    }
}

/// Everything allowed but the node's own networks.
pub(crate) fn open_config() -> Config {
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

pub(crate) async fn start(config: Config) -> Fib {
    Fib::start(config).await.expect("the installer starts")
}

pub(crate) fn want(prefix: &str, next_hops: &[&str]) -> Change {
    let next_hops = next_hops
        .iter()
        .map(|hop| NextHop::new(hop.parse().unwrap()));
    Change::wanted(prefix.parse().unwrap(), next_hops)
}

pub(crate) fn withdraw(prefix: &str) -> Change {
    Change::Withdrawn(prefix.parse().unwrap())
}

/// The index of an interface.
pub(crate) fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

/// `ip monitor route` beside the test.
pub(crate) struct Monitor {
    child: std::process::Child,
    output: std::io::BufReader<std::process::ChildStdout>,
    marker: u32,
}

impl Monitor {
    /// Returns once it listens.
    pub(crate) fn start() -> Self {
        let mut child = Command::new("ip")
            .args(["-o", "monitor", "route"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut monitor = Self {
            child,
            output,
            marker: 0,
        };
        // It says nothing when it is ready: a route that comes and goes until it is seen does.
        monitor.wait_for_marker();
        monitor
    }

    fn wait_for_marker(&mut self) -> Vec<String> {
        use std::io::BufRead;
        self.marker += 1;
        let marker = format!("192.0.2.{}", self.marker);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let mut lines = Vec::new();
        std::thread::scope(|scope| {
            let (stop, marker) = (&stop, &marker);
            scope.spawn(move || {
                nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    ip(&format!("route replace {marker} dev eth0 metric 9"));
                    ip(&format!("route del {marker} dev eth0 metric 9"));
                }
            });
            loop {
                let mut line = String::new();
                assert!(
                    self.output.read_line(&mut line).unwrap() > 0,
                    "the monitor ended"
                );
                if line.contains(marker) {
                    break;
                }
                lines.push(line);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        lines
    }

    /// Everything it saw of routes under our protocol numbers.
    pub(crate) fn stop(&mut self) -> Vec<String> {
        let mut lines = self.wait_for_marker();
        lines.retain(|line| line.contains(" proto 179 ") || line.contains(" proto 180 "));
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        lines
    }
}

/// Runs `ip -batch` over these lines.
pub(crate) fn ip_batch(lines: &str) {
    use std::io::Write;
    let mut command = Command::new("ip");
    let mut child = command
        .args(["-batch", "-"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}
