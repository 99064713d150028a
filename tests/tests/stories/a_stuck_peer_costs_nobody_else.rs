//! A peer stops reading while a hundred thousand routes churn: the others notice nothing, memory stays bounded, and it is closed (RFC 9687).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::Lab;
use tests::byhand::{Bulk, Heard, Open, Peer, Table, keepalive, kind, read_update};
use tests::segment::Segment;
use tests::story::{complains, established};
use tests::wait::{eventually, now, pause};

const COUNT: u32 = 100_000;
/// What the third peer proposes, seconds: twice as long it may take nothing.
const HOLD: u16 = 6;
const TIME: Duration = Duration::from_secs(60);

const MANIFEST: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPConfiguration
metadata: {name: default}
spec: {asNumber: 65001, topology: External, kernel: {install: false}}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: source}
spec: {peerAddress: 10.0.128.1, peerASN: 65101, passive: true, maxPrefixes: {count: 200000}, import: {rules: [{action: Accept}]}}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: reader}
spec: {peerAddress: 10.0.128.2, peerASN: 65102, passive: true, export: {rules: [{action: Accept}]}}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: third}
spec: {peerAddress: 10.0.128.3, peerASN: 65103, passive: true, export: {rules: [{action: Accept}]}}
";

fn dial(lab: &Lab, host: u8, hold: u16) -> Result<Peer> {
    let from = Ipv4Addr::new(10, 0, 128, host);
    // A small window, so that little is on the way to a peer that does not read.
    let small = |socket: &socket2::Socket| Ok(socket.set_recv_buffer_size(32 * 1024)?);
    let mut session = Peer::dial_with(
        lab.node("stranger")?,
        from.into(),
        Ipv4Addr::new(10, 0, 0, 1).into(),
        small,
    )?;
    session.establish(&Open {
        hold,
        ..Open::of(65_100 + u32::from(host), from)
    })?;
    Ok(session)
}

/// Takes one message into the table.
fn take(heard: Heard, table: &mut Table) -> Result<()> {
    match heard {
        Heard::Message {
            kind: kind::UPDATE,
            body,
        } => table.hear(&read_update(&body)?),
        Heard::Message {
            kind: kind::NOTIFICATION,
            body,
        } => bail!("NOTIFICATION {body:?}"),
        Heard::Message { .. } | Heard::Silence => Ok(()),
        Heard::Closed => bail!("closed"),
    }
}

/// The peer that reads when it pleases. That it is alive it says all the time.
struct Moody {
    reads: Arc<AtomicBool>,
    table: Arc<Mutex<Table>>,
    ended: JoinHandle<String>,
}

impl Moody {
    fn start(mut session: Peer) -> Self {
        let reads = Arc::new(AtomicBool::new(true));
        let table = Arc::new(Mutex::new(Table::default()));
        let (reading, filling) = (Arc::clone(&reads), Arc::clone(&table));
        let ended = std::thread::spawn(move || {
            let mut alive = now();
            loop {
                if alive.elapsed() > Duration::from_secs(1) {
                    alive = now();
                    if let Err(error) = session.send(&keepalive()) {
                        return format!("{error:#}");
                    }
                }
                if !reading.load(Relaxed) {
                    pause(Duration::from_millis(50));
                    continue;
                }
                let taken = session.hear(Duration::from_millis(200)).and_then(|heard| {
                    take(
                        heard,
                        &mut filling.lock().unwrap_or_else(PoisonError::into_inner),
                    )
                });
                if let Err(error) = taken {
                    return format!("{error:#}");
                }
            }
        });
        Self {
            reads,
            table,
            ended,
        }
    }

    /// Prefixes heard so far, each time counted.
    fn heard(&self) -> usize {
        self.table().heard
    }

