//! The kernel's routes and links of a node, and a watch over them.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::Value;

use crate::container::Container;
use crate::shell::Background;
use crate::wait::eventually;

/// One route, as `ip -json route` shows it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Route {
    /// `default`, an address or a prefix.
    pub dst: String,
    /// `unicast` where absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Who installed it: a name, or a number where iproute2 knows none.
    pub protocol: Option<String>,
    /// Lower wins.
    pub metric: Option<u32>,
    /// The next hop's address.
    pub gateway: Option<String>,
    /// The next hop's address where its family is another one.
    pub via: Option<Value>,
    /// Where it leaves.
    pub dev: Option<String>,
    /// More than one next hop.
    #[serde(default)]
    pub nexthops: Vec<NextHop>,
    /// `dead`, `linkdown`, `onlink` …
    #[serde(default)]
    pub flags: Vec<String>,
}

/// One of several next hops.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct NextHop {
    /// Its address.
    pub gateway: Option<String>,
    /// Where it leaves.
    pub dev: Option<String>,
    /// Its share.
    pub weight: Option<u32>,
    /// `dead`, `linkdown` …
    #[serde(default)]
    pub flags: Vec<String>,
}

impl Route {
    /// The addresses of all its next hops, sorted.
    #[must_use]
    pub fn gateways(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .gateway
            .iter()
            .cloned()
            .chain(self.nexthops.iter().filter_map(|hop| hop.gateway.clone()))
            .collect();
        all.sort();
        all
    }
}

impl Route {
    /// The interfaces it leaves by, sorted.
    #[must_use]
    pub fn devices(&self) -> Vec<String> {
        let hops = self.nexthops.iter().filter_map(|hop| hop.dev.clone());
        let mut all: Vec<String> = self.dev.iter().cloned().chain(hops).collect();
        all.sort();
        all
    }
}

/// routelet's protocol number, as iproute2 shows it.
pub const OURS: &str = "179";

fn family_of(prefix: &str) -> &'static str {
    if prefix.contains(':') { "-6" } else { "-4" }
}

impl Container {
    /// The routes that `ip route show FILTER` selects, of `-4` or `-6`.
    pub fn routes(&self, family: &str, filter: &[&str]) -> Result<Vec<Route>> {
        let words: Vec<&str> = ["ip", "-json", family, "route", "show"]
            .iter()
            .chain(filter)
            .copied()
            .collect();
        let text = self.run(&words)?;
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_str(&text).with_context(|| text)
    }

    /// The routes to exactly `prefix`, whoever installed them, but for blackholes.
    pub fn routes_to(&self, prefix: &str) -> Result<Vec<Route>> {
        let routes = self.routes(family_of(prefix), &["table", "all", "exact", prefix])?;
        Ok(routes
            .into_iter()
            .filter(|route| {
                !matches!(
                    route.kind.as_deref(),
                    Some("blackhole" | "unreachable" | "local" | "multicast" | "anycast")
                )
            })
            .collect())
    }

    /// The one route of ours to `prefix`.
    pub fn our_route(&self, prefix: &str) -> Result<Route> {
        let all = self.routes_to(prefix)?;
        let mut ours = all
            .iter()
            .filter(|route| route.protocol.as_deref() == Some(OURS));
        let first = ours.next().with_context(|| {
            format!("{}: no route of ours to {prefix}, only {all:?}", self.name)
        })?;
        ensure!(
            ours.next().is_none(),
            "{}: two routes of ours to {prefix}: {all:?}",
            self.name
        );
        Ok(first.clone())
    }

    /// Fails where there is still a route of ours to `prefix`.
    pub fn no_route_of_ours(&self, prefix: &str) -> Result<()> {
        let left = self
            .routes_to(prefix)?
            .into_iter()
            .find(|route| route.protocol.as_deref() == Some(OURS));
        ensure!(left.is_none(), "{}: still {left:?}", self.name);
        Ok(())
    }

    /// How many routes of `protocol` there are in the main table.
    pub fn count_routes(&self, family: &str, protocol: &str) -> Result<usize> {
        let count = self.sh(&format!(
            "ip {family} route show table main proto {protocol} | grep -c '^[^ \t]' || true"
        ))?;
        count.trim().parse().context("count")
    }

    /// Takes an interface down or up.
    pub fn link(&self, interface: &str, state: &str) -> Result<()> {
        self.run(&["ip", "link", "set", interface, state]).map(drop)
    }

    /// Drops every packet that arrives by or leaves through `interface`, without the link going down: a silent loss.
    pub fn black_hole(&self, interface: &str) -> Result<()> {
        self.drop_packets(interface, "drop")
    }

    /// Drops those packets that this rule of nftables says, both ways: `numgen random mod 100 < 20 drop`.
    pub fn drop_packets(&self, interface: &str, rule: &str) -> Result<()> {
        let chain = |name: &str, hook: &str| {
            format!(
                "chain {name} {{ type filter hook {hook} device \"{interface}\" priority -500; {rule}; }}"
            )
        };
        self.sh(&format!(
            "nft -f - <<'END'\ntable netdev lab_{interface} {{\n  {}\n  {}\n}}\nEND",
            chain("in", "ingress"),
            chain("out", "egress")
        ))
        .map(drop)
    }

    /// Undoes [`Container::black_hole`] and [`Container::drop_packets`].
    pub fn heal(&self, interface: &str) -> Result<()> {
        self.run(&[
            "nft",
            "delete",
            "table",
            "netdev",
            &format!("lab_{interface}"),
        ])
        .map(drop)
    }

    /// Starts recording every change of routes and next-hop objects.
    pub fn watch_routes(&self) -> Result<RouteMonitor> {
        RouteMonitor::start(self)
    }
}

/// A recorder of route changes.
#[derive(Debug)]
pub struct RouteMonitor {
    monitor: Background,
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl RouteMonitor {
    fn start(container: &Container) -> Result<Self> {
        let mut monitor = Background::start(
            container
                .tool(&["stdbuf", "-oL", "ip", "monitor", "route"])
                .stdout(Stdio::piped())
                .stderr(Stdio::null()),
        )?;
        let stdout = monitor.child().stdout.take().context("no pipe")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        let watch = Self {
            monitor,
            lines,
            reader,
        };
        // It says nothing by itself: a change of the lab's own shows that it listens.
        let marks = || {
            watch
                .lines()
                .iter()
                .filter(|line| line.contains("198.18.255.255"))
                .count()
        };
        eventually(Duration::from_secs(5), "ip monitor listens", || {
            container.sh("ip route replace blackhole 198.18.255.255 table 99; ip route del blackhole 198.18.255.255 table 99")?;
            ensure!(marks() > 0, "not yet");
            Ok(())
        })?;
        Ok(watch)
    }

    /// What was seen so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The lines that tell of a deletion of a route to `prefix`.
    #[must_use]
    pub fn deletions(&self, prefix: &str) -> Vec<String> {
        self.lines()
            .into_iter()
            .filter(|line| {
                line.starts_with("Deleted ") && line.split_whitespace().any(|word| word == prefix)
            })
            .collect()
    }

    /// Ends the recording; everything that was seen.
    pub fn stop(self) -> Result<Vec<String>> {
        // Not SIGINT: whoever runs the tests in the background has it ignored, and children inherit that.
        self.monitor.stop(Signal::SIGTERM)?;
        let _ = self.reader.join();
        Ok(std::mem::take(
            &mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}
