//! Probes: from every pod to every other, in both families and on several flows, a datagram every 50 ms; which of them arrived.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};

use super::fabric::NODES;
use crate::cni::Pod;
use crate::wait::{now, pause};

/// The time between two probes of a flow.
pub const EVERY: Duration = Duration::from_millis(50);
/// Flows between two pods in one family: a fabric that spreads flows over its links uses all with most pairs.
const LANES: u16 = 2;
const PORT: u16 = 4000;
/// Enough for whatever comes while the machine leaves us without a turn.
const BUFFER: usize = 8 << 20;
/// What is on its way when the last probe is sent.
const LAST: Duration = Duration::from_secs(1);

/// One direction of one flow between two pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The sender's node.
    pub from: u8,
    /// The receiver's node.
    pub to: u8,
    /// Its family.
    pub ipv6: bool,
    /// Which of several.
    pub lane: u16,
}

/// What was sent when, and what of it arrived.
#[derive(Debug)]
pub struct Record {
    /// When each round of probes was sent.
    pub ticks: Vec<Instant>,
    /// By flow, for each tick: did it arrive?
    pub flows: Vec<(Flow, Vec<bool>)>,
}

impl Record {
    /// How many probes were sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.flows.len() * self.ticks.len()
    }

    /// How much later than planned a round of probes was sent at worst, between `from` and `until`: what this machine did to a
    /// process that only sleeps.
    #[must_use]
    pub fn lateness(&self, from: Instant, until: Instant) -> Duration {
        let pairs = self.ticks.windows(2).filter_map(|pair| match pair {
            [before, after] if *after >= from && *before <= until => Some(*after - *before),
            _ => None,
        });
        pairs.max().unwrap_or_default().saturating_sub(EVERY)
    }
}

/// Probes on their way.
#[derive(Debug)]
pub struct Probes {
    over: Arc<AtomicBool>,
    running: JoinHandle<Result<Record>>,
}

struct Sender {
    socket: UdpSocket,
    to: SocketAddr,
    flow: Flow,
}

impl Probes {
    /// Starts them between these pods, one a node.
    pub fn start(pods: &[Pod<'_>]) -> Result<Self> {
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for (number, pod) in (1..=NODES).zip(pods) {
            let netns = File::open(pod.node.path(&format!("/run/netns/{}", pod.name)))
                .with_context(|| format!("the network of {}", pod.name))?;
            let others = (1..=NODES).zip(pods).filter(|(other, _)| *other != number);
            let others: Vec<(u8, &Pod<'_>)> = others.collect();
            let sockets = std::thread::scope(|scope| {
                let inside = scope.spawn(|| {
                    setns(&netns, CloneFlags::CLONE_NEWNET)?;
                    open(number, pod, &others)
                });
                inside.join().map_err(|_| anyhow!("it panicked"))?
            })?;
            senders.extend(sockets.0);
            receivers.extend(sockets.1);
        }
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let running = std::thread::spawn(move || run(&senders, &receivers, &until));
        Ok(Self { over, running })
    }

    /// Ends them.
    pub fn stop(self) -> Result<Record> {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.running.join();
        ended.map_err(|_| anyhow!("the thread of the probes panicked"))?
    }
}

/// The sockets of a pod: what it sends from, and where it hears.
fn open(
    number: u8,
    pod: &Pod<'_>,
    others: &[(u8, &Pod<'_>)],
) -> Result<(Vec<Sender>, Vec<UdpSocket>)> {
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for ipv6 in [false, true] {
        let own: IpAddr = pod.address(ipv6)?.parse()?;
        let receiver = UdpSocket::bind((own, PORT))?;
        receiver.set_nonblocking(true)?;
        setsockopt(&receiver, sockopt::RcvBufForce, &BUFFER)?;
        receivers.push(receiver);
        for lane in 0..LANES {
            for (other, to) in others {
                // A port for each: what tells flows apart is not the same for any two pairs.
                let socket = UdpSocket::bind((own, 0))?;
                socket.set_nonblocking(true)?;
                senders.push(Sender {
                    socket,
                    to: (to.address(ipv6)?.parse::<IpAddr>()?, PORT).into(),
                    flow: Flow {
                        from: number,
                        to: *other,
                        ipv6,
                        lane,
                    },
                });
            }
        }
    }
    Ok((senders, receivers))
}

fn run(senders: &[Sender], receivers: &[UdpSocket], over: &AtomicBool) -> Result<Record> {
    let mut ticks: Vec<Instant> = Vec::new();
    let mut arrived: Vec<Vec<bool>> = vec![Vec::new(); senders.len()];
    let mut next = now();
    while !over.load(Ordering::Relaxed) {
        let tick = u32::try_from(ticks.len())?;
        ticks.push(now());
        for (number, sender) in senders.iter().enumerate() {
            let number = u32::try_from(number)?;
            let octets = [number.to_be_bytes(), tick.to_be_bytes()].concat();
            // Where there is no way out of the pod, the probe is lost; that is told by nobody else.
            drop(sender.socket.send_to(&octets, sender.to));
        }
        hear(receivers, &mut arrived);
        next += EVERY;
        match next.checked_duration_since(now()) {
            Some(left) => pause(left),
            // What was missed is not made up for.
            None => next = now(),
        }
    }
    pause(LAST);
    hear(receivers, &mut arrived);
    let sent = ticks.len();
    let flows = senders.iter().zip(arrived).map(|(sender, mut seen)| {
        seen.resize(sent, false);
        (sender.flow, seen)
    });
    let flows = flows.collect();
    Ok(Record { ticks, flows })
}

fn hear(receivers: &[UdpSocket], arrived: &mut [Vec<bool>]) {
    let mut octets = [0; 8];
    for receiver in receivers {
        while let Ok(8) = receiver.recv(&mut octets) {
            let [a, b, c, d, e, f, g, h] = octets;
            let number = u32::from_be_bytes([a, b, c, d]) as usize;
            let tick = u32::from_be_bytes([e, f, g, h]) as usize;
            if let Some(seen) = arrived.get_mut(number) {
                if seen.len() <= tick {
                    seen.resize(tick + 1, false);
                }
                if let Some(seen) = seen.get_mut(tick) {
                    *seen = true;
                }
            }
        }
    }
}
