//! BFD with FRR's bfdd and with BIRD: negotiated intervals, silent losses, restarts, changes, and a machine without a free moment.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::Lab;
use tests::container::Container;
use tests::scene::{self, BIRD, FRR, Transport};
use tests::segment::Segment;
use tests::shell::Background;
use tests::story::{Steady, at, complains, edit, is_up, peer};
use tests::wait::{always, eventually, now, pause};

mod far;

/// Long on a busy machine, and still far from the hold time.
const SOON: Duration = Duration::from_secs(40);

/// Milliseconds between packets, of which two in a row may be missed.
#[derive(Debug, Clone, Copy)]
struct Pace(u32);

/// What stories about something else are told at: the routers beside us miss no beat of it either on a busy machine.
const CALM: Pace = Pace(300);
/// What we are to hold without a free moment.
const FAST: Pace = Pace(100);

/// A hold time that no story waits for.
const PATIENT: &str =
    "  timers: {connectRetrySeconds: 1, holdSeconds: 180, idleHoldMaxSeconds: 2}\n";

/// Both peers, each with these lines of its own.
fn peers(transport: Transport, bird: &str, frr: &str) -> String {
    scene::configuration(PATIENT)
        + &scene::peer("bird", BIRD, transport)
        + bird
        + &scene::peer("frr", FRR, transport)
        + frr
}

fn manifest(transport: Transport, Pace(pace): Pace) -> String {
    let bfd = format!("  bfd: {{minRxMs: {pace}, minTxMs: {pace}, multiplier: 3}}\n");
    peers(transport, &bfd, &bfd)
}

/// FRR at this pace; it wants to send a bit slower.
fn frr(transport: Transport, Pace(pace): Pace) -> String {
    let (node1, slower) = (transport.address(1), pace + 50);
    format!(
        "bfd\n profile fast\n  detect-multiplier 3\n  receive-interval {pace}\n  transmit-interval {slower}\n exit\nexit\n{}\
         router bgp 65254\n neighbor {node1} bfd\n neighbor {node1} bfd profile fast\nexit\n",
        scene::frr(transport)
    )
}

/// BIRD at this pace, and what it makes of it.
fn bird(transport: Transport, Pace(pace): Pace, how: &str) -> String {
    format!(
        "protocol bfd {{\n\tinterface \"*\" {{ min rx interval {pace} ms; min tx interval {pace} ms; multiplier 3; }};\n}}\n{}",
        scene::bird(transport, how)
    )
}

fn scene(name: &str, transport: Transport, pace: Pace) -> Segment {
    Segment::named(name)
        .manifest("bgp.yaml", &manifest(transport, pace))
        .routelet(1)
        .frr("frr", FRR, &frr(transport, pace))
        .bird("bird", BIRD, &bird(transport, pace, "bfd yes;"))
}

/// One story after the other: FRR and BIRD raise false alarms beside the one that leaves them no free moment.
fn alone(segment: &Segment, tell: impl FnOnce(&Lab) -> Result<()>) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    segment.story(tell);
}

/// BFD of a node with this peer.
fn bfd(node: &Container, name: &str) -> Result<Value> {
    Ok(at(&peer(node, name)?, "/bfd")?.clone())
}

/// Waits until BFD is up, its polls are answered, and the session is established.
fn watched(node: &Container, name: &str) -> Result<()> {
    is_up(node, name)?;
    eventually(SOON, &format!("BFD with {name} is up"), || {
        let bfd = bfd(node, name)?;
        ensure!(at(&bfd, "/state")? == "Up", "{bfd:#}");
        let slow = at(&bfd, "/detectionMs")?.as_u64().unwrap_or(u64::MAX);
        ensure!(slow < 3000, "{bfd:#}");
        Ok(())
    })
}

/// How often BFD has gone down: FRR begins its own anew once BGP is up, so what a story begins with need not be 0.
fn downs(node: &Container, name: &str) -> Result<Value> {
    Ok(at(&bfd(node, name)?, "/downs")?.clone())
}

/// What FRR's bfdd has of node1.
fn of_frr(lab: &Lab, transport: Transport) -> Result<Value> {
    let all = lab.node("frr")?.vtysh("show bfd peers json")?;
    let node1 = transport.address(1);
    let ours = |one: &&Value| one.get("peer").is_some_and(|peer| *peer == node1);
    let found = all.as_array().into_iter().flatten().find(ours);
    found
        .cloned()
        .ok_or_else(|| anyhow::anyhow!("no {node1} in {all:#}"))
}

