//! Has the lab converged, and do its pods really talk: the checks that every topology must pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::capture::{Capture, Captured};
use crate::cni::{self, Pod};
use crate::container::Container;
use crate::kernel::OURS;
use crate::lab::Lab;
use crate::manifest::{self, NodeFacts};
use crate::ping::{Sender, all_to_all};
use crate::program::{Program, flag, node_name};
use crate::wait::eventually;

/// No conflist is written before the first synchronisation, which waits for the routes of every peer: 15 s at most, more on a busy machine.
const FIRST_SYNC: Duration = Duration::from_secs(60);

/// The routelet nodes of a lab, with what their manifests say.
#[derive(Debug)]
pub struct Cluster<'lab> {
    lab: &'lab Lab,
    /// In order of their names.
    pub members: Vec<Member<'lab>>,
}

/// One routelet node.
#[derive(Debug)]
pub struct Member<'lab> {
    /// Its container.
    pub container: &'lab Container,
    /// Its name among the nodes of the cluster.
    pub name: String,
    /// What its Node object says.
    pub facts: NodeFacts,
    cni_directory: String,
}

impl<'lab> Cluster<'lab> {
    /// Reads the manifests that the nodes of the lab read, as they are now.
    pub fn of(lab: &'lab Lab) -> Result<Self> {
        let mut members = Vec::new();
        for name in lab.running(Program::Routelet) {
            let node = lab.topology.node(&name)?;
            let container = lab.node(&name)?;
            let config = flag(node, "--config")
                .with_context(|| format!("{name}: its command names no --config"))?;
            let objects = manifest::objects(&container.path(&config))?;
            let own = node_name(node)?;
            let facts = manifest::nodes(&objects)
                .remove(&own)
                .with_context(|| format!("{name}: no Node {own} in {config}"))?;
            members.push(Member {
                container,
                name: own,
                facts,
                cni_directory: cni_directory(&objects),
            });
        }
        ensure!(
            !members.is_empty(),
            "no node of {} runs routelet",
            lab.topology.name
        );
        Ok(Self { lab, members })
    }

    /// The nodes that both the lab and an API server have: `objects` are its Node objects.
    pub fn registered(lab: &'lab Lab, objects: &[Value]) -> Result<Self> {
        let mut known = manifest::nodes(objects);
        let mut members = Vec::new();
        for container in lab.running(Program::Routelet) {
            let name = node_name(lab.topology.node(&container)?)?;
            if let Some(facts) = known.remove(&name) {
                members.push(Member {
                    container: lab.node(&container)?,
                    name,
                    facts,
                    cni_directory: cni_directory(&[]),
                });
            }
        }
        Ok(Self { lab, members })
    }

