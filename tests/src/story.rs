//! Telling a story: a lab of its own, and when it goes wrong, everything that may explain why.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cni::Pod;
use crate::container::Container;
use crate::converge::Cluster;
use crate::lab::Lab;
use crate::overheard::Overheard;
use crate::ping::{Stream, Tally};
use crate::program::Program;
use crate::wait::eventually;

/// How long a topology may take to converge on a busy machine.
pub const CONVERGENCE: Duration = Duration::from_secs(60);

/// Brings up `topologies/NAME.clab.yml` under a name of its own, lets `tell` run, and takes it down.
///
/// # Panics
/// If the story fails, after showing what the routers of the lab have to say.
pub fn story(topology: &str, tell: impl FnOnce(&Lab) -> Result<()>) {
    story_with(topology, |_| Ok(()), tell);
}

/// As [`story`]; all that its routelets say is judged by an independent dissector.
///
/// # Panics
/// If the story fails, or something they said is malformed.
pub fn story_overheard(topology: &str, tell: impl FnOnce(&Lab) -> Result<()>) {
    tell_in(Lab::story_overheard(topology), tell);
}

/// As [`story`]; `change` edits the topology's files first (it is given their folder).
///
/// # Panics
/// If the story fails.
pub fn story_with(
    topology: &str,
    change: impl FnOnce(&Path) -> Result<()>,
    tell: impl FnOnce(&Lab) -> Result<()>,
) {
    tell_in(Lab::story_with(topology, change), tell);
}

/// Lets `tell` run in a lab that is up, and takes it down.
///
/// # Panics
/// If the lab did not come up or the story fails.
#[expect(clippy::panic, reason = "that is how a test fails")]
pub fn tell_in(lab: Result<Lab>, tell: impl FnOnce(&Lab) -> Result<()>) {
    match lab {
        Ok(mut lab) => {
            if let Err(error) = tell(&lab) {
                autopsy(&lab);
                panic!("{error:#}");
            }
            if let Some(Err(error)) = lab.overheard().map(Overheard::judge) {
                panic!("{error:#}");
            }
        }
        Err(error) => panic!("{error:#}"),
    }
}

/// Everything that may explain a failure, on standard output.
pub fn autopsy(lab: &Lab) {
    let ask = |name: &str, words: &[&str]| {
        println!("\n{name}# {}", words.join(" "));
        if let Ok(done) = lab.node(name).and_then(|node| node.output(words)) {
            println!("{}{}", done.stdout, done.stderr);
        }
    };
    for name in lab.running(Program::Routelet) {
        println!(
            "\n---- {name} said last:\n{}",
            last_lines(&lab.said(&name), 60)
        );
        for words in [
            &["routelet", "status"][..],
            &["routelet", "peers"],
            &["routelet", "fib"],
            &["ip", "-4", "route"],
            &["ip", "-6", "route"],
        ] {
            ask(&name, words);
        }
    }
    for name in lab.running(Program::Frr) {
        ask(&name, &["vtysh", "-c", "show bgp summary"]);
        ask(&name, &["ip", "route"]);
    }
    for name in lab.running(Program::Bird) {
        ask(&name, &["birdc", "show", "protocols"]);
        ask(&name, &["ip", "route"]);
    }
}

/// The end of a text.
#[must_use]
pub fn last_lines(text: &str, lines: usize) -> String {
    let from = text.lines().count().saturating_sub(lines);
    text.lines().skip(from).collect::<Vec<_>>().join("\n")
}

/// Replaces `old` by `new` in a file of the story's copy; there must be something to replace.
pub fn edit(file: &Path, old: &str, new: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    anyhow::ensure!(
        text.contains(old),
        "{}: nothing to replace: {old}",
        file.display()
    );
    write(file, &text.replace(old, new))
}

/// Appends to a file of the story's copy.
pub fn append(file: &Path, text: &str) -> Result<()> {
    let before = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    write(file, &(before + text))
}

