//! The API server: how it is reached, what is watched there, and what of it outlives an outage.
//!
//! ```text
//! client ── watch (a task a subject) ── events ──► source (one owner: cluster::api::Mirror) ──► Reading ──► daemon
//!    └─ outage: does it answer?                                                      store ◄── what the daemon took over
//! ```
//! Whoever writes to the API server (status, conditions, events) takes [`client::Connection::client`] as well.

pub(crate) mod client;
pub(crate) mod object;
pub(crate) mod outage;
pub(crate) mod source;
pub(crate) mod store;
pub(crate) mod watch;
