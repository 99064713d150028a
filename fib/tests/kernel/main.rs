//! The installer against the real kernel, each test in a network namespace of its own. Needs root.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that can't go on fails, and some measure time"
)]

mod node;

mod drift;
mod install;
mod links;
mod objects;
mod restart;
mod rights;
