//! Metrics in Prometheus' text format: what `status`, `peers` and `events` say, put into numbers when someone asks. Nothing is
//! counted here, so that no two answers of the daemon differ.
//!
//! The number of series does not depend on the number of nodes: sessions with nodes, and those that came from a range, are in
//! sums only. A peer that a BGPPeer names has series of its own.

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use bgp::status::PeerStatus;
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, prometheus_text,
    },
    metrics::MetricType,
    registry::Registry,
};

use crate::{desired::Desired, journal::Kind, report::StatusReport};

mod kernel;
mod monitoring;
mod node;
mod peers;
mod routes;

/// What the answer is.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// What one answer is made of.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) status: StatusReport,
    pub(crate) peers: Vec<PeerStatus>,
    pub(crate) desired: Arc<Desired>,
    /// Facts by kind since the start.
    pub(crate) events: BTreeMap<Kind, u64>,
}

/// The answer.
///
/// # Errors
/// When a value cannot be written.
pub(crate) fn text(scrape: Scrape) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        node::write(self, &mut page)?;
        peers::write(self, &mut page)?;
        routes::write(self, &mut page)?;
        monitoring::write(self, &mut page)?;
        kernel::write(self.status.kernel.as_ref(), &mut page)
    }
}

/// No labels.
type Bare = [(&'static str, &'static str); 0];
/// No labels.
const BARE: Bare = [];

/// What is written to.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// What goes up and down.
    fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// What only goes up; `_total` is added to its name.
    fn counter<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            metric
                .encode_family(&labels)?
                .encode_counter::<Bare, V, f64>(&value, None)?;
        }
        Ok(())
    }
}

/// A condition as a number.
fn flag(holds: bool) -> u64 {
    u64::from(holds)
}

/// A point in time in seconds since 1970.
fn seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
