//! The expected-route audit: every other node's pod CIDR should have a route that leads to that node, and nothing else should
//! lead into the pod network. One pure function says what differs; `lasting` says what differs for good.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use bgp::{
    owners::Owners,
    prefix::Prefix,
    status::{PeerStatus, Reach, Refused},
};
use fib::RouteState;
use ipnetwork::IpNetwork;
use serde::Serialize;

use crate::{
    desired::Desired,
    problem::{Problem, Reason},
    report::is_up,
};

pub(crate) mod lasting;

/// So many findings are told one by one; the counts are of all.
const TOLD: usize = 20;

/// What is against what should be, in numbers and in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Audit {
    /// Pod CIDRs of other nodes.
    pub(crate) expected: usize,
    /// … without a route, or whose route is not in the kernel.
    pub(crate) missing: usize,
    /// … whose route leads to another node, or gives way to one that is not ours.
    pub(crate) wrong: usize,
    /// Routes inside the pod network to what no node owns.
    pub(crate) extra: usize,
    /// The first of them.
    pub(crate) findings: Vec<Finding>,
}

/// One route that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// What is wrong with it.
    pub(crate) is: Deviation,
    /// The prefix.
    pub(crate) prefix: Prefix,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    /// Why, and what to do.
    pub(crate) because: Cow<'static, str>,
    /// Something else that is reported anyway explains it: a session that is down.
    pub(crate) explained: bool,
}

/// How a route can differ from what is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Deviation {
    /// It leads elsewhere than to the owner.
    Wrong,
    /// There is none, or it is not in the kernel.
    Missing,
    /// There is one that nobody should need.
    Extra,
}

/// What is looked at.
pub(crate) struct Evidence<'a> {
    pub(crate) desired: &'a Desired,
    /// By name, of whom a missing route would have come; `None`: not asked, and what is missing stays unexplained.
    pub(crate) peers: Option<&'a BTreeMap<String, PeerStatus>>,
    /// How the pod network is reached, as the speaker knows it.
    pub(crate) reach: &'a [Reach],
    /// What the installer has not simply installed; `None`: nothing is installed on this node.
    pub(crate) kernel: Option<&'a [fib::RouteStatus]>,
}

/// The problems among what has lasted: what is still so, and is not a problem elsewhere.
pub(crate) fn lasting(astray: &[Finding], now: &Audit) -> Vec<Problem> {
    let lasted: BTreeSet<_> = astray.iter().map(Finding::key).collect();
    let mut problems: Vec<Problem> = now
        .findings
        .iter()
        .filter(|finding| !finding.explained && lasted.contains(&finding.key()))
        .map(Finding::problem)
        .take(TOLD)
        .collect();
    if problems.len() == TOLD {
        problems.push(Problem::warning("pod network", now.summary()));
    }
    problems
}

/// The ranges whose routes are looked at.
pub(crate) fn ranges(desired: &Desired) -> Vec<Prefix> {
    let theirs = desired.speaker.owners.each().map(|(prefix, _)| prefix);
    theirs
        .chain(desired.cluster_cidrs.iter().copied())
        .collect()
}

/// Nothing is expected of a node that has no peers to hear it from, nor before the initial routes are in, nor where no pod network is
/// known.
pub(crate) fn expects(desired: &Desired, complete: bool) -> bool {
    let alone = desired.speaker.peers.is_empty() && desired.speaker.ranges.is_empty();
    let unknown =
        desired.speaker.owners.each().next().is_none() && desired.cluster_cidrs.is_empty();
    complete && !alone && !unknown
}