/// FRR's route and BIRD's, as the kernel of node1 has them.
fn routes(transport: Transport) -> [(&'static str, &'static str); 2] {
    match transport {
        Transport::IPv4 => [("frr", "10.244.54.0/24"), ("bird", "10.244.53.0/24")],
        Transport::IPv6 => [
            ("frr", "fd00:10:244:54::/64"),
            ("bird", "fd00:10:244:53::/64"),
        ],
    }
}

fn both_watched(lab: &Lab, transport: Transport) -> Result<()> {
    let node1 = lab.node("node1")?;
    for (name, prefix) in routes(transport) {
        watched(node1, name)?;
        eventually(SOON, "its routes are in", || {
            node1.our_route(prefix).map(drop)
        })?;
    }
    Ok(())
}

/// Each router falls silent in turn: its session ends by BFD, with its routes, and the other's does not; then it comes back.
fn silence(lab: &Lab, transport: Transport) -> Result<()> {
    let node1 = lab.node("node1")?;
    both_watched(lab, transport)?;
    let [frr, bird] = routes(transport);
    for ((name, prefix), (other, _)) in [(frr, bird), (bird, frr)] {
        let steady = Steady::session(node1, other)?;
        lab.node(name)?.black_hole("eth1")?;
        let cut = now();
        eventually(SOON, &format!("{name}'s routes are gone"), || {
            node1.no_route_of_ours(prefix)
        })?;
        println!(
            "{name}: silent loss, its routes are gone after {:?}",
            cut.elapsed()
        );
        complains(node1, name, &["BFD down: it said nothing for"])?;
        steady.holds()?;
        lab.node(name)?.heal("eth1")?;
        both_watched(lab, transport)?;
        steady.holds()?;
    }
    Ok(())
}

#[test]
fn a_silent_loss_is_seen_by_bfd_long_before_the_hold_time() {
    let transport = Transport::IPv4;
    alone(&scene("bfdfour", transport, CALM), |lab| {
        both_watched(lab, transport)?;
        // As negotiated: FRR wants to send every 350 ms.
        let ours = bfd(lab.node("node1")?, "frr")?;
        let theirs = of_frr(lab, transport)?;
        ensure!(
            at(&ours, "/detectionMs")? == 1050 && at(&ours, "/transmitMs")? == 300,
            "{ours:#}"
        );
        for (field, wanted) in [
            ("status", Value::from("up")),
            ("remote-receive-interval", 300.into()),
            ("remote-transmit-interval", 300.into()),
            ("remote-detect-multiplier", 3.into()),
            ("multihop", false.into()),
            ("remote-id", at(&ours, "/discriminator")?.clone()),
        ] {
            ensure!(theirs.get(field) == Some(&wanted), "{field}: {theirs:#}");
        }
        silence(lab, transport)
    });
}

#[test]
fn the_same_over_ipv6() {
    alone(&scene("bfdsix", Transport::IPv6, CALM), |lab| {
        silence(lab, Transport::IPv6)
    });
}

