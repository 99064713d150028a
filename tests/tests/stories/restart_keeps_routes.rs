//! A routelet dies or is replaced: not one ping is lost, no route is ever absent, and what is stale is swept afterwards.

use std::path::Path;

use anyhow::Result;
use nix::sys::signal::Signal;
use tests::Lab;
use tests::story::{CONVERGENCE, append, story, story_with};
use tests::wait::eventually;

/// Restarts the routelet of node1 as often as there are signals, under pings between all nodes.
fn restarts(lab: &Lab, signals: &[Signal]) -> Result<()> {
    let cluster = lab.converged()?;
    let pods = cluster.pod_each()?;
    let traffic = cluster.traffic(&pods)?;
    let node1 = cluster.member("node1")?.container;
    // What an earlier run left: marked as ours, and nobody wants it any more.
    let leftover = "10.244.99.0/24";

    for signal in signals {
        lab.stop("node1", *signal)?;
        node1.run(&[
            "ip", "route", "add", leftover, "via", "10.0.0.2", "proto", "179", "metric", "1024",
        ])?;
        lab.start("node1")?;
        eventually(CONVERGENCE, "what is stale is swept", || {
            node1.no_route_of_ours(leftover)
        })?;
        cluster.settled()?;
    }
    traffic.unharmed()
}

/// A peer that is configured, and that nobody will ever be.
fn dead_peer(files: &Path, topology: &str) -> Result<()> {
    append(
        &files.join(topology).join("manifests/bgp.yaml"),
        "---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {name: dead}\nspec: {peerAddress: 10.0.0.99, peerASN: 65099}\n",
    )
}

#[test]
fn mesh_survives_kill() {
    story("mesh", |lab| restarts(lab, &[Signal::SIGKILL]));
}

#[test]
fn mesh_survives_term() {
    story("mesh", |lab| restarts(lab, &[Signal::SIGTERM]));
}

#[test]
fn tor_frr_survives_kill() {
    story("tor-frr", |lab| restarts(lab, &[Signal::SIGKILL]));
}

#[test]
fn tor_frr_survives_term() {
    story("tor-frr", |lab| restarts(lab, &[Signal::SIGTERM]));
}

#[test]
fn tor_bird_survives_kill_and_term() {
    story("tor-bird", |lab| {
        restarts(lab, &[Signal::SIGKILL, Signal::SIGTERM])
    });
}

#[test]
fn mesh_survives_twice_with_a_dead_peer() {
    story_with(
        "mesh",
        |files| dead_peer(files, "mesh"),
        |lab| restarts(lab, &[Signal::SIGKILL, Signal::SIGTERM]),
    );
}

#[test]
fn tor_frr_survives_twice_with_a_dead_peer() {
    story_with(
        "tor-frr",
        |files| dead_peer(files, "tor-frr"),
        |lab| restarts(lab, &[Signal::SIGTERM, Signal::SIGKILL]),
    );
}
