//! `BGPPeer`: one peering rule: which nodes, whom, how.

#![allow(
    clippy::duplicated_attributes,
    reason = "every column has a type and a place"
)]

use std::net::IpAddr;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Rules, Verdicts,
    configuration::{GracefulRestart, SecretKeyRef, Timers},
    policy::{DefaultAction, FamilyName, Rule, check_rules},
    schema::{HostText, IpText, cel},
    selector::LabelSelector,
    status::BGPPeerStatus,
    tcp_ao::TcpAo,
    value::{Asn, Cidr, PeerAsn, is_host},
};

/// One peering rule.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "routelet.dev",
    version = "v1alpha1",
    kind = "BGPPeer",
    plural = "bgppeers",
    shortname = "bp",
    category = "routelet",
    status = "BGPPeerStatus",
    doc = "One peering rule: which nodes, whom, how.",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.peerAddress"),
    printcolumn(
        name = "Range",
        type_ = "string",
        json_path = ".spec.peerRange",
        priority = 1
    ),
    printcolumn(name = "AS", type_ = "string", json_path = ".spec.peerASN"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(name = "Up", type_ = "integer", json_path = ".status.established"),
    printcolumn(name = "Sessions", type_ = "integer", json_path = ".status.total"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Established")].reason"#,
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "has(self.peerAddress) || has(self.peerSelector) || has(self.peerRange) || has(self.autoDiscovery)",
        "it says nobody to peer with: give one of peerAddress, peerSelector, peerRange, autoDiscovery",
    ),
    (
        "[has(self.peerAddress), has(self.peerSelector), has(self.peerRange), has(self.autoDiscovery)].filter(given, given).size() <= 1",
        "peerAddress, peerSelector, peerRange and autoDiscovery exclude each other: give one of them",
    ),
    (
        "!has(self.node) || !((has(self.nodeSelector.matchLabels) && size(self.nodeSelector.matchLabels) > 0) || (has(self.nodeSelector.matchExpressions) && size(self.nodeSelector.matchExpressions) > 0))",
        "node and nodeSelector exclude each other: give one of them",
    ),
    (
        "!has(self.peerAddress) || has(self.sourceInterface) || !isIP(self.peerAddress) || ip(self.peerAddress).family() == 4 || !ip(self.peerAddress).isLinkLocalUnicast()",
        "peerAddress is link-local: say on which link by sourceInterface",
    ),
    (
        "!has(self.sourceAddress) || !has(self.sourceInterface)",
        "sourceAddress and sourceInterface exclude each other: give one of them",
    ),
    (
        "!has(self.sourceAddress) || !has(self.peerAddress) || !isIP(self.sourceAddress) || !isIP(self.peerAddress) || ip(self.sourceAddress).family() == ip(self.peerAddress).family()",
        "sourceAddress cannot speak to peerAddress: they are of different families",
    ),
    (
        "!has(self.ttlSecurity) || self.ebgpMultihop == 1",
        "ttlSecurity and ebgpMultihop exclude each other: ttlSecurity alone says how many hops away the peer is",
    ),
    (
        "!self.routeReflectorClient || self.peerASN != 'External'",
        "routeReflectorClient: an external peer cannot be a client (RFC 4456)",
    ),
    (
        "!has(self.peerRange) || self.peerPort == 179",
        "peerPort: we never dial into a peerRange: drop it",
    ),
    (
        "!has(self.authSecretRef) || !has(self.tcpAO)",
        "authSecretRef (TCP MD5) and tcpAO exclude each other: give one of them",
    ),
])))]
pub(crate) struct BGPPeerSpec {
    /// Which nodes; empty: all.
    #[serde(default)]
    pub(crate) node_selector: LabelSelector,
    /// Just this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    /// Whom: this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<HostText>")]
    pub(crate) peer_address: Option<IpAddr>,
    /// Whom: other nodes of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peer_selector: Option<LabelSelector>,
    /// Whom: whoever dials from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peer_range: Option<Cidr>,
    /// Whom: found by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auto_discovery: Option<AutoDiscovery>,
    /// The peer's AS number: a number, `Internal`, `External` or `Any`.
    #[serde(rename = "peerASN")]
    pub(crate) peer_asn: PeerAsn,
    /// The AS number we show it; default: the node's.
    #[serde(rename = "localASN", default, skip_serializing_if = "Option::is_none")]
    pub(crate) local_asn: Option<Asn>,
    /// TCP port to dial.
    #[serde(default = "bgp_port")]
    #[schemars(range(min = 1))]
    pub(crate) peer_port: u16,
    /// We never dial.
    #[serde(default)]
    pub(crate) passive: bool,
    /// The address we speak from. By default the node's own; to an external router on the same link only if that is in the
    /// subnet of the router, and else one that the kernel chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<IpText>")]
    pub(crate) source_address: Option<IpAddr>,
    /// The interface we speak over; needed for a link-local `peerAddress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_interface: Option<String>,
    /// TTL towards external peers: 1 (directly connected) to 255.
    #[serde(default = "one_hop")]
    #[schemars(range(min = 1))]
    pub(crate) ebgp_multihop: u8,
    /// GTSM (RFC 5082): the peer is at most this many hops away, 1–254.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 254))]
    pub(crate) ttl_security: Option<u8>,
    /// What differs from BGPConfiguration.
    #[serde(default)]
    pub(crate) timers: TimersChange,
    /// Families to offer.
    #[serde(default = "both_families")]
    #[schemars(length(min = 1, max = 2))]
    pub(crate) families: Vec<FamilyName>,
    /// IPv4 over IPv6 next hops (RFC 8950).
    #[serde(default)]
    pub(crate) extended_next_hop: bool,
    /// Several paths to one prefix (RFC 7911).
    #[serde(default)]
    pub(crate) add_path: AddPath,
    /// The TCP MD5 key; while it is rolled, the one before it stands beside it as KEY.previous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auth_secret_ref: Option<SecretKeyRef>,
    /// The TCP Authentication Option (RFC 5925), which takes Linux 6.7 with CONFIG_TCP_AO.
    #[serde(rename = "tcpAO", default, skip_serializing_if = "Option::is_none")]
    pub(crate) tcp_ao: Option<TcpAo>,
    /// What differs from BGPConfiguration.
    #[serde(default)]
    pub(crate) graceful_restart: GracefulRestartChange,
    /// What stands as next hop in what we announce.
    #[serde(default)]
    pub(crate) next_hop_mode: NextHopMode,
    /// It is our client (RFC 4456).
    #[serde(default)]
    pub(crate) route_reflector_client: bool,
    /// How often our own AS may stand in an AS_PATH from it.
    #[serde(rename = "allowOwnAS", default)]
    pub(crate) allow_own_as: u8,
    /// How many prefixes it may send.
    #[serde(default)]
    pub(crate) max_prefixes: MaxPrefixes,
    /// Bidirectional Forwarding Detection (RFC 5880).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bfd: Option<Bfd>,
    /// What comes in; default: the pod network and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) import: Option<PolicyOrRules>,
    /// What goes out; default: what this node originates, and what route reflection demands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) export: Option<PolicyOrRules>,
    /// Configured but held down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shutdown: Option<Shutdown>,
}

