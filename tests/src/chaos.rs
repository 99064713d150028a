//! Chaos: a fabric under faults drawn from a seed, probes between all its pods, and a verdict on what was lost and what is left.
//!
//! ```text
//! seed ─ schedule ─► Step (at, lasts, Fault) ─ fault ─► Fabric (6 nodes, FRR, BIRD)
//!                         │ when it really was             │ Probes: which packet reached which pod
//!                         └──────────► verdict ◄───────────┘
//!                      afterwards: oracle, what every kernel, session, log and process must be
//! ```

pub mod fabric;
pub mod fault;
pub mod hole;
pub mod oracle;
pub mod probe;
pub mod schedule;
pub mod verdict;

pub use fabric::{Fabric, NODES, Tor};
pub use schedule::{Fault, Step, schedule};
