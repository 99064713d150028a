//! A port in use, a missing permission, a second daemon, a manifest that is none: a clear message, and all that still can work does.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tests::byhand::inside;
use tests::scene::{self, BIRD, IMPATIENT, Transport::IPv4};
use tests::segment::Segment;
use tests::shell::Output;
use tests::story::{Steady, append, edit, is_up, write};
use tests::wait::eventually;
use tests::{Container, Lab};

const SOON: Duration = Duration::from_secs(20);

/// node1 and BIRD, which waits to be dialled.
fn beside_bird(name: &str) -> Segment {
    let manifest = scene::configuration(IMPATIENT) + &scene::peer("bird", BIRD, IPv4);
    Segment::named(name)
        .manifest("bgp.yaml", &manifest)
        .routelet(1)
        .bird("bird", BIRD, &scene::bird(IPv4, "passive;"))
}

/// The session is up and BIRD's route is in the kernel.
fn has_learned(node1: &Container) -> Result<()> {
    is_up(node1, "bird")?;
    eventually(SOON, "BIRD's route is in the kernel", || {
        node1.our_route("10.244.53.0/24").map(drop)
    })
}

/// Runs routelet for at most 20 s with something before its name; it must have ended by itself.
fn run(lab: &Lab, before: &[&str], socket: &str) -> Result<Output> {
    let words: Vec<&str> = ["timeout", "20"]
        .iter()
        .chain(before)
        .chain(&[
            "routelet",
            "run",
            "--node",
            "node1",
            "--config",
            "/etc/routelet",
        ])
        .copied()
        .chain(socket.split_whitespace())
        .collect();
    lab.node("node1")?.output(&words)
}

#[test]
fn a_port_in_use_is_told_and_what_we_dial_comes_up() {
    beside_bird("port").story(|lab| {
        let node1 = lab.node("node1")?;
        is_up(node1, "bird")?;
        lab.stop("node1", Signal::SIGTERM)?;
        let squatter = inside(node1, || {
            Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 179))?)
        })?;
        lab.start("node1")?;
        eventually(SOON, "status tells of the port", || {
            let told = node1.output(&["routelet", "status"])?;
            ensure!(
                told.code == 1 && told.stdout.contains("179") && told.stdout.contains("in use"),
                "{}",
                told.stdout
            );
            Ok(())
        })?;
        is_up(node1, "bird")?;
        eventually(SOON, "its route is there", || {
            node1.our_route("10.244.53.0/24").map(drop)
        })?;
        let session = Steady::session(node1, "bird")?;
        drop(squatter);
        eventually(
            Duration::from_secs(60),
            "the port is taken once it is free",
            || {
                let listening = node1.run(&["ss", "-Hltn", "sport", "=", ":179"])?;
                ensure!(!listening.trim().is_empty(), "nobody listens");
                let told = node1.output(&["routelet", "status"])?;
                ensure!(told.code == 0, "{}", told.stdout);
                Ok(())
            },
        )?;
        session.holds()
    });
}

#[test]
fn a_second_daemon_on_the_node_is_refused() {
    beside_bird("second").story(|lab| {
        has_learned(lab.node("node1")?)?;
        let session = Steady::session(lab.node("node1")?, "bird")?;
        let second = run(lab, &[], "")?;
        let told = (second.stdout + &second.stderr).to_lowercase();
        ensure!(
            second.code != 0 && second.code != 124,
            "exit code {}: {told}",
            second.code
        );
        ensure!(told.contains("another routelet is running"), "{told}");
        session.holds()?;
        lab.node("node1")?.our_route("10.244.53.0/24")?;
        // The first one is still the one that answers, and becomes healthy once its first sync is done.
        eventually(SOON, "the first daemon is healthy", || {
            lab.node("node1")?.run(&["routelet", "status"]).map(drop)
        })
    });
}

