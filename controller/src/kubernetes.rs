//! The API server: how it is reached, what is watched there, and what of it outlives an outage.
//!
//! ```text
//! client ── watch (a task a subject) ── events ──► source (one owner: cluster::api::Mirror) ──► Reading ──► daemon
//!    ├─ outage: does it answer?                                                      store ◄── what the daemon took over
//!    └─ publish ◄── what the daemon knows of itself
//! ```

pub(crate) mod client;
pub(crate) mod object;
pub(crate) mod outage;
pub(crate) mod publish;
pub(crate) mod reports;
pub(crate) mod source;
pub(crate) mod store;
pub(crate) mod watch;
