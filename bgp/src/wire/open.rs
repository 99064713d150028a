//! OPEN: who a speaker is and what it can do (RFC 4271 §4.2, RFC 5492, RFC 9072).

use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};
use nom::{
    Parser,
    number::complete::{be_u8, be_u16, be_u32},
};

use super::{
    AS_TRANS, Capability, WireError,
    capability::{AddPathMode, GracefulRestart},
    read::{Short, sized_by_u8, sized_by_u16, type_extended_length_value, type_length_value},
};
use crate::prefix::{Families, Family};

/// The version we speak.
const VERSION: u8 = 4;
/// The optional parameter that holds capabilities (RFC 5492 §4).
const CAPABILITIES: u8 = 2;
/// Stands where the first parameter's type would, if lengths are two octets (RFC 9072 §2).
const EXTENDED: u8 = 255;

/// An OPEN message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The sender's AS: the four-octet one if its capability is there (RFC 6793), else My Autonomous System.
    pub asn: u32,
    /// Proposed hold time, in seconds: 0 or at least 3.
    pub hold_time: u16,
    /// BGP Identifier: not 0 (RFC 6286).
    pub id: Ipv4Addr,
    /// Capabilities in the order of the message.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// The families of its multiprotocol capabilities; IPv4 alone where it has none of any kind (RFC 4760 §8).
    #[must_use]
    pub fn families(&self) -> Families {
        if !self
            .capabilities
            .iter()
            .any(|capability| capability.code() == 1)
        {
            return Families::IPV4;
        }
        self.capabilities
            .iter()
            .filter_map(|capability| match capability {
                Capability::Multiprotocol(family) => Some(*family),
                _ => None,
            })
            .collect()
    }

    /// Whether it carries this capability with exactly this value.
    #[must_use]
    pub fn has(&self, capability: &Capability) -> bool {
        self.capabilities.contains(capability)
    }

    /// Whether it carries the four-octet AS number capability (RFC 6793).
    #[must_use]
    pub fn four_octet_as(&self) -> bool {
        self.capabilities
            .iter()
            .any(|capability| matches!(capability, Capability::FourOctetAs(_)))
    }

    /// Its graceful restart capability; of several the last counts (RFC 4724 §3).
    #[must_use]
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        self.capabilities
            .iter()
            .rev()
            .find_map(|capability| match capability {
                Capability::GracefulRestart(restart) => Some(restart),
                _ => None,
            })
    }

    /// Its long-lived graceful restart capability: family, F bit, stale time in seconds; of several the last counts
    /// (RFC 9494 §3.1). It means nothing without [`Self::graceful_restart`].
    #[must_use]
    pub fn long_lived_graceful_restart(&self) -> &[(Family, bool, u32)] {
        self.capabilities
            .iter()
            .rev()
            .find_map(|capability| match capability {
                Capability::LongLivedGracefulRestart(families) => Some(&**families),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// What it will do with path identifiers of this family (RFC 7911 §4); of several the first counts.
    #[must_use]
    pub fn add_path(&self, family: Family) -> Option<AddPathMode> {
        self.capabilities
            .iter()
            .filter_map(|capability| match capability {
                Capability::AddPath(families) => Some(families),
                _ => None,
            })
            .flatten()
            .find(|(other, _)| *other == family)
            .map(|(_, mode)| *mode)
    }

    /// Families whose next hops may be IPv6 (RFC 8950 §4).
    #[must_use]
    pub fn extended_next_hop(&self) -> Families {
        self.capabilities
            .iter()
            .filter_map(|capability| match capability {
                Capability::ExtendedNextHop(families) => Some(families),
                _ => None,
            })
            .flatten()
            .copied()
            .collect()
    }

    /// Its host name and its software, where it tells them.
    #[must_use]
    pub fn host_and_software(&self) -> (Option<&str>, Option<&str>) {
        let (mut host_name, mut software) = (None, None);
        for capability in &self.capabilities {
            match capability {
                Capability::Fqdn { host, .. } => host_name = Some(&**host),
                Capability::SoftwareVersion(version) => software = Some(&**version),
                _ => {}
            }
        }
        (host_name, software)
    }

    /// Reads the body of a message.
    pub(super) fn read(body: &[u8]) -> Result<Self, WireError> {
        let short = |_: nom::Err<Short>| WireError::MalformedOptionalParameters;
        let (rest, version) = be_u8(body).map_err(short)?;
        if version != VERSION {
            return Err(WireError::UnsupportedVersion(version));
        }
        let (rest, (asn, hold_time, id)) = (be_u16, be_u16, be_u32).parse(rest).map_err(short)?;
        if asn == 0 {
            return Err(WireError::AsZero);
        }
        if matches!(hold_time, 1 | 2) {
            return Err(WireError::UnacceptableHoldTime(hold_time));
        }
        if id == 0 {
            return Err(WireError::BadIdentifier);
        }
        let mut open = Self {
            asn: u32::from(asn),
            hold_time,
            id: id.into(),
            capabilities: Vec::new(),
        };
        open.read_parameters(rest)?;
        for capability in &open.capabilities {
            if let Capability::FourOctetAs(asn) = capability {
                open.asn = *asn;
            }
        }
        Ok(open)
    }

    fn read_parameters(&mut self, input: &[u8]) -> Result<(), WireError> {
        let malformed = |_: nom::Err<Short>| WireError::MalformedOptionalParameters;
        // RFC 9072 §2: the length octet before the type 255 is ignored, as long as it is not 0.
        let extended = matches!(input, [length, EXTENDED, ..] if *length != 0);
        let (left, mut parameters) = if extended {
            let (rest, _) = (be_u8, be_u8).parse(input).map_err(malformed)?;
            sized_by_u16(rest).map_err(malformed)?
        } else {
            sized_by_u8(input).map_err(malformed)?
        };
        if !left.is_empty() {
            return Err(WireError::MalformedOptionalParameters);
        }
        while !parameters.is_empty() {
            let (rest, (kind, mut value)) = if extended {
                type_extended_length_value(parameters).map_err(malformed)?
            } else {
                type_length_value(parameters).map_err(malformed)?
            };
            parameters = rest;
            if kind != CAPABILITIES {
                return Err(WireError::UnsupportedOptionalParameter(kind));
            }
            while !value.is_empty() {
                let (rest, (code, content)) = type_length_value(value).map_err(malformed)?;
                value = rest;
                self.capabilities.push(Capability::read(code, content)?);
            }
        }
        Ok(())
    }

    /// Writes the body; capabilities that no longer fit into 4,096 octets are left out.
    pub(super) fn write(&self, out: &mut BytesMut) {
        let most = super::MAX_MESSAGE.saturating_sub(super::HEADER + 16);
        let mut capabilities = BytesMut::new();
        for capability in &self.capabilities {
            let before = capabilities.len();
            capability.write(&mut capabilities);
            if capabilities.len() > most {
                capabilities.truncate(before);
            }
        }
        out.put_u8(VERSION);
        out.put_u16(u16::try_from(self.asn).unwrap_or(AS_TRANS));
        out.put_u16(self.hold_time);
        out.put_slice(&self.id.octets());
        let total = capabilities.len();
        match (u8::try_from(total.saturating_add(2)), u8::try_from(total)) {
            (Ok(_), Ok(0)) => out.put_u8(0),
            (Ok(parameters), Ok(value)) if parameters != EXTENDED => {
                out.put_slice(&[parameters, CAPABILITIES, value]);
            }
            _ => {
                out.put_slice(&[EXTENDED, EXTENDED]);
                put_u16(out, total.saturating_add(3));
                out.put_u8(CAPABILITIES);
                put_u16(out, total);
            }
        }
        out.put_slice(&capabilities);
    }
}

/// A length that was kept below 4,096.
fn put_u16(out: &mut BytesMut, length: usize) {
    out.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
}
