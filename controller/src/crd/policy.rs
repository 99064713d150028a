//! `BGPPolicy`: ordered rules, the first match wins.

use std::net::IpAddr;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Rules, Verdicts,
    configuration::PrefixRange,
    schema::{HostText, IpText, cel},
    value::{AsPathText, CommunityText, is_host},
};

/// Rules and what happens to what none of them decided.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "routelet.dev",
    version = "v1alpha1",
    kind = "BGPPolicy",
    plural = "bgppolicies",
    shortname = "bgppol",
    category = "routelet",
    doc = "Ordered rules for routes, the first match wins; a BGPPeer names it as its import or export.",
    printcolumn(
        name = "Otherwise",
        type_ = "string",
        json_path = ".spec.defaultAction"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct BGPPolicySpec {
    /// The rules in order.
    #[schemars(length(max = 128))]
    pub(crate) rules: Vec<Rule>,
    /// What happens to what no rule decided.
    pub(crate) default_action: DefaultAction,
}

impl Default for BGPPolicySpec {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            default_action: DefaultAction::Reject,
        }
    }
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "self.action != 'Reject' || !(has(self.set.localPreference) || has(self.set.med) || has(self.set.nextHop) || has(self.set.addCommunities) || has(self.set.removeCommunities) || self.set.prepend.count > 0)",
    "set: a rule that rejects changes nothing: drop set, or take action Accept or Continue",
)])))]
pub(crate) struct Rule {
    /// All given must hold; empty matches all.
    #[serde(rename = "match")]
    pub(crate) matches: Match,
    /// What it changes.
    pub(crate) set: Set,
    /// What happens then.
    pub(crate) action: Action,
}

/// The conditions of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!has(self.family) || !has(self.prefixes) || self.prefixes.all(p, !isCIDR(p.cidr) || cidr(p.cidr).ip().family() == (self.family == 'IPv4' ? 4 : 6))",
    "family: a prefix is not of this family: the rule would never match",
)])))]
pub(crate) struct Match {
    /// The prefix lies in one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub(crate) prefixes: Vec<PrefixRange>,
    /// The family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) family: Option<FamilyName>,
    /// It carries any of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub(crate) communities: Vec<CommunityText>,
    /// Its AS path as text, numbers with one space between, is matched by this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_path: Option<AsPathText>,
    /// Its next hop is any of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<IpText>", length(max = 64))]
    pub(crate) next_hops: Vec<IpAddr>,
    /// Where it comes from (export).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Origin>,
}

/// An address family.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub(crate) enum FamilyName {
    /// IPv4 unicast.
    IPv4,
    /// IPv6 unicast.
    IPv6,
}

impl From<FamilyName> for bgp::prefix::Family {
    fn from(name: FamilyName) -> Self {
        match name {
            FamilyName::IPv4 => Self::IPv4,
            FamilyName::IPv6 => Self::IPv6,
        }
    }
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Origin {
    /// A pod CIDR of this node.
    PodCIDR,
    /// A service address.
    Service,
    /// A static prefix of a BGPAdvertisement.
    Static,
    /// A peer told us.
    Learned,
}

/// What a rule changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Set {
    /// LOCAL_PREF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) local_preference: Option<u32>,
    /// MULTI_EXIT_DISC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) med: Option<u32>,
    /// Communities to add.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub(crate) add_communities: Vec<CommunityText>,
    /// Communities to remove.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub(crate) remove_communities: Vec<CommunityText>,
    /// An AS number to put before the path.
    pub(crate) prepend: Prepend,
    /// Next hop; an IPv6 prefix keeps its own where this is IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<HostText>")]
    pub(crate) next_hop: Option<IpAddr>,
}

/// An AS number to put before the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!has(self.asNumber) || self.count > 0",
    "count is 0: say how often asNumber is prepended",
)])))]
pub(crate) struct Prepend {
    // Ours would be a loop to the internal peers that are told next.
    /// Which; default: our own, on import the peer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_number: Option<super::value::Asn>,
    /// How often.
    pub(crate) count: u8,
}

/// What happens to a route that a rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Action {
    /// It goes on.
    #[default]
    Accept,
    /// It does not.
    Reject,
    /// The changes are kept and the next rule is asked.
    Continue,
}

/// What happens to a route that no rule decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum DefaultAction {
    /// It goes on.
    Accept,
    /// It does not.
    #[default]
    Reject,
}

impl Rules for BGPPolicySpec {
    fn check(&self, _name: &str, verdicts: &mut Verdicts) {
        check_rules(&self.rules, "", verdicts);
    }
}

/// The rules of a list that stands under `field` (with a trailing dot, or nothing).
pub(crate) fn check_rules(rules: &[Rule], field: &str, verdicts: &mut Verdicts) {
    for (i, rule) in rules.iter().enumerate() {
        for (j, range) in rule.matches.prefixes.iter().enumerate() {
            range.check(&format!("{field}rules[{i}].match.prefixes[{j}]"), verdicts);
            verdicts.demand(
                rule.matches
                    .family
                    .is_none_or(|family| range.cidr.0.family() == family.into()),
                &format!("{field}rules[{i}].match.family"),
                format!(
                    "no {} prefix is of this family: the rule would never match",
                    range.cidr
                ),
            );
        }
        verdicts.demand(
            rule.action != Action::Reject || rule.set == Set::default(),
            &format!("{field}rules[{i}].set"),
            "a rule that rejects changes nothing: drop set, or take action Accept or Continue",
        );
        verdicts.demand(
            rule.set.prepend.as_number.is_none() || rule.set.prepend.count > 0,
            &format!("{field}rules[{i}].set.prepend.count"),
            "it is 0: say how often asNumber is prepended",
        );
        verdicts.demand(
            rule.set.next_hop.is_none_or(is_host),
            &format!("{field}rules[{i}].set.nextHop"),
            "it is no address of a host",
        );
    }
}
