//! A node is cordoned, drained, deleted and registered again: service addresses move before its sessions end, nobody else notices, and what
//! it was told holds until it is taken back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::converge::Cluster;
use tests::kubernetes::{ControlPlane, story, v1};
use tests::ping::Stream;
use tests::scene::{SWITCH, SWITCH_OF_RACK, frr_was_told, is_led_to, is_told_by};
use tests::segment::{Segment, addresses};
use tests::story::{CONVERGENCE, at, at_most_lost, peers};
use tests::wait::eventually;
use tests::{Container, Lab};

const ADDRESS: &str = "192.0.2.10";
const SERVICE: &str = "192.0.2.10/32";
const EVERY: Duration = Duration::from_millis(10);

/// A service that every node of the rack serves.
const ANNOUNCED: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPAdvertisement
metadata: {name: services}
spec: {nodeSelector: {matchLabels: {rack: r1}}, services: {}}
";

struct Scene<'a> {
    lab: &'a Lab,
    control: &'a ControlPlane<'a>,
    switch: &'a Container,
    node1: &'a Container,
}

impl Scene<'_> {
    /// node1 and node2 announce the service to the switch, and answer for it.
    fn set(&self) -> Result<()> {
        for node in ["node1", "node2"] {
            let add = format!("ip address add {SERVICE} dev lo");
            self.lab.node(node)?.sh(&add)?;
            self.control.label(node, "rack=r1")?;
        }
        self.control.apply(SWITCH_OF_RACK)?;
        self.control.apply(ANNOUNCED)?;
        let ingress = json!({"status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}});
        let status = format!("{}/status", v1("services", "web"));
        self.control.patch(&status, &ingress)?;
        is_led_to(self.switch, SERVICE, &[1, 2])
    }

    /// Waits until every route of node1 at the switch bears GRACEFUL_SHUTDOWN, or none does.
    fn shuts_down(&self, prefix: &str, gracefully: bool) -> Result<()> {
        let what = format!("{prefix} bears GRACEFUL_SHUTDOWN: {gracefully}");
        eventually(CONVERGENCE, &what, || {
            let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
            let command = format!("show bgp {family} unicast {prefix} json");
            let shown = self.switch.vtysh(&command)?;
            let paths = at(&shown, "/paths")?.as_array().context("paths")?;
            let mut of_node1 = paths
                .iter()
                .filter(|path| path.pointer("/peer/peerId") == Some(&"10.0.0.1".into()));
            let path = of_node1.next().context("none from node1")?;
            let communities = path.pointer("/community/string").unwrap_or(&Value::Null);
            let borne = communities.to_string().contains("graceful-shutdown");
            ensure!(borne == gracefully, "{communities}");
            Ok(())
        })
    }

    fn status(&self, pointer: &str, is: &Value) -> Result<()> {
        let what = format!("node1 says {pointer} is {is}");
        eventually(CONVERGENCE, &what, || {
            let status = self.node1.routelet(&["status"])?;
            ensure!(at(&status, pointer)? == is, "{status}");
            Ok(())
        })
    }

    /// Waits until `routelet status` on node1 tells of something.
    fn tells(&self, words: &str) -> Result<()> {
        eventually(CONVERGENCE, &format!("node1 tells of {words}"), || {
            let problems = self.node1.routelet(&["status"])?;
            let problems = at(&problems, "/problems")?.to_string();
            ensure!(problems.contains(words), "{problems}");
            Ok(())
        })
    }

    /// `kubectl cordon` and `uncordon`.
    fn cordoned(&self, is: bool) -> Result<()> {
        let patch = json!({"spec": {"unschedulable": is}});
        let node = v1("nodes", "node1");
        self.control.patch(&node, &patch).map(drop)
    }

    fn cordon(&self, prefixes: &[String]) -> Result<()> {
        self.cordoned(true)?;
        is_led_to(self.switch, SERVICE, &[2])?;
        is_told_by(self.switch, SERVICE, &[1, 2])?;
        for prefix in prefixes {
            self.shuts_down(prefix, true)?;
        }
        self.status("/cordoned", &true.into())?;
        self.cordoned(false)?;
        for prefix in prefixes {
            self.shuts_down(prefix, false)?;
        }
        is_led_to(self.switch, SERVICE, &[1, 2])?;
        self.status("/cordoned", &false.into())
    }

    fn drain(&self, prefixes: &[String]) -> Result<()> {
        let is_out = || {
            self.status("/duty", &"drained".into())?;
            is_told_by(self.switch, SERVICE, &[2])?;
            for prefix in prefixes {
                is_told_by(self.switch, prefix, &[])?;
            }
            for (name, peer) in peers(self.node1)? {
                let state = at(&peer, "/state")?;
                ensure!(state != "Established", "{name} is {state}");
            }
            Ok(())
        };
        self.node1.run(&["routelet", "drain"])?;
        frr_was_told(
            self.switch,
            &[
                "10.0.0.1",
                "Administrative Shutdown",
                "drained by the operator",
            ],
        )?;
        is_out()?;
        self.control
            .says("bgpnodes/node1", "Ready", "False", "Drained")?;
        self.lab.stop("node1", Signal::SIGTERM)?;
        self.lab.start("node1")?;
        self.status("/complete", &true.into())?;
        is_out()?;
        self.node1.run(&["routelet", "undrain"])?;
        is_led_to(self.switch, SERVICE, &[1, 2])?;
        self.control
            .says("bgpnodes/node1", "Ready", "True", "Ready")?;
        Ok(())
    }

    fn delete(&self, cidrs: &[String], others: &Cluster<'_>) -> Result<()> {
        self.control.delete(&v1("nodes", "node1"))?;
        eventually(CONVERGENCE, "nobody knows node1 any more", || {
            for member in &others.members {
                for cidr in cidrs {
                    member.container.no_route_of_ours(cidr)?;
                    let words = ["routes", "--prefix", cidr];
                    let known = member.container.routelet(&words)?;
                    let routes = at(&known, "/routes")?;
                    ensure!(routes == &json!([]), "{}: {routes}", member.name);
                }
            }
            Ok(())
        })?;
        is_led_to(self.switch, SERVICE, &[2])?;
        frr_was_told(
            self.switch,
            &["10.0.0.1", "Administrative Shutdown", "Node was deleted"],
        )?;
        is_told_by(self.switch, SERVICE, &[2])?;
        self.tells("it was deleted from the cluster")?;
        self.control.forgets("node1")?;
        others.content()?;
        for member in &others.members {
            let path = format!("bgpnodes/{}", member.name);
            for (condition, reason) in [
                ("ExpectedRoutes", "AsExpected"),
                ("SessionsEstablished", "AllEstablished"),
                ("ConfigurationValid", "Valid"),
                ("Ready", "Ready"),
            ] {
                self.control.says(&path, condition, "True", reason)?;
            }
            let status = member.container.routelet(&["status"])?;
            ensure!(at(&status, "/audit/expected")? == 2, "{status}");
        }
        Ok(())
    }

    /// Registered again, the node gets other pod CIDRs: it is a node like any other.
    fn back(&self) -> Result<()> {
        let labels = json!({"rack": "r1"});
        self.control.register("node1", &addresses(1), &labels)?;
        let cluster = self.control.grown(3)?;
        is_led_to(self.switch, SERVICE, &[1, 2])?;
        self.control
            .says("bgpnodes/node1", "Ready", "True", "Ready")?;
        self.control.says(
            "nodes/node1",
            "NetworkUnavailable",
            "False",
            "RouteletRoutesInstalled",
        )?;
        cluster.settled()
    }
}

#[test]
fn a_node_is_cordoned_drained_and_deleted_and_nobody_else_loses_a_packet() {
    let segment = Segment::named("leaving")
        .nodes(3)
        .frr("switch", 254, SWITCH);
    story(segment, |lab, control| {
        let cluster = control.found(3)?;
        let scene = Scene {
            lab,
            control,
            switch: lab.node("switch")?,
            node1: lab.node("node1")?,
        };
        let pods = cluster.pod_each()?;
        scene.set()?;
        let cidrs = &cluster.member("node1")?.facts.pod_cidrs;
        for cidr in cidrs {
            is_told_by(scene.switch, cidr, &[1])?;
        }
        let service = Stream::start(scene.switch, ADDRESS, EVERY)?;

        let traffic = cluster.traffic(&pods)?;
        let by_the_switch = Stream::start(scene.switch, pods[0].address(false)?, EVERY)?;
        scene.cordon(&[&[SERVICE.to_owned()], &cidrs[..]].concat())?;
        traffic.unharmed()?;
        at_most_lost(&[by_the_switch.stop()?], 0)?;

        let others = control.cluster()?.without("node1");
        let traffic = others.traffic(&pods[1..])?;
        scene.drain(cidrs)?;
        cluster.reach(&pods, CONVERGENCE)?;
        scene.delete(cidrs, &others)?;
        scene.back()?;
        traffic.unharmed()?;
        at_most_lost(&[service.stop()?], 0)
    });
}
