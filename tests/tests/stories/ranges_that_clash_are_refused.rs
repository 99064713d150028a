//! Pods, nodes and services need ranges apart. A node whose pod CIDR is another node's, or lies among nodes or services, is told so at
//! once; its range is installed nowhere, and everybody else's pods go on.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::cni::{Pod, conflist};
use tests::container::Container;
use tests::converge::Cluster;
use tests::kubernetes::{ControlPlane, DAEMON, Needs, real_story, v1};
use tests::ping::unreachable;
use tests::segment::{Segment, addresses};
use tests::story::{CONVERGENCE, at};
use tests::wait::eventually;

const SERVICES: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPConfiguration
metadata: {name: default}
spec: {podNetwork: {serviceCIDRs: [10.96.0.0/16]}}
";

struct Scene<'a, 'lab> {
    control: &'a ControlPlane<'lab>,
    cluster: &'a Cluster<'lab>,
    pods: &'a [Pod<'lab>],
    node3: &'lab Container,
}

/// Waits until `routelet status` of a node tells of something.
fn tells(node: &Container, words: &str, healthy: bool) -> Result<()> {
    let what = format!("{} tells of {words}", node.name);
    eventually(CONVERGENCE, &what, || {
        let status = node.routelet(&["status"])?;
        let problems = at(&status, "/problems")?.to_string();
        ensure!(problems.contains(words), "{problems}");
        ensure!(at(&status, "/healthy")? == healthy, "{status}");
        Ok(())
    })
}

impl Scene<'_, '_> {
    /// node3 is registered with a pod CIDR that cannot be.
    fn comes_with(&self, cidr: &str) -> Result<()> {
        let cidrs = [cidr.to_owned()];
        self.control
            .register_with("node3", &addresses(3), &json!({}), &cidrs)
    }

    /// It is told to the operator of node3 and, as a warning, to the others; nobody's routes are other than before.
    fn is_refused(&self, cidr: &str, why: &str) -> Result<()> {
        let words = format!("its pod CIDR {cidr} {why}");
        tells(self.node3, &words, false)?;
        let said = self.control.says(
            "bgpnodes/node3",
            "ConfigurationValid",
            "False",
            "PodCIDRConflict",
        )?;
        ensure!(said.to_string().contains(&words), "{said}");
        self.control.event("PodCIDRConflict", "node/node3")?;
        let written = conflist(self.node3, "/etc/cni/net.d");
        ensure!(
            written.is_err(),
            "a conflist for a range that is not its own: {written:?}"
        );
        for member in &self.cluster.members {
            tells(member.container, &words, true)?;
            for route in member.container.routes_to(cidr)? {
                let leads = route.gateway.as_deref();
                ensure!(leads != Some("10.0.0.3"), "{}: {route:?}", member.name);
            }
            let path = format!("bgpnodes/{}", member.name);
            self.control
                .says(&path, "ConfigurationValid", "True", "Valid")?;
            self.control
                .says(&path, "ExpectedRoutes", "True", "AsExpected")?;
        }
        // It is a node of the cluster all the same.
        let reached = self.pods.iter().flat_map(|pod| pod.addresses.clone());
        let reached: Vec<String> = reached.collect();
        eventually(CONVERGENCE, "node3 reaches all pods", || {
            let unanswered = unreachable(self.node3, &reached, 1)?;
            ensure!(unanswered.is_empty(), "no answer: {unanswered:?}");
            Ok(())
        })?;
        let missing = self.cluster.missing()?;
        ensure!(missing.is_empty(), "{missing:?}");
        Ok(())
    }

    /// The node's own network, though no address of a node: the others look for such pods on the wire.
    fn is_on_the_wire(&self, cidr: &str) -> Result<()> {
        let words = format!("its pod CIDR {cidr} lies in the subnet of 10.0.0.3/16 on eth1");
        tells(self.node3, &words, false)?;
        self.control.says(
            "bgpnodes/node3",
            "ConfigurationValid",
            "False",
            "PodCIDRConflict",
        )?;
        for member in &self.cluster.members {
            tells(
                member.container,
                &format!("no route to its pod CIDR {cidr}"),
                true,
            )?;
            member.container.no_route_of_ours(cidr)?;
            let path = format!("bgpnodes/{}", member.name);
            let reason = "RouteMissing";
            self.control
                .says(&path, "ExpectedRoutes", "False", reason)?;
        }
        Ok(())
    }

    fn goes(&self) -> Result<()> {
        self.control.delete(&v1("nodes", "node3"))?;
        self.control.forgets("node3")
    }
}

#[test]
fn a_pod_range_that_clashes_is_told_at_once_and_installed_nowhere() {
    real_story(
        Needs::Kubectl,
        Segment::named("clash").nodes(3),
        |lab, control| {
            let cluster = control.found(2)?;
            let pods = cluster.pod_each()?;
            let traffic = cluster.traffic(&pods)?;
            let scene = Scene {
                control,
                cluster: &cluster,
                pods: &pods,
                node3: lab.node("node3")?,
            };
            let of_node1 = cluster.member("node1")?.pod_cidr(false)?;

            scene.comes_with(of_node1)?;
            control.place("node3", DAEMON)?;
            lab.start("node3")?;
            let first = format!("overlaps {of_node1} of node node1, which had it first");
            scene.is_refused(of_node1, &first)?;

            scene.goes()?;
            scene.comes_with("10.0.0.0/24")?;
            scene.is_refused("10.0.0.0/24", "holds the address 10.0.0.1 of node node1")?;

            scene.goes()?;
            control.apply(SERVICES)?;
            scene.comes_with("10.96.5.0/24")?;
            scene.is_refused("10.96.5.0/24", "overlaps the service CIDR 10.96.0.0/16")?;

            scene.goes()?;
            scene.comes_with("10.0.7.0/24")?;
            scene.is_on_the_wire("10.0.7.0/24")?;

            // With a range of its own it is a node like any other.
            scene.goes()?;
            control.register("node3", &addresses(3), &json!({}))?;
            let whole = control.grown(3)?;
            let mut all = pods;
            all.extend(whole.member("node3")?.pods(1)?);
            whole.reach(&all, CONVERGENCE)?;
            control.says("bgpnodes/node3", "ConfigurationValid", "True", "Valid")?;
            traffic.unharmed()
        },
    );
}