    /// The member of that name.
    pub fn member(&self, name: &str) -> Result<&Member<'lab>> {
        self.members
            .iter()
            .find(|member| member.name == name)
            .with_context(|| format!("no node {name}"))
    }

    /// The same without one of its nodes.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.members.retain(|member| member.name != name);
        self
    }

    /// What is not yet as it must be: a route of ours in every kernel to every pod CIDR of every other node.
    pub fn missing(&self) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for member in &self.members {
            let mut known = BTreeSet::new();
            for family in ["-4", "-6"] {
                let routes = member
                    .container
                    .routes(family, &["table", "all", "proto", OURS])?;
                known.extend(
                    routes
                        .into_iter()
                        .filter(|route| route.kind.as_deref() != Some("blackhole"))
                        .map(|route| route.dst),
                );
            }
            let others = self
                .members
                .iter()
                .filter(|other| other.name != member.name);
            for cidr in others.flat_map(|other| &other.facts.pod_cidrs) {
                if !known.contains(cidr) {
                    missing.push(format!("{} has no route to {cidr}", member.name));
                }
            }
        }
        Ok(missing)
    }

    /// How many routes there must be in all kernels together.
    #[must_use]
    pub fn expected(&self) -> usize {
        let all: usize = self
            .members
            .iter()
            .map(|member| member.facts.pod_cidrs.len())
            .sum();
        all * (self.members.len() - 1)
    }

    /// Waits until nothing is missing.
    pub fn converge(&self, deadline: Duration) -> Result<()> {
        eventually(
            deadline,
            &format!("{} converges", self.lab.topology.name),
            || {
                let missing = self.missing()?;
                ensure!(missing.is_empty(), "{}", missing.join("\n"));
                Ok(())
            },
        )
    }

    /// Two pods on every node.
    pub fn pods(&self) -> Result<Vec<Pod<'lab>>> {
        let mut pods = Vec::new();
        for member in &self.members {
            pods.extend(member.pods(2)?);
        }
        Ok(pods)
    }

    /// Every pod, and the addresses of all others.
    #[must_use]
    pub fn between_pods<'a>(&self, pods: &'a [Pod<'lab>]) -> Vec<(&'a dyn Sender, Vec<String>)> {
        let addresses = |but: &str| -> Vec<String> {
            let others = pods.iter().filter(|pod| pod.label() != but);
            others.flat_map(|pod| pod.addresses.clone()).collect()
        };
        let pairs = pods
            .iter()
            .map(|pod| (pod as &dyn Sender, addresses(&pod.label())));
        pairs.collect()
    }

    /// Everyone, and whom to ping: every pod all others, every node all pods.
    fn pairs<'a>(&'a self, pods: &'a [Pod<'lab>]) -> Vec<(&'a dyn Sender, Vec<String>)> {
        let all: Vec<String> = pods.iter().flat_map(|pod| pod.addresses.clone()).collect();
        let mut pairs = self.between_pods(pods);
        let nodes = self.members.iter();
        pairs.extend(nodes.map(|member| (member.container as &dyn Sender, all.clone())));
        pairs
    }

    /// Waits until every pod and every node reaches every pod: the fabric may need longer than the nodes.
    pub fn reach(&self, pods: &[Pod<'lab>], deadline: Duration) -> Result<()> {
        eventually(deadline, "every pod and node reaches every pod", || {
            let unanswered = all_to_all(&self.pairs(pods), 1)?;
            ensure!(
                unanswered.is_empty(),
                "no answer: {}",
                unanswered.join(", ")
            );
            Ok(())
        })
    }

    /// Everyone pings everyone, under the eyes of captures in every pod and on every uplink.
    pub fn prove(&self, pods: &[Pod<'lab>]) -> Result<Proof> {
        let folder = self.lab.folder.join("captures");
        std::fs::create_dir_all(&folder)?;
        let captures = self.start_captures(pods, &folder)?;
        let pairs = self.pairs(pods);
        let pings = pairs.iter().map(|(_, targets)| targets.len()).sum();
        let unanswered = all_to_all(&pairs, 2)?;

        let mut proof = Proof {
            pings,
            unanswered,
            ..Proof::default()
        };
        let mut seen = BTreeMap::new();
        for (place, capture) in captures {
            let captured = capture.stop()?;
            match place {
                Place::Uplink(label) => proof.uplink(&label, &captured, pods)?,
                Place::Pod(label) => {
                    seen.insert(label, echo_requests(&captured)?);
                }
            }
        }
        proof.compare_sources(pods, &seen);
        Ok(proof)
    }

    fn start_captures(&self, pods: &[Pod<'lab>], folder: &Path) -> Result<Vec<(Place, Capture)>> {
        let mut captures = Vec::new();
        for member in &self.members {
            let ends = self.lab.topology.links.iter().flat_map(|link| &link.ends);
            for end in ends.filter(|end| end.node == member.container.name) {
                let label = format!("{}:{}", end.node, end.interface);
                let file = folder.join(format!("{label}.pcap"));
                captures.push((
                    Place::Uplink(label),
                    Capture::start(member.container, &end.interface, "", &file)?,
                ));
            }
        }
        for pod in pods {
            let file = folder.join(format!("{}.pcap", pod.label().replace('/', "-")));
            captures.push((
                Place::Pod(pod.label()),
                Capture::start(pod, "eth0", "icmp or icmp6", &file)?,
            ));
        }
        Ok(captures)
    }
}

impl<'lab> Member<'lab> {
    /// As many pods as asked for, named after the node.
    pub fn pods(&self, count: usize) -> Result<Vec<Pod<'lab>>> {
        let conflist = eventually(
            FIRST_SYNC,
            &format!("{}: routelet writes the conflist", self.name),
            || cni::conflist(self.container, &self.cni_directory),
        )?;
        (1..=count)
            .map(|number| Pod::add(self.container, &format!("pod{number}"), &conflist))
            .collect()
    }

    /// Its pod CIDR of that family.
    pub fn pod_cidr(&self, ipv6: bool) -> Result<&str> {
        let found = self
            .facts
            .pod_cidrs
            .iter()
            .find(|cidr| cidr.contains(':') == ipv6);
        found
            .map(String::as_str)
            .with_context(|| format!("{} has only {:?}", self.name, self.facts.pod_cidrs))
    }
}

fn cni_directory(objects: &[Value]) -> String {
    let configuration = objects
        .iter()
        .find(|object| object.get("kind").and_then(Value::as_str) == Some("BGPConfiguration"));
    let directory =
        configuration.and_then(|object| object.pointer("/spec/cni/directory")?.as_str());
    directory.unwrap_or("/etc/cni/net.d").to_owned()
}

enum Place {
    Uplink(String),
    Pod(String),
}

/// What the pings and the captures showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Echo requests sent, one for each pair and family.
    pub pings: usize,
    /// The pairs without an answer.
    pub unanswered: Vec<String>,
    /// Packets between pods that crossed an uplink, as they are.
    pub bare: usize,
    /// Packets on an uplink that carried another packet.
    pub encapsulated: Vec<String>,
    /// Pairs of pods whose receiver saw the sender's own address.
    pub sources_kept: usize,
    /// Pairs of pods whose receiver did not.
    pub sources_lost: Vec<String>,
}

