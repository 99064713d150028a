//! Two state machines against each other: nothing here has a socket, and the clock is moved by hand.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "pair/harness.rs"]
mod harness;

#[path = "pair/bfd.rs"]
mod bfd;
#[path = "pair/collisions.rs"]
mod collisions;
#[path = "pair/endings.rs"]
mod endings;
#[path = "pair/errors.rs"]
mod errors;
#[path = "pair/retries.rs"]
mod retries;
#[path = "pair/timers.rs"]
mod timers;
