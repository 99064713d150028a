//! Policies: as users write them to what the speaker takes, and the defaults.

use std::sync::Arc;

use bgp::{
    config::{Match, Policy, PrefixRange, Rule, Set, Source, Verdict},
    prefix::{Family, Prefix},
};

use super::View;
use crate::{
    crd::{
        self,
        peer::PolicyOrRules,
        policy::{Action, DefaultAction, Origin},
    },
    problem::Problem,
};

/// The default import: the pod network and nothing else.
pub(super) fn pod_network(view: &View<'_>) -> Policy {
    let mut rules = vec![accept(view.pod_network().iter().map(within))];
    rules.push(accept(
        view.config.kernel.allowed_prefixes.iter().map(range),
    ));
    if view.config.kernel.accept_default_route {
        rules.push(accept(Family::ALL.into_iter().filter_map(default_route)));
    }
    rules.retain(|rule| !rule.matches.prefixes.is_empty());
    Policy {
        name: "default import: the pod network and nothing else".into(),
        rules,
        default: Verdict::Reject,
    }
}

/// The import from a node of the mesh: its own pods and what is allowed beyond the pod network. A node cannot take
/// another's pods.
pub(super) fn pods_of(view: &View<'_>, node: &str) -> Policy {
    let allowed = &view.config.kernel.allowed_prefixes;
    let mut rules = vec![accept(view.pod_cidrs(node).iter().map(within))];
    if !allowed.is_empty() {
        // Only what an allowed range would let in again has to be kept out by name.
        let others = view
            .pod_network()
            .into_iter()
            .filter(|pods| allowed.iter().any(|range| range.cidr.0.overlaps(pods)));
        rules.push(Rule {
            verdict: Some(Verdict::Reject),
            ..accept(others.map(|pods| within(&pods)))
        });
    }
    rules.push(accept(allowed.iter().map(range)));
    rules.retain(|rule| !rule.matches.prefixes.is_empty());
    Policy {
        name: format!("default import: the pod CIDRs of node {node} and nothing else"),
        rules,
        default: Verdict::Reject,
    }
}

fn accept(prefixes: impl Iterator<Item = PrefixRange>) -> Rule {
    Rule {
        matches: Match {
            prefixes: prefixes.collect(),
            ..Match::default()
        },
        set: Set::default(),
        verdict: Some(Verdict::Accept),
    }
}

fn within(prefix: &Prefix) -> PrefixRange {
    PrefixRange {
        prefix: *prefix,
        min_length: prefix.length(),
        max_length: prefix.family().bits(),
    }
}

fn range(range: &crd::configuration::PrefixRange) -> PrefixRange {
    let (min_length, max_length) = range.lengths();
    PrefixRange {
        prefix: range.cidr.0,
        min_length,
        max_length,
    }
}

fn default_route(family: Family) -> Option<PrefixRange> {
    let any = match family {
        Family::IPv4 => Prefix::v4(std::net::Ipv4Addr::UNSPECIFIED, 0),
        Family::IPv6 => Prefix::v6(std::net::Ipv6Addr::UNSPECIFIED, 0),
    }?;
    Some(PrefixRange {
        prefix: any,
        min_length: 0,
        max_length: 0,
    })
}

/// The policy a peer names or carries. One that is not there lets nothing through: an open door is no default.
pub(super) fn given(
    view: &View<'_>,
    about: &str,
    field: &str,
    given: &PolicyOrRules,
    problems: &mut Vec<Problem>,
) -> Arc<Policy> {
    let Some(name) = &given.policy else {
        let rules = given.rules.as_deref().unwrap_or_default();
        return Arc::new(translate(
            format!("{field} of {about}"),
            rules,
            given.default_action.unwrap_or_default(),
        ));
    };
    match view.cluster.policies.get(name) {
        Some(spec) => Arc::new(translate(
            format!("BGPPolicy {name}"),
            &spec.rules,
            spec.default_action,
        )),
        None => {
            problems.push(Problem::error(
                about,
                format!("{field}: there is no BGPPolicy {name}; nothing passes until there is"),
            ));
            Arc::new(Policy::always(
                &format!("BGPPolicy {name}, which does not exist"),
                Verdict::Reject,
            ))
        }
    }
}

fn translate(name: String, rules: &[crd::policy::Rule], default: DefaultAction) -> Policy {
    Policy {
        name,
        rules: rules.iter().map(rule).collect(),
        default: match default {
            DefaultAction::Accept => Verdict::Accept,
            DefaultAction::Reject => Verdict::Reject,
        },
    }
}

fn rule(rule: &crd::policy::Rule) -> Rule {
    let matches = &rule.matches;
    let set = &rule.set;
    Rule {
        matches: Match {
            prefixes: matches.prefixes.iter().map(range).collect(),
            family: matches.family.map(Family::from),
            communities: matches
                .communities
                .iter()
                .map(|community| community.0)
                .collect(),
            as_path: matches.as_path.as_ref().map(|text| text.0.clone()),
            next_hops: matches.next_hops.clone(),
            source: matches.origin.map(|origin| match origin {
                Origin::PodCIDR => Source::PodCIDR,
                Origin::Service => Source::Service,
                Origin::Static => Source::Static,
                Origin::Learned => Source::Learned,
            }),
        },
        set: Set {
            local_pref: set.local_preference,
            med: set.med,
            add_communities: set
                .add_communities
                .iter()
                .map(|community| community.0)
                .collect(),
            remove_communities: set
                .remove_communities
                .iter()
                .map(|community| community.0)
                .collect(),
            prepend: (set.prepend.as_number.map(|asn| asn.0), set.prepend.count),
            next_hop: set.next_hop,
        },
        verdict: match rule.action {
            Action::Accept => Some(Verdict::Accept),
            Action::Reject => Some(Verdict::Reject),
            Action::Continue => None,
        },
    }
}
