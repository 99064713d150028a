//! What becomes of routes while the one who told them is away.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::column::{Column, SOON, THEIR_PODS};
use crate::kernel::RouteMonitor;
use crate::story::at;
use crate::wait::{eventually, now, pause};

/// How long a speaker that lets go of a route on the spot may take to do so, and how often it is asked at least: on a slow machine
/// both are slow.
const LETS_GO: (Duration, u32) = (Duration::from_secs(3), 10);

/// What became of routes while the one who told them was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// They stayed, and after it too.
    Kept,
    /// They stayed while it was away, and went for a moment when it was back.
    KeptUntilBack,
    /// They went with it.
    Gone,
}

/// Who was ended, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The other speaker.
    Them(Signal),
    /// We.
    Us(Signal),
}

impl Column<'_> {
    /// The routes of who is ended in this way, with the other side, until both are back.
    pub fn restart(&self, ended: Ended) -> Result<Away> {
        match ended {
            Ended::Them(signal) => self.they_restart(signal),
            Ended::Us(signal) => self.we_restart(signal),
        }
    }

    /// Their routes in our kernel, while they are ended by this signal, and come back.
    fn they_restart(&self, signal: Signal) -> Result<Away> {
        let node1 = self.node()?;
        eventually(SOON, "our kernel has their pods", || {
            self.their_pods()
                .try_for_each(|pods| node1.our_route(pods).map(drop))
        })?;
        let monitor = node1.watch_routes()?;
        self.stop_them(signal)?;
        let kept = self.we_keep()?;
        self.start_them()?;
        self.exchanged()?;
        self.settled()?;
        let gone = deleted(monitor)?;
        Ok(match (kept, gone) {
            (false, _) => Away::Gone,
            (true, true) => Away::KeptUntilBack,
            (true, false) => Away::Kept,
        })
    }

    /// Once we have seen their end: do we still have what they told us?
    pub fn we_keep(&self) -> Result<bool> {
        eventually(SOON, "their end is seen", || {
            let peer = self.peer()?;
            ensure!(at(&peer, "/state")? != "Established", "it is still up");
            let count = |field: &str| {
                let count = peer.pointer(&format!("/families/IPv4/{field}"));
                count.and_then(Value::as_u64).unwrap_or(0)
            };
            let (received, stale) = (count("received"), count("stale"));
            ensure!(stale == received, "{peer:#}");
            Ok(received != 0)
        })
    }

    /// Waits until nothing of them is stale, and our kernel has their pods.
    fn settled(&self) -> Result<()> {
        eventually(SOON, "nothing of theirs is stale", || {
            let peer = self.peer()?;
            for family in ["IPv4", "IPv6"] {
                let stale = at(&peer, &format!("/families/{family}/stale"))?;
                ensure!(stale == 0, "{peer:#}");
            }
            let node1 = self.node()?;
            self.their_pods()
                .try_for_each(|pods| node1.our_route(pods).map(drop))
        })
    }

    /// Our routes with them, while we are ended by this signal, and come back.
    fn we_restart(&self, signal: Signal) -> Result<Away> {
        self.stop_us(signal)?;
        let kept = self.they_keep()?;
        self.start_us()?;
        self.exchanged()?;
        Ok(if kept { Away::Kept } else { Away::Gone })
    }

    /// Once they have seen our end: do they still have what we told them?
    pub fn they_keep(&self) -> Result<bool> {
        eventually(SOON, "they see our end", || {
            ensure!(!self.speaker().established(&self.site())?, "it is still up");
            Ok(())
        })?;
        let start = now();
        let (long, often) = LETS_GO;
        let mut asked = 0;
        while start.elapsed() < long || asked < often {
            if self.learned()?.is_empty() {
                return Ok(false);
            }
            asked += 1;
            pause(Duration::from_millis(100));
        }
        Ok(true)
    }
}

/// Did one of their prefixes leave our kernel?
fn deleted(monitor: RouteMonitor) -> Result<bool> {
    let lines = monitor.stop()?;
    Ok(lines.iter().any(|line| {
        line.starts_with("Deleted ") && THEIR_PODS.iter().any(|pods| line.contains(pods))
    }))
}
