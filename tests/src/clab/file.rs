//! The file as written: the closed list of containerlab's fields, and how a node inherits (types/topology.go of containerlab).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::{Bind, Kind, Network, Node, command, scalar};
use crate::words;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) prefix: Option<String>,
    pub(super) topology: Tree,
    mgmt: Option<Value>,
    settings: Option<Value>,
    debug: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tree {
    #[serde(default)]
    defaults: Option<Fields>,
    #[serde(default)]
    kinds: BTreeMap<String, Option<Fields>>,
    #[serde(default)]
    groups: BTreeMap<String, Option<Fields>>,
    pub(super) nodes: BTreeMap<String, Option<Fields>>,
    #[serde(default)]
    pub(super) links: Vec<Value>,
}

type Fields = BTreeMap<String, Value>;

const HONOURED: [&str; 12] = [
    "kind",
    "group",
    "image",
    "exec",
    "binds",
    "env",
    "sysctls",
    "hostname",
    "entrypoint",
    "cmd",
    "network-mode",
    "startup-delay",
];

/// Without effect on what the lab does, or true of every namespace anyway.
const IGNORED: [&str; 12] = [
    "labels",
    "mgmt-ipv4",
    "mgmt-ipv6",
    "memory",
    "cpu",
    "cpu-set",
    "image-pull-policy",
    "shm-size",
    "restart-policy",
    "auto-remove",
    "cgroup-parent",
    "privileged",
];

const REFUSED: [&str; 26] = [
    "aliases",
    "cap-add",
    "certificate",
    "cgroupns-mode",
    "components",
    "config",
    "credentials",
    "devices",
    "dns",
    "enforce-startup-config",
    "env-files",
    "extras",
    "healthcheck",
    "license",
    "link-apply-mode",
    "pid-mode",
    "ports",
    "runtime",
    "security-opts",
    "stages",
    "startup-config",
    "suppress-startup-config",
    "tmpfs",
    "type",
    "user",
    "volumes",
];

impl File {
    pub(super) fn refuse_the_rest(&self, notes: &mut Vec<String>) -> Result<()> {
        for (field, value) in [
            ("mgmt", &self.mgmt),
            ("settings", &self.settings),
            ("debug", &self.debug),
        ] {
            if value.is_some() {
                notes.push(format!(
                    "{field}: ignored, there is no management network here"
                ));
            }
        }
        let levels = [("defaults".to_owned(), &self.topology.defaults)]
            .into_iter()
            .chain(
                self.topology
                    .kinds
                    .iter()
                    .map(|(name, fields)| (format!("kind {name}"), fields)),
            )
            .chain(
                self.topology
                    .groups
                    .iter()
                    .map(|(name, fields)| (format!("group {name}"), fields)),
            )
            .chain(
                self.topology
                    .nodes
                    .iter()
                    .map(|(name, fields)| (format!("node {name}"), fields)),
            );
        for (level, fields) in levels {
            for field in fields.iter().flat_map(BTreeMap::keys).map(String::as_str) {
                if IGNORED.contains(&field) {
                    notes.push(format!(
                        "{level}: {field} makes no difference in namespaces, ignored"
                    ));
                } else if REFUSED.contains(&field) {
                    bail!(
                        "{level}: the namespace runner cannot honour {field}; use containerlab itself"
                    );
                } else {
                    ensure!(
                        HONOURED.contains(&field),
                        "{level}: {field} is not a field of containerlab's nodes"
                    );
                }
            }
        }
        for name in self.topology.nodes.keys() {
            let first = name
                .chars()
                .next()
                .is_some_and(|c| c.is_ascii_alphanumeric());
            ensure!(
                first
                    && name
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "-._|".contains(c)),
                "node {name}: not a name containerlab takes"
            );
            ensure!(
                !name.contains('|'),
                "node {name}: bridges inside other nodes are beyond this runner"
            );
        }
        Ok(())
    }
}

