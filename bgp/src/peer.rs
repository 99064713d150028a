//! One peer: its state machine, and the task that gives it sockets and a clock.

pub mod collision;
pub mod deadlines;
pub(crate) mod driver;
pub mod fsm;
mod hints;
pub mod negotiate;
mod recorder;
pub(crate) mod socket_options;
pub(crate) mod sockets;
