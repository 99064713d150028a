//! The speaker's routes, all sessions together.

use std::fmt;

use bgp::{
    prefix::Family,
    status::{FamilyCounts, PeerStatus},
};

use super::{BARE, Page, Scrape, peers};

/// A count of a family's routes, its name and what it is.
type Count = (&'static str, &'static str, fn(&FamilyCounts) -> usize);

/// What is counted for each family, of all sessions and of a named peer.
pub(super) const COUNTS: [Count; 4] = [
    ("received", "Routes in Adj-RIB-In", |counts| counts.received),
    (
        "accepted",
        "Routes in Adj-RIB-In that import accepted and that are eligible",
        |counts| counts.accepted,
    ),
    (
        "stale",
        "Routes kept from before a peer's restart",
        |counts| counts.stale,
    ),
    ("advertised", "Routes in Adj-RIB-Out", |counts| {
        counts.advertised
    }),
];

pub(super) fn write(scrape: &Scrape, page: &mut Page<'_>) -> fmt::Result {
    let status = &scrape.status;
    page.gauge(
        "routelet_prefixes",
        "Prefixes with at least one usable route, own ones included, by family.",
        Family::ALL.map(|family| {
            let word = family.to_string();
            let count = status.prefixes.get(&word).copied().unwrap_or_default();
            ([("family", word)], count)
        }),
    )?;
    page.gauge(
        "routelet_attribute_sets",
        "Distinct sets of path attributes in memory.",
        [(BARE, status.attribute_sets)],
    )?;
    for (name, help, count) in COUNTS {
        page.gauge(
            &format!("routelet_routes_{name}"),
            &format!("{help}, all sessions together, by type of peer and family."),
            peers::TYPES.into_iter().flat_map(|kind| {
                Family::ALL.map(|family| {
                    let of_kind = scrape
                        .peers
                        .iter()
                        .filter(|peer| peers::type_of(peer) == kind);
                    let sum: usize = of_kind.map(|peer| of(peer, family, count)).sum();
                    (
                        [("type", kind.to_owned()), ("family", family.to_string())],
                        sum,
                    )
                })
            }),
        )?;
    }
    audit(scrape, page)
}

/// What is against what the cluster says should be.
fn audit(scrape: &Scrape, page: &mut Page<'_>) -> fmt::Result {
    let audit = &scrape.status.audit;
    page.gauge(
        "routelet_audit_expected_pod_cidrs",
        "Pod CIDRs of other nodes, to each of which there should be a route.",
        [(BARE, audit.expected)],
    )?;
    page.gauge(
        "routelet_audit_deviations",
        "Routes of the pod network that are not as they should be: missing (none, or not in the kernel), wrong (leads to another node), extra (no node owns it).",
        [
            ("missing", audit.missing),
            ("wrong", audit.wrong),
            ("extra", audit.extra),
        ]
        .map(|(word, count)| ([("is", word)], count)),
    )
}

/// A count of a peer's routes.
pub(super) fn of(peer: &PeerStatus, family: Family, count: fn(&FamilyCounts) -> usize) -> usize {
    peer.families.get(&family).map_or(0, count)
}