/// Writes a manifest as an editor does, beside it and renamed over it; another router's file in place, for it is bound by itself.
pub fn write(file: &Path, text: &str) -> Result<()> {
    let shown = || file.display().to_string();
    if file.extension().is_none_or(|extension| extension != "yaml") {
        return std::fs::write(file, text).with_context(shown);
    }
    let next = file.with_extension("next");
    std::fs::write(&next, text)?;
    std::fs::rename(&next, file).with_context(shown)
}

impl Lab {
    /// The manifests' folder of the story's copy: what is changed here, the nodes see.
    #[must_use]
    pub fn manifests(&self) -> std::path::PathBuf {
        self.folder
            .join("files")
            .join(&self.topology.name)
            .join("manifests")
    }

    /// The folder with the configuration of another router in the story's copy.
    #[must_use]
    pub fn files(&self, device: &str) -> std::path::PathBuf {
        self.folder
            .join("files")
            .join(&self.topology.name)
            .join(device)
    }

    /// The routelet nodes, once every one of them has all routes.
    pub fn converged(&self) -> Result<Cluster<'_>> {
        let cluster = Cluster::of(self)?;
        cluster.converge(CONVERGENCE)?;
        Ok(cluster)
    }
}

impl Cluster<'_> {
    /// Waits until every first synchronisation is over and all sessions are up, but for those with peers that are dead by their name.
    pub fn settled(&self) -> Result<()> {
        eventually(CONVERGENCE, "every routelet is in step", || {
            for member in &self.members {
                let status = member.container.routelet(&["status"])?;
                anyhow::ensure!(
                    at(&status, "/complete")? == true,
                    "{}: not complete",
                    member.name
                );
                for (name, peer) in peers(member.container)? {
                    let state = at(&peer, "/state")?;
                    anyhow::ensure!(
                        name.contains("dead") || state == "Established",
                        "{}: {name} is {state}",
                        member.name
                    );
                }
            }
            Ok(())
        })
    }
}

impl Cluster<'_> {
    /// Waits until no node has anything to complain of.
    pub fn content(&self) -> Result<()> {
        eventually(CONVERGENCE, "no node has a problem", || {
            for member in &self.members {
                let status = member.container.routelet(&["status"])?;
                let problems = at(&status, "/problems")?;
                anyhow::ensure!(
                    problems.as_array().is_some_and(Vec::is_empty),
                    "{}: {problems}",
                    member.name
                );
                anyhow::ensure!(at(&status, "/healthy")? == true, "{status}");
            }
            Ok(())
        })
    }
}

