//! Pods: network namespaces on a node, made by the CNI plugins from the conflist that routelet wrote, as a container runtime would.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::container::Container;
use crate::ping::Sender;
use crate::shell;

const PLUGINS: &str = "/usr/lib/cni";

/// A pod on a node.
#[derive(Debug)]
pub struct Pod<'lab> {
    /// The node it runs on.
    pub node: &'lab Container,
    /// Its name, and that of its network namespace on the node.
    pub name: String,
    /// Its addresses, as the plugins gave them.
    pub addresses: Vec<String>,
}

/// The conflist a runtime would take: the first by name.
pub fn conflist(node: &Container, directory: &str) -> Result<Value> {
    let folder = node.path(directory);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .with_context(|| format!("{}: {directory}", node.name))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "conflist")
    });
    files.sort();
    let file = files
        .first()
        .with_context(|| format!("{}: no conflist in {directory} yet", node.name))?;
    let text = std::fs::read_to_string(file)?;
    serde_json::from_str(&text).with_context(|| format!("{}: {text}", file.display()))
}

impl<'lab> Pod<'lab> {
    /// Makes a pod from `conflist`.
    pub fn add(node: &'lab Container, name: &str, conflist: &Value) -> Result<Self> {
        // Without duplicate address detection, which would only cost a second.
        node.sh(&format!(
            "ip netns add {name} && ip -n {name} link set lo up && ip netns exec {name} sysctl -q -w net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0"
        ))?;
        let mut result = Value::Null;
        for plugin in plugins(conflist)? {
            let answer = call(node, name, "ADD", conflist, plugin, &result)?;
            if !answer.is_null() {
                result = answer;
            }
        }
        let ips = result
            .get("ips")
            .and_then(Value::as_array)
            .with_context(|| format!("the plugins gave no addresses: {result}"))?;
        let addresses = ips
            .iter()
            .filter_map(|ip| Some(ip.get("address")?.as_str()?.split('/').next()?.to_owned()))
            .collect();
        Ok(Self {
            node,
            name: name.to_owned(),
            addresses,
        })
    }

    /// Removes the pod as a runtime does: the plugins in reverse order.
    pub fn delete(self, conflist: &Value) -> Result<()> {
        for plugin in plugins(conflist)?.into_iter().rev() {
            call(self.node, &self.name, "DEL", conflist, plugin, &Value::Null)?;
        }
        self.node.run(&["ip", "netns", "del", &self.name]).map(drop)
    }

    /// Its address of that family.
    pub fn address(&self, ipv6: bool) -> Result<&str> {
        let found = self
            .addresses
            .iter()
            .find(|address| address.contains(':') == ipv6);
        found
            .map(String::as_str)
            .with_context(|| format!("pod {} has only {:?}", self.name, self.addresses))
    }
}

fn plugins(conflist: &Value) -> Result<Vec<&Map<String, Value>>> {
    let list = conflist
        .get("plugins")
        .and_then(Value::as_array)
        .context("a conflist has plugins")?;
    list.iter()
        .map(|plugin| plugin.as_object().context("a plugin is an object"))
        .collect()
}

/// One plugin's configuration is its part of the list, with the list's name and version, and what came before.
fn call(
    node: &Container,
    pod: &str,
    verb: &str,
    conflist: &Value,
    plugin: &Map<String, Value>,
    previous: &Value,
) -> Result<Value> {
    let mut config = plugin.clone();
    for field in ["name", "cniVersion"] {
        config.insert(
            field.into(),
            conflist
                .get(field)
                .cloned()
                .with_context(|| format!("a conflist has a {field}"))?,
        );
    }
    if !previous.is_null() {
        config.insert("prevResult".into(), previous.clone());
    }
    let wants_ports = config
        .remove("capabilities")
        .is_some_and(|able| able.get("portMappings") == Some(&Value::Bool(true)));
    if wants_ports {
        config.insert("runtimeConfig".into(), json!({"portMappings": []}));
    }
    let kind = plugin
        .get("type")
        .and_then(Value::as_str)
        .context("a plugin has a type")?;
    let interface = if kind == "loopback" { "lo" } else { "eth0" };
    let mut command = node.command(&[
        "env",
        &format!("CNI_COMMAND={verb}"),
        &format!("CNI_CONTAINERID={pod}"),
        &format!("CNI_NETNS=/run/netns/{pod}"),
        &format!("CNI_IFNAME={interface}"),
        &format!("CNI_PATH={PLUGINS}"),
        &format!("{PLUGINS}/{kind}"),
    ]);
    // Errors come on standard output, as JSON.
    let done = shell::output(&mut command, &Value::Object(config).to_string())?;
    if done.code != 0 {
        bail!(
            "{}: CNI plugin {kind} {verb} for {pod}: {}{}",
            node.name,
            done.stdout,
            done.stderr
        );
    }
    if done.stdout.trim().is_empty() {
        Ok(Value::Null)
    } else {
        serde_json::from_str(&done.stdout).with_context(|| done.stdout)
    }
}

impl Pod<'_> {
    /// `words` as the node's command line that runs them in the pod's network.
    fn inside(&self, words: &[&str]) -> Vec<String> {
        let netns = format!("--net=/run/netns/{}", self.name);
        let enter = ["nsenter", &netns, "--"].into_iter();
        enter
            .chain(words.iter().copied())
            .map(str::to_owned)
            .collect()
    }
}

impl Sender for Pod<'_> {
    fn label(&self) -> String {
        format!("{}/{}", self.node.name, self.name)
    }

    fn command_in(&self, words: &[&str]) -> Command {
        self.node.command(&self.inside(words))
    }

    fn tool_in(&self, words: &[&str]) -> Command {
        self.node.tool(&self.inside(words))
    }
}

impl Sender for Container {
    fn label(&self) -> String {
        self.name.clone()
    }

    fn command_in(&self, words: &[&str]) -> Command {
        self.command(words)
    }

    fn tool_in(&self, words: &[&str]) -> Command {
        self.tool(words)
    }
}
