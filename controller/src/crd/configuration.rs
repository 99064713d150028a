//! `BGPConfiguration` "default": the cluster's policy.

use std::{net::Ipv4Addr, path::PathBuf};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Rules, Verdicts,
    monitoring::{Collector, Mrt, check_collectors},
    peer::TimersChange,
    schema::{Ipv4Text, cel},
    selector::LabelSelector,
    value::{Asn, Cidr},
};

/// The cluster's AS, topology, timers, pod network, kernel, drain and CNI. With none, every field has its default.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "routelet.dev",
    version = "v1alpha1",
    kind = "BGPConfiguration",
    plural = "bgpconfigurations",
    shortname = "bgpconf",
    category = "routelet",
    doc = "The cluster's policy: AS number, topology, timers, pod network, kernel, drain and CNI. Only the one named \"default\" counts; with none, every field has its default.",
    validation = Rule::new("self.metadata.name == 'default'").message("metadata.name: the only BGPConfiguration is \"default\""),
    printcolumn(name = "AS", type_ = "integer", json_path = ".spec.asNumber"),
    printcolumn(name = "Topology", type_ = "string", json_path = ".spec.topology"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "!has(self.timers.keepaliveSeconds) || has(self.timers.holdSeconds) || self.timers.keepaliveSeconds <= 30",
        "timers.keepaliveSeconds is more than a third of holdSeconds, which is 90 where it is not written",
    ),
    (
        "!has(self.timers.idleHoldMaxSeconds) || has(self.timers.connectRetrySeconds) || self.timers.idleHoldMaxSeconds >= 5",
        "timers.idleHoldMaxSeconds: take at least connectRetrySeconds, which is 5 where it is not written",
    ),
    (
    "self.topology != 'RouteReflector' || (has(self.routeReflectors.nodeSelector.matchLabels) && size(self.routeReflectors.nodeSelector.matchLabels) > 0) || (has(self.routeReflectors.nodeSelector.matchExpressions) && size(self.routeReflectors.nodeSelector.matchExpressions) > 0)",
    "routeReflectors.nodeSelector is empty and would make every node a reflector; select some by a label",
    ),
])))]
pub(crate) struct BGPConfigurationSpec {
    /// AS number of every node that has none of its own (`BGPNode`).
    pub(crate) as_number: Asn,
    /// Who peers with whom.
    pub(crate) topology: Topology,
    /// For `topology: RouteReflector`.
    pub(crate) route_reflectors: RouteReflectors,
    /// TCP port we listen on, and that other nodes are dialled on.
    #[schemars(range(min = 1))]
    pub(crate) listen_port: u16,
    /// Which addresses we listen on.
    pub(crate) listen_mode: ListenMode,
    /// Session timers.
    pub(crate) timers: Timers,
    /// Graceful restart.
    pub(crate) graceful_restart: GracefulRestart,
    /// The TCP MD5 key between nodes; while it is rolled, the one before it stands beside it as KEY.previous.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mesh_password_ref: Option<SecretKeyRef>,
    /// What the pod network is.
    pub(crate) pod_network: PodNetwork,
    /// What each node announces.
    pub(crate) advertise: Advertise,
    /// What may go into the kernel, and how.
    pub(crate) kernel: Kernel,
    /// What happens when a node goes out of service.
    pub(crate) drain: Drain,
    /// The CNI configuration that makes the standard plugins use this node's pod CIDRs.
    pub(crate) cni: Cni,
    /// Who is told of peers and their routes over BMP (RFC 7854).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-validations" = cel(&[(
        "self.all(one, self.exists_one(other, other.name == one.name))",
        "there are two collectors of one name",
    )])))]
    pub(crate) bmp: Vec<Collector>,
    /// What is written to MRT files (RFC 6396).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mrt: Option<Mrt>,
}

impl Default for BGPConfigurationSpec {
    fn default() -> Self {
        Self {
            as_number: Asn(64512),
            topology: Topology::Mesh,
            route_reflectors: RouteReflectors::default(),
            listen_port: 179,
            listen_mode: ListenMode::NodeIP,
            timers: Timers::default(),
            graceful_restart: GracefulRestart::default(),
            mesh_password_ref: None,
            pod_network: PodNetwork::default(),
            advertise: Advertise::default(),
            kernel: Kernel::default(),
            drain: Drain::default(),
            cni: Cni::default(),
            bmp: Vec::new(),
            mrt: None,
        }
    }
}

/// Who peers with whom, beside what `BGPPeer` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Topology {
    /// Every node with every node.
    #[default]
    Mesh,
    /// Every node with the reflectors, and these with each other.
    RouteReflector,
    /// Only the peers that `BGPPeer` names.
    External,
}

