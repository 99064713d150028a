//! One peer: its state machine, and the task that gives it sockets and a clock.

pub mod collision;
pub mod deadlines;
pub(crate) mod driver;
pub mod fsm;
mod hints;
pub mod incoming;
pub mod negotiate;
pub mod outgoing;
mod recorder;
pub(crate) mod socket_options;
pub(crate) mod sockets;
