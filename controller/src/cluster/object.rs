//! One manifest: what kind it is, whether it holds, and its place in the [`Cluster`].

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use k8s_openapi::{
    api::{core::v1, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use super::{
    Cluster, NamespacedName, Node, Secret,
    decode::{Fault, decode},
    document::{Place, Tree, Value},
    node::NodeObject,
    suggest::nearest,
};
use crate::crd::{self, Rules};

/// A manifest of ours: the same envelope for every kind.
#[derive(Deserialize)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    bound = "S: DeserializeOwned + Default"
)]
struct Optional<S> {
    #[expect(
        dead_code,
        reason = "known already; named so that other fields are refused"
    )]
    api_version: IgnoredAny,
    #[expect(
        dead_code,
        reason = "known already; named so that other fields are refused"
    )]
    kind: IgnoredAny,
    metadata: ObjectMeta,
    #[serde(default)]
    spec: S,
    #[serde(default)]
    #[expect(dead_code, reason = "the daemon's own, in a dump")]
    status: IgnoredAny,
}

/// The same where the spec has required fields.
#[derive(Deserialize)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    bound = "S: DeserializeOwned"
)]
struct Required<S> {
    #[expect(
        dead_code,
        reason = "known already; named so that other fields are refused"
    )]
    api_version: IgnoredAny,
    #[expect(
        dead_code,
        reason = "known already; named so that other fields are refused"
    )]
    kind: IgnoredAny,
    metadata: ObjectMeta,
    spec: S,
    #[serde(default)]
    #[expect(dead_code, reason = "the daemon's own, in a dump")]
    status: IgnoredAny,
}

/// What was wrong with a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Complaint {
    /// It does not say what its author meant: a typing error, another type, no name.
    Unreadable(Fault),
    /// It can be read, but breaks a rule: it is left out.
    Broken {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Which rule, where.
        fault: Fault,
    },
    /// Not for us; skipped.
    Skipped(Fault),
}

