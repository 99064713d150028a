//! Which program of this machine stands for which image, and how it starts.

use anyhow::{Context, Result, bail, ensure};

use crate::clab::{Kind, Node};
use crate::kubernetes::{CLUSTER_CIDRS, SERVICE_CIDRS};

/// What runs in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Debian's FRR, started as its image does: `frrinit.sh` with the daemons file of the node.
    Frr,
    /// Debian's BIRD with `/etc/bird.conf`.
    Bird,
    /// The routelet built here.
    Routelet,
    /// etcd and Kubernetes' own servers, as `tests/setup.sh` builds them; [`crate::kubernetes::ControlPlane`] starts them.
    ControlPlane,
    /// Nothing but a shell to look around with.
    Shell,
    /// A bridge: nothing runs.
    Bridge,
}

impl Program {
    /// The program for a node's image.
    ///
    /// # Errors
    /// For an image that nothing here can stand for.
    pub fn of(node: &Node) -> Result<Self> {
        if node.kind == Kind::Bridge {
            return Ok(Self::Bridge);
        }
        let repository = node
            .image
            .rsplit_once(':')
            .filter(|(_, tag)| !tag.contains('/'))
            .map_or(node.image.as_str(), |(name, _)| name);
        let mut parts = repository.rsplit('/');
        let program = match (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        ) {
            ("frr", _) => Self::Frr,
            ("bird", _) => Self::Bird,
            ("routelet", "routelet") => Self::Routelet,
            ("k3s", "rancher") => Self::ControlPlane,
            ("network-multitool" | "netshoot" | "alpine" | "debian" | "busybox" | "ubuntu", _) => {
                Self::Shell
            }
            _ => bail!(
                "node {}: nothing on this machine stands for the image {}",
                node.name,
                node.image
            ),
        };
        match program {
            Self::Routelet => {}
            Self::ControlPlane => {
                for (name, ours) in [
                    ("--cluster-cidr", CLUSTER_CIDRS),
                    ("--service-cidr", SERVICE_CIDRS),
                ] {
                    ensure!(
                        flag(node, name).is_some_and(|given| given == ours),
                        "node {}: the servers here run with {name}={ours} and no other",
                        node.name
                    );
                }
            }
            _ => ensure!(
                node.cmd.is_none() && node.entrypoint.is_none(),
                "node {}: cmd and entrypoint are run for routelet's image only",
                node.name
            ),
        }
        Ok(program)
    }

    /// The daemon's command line, to run in the foreground; none where it goes to the background by itself or does not exist.
    pub fn foreground(self, node: &Node) -> Option<Vec<String>> {
        match self {
            Self::Bird => Some(
                ["bird", "-f", "-c", "/etc/bird.conf"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            Self::Routelet => {
                let entrypoint = node
                    .entrypoint
                    .clone()
                    .unwrap_or_else(|| vec!["routelet".into()]);
                Some(
                    entrypoint
                        .into_iter()
                        .chain(node.cmd.clone().unwrap_or_default())
                        .collect(),
                )
            }
            Self::Frr | Self::ControlPlane | Self::Shell | Self::Bridge => None,
        }
    }

    /// The command that starts it in the background.
    pub fn background(self) -> Option<[&'static str; 2]> {
        match self {
            Self::Frr => Some(["/usr/lib/frr/frrinit.sh", "start"]),
            Self::Bird | Self::Routelet | Self::ControlPlane | Self::Shell | Self::Bridge => None,
        }
    }
}

/// The value of `--NAME VALUE` or `--NAME=VALUE` in routelet's command.
#[must_use]
pub fn flag(node: &Node, name: &str) -> Option<String> {
    let words: Vec<&String> = node.entrypoint.iter().chain(&node.cmd).flatten().collect();
    let at = words
        .iter()
        .position(|word| word.as_str() == name || word.starts_with(&format!("{name}=")))?;
    match words.get(at)?.split_once('=') {
        Some((_, value)) => Some(value.to_owned()),
        None => words.get(at + 1).map(|word| (*word).clone()),
    }
}

/// The name under which routelet knows the node: `--node`, or `NODE_NAME`.
pub fn node_name(node: &Node) -> Result<String> {
    flag(node, "--node")
        .or_else(|| node.env.get("NODE_NAME").cloned())
        .with_context(|| format!("node {}: its command names no --node", node.name))
}

/// Is the start of its daemon the affair of a kubelet, who registers the node first and hands over a token?
#[must_use]
pub fn waits_for_kubelet(node: &Node) -> bool {
    let words = node.entrypoint.iter().chain(&node.cmd).flatten();
    Program::of(node).is_ok_and(|program| program == Program::Routelet)
        && words.into_iter().any(|word| word == "--kubernetes")
}