#[test]
fn without_the_capability_it_says_which_one() {
    beside_bird("powerless").story(|lab| {
        let node1 = lab.node("node1")?;
        has_learned(node1)?;
        lab.stop("node1", Signal::SIGTERM)?;
        let without = [
            "setpriv",
            "--bounding-set=-net_admin",
            "--inh-caps=-net_admin",
        ];
        let done = run(lab, &without, "")?;
        let told = done.stdout + &done.stderr;
        ensure!(
            done.code != 0 && done.code != 124,
            "it ran on ({}): {told}",
            done.code
        );
        ensure!(told.contains("NET_ADMIN"), "{told}");
        // What stood in the kernel still does, and whoever has the right takes it over.
        node1.our_route("10.244.53.0/24")?;
        lab.start("node1")?;
        is_up(node1, "bird")
    });
}

#[test]
fn manifests_that_are_none_are_told_and_the_others_count() {
    beside_bird("strange").story(|lab| {
        let node1 = lab.node("node1")?;
        let session = Steady::session(node1, "bird")?;
        let more = lab.manifests().join("more.yaml");
        let told = |words: &[&str]| {
            eventually(SOON, &format!("status tells of {words:?}"), || {
                let told = node1.output(&["routelet", "status"])?.stdout;
                for word in words {
                    ensure!(told.contains(word), "no {word}: {told}");
                }
                Ok(())
            })
        };
        write(
            &more,
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n",
        )?;
        told(&["warning", "Deployment", "more.yaml:2"])?;
        // A kind of ours that is none is a slip of the pen.
        append(
            &more,
            "---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPear\nmetadata: {name: y}\n",
        )?;
        told(&["error", "BGPPear", "more.yaml:6", "BGPPeer"])?;
        session.holds()?;

        let check = |text: &str| -> Result<(i32, String)> {
            write(&node1.path("/tmp/x.yaml"), text)?;
            let done = node1.output(&["routelet", "check", "-f", "/tmp/x.yaml"])?;
            Ok((done.code, done.stdout + &done.stderr))
        };
        let configuration = |spec: &str| {
            format!(
                "apiVersion: routelet.dev/v1alpha1\nkind: BGPConfiguration\nmetadata: {{name: default}}\nspec:\n  {spec}\n"
            )
        };
        for (text, wanted, words) in [
            (configuration("asNumer: 1"), 1, ["x.yaml:5:3", "asNumber"]),
            (configuration("timers: {holdSeconds: 2}"), 1, ["x.yaml:5:", "holdSeconds"]),
            (configuration("asNumber: many"), 1, ["x.yaml:5:", "asNumber"]),
            ("apiVersion: v1\n  kind: Node\n".into(), 1, ["x.yaml:2", ""]),
            ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n".into(), 0, ["Deployment", "x.yaml:2"]),
            (configuration("timers: {holdSeconds: 9, keepaliveSeconds: 3}"), 0, ["", ""]),
        ] {
            let (code, told) = check(&text)?;
            ensure!(code == wanted, "{code} instead of {wanted} for {text}: {told}");
            for word in words {
                ensure!(told.contains(word), "no {word} for {text}: {told}");
            }
        }
        let (code, told) = check("")?;
        ensure!(code != 2, "an empty file is a file: {code} {told}");
        Ok(())
    });
}

#[test]
fn two_sides_that_both_wait_are_told_and_one_that_dials_ends_it() {
    let manifest = scene::configuration(IMPATIENT) + &scene::peer("bird", BIRD, IPv4);
    Segment::named("wait")
        .manifest("bgp.yaml", &(manifest + "  passive: true\n"))
        .routelet(1)
        .bird("bird", BIRD, &scene::bird(IPv4, "passive;"))
        .story(|lab| {
            let node1 = lab.node("node1")?;
            eventually(SOON, "status tells that nobody dials", || {
                let told = node1.output(&["routelet", "status"])?;
                ensure!(
                    told.code == 1 && told.stdout.contains("is it not passive too?"),
                    "{}",
                    told.stdout
                );
                Ok(())
            })?;
            edit(&lab.manifests().join("bgp.yaml"), "  passive: true\n", "")?;
            has_learned(node1)
        });
}
