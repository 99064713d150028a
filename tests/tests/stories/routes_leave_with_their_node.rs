//! A node that leaves takes its routes along at once; a node that is cut off, when the link drops or the hold time ends.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::Lab;
use tests::cni::Pod;
use tests::converge::Cluster;
use tests::ping::{Stream, all_to_all};
use tests::story::{CONVERGENCE, at_most_lost, edit, story, story_with};
use tests::wait::{eventually, now};

/// The topologies' hold time.
const HOLD: Duration = Duration::from_secs(9);
const EVERY: Duration = Duration::from_millis(10);

/// No kernel but its own has a route to a pod CIDR of `gone` any more.
fn gone_everywhere(cluster: &Cluster<'_>, gone: &str) -> Result<()> {
    for cidr in &cluster.member(gone)?.facts.pod_cidrs {
        for member in cluster.members.iter().filter(|member| member.name != gone) {
            member.container.no_route_of_ours(cidr)?;
        }
    }
    Ok(())
}

fn drain(lab: &Lab) -> Result<()> {
    let cluster = lab.converged()?;
    let node3 = cluster.member("node3")?.container;
    node3.run(&["routelet", "drain"])?;
    eventually(
        Duration::from_secs(1),
        "its pod CIDRs are gone everywhere",
        || gone_everywhere(&cluster, "node3"),
    )?;
    let others_lost = cluster.missing()?.into_iter().find(|missing| {
        !missing.contains("node3") && !missing.contains("10.244.3.") && !missing.contains(":244:3:")
    });
    ensure!(
        others_lost.is_none(),
        "the drain of node3 took more away: {others_lost:?}"
    );
    node3.run(&["routelet", "undrain"])?;
    cluster.converge(CONVERGENCE)
}

fn short_drain(files: &Path, topology: &str) -> Result<()> {
    edit(
        &files.join(topology).join("manifests/bgp.yaml"),
        "  timers:",
        "  drain: {waitSeconds: 1}\n  timers:",
    )
}

#[test]
fn a_drained_node_leaves_the_mesh_within_a_second() {
    story_with("mesh", |files| short_drain(files, "mesh"), drain);
}

#[test]
fn a_drained_node_leaves_frr_within_a_second() {
    story_with("tor-frr", |files| short_drain(files, "tor-frr"), drain);
}

#[test]
fn a_link_that_drops_takes_the_routes_over_it_along() {
    story("tor-frr", |lab| {
        let cluster = lab.converged()?;
        let node1 = cluster.member("node1")?;
        // The switch end goes down: node1 sees its carrier go.
        lab.node("sw")?.link("eth1", "down")?;
        eventually(Duration::from_secs(1), "node1 has no routes left", || {
            for other in cluster.members.iter().filter(|other| other.name != "node1") {
                for cidr in &other.facts.pod_cidrs {
                    node1.container.no_route_of_ours(cidr)?;
                }
            }
            Ok(())
        })?;
        eventually(
            HOLD + Duration::from_secs(3),
            "the others have dropped node1's routes",
            || gone_everywhere(&cluster, "node1"),
        )?;
        lab.node("sw")?.link("eth1", "up")?;
        cluster.converge(CONVERGENCE)
    });
}

/// node3 falls silent; how long until no other kernel leads to it.
fn falls_silent(lab: &Lab, deadline: Duration) -> Result<()> {
    let cluster = lab.converged()?;
    let node3 = cluster.member("node3")?.container;
    let start = now();
    node3.black_hole("eth1")?;
    eventually(deadline, "node3's routes are gone", || {
        gone_everywhere(&cluster, "node3")
    })?;
    println!("gone {:.1} s after the loss", start.elapsed().as_secs_f64());
    node3.heal("eth1")?;
    cluster.converge(CONVERGENCE)
}

fn graceful_restart(files: &Path, how: &str) -> Result<()> {
    edit(
        &files.join("mesh/manifests/bgp.yaml"),
        "  timers:",
        &format!("  gracefulRestart: {how}\n  timers:"),
    )
}

#[test]
fn a_silent_loss_is_over_when_the_hold_time_ends() {
    story_with(
        "mesh",
        |files| graceful_restart(files, "{notification: false}"),
        |lab| falls_silent(lab, HOLD + Duration::from_secs(3)),
    );
}

/// Where RFC 8538 was agreed, an ended hold time may be a restart too: a path that is the only one stays for the restart time.
#[test]
fn with_notification_restart_a_silent_loss_is_over_when_the_restart_time_ends() {
    let restart = Duration::from_secs(5);
    story_with(
        "mesh",
        |files| graceful_restart(files, "{restartSeconds: 5}"),
        |lab| falls_silent(lab, HOLD + restart + Duration::from_secs(3)),
    );
}

