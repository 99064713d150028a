//! Messages as octets, as right or as wrong as a story wants them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{HEADER, kind};

/// A message with a true length; the body may be anything.
#[must_use]
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    let length = u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX);
    octets.extend(length.to_be_bytes());
    octets.push(kind);
    octets.extend(body);
    octets
}

/// KEEPALIVE.
#[must_use]
pub fn keepalive() -> Vec<u8> {
    message(kind::KEEPALIVE, &[])
}

/// NOTIFICATION.
#[must_use]
pub fn notification(code: u8, subcode: u8, data: &[u8]) -> Vec<u8> {
    let mut body = vec![code, subcode];
    body.extend(data);
    message(kind::NOTIFICATION, &body)
}

/// ROUTE-REFRESH for one family (RFC 2918 §3).
#[must_use]
pub fn refresh(afi: u16, safi: u8) -> Vec<u8> {
    let [high, low] = afi.to_be_bytes();
    message(kind::REFRESH, &[high, low, 0, safi])
}

/// One capability (RFC 5492 §4).
#[must_use]
pub fn capability(code: u8, value: &[u8]) -> Vec<u8> {
    let mut octets = vec![code, value.len() as u8];
    octets.extend(value);
    octets
}

/// An OPEN: by default both families, route refresh and four-octet AS numbers, hold time 90 s.
#[derive(Debug, Clone)]
pub struct Open {
    /// Protocol version.
    pub version: u8,
    /// AS number; more than 65,535 shows as AS_TRANS.
    pub asn: u32,
    /// Hold time, seconds.
    pub hold: u16,
    /// BGP Identifier.
    pub id: Ipv4Addr,
    /// The optional parameters with their length octet, as they go out.
    pub parameters: Vec<u8>,
}

impl Open {
    /// Of AS `asn`.
    #[must_use]
    pub fn of(asn: u32, id: Ipv4Addr) -> Self {
        let capabilities = [
            capability(1, &[0, 1, 0, 1]),
            capability(1, &[0, 2, 0, 1]),
            capability(2, &[]),
            capability(65, &asn.to_be_bytes()),
        ]
        .concat();
        Self {
            version: 4,
            asn,
            hold: 90,
            id,
            parameters: Self::parameters(&capabilities),
        }
    }

    /// One optional parameter that holds all `capabilities`, with the length before it.
    #[must_use]
    pub fn parameters(capabilities: &[u8]) -> Vec<u8> {
        let length = capabilities.len() as u8;
        let mut octets = vec![length.wrapping_add(2), 2, length];
        octets.extend(capabilities);
        octets
    }

    /// As a message.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let mut body = vec![self.version];
        body.extend(u16::try_from(self.asn).unwrap_or(23_456).to_be_bytes());
        body.extend(self.hold.to_be_bytes());
        body.extend(self.id.octets());
        body.extend(&self.parameters);
        message(kind::OPEN, &body)
    }
}

/// One path attribute (RFC 4271 §4.3); the extended length is set where it is needed.
#[must_use]
pub fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let mut octets = match u8::try_from(value.len()) {
        Ok(length) => vec![flags, code, length],
        Err(_) => {
            let [high, low] = (value.len() as u16).to_be_bytes();
            vec![flags | 0x10, code, high, low]
        }
    };
    octets.extend(value);
    octets
}

/// MP_REACH_NLRI (RFC 4760 §3).
#[must_use]
pub fn mp_reach(afi: u16, safi: u8, next_hop: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut value = afi.to_be_bytes().to_vec();
    value.extend([safi, next_hop.len() as u8]);
    value.extend(next_hop);
    value.push(0);
    value.extend(nlri);
    attribute(0x80, 14, &value)
}

/// MP_UNREACH_NLRI (RFC 4760 §4).
#[must_use]
pub fn mp_unreach(afi: u16, safi: u8, nlri: &[u8]) -> Vec<u8> {
    let mut value = afi.to_be_bytes().to_vec();
    value.push(safi);
    value.extend(nlri);
    attribute(0x80, 15, &value)
}

/// A prefix as in NLRI (RFC 4271 §4.3).
#[must_use]
pub fn nlri(address: IpAddr, length: u8) -> Vec<u8> {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let mut all = vec![length];
    all.extend(octets.iter().take(usize::from(length.div_ceil(8))));
    all
}

/// An UPDATE in its parts.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// Withdrawn IPv4 prefixes.
    pub withdrawn: Vec<u8>,
    /// Path attributes.
    pub attributes: Vec<u8>,
    /// Announced IPv4 prefixes.
    pub nlri: Vec<u8>,
}

impl Update {
    /// What makes a route complete but for its prefixes: ORIGIN IGP, AS_PATH of four-octet numbers, NEXT_HOP.
    #[must_use]
    pub fn announcing(path: &[u32], next_hop: Ipv4Addr) -> Self {
        Self {
            attributes: [
                Self::origin(),
                Self::as_path(path),
                attribute(0x40, 3, &next_hop.octets()),
            ]
            .concat(),
            ..Self::default()
        }
    }

    /// The same for IPv6 prefixes, given as NLRI.
    #[must_use]
    pub fn announcing6(path: &[u32], next_hop: Ipv6Addr, prefixes: &[u8]) -> Self {
        Self {
            attributes: [
                mp_reach(2, 1, &next_hop.octets(), prefixes),
                Self::origin(),
                Self::as_path(path),
            ]
            .concat(),
            ..Self::default()
        }
    }

    /// ORIGIN IGP.
    #[must_use]
    pub fn origin() -> Vec<u8> {
        attribute(0x40, 1, &[0])
    }

    /// AS_PATH: one AS_SEQUENCE of four-octet numbers, or nothing.
    #[must_use]
    pub fn as_path(path: &[u32]) -> Vec<u8> {
        let mut value = Vec::new();
        if !path.is_empty() {
            value.extend([2, path.len() as u8]);
            value.extend(path.iter().flat_map(|asn| asn.to_be_bytes()));
        }
        attribute(0x40, 2, &value)
    }

    /// With one attribute more.
    #[must_use]
    pub fn with(mut self, attribute: &[u8]) -> Self {
        self.attributes.extend(attribute);
        self
    }

    /// With standard communities.
    #[must_use]
    pub fn communities(self, communities: &[(u16, u16)]) -> Self {
        let value: Vec<u8> = communities
            .iter()
            .flat_map(|(high, low)| [high.to_be_bytes(), low.to_be_bytes()].concat())
            .collect();
        self.with(&attribute(0xc0, 8, &value))
    }

    /// With more announced IPv4 prefixes, as NLRI.
    #[must_use]
    pub fn prefixes(mut self, nlri: &[u8]) -> Self {
        self.nlri.extend(nlri);
        self
    }

    /// With more withdrawn IPv4 prefixes, as NLRI.
    #[must_use]
    pub fn withdrawing(mut self, nlri: &[u8]) -> Self {
        self.withdrawn.extend(nlri);
        self
    }

    /// As a message.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let mut body = (self.withdrawn.len() as u16).to_be_bytes().to_vec();
        body.extend(&self.withdrawn);
        body.extend((self.attributes.len() as u16).to_be_bytes());
        body.extend(&self.attributes);
        body.extend(&self.nlri);
        message(kind::UPDATE, &body)
    }
}
