//! `routelet fib`: desired against kernel.

use std::{fmt::Write, process::ExitCode};

use clap::Args;
use fib::{Counts, RouteStatus};

use super::Asking;
use crate::{control::query::Query, render::Table, report::FibReport};

/// Routes of ours in the kernel against those that should be there: installed, pending, refused, drifted
#[derive(Debug, Args)]
#[command(after_help = "Exit code 1 if the kernel is not as it should be.\n\n\
                        Examples:\n  \
                        routelet fib\n  \
                        routelet fib 10.244.0.0/16\n  \
                        routelet fib --problems")]
pub(super) struct Options {
    /// Only this prefix and what lies inside
    prefix: Option<String>,
    /// Only what is not simply installed
    #[arg(long)]
    problems: bool,
    /// At most so many; 0: all
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    #[command(flatten)]
    asking: Asking,
}

impl Options {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut query = Query::default()
            .with("limit", self.limit.to_string())
            .with("problems", self.problems.to_string());
        if let Some(prefix) = self.prefix {
            query = query.with("within", prefix);
        }
        self.asking.show("/v1/fib", &query)
    }
}

/// The numbers, then a line a prefix.
pub(crate) fn text(report: &FibReport) -> String {
    let status = &report.status;
    let mut text = counts(&[("IPv4", &status.ipv4), ("IPv6", &status.ipv6)]);
    let totals = &status.totals;
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "since the start: {} added, {} replaced, {} removed, {} taken over, {} drifted, {} healed, {} failures; {} blackholes for own pod CIDRs, {} next-hop objects",
        totals.added,
        totals.replaced,
        totals.removed,
        totals.adopted,
        totals.drifted,
        totals.healed,
        totals.failures,
        status.blackholes,
        status.objects
    );
    for problem in &status.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    text.push('\n');
    text.push_str(&routes(&report.routes));
    if report.truncated {
        let _ = writeln!(
            text,
            "(the first {} only; --limit 0 shows all)",
            report.routes.len()
        );
    }
    text
}

fn counts(families: &[(&str, &Counts)]) -> String {
    let mut table = Table::new(&[
        "FAMILY",
        "DESIRED",
        "INSTALLED",
        "PENDING",
        "REFUSED",
        "UNRESOLVED",
        "FAILED",
        "STALE",
    ]);
    for (family, counts) in families {
        table.row([
            (*family).to_owned(),
            counts.desired.to_string(),
            counts.installed.to_string(),
            counts.pending.to_string(),
            counts.refused.to_string(),
            counts.unresolved.to_string(),
            counts.failed.to_string(),
            counts.stale.to_string(),
        ]);
    }
    table.text()
}

fn routes(routes: &[RouteStatus]) -> String {
    let mut table = Table::new(&["PREFIX", "NEXT HOPS", "KERNEL", "STATE"]);
    for route in routes {
        let hops: Vec<String> = route
            .next_hops
            .iter()
            .map(|hop| match hop.weight {
                0 | 1 => hop.address.to_string(),
                weight => format!("{}×{weight}", hop.address),
            })
            .collect();
        table.row([
            route.prefix.to_string(),
            hops.join(" "),
            route.kernel.clone().unwrap_or_default(),
            route.state.to_string(),
        ]);
    }
    table.text()
}