#[test]
fn other_intervals_and_no_bfd_at_all_leave_the_session_alone() {
    let transport = Transport::IPv4;
    alone(&scene("bfdlive", transport, CALM), |lab| {
        let node1 = lab.node("node1")?;
        both_watched(lab, transport)?;
        let (frr, bird) = (
            Steady::session(node1, "frr")?,
            Steady::session(node1, "bird")?,
        );
        let before = ["frr", "bird"].map(|name| downs(node1, name).ok());
        let file = lab.manifests().join("bgp.yaml");
        let other = "  bfd: {minRxMs: 500, minTxMs: 400, multiplier: 4}\n";
        let slower = peers(transport, other, other);
        edit(&file, &manifest(transport, CALM), &slower)?;
        eventually(SOON, "both sides know", || {
            let theirs = of_frr(lab, transport)?;
            ensure!(
                theirs.get("remote-receive-interval") == Some(&500.into()),
                "{theirs:#}"
            );
            ensure!(
                theirs.get("remote-transmit-interval") == Some(&400.into()),
                "{theirs:#}"
            );
            for name in ["frr", "bird"] {
                let ours = bfd(node1, name)?;
                ensure!(
                    at(&ours, "/detectionMs")? == 1500 && at(&ours, "/transmitMs")? == 400,
                    "{ours:#}"
                );
            }
            Ok(())
        })?;
        let after = ["frr", "bird"].map(|name| downs(node1, name).ok());
        ensure!(before == after, "BFD went down: {before:?}, {after:?}");
        frr.holds()?;
        bird.holds()?;
        // FRR ends the session of one who takes BFD away, so it goes on its side first: for us that is no dead path. (BIRD just
        // falls silent where its BFD goes, which is one.)
        lab.node("frr")?
            .vtysh_configure(&["router bgp 65254", "no neighbor 10.0.0.1 bfd"])?;
        eventually(SOON, "FRR speaks no BFD any more", || {
            let ours = bfd(node1, "frr")?;
            ensure!(
                at(&ours, "/state")? == "Down" && at(&ours, "/remote")?.is_null(),
                "{ours:#}"
            );
            Ok(())
        })?;
        frr.holds()?;
        edit(&file, &slower, &peers(transport, other, ""))?;
        eventually(SOON, "nothing is left of it", || {
            ensure!(peer(node1, "frr")?.get("bfd").is_none(), "there is BFD");
            Ok(())
        })?;
        frr.holds()?;
        bird.holds()
    });
}

/// Twice as many as the machine has cores: loops that want all of it, for a while. Each is a session of its own, as each pod is
/// a group of its own: the kernel shares the cores out among those.
fn burn(time: Duration) -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let burn = format!("while [ $SECONDS -lt {} ]; do :; done", time.as_secs());
    for _ in 0..2 * cores {
        let mut fork = Command::new("setsid");
        fork.args(["--fork", "bash", "-c", &burn]);
        Background::start(fork.stdout(Stdio::null()).stderr(Stdio::null()))?.wait()?;
    }
    Ok(())
}

/// How late a process that only wants to look at the clock every 20 ms gets to it.
struct Lateness {
    over: Arc<AtomicBool>,
    worst: JoinHandle<Duration>,
}

impl Lateness {
    fn watch() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let worst = std::thread::spawn(move || {
            let (mut worst, nap) = (Duration::ZERO, Duration::from_millis(20));
            while !until.load(Ordering::Relaxed) {
                let before = now();
                pause(nap);
                worst = worst.max(before.elapsed().saturating_sub(nap));
            }
            worst
        });
        Self { over, worst }
    }

    fn worst(self) -> Duration {
        self.over.store(true, Ordering::Relaxed);
        self.worst.join().unwrap_or_default()
    }
}

#[test]
fn a_machine_without_a_free_moment_raises_no_false_alarm() {
    let transport = Transport::IPv4;
    alone(&scene("bfdload", transport, FAST), |lab| {
        let node1 = lab.node("node1")?;
        both_watched(lab, transport)?;
        let before = bfd(node1, "bird")?;
        let steady = [
            ("frr", downs(node1, "frr")?),
            ("bird", downs(node1, "bird")?),
        ];
        let minute = Duration::from_secs(60);
        let lateness = Lateness::watch();
        burn(minute)?;
        let held = always(minute, "no flap", || {
            for (name, downs) in &steady {
                let bfd = bfd(node1, name)?;
                ensure!(
                    at(&bfd, "/downs")? == downs && at(&bfd, "/state")? == "Up",
                    "{bfd:#}"
                );
            }
            Ok(())
        });
        // Where even a process that sleeps gets no turn for so long, neither FRR nor BIRD hold these intervals.
        let late = lateness.worst();
        if late > Duration::from_millis(150) {
            println!(
                "skipped: this machine left a process that sleeps without a turn for {late:?}; {held:?}"
            );
            return Ok(());
        }
        held?;
        let after = bfd(node1, "bird")?;
        let count =
            |bfd: &Value, field: &str| bfd.get(field).and_then(Value::as_u64).unwrap_or_default();
        for field in ["packetsIn", "packetsOut"] {
            println!(
                "{field} in a minute: {}",
                count(&after, field) - count(&before, field)
            );
        }
        println!("a process that sleeps was {late:?} late at worst");
        // What is really silent is still seen.
        silence(lab, transport)
    });
}

