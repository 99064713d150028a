//! A topology with a control plane in it: it is started where the file has its place, and all nodes that wait for a kubelet join.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{ControlPlane, Lifetime, Make, ours, v1};
use crate::container::Container;
use crate::converge::Cluster;
use crate::lab::Lab;
use crate::program::{Program, waits_for_kubelet};
use crate::story::CONVERGENCE;
use crate::wait::eventually;

impl<'lab> ControlPlane<'lab> {
    /// Starts the control plane of a lab whose topology has a place for one.
    pub fn of(lab: &'lab Lab, lifetime: Lifetime) -> Result<Option<Self>> {
        let Some(host) = lab.running(Program::ControlPlane).into_iter().next() else {
            return Ok(None);
        };
        let container = lab.node(&host)?;
        let control = Self::start(Make::Real, lab, &host, &addresses(container)?, lifetime)?;
        // Where the image would have it, and so everybody's kubectl looks.
        if let Some(kubeconfig) = lab.topology.node(&host)?.env.get("KUBECONFIG") {
            let admin = format!("{}/admin.conf", super::FOLDER);
            container.run(&["install", "-D", "-m", "600", &admin, kubeconfig])?;
        }
        Ok(Some(control))
    }

    /// Installs us, and all nodes join, each under the addresses it has; the cluster, once every node has its pod CIDRs.
    pub fn found_all(&self) -> Result<Cluster<'lab>> {
        self.install()?;
        for name in self.lab.running(Program::Routelet) {
            if waits_for_kubelet(self.lab.topology.node(&name)?) {
                self.join_as(&name, &addresses(self.lab.node(&name)?)?)?;
            }
        }
        self.cluster()
    }

    /// Waits until the API server has been told that the node is ready and its routes are in the kernel.
    pub fn is_told(&self, node: &str) -> Result<()> {
        eventually(CONVERGENCE, &format!("{node} is ready"), || {
            let ready = self.condition(&ours("bgpnodes", node), "Ready")?;
            ensure!(ready == "True", "Ready is {ready}");
            let without = self.condition(&v1("nodes", node), "NetworkUnavailable")?;
            ensure!(without == "False", "NetworkUnavailable is {without}");
            Ok(())
        })
    }
}

/// The addresses of a node that others reach, IPv4 first, as a kubelet finds them.
fn addresses(node: &Container) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for family in ["-4", "-6"] {
        let shown = node.run(&["ip", family, "-json", "address", "show", "scope", "global"])?;
        let links: Value = serde_json::from_str(&shown)?;
        let of_link = |link: &Value| link.get("addr_info").and_then(Value::as_array).cloned();
        let found = links.as_array().into_iter().flatten().filter_map(of_link);
        let local = |address: Value| Some(address.get("local")?.as_str()?.to_owned());
        all.extend(found.flatten().filter_map(local));
    }
    ensure!(!all.is_empty(), "{} has no address", node.name);
    Ok(all)
}
