//! What the daemon knows of itself when it looks: what every object it writes is made from.

use std::{collections::BTreeMap, sync::Arc};

use bgp::status::PeerStatus;

use crate::{
    audit::lasting::Audited,
    cluster::{Addresses, Registration},
    desired::Desired,
    problem::{Problem, Reason},
    report::StatusReport,
};

/// One look at the running node.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) status: StatusReport,
    pub(crate) peers: Vec<PeerStatus>,
    pub(crate) desired: Arc<Desired>,
    /// What stands in the configuration's way.
    pub(crate) configured: Vec<Problem>,
    /// How its routes were when they were last looked at.
    pub(crate) audited: Arc<Audited>,
    /// What the node is not ready for, by the name of the check; `None`: it is ready, or was once (`/readyz`).
    pub(crate) unready: Option<(&'static str, String)>,
    /// The nodes of the cluster.
    pub(crate) nodes: Arc<BTreeMap<String, Addresses>>,
    /// What the cluster has of this node.
    pub(crate) registration: Registration,
}

impl Sight {
    /// Whether no pod here can be reached by others, for none of the node's pod CIDRs, if it has any, may be announced.
    pub(super) fn is_podless(&self) -> bool {
        let me = &self.status.node;
        let own = format!("Node {me}");
        let lacking = |problem: &Problem| {
            let reasons = [Reason::PodCidrMissing, Reason::PodCidrConflict];
            problem.about == own && reasons.contains(&problem.reason)
        };
        !self.desired.owners.values().any(|owner| owner == me)
            && self.configured.iter().any(lacking)
    }
}

/// At most so many characters of a text: objects stay small whatever peers say.
pub(super) fn short(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// As objects count.
pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The first three, and how many more.
pub(super) fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let told = names.get(..3).unwrap_or(&names).join(", ");
    match names.len().checked_sub(3).filter(|more| *more > 0) {
        Some(more) => format!("{told} and {more} more"),
        None => told,
    }
}

#[cfg(test)]
pub(super) mod fixture {
    //! A node `n1` of two, for tests.

    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        cluster::{Cluster, Node},
        desired::{Facts, desired},
        report::{PeerCounts, fixture::settled},
    };

    /// `n1` in a mesh of so many nodes.
    pub(in crate::kubernetes::publish) fn cluster(nodes: u8) -> Cluster {
        let node = |number: u8| {
            let node = Node {
                pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
                internal_ips: vec![Ipv4Addr::new(10, 0, 0, number).into()],
                ..Node::default()
            };
            (format!("n{number}"), Arc::new(node))
        };
        Cluster {
            nodes: (1..=nodes).map(node).collect(),
            ..Cluster::default()
        }
    }

    /// A node whose first routes are in the kernel, with these sessions.
    pub(in crate::kubernetes::publish) fn sight(peers: Vec<PeerStatus>) -> Sight {
        seen_by("n1", &cluster(2), peers)
    }

    /// The same for a node of this cluster.
    pub(in crate::kubernetes::publish) fn seen_by(
        node: &str,
        cluster: &Cluster,
        peers: Vec<PeerStatus>,
    ) -> Sight {
        let desired = Arc::new(desired(cluster, node, &Facts::default()));
        let mut status = settled();
        status.node = node.into();
        let up = |peer: &&PeerStatus| crate::report::is_up(peer);
        status.peers = PeerCounts {
            total: peers.len(),
            established: peers.iter().filter(up).count(),
            nodes: peers.iter().filter(|peer| peer.mesh).count(),
            nodes_established: peers.iter().filter(up).filter(|peer| peer.mesh).count(),
            ..PeerCounts::default()
        };
        Sight {
            status,
            peers,
            configured: desired.problems.clone(),
            desired,
            audited: Arc::default(),
            unready: None,
            nodes: Arc::new(
                cluster
                    .nodes
                    .keys()
                    .map(|node| (node.clone(), cluster.addresses(node)))
                    .collect(),
            ),
            registration: cluster.registration(node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_podless_while_no_pod_cidr_is_its_own() {
        assert!(!fixture::sight(vec![]).is_podless());
        let mut cluster = fixture::cluster(2);
        let bare = crate::cluster::Node {
            pod_cidrs: Vec::new(),
            ..cluster.nodes["n1"].as_ref().clone()
        };
        cluster.nodes.insert("n1".into(), Arc::new(bare));
        assert!(fixture::seen_by("n1", &cluster, vec![]).is_podless());
        // That of another node is none.
        let copy = cluster.nodes["n2"].pod_cidrs.clone();
        let older = crate::cluster::Node {
            created: Some("2026-01-01T00:00:00Z".into()),
            ..cluster.nodes["n2"].as_ref().clone()
        };
        let second = crate::cluster::Node {
            pod_cidrs: copy,
            ..cluster.nodes["n1"].as_ref().clone()
        };
        cluster.nodes.insert("n2".into(), Arc::new(older));
        cluster.nodes.insert("n1".into(), Arc::new(second));
        assert!(fixture::seen_by("n1", &cluster, vec![]).is_podless());
        assert!(!fixture::seen_by("n2", &cluster, vec![]).is_podless());
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(short("naïve", 5), "naïve");
        assert_eq!(short("naïve", 3), "naï…");
    }

    #[test]
    fn three_names_stand_for_many() {
        assert_eq!(some(["a", "b", "c"]), "a, b, c");
        assert_eq!(some(["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }
}
