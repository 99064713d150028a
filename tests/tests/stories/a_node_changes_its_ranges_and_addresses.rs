//! A node gets its pod CIDRs late, another address, other pod CIDRs: routes and sessions follow, nothing of before is left, and the other
//! nodes' pods lose nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::Lab;
use tests::cni::{Pod, conflist};
use tests::container::Container;
use tests::converge::Cluster;
use tests::kernel::OURS;
use tests::kubernetes::{ControlPlane, DAEMON, Needs, Server, ours, real_story, v1};
use tests::segment::{Segment, addresses};
use tests::story::{CONVERGENCE, at, peer};
use tests::wait::eventually;

const CNI: &str = "/etc/cni/net.d";
const SILENCE: Duration = Duration::from_secs(240);

struct Scene<'a, 'lab> {
    lab: &'lab Lab,
    control: &'a ControlPlane<'lab>,
    others: &'a Cluster<'lab>,
    node3: &'lab Container,
}

/// How the routes of ours on a node that lead to one of `gateways` look.
fn led_to(node: &Container, gateways: &[&str]) -> Result<Vec<String>> {
    let mut led = Vec::new();
    for family in ["-4", "-6"] {
        let routes = node.routes(family, &["table", "all", "proto", OURS])?;
        let leads = |gateway: &String| gateways.contains(&gateway.as_str());
        let routes = routes
            .into_iter()
            .filter(|route| route.gateways().iter().any(leads));
        led.extend(routes.map(|route| route.dst));
    }
    Ok(led)
}

