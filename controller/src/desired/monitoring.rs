//! Who is told over BMP, and what is written to MRT files.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bgp::{
    bmp::Views,
    config::{CollectorConfig, MrtConfig},
};

use super::View;
use crate::crd::monitoring::MonitoredRoutes;

/// The collectors that this node tells, by name.
pub(super) fn collectors(view: &View<'_>) -> BTreeMap<String, CollectorConfig> {
    let labels = &view.node.labels;
    let ours = view.config.bmp.iter();
    ours.filter(|collector| collector.node_selector.matches(labels))
        .map(|collector| {
            let config = CollectorConfig {
                address: SocketAddr::new(collector.address, collector.port),
                system: view.name.into(),
                description: concat!("routelet ", env!("CARGO_PKG_VERSION")).into(),
                views: match collector.routes {
                    MonitoredRoutes::PrePolicy => Views::PRE_POLICY,
                    MonitoredRoutes::PostPolicy => Views::POST_POLICY,
                    MonitoredRoutes::Both => Views::all(),
                },
                statistics: (collector.statistics_seconds > 0)
                    .then(|| Duration::from_secs(collector.statistics_seconds.into())),
            };
            (collector.name.clone(), config)
        })
        .collect()
}

/// The files that this node writes.
pub(super) fn mrt(view: &View<'_>) -> Option<MrtConfig> {
    let mrt = view.config.mrt.as_ref()?;
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    mrt.node_selector
        .matches(&view.node.labels)
        .then(|| MrtConfig {
            directory: mrt.directory.clone(),
            updates: mrt.updates.map(|updates| seconds(updates.rotate_seconds)),
            table: mrt.table.map(|table| seconds(table.interval_seconds)),
        })
}
