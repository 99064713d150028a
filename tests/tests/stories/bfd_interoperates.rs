//! BFD with FRR's bfdd and with BIRD: negotiated intervals, silent losses, restarts, changes, and a machine without a free moment.

use std::process::Command;
use std::sync::{Mutex, PoisonError};
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

/// Long on a busy machine, and still far from the hold time.
const SOON: Duration = Duration::from_secs(40);

/// Three intervals of 100 ms on all sides; a hold time that no story waits for.
const FAST: &str = "  bfd: {minRxMs: 100, minTxMs: 100, multiplier: 3}\n";
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

fn manifest(transport: Transport) -> String {
    peers(transport, FAST, FAST)
}

/// What FRR has beside its usual configuration.
fn frr(transport: Transport, also: &str) -> String {
    let node1 = transport.address(1);
    format!(
        "bfd\n profile fast\n  detect-multiplier 3\n  receive-interval 100\n  transmit-interval 150\n exit\nexit\n{}\
         router bgp 65254\n neighbor {node1} bfd\n neighbor {node1} bfd profile fast\n{also}exit\n",
        scene::frr(transport)
    )
}

const BIRD_BFD: &str = "protocol bfd {\n\tinterface \"*\" { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; };\n}\n";

fn bird(transport: Transport) -> String {
    BIRD_BFD.to_owned() + &scene::bird(transport, "bfd yes;")
}

