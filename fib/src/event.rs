//! What happens in the installer, as it happens: for the log and for `routelet events`.

use std::{fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::Serialize;

/// Something that happened to routes. Bursts are told as one event with a few samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// One batch went into the kernel.
    Written {
        /// Routes added.
        added: usize,
        /// Routes replaced in place.
        replaced: usize,
        /// Routes removed.
        removed: usize,
        /// The first few prefixes of the batch.
        sample: Vec<IpNetwork>,
    },
    /// A prefix is refused; told once for each reason.
    Refused {
        /// The prefix.
        prefix: IpNetwork,
        /// Kind of refusal, as in [`Status::refusals`](crate::Status::refusals).
        kind: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// A set of next hops does not resolve (any more); told once for each reason.
    Unresolved {
        /// One prefix that wants it.
        prefix: IpNetwork,
        /// Why, and what to do.
        reason: String,
    },
    /// The kernel refused a request; it is tried again.
    Failed {
        /// The prefix.
        prefix: IpNetwork,
        /// The error number, positive.
        errno: i32,
        /// The error in words.
        reason: String,
    },
    /// Someone else removed or changed a route of ours.
    Drifted {
        /// The prefix.
        prefix: IpNetwork,
        /// What was found instead, in `ip route` words; `None`: nothing.
        found: Option<String>,
        /// The netlink port (usually the process id) of who did it; 0 is the kernel itself.
        by: u32,
    },
    /// … and it is back.
    Healed {
        /// The prefix.
        prefix: IpNetwork,
    },
    /// Someone fights us for this prefix: we put it back less and less often.
    Fighting {
        /// The prefix.
        prefix: IpNetwork,
        /// Times it was taken from us lately.
        times: u32,
    },
    /// A next-hop object is removed, and with it, at once, its routes: nobody wants any of them.
    Flushed {
        /// Its number.
        id: u32,
        /// How many routes.
        routes: usize,
    },
    /// The kernel refused a next-hop object; the routes that need it are plain until it takes it.
    ObjectFailed {
        /// Its number.
        id: u32,
        /// The error number, positive.
        errno: i32,
        /// The error in words.
        reason: String,
    },
    /// Someone else removed or changed a next-hop object of ours; it is put back, and its routes with it.
    ObjectDrifted {
        /// Its number.
        id: u32,
        /// What was found instead; `None`: nothing.
        found: Option<String>,
        /// The netlink port of who did it; 0 is the kernel itself.
        by: u32,
    },
    /// This kernel has no next-hop objects: all routes are plain, and move one by one.
    WithoutObjects,
    /// The kernel had more events than we could take; its table is read again.
    Overrun,
    /// The kernel's table was read again.
    Resynced {
        /// Own routes found.
        routes: usize,
        /// … of them not as they should be.
        drifted: usize,
    },
    /// Routes of an earlier run that nobody wants were removed.
    Swept {
        /// How many.
        routes: usize,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written {
                added,
                replaced,
                removed,
                sample,
            } => {
                write!(
                    f,
                    "kernel written: {added} added, {replaced} replaced, {removed} removed ("
                )?;
                for (i, prefix) in sample.iter().enumerate() {
                    write!(f, "{}{prefix}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(if added + replaced + removed > sample.len() {
                    ", …)"
                } else {
                    ")"
                })
            }
            Self::Refused { prefix, reason, .. } => write!(f, "{prefix} refused: {reason}"),
            Self::Unresolved { prefix, reason } => write!(f, "{prefix} unresolved: {reason}"),
            Self::Failed { prefix, reason, .. } => write!(f, "{prefix} failed: {reason}"),
            Self::Drifted {
                prefix,
                found: None,
                by,
            } => {
                write!(
                    f,
                    "{prefix} was removed from the kernel by netlink port {by}"
                )
            }
            Self::Drifted {
                prefix,
                found: Some(found),
                by,
            } => {
                write!(
                    f,
                    "{prefix} was changed to \"{found}\" by netlink port {by}"
                )
            }
            Self::Healed { prefix } => write!(f, "{prefix} is back as wanted"),
            Self::Fighting { prefix, times } => {
                write!(
                    f,
                    "{prefix} was taken from us {times} times: another program manages it too"
                )
            }
            Self::Flushed { id, routes } => {
                write!(f, "next-hop object {id} removed with its {routes} routes")
            }
            Self::ObjectFailed { id, reason, .. } => {
                write!(
                    f,
                    "next-hop object {id} failed: {reason}; its routes are plain meanwhile"
                )
            }
            Self::ObjectDrifted { id, found, by } => {
                let found = found.as_deref().unwrap_or("nothing");
                write!(
                    f,
                    "next-hop object {id} was changed to \"{found}\" by netlink port {by}"
                )
            }
            Self::WithoutObjects => {
                f.write_str("this kernel has no next-hop objects: routes move one by one")
            }
            Self::Overrun => f.write_str("kernel events lost; reading its table again"),
            Self::Resynced { routes, drifted } => {
                write!(
                    f,
                    "kernel table read again: {routes} own routes, {drifted} not as they should be"
                )
            }
            Self::Swept { routes } => write!(f, "{routes} routes of an earlier run swept"),
        }
    }
}

/// An interface and what is on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Kernel index, from 1.
    pub index: u32,
    /// Name, as in `ip link`.
    pub name: String,
    /// Administratively up *and* with carrier: it can pass packets.
    pub up: bool,
    /// Own addresses with the length of their subnet (`10.0.0.1/24`).
    pub addresses: Vec<IpNetwork>,
    /// The far end of point-to-point addresses.
    pub peers: Vec<IpAddr>,
}

/// A change of an interface: what ends sessions at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum LinkEvent {
    /// It can pass packets now.
    Up {
        /// As it is now.
        interface: Interface,
    },
    /// It can pass packets no more.
    Down {
        /// As it was, addresses included.
        interface: Interface,
        /// Why.
        cause: DownCause,
    },
    /// An own address appeared.
    AddressAdded {
        /// As it is now.
        interface: Interface,
        /// The address with the length of its subnet.
        address: IpNetwork,
    },
    /// A default route of others appeared, changed or went.
    DefaultRoute,
    /// An own address vanished.
    AddressRemoved {
        /// As it is now.
        interface: Interface,
        /// The address with the length of its subnet.
        address: IpNetwork,
    },
}

/// Why an interface passes no packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DownCause {
    /// Set down by hand (`ip link set … down`).
    Admin,
    /// The cable, or the other end.
    Carrier,
    /// The interface is gone.
    Gone,
}
