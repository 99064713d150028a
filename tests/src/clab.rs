//! Containerlab topology files: what the namespace runner honours, what it refuses, what it may ignore.

mod file;
mod link;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

pub use link::{End, Link};

use crate::words;

/// A topology, its inheritance worked out: every node says for itself what it is.
#[derive(Debug, Clone)]
pub struct Topology {
    /// The lab's name.
    pub name: String,
    /// What precedes a node's name in namespace names; containerlab's rule.
    pub prefix: String,
    /// By name.
    pub nodes: BTreeMap<String, Node>,
    /// In the file's order.
    pub links: Vec<Link>,
    /// What the file asks for that makes no difference here, in words.
    pub notes: Vec<String>,
    /// The file itself.
    pub file: PathBuf,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A container.
    Linux,
    /// A bridge of the host; here one in a namespace of its own.
    Bridge,
}

/// Whose network a node lives in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// One of its own.
    Own,
    /// That of another node of the file.
    Of(String),
}

/// One node with everything it inherits.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name in the file.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The image; empty for a bridge.
    pub image: String,
    /// Replaces the image's entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub cmd: Option<Vec<String>>,
    /// Commands run once the lab's links are there, as words.
    pub exec: Vec<Vec<String>>,
    /// Files and folders mounted into it.
    pub binds: Vec<Bind>,
    /// Environment of everything that runs in it.
    pub env: BTreeMap<String, String>,
    /// Kernel parameters of its network.
    pub sysctls: BTreeMap<String, String>,
    /// Its host name.
    pub hostname: String,
    /// Seconds to wait before it starts.
    pub startup_delay: u64,
    /// Whose network it lives in.
    pub network: Network,
}

/// `source:target[:ro]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On this machine, absolute.
    pub source: PathBuf,
    /// In the node, absolute.
    pub target: PathBuf,
    /// Not to be written to.
    pub read_only: bool,
}

impl Topology {
    /// Reads a topology file.
    ///
    /// # Errors
    /// Names the field that is not containerlab's, or that the runner cannot honour.
    pub fn read(path: &Path) -> Result<Self> {
        let path = path
            .canonicalize()
            .with_context(|| format!("no topology file {}", path.display()))?;
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&text, &path).with_context(|| path.display().to_string())
    }

    /// Reads a topology from `text`; paths in it are relative to the folder of `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        if let Some(line) = text
            .lines()
            .find(|line| line.split('#').next().unwrap_or_default().contains("${"))
        {
            bail!(
                "the runner does not expand environment variables in topology files: {}",
                line.trim()
            );
        }
        let file: file::File = serde_saphyr::from_str(text)?;
        let mut notes = Vec::new();
        file.refuse_the_rest(&mut notes)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut nodes = BTreeMap::new();
        for name in file.topology.nodes.keys() {
            let node = file
                .topology
                .resolve(name, folder, &mut notes)
                .with_context(|| format!("node {name}"))?;
            nodes.insert(name.clone(), node);
        }
        let links = file
            .topology
            .links
            .iter()
            .map(|link| Link::read(link, &nodes, &mut notes))
            .collect::<Result<Vec<_>>>()?;
        let topology = Self {
            prefix: prefix_of(file.prefix.as_deref(), &file.name),
            name: file.name,
            nodes,
            links,
            notes,
            file: path.to_owned(),
        };
        topology.check()?;
        Ok(topology)
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.get(name).with_context(|| {
            let names: Vec<&str> = self.nodes.keys().map(String::as_str).collect();
            format!(
                "no node {name} in {}; there are {}",
                self.name,
                names.join(", ")
            )
        })
    }

    fn check(&self) -> Result<()> {
        for node in self.nodes.values() {
            if let Network::Of(other) = &node.network {
                let host = self.nodes.get(other).with_context(|| {
                    format!(
                        "node {}: network-mode names {other}, which is not in this file",
                        node.name
                    )
                })?;
                ensure!(
                    host.network == Network::Own,
                    "node {}: network-mode names {other}, which has no network of its own",
                    node.name
                );
                ensure!(
                    node.sysctls.is_empty(),
                    "node {}: sysctls belong to the node that owns the network, {other}",
                    node.name
                );
            }
        }
        let mut ends: Vec<&End> = self.links.iter().flat_map(|link| &link.ends).collect();
        ends.sort_by(|a, b| (&a.node, &a.interface).cmp(&(&b.node, &b.interface)));
        for pair in ends.windows(2) {
            if let [a, b] = pair {
                ensure!(
                    (&a.node, &a.interface) != (&b.node, &b.interface),
                    "interface {}:{} is used by two links",
                    a.node,
                    a.interface
                );
            }
        }
        Ok(())
    }
}

fn prefix_of(prefix: Option<&str>, lab: &str) -> String {
    match prefix {
        None => format!("clab-{lab}-"),
        Some("") => String::new(),
        Some("__lab-name") => format!("{lab}-"),
        Some(own) => format!("{own}-{lab}-"),
    }
}

/// A scalar of the file as text: containerlab takes numbers and booleans where it wants strings.
fn scalar(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null => Ok(String::new()),
        Value::Array(_) | Value::Object(_) => bail!("a single value is expected, not {value}"),
    }
}

impl Bind {
    fn read(text: &str, folder: &Path) -> Result<Self> {
        let mut parts = text.split(':');
        let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
            bail!("bind {text}: source:target is expected")
        };
        let mut read_only = false;
        for option in parts.flat_map(|options| options.split(',')) {
            match option {
                "ro" => read_only = true,
                "rw" | "z" | "Z" => {}
                other => bail!("bind {text}: the runner does not know the option {other}"),
            }
        }
        ensure!(
            !source.contains("__clab") && !source.starts_with('~'),
            "bind {text}: the runner knows no __clab…__ folders and no ~"
        );
        ensure!(
            target.starts_with('/'),
            "bind {text}: the target must be absolute"
        );
        let source = folder.join(source);
        ensure!(
            source.exists(),
            "bind {text}: there is no {}",
            source.display()
        );
        Ok(Self {
            source,
            target: PathBuf::from(target),
            read_only,
        })
    }
}

fn command(text: Option<&Value>) -> Result<Option<Vec<String>>> {
    text.map(|value| words::split(&scalar(value)?)).transpose()
}

#[cfg(test)]
mod tests;
