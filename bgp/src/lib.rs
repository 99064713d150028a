//! A BGP speaker: it knows RFCs, TCP and time; neither Kubernetes nor netlink.
//!
//! ```text
//! bytes → Message → Fsm → Update → import → AdjIn → decide → best ─ export → AdjOut → Message → bytes
//!                                                              └─ Install → (whoever writes the kernel)
//! ```
//! `wire` is the codec, without clock or I/O. `peer` is one session: the state machine, and the driver that gives it a
//! socket. `rib` holds every route and decides. `speaker` is the front door. `simulated` drives a session without
//! sockets.

pub mod bfd;
pub mod bmp;
pub mod config;
mod listener;
pub mod mrt;
pub mod owners;
pub mod peer;
pub mod prefix;
pub mod rib;
pub mod simulated;
pub mod speaker;
pub mod status;
pub mod wire;
