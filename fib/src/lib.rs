//! Keeps the kernel's routes equal to the desired ones.
//!
//! ```text
//! Change ─► reconciler ─► guard · resolve ─► plan ─► kernel (netlink)
//!               ▲                                      │
//!               └──── links, addresses, routes ◄───────┘
//! ```
//! | file | what |
//! |---|---|
//! | `config`, `route`, `status`, `event` | what is said to and by the installer: plain data |
//! | `fib`, `driver` | the front door; the task behind it, with clock and channels |
//! | `guard`, `resolve` | whether a prefix may be installed; where its next hops lead |
//! | `reconciler` | desired against kernel: decides, plans, retries, heals; no I/O |
//! | `network`, `routes`, `target`, `objects` | what it knows: links and foreign routes, one entry a prefix, shared targets, next-hop objects |
//! | `kernel`, `netlink`, `memory` | what it talks to: the trait, the real one, one in memory |
//! | [`simulated`] | the reconciler on the kernel in memory, moved by hand |
//!
//! [`Fib`] is the front door; [`cleanup`] works without it. Everything happens in the network namespace of the
//! thread that calls [`Fib::start`], and needs CAP_NET_ADMIN there.

mod config;
mod driver;
mod error;
mod event;
mod fib;
mod guard;
mod kernel;
mod memory;
mod netlink;
mod network;
mod objects;
mod plan;
mod reconciler;
mod resolve;
mod route;
mod routes;
pub mod simulated;
mod status;
mod target;

pub use config::{AllowedRange, Config, Guard, Unresolved};
pub use error::Error;
pub use event::{DownCause, Event, Interface, LinkEvent};
pub use fib::{Completeness, Fib, cleanup};
pub use guard::Refusal;
pub use route::{Change, Mark, NextHop, Wanted};
pub use status::{
    Counts, Explanation, Filter, Lookup, Refused, Resolution, RouteState, RouteStatus, Status,
    Totals,
};
