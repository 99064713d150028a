//! Every reason that the README names, once, as `kubectl get events` shows it; and a session that comes and goes, which makes few of them.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::byhand::inside;
use tests::converge::Cluster;
use tests::kubernetes::{ControlPlane, Needs, Server, TOLD, real_story};
use tests::scene::SWITCH;
use tests::segment::Segment;
use tests::story::{at, is_up, peer};
use tests::wait::eventually;
use tests::{Container, Lab};

/// What is wrong with all nodes at once.
const CONFIGURATION: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPConfiguration
metadata: {name: default}
spec:
  topology: RouteReflector
  podNetwork: {clusterCIDRs: [10.244.0.0/16, \"fd00:10:244::/48\"], serviceCIDRs: [10.0.0.0/24]}
  cni: {directory: /proc/nowhere, pluginDirectories: [/nowhere]}
";

/// The switch of node2.
const PEER: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: switch}
spec:
  node: node2
  peerAddress: 10.0.0.254
  peerASN: 65001
  import: {rules: [{action: Accept}]}
";

/// One that is not there for node3, and one whose policy nobody has written.
const PEERS: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: absent}
spec: {node: node3, peerAddress: 10.0.0.99, peerASN: 65001}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: unwritten}
spec: {node: node1, peerAddress: 10.0.0.98, peerASN: 65001, passive: true, import: {policy: nobody-wrote-it}}
";

/// Lets the API server store what these definitions would not.
const ANYTHING: &str = r#"[{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
  "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]"#;
