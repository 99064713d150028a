//! Faults done to the fabric, and undone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::fabric::{
    CLOCK, Fabric, HOLD, IMPORT, Tor, advertisement, configuration, node, peer, peer_name,
};
use super::schedule::{End, Fault, Step};
use crate::container::Container;
use crate::wait::{eventually, now, pause};

const ENDS: Duration = Duration::from_secs(30);
/// An object of someone else's.
const FOREIGN_OBJECT: &str = "4242";

/// From when to when something was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Just before.
    pub from: Instant,
    /// Just after.
    pub until: Instant,
}

/// A fault as it really was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// What it was.
    pub fault: Fault,
    /// When it was done.
    pub begun: Span,
    /// When it was undone.
    pub ended: Span,
}

/// One half of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Begin,
    End,
}

impl Fabric<'_> {
    /// Lets the faults happen at their times, and hands back when they really did.
    pub fn suffer(&self, steps: &[Step]) -> Result<Vec<Happened>> {
        let halves = steps.iter().enumerate().flat_map(|(number, step)| {
            [
                (step.at, number, Half::Begin),
                (step.at + step.lasts, number, Half::End),
            ]
        });
        let mut halves: Vec<_> = halves.collect();
        halves.sort_by_key(|(at, number, half)| (*at, *half == Half::End, *number));
        let (start, mut begun, mut all) = (now(), vec![None; steps.len()], Vec::new());
        for (at, number, half) in halves {
            pause((start + at).saturating_duration_since(now()));
            let step = steps.get(number).context("a step")?;
            let span = span(|| match half {
                Half::Begin => self.begin(&step.fault),
                Half::End => self.end(&step.fault),
            })
            .with_context(|| format!("{half:?} of {} at {at:?}", step.fault))?;
            let first = begun.get_mut(number).context("a step")?;
            match (half, *first) {
                (Half::End, Some(begun)) => all.push(Happened {
                    fault: step.fault.clone(),
                    begun,
                    ended: span,
                }),
                _ => *first = Some(span),
            }
        }
        Ok(all)
    }

    fn node(&self, number: u8) -> Result<&Container> {
        self.lab.node(&node(number))
    }

    fn begin(&self, fault: &Fault) -> Result<()> {
        match fault {
            Fault::Restart(number, end) => self.lab.stop(&node(*number), signal(*end)).map(drop),
            Fault::Pause(number) => self.lab.signal(&node(*number), Signal::SIGSTOP),
            Fault::Clock(number, seconds) => self.set_clock(*number, *seconds),
            Fault::CutAtNode(number, tor) => self.node(*number)?.link(&tor.uplink(), "down"),
            Fault::CutAtTor(number, tor) => self.downlink(*tor, *number, "down"),
            Fault::Silence(number, tor) => self.node(*number)?.black_hole(&tor.uplink()),
            Fault::Loss(number, tor, percent) => {
                let rule = format!("numgen random mod 100 < {percent} drop");
                self.node(*number)?.drop_packets(&tor.uplink(), &rule)
            }
            Fault::BgpLoss(number, tor, percent) => {
                let some = format!("numgen random mod 100 < {percent} drop");
                let rule = format!(
                    "meta l4proto tcp th dport 179 {some}; meta l4proto tcp th sport 179 {some}"
                );
                self.node(*number)?.drop_packets(&tor.uplink(), &rule)
            }
            Fault::RestartTor(tor, end) => self.stop_tor(*tor, *end),
            Fault::DeleteRoute(number, prefix) => {
                self.perhaps(*number, &format!("ip route del {prefix} proto 179"))
            }
            Fault::FlushRoutes(number) => self.perhaps(
                *number,
                "ip route flush proto 179; ip -6 route flush proto 179",
            ),
            Fault::DeleteObject(number) => self.perhaps(
                *number,
                "ip nexthop del id $(ip nexthop show proto 179 | awk '/group/ { print $2; exit }')",
            ),
            Fault::Occupy(number, prefix) => {
                let tor = Tor::Frr.address(*number, false);
                let line = format!("ip route replace {prefix} via {tor} metric 1024 proto static");
                self.perhaps(*number, &line)
            }
            Fault::FlushNeighbours(number) => {
                self.perhaps(*number, "ip neigh flush all; ip -6 neigh flush all")
            }
            Fault::Foreign(number) => self.add_foreign(*number),
            Fault::RemovePeer(node, tor, ipv6) => self.remove(&peer_name(*node, *tor, *ipv6)),
            Fault::Prepend(node, tor, ipv6) => {
                let export = "  export:\n    rules:\n    - {match: {origin: PodCIDR}, set: {prepend: {count: 2}}, action: Accept}\n    - {match: {origin: Static}, action: Accept}\n";
                self.write(
                    &peer_name(*node, *tor, *ipv6),
                    &peer(*node, *tor, *ipv6, export),
                )
            }
            Fault::Prefer(node, tor, ipv6) => {
                let preferred = "import: {rules: [{set: {localPreference: 200}, action: Accept}]}";
                let text = peer(*node, *tor, *ipv6, "").replace(IMPORT, preferred);
                self.write(&peer_name(*node, *tor, *ipv6), &text)
            }
            Fault::HoldTime(seconds) => self.write("configuration", &configuration(*seconds)),
            Fault::Advertise(number) => {
                self.write(&format!("more{number}"), &advertisement(*number))
            }
            Fault::Hangup(number) => self.lab.signal(&node(*number), Signal::SIGHUP),
            Fault::InvalidFile => self.write("invalid", "kind: BGPPeer\nspec: [\n"),
        }
    }

    fn end(&self, fault: &Fault) -> Result<()> {
        match fault {
            Fault::Restart(number, _) => self.lab.start(&node(*number)),
            Fault::Pause(number) => self.lab.signal(&node(*number), Signal::SIGCONT),
            Fault::Clock(number, _) => self.set_clock(*number, 0),
            Fault::CutAtNode(number, tor) => self.node(*number)?.link(&tor.uplink(), "up"),
            Fault::CutAtTor(number, tor) => self.downlink(*tor, *number, "up"),
            Fault::Silence(number, tor)
            | Fault::Loss(number, tor, _)
            | Fault::BgpLoss(number, tor, _) => self.node(*number)?.heal(&tor.uplink()),
            Fault::RestartTor(tor, _) => self.start_tor(*tor),
            Fault::Occupy(number, prefix) => {
                let line = format!("ip route del {prefix} metric 1024 proto static");
                self.perhaps(*number, &line)
            }
            Fault::Foreign(number) => self.remove_foreign(*number),
            Fault::RemovePeer(node, tor, ipv6)
            | Fault::Prepend(node, tor, ipv6)
            | Fault::Prefer(node, tor, ipv6) => self.write(
                &peer_name(*node, *tor, *ipv6),
                &peer(*node, *tor, *ipv6, ""),
            ),
            Fault::HoldTime(_) => self.write("configuration", &configuration(HOLD)),
            Fault::Advertise(number) => self.remove(&format!("more{number}")),
            Fault::InvalidFile => self.remove("invalid"),
            Fault::DeleteRoute(..)
            | Fault::FlushRoutes(_)
            | Fault::DeleteObject(_)
            | Fault::FlushNeighbours(_)
            | Fault::Hangup(_) => Ok(()),
        }
    }

    /// A line of shell on a node that may meet nothing to do: another fault was there before.
    fn perhaps(&self, number: u8, line: &str) -> Result<()> {
        self.node(number)?.output(&["bash", "-c", line]).map(drop)
    }

    fn set_clock(&self, number: u8, seconds: i64) -> Result<()> {
        let file = self.node(number)?.path(CLOCK);
        let next = file.with_extension("next");
        std::fs::write(&next, format!("{seconds:+}\n"))?;
        std::fs::rename(&next, &file).context("the clock")
    }

    fn downlink(&self, tor: Tor, number: u8, state: &str) -> Result<()> {
        self.lab
            .node(&tor.name())?
            .link(&format!("eth{number}"), state)
    }

    fn stop_tor(&self, tor: Tor, end: End) -> Result<()> {
        let name = tor.name();
        if tor == Tor::Bird {
            return self.lab.stop(&name, signal(end)).map(drop);
        }
        let (frr, signal) = (self.lab.node(&name)?, signal(end));
        frr.sh(&format!(
            "cp /run/frr/bgpd.pid /run/bgpd.old; kill -{} $(cat /run/bgpd.old)",
            signal.as_str().trim_start_matches("SIG")
        ))?;
        eventually(ENDS, "bgpd ends", || {
            let gone = frr.output(&["bash", "-c", "kill -0 $(cat /run/bgpd.old)"])?;
            ensure!(gone.code != 0, "it still runs");
            Ok(())
        })
    }

    fn start_tor(&self, tor: Tor) -> Result<()> {
        let name = tor.name();
        if tor == Tor::Frr {
            let start = "/usr/lib/frr/watchfrr.sh start bgpd >/dev/null 2>&1 </dev/null";
            return self.lab.node(&name)?.sh(start).map(drop);
        }
        // -R: it takes the routes of before for its own until its peers have told theirs.
        self.lab.node(&name)?.sh("rm -f /run/bird/bird.ctl")?;
        let words = ["bird", "-f", "-R", "-c", "/etc/bird.conf"].map(str::to_owned);
        self.lab.spawn(&name, &words)
    }

    fn add_foreign(&self, number: u8) -> Result<()> {
        self.node(number)?
            .sh(&format!(
                "ip route add blackhole 10.97.0.0/24 metric 1024 proto static
                 ip -6 route add blackhole fd00:97::/64 metric 1024 proto static
                 ip nexthop add id {FOREIGN_OBJECT} blackhole proto static"
            ))
            .map(drop)
    }

    /// What is somebody else's must still be there to be taken away.
    fn remove_foreign(&self, number: u8) -> Result<()> {
        self.node(number)?
            .sh(&format!(
                "set -e
                 ip route del blackhole 10.97.0.0/24 metric 1024 proto static
                 ip -6 route del blackhole fd00:97::/64 metric 1024 proto static
                 ip nexthop del id {FOREIGN_OBJECT}"
            ))
            .map(drop)
    }
}

fn signal(end: End) -> Signal {
    match end {
        End::Kill => Signal::SIGKILL,
        End::Term => Signal::SIGTERM,
    }
}

fn span(act: impl FnOnce() -> Result<()>) -> Result<Span> {
    let from = now();
    act()?;
    Ok(Span { from, until: now() })
}
