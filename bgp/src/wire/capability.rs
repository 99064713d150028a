//! Capabilities: what a speaker offers (RFC 5492).

use std::fmt;

use bytes::Bytes;

use crate::prefix::Family;

mod codec;

/// One capability of an OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Multiprotocol, code 1 (RFC 4760 §8); other AFI/SAFI pairs are [`Capability::Unknown`].
    Multiprotocol(Family),
    /// Route refresh, code 2 (RFC 2918).
    RouteRefresh,
    /// Extended next hop encoding, code 5 (RFC 8950): families whose next hop may be IPv6.
    ExtendedNextHop(Vec<Family>),
    /// Extended message, code 6 (RFC 8654).
    ExtendedMessage,
    /// Graceful restart, code 64 (RFC 4724, RFC 8538).
    GracefulRestart(GracefulRestart),
    /// Four-octet AS number, code 65 (RFC 6793).
    FourOctetAs(u32),
    /// Add-path, code 69 (RFC 7911).
    AddPath(Vec<(Family, AddPathMode)>),
    /// Enhanced route refresh, code 70 (RFC 7313).
    EnhancedRouteRefresh,
    /// Long-lived graceful restart, code 71 (RFC 9494): family, F bit, stale time in seconds (24 bits).
    LongLivedGracefulRestart(Vec<(Family, bool, u32)>),
    /// Host and domain name, code 73 (draft-walton-bgp-hostname-capability).
    Fqdn {
        /// Host name.
        host: String,
        /// Domain name, often empty.
        domain: String,
    },
    /// Software version, code 75 (draft-ietf-idr-bgp-software-version).
    SoftwareVersion(String),
    /// Any other, byte for byte.
    Unknown {
        /// Capability code.
        code: u8,
        /// Its value.
        value: Bytes,
    },
}

/// The graceful restart capability (RFC 4724 §3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GracefulRestart {
    /// R bit: the sender has restarted.
    pub restarted: bool,
    /// N bit: NOTIFICATION and hold timer expiry keep routes too (RFC 8538 §2).
    pub notification: bool,
    /// Restart time, in seconds (0–4095).
    pub restart_time: u16,
    /// Families, and whether their forwarding state was preserved (F bit).
    pub families: Vec<(Family, bool)>,
}

/// What a speaker is willing to do with path identifiers (RFC 7911 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddPathMode {
    /// 1: receive several paths.
    Receive,
    /// 2: send several paths.
    Send,
    /// 3: both.
    Both,
}

impl AddPathMode {
    /// Whether its sender takes several paths.
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::Receive | Self::Both)
    }

    /// Whether its sender sends several paths.
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::Send | Self::Both)
    }
}

impl Capability {
    /// Its code in the registry "Capability Codes".
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol(_) => 1,
            Self::RouteRefresh => 2,
            Self::ExtendedNextHop(_) => 5,
            Self::ExtendedMessage => 6,
            Self::GracefulRestart(_) => 64,
            Self::FourOctetAs(_) => 65,
            Self::AddPath(_) => 69,
            Self::EnhancedRouteRefresh => 70,
            Self::LongLivedGracefulRestart(_) => 71,
            Self::Fqdn { .. } => 73,
            Self::SoftwareVersion(_) => 75,
            Self::Unknown { code, .. } => *code,
        }
    }
}

impl fmt::Display for Capability {
    /// Its name, without what it holds except the family: `multiprotocol IPv4`, `graceful restart`, `capability 9`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Multiprotocol(family) => return write!(f, "multiprotocol {family}"),
            Self::RouteRefresh => "route refresh",
            Self::ExtendedNextHop(_) => "extended next hop",
            Self::ExtendedMessage => "extended message",
            Self::GracefulRestart(_) => "graceful restart",
            Self::FourOctetAs(_) => "four-octet AS",
            Self::AddPath(_) => "add-path",
            Self::EnhancedRouteRefresh => "enhanced route refresh",
            Self::LongLivedGracefulRestart(_) => "long-lived graceful restart",
            Self::Fqdn { .. } => "host name",
            Self::SoftwareVersion(_) => "software version",
            Self::Unknown { code, value } => {
                return match (code, &**value) {
                    (1, [afi, afi_low, _, safi]) => {
                        let afi = u16::from_be_bytes([*afi, *afi_low]);
                        write!(f, "multiprotocol AFI {afi} SAFI {safi}")
                    }
                    (9, [role]) => write!(f, "role {role}"),
                    _ => write!(f, "capability {code}"),
                };
            }
        })
    }
}
