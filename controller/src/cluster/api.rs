//! The cluster as the API server tells it, event by event. No waiting and no network here: `kubernetes/` has both.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::{core::v1, discovery::v1::EndpointSlice};

use super::{
    Cluster, NamespacedName, Node, Secret,
    decode::Fault,
    document::Tree,
    object::{self, Complaint},
};
use crate::problem::{Problem, Reason};

/// What is watched as one: a kind, or a single Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// `v1/Node`.
    Nodes,
    /// One of our kinds.
    Ours(&'static str),
    /// `v1/Service`.
    Services,
    /// `discovery.k8s.io/v1/EndpointSlice`.
    EndpointSlices,
    /// The Secret of this name in our namespace.
    Secret(String),
}

/// An object, as far as it is kept.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A Node, or what is wrong with it.
    Node(Result<Arc<Node>, Fault>),
    /// One of our kinds, as it was written.
    Ours(Tree),
    /// `v1/Service`.
    Service(Box<v1::Service>),
    /// `discovery.k8s.io/v1/EndpointSlice`.
    EndpointSlice(Box<EndpointSlice>),
    /// The values of a Secret.
    Secret(Secret),
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// All objects follow, then [`Event::Listed`].
    Listing,
    /// An object is there or has changed.
    Applied(NamespacedName, Item),
    /// An object is gone.
    Deleted(NamespacedName),
    /// All have been told; what was not told is gone.
    Listed,
}

/// The cluster as it has been told so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mirror {
    cluster: Cluster,
    /// What is wrong with an object as it is now, by kind and name.
    faults: BTreeMap<(&'static str, NamespacedName), Vec<String>>,
    /// While a subject is being listed: what has been told.
    listing: BTreeMap<Subject, BTreeSet<NamespacedName>>,
}

impl Mirror {
    /// The cluster now. An object that breaks a rule is a problem; its last valid version, where one was told, stays in it.
    pub(crate) fn cluster(&self) -> Cluster {
        let mut cluster = self.cluster.clone();
        for ((kind, key), faults) in &self.faults {
            let about = format!("{kind} {}", key.1);
            for fault in faults {
                cluster.problems.push(
                    Problem::error(&about, format!("left out: {fault}"))
                        .because(Reason::ObjectInvalid),
                );
            }
            if self.holds(kind, key) {
                cluster
                    .problems
                    .push(Problem::warning(about, super::KEPT).because(Reason::ObjectInvalid));
            } else {
                cluster.left_out.insert(((*kind).to_owned(), key.1.clone()));
            }
        }
        cluster
    }

    /// Takes in what was told of `subject`; says whether the cluster is another now.
    pub(crate) fn take(&mut self, subject: &Subject, event: Event) -> bool {
        match event {
            Event::Listing => {
                self.listing.insert(subject.clone(), BTreeSet::new());
                false
            }
            Event::Applied(key, item) => {
                if let Some(told) = self.listing.get_mut(subject) {
                    told.insert(key.clone());
                }
                self.apply(subject, key, item)
            }
            Event::Deleted(key) => self.remove(subject, &key),
            Event::Listed => {
                let told = self.listing.remove(subject).unwrap_or_default();
                let gone: Vec<NamespacedName> = self
                    .keys(subject)
                    .into_iter()
                    .filter(|key| !told.contains(key))
                    .collect();
                // Each of them, whatever became of the one before.
                let removed = gone.iter().filter(|key| self.remove(subject, key));
                removed.count() > 0
            }
        }
    }

    /// Forgets a subject that nobody asks for any more.
    pub(crate) fn forget(&mut self, subject: &Subject) -> bool {
        self.listing.remove(subject);
        self.take(subject, Event::Listed)
    }

    /// What has to be watched beside the nodes and our own kinds, for what our objects refer to.
    pub(crate) fn referred(&self) -> BTreeSet<Subject> {
        let cluster = &self.cluster;
        let mesh = cluster
            .configuration
            .as_ref()
            .and_then(|configuration| configuration.mesh_password_ref.as_ref());
        let peers = cluster
            .peers
            .values()
            .filter_map(|peer| peer.auth_secret_ref.as_ref());
        let of_tcp_ao = cluster
            .peers
            .values()
            .filter_map(|peer| peer.tcp_ao.as_ref())
            .flat_map(|tcp_ao| tcp_ao.keys.iter().map(|key| &key.secret_ref));
        let mut subjects: BTreeSet<Subject> = mesh
            .into_iter()
            .chain(peers)
            .chain(of_tcp_ao)
            .map(|reference| Subject::Secret(reference.name.clone()))
            .collect();
        let services = cluster
            .advertisements
            .values()
            .any(|advertisement| advertisement.services().is_some());
        if services {
            subjects.extend([Subject::Services, Subject::EndpointSlices]);
        }
        subjects
    }

    fn apply(&mut self, subject: &Subject, key: NamespacedName, item: Item) -> bool {
        let cluster = &mut self.cluster;
        match item {
            Item::Node(Ok(node)) => {
                let mended = self.faults.remove(&("Node", key.clone())).is_some();
                put(&mut cluster.nodes, key.1, node) || mended
            }
            Item::Node(Err(fault)) => self.fault("Node", key, vec![fault.to_string()]),
            Item::Ours(tree) => match subject {
                Subject::Ours(kind) => self.apply_ours(kind, key, &tree),
                _ => false,
            },
            Item::Service(service) => put(&mut cluster.services, key, *service),
            Item::EndpointSlice(slice) => put(&mut cluster.endpoint_slices, key, *slice),
            Item::Secret(secret) => put(&mut cluster.secrets, key, secret),
        }
    }