/// What differs from what the cluster says should be.
pub(crate) fn audit(evidence: &Evidence<'_>) -> Audit {
    let owners = &evidence.desired.speaker.owners;
    let known = Known::of(evidence);
    let mut expected = 0;
    let mut findings: Vec<Finding> = Vec::new();
    for (prefix, owner) in owners.each() {
        expected += 1;
        let found = match known.reach.get(&prefix) {
            Some(reach) if !reach.next_hops.is_empty() => astray(owners, &owner.name, reach)
                .map(|because| (Deviation::Wrong, because, false))
                .or_else(|| known.not_in_kernel(&prefix)),
            reach => known.missing(&prefix, &owner.addresses, reach.copied()),
        };
        findings.extend(found.map(|(is, because, explained)| Finding {
            is,
            prefix,
            node: Some(owner.name.clone()),
            because,
            explained,
        }));
    }
    findings.extend(extra(evidence));
    findings.sort();
    let count = |is| findings.iter().filter(|finding| finding.is == is).count();
    Audit {
        expected,
        missing: count(Deviation::Missing),
        wrong: count(Deviation::Wrong),
        extra: count(Deviation::Extra),
        findings,
    }
}

/// Why a route does not lead to its owner, if it does not. One that leads to no node may be on the way there.
fn astray(owners: &Owners, owner: &str, reach: &Reach) -> Option<Cow<'static, str>> {
    let (hop, other) = reach.next_hops.iter().find_map(|hop| {
        let other = owners.at(*hop)?;
        (other.name != owner && !other.forwards).then_some((hop, other))
    })?;
    let because = format!(
        "its route, from {}, leads to node {} ({hop}): look at what that peer announces",
        reach.from.as_deref().unwrap_or("this node"),
        other.name
    );
    Some(because.into())
}

/// The evidence, for many questions.
struct Known<'a> {
    reach: BTreeMap<Prefix, &'a Reach>,
    /// Routes to more than one pod CIDR that may be used.
    wide: Vec<Prefix>,
    kernel: BTreeMap<IpNetwork, &'a RouteState>,
    sessions: BTreeMap<IpAddr, &'a PeerStatus>,
    any_session: bool,
}

impl<'a> Known<'a> {
    fn of(evidence: &Evidence<'a>) -> Self {
        let owners = &evidence.desired.speaker.owners;
        let wide = evidence
            .reach
            .iter()
            .filter(|reach| !reach.next_hops.is_empty() && owners.claimed(&reach.prefix).is_none());
        let kernel = evidence.kernel.unwrap_or_default().iter();
        let peers = || evidence.peers.into_iter().flat_map(BTreeMap::values);
        Self {
            reach: evidence
                .reach
                .iter()
                .map(|reach| (reach.prefix, reach))
                .collect(),
            wide: wide.map(|reach| reach.prefix).collect(),
            kernel: kernel.map(|route| (route.prefix, &route.state)).collect(),
            sessions: peers().map(|peer| (peer.address, peer)).collect(),
            any_session: peers().any(is_up),
        }
    }

    /// What keeps a route that the speaker has out of the kernel.
    fn not_in_kernel(&self, prefix: &Prefix) -> Option<(Deviation, Cow<'static, str>, bool)> {
        let (is, because) = match self.kernel.get(&prefix.network())? {
            RouteState::Refused {
                kind: "foreign-route",
                reason,
            } => (Deviation::Wrong, reason),
            RouteState::Refused { reason, .. }
            | RouteState::Unresolved { reason }
            | RouteState::Failed { reason, .. } => (Deviation::Missing, reason),
            RouteState::Installed
            | RouteState::Pending
            | RouteState::Stale
            | RouteState::Removing => return None,
        };
        Some((
            is,
            format!("its route is not in the kernel: {because}").into(),
            false,
        ))
    }

