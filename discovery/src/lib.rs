//! Who is at the other end of a link: the router that unnumbered peering speaks to.
//!
//! ```text
//! the kernel's links, addresses, neighbours ─ kernel ─► Reading ─ links() ─► Link by name: up, our address, the router
//!                                               ▲                     │
//!                                               └── is it still there? ┘
//! router advertisements of ours ◄─ icmp ◄─ Schedule: at first, now and then, when solicited
//! ```
//! The kernel takes note of whoever sends router advertisements, also where it does not use them (accept_ra 0): nobody else has
//! to read them.

mod driver;
mod icmp;
mod kernel;
mod links;
mod message;
mod schedule;

pub use driver::Discovery;
pub use links::{Aim, Link, Links, Wanted, matches};