fn bgp_port() -> u16 {
    179
}

fn one_hop() -> u8 {
    1
}

fn both_families() -> Vec<FamilyName> {
    vec![FamilyName::IPv4, FamilyName::IPv6]
}

/// A peer found by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "self.mode != 'Unnumbered' || has(self.interface)",
        "Unnumbered needs an interface",
    ),
    (
        "self.mode != 'DefaultGateway' || !has(self.interface)",
        "DefaultGateway takes no interface",
    ),
])))]
pub(crate) struct AutoDiscovery {
    /// How.
    pub(crate) mode: DiscoveryMode,
    /// Where, for `Unnumbered`: an interface, or a pattern for several (`eth*`, `ens?`), which must not mean those of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<String>,
}

/// How a peer is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum DiscoveryMode {
    /// It is the gateway of the node's default route.
    DefaultGateway,
    /// It is the router on the other end of an interface, by its link-local address.
    Unnumbered,
}

/// Session timers that differ from BGPConfiguration, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "!has(self.holdSeconds) || self.holdSeconds == 0 || self.holdSeconds >= 3",
        "holdSeconds (RFC 4271 §4.2): take 0 (no hold timer) or at least 3",
    ),
    (
        "!has(self.keepaliveSeconds) || !has(self.holdSeconds) || self.holdSeconds == 0 || self.keepaliveSeconds <= self.holdSeconds / 3",
        "keepaliveSeconds is more than a third of holdSeconds",
    ),
    (
        "!has(self.keepaliveSeconds) || self.keepaliveSeconds >= 1 || (has(self.holdSeconds) && self.holdSeconds == 0)",
        "keepaliveSeconds: 0 would let the hold timer run out: take at least 1",
    ),
    (
        "!has(self.idleHoldMaxSeconds) || !has(self.connectRetrySeconds) || self.idleHoldMaxSeconds >= self.connectRetrySeconds",
        "idleHoldMaxSeconds: take at least connectRetrySeconds",
    ),
])))]
pub(crate) struct TimersChange {
    /// First wait before dialling again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) connect_retry_seconds: Option<u16>,
    /// Hold time we propose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hold_seconds: Option<u16>,
    /// Keepalive interval; default: that of BGPConfiguration, or a third of the hold time if that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keepalive_seconds: Option<u16>,
    /// Longest wait between two attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle_hold_max_seconds: Option<u16>,
}

