//! What a kubelet and the DaemonSet controller would do: register the node, have its pod of the daemon, and hand that pod its token.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::ControlPlane;
use crate::converge::Cluster;
use crate::segment::addresses;
use crate::story::CONVERGENCE;

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
        self.kubectl_with(&["apply", "--server-side", "-f", "-"], EVERYTHING)?;
        self.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=30s",
        ])
        .map(drop)
    }

    /// `nodeN` of a [`crate::segment::Segment`] joins: its kubelet registers it, and the daemon's pod starts on it.
    pub fn join(&self, number: u8) -> Result<()> {
        let node = format!("node{number}");
        self.register(&node, &addresses(number), &json!({}))?;
        self.place(&node, DAEMON)?;
        self.lab.start(&node)
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

    /// `kubectl label`: `KEY=VALUE`, or `KEY-` to take it away.
    pub fn label(&self, node: &str, label: &str) -> Result<()> {
        self.kubectl(&["label", "node", node, label, "--overwrite"])
            .map(drop)
    }

    /// Registers a node under its internal addresses, as its kubelet does at its first start.
    pub fn register(&self, node: &str, addresses: &[String], labels: &Value) -> Result<()> {
        let addresses: Vec<Value> = addresses
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .chain([json!({"type": "Hostname", "address": node})])
            .collect();
        let mut all = json!({"kubernetes.io/hostname": node, "kubernetes.io/os": "linux"});
        if let (Some(all), Some(labels)) = (all.as_object_mut(), labels.as_object()) {
            all.extend(labels.clone());
        }
        let object = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": node, "labels": all},
            "status": {
                "addresses": addresses,
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "a kubelet by hand"}],
            },
        });
        self.kubectl_with(&["create", "-f", "-"], &object.to_string())
            .map(drop)
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
        self.kubectl_with(&["create", "-f", "-"], &object.to_string())?;
        self.project(node, account, &pod)
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
        let mut words = vec!["create", "token", name, "-n", namespace];
        let uid;
        if let Some(pod) = pod {
            uid = self.kubectl(&[
                "get",
                "pod",
                pod,
                "-n",
                namespace,
                "-o",
                "jsonpath={.metadata.uid}",
            ])?;
            words.extend(["--bound-object-kind=Pod", "--bound-object-name", pod]);
            words.extend(["--bound-object-uid", &uid]);
        }
        Ok(self.kubectl(&words)?.trim().to_owned())
    }
}
