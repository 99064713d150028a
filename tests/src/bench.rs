//! Whole-daemon benchmarks: routelet, BIRD and FRR do the same work in turns, and what counts is their ratio.
//!
//! ```text
//! Table (prefixes, attribute sets) → Load (our own BGP speakers) ⇄ veth ⇄ Device (routelet | bird | bgpd)
//!                                                                          └─ Usage (CPU, memory)
//! ```
//! The speakers have a codec of their own, written by hand and independent of the `bgp` crate, so that they judge it too:
//! every prefix that a device passes on must be one that was announced, with the attributes it was announced with.
#![expect(
    clippy::indexing_slicing,
    reason = "a benchmark that reads what a device sent wrongly should end at once, with the place"
)]

pub mod arena;
pub mod device;
pub mod load;
pub mod message;
pub mod report;
pub mod speakers;
pub mod table;
pub mod view;
pub mod workload;

use std::time::Instant;

/// The one clock of the benchmarks.
#[expect(clippy::disallowed_methods, reason = "measuring is what this does")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}
