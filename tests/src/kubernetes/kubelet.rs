//! What a kubelet and the DaemonSet controller would do: register the node, have its pod of the daemon, and hand that pod its token.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::ControlPlane;
use crate::converge::Cluster;
use crate::segment::addresses;
use crate::story::CONVERGENCE;
use crate::wait::eventually;

/// Where a pod finds its ServiceAccount's token. `/var/run` is a link to `/run`.
const PROJECTED: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// A ServiceAccount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// The daemon's.
pub const DAEMON: Account<'_> = Account {
    namespace: "routelet",
    name: "routelet",
};

/// What is applied to install us.
pub const EVERYTHING: &str = include_str!("../../../deploy/routelet.yaml");

impl<'lab> ControlPlane<'lab> {
    /// Installs what an administrator would: our kinds, the daemon's ServiceAccount and its rights. The DaemonSet's pods are placed by hand.
    pub fn install(&self) -> Result<()> {
        self.apply(EVERYTHING)?;
        eventually(CONVERGENCE, "our kinds are known", || {
            let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            let all = self.get(path)?;
            for definition in all
                .get("items")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let conditions = definition
                    .pointer("/status/conditions")
                    .and_then(Value::as_array);
                let is = |condition: &Value| {
                    condition.get("type") == Some(&"Established".into())
                        && condition.get("status") == Some(&"True".into())
                };
                ensure!(
                    conditions.is_some_and(|conditions| conditions.iter().any(is)),
                    "{definition}"
                );
            }
            Ok(())
        })
    }

    /// `nodeN` of a [`crate::segment::Segment`] joins: its kubelet registers it, and the daemon's pod starts on it.
    pub fn join(&self, number: u8) -> Result<()> {
        self.join_as(&format!("node{number}"), &addresses(number))
    }

    /// The same for a node of the lab by its name, with its addresses.
    pub(super) fn join_as(&self, node: &str, addresses: &[String]) -> Result<()> {
        self.register(node, addresses, &json!({}))?;
        self.place(node, DAEMON)?;
        self.lab.start(node)
    }

    /// Installs us, and the first nodes of a [`crate::segment::Segment`] join; the cluster, once all kernels have all routes.
    pub fn found(&self, nodes: u8) -> Result<Cluster<'lab>> {
        self.install()?;
        for number in 1..=nodes {
            self.join(number)?;
        }
        self.grown(nodes)
    }

    /// The cluster of so many nodes, once all kernels have all routes.
    pub fn grown(&self, nodes: u8) -> Result<Cluster<'lab>> {
        let cluster = self.cluster()?;
        ensure!(
            cluster.members.len() == usize::from(nodes),
            "{} nodes",
            cluster.members.len()
        );
        cluster.converge(CONVERGENCE)?;
        Ok(cluster)
    }

    /// Registers a node under its internal addresses, as its kubelet does at its first start.
    pub fn register(&self, node: &str, addresses: &[String], labels: &Value) -> Result<()> {
        self.register_with(node, addresses, labels, &[])
    }

    /// As [`ControlPlane::register`], with pod CIDRs that somebody chose.
    pub fn register_with(
        &self,
        node: &str,
        addresses: &[String],
        labels: &Value,
        pod_cidrs: &[String],
    ) -> Result<()> {
        let addresses: Vec<Value> = addresses
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .chain([json!({"type": "Hostname", "address": node})])
            .collect();
        let mut all = json!({"kubernetes.io/hostname": node, "kubernetes.io/os": "linux"});
        if let (Some(all), Some(labels)) = (all.as_object_mut(), labels.as_object()) {
            all.extend(labels.clone());
        }
        let spec = match pod_cidrs.first() {
            Some(first) => json!({"podCIDR": first, "podCIDRs": pod_cidrs}),
            None => json!({}),
        };
        let object = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": node, "labels": all},
            "spec": spec,
            "status": {
                "addresses": addresses,
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "a kubelet by hand"}],
            },
        });
        self.create(&object).map(drop)
    }

    /// Places a pod of `account` on the node, and gives the node's container the token, bound to that pod, where a pod would find it.
    pub fn place(&self, node: &str, account: Account<'_>) -> Result<()> {
        let Account { namespace, name } = account;
        let pod = format!("{name}-{node}");
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod, "namespace": namespace},
            "spec": {
                "nodeName": node,
                "serviceAccountName": name,
                "hostNetwork": true,
                "containers": [{"name": name, "image": "ghcr.io/routelet/routelet"}],
                "tolerations": [{"operator": "Exists"}],
            },
        });
        self.create(&object)?;
        self.project(node, account, &pod)
    }

    /// Takes the pod of `account` off the node: its token is worth nothing any more. What runs in the node's container goes on.
    pub fn displace(&self, node: &str, account: Account<'_>) -> Result<()> {
        let pod = format!("{}-{node}", account.name);
        let words = ["delete", "pod", &pod, "-n", account.namespace, "--force"];
        self.kubectl(&words).map(drop)
    }

    /// The token, the CA and the namespace, as the projected volume has them.
    fn project(&self, node: &str, account: Account<'_>, pod: &str) -> Result<()> {
        let Account { namespace, name } = account;
        let folder = self.lab.node(node)?.path(PROJECTED);
        std::fs::create_dir_all(&folder)?;
        let token = self.token(account, Some(pod))?;
        let write = |file: &str, text: &str| {
            std::fs::write(Path::new(&folder).join(file), text)
                .with_context(|| format!("{name} on {node}: {file}"))
        };
        write("token", &token)?;
        write("ca.crt", self.authority.certificate())?;
        write("namespace", namespace)
    }

    /// A token of `account` by the TokenRequest API, bound to a pod of it where there is one.
    pub fn token(&self, account: Account<'_>, pod: Option<&str>) -> Result<String> {
        let Account { namespace, name } = account;
        let mut spec = json!({"audiences": null});
        if let Some(pod) = pod {
            let placed = self.get(&format!("/api/v1/namespaces/{namespace}/pods/{pod}"))?;
            let uid = placed.pointer("/metadata/uid").context("a uid")?;
            spec = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}});
        }
        let question =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let answer = self.send("POST", &path, "application/json", &question)?;
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        Ok(token.with_context(|| answer.to_string())?.to_owned())
    }
}
