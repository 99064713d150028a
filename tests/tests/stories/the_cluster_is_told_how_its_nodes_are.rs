//! What the API server is told of the nodes, as `kubectl` shows it: status, conditions, events; and what an outage or a restart takes of it.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::Lab;
use tests::kubernetes::{ControlPlane, DAEMON, Needs, NetworkWatch, Server, TOLD, real_story};
use tests::segment::{Segment, addresses};
use tests::story::{CONVERGENCE, at};
use tests::wait::eventually;

/// A switch that is not there, and one whose password nobody knows.
const PEERS: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: switch}
spec: {node: node1, peerAddress: 10.0.0.99, peerASN: 65001}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: secured}
spec: {node: node2, peerAddress: 10.0.0.98, peerASN: 65001, authSecretRef: {name: nobody-made-it}}
";

const NETWORK: &str = "NetworkUnavailable";
const ROUTED: &str = "False RouteletRoutesInstalled";
const NOT_YET: &str = "True RoutesNotInKernel";

fn network_unavailable(control: &ControlPlane<'_>, node: &str) -> Result<Value> {
    control.whole_condition(&format!("/api/v1/nodes/{node}"), NETWORK)
}

/// What a cloud provider says of a node that its own routes do not reach yet.
fn says_a_cloud(control: &ControlPlane<'_>, node: &str) -> Result<()> {
    let now = "2026-01-01T00:00:00Z";
    let condition = json!({"status": {"conditions": [{
        "type": NETWORK, "status": "True", "reason": "NoRouteCreated", "message": "a cloud by hand",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }]}});
    let patch = condition.to_string();
    let words = ["patch", "node", node, "--subresource=status", "-p", &patch];
    control.kubectl(&words).map(drop)
}

/// A daemon starts for the first time on a node that is registered, under the eyes of a watch.
fn first_start(lab: &Lab, control: &ControlPlane<'_>, node: &str) -> Result<NetworkWatch> {
    let watch = control.watch_network(node)?;
    control.place(node, DAEMON)?;
    lab.start(node)?;
    Ok(watch)
}

#[test]
fn kubectl_shows_how_every_node_is() {
    real_story(
        Needs::Kubectl,
        Segment::named("told").nodes(4),
        |lab, control| {
            let cluster = control.found(2)?;
            // Two more come: they take pods when their routes are there, not before, whatever somebody else said of the network.
            for number in [3, 4] {
                let node = format!("node{number}");
                control.register(&node, &addresses(number), &json!({}))?;
            }
            says_a_cloud(control, "node4")?;
            let grown = control.cluster()?;
            for (node, before) in [("node3", ""), ("node4", "True NoRouteCreated")] {
                let watch = first_start(lab, control, node)?;
                let what = format!("{node} says that its network is there");
                eventually(TOLD, &what, || {
                    let now = network_unavailable(control, node)?;
                    ensure!(at(&now, "/status")? == "False", "{now}");
                    // Of the others, node4 may not be there yet.
                    let missing = grown.missing()?;
                    let own = format!("{node} ");
                    let mut own = missing.iter().filter(|route| route.starts_with(&own));
                    let to_node4 = grown.member("node4")?.facts.pod_cidrs.clone();
                    let early =
                        own.find(|route| !to_node4.iter().any(|cidr| route.ends_with(cidr)));
                    ensure!(early.is_none(), "too early: {missing:?}");
                    Ok(())
                })?;
                eventually(TOLD, "the watch has seen it", || {
                    let steps = watch.steps()?;
                    ensure!(steps == [before, NOT_YET, ROUTED], "{steps:?}");
                    Ok(())
                })?;
            }
            grown.converge(CONVERGENCE)?;
            for member in &grown.members {
                let path = format!("bgpnodes/{}", member.name);
                control.says(&path, "Ready", "True", "Ready")?;
                control.says(&path, "SessionsEstablished", "True", "AllEstablished")?;
                control.says(&path, "RoutesInKernel", "True", "Installed")?;
                control.says(&path, "ExpectedRoutes", "True", "AsExpected")?;
                control.event("SessionEstablished", &format!("bgpnode/{}", member.name))?;
            }
            let table = control.kubectl(&["get", "bgpnodes"])?;
            let line = table.lines().find(|line| line.starts_with("node1 "));
            let words: Vec<&str> = line.context("node1")?.split_whitespace().collect();
            ensure!(
                words.get(1) == Some(&"64512") && words.get(3..5) == Some(&["3", "3"]),
                "{table}"
            );

            control.apply(PEERS)?;
            control.says("bgppeers/switch", "Accepted", "True", "Accepted")?;
            control.says("bgppeers/switch", "Established", "False", "NoneEstablished")?;
            control.says("bgppeers/secured", "Accepted", "False", "SecretMissing")?;
            control.says(
                "bgpnodes/node1",
                "SessionsEstablished",
                "False",
                "PeersDown",
            )?;
            control.says(
                "bgpnodes/node2",
                "ConfigurationValid",
                "False",
                "SecretMissing",
            )?;
            control.event("SecretMissing", "bgppeer/secured")?;
            control.kubectl(&["delete", "bgppeer", "switch", "secured"])?;
            control.says(
                "bgpnodes/node1",
                "SessionsEstablished",
                "True",
                "AllEstablished",
            )?;

            // Two leave: the others say so, and go on.
            for node in ["node3", "node4"] {
                lab.stop(node, Signal::SIGKILL)?;
            }
            control.says("bgpnodes/node1", "SessionsEstablished", "True", "NodesAway")?;
            control.event("SessionDown", "bgpnode/node1")?;
            control.kubectl(&["delete", "node", "node3", "node4"])?;
            eventually(TOLD, "their BGPNodes go with them", || {
                let left = control.kubectl(&["get", "bgpnodes", "-o", "name"])?;
                ensure!(!left.contains("node3") && !left.contains("node4"), "{left}");
                Ok(())
            })?;
            cluster.settled()
        },
    );
}