/// Pings between all pairs of pods on different nodes, one pod a node, in both families.
pub fn streams(pods: &[Pod<'_>], every: Duration) -> Result<Vec<Stream>> {
    let mut all = Vec::new();
    for from in pods {
        for to in pods.iter().filter(|to| to.node.name != from.node.name) {
            for target in &to.addresses {
                all.push(Stream::start(from, target, every)?);
            }
        }
    }
    Ok(all)
}

/// Ends all streams; what they counted.
pub fn stop(streams: Vec<Stream>) -> Result<Vec<Tally>> {
    streams.into_iter().map(Stream::stop).collect()
}

/// Fails if any stream lost more than `most` pings.
pub fn at_most_lost(tallies: &[Tally], most: usize) -> Result<()> {
    for tally in tallies {
        println!(
            "{}: {} sent, {} lost, longest gap {} ms",
            tally.what,
            tally.sent,
            tally.lost,
            tally.longest_gap.as_millis()
        );
    }
    let worst: Vec<String> = tallies
        .iter()
        .filter(|tally| tally.lost > most)
        .map(|tally| format!("{} lost {} of {}", tally.what, tally.lost, tally.sent))
        .collect();
    anyhow::ensure!(
        worst.is_empty(),
        "more than {most} pings lost: {}",
        worst.join(", ")
    );
    Ok(())
}

/// The peers of a node by name, as `routelet peers` shows them.
pub fn peers(node: &Container) -> Result<BTreeMap<String, Value>> {
    let shown = node.routelet(&["peers"])?;
    let peers = shown
        .as_array()
        .with_context(|| format!("no list: {shown}"))?;
    let name = |peer: &Value| anyhow::Ok(at(peer, "/name")?.as_str().context("name")?.to_owned());
    peers
        .iter()
        .map(|peer| Ok((name(peer)?, peer.clone())))
        .collect()
}

/// One peer of a node.
pub fn peer(node: &Container, name: &str) -> Result<Value> {
    peers(node)?
        .remove(name)
        .with_context(|| format!("{} has no peer {name}", node.name))
}

/// How often the sessions of a node were established, by peer.
pub fn established(node: &Container) -> Result<BTreeMap<String, u64>> {
    let count = |peer: &Value| {
        at(peer, "/establishedCount")?
            .as_u64()
            .context("establishedCount")
    };
    peers(node)?
        .iter()
        .map(|(name, peer)| Ok((name.clone(), count(peer)?)))
        .collect()
}

/// Everything a peer's state has to say about why it is not up, in one line.
pub fn complaint(node: &Container, name: &str) -> Result<String> {
    let peer = peer(node, name)?;
    let text = |field: &str| {
        peer.get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Ok(format!(
        "{}; {}; {}",
        text("state"),
        text("lastError"),
        text("hint")
    ))
}

/// Waits until what a peer's state says contains one of `words`, and the session is down.
pub fn complains(node: &Container, name: &str, words: &[&str]) -> Result<()> {
    eventually(
        CONVERGENCE,
        &format!("{}: {name} tells of {}", node.name, words.join(" or ")),
        || {
            let told = complaint(node, name)?;
            anyhow::ensure!(!told.starts_with("Established"), "{name} is up: {told}");
            anyhow::ensure!(
                words
                    .iter()
                    .any(|word| told.to_lowercase().contains(&word.to_lowercase())),
                "it says: {told}"
            );
            println!("{name}: {told}");
            Ok(())
        },
    )
}

/// Waits until a session is up.
pub fn is_up(node: &Container, name: &str) -> Result<()> {
    eventually(CONVERGENCE, &format!("{}: {name} is up", node.name), || {
        let told = complaint(node, name)?;
        anyhow::ensure!(told.starts_with("Established"), "it says: {told}");
        Ok(())
    })
}

/// The value at a JSON pointer, or an error that shows the whole.
pub fn at<'a>(value: &'a Value, pointer: &str) -> Result<&'a Value> {
    value
        .pointer(pointer)
        .with_context(|| format!("no {pointer} in {value:#}"))
}

/// A session that must not be touched: what changes when it is reset.
#[derive(Debug)]
pub struct Steady<'lab> {
    node: &'lab Container,
    name: String,
    before: Vec<Value>,
}

impl<'lab> Steady<'lab> {
    /// Waits until the session of `node` with its peer `name` is up.
    pub fn session(node: &'lab Container, name: &str) -> Result<Self> {
        is_up(node, name)?;
        Ok(Self {
            node,
            name: name.to_owned(),
            before: Self::look(node, name)?,
        })
    }

    fn look(node: &Container, name: &str) -> Result<Vec<Value>> {
        let peer = peer(node, name)?;
        let fields = ["/state", "/since", "/establishedCount", "/lastError"];
        Ok(fields
            .map(|field| peer.pointer(field).cloned().unwrap_or_default())
            .to_vec())
    }

    /// Fails if it is not what it was.
    pub fn holds(&self) -> Result<()> {
        let now = Self::look(self.node, &self.name)?;
        anyhow::ensure!(
            now == self.before,
            "{}: the session with {} was {:?}, is {now:?}",
            self.node.name,
            self.name,
            self.before
        );
        Ok(())
    }
}
