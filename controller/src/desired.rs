//! From the cluster to what this node's speaker and kernel should be: one pure function.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bgp::{
    config::{Multipath, Policy, SpeakerConfig},
    prefix::Prefix,
};
use ipnetwork::IpNetwork;

use crate::{
    cluster::{Addresses, Cluster, Node},
    cni::Conflist,
    crd::{BGPConfigurationSpec, configuration::OnCordon},
    problem::{Problem, Severity},
};

pub(crate) mod found;
mod identity;
mod kernel;
mod listen;
mod monitoring;
mod originate;
mod password;
mod peers;
mod pods;
mod policy;
mod session;
mod topology;
pub(crate) mod view;

pub(crate) use topology::InForce;

#[cfg(test)]
mod mutated;
#[cfg(test)]
mod tests;

/// What the daemon found out and the cluster does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Gateways of the kernel's default routes, with their interfaces.
    pub(crate) default_gateways: Vec<Gateway>,
    /// The subnets of the node's own addresses, as its interfaces have them.
    pub(crate) subnets: Vec<Subnet>,
    /// Links that peers are found on, and who is at their other ends; `None`: nobody has looked.
    pub(crate) links: Option<discovery::Links>,
    /// This process follows an earlier one whose routes are still in the kernel.
    pub(crate) restarted: bool,
    /// Whether it takes traffic, as an operator said by `routelet drain`, or for want of a Node.
    pub(crate) duty: Duty,
    /// The Node was deleted while we ran: the one in the cluster is as it was last.
    pub(crate) deleted: bool,
    /// The topology that was in force last.
    pub(crate) topology: Option<InForce>,
    /// The one before it, whose sessions stay until nothing hangs on them.
    pub(crate) leaving: Option<InForce>,
}

/// The gateway of a default route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gateway {
    /// Its address.
    pub(crate) address: IpAddr,
    /// The interface it is on.
    pub(crate) interface: String,
}

/// An address of the node's own, with the subnet it is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subnet {
    /// The address, and how long its subnet's prefix is.
    pub(crate) address: IpNetwork,
    /// The interface it is on.
    pub(crate) interface: String,
}

impl Facts {
    /// Whether `own` is on the link of `other` (that of `interface`, where one is named), by an address of the same subnet.
    fn share_a_subnet(&self, own: IpAddr, other: IpAddr, interface: Option<&str>) -> bool {
        self.subnets.iter().any(|subnet| {
            subnet.address.ip() == own
                && subnet.address.contains(other)
                && interface.is_none_or(|named| subnet.interface == named)
        })
    }

    /// What peers of a drained node are told (RFC 9003).
    pub(crate) fn farewell(&self) -> &'static str {
        if self.deleted {
            "its Node was deleted"
        } else {
            "drained by the operator"
        }
    }
}

/// Whether this node takes traffic.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Duty {
    /// It does.
    #[default]
    InService,
    /// It asks for traffic to go elsewhere (GRACEFUL_SHUTDOWN).
    Draining,
    /// All sessions are held down.
    Drained,
}

/// What this node should be.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    /// The speaker.
    pub(crate) speaker: SpeakerConfig,
    /// The installer; `None`: nothing is installed.
    pub(crate) fib: Option<fib::Config>,
    /// The addresses this node speaks from and is reached by.
    pub(crate) addresses: Addresses,
    /// The CNI configuration; `None`: none is written.
    pub(crate) cni: Option<Conflist>,
    /// How long `drain` waits between GRACEFUL_SHUTDOWN and Cease.
    pub(crate) drain_wait: Duration,
    /// Whether the node is cordoned.
    pub(crate) cordoned: bool,
    /// The Node was deleted; this is what it was.
    pub(crate) deleted: bool,
    /// The topology in force.
    pub(crate) topology: InForce,
    /// Which node owns which pod CIDR: what `explain` says.
    pub(crate) owners: BTreeMap<Prefix, String>,
    /// `podNetwork.clusterCIDRs`.
    pub(crate) cluster_cidrs: Vec<Prefix>,
    /// Every BGPPeer as it is for this node.
    pub(crate) rules: BTreeMap<String, Rule>,
    /// What stands in the way.
    pub(crate) problems: Vec<Problem>,
}

/// A BGPPeer as it is for this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// How many nodes it is for.
    pub(crate) nodes: usize,
    /// It is for this node.
    pub(crate) here: bool,
    /// How many nodes come before this one where one of those it is for has to do something.
    pub(crate) rank: usize,
    /// The sessions and ranges of this node that come from it.
    pub(crate) sessions: Vec<String>,
}

impl Desired {
    /// The node whose pod CIDR holds `prefix`.
    pub(crate) fn owner(&self, prefix: &Prefix) -> Option<(&Prefix, &str)> {
        pods::covering(&self.owners, prefix).map(|(cidr, node)| (cidr, node.as_str()))
    }