fn scene(name: &str, transport: Transport) -> Segment {
    Segment::named(name)
        .manifest("bgp.yaml", &manifest(transport))
        .routelet(1)
        .frr("frr", FRR, &frr(transport, ""))
        .bird("bird", BIRD, &bird(transport))
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
        ensure!(slow < 1000, "{bfd:#}");
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
    alone(&scene("bfdfour", transport), |lab| {
        both_watched(lab, transport)?;
        // As negotiated: FRR wants to send every 150 ms.
        let ours = bfd(lab.node("node1")?, "frr")?;
        let theirs = of_frr(lab, transport)?;
        ensure!(
            at(&ours, "/detectionMs")? == 450 && at(&ours, "/transmitMs")? == 100,
            "{ours:#}"
        );
        for (field, wanted) in [
            ("status", Value::from("up")),
            ("remote-receive-interval", 100.into()),
            ("remote-transmit-interval", 100.into()),
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
    alone(&scene("bfdsix", Transport::IPv6), |lab| {
        silence(lab, Transport::IPv6)
    });
}

#[test]
fn other_intervals_and_no_bfd_at_all_leave_the_session_alone() {
    let transport = Transport::IPv4;
    alone(&scene("bfdlive", transport), |lab| {
        let node1 = lab.node("node1")?;
        both_watched(lab, transport)?;
        let (frr, bird) = (
            Steady::session(node1, "frr")?,
            Steady::session(node1, "bird")?,
        );
        let before = ["frr", "bird"].map(|name| downs(node1, name).ok());
        let file = lab.manifests().join("bgp.yaml");
        let other = "  bfd: {minRxMs: 250, minTxMs: 200, multiplier: 4}\n";
        let slower = peers(transport, other, other);
        edit(&file, &manifest(transport), &slower)?;
        eventually(SOON, "both sides know", || {
            let theirs = of_frr(lab, transport)?;
            ensure!(
                theirs.get("remote-receive-interval") == Some(&250.into()),
                "{theirs:#}"
            );
            ensure!(
                theirs.get("remote-transmit-interval") == Some(&200.into()),
                "{theirs:#}"
            );
            for name in ["frr", "bird"] {
                let ours = bfd(node1, name)?;
                ensure!(
                    at(&ours, "/detectionMs")? == 750 && at(&ours, "/transmitMs")? == 200,
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

/// As often as the machine has cores, twice: loops that want all of it.
fn burners() -> Result<Vec<Background>> {
    let cores = std::thread::available_parallelism()?.get();
    (0..2 * cores)
        .map(|_| Background::start(Command::new("sh").args(["-c", "while :; do :; done"])))
        .collect()
}

#[test]
fn a_machine_without_a_free_moment_raises_no_false_alarm() {
    let transport = Transport::IPv4;
    alone(&scene("bfdload", transport), |lab| {
        let node1 = lab.node("node1")?;
        both_watched(lab, transport)?;
        let before = bfd(node1, "bird")?;
        let steady = [
            ("frr", downs(node1, "frr")?),
            ("bird", downs(node1, "bird")?),
        ];
        let burners = burners()?;
        let look = || {
            for (name, downs) in &steady {
                let bfd = bfd(node1, name)?;
                ensure!(
                    at(&bfd, "/downs")? == downs && at(&bfd, "/state")? == "Up",
                    "{bfd:#}"
                );
            }
            Ok(())
        };
        always(Duration::from_secs(60), "no flap", look)?;
        let after = bfd(node1, "bird")?;
        let count =
            |bfd: &Value, field: &str| bfd.get(field).and_then(Value::as_u64).unwrap_or_default();
        for field in ["packetsIn", "packetsOut"] {
            println!(
                "{field} in a minute: {}",
                count(&after, field) - count(&before, field)
            );
        }
        for burner in burners {
            burner.stop(Signal::SIGKILL)?;
        }
        // What is really silent is still seen.
        silence(lab, transport)
    });
}

/// BIRD installs nothing by itself.
fn kernel_of_bird() -> String {
    "protocol kernel { ipv4 { export all; import none; }; }\n".into()
}

/// What a router does with our routes while we are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum While {
    Kept,
    Dropped,
}

/// Restarts node1 under a router's eyes by each signal, with time enough for BFD to notice.
fn restarted(lab: &Lab, router: &str, signal: Signal) -> Result<While> {
    let (node1, container) = (lab.node("node1")?, lab.node(router)?);
    watched(node1, router)?;
    let pods = "10.244.1.0/24";
    eventually(SOON, "our pods are in its kernel", || {
        ensure!(!container.routes_to(pods)?.is_empty(), "they are not");
        Ok(())
    })?;
    let monitor = container.watch_routes()?;
    lab.stop("node1", signal)?;
    pause(Duration::from_secs(3));
    lab.start("node1")?;
    watched(node1, router)?;
    let lines = monitor.stop()?;
    let gone = lines
        .iter()
        .any(|line| line.starts_with("Deleted ") && line.contains(pods));
    Ok(if gone { While::Dropped } else { While::Kept })
}

#[test]
fn our_restart_is_no_dead_path_for_frr_nor_for_a_graceful_bird() {
    let transport = Transport::IPv4;
    let bird = |how: &str| kernel_of_bird() + BIRD_BFD + &scene::bird(transport, how);
    let segment = Segment::named("bfdrestart")
        .manifest("bgp.yaml", &manifest(transport))
        .routelet(1)
        .frr("frr", FRR, &frr(transport, ""))
        .bird("bird", BIRD, &bird("bfd graceful;"));
    alone(&segment, |lab| {
        both_watched(lab, transport)?;
        let minds = "neighbor 10.0.0.1 bfd check-control-plane-failure";
        for (router, line) in [("frr", None), ("frr", Some(minds)), ("bird", None)] {
            if let Some(line) = line {
                lab.node(router)?
                    .vtysh_configure(&["router bgp 65254", line])?;
            }
            for signal in [Signal::SIGTERM, Signal::SIGKILL] {
                let seen = restarted(lab, router, signal)?;
                ensure!(
                    seen == While::Kept,
                    "{router}, {line:?}, {signal}: {seen:?}"
                );
            }
        }
        // Without it BIRD takes the end of BFD for that of the path: its choice. This says so if it changes.
        lab.reconfigure_bird(&bird("bfd yes;"))?;
        let seen = restarted(lab, "bird", Signal::SIGKILL)?;
        println!("bird with a plain bfd: {seen:?}");
        Ok(())
    });
}

#[test]
fn a_peer_that_is_killed_comes_back_with_its_bfd() {
    let transport = Transport::IPv4;
    alone(&scene("bfdtheirs", transport), |lab| {
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
