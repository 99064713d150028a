//! Links: the brief form and `type: veth`; everything else is refused by name.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::{Kind, Node, scalar};

/// containerlab's own default, in octets.
const DEFAULT_MTU: u32 = 9500;
/// Linux' IFNAMSIZ without the final zero.
const NAME_LENGTH: usize = 15;

/// A veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where it ends.
    pub ends: [End; 2],
    /// In octets.
    pub mtu: u32,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// A node of the file.
    pub node: String,
    /// The interface's name in it.
    pub interface: String,
    /// Its hardware address, if the file gives one.
    pub mac: Option<String>,
}

impl Link {
    pub(super) fn read(
        value: &Value,
        nodes: &BTreeMap<String, Node>,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let fields = value
            .as_object()
            .with_context(|| format!("link {value}: a map is expected"))?;
        Self::fields(fields, nodes, notes).with_context(|| format!("link {value}"))
    }

    fn fields(
        fields: &Map<String, Value>,
        nodes: &BTreeMap<String, Node>,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        match fields.get("type").and_then(Value::as_str) {
            None | Some("veth") => {}
            Some(other) => bail!("the namespace runner makes veth links, not {other}"),
        }
        let mut mtu = DEFAULT_MTU;
        let mut ends = Vec::new();
        for (field, value) in fields {
            match field.as_str() {
                "type" => {}
                "endpoints" => {
                    let list = value.as_array().context("endpoints: a list is expected")?;
                    ends = list
                        .iter()
                        .map(|end| End::read(end, nodes))
                        .collect::<Result<Vec<_>>>()?;
                }
                "mtu" => {
                    mtu = value
                        .as_u64()
                        .and_then(|mtu| u32::try_from(mtu).ok())
                        .context("mtu: a number is expected")?
                }
                "labels" => {
                    notes.push("labels of a link make no difference in namespaces, ignored".into())
                }
                "ipv4" | "ipv6" | "vars" => bail!(
                    "{field} of a link has no effect on linux nodes, in containerlab neither; use exec"
                ),
                other => bail!("{other} is not a field of containerlab's links"),
            }
        }
        let ends = <[End; 2]>::try_from(ends)
            .map_err(|ends| anyhow::anyhow!("two endpoints are expected, not {}", ends.len()))?;
        Ok(Self { ends, mtu })
    }
}

impl End {
    fn read(value: &Value, nodes: &BTreeMap<String, Node>) -> Result<Self> {
        let end = match value {
            Value::String(brief) => {
                let (node, interface) = brief
                    .split_once(':')
                    .with_context(|| format!("endpoint {brief}: node:interface is expected"))?;
                Self {
                    node: node.to_owned(),
                    interface: interface.to_owned(),
                    mac: None,
                }
            }
            Value::Object(fields) => {
                for field in fields.keys() {
                    ensure!(
                        ["node", "interface", "mac"].contains(&field.as_str()),
                        "{field} of an endpoint has no effect on linux nodes"
                    );
                }
                let text = |field: &str| fields.get(field).map(scalar).transpose();
                Self {
                    node: text("node")?.context("an endpoint needs a node")?,
                    interface: text("interface")?.context("an endpoint needs an interface")?,
                    mac: text("mac")?,
                }
            }
            other => bail!("endpoint {other}: node:interface is expected"),
        };
        ensure!(
            !["host", "mgmt-net", "macvlan"].contains(&end.node.as_str()),
            "the namespace runner makes no links to {}",
            end.node
        );
        let node = nodes
            .get(&end.node)
            .with_context(|| format!("endpoint {}:{}: no such node", end.node, end.interface))?;
        ensure!(
            end.interface.len() <= NAME_LENGTH,
            "interface {}: at most {NAME_LENGTH} characters",
            end.interface
        );
        ensure!(
            node.kind == Kind::Bridge || end.interface != "eth0",
            "eth0 of {} belongs to containerlab's management network",
            end.node
        );
        Ok(end)
    }
}
