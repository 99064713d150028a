//! The installer: desired against kernel. No series where nothing is installed.

use std::fmt;

use fib::{Counts, Refusal, Status};

use super::{BARE, Page, flag};

/// A state of a route and how many are in it.
type State = (&'static str, fn(&Counts) -> u64);

/// States of a route; those that are wanted add up to `routelet_fib_desired_routes`.
const STATES: [State; 6] = [
    ("installed", |counts| counts.installed),
    ("pending", |counts| counts.pending),
    ("refused", |counts| counts.refused),
    ("unresolved", |counts| counts.unresolved),
    ("failed", |counts| counts.failed),
    ("stale", |counts| counts.stale),
];

pub(super) fn write(kernel: Option<&Status>, page: &mut Page<'_>) -> fmt::Result {
    let families = || {
        kernel
            .into_iter()
            .flat_map(|kernel| [("IPv4", &kernel.ipv4), ("IPv6", &kernel.ipv6)])
    };
    page.gauge(
        "routelet_fib_desired_routes",
        "Prefixes that should be in the kernel, by family.",
        families().map(|(family, counts)| ([("family", family)], counts.desired)),
    )?;
    page.gauge(
        "routelet_fib_routes",
        "Prefixes by family and where they stand: installed, pending, refused (by our own guard), unresolved (no next hop leads anywhere), failed (the kernel said no), or stale (in the kernel from an earlier run, not wanted yet).",
        families().flat_map(|(family, counts)| {
            STATES.map(|(state, count)| ([("family", family), ("state", state)], count(counts)))
        }),
    )?;
    page.gauge(
        "routelet_fib_refused_routes",
        "Prefixes refused right now, by kind of refusal.",
        kernel.into_iter().flat_map(|kernel| {
            Refusal::KINDS.map(|kind| {
                let count = kernel.refusals.get(kind).copied().unwrap_or_default();
                ([("kind", kind)], count)
            })
        }),
    )?;
    page.gauge(
        "routelet_fib_blackholes",
        "Blackhole routes of own pod CIDRs in the kernel.",
        kernel.map(|kernel| (BARE, kernel.blackholes)),
    )?;
    page.gauge(
        "routelet_fib_nexthop_objects",
        "Next-hop objects of ours in the kernel, groups and their members.",
        kernel.map(|kernel| (BARE, kernel.objects)),
    )?;
    page.gauge(
        "routelet_fib_in_sync",
        "1 if everything asked for is in the kernel, refused, or known to fail.",
        kernel.map(|kernel| (BARE, flag(kernel.in_sync))),
    )?;
    totals(kernel, page)
}

fn totals(kernel: Option<&Status>, page: &mut Page<'_>) -> fmt::Result {
    page.counter(
        "routelet_fib_operations",
        "Routes written to the kernel since the start, by operation: added, replaced, removed, or adopted (found as they should be, not written).",
        kernel.into_iter().flat_map(|kernel| {
            let totals = &kernel.totals;
            [
                ("added", totals.added),
                ("replaced", totals.replaced),
                ("removed", totals.removed),
                ("adopted", totals.adopted),
            ]
            .map(|(operation, count)| ([("operation", operation)], count))
        }),
    )?;
    let total = |count: fn(&fib::Totals) -> u64| kernel.map(|kernel| (BARE, count(&kernel.totals)));
    page.counter(
        "routelet_fib_nexthop_objects_written",
        "Next-hop objects written to the kernel since the start.",
        total(|totals| totals.objects),
    )?;
    page.counter(
        "routelet_fib_failures",
        "Requests that the kernel refused since the start.",
        total(|totals| totals.failures),
    )?;
    page.counter(
        "routelet_fib_drifted",
        "Routes of ours that someone else removed or changed since the start.",
        total(|totals| totals.drifted),
    )?;
    page.counter(
        "routelet_fib_healed",
        "Routes of ours that were put right again after that, since the start.",
        total(|totals| totals.healed),
    )?;
    page.counter(
        "routelet_fib_overruns",
        "Times the kernel had more events than could be taken, since the start.",
        total(|totals| totals.overruns),
    )?;
    page.counter(
        "routelet_fib_resyncs",
        "Times the whole kernel table was read again since the start.",
        total(|totals| totals.resyncs),
    )
}