    /// The BGPPeer that a session comes from, if it is one's.
    pub(crate) fn rule_of(&self, session: &str) -> Option<&str> {
        let dialled_in = |range: &str| {
            let rest = session.strip_prefix(range);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let comes = |rule: &&Rule| rule.sessions.iter().any(|name| dialled_in(name));
        let (name, _) = self.rules.iter().find(|(_, rule)| comes(rule))?;
        Some(name)
    }
}

/// What the parts of the computation share.
pub(super) struct View<'a> {
    cluster: &'a Cluster,
    facts: &'a Facts,
    config: BGPConfigurationSpec,
    name: &'a str,
    node: Node,
    addresses: Addresses,
    asn: u32,
    router_id: Ipv4Addr,
    topology: InForce,
    /// Which node owns which pod CIDR, disputed ones left out.
    owners: BTreeMap<Prefix, String>,
    /// The same by node.
    pods: BTreeMap<String, Vec<Prefix>>,
    /// What a peer that is no node of the mesh may tell us by default.
    default_import: Arc<Policy>,
}

impl View<'_> {
    /// The pod CIDRs that are `node`'s without dispute.
    fn pod_cidrs(&self, node: &str) -> &[Prefix] {
        self.pods.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// Where learned pod routes must lie.
    fn pod_network(&self) -> Vec<Prefix> {
        let given = &self.config.pod_network.cluster_cidrs;
        if given.is_empty() {
            self.owners.keys().copied().collect()
        } else {
            given.iter().map(|cidr| cidr.0).collect()
        }
    }
}

/// What `node` should be, given the cluster and what the daemon found out.
pub(crate) fn desired(cluster: &Cluster, node: &str, facts: &Facts) -> Desired {
    let mut problems = cluster.problems.clone();
    let config = cluster.configuration();
    let pods::Claims { owners, nobodys } = pods::claims(cluster, &config, &mut problems);
    let mut pods: BTreeMap<String, Vec<Prefix>> = BTreeMap::new();
    for (cidr, owner) in &owners {
        pods.entry(owner.clone()).or_default().push(*cidr);
    }
    let mut view = View {
        cluster,
        facts,
        name: node,
        node: identity::node(cluster, node, &mut problems),
        addresses: cluster.addresses(node),
        asn: cluster.asn(node),
        router_id: identity::router_id(cluster, node),
        topology: topology::in_force(cluster, &config, facts.topology.as_ref(), &mut problems),
        default_import: Arc::new(Policy::always("nothing", bgp::config::Verdict::Reject)),
        owners,
        pods,
        config,
    };
    view.default_import = Arc::new(policy::pod_network(&view));
    identity::check(&view, &mut problems);

    let mut sessions = peers::named(&view, &mut problems);
    topology::add(&view, &mut sessions, &mut problems);
    session::settle(&view, &mut sessions);
    pods::check_import(&view, &sessions, &mut problems);
    let rules = peers::rules(&view, &sessions.of);

    let cordoned = view.node.unschedulable;
    let on_cordon = cordoned.then_some(view.config.drain.on_cordon);
    let draining = facts.duty != Duty::InService || on_cordon == Some(OnCordon::GracefulShutdown);
    let speaker = SpeakerConfig {
        asn: view.asn,
        router_id: view.router_id,
        cluster_id: topology::cluster_id(&view),
        listen: listen::addresses(&view, &sessions, &mut problems),
        originate: originate::all(&view, &sessions, on_cordon, &mut problems),
        owners: Arc::new(pods::owners(&view, &nobodys)),
        peers: sessions.peers,
        ranges: sessions.ranges,
        multipath: Multipath {
            max_paths: if view.config.kernel.ecmp {
                view.config.kernel.max_paths
            } else {
                1
            },
            as_path_relax: true,
        },
        deferral: Duration::from_secs(view.config.graceful_restart.deferral_seconds.into()),
        draining,
        collectors: monitoring::collectors(&view),
        mrt: monitoring::mrt(&view),
    };
    // What is wrong with another node does not make this one unhealthy.
    let own = format!("Node {node}");
    for problem in &mut problems {
        if problem.about.starts_with("Node ") && problem.about != own {
            problem.severity = Severity::Warning;
        }
    }
    problems.sort();
    problems.dedup();
    Desired {
        speaker,
        fib: view.config.kernel.install.then(|| kernel::fib(&view)),
        addresses: view.addresses,
        cni: kernel::conflist(&view),
        drain_wait: Duration::from_secs(view.config.drain.wait_seconds.into()),
        cordoned,
        deleted: facts.deleted,
        cluster_cidrs: view
            .config
            .pod_network
            .cluster_cidrs
            .iter()
            .map(|cidr| cidr.0)
            .collect(),
        topology: view.topology,
        owners: view.owners,
        rules,
        problems,
    }
}

/// Where the conflist of the configuration in force stands, were it written: what `cleanup` removes.
pub(crate) fn conflist_path(config: &BGPConfigurationSpec) -> PathBuf {
    config.cni.directory.join(&config.cni.name)
}