impl<'lab> Scene<'_, 'lab> {
    /// The whole cluster, once all kernels have all routes and nobody complains, with a new pod of node3 that reaches all and is reached.
    fn whole(&self, pods: &mut Vec<Pod<'lab>>, pod: &str) -> Result<Cluster<'lab>> {
        let cluster = self.control.grown(3)?;
        let node3 = cluster.member("node3")?;
        let expected = &node3.facts.pod_cidrs;
        let list = eventually(CONVERGENCE, "the conflist follows the pod CIDRs", || {
            let list = conflist(self.node3, CNI)?;
            let ranges = at(&list, "/plugins/0/ipam/ranges")?;
            let of = |cidr: &String| json!([{"subnet": cidr}]);
            let wanted: Vec<Value> = expected.iter().map(of).collect();
            ensure!(ranges == &Value::from(wanted), "{ranges}");
            Ok(list)
        })?;
        pods.push(Pod::add(self.node3, pod, &list)?);
        cluster.reach(pods, CONVERGENCE)?;
        cluster.settled()?;
        cluster.content()?;
        self.control.says(
            "nodes/node3",
            "NetworkUnavailable",
            "False",
            "RouteletRoutesInstalled",
        )?;
        self.control
            .says("bgpnodes/node3", "ExpectedRoutes", "True", "AsExpected")?;
        Ok(cluster)
    }

    /// The controller that hands out pod CIDRs is away when node3 comes.
    fn comes_without(&self) -> Result<()> {
        self.control.end(Server::Controllers, Signal::SIGTERM)?;
        self.control.register("node3", &addresses(3), &json!({}))?;
        self.control.place("node3", DAEMON)?;
        self.lab.start("node3")?;
        eventually(CONVERGENCE, "node3 names what it lacks", || {
            let status = self.node3.routelet(&["status"])?;
            let problems = at(&status, "/problems")?.to_string();
            ensure!(problems.contains("it has no spec.podCIDRs"), "{problems}");
            ensure!(at(&status, "/complete")? == true, "{status}");
            Ok(())
        })?;
        self.control.event("PodCIDRMissing", "node/node3")?;
        self.control
            .says("nodes/node3", "NetworkUnavailable", "True", "NoPodCIDR")?;
        let written = conflist(self.node3, CNI);
        ensure!(
            written.is_err(),
            "a conflist without pod CIDRs: {written:?}"
        );
        self.control.launch(Server::Controllers)
    }

    /// The node's interface gets another address, the kubelet says so, and the old one goes.
    fn moves_to(&self, old: &str, new: &str) -> Result<()> {
        let change = |verb: &str, address: &str| {
            let line = format!("ip address {verb} {address}/16 dev eth1");
            self.node3.sh(&line).map(drop)
        };
        // As systemd has it: else the kernel takes the second address of a subnet with the first.
        self.node3
            .sh("sysctl -q -w net.ipv4.conf.eth1.promote_secondaries=1")?;
        change("add", new)?;
        let addresses = json!([
            {"type": "InternalIP", "address": new},
            {"type": "InternalIP", "address": "fd00:10::3"},
            {"type": "Hostname", "address": "node3"},
        ]);
        let status = format!("{}/status", v1("nodes", "node3"));
        let patch = json!({"status": {"addresses": addresses}});
        self.control.patch(&status, &patch)?;
        for member in &self.others.members {
            let what = format!("{} leads the pods of node3 to {new}", member.name);
            eventually(CONVERGENCE, &what, || {
                let session = peer(member.container, "node3")?;
                ensure!(at(&session, "/address")? == new, "{session}");
                ensure!(at(&session, "/state")? == "Established", "{session}");
                let led = led_to(member.container, &[old])?;
                ensure!(led.is_empty(), "{led:?} still go to {old}");
                let led = led_to(member.container, &[new])?;
                ensure!(led.len() == 1, "{led:?} go to {new}");
                Ok(())
            })?;
        }
        change("del", old)?;
        eventually(CONVERGENCE, "its BGPNode has the new address", || {
            let object = self.control.get(&ours("bgpnodes", "node3"))?;
            let status = at(&object, "/status")?;
            ensure!(at(status, "/addresses/0")? == new, "{status}");
            ensure!(at(status, "/routerID")? == new, "{status}");
            Ok(())
        })
    }

    /// The old address took the connections to the API server with it, which shows by their silence alone.
    fn hears(&self) -> Result<()> {
        self.control.label("node3", "generation=second")?;
        eventually(SILENCE, "node3 hears what is new", || {
            let stored = self.node3.path("/var/lib/routelet/cluster.yaml");
            let stored = std::fs::read_to_string(stored)?;
            ensure!(stored.contains("second"), "it has not heard of it");
            Ok(())
        })
    }

    /// The Node is made anew with these pod CIDRs.
    fn gets(&self, cidrs: &[&str], before: &Cluster<'_>) -> Result<()> {
        self.control.delete(&v1("nodes", "node3"))?;
        let cidrs: Vec<String> = cidrs.iter().map(|cidr| (*cidr).to_owned()).collect();
        self.control
            .register_with("node3", &addresses(3), &json!({}), &cidrs)?;
        let gone = &before.member("node3")?.facts.pod_cidrs;
        eventually(CONVERGENCE, "nobody has a route to what was", || {
            for member in &before.members {
                for family in ["-4", "-6"] {
                    let ours = member
                        .container
                        .routes(family, &["table", "all", "proto", OURS])?;
                    let left = ours.iter().find(|route| gone.contains(&route.dst));
                    ensure!(left.is_none(), "{}: {left:?}", member.name);
                }
            }
            Ok(())
        })
    }
}

#[test]
fn routes_and_sessions_follow_a_node_that_is_given_ranges_and_addresses() {
    let segment = Segment::named("changing").nodes(3);
    real_story(Needs::Controllers, segment, |lab, control| {
        let others = control.found(2)?;
        let mut pods = others.pod_each()?;
        let scene = Scene {
            lab,
            control,
            others: &others,
            node3: lab.node("node3")?,
        };
        let traffic = others.traffic(&pods)?;
        scene.comes_without()?;
        let before = scene.whole(&mut pods, "early")?;

        scene.gets(&["10.244.77.0/24", "fd00:10:244:77::/64"], &before)?;
        // The pods of before are gone with their range.
        pods.truncate(2);
        scene.whole(&mut pods, "renewed")?;

        scene.moves_to("10.0.0.3", "10.0.0.33")?;
        scene.whole(&mut pods, "moved")?;
        scene.hears()?;
        traffic.unharmed()
    });
}
