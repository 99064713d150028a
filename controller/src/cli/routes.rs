//! `routelet routes`: what peers told us, what we tell them, what is best.

use std::process::ExitCode;

use bgp::status::{Fate, RouteStatus};
use clap::{Args, ValueEnum};

use super::Asking;
use crate::{
    control::query::Query,
    render::Table,
    report::{RoutesReport, age},
};

/// Routes: all, those received from peers, or those advertised to them
#[derive(Debug, Args)]
#[command(
    after_help = "The first column says what became of a route: * best, = used beside the best (multipath),\n\
                        s stale, x refused, and nothing where it lost. WHY says at which step of the decision, or what refused it.\n\n\
                        Examples:\n  \
                        routelet routes\n  \
                        routelet routes received tor-r1\n  \
                        routelet routes advertised --family IPv6\n  \
                        routelet routes --prefix 10.244.2.0/24 -o json"
)]
pub(super) struct Options {
    /// Which side; without it, all routes known
    #[arg(value_enum)]
    direction: Option<Direction>,
    /// From or to this peer only: a session, a BGPPeer or an address
    peer: Option<String>,
    /// IPv4 or IPv6 only
    #[arg(long, value_name = "FAMILY")]
    family: Option<String>,
    /// Routes to exactly this prefix only
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// At most so many; 0: all
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Direction {
    /// What peers told us, with what import made of it
    Received,
    /// What we tell peers
    Advertised,
}

impl Options {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut query = Query::default().with("limit", self.limit.to_string());
        let direction = self.direction.map(|direction| match direction {
            Direction::Received => "received".to_owned(),
            Direction::Advertised => "advertised".to_owned(),
        });
        for (key, value) in [
            ("direction", direction),
            ("peer", self.peer),
            ("family", self.family),
            ("prefix", self.prefix),
        ] {
            if let Some(value) = value {
                query = query.with(key, value);
            }
        }
        self.asking.show("/v1/routes", &query)
    }
}

/// A line a route.
pub(crate) fn text(report: &RoutesReport) -> String {
    let mut text = table(&report.routes);
    if report.truncated {
        text.push_str(&format!(
            "(the first {} only; --limit 0 shows all)\n",
            report.routes.len()
        ));
    }
    text
}

/// A line a route.
pub(crate) fn table(routes: &[RouteStatus]) -> String {
    let mut table = Table::new(&[
        "",
        "PREFIX",
        "NEXT HOP",
        "FROM",
        "AS PATH",
        "PREF",
        "MED",
        "COMMUNITIES",
        "AGE",
        "WHY",
    ]);
    for route in routes {
        let mut prefix = route.prefix.to_string();
        if let Some(id) = route.path_id {
            prefix.push_str(&format!(" #{id}"));
        }
        table.row([
            mark(route),
            prefix,
            route
                .next_hop
                .map_or_else(|| "self".into(), |hop| hop.to_string()),
            route
                .from
                .clone()
                .unwrap_or_else(|| format!("{:?}", route.source)),
            route.as_path.clone(),
            route
                .local_pref
                .map(|value| value.to_string())
                .unwrap_or_default(),
            route.med.map(|value| value.to_string()).unwrap_or_default(),
            route.communities.join(" "),
            age(route.since),
            why(route),
        ]);
    }
    table.text()
}

fn mark(route: &RouteStatus) -> String {
    let mut mark = match route.fate {
        Fate::Best => "*",
        Fate::Multipath => "=",
        Fate::Refused(_) => "x",
        _ => "",
    }
    .to_owned();
    if route.stale {
        mark.push('s');
    }
    mark
}

fn why(route: &RouteStatus) -> String {
    match &route.fate {
        Fate::Best => "best".into(),
        Fate::Multipath => "multipath".into(),
        Fate::Lost(step) => format!("lost: {step}"),
        Fate::Refused(why) => format!("refused: {why}"),
    }
}