/// BIRD installs nothing by itself.
fn kernel_of_bird() -> String {
    "protocol kernel { ipv4 { export all; import none; }; }\n".into()
}

/// Longer than BFD takes to notice.
const LONG: Duration = Duration::from_secs(3);

/// What a router does with our routes while we are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum While {
    Kept,
    Dropped,
}

/// Restarts node1 under a router's eyes. What it is away for is longer than its BFD takes to notice, or shorter. Its own kernel keeps the
/// routes of all.
fn restarted(lab: &Lab, router: &str, signal: Signal, away: Duration) -> Result<While> {
    let (node1, container) = (lab.node("node1")?, lab.node(router)?);
    watched(node1, router)?;
    let pods = "10.244.1.0/24";
    eventually(SOON, "our pods are in its kernel", || {
        ensure!(!container.routes_to(pods)?.is_empty(), "they are not");
        Ok(())
    })?;
    let (monitor, own) = (container.watch_routes()?, node1.watch_routes()?);
    lab.stop("node1", signal)?;
    pause(away);
    lab.start("node1")?;
    both_watched(lab, Transport::IPv4)?;
    for (_, prefix) in routes(Transport::IPv4) {
        let gone = own.deletions(prefix);
        ensure!(gone.is_empty(), "{router}, away for {away:?}: {gone:?}");
    }
    let lines = monitor.stop()?;
    let gone = lines
        .iter()
        .any(|line| line.starts_with("Deleted ") && line.contains(pods));
    Ok(if gone { While::Dropped } else { While::Kept })
}

#[test]
fn our_restart_is_no_dead_path_for_frr_nor_for_a_graceful_bird() {
    let transport = Transport::IPv4;
    let bird = |how: &str| kernel_of_bird() + &bird(transport, CALM, how);
    // As FRR dials by default: one that dials at the moment we do gives up what it kept of us for the collision of the two.
    let frr = frr(transport, CALM).replace("timers connect 1\n", "timers connect 60\n");
    let segment = Segment::named("bfdrestart")
        .manifest("bgp.yaml", &manifest(transport, CALM))
        .routelet(1)
        .frr("frr", FRR, &frr)
        .bird("bird", BIRD, &bird("bfd graceful;"));
    alone(&segment, |lab| {
        both_watched(lab, transport)?;
        let minds = "neighbor 10.0.0.1 bfd check-control-plane-failure";
        for (router, line) in [("frr", None), ("frr", Some(minds)), ("bird", None)] {
            if let Some(line) = line {
                lab.node(router)?
                    .vtysh_configure(&["router bgp 65254", line])?;
            }
            for (signal, away) in [
                (Signal::SIGTERM, LONG),
                (Signal::SIGKILL, LONG),
                (Signal::SIGTERM, Duration::ZERO),
                (Signal::SIGKILL, Duration::ZERO),
            ] {
                let seen = restarted(lab, router, signal, away)?;
                ensure!(
                    seen == While::Kept,
                    "{router}, {line:?}, {signal}, away for {away:?}: {seen:?}"
                );
            }
        }
        // Without it BIRD takes the end of BFD for that of the path: its choice. This says so if it changes.
        lab.reconfigure_bird(&bird("bfd yes;"))?;
        let seen = restarted(lab, "bird", Signal::SIGKILL, LONG)?;
        println!("bird with a plain bfd: {seen:?}");
        Ok(())
    });
}

#[test]
fn a_peer_that_is_killed_comes_back_with_its_bfd() {
    let transport = Transport::IPv4;
    alone(&scene("bfdtheirs", transport, CALM), |lab| {
        let node1 = lab.node("node1")?;
        both_watched(lab, transport)?;
        let other = Steady::session(node1, "frr")?;
        lab.stop("bird", Signal::SIGKILL)?;
        eventually(SOON, "its BFD is seen to end", || {
            let bfd = bfd(node1, "bird")?;
            ensure!(at(&bfd, "/remote")?.is_null(), "{bfd:#}");
            Ok(())
        })?;
        lab.start("bird")?;
        both_watched(lab, transport)?;
        // What BFD says of its earlier life is said by now, and ended nothing.
        let back = Steady::session(node1, "bird")?;
        always(Duration::from_secs(3), "it stays", || back.holds())?;
        other.holds()
    });
}
