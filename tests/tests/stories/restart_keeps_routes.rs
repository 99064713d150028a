//! A routelet dies or is replaced: not one ping is lost, no route is ever absent, and what is stale is swept afterwards.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tests::Lab;
use tests::converge::Cluster;
use tests::story::{
    CONVERGENCE, append, at, at_most_lost, peers, stop, story, story_with, streams,
};
use tests::wait::{always, eventually};

const EVERY: Duration = Duration::from_millis(10);

/// Restarts the routelet of node1 as often as there are signals, under pings between all nodes.
fn restarts(lab: &Lab, signals: &[Signal]) -> Result<()> {
    let cluster = lab.converged()?;
    let pods = cluster
        .members
        .iter()
        .map(|member| Ok(member.pods(1)?.remove(0)))
        .collect::<Result<Vec<_>>>()?;
    cluster.reach(&pods, CONVERGENCE)?;
    settled(&cluster)?;
    let monitors = cluster
        .members
        .iter()
        .map(|member| member.container.watch_routes())
        .collect::<Result<Vec<_>>>()?;
    let streams = streams(&pods, EVERY)?;
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
        settled(&cluster)?;
    }
    // Nothing follows late, when the neighbours' stale timers or the deferral end.
    always(Duration::from_secs(3), "all routes stay", || {
        let missing = cluster.missing()?;
        ensure!(missing.is_empty(), "{}", missing.join(", "));
        Ok(())
    })?;
    at_most_lost(&stop(streams)?, 0)?;
    for (member, monitor) in cluster.members.iter().zip(monitors) {
        let lines = monitor.stop()?;
        for cidr in cluster
            .members
            .iter()
            .filter(|other| other.name != member.name)
            .flat_map(|other| &other.facts.pod_cidrs)
        {
            let gone = lines.iter().find(|line| {
                line.starts_with("Deleted ") && line.split(' ').any(|word| word == cidr)
            });
            ensure!(
                gone.is_none(),
                "{}: a route was absent: {gone:?}",
                member.name
            );
        }
    }
    Ok(())
}

/// All sessions are up again, and the first synchronisation is over.
fn settled(cluster: &Cluster<'_>) -> Result<()> {
    eventually(CONVERGENCE, "every routelet is in step", || {
        for member in &cluster.members {
            let status = member.container.routelet(&["status"])?;
            ensure!(
                at(&status, "/complete")? == true,
                "{}: not complete",
                member.name
            );
            for (name, peer) in peers(member.container)? {
                ensure!(
                    name.contains("dead") || at(&peer, "/state")? == "Established",
                    "{}: {name} is {}",
                    member.name,
                    at(&peer, "/state")?
                );
            }
        }
        Ok(())
    })
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
