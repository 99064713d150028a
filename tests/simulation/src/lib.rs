//! Hundreds of speakers in one process: their real state machines, Ribs and installers between a model of TCP and of the
//! kernel, a clock that is moved by hand, and one seed that decides everything else.
//!
//! ```text
//! seed → Topology → World ─┬─ Host: kernel table ── Process: Rib, Installer, Peers (Fsm, Incoming, Outgoing)
//!                          ├─ Network: connections, paths that die and heal
//!                          └─ Schedule: what happens next        ↑ Faults
//! every step: Watch (no hole, no orphan, bounded) · at rest: every table against the oracle
//! ```
#![allow(
    clippy::indexing_slicing,
    reason = "nodes and sides are numbers that the simulation itself gives out; a wrong one must stop it"
)]

pub mod bfd;
pub mod clock;
pub mod config;
mod connections;
pub mod fault;
mod hostile;
mod machine;
pub mod network;
pub mod oracle;
pub mod paths;
pub mod process;
mod reconfigure;
mod rest;
mod routes;
pub mod scenario;
mod session;
mod shape;
pub mod topology;
pub mod trace;
pub mod watch;
pub mod world;

pub use process::Sabotage;
pub use scenario::{Failure, Options, Report, run};
pub use topology::Kind;