impl TimersChange {
    /// What holds for this peer.
    pub(crate) fn over(&self, base: &Timers) -> Timers {
        let hold_seconds = self.hold_seconds.unwrap_or(base.hold_seconds);
        let third = if hold_seconds == 0 {
            u16::MAX
        } else {
            hold_seconds / 3
        };
        let connect_retry_seconds = self
            .connect_retry_seconds
            .unwrap_or(base.connect_retry_seconds);
        Timers {
            connect_retry_seconds,
            hold_seconds,
            keepalive_seconds: self
                .keepalive_seconds
                .unwrap_or_else(|| base.keepalive_seconds.min(third)),
            idle_hold_max_seconds: self
                .idle_hold_max_seconds
                .unwrap_or_else(|| base.idle_hold_max_seconds.max(connect_retry_seconds)),
        }
    }
}

/// Graceful restart where it differs from BGPConfiguration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct GracefulRestartChange {
    /// Whether it is offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enabled: Option<bool>,
    /// How long the peer should keep our routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4095))]
    pub(crate) restart_seconds: Option<u16>,
    /// Has no meaning for a single peer; accepted so that a block can be copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deferral_seconds: Option<u16>,
    /// Long-lived stale time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 16_777_215))]
    pub(crate) long_lived_seconds: Option<u32>,
    /// Offer RFC 8538.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) notification: Option<bool>,
}

impl GracefulRestartChange {
    /// What holds for this peer.
    pub(crate) fn over(&self, base: &GracefulRestart) -> GracefulRestart {
        GracefulRestart {
            enabled: self.enabled.unwrap_or(base.enabled),
            restart_seconds: self.restart_seconds.unwrap_or(base.restart_seconds),
            deferral_seconds: base.deferral_seconds,
            long_lived_seconds: self.long_lived_seconds.unwrap_or(base.long_lived_seconds),
            notification: self.notification.unwrap_or(base.notification),
        }
    }
}

/// Several paths to one prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct AddPath {
    /// Take them.
    pub(crate) receive: bool,
    /// Send at most this many; 0: the best only.
    pub(crate) send_max: u8,
}

/// What stands as next hop in what we announce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum NextHopMode {
    /// Ourselves to external peers and for what we originate; unchanged to internal ones.
    #[default]
    Auto,
    /// Always ourselves.
    #[serde(rename = "Self")]
    SelfAddress,
    /// Unchanged, except for what we originate.
    Keep,
}

