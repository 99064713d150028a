//! `routelet status`: one screen.

use std::{fmt::Write, process::ExitCode};

use bgp::{
    prefix::Family,
    status::{CollectorStatus, MrtStatus},
};
use clap::Args;

use super::Asking;
use crate::{
    control::query::Query,
    desired::Duty,
    report::{Dump, StatusReport, age},
};

/// This node in one screen: sessions, routes, kernel, and what is wrong with what to do about it
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0 if all is well, 1 if not, 2 if no daemon answers.\n\n\
                        Examples:\n  \
                        routelet status\n  \
                        routelet status -o json | jq .problems\n  \
                        routelet status --dump > bug-report.json"
)]
pub(super) struct Options {
    /// Everything the daemon knows, as one JSON document (it holds no passwords)
    #[arg(long)]
    dump: bool,
    #[command(flatten)]
    asking: Asking,
}

impl Options {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let path = if self.dump { "/v1/dump" } else { "/v1/status" };
        self.asking.show(path, &Query::default())
    }
}

/// The dump is JSON whatever was asked for.
pub(crate) fn dumped(dump: &Dump) -> String {
    crate::report::json(dump)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .map(|text| text + "\n")
        .unwrap_or_else(|error| format!("{error}\n"))
}

/// The screen.
pub(crate) fn text(status: &StatusReport) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    let health = if status.healthy {
        "healthy"
    } else {
        "unhealthy"
    };
    let mut marks = String::new();
    if status.cordoned {
        marks.push_str(", cordoned");
    }
    marks.push_str(match status.duty {
        Duty::InService => "",
        Duty::Draining => ", draining",
        Duty::Drained => ", drained",
    });
    line("Node", format!("{} ({health}{marks})", status.node));
    line(
        "Speaker",
        format!(
            "AS {}, router ID {}, listening on {}",
            status.asn,
            status.router_id,
            listening(status)
        ),
    );
    line("Peers", peers(status));
    for family in Family::ALL {
        let counts = status.routes.get(&family).copied().unwrap_or_default();
        let prefixes = status
            .prefixes
            .get(&family.to_string())
            .copied()
            .unwrap_or_default();
        let mut told = format!(
            "{prefixes} prefixes; {} received, {} accepted, {} advertised",
            counts.received, counts.accepted, counts.advertised
        );
        for (count, what) in [
            (counts.stale, "stale"),
            (counts.refused_by_origin, "refused by the origin check"),
            (counts.looped, "refused as they have been here"),
        ] {
            if count > 0 {
                let _ = write!(told, ", {count} {what}");
            }
        }
        line(&family.to_string(), told);
    }
    line("Kernel", kernel(status));
    if status.audit.expected > 0 {
        line("Pods", status.audit.summary());
    }
    for (name, one) in &status.collectors {
        line("BMP", collector(name, one));
    }
    if let Some(mrt) = &status.mrt {
        line("MRT", files(mrt));
    }
    line(
        "Daemon",
        format!(
            "{}, up {}, {:.1} MiB; configuration {} taken over {} ago",
            status.version,
            age(status.started),
            megabytes(status.memory_kib),
            status.configuration,
            age(status.loaded)
        ),
    );
    if !status.problems.is_empty() {
        text.push_str("\nProblems\n");
        for problem in &status.problems {
            let _ = writeln!(text, "  {problem}");
        }
    }
    text
}

fn megabytes(kib: u64) -> f64 {
    // Memory in KiB is far below the 2^53 that a float holds exactly.
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

fn collector(name: &str, collector: &CollectorStatus) -> String {
    let since = age(collector.since);
    let mut text = if collector.connected {
        format!("{name} at {}: connected for {since}", collector.address)
    } else {
        format!("{name} at {}: not connected for {since}", collector.address)
    };
    let _ = write!(
        text,
        ", {} messages in {} connections",
        collector.messages, collector.connections
    );
    if let Some(error) = &collector.last_error {
        let _ = write!(text, "; last error: {error}");
    }
    text
}

fn files(mrt: &MrtStatus) -> String {
    let mut text = format!(
        "{} files written in {}, {} octets",
        mrt.files,
        mrt.directory.display(),
        mrt.octets
    );
    if mrt.lost > 0 {
        let _ = write!(text, ", {} records lost", mrt.lost);
    }
    text
}

fn listening(status: &StatusReport) -> String {
    let addresses: Vec<String> = status.listen.iter().map(ToString::to_string).collect();
    if addresses.is_empty() {
        "nothing".into()
    } else {
        addresses.join(", ")
    }
}

fn peers(status: &StatusReport) -> String {
    let peers = &status.peers;
    let mut text = format!("{}/{} established", peers.established, peers.total);
    if peers.nodes > 0 {
        let _ = write!(
            text,
            " ({}/{} nodes of the cluster)",
            peers.nodes_established, peers.nodes
        );
    }
    if peers.shutdown > 0 {
        let _ = write!(text, ", {} held down on purpose", peers.shutdown);
    }
    if peers.waiting > 0 {
        let _ = write!(
            text,
            ", {} with settings that wait for the next session",
            peers.waiting
        );
    }
    text
}

fn kernel(status: &StatusReport) -> String {
    let Some(kernel) = &status.kernel else {
        return "nothing is installed".into();
    };
    let sum =
        |count: fn(&fib::Counts) -> u64| count(&kernel.ipv4).saturating_add(count(&kernel.ipv6));
    let mut text = format!(
        "{} of {} routes installed",
        sum(|c| c.installed),
        sum(|c| c.desired)
    );
    for (count, what) in [
        (sum(|c| c.pending), "pending"),
        (sum(|c| c.refused), "refused"),
        (sum(|c| c.unresolved), "unresolved"),
        (sum(|c| c.failed), "failed"),
        (sum(|c| c.stale), "stale"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    let _ = write!(
        text,
        "; protocol {}, table {}, metric {}",
        kernel.mark.protocol, kernel.mark.table, kernel.mark.metric
    );
    if !kernel.in_sync {
        text.push_str("; not in step yet");
    }
    text
}
