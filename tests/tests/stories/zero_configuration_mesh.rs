//! A cluster with no object of ours: its nodes form a mesh, their pods reach each other, and the API server may be away.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tests::Lab;
use tests::cni::Pod;
use tests::converge::Cluster;
use tests::kubernetes::{Server, story, v1};
use tests::segment::Segment;
use tests::story::{CONVERGENCE, at, peers};
use tests::wait::eventually;

#[test]
fn a_mesh_forms_by_itself_and_nodes_join_and_leave() {
    story(Segment::named("zero").nodes(4), |lab, control| {
        let cluster = control.found(3)?;
        let pods = cluster.pods()?;
        cluster.reach(&pods, CONVERGENCE)?;
        cluster.prove(&pods)?.holds()?;
        for member in &cluster.members {
            control.is_told(&member.name)?;
        }

        control.join(4)?;
        let grown = control.grown(4)?;
        let newcomer = grown.member("node4")?;
        let mut all = pods;
        all.extend(newcomer.pods(1)?);
        grown.reach(&all, CONVERGENCE)?;

        control.delete(&v1("nodes", "node4"))?;
        eventually(CONVERGENCE, "nobody knows node4 any more", || {
            for member in &cluster.members {
                for cidr in &newcomer.facts.pod_cidrs {
                    member.container.no_route_of_ours(cidr)?;
                }
                let count = peers(member.container)?.len();
                ensure!(count == 2, "{} has {count} peers", member.name);
            }
            Ok(())
        })?;
        ensure!(lab.ended("node1")?.is_none(), "node1's daemon has ended");
        let stayed: Vec<Pod<'_>> = all
            .into_iter()
            .filter(|pod| pod.node.name != "node4")
            .collect();
        cluster.reach(&stayed, CONVERGENCE)
    });
}

/// Since when the sessions of all nodes are up.
fn sessions(cluster: &Cluster<'_>) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for member in &cluster.members {
        for (name, peer) in peers(member.container)? {
            all.push(format!("{} {name} {}", member.name, at(&peer, "/since")?));
        }
    }
    Ok(all)
}

/// Waits until every node has been told of `generation`, the value of a label of node1.
fn heard(cluster: &Cluster<'_>, generation: &str) -> Result<()> {
    eventually(CONVERGENCE, "what is new is heard by all", || {
        for member in &cluster.members {
            let stored = member.container.path("/var/lib/routelet/cluster.yaml");
            let stored = std::fs::read_to_string(stored)?;
            ensure!(
                stored.contains(generation),
                "{} has not heard of it",
                member.name
            );
        }
        Ok(())
    })
}

#[test]
fn an_outage_of_the_api_server_costs_nothing() {
    story(Segment::named("outage").nodes(3), |lab, control| {
        let cluster = control.found(3)?;
        let pods = cluster.pod_each()?;
        let traffic = cluster.traffic(&pods)?;

        control.end(Server::Api, Signal::SIGKILL)?;
        restart(lab, "node1", &cluster)?;
        let before = sessions(&cluster)?;
        control.launch(Server::Api)?;
        control.ready()?;
        // Who has caught up hears what is new.
        control.label("node1", "generation=second")?;
        heard(&cluster, "second")?;
        cluster.settled()?;
        ensure!(
            sessions(&cluster)? == before,
            "a session did not outlive the return of the API server"
        );
        traffic.unharmed()
    });
}

#[test]
fn all_daemons_restart_in_turn_and_nothing_is_lost() {
    story(Segment::named("rolling").nodes(3), |lab, control| {
        let cluster = control.found(3)?;
        let pods = cluster.pod_each()?;
        let traffic = cluster.traffic(&pods)?;
        for member in &cluster.members {
            restart(lab, &member.name, &cluster)?;
        }
        traffic.unharmed()
    });
}

/// One daemon restarts, and all is as it was.
fn restart(lab: &Lab, node: &str, cluster: &Cluster<'_>) -> Result<()> {
    lab.stop(node, Signal::SIGTERM)?;
    lab.start(node)?;
    cluster
        .settled()
        .with_context(|| format!("after the restart of {node}"))?;
    let missing = cluster.missing()?;
    ensure!(missing.is_empty(), "{}", missing.join(", "));
    Ok(())
}
