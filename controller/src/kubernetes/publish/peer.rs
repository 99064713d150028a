//! `BGPPeer.status`: how a peering rule fares over all nodes.
//!
//! Many daemons could write it, and one does: the first of the nodes that the rule is for, in an order that all agree on
//! ([`crate::order`]). It counts what the daemons report in their `BGPNode`s, which it is told anyway. Where what stands there
//! differs from what should for half a minute, the second node writes it, then the third: no lease, no election, and as both
//! would write the same, no harm if two do.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    condition::{self, Aspect},
    sight::{Sight, count, some},
};
use crate::{
    crd::status::{BGPPeerStatus, RuleCounts},
    desired::Rule,
    kubernetes::reports::{Reports, Written},
};

const ACCEPTED: &str = "Accepted";

/// What the status of the rule `name` should be. A condition that was so in what is `written` has been so since then.
pub(super) fn status(
    sight: &Sight,
    reports: &Reports,
    name: &str,
    rule: &Rule,
    written: &Written,
    now: Timestamp,
) -> BGPPeerStatus {
    let of = |counts: &[RuleCounts]| counts.iter().find(|counts| counts.name == name).cloned();
    let reported: BTreeMap<&str, RuleCounts> = reports
        .nodes
        .iter()
        // A BGPNode may outlive its Node for a moment.
        .filter(|(node, _)| sight.nodes.contains_key(*node))
        .filter_map(|(node, counts)| Some((node.as_str(), of(counts)?)))
        .collect();
    let sum = |of: fn(&RuleCounts) -> u32| {
        let each = reported.values().map(of);
        each.fold(0_u32, u32::saturating_add)
    };
    let (established, total) = (sum(|counts| counts.established), sum(|counts| counts.total));
    let down = reported
        .iter()
        .filter(|(_, counts)| counts.established < counts.total)
        .map(|(node, _)| *node);
    let aspects = [
        accepted(sight, name, rule),
        sessions(rule, established, total, &some(down)),
    ];
    BGPPeerStatus {
        nodes: count(rule.nodes),
        established,
        total,
        conditions: condition::since(&written.status.conditions, aspects, written.generation, now),
    }
}

/// Whether there is anything in it that is worth a write.
pub(super) fn is_news(written: &BGPPeerStatus, now: &BGPPeerStatus) -> bool {
    let essence = |status: &BGPPeerStatus| {
        let conditions: Vec<_> = status
            .conditions
            .iter()
            .map(|condition| {
                (
                    condition.type_.clone(),
                    condition.status.clone(),
                    condition.reason.clone(),
                    condition.observed_generation,
                    // What somebody is putting right; the counts of the other one are compared by themselves.
                    (condition.type_ == ACCEPTED).then(|| condition.message.clone()),
                )
            })
            .collect();
        (status.nodes, status.established, status.total, conditions)
    };
    essence(written) != essence(now)
}

fn accepted(sight: &Sight, name: &str, rule: &Rule) -> Aspect {
    let about = format!("BGPPeer {name}");
    let mut errors = sight
        .configured
        .iter()
        .filter(|problem| problem.is_error() && problem.about == about);
    if let Some(error) = errors.next() {
        return Aspect::fails(ACCEPTED, error.reason.word(), &error.text);
    }
    if rule.nodes == 0 {
        return Aspect::fails(
            ACCEPTED,
            "NoNodes",
            "it is for no node: compare its nodeSelector (or node) with the Nodes",
        );
    }
    Aspect::holds(ACCEPTED, "Accepted", "it is in force")
}

fn sessions(rule: &Rule, established: u32, total: u32, down: &str) -> Aspect {
    const ESTABLISHED: &str = "Established";
    let counts = format!("{established} of {total} sessions are up");
    match (rule.nodes, established, total) {
        (0, ..) => Aspect::unknown(ESTABLISHED, "NoNodes", "it is for no node"),
        (_, _, 0) => Aspect::fails(ESTABLISHED, "NoSessions", "no node has a session of it"),
        (_, up, all) if up == all => Aspect::holds(ESTABLISHED, "AllEstablished", counts),
        (_, 0, _) => Aspect::fails(
            ESTABLISHED,
            "NoneEstablished",
            format!("{counts}; kubectl describe bgpnode {down} says why"),
        ),
        _ => Aspect::fails(
            ESTABLISHED,
            "SomeDown",
            format!("{counts}, not all on {down}: their BGPNode says why"),
        ),
    }
}

#[cfg(test)]
mod tests;
