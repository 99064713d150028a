//! The Rib as its peers see it: pure, with a clock moved by hand.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may panic"
)]

#[path = "rib/groups.rs"]
mod groups;
#[path = "rib/monitor.rs"]
mod monitor;
#[path = "rib/next_hops.rs"]
mod next_hops;
#[path = "rib/oracle.rs"]
mod oracle;
#[path = "rib/origin.rs"]
mod origin;
#[path = "rib/paths.rs"]
mod paths;
#[path = "rib/restart.rs"]
mod restart;
#[path = "rib/station.rs"]
mod station;
#[path = "rib/task.rs"]
mod task;
#[path = "rib/world.rs"]
mod world;