/// The nodes that reflect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct RouteReflectors {
    /// Which nodes.
    pub(crate) node_selector: LabelSelector,
    /// Their common cluster ID (RFC 4456 §7); default: the lowest router ID among them.
    #[serde(rename = "clusterID", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Ipv4Text>")]
    pub(crate) cluster_id: Option<Ipv4Addr>,
}

impl Default for RouteReflectors {
    fn default() -> Self {
        Self {
            node_selector: LabelSelector {
                match_labels: [("routelet.dev/route-reflector".to_owned(), "true".to_owned())]
                    .into(),
                match_expressions: Vec::new(),
            },
            cluster_id: None,
        }
    }
}

/// Which addresses we listen on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum ListenMode {
    /// The node's InternalIPs, and the `sourceAddress` of peers.
    #[default]
    NodeIP,
    /// Every address.
    All,
    /// None: we dial every peer.
    None,
}

/// Session timers (RFC 4271 §10), seconds. What is not written follows from what is, as in a BGPPeer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", from = "TimersChange")]
pub(crate) struct Timers {
    /// First wait before dialling again.
    pub(crate) connect_retry_seconds: u16,
    /// Hold time we propose: 0 (none) or at least 3.
    pub(crate) hold_seconds: u16,
    /// Keepalive interval: at most a third of the hold time; default: 30, or that third if it is less.
    pub(crate) keepalive_seconds: u16,
    /// Longest wait between two attempts.
    pub(crate) idle_hold_max_seconds: u16,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            connect_retry_seconds: 5,
            hold_seconds: 90,
            keepalive_seconds: 30,
            idle_hold_max_seconds: 60,
        }
    }
}

impl From<TimersChange> for Timers {
    fn from(written: TimersChange) -> Self {
        written.over(&Self::default())
    }
}

impl Timers {
    /// Rules that hold for what is written and, again, for what is merged.
    pub(crate) fn check(&self, verdicts: &mut Verdicts) {
        let hold = self.hold_seconds;
        let allowed = hold == 0 || hold >= 3;
        verdicts.demand(
            allowed,
            "timers.holdSeconds",
            format!("{hold} is not allowed (RFC 4271 §4.2): take 0 (no hold timer) or at least 3"),
        );
        if allowed && hold != 0 {
            let (keepalive, third) = (self.keepalive_seconds, hold / 3);
            verdicts.demand(
                keepalive <= third,
                "timers.keepaliveSeconds",
                format!(
                    "{keepalive} is more than a third of holdSeconds ({hold}): take at most {third}, or leave it out"
                ),
            );
            verdicts.demand(
                keepalive >= 1,
                "timers.keepaliveSeconds",
                "0 would let the hold timer run out: take at least 1",
            );
        }
        verdicts.demand(
            self.connect_retry_seconds >= 1,
            "timers.connectRetrySeconds",
            "take at least 1",
        );
        verdicts.demand(
            self.idle_hold_max_seconds >= self.connect_retry_seconds,
            "timers.idleHoldMaxSeconds",
            format!(
                "take at least connectRetrySeconds ({})",
                self.connect_retry_seconds
            ),
        );
    }
}

/// Graceful restart (RFC 4724, 8538, 9494).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!self.enabled || (self.restartSeconds >= 1 && self.restartSeconds <= 4095)",
    "restartSeconds is out of range: 1 to 4095 (RFC 4724 §3)",
)])))]
pub(crate) struct GracefulRestart {
    /// Whether it is offered.
    pub(crate) enabled: bool,
    /// How long peers should keep our routes: 1–4095 seconds.
    pub(crate) restart_seconds: u16,
    /// How long after the start we wait for End-of-RIB.
    pub(crate) deferral_seconds: u16,
    /// Long-lived stale time (RFC 9494), 0–16777215 seconds; 0: not offered.
    #[schemars(range(max = 16_777_215))]
    pub(crate) long_lived_seconds: u32,
    /// Offer RFC 8538 (a NOTIFICATION keeps routes too).
    pub(crate) notification: bool,
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self {
            enabled: true,
            restart_seconds: 120,
            deferral_seconds: 15,
            long_lived_seconds: 0,
            notification: true,
        }
    }
}

