//! What can go wrong for the caller. Routes that fail are no errors: see [`Status`](crate::Status).

use std::io;

use thiserror::Error;

/// Why the installer cannot do what was asked.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel does not let us: CAP_NET_ADMIN is missing in this network namespace.
    #[error(
        "no permission to change routes: CAP_NET_ADMIN is missing in this network namespace (add the capability NET_ADMIN, or run as root)"
    )]
    Permission,
    /// A netlink socket could not be opened or used.
    #[error("netlink: {what}: {source}")]
    Netlink {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A configuration that can't be carried out.
    #[error("{0}")]
    Config(String),
    /// The installer has ended; its log says why.
    #[error("the installer has ended")]
    Stopped,
}