/// Pings from each pod of node1 to each pod of node2.
fn from_node1_to_node2(pods: &[Pod<'_>]) -> Result<Vec<Stream>> {
    let mut streams = Vec::new();
    for from in pods.iter().filter(|pod| pod.node.name == "node1") {
        for to in pods.iter().filter(|pod| pod.node.name == "node2") {
            for target in &to.addresses {
                streams.push(Stream::start(from, target, EVERY)?);
            }
        }
    }
    Ok(streams)
}

#[test]
fn a_tor_that_asks_to_be_avoided_is_left_without_loss() {
    story("dual-homed", |lab| {
        let cluster = lab.converged()?;
        eventually(CONVERGENCE, "both uplinks are in use", || both(&cluster))?;
        let pods = cluster.pods()?;
        cluster.reach(&pods, CONVERGENCE)?;
        let streams = from_node1_to_node2(&pods)?;
        // RFC 8326: before its maintenance, tor1 marks all it announces.
        lab.node("tor1")?
            .vtysh_configure(&["router bgp 65101", "bgp graceful-shutdown"])?;
        eventually(Duration::from_secs(10), "node1 uses tor2 only", || {
            by_tor2(&cluster)
        })?;
        lab.node("tor1")?
            .vtysh_configure(&["router bgp 65101", "no bgp graceful-shutdown"])?;
        eventually(CONVERGENCE, "both uplinks are back", || both(&cluster))?;
        at_most_lost(
            &streams
                .into_iter()
                .map(Stream::stop)
                .collect::<Result<Vec<_>>>()?,
            0,
        )
    });
}

#[test]
fn a_dropped_uplink_costs_only_what_is_in_flight() {
    story("dual-homed", |lab| {
        let cluster = lab.converged()?;
        let pods = cluster.pods()?;
        cluster.reach(&pods, CONVERGENCE)?;
        let streams = from_node1_to_node2(&pods)?;
        lab.node("tor1")?.link("eth1", "down")?;
        eventually(Duration::from_secs(1), "node1 uses tor2 only", || {
            by_tor2(&cluster)
        })?;
        lab.node("tor1")?.link("eth1", "up")?;
        eventually(CONVERGENCE, "both uplinks are back", || both(&cluster))?;
        let tallies = streams
            .into_iter()
            .map(Stream::stop)
            .collect::<Result<Vec<_>>>()?;
        at_most_lost(&tallies, 5)
    });
}

/// node1's way to node2's pods is by tor2, and by nothing else.
fn by_tor2(cluster: &Cluster<'_>) -> Result<()> {
    for cidr in &cluster.member("node2")?.facts.pod_cidrs {
        let route = cluster.member("node1")?.container.our_route(cidr)?;
        let gateways = route.gateways();
        let tor2 = |address: &String| address == "10.2.1.0" || address == "fd00:2:1::";
        ensure!(
            gateways.len() == 1 && gateways.iter().all(tor2),
            "node1 still has {route:?}"
        );
    }
    Ok(())
}

fn both(cluster: &Cluster<'_>) -> Result<()> {
    for cidr in &cluster.member("node2")?.facts.pod_cidrs {
        let route = cluster.member("node1")?.container.our_route(cidr)?;
        ensure!(route.gateways().len() == 2, "node1 has only {route:?}");
    }
    Ok(())
}

#[test]
fn a_silent_uplink_is_left_when_the_hold_time_ends() {
    story("dual-homed", |lab| {
        let cluster = lab.converged()?;
        eventually(CONVERGENCE, "both uplinks are in use", || both(&cluster))?;
        let start = now();
        cluster.member("node1")?.container.black_hole("eth1")?;
        eventually(
            HOLD + Duration::from_secs(3),
            "node1 uses tor2 only",
            || by_tor2(&cluster),
        )?;
        println!(
            "moved {:.1} s after the loss",
            start.elapsed().as_secs_f64()
        );
        // What comes in is for the ToRs to move, at the end of their hold time. The nodes' own addresses are on the links.
        let pods = cluster.pods()?;
        eventually(HOLD, "every pod reaches every pod", || {
            let lost = all_to_all(&cluster.between_pods(&pods), 1)?;
            ensure!(lost.is_empty(), "no answer: {}", lost.join(", "));
            Ok(())
        })?;
        cluster.member("node1")?.container.heal("eth1")?;
        eventually(CONVERGENCE, "both uplinks are back", || both(&cluster))
    });
}
