//! The kinds of objects: those that every API server knows, and those that a CustomResourceDefinition adds.

use serde_json::{Value, json};

/// One kind, under the one version in which it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
    pub(crate) status: Status,
    /// Does its generation count the changes of what is asked for?
    pub(crate) counted: bool,
    /// Does a definition stand behind it?
    pub(crate) custom: bool,
}

/// What a kind has by way of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// None: whatever it has is written with the rest.
    Absent,
    /// One that whoever makes the object may bring along: a kubelet's Node.
    Brought,
    /// One that is written by itself only.
    Apart,
}

type Line = (&'static str, &'static str, &'static str, bool, Status, bool);

/// Group and version, kind, plural, namespaced, status, counted: what the daemon, its manifests and the stories need.
const KNOWN: &[Line] = &[
    ("v1", "Namespace", "namespaces", false, Status::Apart, false),
    ("v1", "Node", "nodes", false, Status::Brought, false),
    ("v1", "Pod", "pods", true, Status::Apart, true),
    ("v1", "Service", "services", true, Status::Apart, false),
    ("v1", "Secret", "secrets", true, Status::Absent, false),
    ("v1", "ConfigMap", "configmaps", true, Status::Absent, false),
    (
        "v1",
        "ServiceAccount",
        "serviceaccounts",
        true,
        Status::Absent,
        false,
    ),
    ("v1", "Event", "events", true, Status::Absent, false),
    (
        "events.k8s.io/v1",
        "Event",
        "events",
        true,
        Status::Absent,
        false,
    ),
    (
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "endpointslices",
        true,
        Status::Absent,
        true,
    ),
    (
        "apps/v1",
        "DaemonSet",
        "daemonsets",
        true,
        Status::Apart,
        true,
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        "clusterroles",
        false,
        Status::Absent,
        false,
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        false,
        Status::Absent,
        false,
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "Role",
        "roles",
        true,
        Status::Absent,
        false,
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "rolebindings",
        true,
        Status::Absent,
        false,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        false,
        Status::Apart,
        true,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        false,
        Status::Absent,
        true,
    ),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
        Status::Apart,
        true,
    ),
];

impl Kind {
    /// All that need no definition.
    pub(crate) fn known() -> Vec<Self> {
        let one = |&(group, kind, plural, namespaced, status, counted): &Line| {
            let (group, version) = group.split_once('/').unwrap_or(("", group));
            Self {
                group: group.into(),
                version: version.into(),
                kind: kind.into(),
                plural: plural.into(),
                namespaced,
                status,
                counted,
                custom: false,
            }
        };
        KNOWN.iter().map(one).collect()
    }

    /// The kind that a definition adds, in its first version.
    pub(crate) fn defined(definition: &Value) -> Option<Self> {
        let text = |pointer: &str| Some(definition.pointer(pointer)?.as_str()?.to_owned());
        let apart = definition.pointer("/spec/versions/0/subresources/status");
        Some(Self {
            group: text("/spec/group")?,
            version: text("/spec/versions/0/name")?,
            kind: text("/spec/names/kind")?,
            plural: text("/spec/names/plural")?,
            namespaced: text("/spec/scope")? == "Namespaced",
            status: if apart.is_some() {
                Status::Apart
            } else {
                Status::Absent
            },
            counted: true,
            custom: true,
        })
    }

    /// As objects say it.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// As messages say it: `bgpnodes.routelet.dev`.
    pub(crate) fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Its lines in a discovery document.
    pub(crate) fn discovery(&self) -> Vec<Value> {
        let line = |name: String, verbs: &[&str]| json!({"name": name, "singularName": self.kind.to_lowercase(), "namespaced": self.namespaced, "kind": self.kind, "verbs": verbs});
        let all = [
            "create", "delete", "get", "list", "patch", "update", "watch",
        ];
        let mut lines = vec![line(self.plural.clone(), &all)];
        if self.status != Status::Absent {
            lines.push(line(
                format!("{}/status", self.plural),
                &["get", "patch", "update"],
            ));
        }
        lines
    }
}