/// How many prefixes a peer may send, both families together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct MaxPrefixes {
    /// 0: 8 for each pod CIDR of a node of the cluster, 1000 for others; without limit where nothing is installed.
    pub(crate) count: u32,
    /// What happens beyond it.
    pub(crate) action: OverLimit,
    /// How long the session then stays down.
    pub(crate) idle_seconds: u32,
}

impl Default for MaxPrefixes {
    fn default() -> Self {
        Self {
            count: 0,
            action: OverLimit::Shutdown,
            idle_seconds: 60,
        }
    }
}

/// What happens beyond the maximum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum OverLimit {
    /// It is said once.
    Warn,
    /// The session ends (RFC 4486).
    #[default]
    Shutdown,
}

/// Bidirectional Forwarding Detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Bfd {
    /// Required minimum receive interval, milliseconds.
    #[schemars(range(min = 10))]
    pub(crate) min_rx_ms: u32,
    /// Desired minimum transmit interval, milliseconds.
    #[schemars(range(min = 10))]
    pub(crate) min_tx_ms: u32,
    /// Packets that may be missed.
    #[schemars(range(min = 1))]
    pub(crate) multiplier: u8,
    /// Over more than one hop (RFC 5883, UDP port 4784) or one (RFC 5881, 3784). Default: one, unless `ebgpMultihop` or
    /// `ttlSecurity` says more, or the peer is in our AS and its address in no subnet of an interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) multihop: Option<bool>,
}

impl Default for Bfd {
    fn default() -> Self {
        Self {
            min_rx_ms: 300,
            min_tx_ms: 300,
            multiplier: 3,
            multihop: None,
        }
    }
}

/// Rules inline, or the name of a BGPPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "has(self.policy) != has(self.rules) || (!has(self.policy) && has(self.defaultAction))",
        "give either rules or policy: NAME",
    ),
    (
        "!has(self.policy) || !has(self.defaultAction)",
        "defaultAction: the BGPPolicy has its own defaultAction",
    ),
])))]
pub(crate) struct PolicyOrRules {
    /// A BGPPolicy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    /// Rules; the first match wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub(crate) rules: Option<Vec<Rule>>,
    /// What happens to what no rule decided; default: Reject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) default_action: Option<DefaultAction>,
}

/// Why a configured peer is held down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Shutdown {
    /// What it is told (RFC 9003): at most 255 octets.
    #[schemars(length(max = 255))]
    pub(crate) message: String,
}

impl Rules for BGPPeerSpec {
    fn check(&self, _name: &str, verdicts: &mut Verdicts) {
        self.check_whom(verdicts);
        self.check_how(verdicts);
        for (field, given) in [("import", &self.import), ("export", &self.export)] {
            let Some(given) = given else { continue };
            verdicts.demand(
                given.policy.is_some() != given.rules.is_some()
                    || (given.policy.is_none() && given.default_action.is_some()),
                field,
                "give either rules or policy: NAME",
            );
            verdicts.demand(
                given.policy.is_none() || given.default_action.is_none(),
                &format!("{field}.defaultAction"),
                "the BGPPolicy has its own defaultAction",
            );
            check_rules(
                given.rules.as_deref().unwrap_or_default(),
                &format!("{field}."),
                verdicts,
            );
        }
    }
}