#[test]
fn neither_a_restart_nor_an_outage_takes_back_what_was_said() {
    real_story(
        Needs::Kubectl,
        Segment::named("said").nodes(2),
        |lab, control| {
            let cluster = control.found(2)?;
            control.says("bgpnodes/node1", "Ready", "True", "Ready")?;
            let said = network_unavailable(control, "node1")?;
            let ours = "/apis/routelet.dev/v1alpha1/bgpnodes/node1";
            let ready = control.whole_condition(ours, "Ready")?;

            let watch = control.watch_network("node1")?;
            lab.stop("node1", Signal::SIGKILL)?;
            lab.start("node1")?;
            cluster.settled()?;
            // Its first words after the restart are on their way by now, and this one is behind them.
            control.label("node1", "generation=second")?;
            eventually(CONVERGENCE, "node1 hears of it", || {
                let stored = cluster.member("node1")?.container;
                let stored =
                    std::fs::read_to_string(stored.path("/var/lib/routelet/cluster.yaml"))?;
                ensure!(stored.contains("second"), "not yet");
                Ok(())
            })?;
            ensure!(watch.steps()? == [ROUTED], "{:?}", watch.steps()?);

            control.end(Server::Api, Signal::SIGKILL)?;
            lab.stop("node2", Signal::SIGTERM)?;
            eventually(
                CONVERGENCE,
                "node1 misses node2, and tells whom it can",
                || {
                    let status = cluster.member("node1")?.container.routelet(&["status"])?;
                    let text = status.to_string();
                    ensure!(
                        text.contains("peer node2") && text.contains("has not answered since"),
                        "{text}"
                    );
                    Ok(())
                },
            )?;
            ensure!(cluster.missing()?.is_empty(), "{:?}", cluster.missing()?);
            control.launch(Server::Api)?;
            control.ready()?;
            control.says(
                "bgpnodes/node1",
                "SessionsEstablished",
                "False",
                "NoNodeEstablished",
            )?;
            lab.start("node2")?;
            control.says(
                "bgpnodes/node1",
                "SessionsEstablished",
                "True",
                "AllEstablished",
            )?;
            ensure!(
                network_unavailable(control, "node1")? == said,
                "said {said} before"
            );
            let now = control.whole_condition(ours, "Ready")?;
            ensure!(
                at(&now, "/lastTransitionTime")? == at(&ready, "/lastTransitionTime")?,
                "it was {ready}, it is {now}"
            );
            Ok(())
        },
    );
}
