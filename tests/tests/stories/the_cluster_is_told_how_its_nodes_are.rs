//! What the API server is told of the nodes, as `kubectl` shows it: status, conditions, events; and what an outage or a restart takes of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::kubernetes::{ControlPlane, Server, story};
use tests::segment::Segment;
use tests::story::{CONVERGENCE, at};
use tests::wait::eventually;

/// A status is written 10 s after the last one at the latest, one of a BGPPeer after the next look of its daemon.
const TOLD: Duration = Duration::from_secs(60);

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

/// A condition of an object.
fn condition(object: &Value, type_: &str) -> Result<Value> {
    let all = at(object, "/status/conditions")?.as_array();
    let mut all = all.context("conditions are a list")?.iter();
    let found = all.find(|condition| condition.get("type") == Some(&type_.into()));
    found.cloned().with_context(|| format!("no {type_}"))
}

fn network_unavailable(control: &ControlPlane<'_>, node: &str) -> Result<Value> {
    condition(
        &control.get(&format!("/api/v1/nodes/{node}"))?,
        "NetworkUnavailable",
    )
}

/// Waits until a condition of an object of ours has this status and reason.
fn says(
    control: &ControlPlane<'_>,
    path: &str,
    type_: &str,
    status: &str,
    reason: &str,
) -> Result<()> {
    let what = format!("{path} says {type_} {status} {reason}");
    eventually(TOLD, &what, || {
        let object = control.get(&format!("/apis/routelet.dev/v1alpha1/{path}"))?;
        let now = condition(&object, type_)?;
        ensure!(
            at(&now, "/status")? == status && at(&now, "/reason")? == reason,
            "{now}"
        );
        Ok(())
    })
}

/// Waits until `kubectl get events` shows one with this reason about this object.
fn event(control: &ControlPlane<'_>, reason: &str, object: &str) -> Result<()> {
    let what = format!("an event {reason} of {object}");
    eventually(TOLD, &what, || {
        let events = control.kubectl(&["get", "events"])?;
        let line = events
            .lines()
            .find(|line| line.contains(reason) && line.contains(object));
        line.map(drop).with_context(|| events.clone())
    })
}

#[test]
fn kubectl_shows_how_every_node_is() {
    story(Segment::named("told").nodes(3), |lab, control| {
        let cluster = control.found(2)?;
        // A third comes: it takes pods when its routes are there, not before.
        control.join(3)?;
        let grown = control.cluster()?;
        eventually(CONVERGENCE, "node3 says that its network is there", || {
            let now = network_unavailable(control, "node3")?;
            ensure!(at(&now, "/status")? == "False", "{now}");
            let missing = grown.missing()?;
            let mut of_node3 = missing.iter().filter(|route| route.starts_with("node3 "));
            ensure!(of_node3.next().is_none(), "too early: {missing:?}");
            ensure!(at(&now, "/reason")? == "RouteletRoutesInstalled", "{now}");
            Ok(())
        })?;
        grown.converge(CONVERGENCE)?;
        for member in &grown.members {
            let path = format!("bgpnodes/{}", member.name);
            says(control, &path, "Ready", "True", "Ready")?;
            says(
                control,
                &path,
                "SessionsEstablished",
                "True",
                "AllEstablished",
            )?;
            says(control, &path, "RoutesInKernel", "True", "Installed")?;
            says(control, &path, "ExpectedRoutes", "True", "AsExpected")?;
            event(
                control,
                "SessionEstablished",
                &format!("bgpnode/{}", member.name),
            )?;
        }
        let table = control.kubectl(&["get", "bgpnodes"])?;
        let line = table.lines().find(|line| line.starts_with("node1 "));
        let words: Vec<&str> = line.context("node1")?.split_whitespace().collect();
        ensure!(
            words.get(1) == Some(&"64512") && words.get(3..5) == Some(&["2", "2"]),
            "{table}"
        );

        control.apply(PEERS)?;
        says(control, "bgppeers/switch", "Accepted", "True", "Accepted")?;
        says(
            control,
            "bgppeers/switch",
            "Established",
            "False",
            "NoneEstablished",
        )?;
        says(
            control,
            "bgppeers/secured",
            "Accepted",
            "False",
            "SecretMissing",
        )?;
        says(
            control,
            "bgpnodes/node1",
            "SessionsEstablished",
            "False",
            "PeersDown",
        )?;
        says(
            control,
            "bgpnodes/node2",
            "ConfigurationValid",
            "False",
            "SecretMissing",
        )?;
        event(control, "SecretMissing", "bgppeer/secured")?;
        control.kubectl(&["delete", "bgppeer", "switch", "secured"])?;
        says(
            control,
            "bgpnodes/node1",
            "SessionsEstablished",
            "True",
            "AllEstablished",
        )?;

        // One leaves: the others say so, and go on.
        lab.stop("node3", Signal::SIGKILL)?;
        says(
            control,
            "bgpnodes/node1",
            "SessionsEstablished",
            "True",
            "NodesAway",
        )?;
        event(control, "SessionDown", "bgpnode/node1")?;
        control.kubectl(&["delete", "node", "node3"])?;
        eventually(TOLD, "its BGPNode goes with it", || {
            let left = control.kubectl(&["get", "bgpnodes", "-o", "name"])?;
            ensure!(!left.contains("node3"), "{left}");
            Ok(())
        })?;
        cluster.settled()
    });
}

#[test]
fn neither_a_restart_nor_an_outage_takes_back_what_was_said() {
    story(Segment::named("said").nodes(2), |lab, control| {
        let cluster = control.found(2)?;
        says(control, "bgpnodes/node1", "Ready", "True", "Ready")?;
        let said = network_unavailable(control, "node1")?;
        let of_node = || control.get("/apis/routelet.dev/v1alpha1/bgpnodes/node1");
        let ready = condition(&of_node()?, "Ready")?;

        lab.stop("node1", Signal::SIGKILL)?;
        lab.start("node1")?;
        cluster.settled()?;
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
        says(
            control,
            "bgpnodes/node1",
            "SessionsEstablished",
            "False",
            "NoNodeEstablished",
        )?;
        lab.start("node2")?;
        says(
            control,
            "bgpnodes/node1",
            "SessionsEstablished",
            "True",
            "AllEstablished",
        )?;
        ensure!(
            network_unavailable(control, "node1")? == said,
            "said {said} before"
        );
        let since = at(&ready, "/lastTransitionTime")?;
        let now = condition(&of_node()?, "Ready")?;
        ensure!(
            at(&now, "/lastTransitionTime")? == since,
            "it was {ready}, it is {now}"
        );
        Ok(())
    });
}
