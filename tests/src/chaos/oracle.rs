//! What must be when all is over: computed from what the fabric is, not from what any daemon says.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::fabric::{Fabric, MORE, NODES, Tor, more, node, pods};
use crate::container::Container;
use crate::kernel::{OURS, Route};
use crate::story::{at, peers};

/// Octets that a daemon may have grown by, besides [`GROWTH`].
const ROOM: u64 = 6 << 20;
/// How much of what it had at first, in percent.
const GROWTH: u64 = 150;

/// Next hops by prefix; none for a blackhole.
type Table = BTreeMap<String, Vec<String>>;

/// What the kernel of a node must hold of ours, and nothing else.
fn expected(number: u8) -> Table {
    let uplinks = |ipv6: bool| -> Vec<String> {
        Tor::ALL
            .iter()
            .map(|tor| tor.address(number, ipv6))
            .collect()
    };
    let mut table = Table::new();
    for ipv6 in [false, true] {
        for other in 1..=NODES {
            let hops = if other == number {
                Vec::new()
            } else {
                uplinks(ipv6)
            };
            table.insert(pods(other, ipv6), hops);
        }
    }
    for extra in 0..MORE {
        table.insert(more(extra), uplinks(false));
    }
    table
}

/// The routes of a protocol, and where each leads, as `by` says.
fn of_protocol(
    container: &Container,
    protocol: &str,
    by: impl Fn(&Route) -> Vec<String>,
) -> Result<Table> {
    let mut all = Table::new();
    for family in ["-4", "-6"] {
        for route in container.routes(family, &["table", "all", "proto", protocol])? {
            let before = all.insert(route.dst.clone(), by(&route));
            ensure!(
                before.is_none(),
                "{}: two routes of protocol {protocol} to {}",
                container.name,
                route.dst
            );
        }
    }
    Ok(all)
}

fn same(name: &str, found: &Table, wanted: &Table) -> Result<()> {
    let wrong: Vec<String> = wanted
        .iter()
        .filter(|(prefix, hops)| found.get(*prefix) != Some(hops))
        .map(|(prefix, hops)| format!("{prefix} by {:?} and not {hops:?}", found.get(prefix)))
        .chain(
            found
                .iter()
                .filter(|(prefix, _)| !wanted.contains_key(*prefix))
                .map(|(prefix, hops)| format!("{prefix} by {hops:?}, which nobody wants")),
        )
        .collect();
    let shown: Vec<_> = wrong.iter().take(6).cloned().collect();
    ensure!(
        wrong.is_empty(),
        "{name}: {} routes are wrong: {}",
        wrong.len(),
        shown.join("; ")
    );
    Ok(())
}

impl Fabric<'_> {
    /// Everything is as it must be: kernels, sessions, and what the daemons say of themselves.
    pub fn is_whole(&self) -> Result<()> {
        for number in 1..=NODES {
            let container = self.lab.node(&node(number))?;
            same(
                &container.name,
                &of_protocol(container, OURS, Route::gateways)?,
                &expected(number),
            )?;
        }
        for tor in Tor::ALL {
            self.tor_is_whole(tor)?;
        }
        for number in 1..=NODES {
            let container = self.lab.node(&node(number))?;
            for (name, peer) in peers(container)? {
                let state = at(&peer, "/state")?;
                ensure!(
                    state == "Established",
                    "{}: {name} is {state}",
                    container.name
                );
            }
            let status = container.routelet(&["status"])?;
            let problems = at(&status, "/problems")?;
            ensure!(
                problems.as_array().is_some_and(Vec::is_empty) && at(&status, "/healthy")? == true,
                "{}: {problems}",
                container.name
            );
        }
        Ok(())
    }

    /// A ToR leads to the pods of each node by the link to it.
    fn tor_is_whole(&self, tor: Tor) -> Result<()> {
        let container = self.lab.node(&tor.name())?;
        let by = |route: &Route| route.dev.iter().cloned().collect();
        let found = of_protocol(container, tor.protocol(), by)?;
        let mut wanted = Table::new();
        for number in 1..=NODES {
            for ipv6 in [false, true] {
                wanted.insert(pods(number, ipv6), vec![format!("eth{number}")]);
            }
        }
        same(&container.name, &found, &wanted)
    }

    /// The next-hop objects of ours on each node.
    pub fn objects(&self) -> Result<BTreeMap<String, usize>> {
        let count = |number: u8| {
            let container = self.lab.node(&node(number))?;
            let text = container.run(&["ip", "-json", "nexthop", "show", "proto", OURS])?;
            let all: Value = if text.trim().is_empty() {
                Value::Array(Vec::new())
            } else {
                serde_json::from_str(&text).with_context(|| text)?
            };
            Ok((container.name.clone(), all.as_array().map_or(0, Vec::len)))
        };
        (1..=NODES).map(count).collect()
    }

    /// Octets of memory that each routelet has.
    pub fn memory(&self) -> Result<BTreeMap<String, u64>> {
        let resident = |number: u8| {
            let container = self.lab.node(&node(number))?;
            let text =
                container.sh("awk '/^VmRSS:/ { print $2 }' /proc/$(cat /run/lab.pid)/status")?;
            let kilobytes: u64 = text.trim().parse().with_context(|| text.clone())?;
            Ok((container.name.clone(), kilobytes << 10))
        };
        (1..=NODES).map(resident).collect()
    }

    /// Fails if a log tells of a panic or an error.
    pub fn logs_are_clean(&self) -> Result<()> {
        for number in 1..=NODES {
            let said = self.lab.said(&node(number));
            let bad: Vec<&str> = said
                .lines()
                .filter(|line| line.contains("panicked") || line.contains("ERROR"))
                .collect();
            ensure!(
                bad.is_empty(),
                "node{number} said:\n{}",
                bad.iter().take(20).copied().collect::<Vec<_>>().join("\n")
            );
        }
        Ok(())
    }
}

/// Fails if a daemon has more than its bound, compared to what all had at first.
pub fn memory_is_bounded(
    first: &BTreeMap<String, u64>,
    last: &BTreeMap<String, u64>,
) -> Result<()> {
    for (name, before) in first {
        let after = last.get(name).copied().unwrap_or_default();
        ensure!(
            after <= before * GROWTH / 100 + ROOM,
            "{name} had {before} octets of memory, has {after}"
        );
    }
    Ok(())
}