    /// Reads it by the rules that files are read by.
    fn apply_ours(&mut self, kind: &'static str, key: NamespacedName, tree: &Tree) -> bool {
        let mut read = Cluster::default();
        let mut complaints = Vec::new();
        object::add(tree, &mut read, &mut complaints);
        if !complaints.is_empty() {
            let faults = complaints
                .into_iter()
                .map(|complaint| match complaint {
                    Complaint::Unreadable(fault)
                    | Complaint::Broken { fault, .. }
                    | Complaint::Skipped(fault) => fault.to_string(),
                })
                .collect();
            return self.fault(kind, key, faults);
        }
        let mended = self.faults.remove(&(kind, key)).is_some();
        let cluster = &mut self.cluster;
        let mut changed = merge(&mut cluster.peers, read.peers)
            | merge(&mut cluster.policies, read.policies)
            | merge(&mut cluster.advertisements, read.advertisements)
            | merge(&mut cluster.bgp_nodes, read.bgp_nodes);
        if read.configuration.is_some() && cluster.configuration != read.configuration {
            cluster.configuration = read.configuration;
            changed = true;
        }
        changed || mended
    }

    fn fault(&mut self, kind: &'static str, key: NamespacedName, faults: Vec<String>) -> bool {
        put(&mut self.faults, (kind, key), faults)
    }

    fn remove(&mut self, subject: &Subject, key: &NamespacedName) -> bool {
        let cluster = &mut self.cluster;
        let name = &key.1;
        let (kind, removed) = match subject {
            Subject::Nodes => ("Node", cluster.nodes.remove(name).is_some()),
            Subject::Services => ("Service", cluster.services.remove(key).is_some()),
            Subject::EndpointSlices => (
                "EndpointSlice",
                cluster.endpoint_slices.remove(key).is_some(),
            ),
            Subject::Secret(_) => ("Secret", cluster.secrets.remove(key).is_some()),
            Subject::Ours(kind) => {
                let removed = match *kind {
                    "BGPPeer" => cluster.peers.remove(name).is_some(),
                    "BGPPolicy" => cluster.policies.remove(name).is_some(),
                    "BGPAdvertisement" => cluster.advertisements.remove(name).is_some(),
                    "BGPNode" => cluster.bgp_nodes.remove(name).is_some(),
                    _ => name == "default" && cluster.configuration.take().is_some(),
                };
                (*kind, removed)
            }
        };
        let faulty = self.faults.remove(&(kind, key.clone())).is_some();
        removed || faulty
    }

    /// Everything that is known of a subject, valid or not.
    pub(crate) fn keys(&self, subject: &Subject) -> Vec<NamespacedName> {
        let cluster = &self.cluster;
        let bare = |name: &String| (String::new(), name.clone());
        let (kind, mut keys): (&str, Vec<NamespacedName>) = match subject {
            Subject::Nodes => ("Node", cluster.nodes.keys().map(bare).collect()),
            Subject::Services => ("Service", cluster.services.keys().cloned().collect()),
            Subject::EndpointSlices => (
                "EndpointSlice",
                cluster.endpoint_slices.keys().cloned().collect(),
            ),
            Subject::Secret(name) => {
                let named = cluster.secrets.keys().filter(|key| key.1 == *name);
                ("Secret", named.cloned().collect())
            }
            Subject::Ours(kind) => {
                let keys = match *kind {
                    "BGPPeer" => cluster.peers.keys().map(bare).collect(),
                    "BGPPolicy" => cluster.policies.keys().map(bare).collect(),
                    "BGPAdvertisement" => cluster.advertisements.keys().map(bare).collect(),
                    "BGPNode" => cluster.bgp_nodes.keys().map(bare).collect(),
                    _ => cluster
                        .configuration
                        .iter()
                        .map(|_| (String::new(), "default".to_owned()))
                        .collect(),
                };
                (*kind, keys)
            }
        };
        let faulty = self.faults.keys().filter(|(faulty, _)| *faulty == kind);
        keys.extend(faulty.map(|(_, key)| key.clone()));
        keys
    }

    fn holds(&self, kind: &str, key: &NamespacedName) -> bool {
        let (cluster, name) = (&self.cluster, &key.1);
        match kind {
            "Node" => cluster.nodes.contains_key(name),
            "BGPPeer" => cluster.peers.contains_key(name),
            "BGPPolicy" => cluster.policies.contains_key(name),
            "BGPAdvertisement" => cluster.advertisements.contains_key(name),
            "BGPNode" => cluster.bgp_nodes.contains_key(name),
            _ => name == "default" && cluster.configuration.is_some(),
        }
    }
}

fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    if map.get(&key) == Some(&value) {
        return false;
    }
    map.insert(key, value);
    true
}

fn merge<V: PartialEq>(map: &mut BTreeMap<String, V>, read: BTreeMap<String, V>) -> bool {
    read.into_iter().fold(false, |changed, (key, value)| {
        put(map, key, value) || changed
    })
}

#[cfg(test)]
mod tests;
