//! `routelet explain`: the whole way of a prefix or a pod's address.

use std::{fmt::Write, process::ExitCode};

use clap::Args;
use fib::Lookup;

use super::{Asking, routes};
use crate::{
    control::query::{Query, parse_prefix},
    report::ExplainReport,
};

/// The whole way of a prefix or a pod's address: owner, candidates, the deciding step, resolution, kernel
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 1 if packets for it do not go where they should.\n\n\
                        Examples:\n  \
                        routelet explain 10.244.2.0/24\n  \
                        routelet explain 10.244.2.17"
)]
pub(super) struct Options {
    /// A prefix (10.244.2.0/24) or an address (10.244.2.17)
    #[arg(value_name = "PREFIX|POD-IP")]
    query: String,
    #[command(flatten)]
    asking: Asking,
}

impl Options {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        parse_prefix(&self.query).map_err(|wrong| anyhow::anyhow!(wrong.0))?;
        let query = Query::default().with("query", self.query);
        self.asking.show("/v1/explain", &query)
    }
}

/// The answer first, then how it came about.
pub(crate) fn text(report: &ExplainReport) -> String {
    let mut text = format!("{}\n", report.verdict);
    // Writing to a String does not fail.
    if let Some(owner) = &report.owner {
        let addresses: Vec<String> = owner.addresses.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "\nOwner\n  node {} has pod CIDR {}; it is reached at {}",
            owner.node,
            owner.cidr,
            addresses.join(", ")
        );
    }
    if let Some(speaker) = &report.speaker {
        let _ = writeln!(text, "\nRoutes to {}", speaker.prefix);
        text.push_str(&indented(&routes::table(&speaker.candidates)));
        if let Some(step) = &speaker.decided_by {
            let _ = writeln!(text, "  decided by: {step}");
        }
        if !speaker.advertised_to.is_empty() {
            let _ = writeln!(
                text,
                "  advertised to: {}",
                speaker.advertised_to.join(", ")
            );
        }
    }
    let passed_over = report
        .speaker
        .iter()
        .flat_map(|speaker| &speaker.passed_over);
    let passed_over: Vec<_> = passed_over.cloned().collect();
    if !passed_over.is_empty() {
        text.push_str("\nMore specific, but refused\n");
        text.push_str(&indented(&routes::table(&passed_over)));
    }
    let Some(kernel) = &report.kernel else {
        return text;
    };
    text.push_str("\nInstaller\n");
    match &kernel.route {
        Some(route) => {
            let _ = writeln!(text, "  {}: {}", route.prefix, route.state);
        }
        None => text.push_str("  nothing is wanted for it\n"),
    }
    if let Some(refusal) = &kernel.refusal {
        let _ = writeln!(text, "  refused ({}): {}", refusal.kind, refusal.reason);
    }
    for hop in &kernel.next_hops {
        let _ = write!(text, "  next hop {}", hop.next_hop.address);
        let _ = match (&hop.failure, &hop.by) {
            (Some(failure), _) => writeln!(text, ": {failure}"),
            (None, Some(by)) => writeln!(text, " resolves to {} by {by}", hop.hops.join(", ")),
            (None, None) => writeln!(text, " resolves to {}", hop.hops.join(", ")),
        };
    }
    text.push_str("\nKernel\n");
    for route in &kernel.kernel_routes {
        let _ = writeln!(text, "  {route}");
    }
    let _ = match &kernel.lookup {
        Lookup::Route {
            address,
            route,
            ours,
        } => {
            let whose = if *ours { "ours" } else { "not ours" };
            writeln!(text, "  a packet for {address} goes {route} ({whose})")
        }
        Lookup::Unreachable { address, reason } => {
            writeln!(text, "  a packet for {address} does not go: {reason}")
        }
    };
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
