//! Holes in the table of a ToR: when it had no route to the pods of a node. FRR 8.4 moves an IPv6 route by taking it away first, and its
//! `bgpd` takes all of them away when it is told to end and tells no peer.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;

use super::fabric::{Fabric, NODES, Tor, pods};
use crate::shell::Background;
use crate::wait::now;

/// A time without a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Whose pods.
    pub node: u8,
    /// In which family.
    pub ipv6: bool,
    /// When the route went.
    pub from: Instant,
    /// When it was back; or the last look.
    pub until: Instant,
}

/// An eye on the table of a ToR.
#[derive(Debug)]
pub struct Watch {
    monitor: Background,
    lines: JoinHandle<Vec<(Instant, String)>>,
}

impl Watch {
    /// Begins to look.
    pub fn start(fabric: Fabric<'_>, tor: Tor) -> Result<Self> {
        let container = fabric.lab.node(&tor.name())?;
        let words = ["stdbuf", "-oL", "ip", "monitor", "route"];
        let mut command = container.tool(&words);
        let mut monitor = Background::start(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
        let stdout = monitor.child().stdout.take().context("no pipe")?;
        let lines = std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.map(|line| (now(), line)).collect()
        });
        Ok(Self { monitor, lines })
    }

    /// Ends it; the holes there were.
    pub fn stop(self) -> Result<Vec<Hole>> {
        self.monitor.stop(Signal::SIGTERM)?;
        let lines = self.lines.join();
        let lines = lines.map_err(|_| anyhow!("the reader of ip monitor panicked"))?;
        Ok(holes(&lines, now()))
    }
}

fn holes(lines: &[(Instant, String)], end: Instant) -> Vec<Hole> {
    let mut all = Vec::new();
    for node in 1..=NODES {
        for ipv6 in [false, true] {
            let prefix = pods(node, ipv6);
            let mut gone: Option<Instant> = None;
            let about = |line: &str| line.split(' ').any(|word| word == prefix);
            for (at, line) in lines.iter().filter(|(_, line)| about(line)) {
                if line.starts_with("Deleted ") {
                    gone.get_or_insert(*at);
                } else if let Some(from) = gone.take() {
                    all.push(Hole {
                        node,
                        ipv6,
                        from,
                        until: *at,
                    });
                }
            }
            if let Some(from) = gone {
                all.push(Hole {
                    node,
                    ipv6,
                    from,
                    until: end,
                });
            }
        }
    }
    all
}

/// What the reader may be late by.
const LATE: Duration = Duration::from_millis(200);

impl Hole {
    /// Whether what was sent then to the pods of `node` may have met it.
    #[must_use]
    pub fn explains(&self, node: u8, ipv6: bool, sent: Instant) -> bool {
        let met = sent + LATE >= self.from && sent <= self.until + LATE;
        (self.node, self.ipv6) == (node, ipv6) && met
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::holes;
    use crate::wait::now;

    #[test]
    fn a_hole_is_from_the_deletion_to_the_next_route() {
        let start = now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let told = [
            (
                0,
                "10.244.3.0/24 via 10.1.3.1 dev eth3 proto bgp metric 20 ",
            ),
            (
                1,
                "Deleted 10.244.3.0/24 via 10.1.3.1 dev eth3 proto bgp metric 20 ",
            ),
            (
                2,
                "Deleted fd00:10:244:4::/64 via fe80::1 dev eth4 proto bgp metric 20 pref medium",
            ),
            (
                3,
                "10.244.3.0/24 via 10.255.0.1 dev eth9 proto bgp metric 20 ",
            ),
        ];
        let lines: Vec<_> = told
            .iter()
            .map(|(at, line)| (after(*at), (*line).to_owned()))
            .collect();
        let seen = holes(&lines, after(9));
        let seen: Vec<_> = seen
            .iter()
            .map(|hole| (hole.node, hole.ipv6, hole.from - start, hole.until - start))
            .collect();
        let seconds = Duration::from_secs;
        assert_eq!(
            seen,
            [
                (3, false, seconds(1), seconds(3)),
                (4, true, seconds(2), seconds(9))
            ]
        );
    }
}