    fn has_all(&self, mark: u16) -> Result<()> {
        eventually(TIME, "the third peer has everything", || {
            let marked = self.table().marked(mark);
            ensure!(marked == COUNT as usize, "it has {marked}");
            Ok(())
        })
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One peer that tells everything again and again, one that is told.
struct Churn {
    source: Peer,
    bulk: Bulk,
    reader: Peer,
    table: Table,
    mark: u16,
}

impl Churn {
    /// Tells all routes with a new mark, and waits until the reader has them; how long that took.
    fn round(&mut self) -> Result<Duration> {
        self.mark += 1;
        let octets = self.bulk.announce(self.mark);
        let start = now();
        self.source.send(&octets)?;
        while self.table.marked(self.mark) < COUNT as usize {
            ensure!(
                start.elapsed() < TIME,
                "the reader has {} of {COUNT}",
                self.table.marked(self.mark)
            );
            take(self.reader.hear(TIME)?, &mut self.table).context("reader")?;
        }
        Ok(start.elapsed())
    }

    fn rounds(&mut self, count: usize) -> Result<Vec<Duration>> {
        (0..count).map(|_| self.round()).collect()
    }
}

/// The most memory that node1's routelet has had since it was last asked, MiB.
fn peak(lab: &Lab) -> Result<u64> {
    let shown = lab.node("node1")?.sh(
        "pid=$(cat /run/lab.pid); grep VmHWM /proc/$pid/status; echo 5 >/proc/$pid/clear_refs",
    )?;
    let kib: Option<u64> = shown
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok());
    Ok(kib.context(shown)? / 1024)
}

#[test]
fn a_stuck_peer_costs_nobody_else() {
    let segment = Segment::named("stuck")
        .manifest("bgp.yaml", MANIFEST)
        .routelet(1)
        .host("stranger", 100);
    segment.story(|lab| {
        let node1 = lab.node("node1")?;
        let host: IpAddr = Ipv4Addr::new(10, 0, 0, 100).into();
        let mut churn = Churn {
            source: dial(lab, 1, 0)?,
            // Ten prefixes a message, and fat attributes: a queue of messages would show.
            bulk: Bulk {
                set: 10,
                ballast: 40,
                ..Bulk::of(COUNT, &[65_101], host)
            },
            reader: dial(lab, 2, 0)?,
            table: Table::default(),
            mark: 0,
        };
        let third = Moody::start(dial(lab, 3, HOLD)?);

        let with = churn.rounds(6)?;
        third.has_all(churn.mark)?;
        let peak_with = peak(lab)?;

        third.reads.store(false, Relaxed);
        let (heard, rounds) = (third.heard(), 8);
        let without = churn.rounds(rounds)?;
        // It missed all that, and comes back: it is told how things are, not how they came about.
        third.reads.store(true, Relaxed);
        third.has_all(churn.mark)?;
        let caught_up = third.heard() - heard;
        let peak_without = peak(lab)?;

        third.reads.store(false, Relaxed);
        let start = now();
        churn.rounds(4)?;
        complains(node1, "third", &["send hold"])?;
        let closed = start.elapsed();
        churn.round()?;
        ensure!(
            established(node1)?.values().all(|count| *count == 1),
            "a session was established again: {:?}",
            established(node1)?
        );
        third.reads.store(true, Relaxed);
        let told = third.ended.join().unwrap_or_else(|_| "panicked".into());

        println!("rounds of {COUNT} routes: {with:.2?} while the third peer reads, {without:.2?} while it does not");
        println!("back again, it was told {caught_up} routes of {} that it missed", rounds * COUNT as usize);
        println!("peak memory {peak_with} MiB while it reads, {peak_without} MiB while it does not");
        println!("closed {:.1} s after it stopped for good; it saw: {told}", closed.as_secs_f64());
        let fastest = |rounds: &[Duration]| rounds.iter().min().copied().unwrap_or_default();
        ensure!(
            fastest(&without) <= fastest(&with) * 3 / 2 + Duration::from_millis(100),
            "the reader is held up"
        );
        ensure!(
            caught_up < rounds * COUNT as usize / 2,
            "{caught_up} routes were kept for it"
        );
        ensure!(
            peak_without <= peak_with + 32,
            "memory grew from {peak_with} to {peak_without} MiB"
        );
        ensure!(
            closed >= Duration::from_secs(u64::from(HOLD)),
            "closed after {closed:?}: not by the send hold timer"
        );
        Ok(())
    });
}