/// Kinds we read, with their API version.
const KNOWN: [(&str, &str); 11] = [
    ("v1", "Node"),
    ("v1", "Service"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("v1", "List"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    (crd::API_VERSION, "BGPConfiguration"),
    (crd::API_VERSION, "BGPPeer"),
    (crd::API_VERSION, "BGPPolicy"),
    (crd::API_VERSION, "BGPAdvertisement"),
    (crd::API_VERSION, "BGPNode"),
];

/// Adds what `tree` describes to `cluster`.
pub(crate) fn add(tree: &Tree, cluster: &mut Cluster, complaints: &mut Vec<Complaint>) {
    let fault = |at: Place, path: &str, message: String| Fault {
        at,
        path: path.into(),
        message,
    };
    if !matches!(tree.value, Value::Map(_)) {
        let message = format!(
            "expected a Kubernetes object (apiVersion, kind, metadata), found {}",
            tree.value.describe()
        );
        complaints.push(Complaint::Unreadable(fault(tree.at, "", message)));
        return;
    }
    let (Some(version), Some(kind)) = (tree.text("apiVersion"), tree.text("kind")) else {
        let missing = if tree.text("kind").is_none() {
            "kind"
        } else {
            "apiVersion"
        };
        let message = format!("this is no Kubernetes object: the field {missing} is required");
        complaints.push(Complaint::Unreadable(fault(tree.at, "", message)));
        return;
    };
    if kind.ends_with("List")
        && matches!(
            tree.get("items").map(|items| &items.value),
            Some(Value::List(_))
        )
    {
        if let Some(Value::List(items)) = tree.get("items").map(|items| &items.value) {
            for item in items {
                add(item, cluster, complaints);
            }
        }
        return;
    }
    let result = match (version, kind) {
        (crd::API_VERSION, "BGPConfiguration") => configuration(tree, cluster),
        (crd::API_VERSION, "BGPPeer") => peer(tree, cluster),
        (crd::API_VERSION, "BGPPolicy") => {
            ours(tree, |spec, name| insert(&mut cluster.policies, name, spec))
        }
        (crd::API_VERSION, "BGPAdvertisement") => ours(tree, |spec, name| {
            insert(&mut cluster.advertisements, name, spec)
        }),
        (crd::API_VERSION, "BGPNode") => ours(tree, |spec, name| {
            insert(&mut cluster.bgp_nodes, name, spec)
        }),
        ("v1", "Node") => node(tree, cluster),
        ("v1", "Service") => namespaced(
            tree,
            |service: &v1::Service| &service.metadata,
            &mut cluster.services,
        ),
        ("discovery.k8s.io/v1", "EndpointSlice") => namespaced(
            tree,
            |slice: &EndpointSlice| &slice.metadata,
            &mut cluster.endpoint_slices,
        ),
        ("v1", "Secret") => secret(tree, cluster),
        ("v1", "ConfigMap") => Ok(()),
        _ => Err(vec![unknown(tree, version, kind)]),
    };
    if let Err(more) = result {
        for complaint in &more {
            if let Complaint::Broken { kind, name, .. } = complaint {
                cluster.left_out.insert((kind.clone(), name.clone()));
            }
        }
        complaints.extend(more);
    }
}

/// A kind that is none of ours is skipped; one that is nearly ours is an error.
fn unknown(tree: &Tree, version: &str, kind: &str) -> Complaint {
    let fault = |path: &str, message: String| Fault {
        at: tree.place(path),
        path: path.into(),
        message,
    };
    if let Some((right, _)) = KNOWN.iter().find(|(_, known)| *known == kind)
        && (version.starts_with(crd::GROUP) || crd::KINDS.contains(&kind))
    {
        return Complaint::Unreadable(fault(
            "apiVersion",
            format!("{kind} has apiVersion {right}, not {version:?}"),
        ));
    }
    if version.starts_with(crd::GROUP) {
        let message = match nearest(kind, &crd::KINDS) {
            Some(best) => format!("unknown kind {kind:?}; did you mean {best:?}?"),
            None => format!("unknown kind {kind:?}; known are {}", crd::KINDS.join(", ")),
        };
        return Complaint::Unreadable(fault("kind", message));
    }
    Complaint::Skipped(fault(
        "kind",
        format!("{version} {kind} is not for routelet: skipped"),
    ))
}

type Added = Result<(), Vec<Complaint>>;

fn unreadable(fault: Fault) -> Vec<Complaint> {
    vec![Complaint::Unreadable(fault)]
}

fn name_of(tree: &Tree, metadata: &ObjectMeta) -> Result<String, Vec<Complaint>> {
    match metadata.name.as_deref() {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(unreadable(Fault {
            at: tree.place("metadata"),
            path: "metadata.name".into(),
            message: "the field name is required".into(),
        })),
    }
}

/// Reads one of our kinds whose fields all have defaults.
fn ours<S: DeserializeOwned + Default + Rules>(
    tree: &Tree,
    insert: impl FnOnce(S, String) -> Result<(), String>,
) -> Added {
    let object: Optional<S> = decode(tree).map_err(unreadable)?;
    let name = name_of(tree, &object.metadata)?;
    accept(tree, object.spec, name, insert)
}

fn peer(tree: &Tree, cluster: &mut Cluster) -> Added {
    let object: Required<crd::BGPPeerSpec> = decode(tree).map_err(unreadable)?;
    let name = name_of(tree, &object.metadata)?;
    accept(tree, object.spec, name, |spec, name| {
        insert(&mut cluster.peers, name, spec)
    })
}

fn configuration(tree: &Tree, cluster: &mut Cluster) -> Added {
    ours(tree, |spec, _| match &mut cluster.configuration {
        Some(_) => Err("is given twice: merge the two".into()),
        none => {
            *none = Some(spec);
            Ok(())
        }
    })
}

/// Takes what breaks no rule.
fn accept<S: Rules>(
    tree: &Tree,
    spec: S,
    name: String,
    insert: impl FnOnce(S, String) -> Result<(), String>,
) -> Added {
    let kind = tree.text("kind").unwrap_or_default().to_owned();
    let broken = spec.broken(&name);
    if broken.is_empty() {
        return insert(spec, name.clone()).map_err(|message| twice(tree, &kind, &name, &message));
    }
    Err(broken
        .into_iter()
        .map(|broken| Complaint::Broken {
            kind: kind.clone(),
            name: name.clone(),
            fault: Fault {
                at: tree.place(&broken.path),
                path: broken.path,
                message: broken.message,
            },
        })
        .collect())
}

fn insert<K: Ord, T>(map: &mut BTreeMap<K, T>, key: K, value: T) -> Result<(), String> {
    match map.entry(key) {
        Entry::Vacant(vacant) => {
            vacant.insert(value);
            Ok(())
        }
        Entry::Occupied(_) => Err("is given twice: drop one of the two".into()),
    }
}

/// Two manifests of one name: nobody can tell which is meant.
fn twice(tree: &Tree, kind: &str, name: &str, message: &str) -> Vec<Complaint> {
    unreadable(Fault {
        at: tree.place("metadata.name"),
        path: String::new(),
        message: format!("{kind} {name} {message}"),
    })
}

fn namespace_of(metadata: &ObjectMeta) -> String {
    metadata
        .namespace
        .clone()
        .unwrap_or_else(|| "default".into())
}

fn namespaced<T: DeserializeOwned>(
    tree: &Tree,
    metadata: impl FnOnce(&T) -> &ObjectMeta,
    map: &mut BTreeMap<NamespacedName, T>,
) -> Added {
    let object: T = decode(tree).map_err(unreadable)?;
    let metadata = metadata(&object);
    let key = (namespace_of(metadata), name_of(tree, metadata)?);
    let name = format!("{}/{}", key.0, key.1);
    insert(map, key, object)
        .map_err(|message| twice(tree, tree.text("kind").unwrap_or_default(), &name, &message))
}

fn secret(tree: &Tree, cluster: &mut Cluster) -> Added {
    let secret: v1::Secret = decode(tree).map_err(unreadable)?;
    let key = (
        namespace_of(&secret.metadata),
        name_of(tree, &secret.metadata)?,
    );
    let name = format!("{}/{}", key.0, key.1);
    insert(&mut cluster.secrets, key, Secret::of(secret))
        .map_err(|message| twice(tree, "Secret", &name, &message))
}

fn node(tree: &Tree, cluster: &mut Cluster) -> Added {
    let object: NodeObject = decode(tree).map_err(unreadable)?;
    let name = name_of(tree, &object.metadata)?;
    let node = Node::of(object).map_err(|mut fault| {
        fault.at = tree.place(&fault.path);
        vec![Complaint::Broken {
            kind: "Node".into(),
            name: name.clone(),
            fault,
        }]
    })?;
    insert(&mut cluster.nodes, name.clone(), Arc::new(node))
        .map_err(|message| twice(tree, "Node", &name, &message))
}
