//! What rules make of a route: match, set, verdict.

use std::{borrow::Cow, net::IpAddr};

use crate::{
    config::{CommunityValue, Match, Policy, Rule, Set, Source, Verdict},
    prefix::{Family, Prefix},
    wire::Attributes,
};

/// What rules look at beside the attributes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub(super) prefix: Prefix,
    pub(super) source: Source,
    pub(super) own_as: OwnAs,
}

/// What prepending our own AS does.
#[derive(Clone, Copy, Debug)]
pub(super) enum OwnAs {
    /// It is done.
    Prepend(u32),
    /// On the way in, where no AS is named, it is that of the peer: ours would be a loop to the internal peers that are told
    /// next, and would hide from MED which AS the route came through.
    OfPeer(u32),
    /// It is left out: towards internal peers it would be a loop.
    Omit(u32),
}

/// What a policy said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    pub(super) verdict: Verdict,
    /// The rule that decided, from 0; `None`: the policy's default.
    pub(super) rule: Option<usize>,
    /// Some rule set MED.
    pub(super) med_set: bool,
    /// Some rule set the next hop.
    pub(super) next_hop_set: bool,
}

/// Whether two prefixes of one family with equal attributes may fare differently.
pub(super) fn depends_on_prefix(policy: &Policy) -> bool {
    policy
        .rules
        .iter()
        .any(|rule| !rule.matches.prefixes.is_empty())
}

/// Asks the rules in order, and changes the attributes as those that match say.
pub(super) fn rule(
    policy: &Policy,
    subject: Subject,
    attributes: &mut Cow<'_, Attributes>,
) -> Ruling {
    let mut ruling = Ruling {
        verdict: policy.default,
        rule: None,
        med_set: false,
        next_hop_set: false,
    };
    for (place, rule) in policy.rules.iter().enumerate() {
        if !matches(&rule.matches, subject, attributes) {
            continue;
        }
        if rule.verdict != Some(Verdict::Reject) && !changes_nothing(rule) {
            let attributes = attributes.to_mut();
            set(&rule.set, subject.own_as, attributes);
            ruling.med_set |= rule.set.med.is_some();
            if let Some(address) = next_hop_of(&rule.set, subject.prefix.family()) {
                attributes.next_hop = Some(address.into());
                ruling.next_hop_set = true;
            }
        }
        if let Some(verdict) = rule.verdict {
            return Ruling {
                verdict,
                rule: Some(place),
                ..ruling
            };
        }
    }
    ruling
}

fn changes_nothing(rule: &Rule) -> bool {
    rule.set == Set::default()
}

fn matches(wanted: &Match, subject: Subject, attributes: &Attributes) -> bool {
    wanted
        .family
        .is_none_or(|family| family == subject.prefix.family())
        && wanted.source.is_none_or(|source| source == subject.source)
        && any_or_none_asked(&wanted.prefixes, |range| {
            (range.min_length..=range.max_length).contains(&subject.prefix.length())
                && range.prefix.contains(&subject.prefix)
        })
        && any_or_none_asked(&wanted.communities, |community| {
            carries(attributes, *community)
        })
        && any_or_none_asked(&wanted.next_hops, |address| {
            attributes
                .next_hop
                .is_some_and(|next_hop| next_hop.host() == address.to_canonical())
        })
        && wanted
            .as_path
            .as_ref()
            .is_none_or(|regex| regex.0.is_match(&attributes.as_path.to_string()))
}

fn any_or_none_asked<T>(asked: &[T], holds: impl FnMut(&T) -> bool) -> bool {
    asked.is_empty() || asked.iter().any(holds)
}

fn carries(attributes: &Attributes, community: CommunityValue) -> bool {
    match community {
        CommunityValue::Standard(community) => attributes.communities.contains(&community),
        CommunityValue::Large(community) => attributes.large_communities.contains(&community),
    }
}

/// The next hop a rule sets. An IPv6 prefix keeps its own where the rule names an IPv4 address, which it can't have.
fn next_hop_of(set: &Set, family: Family) -> Option<IpAddr> {
    set.next_hop
        .filter(|address| family == Family::IPv4 || address.is_ipv6())
}

/// Changes attributes as a rule or an advertisement says, all but the next hop.
pub(super) fn set(set: &Set, own_as: OwnAs, attributes: &mut Attributes) {
    if set.local_pref.is_some() {
        attributes.local_pref = set.local_pref;
    }
    if set.med.is_some() {
        attributes.med = set.med;
    }
    for community in &set.remove_communities {
        match community {
            CommunityValue::Standard(community) => without(&mut attributes.communities, community),
            CommunityValue::Large(community) => {
                without(&mut attributes.large_communities, community);
            }
        }
    }
    for community in &set.add_communities {
        match community {
            CommunityValue::Standard(community) => with(&mut attributes.communities, *community),
            CommunityValue::Large(community) => {
                with(&mut attributes.large_communities, *community);
            }
        }
    }
    let (asn, times) = set.prepend;
    let asn = match own_as {
        OwnAs::Prepend(default) | OwnAs::OfPeer(default) => Some(asn.unwrap_or(default)),
        OwnAs::Omit(own) => asn.filter(|asn| *asn != own),
    };
    if let Some(asn) = asn.filter(|_| times > 0) {
        attributes.as_path = attributes.as_path.prepend(asn, usize::from(times));
    }
}

/// Adds a value where it is not there yet, after the others.
pub(super) fn with<T: PartialEq + Copy>(list: &mut Box<[T]>, value: T) {
    if !list.contains(&value) {
        *list = list.iter().copied().chain([value]).collect();
    }
}

fn without<T: PartialEq + Copy>(list: &mut Box<[T]>, value: &T) {
    if list.contains(value) {
        *list = list
            .iter()
            .copied()
            .filter(|other| other != value)
            .collect();
    }
}

#[cfg(test)]
mod tests;