impl GracefulRestart {
    /// Rules that hold for what is written and, again, for what is merged.
    pub(crate) fn check(&self, verdicts: &mut Verdicts) {
        verdicts.demand(
            (1..=4095).contains(&self.restart_seconds) || !self.enabled,
            "gracefulRestart.restartSeconds",
            format!(
                "{} is out of range: 1 to 4095 (RFC 4724 §3)",
                self.restart_seconds
            ),
        );
        verdicts.demand(
            self.long_lived_seconds < 1 << 24,
            "gracefulRestart.longLivedSeconds",
            format!(
                "{} is out of range: 0 to 16777215 (RFC 9494 §3.1)",
                self.long_lived_seconds
            ),
        );
    }
}

/// A key of a Secret in the daemon's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SecretKeyRef {
    /// The Secret.
    #[schemars(length(min = 1))]
    pub(crate) name: String,
    /// The key in it.
    #[serde(default = "password")]
    #[schemars(length(min = 1))]
    pub(crate) key: String,
}

impl SecretKeyRef {
    /// Both must be names.
    pub(crate) fn check(&self, field: &str, verdicts: &mut Verdicts) {
        verdicts.demand(
            !self.name.is_empty() && !self.key.is_empty(),
            field,
            "name and key must not be empty",
        );
    }
}

fn password() -> String {
    "password".into()
}

/// What the pod network is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "self.serviceCIDRs.all(s, self.clusterCIDRs.all(c, isCIDR(s) && isCIDR(c) && !cidr(s).containsCIDR(c) && !cidr(c).containsCIDR(s)))",
    "a service CIDR overlaps the pod network: the two must be disjoint",
)])))]
pub(crate) struct PodNetwork {
    /// Learned pod routes must lie inside; empty: the union of all nodes' pod CIDRs.
    #[serde(rename = "clusterCIDRs")]
    #[schemars(length(max = 16))]
    pub(crate) cluster_cidrs: Vec<Cidr>,
    /// Never installed, never advertised unless an advertisement says so.
    #[serde(rename = "serviceCIDRs")]
    #[schemars(length(max = 16))]
    pub(crate) service_cidrs: Vec<Cidr>,
}

/// What each node announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Advertise {
    /// Its pod CIDRs.
    #[serde(rename = "podCIDRs")]
    pub(crate) pod_cidrs: bool,
    /// A blackhole of worst metric for each, so that a packet for a pod that is gone does not circle.
    pub(crate) blackhole_own: bool,
}

impl Default for Advertise {
    fn default() -> Self {
        Self {
            pod_cidrs: true,
            blackhole_own: true,
        }
    }
}

/// What may go into the kernel, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Kernel {
    /// Whether learned routes are installed at all.
    pub(crate) install: bool,
    /// Routing table, 1–4294967295, not 255; 254 is main.
    #[schemars(range(min = 1), extend("x-kubernetes-validations" = cel(&[(
        "self != 255",
        "255 (local) is not allowed; 254 is main",
    )])))]
    pub(crate) table: u32,
    /// Route protocol number, 5–255: with table and metric what makes a route ours.
    #[schemars(range(min = 5), extend("x-kubernetes-validations" = cel(&[(
        "!(self in [186, 11, 12, 17, 80])",
        "FRR (186), zebra (11), BIRD (12), kube-router (17) and Felix (80) take these for their own and remove them; 179 is free",
    )])))]
    pub(crate) protocol: u8,
    /// Metric of learned routes, 1–4294967293.
    #[schemars(range(min = 1, max = 4_294_967_293_u32))]
    pub(crate) metric: u32,
    /// Equal-cost multipath.
    pub(crate) ecmp: bool,
    /// Most next hops of a route, 1–255.
    #[schemars(range(min = 1))]
    pub(crate) max_paths: u8,
    /// Whether a default route may be learned.
    pub(crate) accept_default_route: bool,
    /// What may be learned beyond the pod network.
    pub(crate) allowed_prefixes: Vec<PrefixRange>,
    /// What becomes of a route whose next hop no connected or static route leads to.
    pub(crate) unresolved_next_hop: UnresolvedNextHop,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            install: true,
            table: 254,
            protocol: 179,
            metric: 1024,
            ecmp: true,
            max_paths: 16,
            accept_default_route: false,
            allowed_prefixes: Vec::new(),
            unresolved_next_hop: UnresolvedNextHop::Reject,
        }
    }
}

/// What becomes of a route whose next hop no connected or static route leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum UnresolvedNextHop {
    /// It is not installed, and says why.
    #[default]
    Reject,
    /// It goes to the gateway of the default route.
    Gateway,
    /// The next hop is taken to be on the link.
    Onlink,
}