impl Tree {
    /// The node with everything it inherits: node over group over kind over defaults.
    pub(super) fn resolve(
        &self,
        name: &str,
        folder: &Path,
        notes: &mut Vec<String>,
    ) -> Result<Node> {
        let empty = Fields::new();
        let own = self
            .nodes
            .get(name)
            .and_then(Option::as_ref)
            .unwrap_or(&empty);
        let defaults = self.defaults.as_ref().unwrap_or(&empty);
        let kind_and_group = |field: &str, levels: &[&Fields]| -> Result<Option<String>> {
            levels
                .iter()
                .find_map(|level| level.get(field))
                .map(scalar)
                .transpose()
        };
        let group_name = kind_and_group("group", &[own, defaults])?;
        let group = match &group_name {
            Some(group) => self
                .groups
                .get(group)
                .with_context(|| format!("group {group} is not defined"))?
                .as_ref()
                .unwrap_or(&empty),
            None => &empty,
        };
        let kind_name = kind_and_group("kind", &[own, group, defaults])?
            .context("no kind: the node, its group or the defaults must name one")?;
        let kind = match kind_name.as_str() {
            "linux" => Kind::Linux,
            "bridge" => Kind::Bridge,
            other => bail!("the namespace runner knows the kinds linux and bridge, not {other}"),
        };
        let of_kind = self
            .kinds
            .get(&kind_name)
            .and_then(Option::as_ref)
            .unwrap_or(&empty);
        // Least specific first, as the lists are joined; scalars take the last.
        let levels = [defaults, of_kind, group, own];
        let one = |field: &str| levels.iter().rev().find_map(|level| level.get(field));

        if kind == Kind::Bridge {
            notes.push(format!("node {name}: the bridge is made in a namespace of its own; containerlab expects it on the host"));
        }
        let node = Node {
            name: name.to_owned(),
            kind,
            image: one("image").map(scalar).transpose()?.unwrap_or_default(),
            entrypoint: command(one("entrypoint"))?,
            cmd: command(one("cmd"))?,
            exec: list(&levels, "exec")?
                .iter()
                .map(|line| words::split(line))
                .collect::<Result<Vec<_>>>()?,
            binds: binds(&list(&levels, "binds")?, folder)?,
            env: map(&levels, "env")?,
            sysctls: map(&levels, "sysctls")?,
            hostname: one("hostname")
                .map(scalar)
                .transpose()?
                .unwrap_or_else(|| name.to_owned()),
            startup_delay: one("startup-delay")
                .map(|value| {
                    value
                        .as_u64()
                        .context("startup-delay: seconds are expected")
                })
                .transpose()?
                .unwrap_or(0),
            network: network(one("network-mode"))?,
        };
        ensure!(kind == Kind::Bridge || !node.image.is_empty(), "no image");
        Ok(node)
    }
}

fn network(mode: Option<&Value>) -> Result<Network> {
    match mode.map(scalar).transpose()?.as_deref() {
        None | Some("none") => Ok(Network::Own),
        Some("host") => {
            bail!("network-mode host would change this machine's own network; not here")
        }
        Some(mode) => match mode.strip_prefix("container:") {
            Some(other) => Ok(Network::Of(other.to_owned())),
            None => bail!("network-mode {mode} is not containerlab's"),
        },
    }
}

fn list(levels: &[&Fields], field: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for value in levels.iter().filter_map(|level| level.get(field)) {
        let items = value
            .as_array()
            .with_context(|| format!("{field}: a list is expected"))?;
        for item in items {
            all.push(scalar(item)?);
        }
    }
    Ok(all)
}

fn map(levels: &[&Fields], field: &str) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for value in levels.iter().filter_map(|level| level.get(field)) {
        let items = value
            .as_object()
            .with_context(|| format!("{field}: a map is expected"))?;
        for (key, item) in items {
            all.insert(key.clone(), scalar(item)?);
        }
    }
    Ok(all)
}

/// The more specific bind wins where two have the same target.
fn binds(lines: &[String], folder: &Path) -> Result<Vec<Bind>> {
    let mut all: Vec<Bind> = Vec::new();
    for line in lines {
        let bind = Bind::read(line, folder)?;
        all.retain(|earlier| earlier.target != bind.target);
        all.push(bind);
    }
    Ok(all)
}