impl Proof {
    /// All pings answered, all addresses unchanged, nothing encapsulated, and the captures saw what they were there for.
    pub fn holds(&self) -> Result<()> {
        ensure!(
            self.unanswered.is_empty(),
            "no answer: {}",
            self.unanswered.join(", ")
        );
        ensure!(
            self.sources_lost.is_empty(),
            "the sender's own address was not seen: {}",
            self.sources_lost.join(", ")
        );
        ensure!(
            self.encapsulated.is_empty(),
            "encapsulated packets crossed the wire:\n{}",
            self.encapsulated.join("\n")
        );
        ensure!(
            self.bare > 0,
            "the captures on the uplinks saw no packet between pods"
        );
        Ok(())
    }

    fn uplink(&mut self, label: &str, captured: &Captured, pods: &[Pod<'_>]) -> Result<()> {
        self.encapsulated.extend(
            captured
                .encapsulated()?
                .into_iter()
                .map(|line| format!("{label}: {line}")),
        );
        let of_pods: BTreeSet<&String> = pods.iter().flat_map(|pod| &pod.addresses).collect();
        let requests = echo_requests(captured)?;
        self.bare += requests
            .iter()
            .filter(|(from, to)| of_pods.contains(from) && of_pods.contains(to))
            .count();
        Ok(())
    }

    fn compare_sources(
        &mut self,
        pods: &[Pod<'_>],
        seen: &BTreeMap<String, BTreeSet<(String, String)>>,
    ) {
        for (from, to) in pods
            .iter()
            .flat_map(|from| pods.iter().map(move |to| (from, to)))
            .filter(|(from, to)| from.label() != to.label())
        {
            for source in &from.addresses {
                let Some(target) = to
                    .addresses
                    .iter()
                    .find(|target| target.contains(':') == source.contains(':'))
                else {
                    continue;
                };
                if seen
                    .get(&to.label())
                    .is_some_and(|seen| seen.contains(&(source.clone(), target.clone())))
                {
                    self.sources_kept += 1;
                } else {
                    self.sources_lost.push(format!("{source} at {target}"));
                }
            }
        }
    }
}

/// Source and destination of every echo request.
fn echo_requests(captured: &Captured) -> Result<BTreeSet<(String, String)>> {
    let lines =
        captured.packets("(icmp and icmp[icmptype] == icmp-echo) or (icmp6 and ip6[40] == 128)")?;
    Ok(lines.iter().filter_map(|line| addresses(line)).collect())
}

/// `… IP 10.0.0.1 > 10.0.0.2: ICMP echo request …`
fn addresses(line: &str) -> Option<(String, String)> {
    let (before, after) = line.split_once(" > ")?;
    let source = before.rsplit(' ').next()?;
    let target = after.split(": ").next()?;
    Some((source.to_owned(), target.to_owned()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses_are_read_from_what_tcpdump_prints() {
        let four =
            "12:00:00.000000 IP 10.244.1.2 > 10.244.2.2: ICMP echo request, id 1, seq 1, length 64";
        assert_eq!(
            super::addresses(four),
            Some(("10.244.1.2".into(), "10.244.2.2".into()))
        );
        let six = "12:00:00.000000 IP6 fd00:10:244:1::2 > fd00:10:244:2::2: ICMP6, echo request, id 1, seq 1, length 64";
        assert_eq!(
            super::addresses(six),
            Some(("fd00:10:244:1::2".into(), "fd00:10:244:2::2".into()))
        );
    }
}