/// Prefixes inside `cidr` whose length is in the range; by default just the CIDR itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "!has(self.minLength) || !isCIDR(self.cidr) || cidr(self.cidr).prefixLength() <= self.minLength",
        "minLength is less than the length of cidr",
    ),
    (
        "!has(self.maxLength) || !isCIDR(self.cidr) || (self.maxLength >= (has(self.minLength) ? self.minLength : cidr(self.cidr).prefixLength()) && self.maxLength <= (cidr(self.cidr).ip().family() == 4 ? 32 : 128))",
        "maxLength does not fit: length of cidr ≤ minLength ≤ maxLength ≤ 32 (IPv6: 128)",
    ),
    (
        "!has(self.minLength) || !isCIDR(self.cidr) || self.minLength <= (cidr(self.cidr).ip().family() == 4 ? 32 : 128)",
        "minLength does not fit: length of cidr ≤ minLength ≤ maxLength ≤ 32 (IPv6: 128)",
    ),
])))]
pub(crate) struct PrefixRange {
    /// The covering prefix.
    pub(crate) cidr: Cidr,
    /// Shortest length; default: the CIDR's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min_length: Option<u8>,
    /// Longest length; default: the greater of the CIDR's own and `minLength`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_length: Option<u8>,
}

impl PrefixRange {
    /// Shortest and longest length, filled in.
    pub(crate) fn lengths(&self) -> (u8, u8) {
        let min = self.min_length.unwrap_or_else(|| self.cidr.0.length());
        (
            min,
            self.max_length
                .unwrap_or_else(|| min.max(self.cidr.0.length())),
        )
    }

    /// The lengths must be in order and possible.
    pub(crate) fn check(&self, field: &str, verdicts: &mut Verdicts) {
        let (min, max) = self.lengths();
        let bits = self.cidr.0.family().bits();
        verdicts.demand(
            self.cidr.0.length() <= min && min <= max && max <= bits,
            field,
            format!(
                "minLength {min} and maxLength {max} do not fit {}: {} ≤ minLength ≤ maxLength ≤ {bits}",
                self.cidr,
                self.cidr.0.length()
            ),
        );
    }
}

/// What happens when a node goes out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Drain {
    /// While the node is cordoned.
    pub(crate) on_cordon: OnCordon,
    /// How long `routelet drain` waits between GRACEFUL_SHUTDOWN and Cease.
    pub(crate) wait_seconds: u16,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            on_cordon: OnCordon::GracefulShutdown,
            wait_seconds: 10,
        }
    }
}

/// What a cordoned node announces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum OnCordon {
    /// Everything, with the GRACEFUL_SHUTDOWN community (RFC 8326).
    #[default]
    GracefulShutdown,
    /// Its pod CIDRs only: service addresses and static prefixes are withdrawn.
    Withdraw,
    /// What it always does.
    None,
}

/// The CNI configuration list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Cni {
    /// Whether it is written.
    pub(crate) write_conflist: bool,
    /// Where.
    #[schemars(extend("x-kubernetes-validations" = cel(&[(
        "self.startsWith('/')",
        "it must be an absolute path",
    )])))]
    pub(crate) directory: PathBuf,
    /// The file's name.
    #[schemars(extend("x-kubernetes-validations" = cel(&[(
        "self.endsWith('.conflist') && !self.startsWith('.') && !self.contains('/')",
        "it is no file name that ends in .conflist",
    )])))]
    pub(crate) name: String,
    /// The bridge that the pods hang on.
    #[schemars(length(max = 15), extend("x-kubernetes-validations" = cel(&[(
        "self.matches('^[^/ :]+$')",
        "it is no interface name (1 to 15 characters)",
    )])))]
    pub(crate) bridge: String,
    /// MTU of bridge and pods; 0: that of the default route's interface, as the plugin finds it.
    #[schemars(range(max = 65535), extend("x-kubernetes-validations" = cel(&[(
        "self == 0 || self >= 68",
        "it is not allowed: 0 (as the uplink) or 68 to 65535; IPv6 needs 1280",
    )])))]
    pub(crate) mtu: u32,
    /// Whether `hostPort` works (the `portmap` plugin).
    pub(crate) portmap: bool,
    /// Where the container runtime has its plugins: one that is in none of them is reported.
    #[schemars(length(max = 8))]
    pub(crate) plugin_directories: Vec<PathBuf>,
}

impl Default for Cni {
    fn default() -> Self {
        Self {
            write_conflist: true,
            directory: "/etc/cni/net.d".into(),
            name: "10-routelet.conflist".into(),
            bridge: "cni0".into(),
            mtu: 0,
            portmap: true,
            plugin_directories: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
        }
    }
}

