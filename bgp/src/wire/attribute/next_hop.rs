//! NEXT_HOP: where packets go next, for IPv4 prefixes in the NLRI field (RFC 4271 §5.1.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BufMut;

use super::{
    Partial,
    table::{Flags, Malformed, Row, Scope},
};
use crate::wire::{
    read::{octets, only},
    update::Treatment,
};

/// Where packets for the route go next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The IPv4 or (global, or only) IPv6 address.
    pub address: IpAddr,
    /// The link-local address that came beside a global one (RFC 2545 §3).
    pub link_local: Option<Ipv6Addr>,
}

impl NextHop {
    /// Whose address it is: an IPv4 address inside an IPv6 one is what the kernel will send to, so every check looks at that.
    #[must_use]
    pub const fn host(&self) -> IpAddr {
        self.address.to_canonical()
    }
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            link_local: None,
        }
    }
}

/// Whether a host may have this address (RFC 4271 §6.3: "a valid IP host address").
pub(super) fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, ..] = address.octets();
            // 0/8 is "this network", 127/8 loopback, 224/3 multicast and what comes after it.
            first != 0 && first != 127 && first < 224
        }
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_host(mapped.into()),
            None => !address.is_unspecified() && !address.is_loopback() && !address.is_multicast(),
        },
    }
}

pub(super) const NEXT_HOP: Row = Row {
    code: 3,
    name: "NEXT_HOP",
    flags: Flags::WELL_KNOWN,
    if_malformed: Treatment::Withdraw,
    rule: "RFC 7606 §7.3",
    subcode: 8,
    scope: Scope::Any,
    partial: Partial::empty(),
    read: |value, draft| {
        let address = only(octets::<4>(value)).map_err(|_| Malformed::Length("4"))?;
        let address = IpAddr::V4(Ipv4Addr::from(address));
        // Beside MP_REACH_NLRI alone its content does not matter (RFC 4760 §3): whether it does is known at the end.
        draft.bad_next_hop = !is_host(address);
        draft.attributes.next_hop = Some(address.into());
        Ok(())
    },
    write: |attributes, to, out| match attributes.next_hop {
        Some(NextHop {
            address: IpAddr::V4(address),
            ..
        }) if to.classic => {
            out.put_slice(&address.octets());
            true
        }
        _ => false,
    },
};
