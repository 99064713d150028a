//! The parts of `BGPConfiguration` that let others look on: BMP collectors and MRT files.

use std::{net::IpAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Verdicts,
    schema::{HostText, cel},
    selector::LabelSelector,
    value::is_host,
};

/// The port that is registered for BMP.
const BMP_PORT: u16 = 11019;

/// A collector that is told of peers and their routes over BMP (RFC 7854).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!isIP(self.address) || ip(self.address).family() == 4 || !ip(self.address).isLinkLocalUnicast()",
    "address is link-local: take one that is not",
)])))]
pub(crate) struct Collector {
    /// What it is called in status.
    #[schemars(length(min = 1, max = 63))]
    pub(crate) name: String,
    /// Which nodes tell it; empty: all.
    #[serde(default)]
    pub(crate) node_selector: LabelSelector,
    /// Where it listens.
    #[schemars(with = "HostText")]
    pub(crate) address: IpAddr,
    /// Its TCP port.
    #[serde(default = "bmp_port")]
    #[schemars(range(min = 1))]
    pub(crate) port: u16,
    /// Which routes it is told of.
    #[serde(default)]
    pub(crate) routes: MonitoredRoutes,
    /// How often it gets a Statistics Report of each peer; 0: never.
    #[serde(default = "statistics_seconds")]
    pub(crate) statistics_seconds: u16,
}

const fn bmp_port() -> u16 {
    BMP_PORT
}

const fn statistics_seconds() -> u16 {
    60
}

/// Which routes a collector is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum MonitoredRoutes {
    /// Adj-RIB-In as peers said it.
    #[default]
    PrePolicy,
    /// Adj-RIB-In as import let it in.
    PostPolicy,
    /// Both.
    Both,
}

/// MRT files (RFC 6396) of what peers say and of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "has(self.updates) || has(self.table)",
    "it asks for no file: give updates, table or both",
)])))]
pub(crate) struct Mrt {
    /// Which nodes write them; empty: all.
    pub(crate) node_selector: LabelSelector,
    /// Where to.
    #[schemars(extend("x-kubernetes-validations" = cel(&[(
        "self.startsWith('/')",
        "it must be an absolute path",
    )])))]
    pub(crate) directory: PathBuf,
    /// Every UPDATE received and every change of a session's state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) updates: Option<MrtUpdates>,
    /// The table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<MrtTable>,
}

impl Default for Mrt {
    fn default() -> Self {
        Self {
            node_selector: LabelSelector::default(),
            directory: "/var/lib/routelet/mrt".into(),
            updates: None,
            table: None,
        }
    }
}

/// Files of updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct MrtUpdates {
    /// How much time a file holds, 1–86400.
    #[schemars(range(min = 1, max = 86400))]
    pub(crate) rotate_seconds: u32,
}

impl Default for MrtUpdates {
    fn default() -> Self {
        Self {
            rotate_seconds: 900,
        }
    }
}

/// Files of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct MrtTable {
    /// How often it is written, 10–604800.
    #[schemars(range(min = 10, max = 604_800))]
    pub(crate) interval_seconds: u32,
}

impl Default for MrtTable {
    fn default() -> Self {
        Self {
            interval_seconds: 7200,
        }
    }
}

/// Rules of the collectors.
pub(super) fn check_collectors(collectors: &[Collector], verdicts: &mut Verdicts) {
    for (i, collector) in collectors.iter().enumerate() {
        let field = |name: &str| format!("bmp[{i}].{name}");
        let address = collector.address;
        verdicts.demand(
            !collector.name.is_empty() && collector.name.len() <= 63,
            &field("name"),
            "it must have 1 to 63 characters",
        );
        let before = collectors.get(..i).unwrap_or_default();
        verdicts.demand(
            before.iter().all(|other| other.name != collector.name),
            &field("name"),
            format!("there are two collectors of the name {:?}", collector.name),
        );
        collector
            .node_selector
            .check(&field("nodeSelector"), verdicts);
        verdicts.demand(
            is_host(address),
            &field("address"),
            format!("{address} is no address of a host"),
        );
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        verdicts.demand(
            !link_local,
            &field("address"),
            "address is link-local: take one that is not",
        );
        verdicts.demand(collector.port != 0, &field("port"), "0 is no port");
    }
}

impl Mrt {
    /// Rules of the files.
    pub(super) fn check(&self, verdicts: &mut Verdicts) {
        self.node_selector.check("mrt.nodeSelector", verdicts);
        verdicts.demand(
            self.updates.is_some() || self.table.is_some(),
            "mrt",
            "it asks for no file: give updates, table or both",
        );
        verdicts.demand(
            self.directory.is_absolute(),
            "mrt.directory",
            "it must be an absolute path",
        );
        if let Some(updates) = &self.updates {
            verdicts.demand(
                (1..=86400).contains(&updates.rotate_seconds),
                "mrt.updates.rotateSeconds",
                format!("{} is out of range: 1 to 86400", updates.rotate_seconds),
            );
        }
        if let Some(table) = &self.table {
            verdicts.demand(
                (10..=604_800).contains(&table.interval_seconds),
                "mrt.table.intervalSeconds",
                format!("{} is out of range: 10 to 604800", table.interval_seconds),
            );
        }
    }
}