const BROKEN: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPPolicy
metadata: {name: broken}
spec: {rules: [{match: {asPath: \"(\"}}]}
";

/// Times that the session comes and goes, each seen by kubectl.
const SLOWLY: u64 = 3;
/// The same, as fast as can be.
const FAST: u64 = 12;

/// Somebody else's route stands where node1 has one of ours to node2's pods.
fn supplant(cluster: &Cluster<'_>) -> Result<()> {
    let pods = cluster.member("node2")?.pod_cidr(false)?;
    let foreign = format!("ip route replace {pods} via 10.0.0.3 proto static metric 1024");
    cluster.member("node1")?.container.sh(&foreign).map(drop)
}

/// What a switch should not announce: a part of node1's pods, pods that no node has, and some by a router that nobody reaches.
fn announce(switch: &Container, cluster: &Cluster<'_>) -> Result<()> {
    let pods = cluster.member("node1")?.pod_cidr(false)?;
    let part = format!("network {}", pods.replace("/24", "/25"));
    switch.vtysh_configure(&[
        "ip prefix-list far permit 10.244.222.0/24",
        "route-map far permit 10",
        "match ip address prefix-list far",
        "set ip next-hop 192.0.2.1",
        "route-map far permit 20",
        "exit",
        "router bgp 65001",
        "no bgp network import-check",
        "address-family ipv4 unicast",
        &part,
        "network 10.244.221.0/24",
        "network 10.244.222.0/24",
        "neighbor NODES route-map far out",
    ])
}

/// The daemon of a node starts where another program has its port.
fn start_beside_a_squatter(lab: &Lab, control: &ControlPlane<'_>, node: &str) -> Result<()> {
    lab.stop(node, Signal::SIGTERM)?;
    let squatter = inside(lab.node(node)?, || {
        Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 179))?)
    })?;
    lab.start(node)?;
    control.event("SpeakerProblem", &format!("bgpnode/{node}"))?;
    drop(squatter);
    Ok(())
}

/// Sets a field of an object's spec.
fn merge(
    control: &ControlPlane<'_>,
    kind: &str,
    name: &str,
    field: &str,
    value: &str,
) -> Result<()> {
    let patch = format!("{{\"spec\": {{\"{field}\": {value}}}}}");
    let words = ["patch", kind, name, "--type=merge", "-p", &patch];
    control.kubectl(&words).map(drop)
}

/// Waits for all of these events: reason and object.
fn seen(control: &ControlPlane<'_>, events: &[(&str, &str)]) -> Result<()> {
    for (reason, object) in events {
        println!("{}", control.event(reason, object)?);
    }
    Ok(())
}

#[test]
fn each_reason_is_seen_once_and_a_session_that_flaps_is_one_event() {
    let segment = Segment::named("wrong").nodes(3).frr("switch", 254, SWITCH);
    real_story(Needs::Kubectl, segment, |lab, control| {
        control.found(2)?;
        // Nobody hands out pod CIDRs for a while.
        control.end(Server::Controllers, Signal::SIGTERM)?;
        control.join(3)?;
        control.event("PodCIDRMissing", "node/node3")?;
        control.launch(Server::Controllers)?;
        let cluster = control.grown(3)?;
        control.apply(PEER)?;
        flap(lab, control)?;
        start_beside_a_squatter(lab, control, "node2")?;

        supplant(&cluster)?;
        seen(control, &[("RouteWrong", "bgpnode/node1")])?;
        control.apply(CONFIGURATION)?;
        seen(
            control,
            &[
                ("NoRouteReflector", "bgpconfiguration/default"),
                ("PodCIDRConflict", "node/node1"),
                ("ConflistNotWritten", "node/node2"),
                ("CNIPluginMissing", "node/node3"),
            ],
        )?;
        control.apply(PEERS)?;
        announce(lab.node("switch")?, &cluster)?;
        seen(
            control,
            &[
                ("ConfigurationProblem", "bgppeer/unwritten"),
                ("OriginRefused", "bgpnode/node2"),
                ("RouteUnexpected", "bgpnode/node2"),
                ("KernelProblem", "bgpnode/node2"),
                ("SessionNotEstablished", "bgpnode/node3"),
            ],
        )?;
        let definition = "bgppolicies.routelet.dev";
        control.kubectl(&["patch", "crd", definition, "--type=json", "-p", ANYTHING])?;
        eventually(TOLD, "anything is stored", || control.apply(BROKEN))?;
        merge(control, "bgpnode", "node1", "addresses", "[\"10.0.0.1\"]")?;
        merge(control, "bgpnode", "node3", "routerID", "\"10.0.0.1\"")?;
        seen(
            control,
            &[
                ("ObjectInvalid", "bgppolicy/broken"),
                ("AddressProblem", "node/node1"),
                ("RouterIDConflict", "node/node3"),
            ],
        )?;
        let silent = "{\"podCIDRs\": false}";
        merge(control, "bgpconfiguration", "default", "advertise", silent)?;
        seen(control, &[("RouteMissing", "bgpnode/node1")])
    });
}

/// How many events with this reason there are about node2's session with the switch, and how often it happened by them.
fn told(control: &ControlPlane<'_>, reason: &str) -> Result<(usize, u64)> {
    let all = control.get("/apis/events.k8s.io/v1/namespaces/default/events")?;
    let all = at(&all, "/items")?.as_array().context("a list")?;
    let field = |event: &Value, pointer: &str| {
        let field = event.pointer(pointer).and_then(Value::as_str);
        field.unwrap_or_default().to_owned()
    };
    let is_meant = |event: &&Value| {
        field(event, "/reason") == reason
            && field(event, "/regarding/name") == "node2"
            && field(event, "/related/fieldPath") == "switch"
    };
    let meant: Vec<&Value> = all.iter().filter(is_meant).collect();
    let times = |event: &&Value| {
        event
            .pointer("/series/count")
            .and_then(Value::as_u64)
            .unwrap_or(1)
    };
    Ok((meant.len(), meant.iter().map(times).sum()))
}

/// The session of node2 with the switch comes and goes: one event counts how often, until the node has told enough.
fn flap(lab: &Lab, control: &ControlPlane<'_>) -> Result<()> {
    let (node2, switch) = (lab.node("node2")?, lab.node("switch")?);
    let times = || -> Result<u64> {
        let peer = peer(node2, "switch")?;
        at(&peer, "/establishedCount")?.as_u64().context("a count")
    };
    let again = || {
        let before = times()?;
        switch.run(&["vtysh", "-c", "clear bgp 10.0.0.2"])?;
        eventually(TOLD, "the session is up again", || {
            let now = times()?;
            ensure!(now > before, "it was up {now} times");
            is_up(node2, "switch")
        })
    };
    let counted = |reason: &str, least: u64| {
        eventually(TOLD, &format!("{reason} {least} times"), || {
            let (events, times) = told(control, reason)?;
            ensure!(times >= least, "it is told {times} times");
            ensure!(events == 1, "{events} events");
            Ok(())
        })
    };
    is_up(node2, "switch")?;
    counted("SessionEstablished", 1)?;
    for flap in 1..=SLOWLY {
        again()?;
        counted("SessionDown", flap)?;
        counted("SessionEstablished", flap + 1)?;
    }
    for _ in 0..FAST {
        again()?;
    }
    counted("SessionDown", SLOWLY)
}