/// Protocol numbers that other daemons take for theirs and sweep.
const TAKEN: [(u8, &str); 5] = [
    (186, "FRR"),
    (11, "zebra"),
    (12, "BIRD"),
    (17, "kube-router"),
    (80, "Felix"),
];

impl Rules for BGPConfigurationSpec {
    fn check(&self, name: &str, verdicts: &mut Verdicts) {
        if name != "default" {
            verdicts.0.push(super::Broken {
                path: "metadata.name".into(),
                message: format!("{name:?} is ignored: the only BGPConfiguration is \"default\""),
            });
        }
        self.timers.check(verdicts);
        self.graceful_restart.check(verdicts);
        if let Some(secret) = &self.mesh_password_ref {
            secret.check("meshPasswordRef", verdicts);
        }
        self.route_reflectors
            .node_selector
            .check("routeReflectors.nodeSelector", verdicts);
        verdicts.demand(
            !self.route_reflectors.node_selector.is_empty()
                || self.topology != Topology::RouteReflector,
            "routeReflectors.nodeSelector",
            "it is empty and would make every node a reflector; select some by a label",
        );
        verdicts.demand(
            self.route_reflectors
                .cluster_id
                .is_none_or(|id| !id.is_unspecified()),
            "routeReflectors.clusterID",
            "0.0.0.0 is no cluster ID",
        );
        verdicts.demand(
            self.listen_port != 0,
            "listenPort",
            "0 is no port; take listenMode: None not to listen",
        );
        self.check_kernel(verdicts);
        self.check_cni(verdicts);
        check_collectors(&self.bmp, verdicts);
        if let Some(mrt) = &self.mrt {
            mrt.check(verdicts);
        }
    }
}

impl BGPConfigurationSpec {
    fn check_kernel(&self, verdicts: &mut Verdicts) {
        let kernel = &self.kernel;
        verdicts.demand(
            kernel.table != 0 && kernel.table != 255,
            "kernel.table",
            format!(
                "{} is not allowed: 1 to 4294967295 except 255 (local); 254 is main",
                kernel.table
            ),
        );
        let taken = TAKEN.iter().find(|(number, _)| *number == kernel.protocol);
        verdicts.demand(
            kernel.protocol >= 5 && taken.is_none(),
            "kernel.protocol",
            match taken {
                Some((number, daemon)) => {
                    format!("{number} is what {daemon} takes for its own and removes; 179 is free")
                }
                None => format!(
                    "{} belongs to the kernel or to `ip route`; 179 is free",
                    kernel.protocol
                ),
            },
        );
        verdicts.demand(
            (1..=u32::MAX - 2).contains(&kernel.metric),
            "kernel.metric",
            format!("{} is not allowed: 1 to {}", kernel.metric, u32::MAX - 2),
        );
        verdicts.demand(
            kernel.max_paths >= 1,
            "kernel.maxPaths",
            "0 is not allowed: 1 to 255; 1 is no multipath",
        );
        for (i, range) in kernel.allowed_prefixes.iter().enumerate() {
            range.check(&format!("kernel.allowedPrefixes[{i}]"), verdicts);
        }
        for (i, service) in self.pod_network.service_cidrs.iter().enumerate() {
            let clash = self
                .pod_network
                .cluster_cidrs
                .iter()
                .find(|pods| pods.0.overlaps(&service.0));
            verdicts.demand(
                clash.is_none(),
                &format!("podNetwork.serviceCIDRs[{i}]"),
                clash.map_or_else(String::new, |pods| {
                    format!("{service} overlaps the pod network {pods}: the two must be disjoint")
                }),
            );
        }
    }

    fn check_cni(&self, verdicts: &mut Verdicts) {
        let cni = &self.cni;
        verdicts.demand(
            cni.name.ends_with(".conflist")
                && !cni.name.contains('/')
                && !cni.name.starts_with('.'),
            "cni.name",
            format!("{:?} is no file name that ends in .conflist", cni.name),
        );
        verdicts.demand(
            cni.directory.is_absolute(),
            "cni.directory",
            "it must be an absolute path",
        );
        verdicts.demand(
            !cni.bridge.is_empty()
                && cni.bridge.len() <= 15
                && !cni.bridge.contains(['/', ' ', ':']),
            "cni.bridge",
            format!("{:?} is no interface name (1 to 15 characters)", cni.bridge),
        );
        verdicts.demand(
            cni.mtu == 0 || (68..=65535).contains(&cni.mtu),
            "cni.mtu",
            format!(
                "{} is not allowed: 0 (as the uplink) or 68 to 65535; IPv6 needs 1280",
                cni.mtu
            ),
        );
    }
}
