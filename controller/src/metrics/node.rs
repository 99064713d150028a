//! The node and its daemon.

use std::fmt;

use super::{BARE, Page, Scrape, flag, seconds};
use crate::{desired::Duty, journal::Kind, problem::Severity};

pub(super) fn write(scrape: &Scrape, page: &mut Page<'_>) -> fmt::Result {
    let status = &scrape.status;
    page.gauge(
        "routelet_build_info",
        "Version of routelet, in a label; always 1.",
        [([("version", status.version)], 1_u64)],
    )?;
    page.gauge(
        "routelet_node_info",
        "Node name, AS number and BGP Identifier, in labels; always 1.",
        [(
            [
                ("node", status.node.clone()),
                ("asn", status.asn.to_string()),
                ("router_id", status.router_id.to_string()),
            ],
            1_u64,
        )],
    )?;
    page.gauge(
        "routelet_start_time_seconds",
        "When the process started, in seconds since 1970.",
        [(BARE, seconds(status.started))],
    )?;
    page.gauge(
        "routelet_resident_memory_bytes",
        "Resident memory of the process, in bytes.",
        [(BARE, status.memory_kib.saturating_mul(1024))],
    )?;
    page.gauge(
        "routelet_healthy",
        "1 if all is as it should be, as the exit code of routelet status says.",
        [(BARE, flag(status.healthy))],
    )?;
    page.gauge(
        "routelet_problems",
        "Problems that routelet status shows, by severity.",
        [(Severity::Error, "error"), (Severity::Warning, "warning")].map(|(severity, word)| {
            let of_it = |problem: &&crate::problem::Problem| problem.severity == severity;
            (
                [("severity", word)],
                status.problems.iter().filter(of_it).count(),
            )
        }),
    )?;
    page.counter(
        "routelet_events",
        "Events that routelet events tells of, by kind, since the start.",
        Kind::ALL.map(|kind| {
            let count = scrape.events.get(&kind).copied().unwrap_or_default();
            ([("kind", kind.word())], count)
        }),
    )?;
    configuration(scrape, page)?;
    page.gauge(
        "routelet_duty",
        "What drain and undrain said last: 1 for what the node is.",
        [
            (Duty::InService, "in_service"),
            (Duty::Draining, "draining"),
            (Duty::Drained, "drained"),
        ]
        .map(|(duty, word)| ([("duty", word)], flag(status.duty == duty))),
    )?;
    page.gauge(
        "routelet_cordoned",
        "1 if the Node object is cordoned.",
        [(BARE, flag(status.cordoned))],
    )?;
    page.gauge(
        "routelet_initial_routes_complete",
        "1 once all initial routes are in: End-of-RIB from every peer that is up, or the deferral passed.",
        [(BARE, flag(status.complete))],
    )?;
    page.gauge(
        "routelet_initial_sync_duration_seconds",
        "From the start until all initial routes were in and the kernel was in step with them, in seconds; absent until then.",
        status.settled.map(|settled| {
            let took = settled.duration_since(status.started).unwrap_or_default();
            (BARE, took.as_secs_f64())
        }),
    )
}

fn configuration(scrape: &Scrape, page: &mut Page<'_>) -> fmt::Result {
    let status = &scrape.status;
    let refused = status
        .problems
        .iter()
        .any(|problem| problem.about == "configuration" && problem.is_error());
    page.gauge(
        "routelet_configuration_last_reload_successful",
        "0 if the configuration as it is now cannot be read, and an earlier one is in force.",
        [(BARE, flag(!refused))],
    )?;
    page.gauge(
        "routelet_configuration_loaded_timestamp_seconds",
        "When the configuration in force was taken over, in seconds since 1970.",
        [(BARE, seconds(status.loaded))],
    )
}
