//! Every topology converges; every pod reaches every pod under its own address, bare, in both families; every node reaches every pod. Nothing that a
//! routelet says meanwhile is malformed.

use anyhow::{Context, Result, ensure};
use tests::Lab;
use tests::converge::Cluster;
use tests::kubernetes::{ControlPlane, Lifetime, programs};
use tests::story::{CONVERGENCE, story_overheard};

fn converges(lab: &Lab) -> Result<()> {
    talks(&lab.converged()?)
}

fn talks(cluster: &Cluster<'_>) -> Result<()> {
    let pods = cluster.pods()?;
    cluster.reach(&pods, CONVERGENCE)?;
    let proof = cluster.prove(&pods)?;
    proof.holds()?;
    ensure!(
        proof.sources_kept == pods.len() * (pods.len() - 1) * 2,
        "not every pair was seen: {proof:?}"
    );
    for member in &cluster.members {
        let rules = member.container.run(&["nft", "list", "ruleset"])?;
        ensure!(
            rules.trim().is_empty(),
            "{} has packet rules: {rules}",
            member.name
        );
        let status = member.container.output(&["routelet", "status"])?;
        ensure!(
            status.code == 0,
            "{} is not healthy: {}",
            member.name,
            status.stdout
        );
    }
    Ok(())
}

#[test]
fn mesh_converges() {
    story_overheard("mesh", converges);
}

#[test]
fn tor_frr_converges() {
    story_overheard("tor-frr", converges);
}

#[test]
fn tor_bird_converges() {
    story_overheard("tor-bird", converges);
}

#[test]
fn racks_converge() {
    story_overheard("racks", converges);
}

#[test]
fn reflector_converges() {
    story_overheard("reflector", converges);
}

#[test]
fn dual_homed_converges() {
    story_overheard("dual-homed", |lab| {
        converges(lab)?;
        let cluster = lab.converged()?;
        for member in &cluster.members {
            for other in cluster
                .members
                .iter()
                .filter(|other| other.name != member.name)
            {
                for cidr in &other.facts.pod_cidrs {
                    let route = member.container.our_route(cidr)?;
                    ensure!(
                        route.gateways().len() == 2,
                        "{}: not both uplinks: {route:?}",
                        member.name
                    );
                }
            }
        }
        Ok(())
    });
}

#[test]
fn unnumbered_converges() {
    story_overheard("unnumbered", |lab| {
        converges(lab)?;
        let cluster = lab.converged()?;
        for member in &cluster.members {
            let others = cluster.members.iter();
            for other in others.filter(|other| other.name != member.name) {
                for cidr in &other.facts.pod_cidrs {
                    let route = member.container.our_route(cidr)?;
                    ensure!(
                        route.devices() == ["eth1", "eth2"],
                        "{}: not both uplinks: {route:?}",
                        member.name
                    );
                }
            }
            let uplinks = ["-4", "-br", "address", "show", "dev"];
            for uplink in ["eth1", "eth2"] {
                let words = [&["ip"], &uplinks[..], &[uplink]].concat();
                let addresses = member.container.run(&words)?;
                ensure!(
                    addresses.split_whitespace().nth(2).is_none(),
                    "{}: an IPv4 address on an uplink: {addresses}",
                    member.name
                );
            }
        }
        Ok(())
    });
}

#[test]
fn cluster_converges() {
    if let Err(why) = programs::folder() {
        println!("skipped: {why:#}");
        return;
    }
    story_overheard("cluster", |lab| {
        let control = ControlPlane::of(lab, Lifetime::Story)?.context("it has a control plane")?;
        let told = || {
            let cluster = control.found_all()?;
            cluster.converge(CONVERGENCE)?;
            talks(&cluster)?;
            for member in &cluster.members {
                control.is_told(&member.name)?;
            }
            // As a newcomer asks, with nothing but the environment of the node.
            let nodes = lab
                .node(control.host())?
                .run(&["kubectl", "get", "bgpnodes"])?;
            ensure!(
                nodes.lines().count() == 1 + cluster.members.len(),
                "{nodes}"
            );
            Ok(())
        };
        told().inspect_err(|_| control.autopsy())
    });
}