impl BGPPeerSpec {
    fn check_whom(&self, verdicts: &mut Verdicts) {
        let given: Vec<&str> = [
            ("peerAddress", self.peer_address.is_some()),
            ("peerSelector", self.peer_selector.is_some()),
            ("peerRange", self.peer_range.is_some()),
            ("autoDiscovery", self.auto_discovery.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect();
        verdicts.demand(
            given.len() == 1,
            given.get(1).copied().unwrap_or("peerAddress"),
            match given.as_slice() {
                [] => "it says nobody to peer with: give one of peerAddress, peerSelector, peerRange, autoDiscovery".into(),
                several => format!("{} exclude each other: give one of them", several.join(" and ")),
            },
        );
        verdicts.demand(
            self.node.is_none() || self.node_selector.is_empty(),
            "node",
            "node and nodeSelector exclude each other: give one of them",
        );
        self.node_selector.check("nodeSelector", verdicts);
        if let Some(selector) = &self.peer_selector {
            selector.check("peerSelector", verdicts);
        }
        if let Some(address) = self.peer_address {
            verdicts.demand(
                is_host(address),
                "peerAddress",
                format!("{address} is no address of a host"),
            );
            let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
            verdicts.demand(
                !link_local || self.source_interface.is_some(),
                "peerAddress",
                format!("{address} is link-local: say on which link by sourceInterface"),
            );
        }
        if let Some(discovery) = &self.auto_discovery {
            verdicts.demand(
                (discovery.mode == DiscoveryMode::Unnumbered) == discovery.interface.is_some(),
                "autoDiscovery.interface",
                match discovery.mode {
                    DiscoveryMode::Unnumbered => "Unnumbered needs an interface",
                    DiscoveryMode::DefaultGateway => "DefaultGateway takes no interface",
                },
            );
        }
    }

    fn check_how(&self, verdicts: &mut Verdicts) {
        verdicts.demand(self.peer_port != 0, "peerPort", "0 is no port");
        verdicts.demand(
            self.ebgp_multihop >= 1,
            "ebgpMultihop",
            "0 hops lead nowhere: 1 to 255",
        );
        if let Some(hops) = self.ttl_security {
            verdicts.demand(
                (1..=254).contains(&hops),
                "ttlSecurity",
                format!("{hops} is out of range: 1 to 254 hops"),
            );
            verdicts.demand(
                self.ebgp_multihop == 1,
                "ttlSecurity",
                "ttlSecurity and ebgpMultihop exclude each other: ttlSecurity alone says how many hops away the peer is",
            );
        }
        verdicts.demand(
            !self.families.is_empty(),
            "families",
            "it is empty: give IPv4, IPv6 or both",
        );
        verdicts.demand(
            self.source_address.is_none() || self.source_interface.is_none(),
            "sourceInterface",
            "sourceAddress and sourceInterface exclude each other: give one of them",
        );
        if let (Some(source), Some(peer)) = (self.source_address, self.peer_address) {
            verdicts.demand(
                source.is_ipv4() == peer.is_ipv4(),
                "sourceAddress",
                format!("{source} cannot speak to {peer}: they are of different families"),
            );
        }
        verdicts.demand(
            !self.route_reflector_client || self.peer_asn != PeerAsn::External,
            "routeReflectorClient",
            "an external peer cannot be a client (RFC 4456)",
        );
        verdicts.demand(
            self.peer_range.is_none() || self.peer_port == 179,
            "peerPort",
            "we never dial into a peerRange: drop it",
        );
        if let Some(shutdown) = &self.shutdown {
            verdicts.demand(
                shutdown.message.len() <= 255,
                "shutdown.message",
                format!(
                    "{} octets are too many: at most 255 (RFC 9003)",
                    shutdown.message.len()
                ),
            );
        }
        // Checked again once it is merged with what BGPConfiguration says.
        let lenient = Timers {
            connect_retry_seconds: 1,
            hold_seconds: u16::MAX,
            keepalive_seconds: u16::MAX / 3,
            idle_hold_max_seconds: u16::MAX,
        };
        self.timers.over(&lenient).check(verdicts);
        self.graceful_restart
            .over(&GracefulRestart::default())
            .check(verdicts);
        if let Some(secret) = &self.auth_secret_ref {
            secret.check("authSecretRef", verdicts);
        }
        if let Some(tcp_ao) = &self.tcp_ao {
            tcp_ao.check(verdicts);
        }
        verdicts.demand(
            self.auth_secret_ref.is_none() || self.tcp_ao.is_none(),
            "tcpAO",
            "authSecretRef (TCP MD5) and tcpAO exclude each other: give one of them",
        );
        if let Some(bfd) = self.bfd {
            verdicts.demand(
                bfd.min_rx_ms >= 10 && bfd.min_tx_ms >= 10 && bfd.multiplier >= 1,
                "bfd",
                "intervals are at least 10 ms, the multiplier at least 1",
            );
        }
    }
}
