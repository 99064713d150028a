//! One peer: its state machine, and the task that gives it sockets and a clock.

pub mod collision;
pub mod deadlines;
pub mod fsm;
pub mod negotiate;