    /// Why there is no route; `None` where a wider one serves, as that of a router of the fabric for the whole pod network.
    fn missing(
        &self,
        prefix: &Prefix,
        addresses: &[IpAddr],
        reach: Option<&Reach>,
    ) -> Option<(Deviation, Cow<'static, str>, bool)> {
        if self.wide.iter().any(|wide| wide.contains(prefix)) {
            return None;
        }
        if let Some(Refused { from, why }) = reach.and_then(|reach| reach.refused.as_ref()) {
            let because = format!("{from} announces it, but it is refused: {why}");
            return Some((Deviation::Missing, because.into(), false));
        }
        let session = addresses
            .iter()
            .find_map(|address| self.sessions.get(address));
        let (because, explained) = match session {
            Some(peer) if !is_up(peer) => (
                format!("there is no session with the node ({:?}): routelet peers {} says why", peer.state, peer.name).into(),
                true,
            ),
            _ if !self.any_session => ("no session at all is up: routelet peers says why".into(), true),
            Some(peer) => (
                format!("{} does not announce it: look at routelet status on that node", peer.name).into(),
                false,
            ),
            None => (
                "no peer announces it: look at routelet status on that node, and at what the routers between pass on".into(),
                false,
            ),
        };
        Some((Deviation::Missing, because, explained))
    }
}

/// Routes into the pod network that lead to nobody.
fn extra(evidence: &Evidence<'_>) -> impl Iterator<Item = Finding> {
    let desired = evidence.desired;
    let inside = |prefix: &Prefix| {
        let mut ranges = desired.cluster_cidrs.iter();
        // The whole of a range is an aggregate, which is a router's to announce.
        ranges.any(|range| range != prefix && range.contains(prefix))
    };
    let is_known = |prefix: &Prefix| {
        let mut all = desired.owners.keys();
        desired.owner(prefix).is_some() || all.any(|cidr| prefix.contains(cidr))
    };
    evidence.reach
            .iter()
            .filter(move |reach| {
                !reach.next_hops.is_empty() && inside(&reach.prefix) && !is_known(&reach.prefix)
            })
            .map(|reach| Finding {
                is: Deviation::Extra,
                prefix: reach.prefix,
                node: None,
                because: format!(
                    "{} announces it, and no node has it as pod CIDR: look at what that peer announces, or keep it out with an import",
                    reach.from.as_deref().unwrap_or("this node")
                )
                .into(),
                explained: false,
            })
}

impl Audit {
    /// The same with those findings only that nothing else explains: the others may be as many as there are nodes.
    fn unexplained(&self) -> Self {
        let findings = self.findings.iter().filter(|finding| !finding.explained);
        Self {
            findings: findings.cloned().collect(),
            ..*self
        }
    }

    /// The same with so many findings as one reads.
    pub(crate) fn abridged(mut self) -> Self {
        self.findings.truncate(TOLD);
        self
    }

    /// In one line.
    pub(crate) fn summary(&self) -> String {
        let right = self
            .expected
            .saturating_sub(self.missing)
            .saturating_sub(self.wrong);
        let mut text = format!(
            "{right} of {} pod CIDRs of other nodes routed",
            self.expected
        );
        for (count, what) in [
            (self.missing, "missing"),
            (self.wrong, "wrong"),
            (self.extra, "that no node owns"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text
    }
}

impl Deviation {
    /// The word for it in conditions and events.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Wrong => Reason::RouteWrong,
            Self::Missing => Reason::RouteMissing,
            Self::Extra => Reason::RouteUnexpected,
        }
    }
}

impl Finding {
    /// What tells it from others.
    fn key(&self) -> (Deviation, Prefix) {
        (self.is, self.prefix)
    }

    /// What it concerns.
    fn about(&self) -> String {
        match &self.node {
            Some(node) => format!("Node {node}"),
            None => "pod network".to_owned(),
        }
    }

    /// As a problem of this node. It does not make it unhealthy: other nodes come and go.
    pub(crate) fn problem(&self) -> Problem {
        Problem::warning(self.about(), self.to_string()).because(self.is.reason())
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            prefix, because, ..
        } = self;
        match self.is {
            Deviation::Missing => write!(f, "no route to its pod CIDR {prefix}: {because}"),
            Deviation::Wrong => write!(f, "its pod CIDR {prefix} is not routed to it: {because}"),
            Deviation::Extra => write!(f, "a route to {prefix} is nobody's: {because}"),
        }
    }
}

#[cfg(test)]
mod tests;
