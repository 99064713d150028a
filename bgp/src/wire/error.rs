//! What ends a session because of what the peer sent, and the NOTIFICATION each becomes (RFC 4271 §6).

use bytes::Bytes;

use super::Notification;

/// An error of the peer that ends the session. What RFC 7606 lets a session survive is a [`super::update::Fault`] instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// RFC 4271 §6.1.
    #[error("the marker of a message is not all ones (RFC 4271 §6.1)")]
    MarkerNotAllOnes,
    /// RFC 4271 §6.1, RFC 8654 §4: shorter or longer than any message of its type may be.
    #[error("a message claims a length of {0} octets (RFC 4271 §6.1)")]
    BadMessageLength(u16),
    /// RFC 4271 §6.1.
    #[error("a message has the unknown type {0} (RFC 4271 §6.1)")]
    BadMessageType(u8),
    /// RFC 4271 §6.2.
    #[error("they speak BGP version {0}, we speak 4 (RFC 4271 §6.2)")]
    UnsupportedVersion(u8),
    /// RFC 4271 §6.2, RFC 7607 §2.
    #[error("their OPEN carries AS 0 (RFC 7607 §2)")]
    AsZero,
    /// RFC 6286 §2.2.
    #[error("their OPEN carries BGP Identifier 0.0.0.0 (RFC 6286 §2.2)")]
    BadIdentifier,
    /// RFC 4271 §6.2.
    #[error("their OPEN proposes a hold time of {0} s, neither 0 nor at least 3 (RFC 4271 §6.2)")]
    UnacceptableHoldTime(u16),
    /// RFC 4271 §6.2.
    #[error(
        "their OPEN has an optional parameter of type {0}, which is not Capabilities (RFC 4271 §6.2)"
    )]
    UnsupportedOptionalParameter(u8),
    /// RFC 4271 §6.2: the lengths of the optional parameters do not add up.
    #[error("the optional parameters of their OPEN are malformed (RFC 4271 §6.2)")]
    MalformedOptionalParameters,
    /// RFC 5492 §4: a capability we know has a value of impossible length.
    #[error("capability {0} of their OPEN is malformed (RFC 5492 §4)")]
    MalformedCapability(u8),
    /// RFC 4271 §6.3, RFC 7606 §3 a: Withdrawn Routes Length or Total Attribute Length does not fit the message.
    #[error("the length fields of an UPDATE do not fit its length (RFC 4271 §6.3)")]
    MalformedAttributeList,
    /// RFC 7606 §3 g.
    #[error("an UPDATE has {0} twice (RFC 7606 §3 g)")]
    DuplicateMultiprotocol(&'static str),
    /// RFC 4271 §6.3: the attribute is not optional and we do not know it.
    #[error("an UPDATE has the unknown well-known attribute {code} (RFC 4271 §6.3)")]
    UnrecognizedWellKnown {
        /// Its type code.
        code: u8,
        /// All of it.
        attribute: Bytes,
    },
    /// RFC 7606 §7.11, §5.3, RFC 4760 §7: MP_REACH_NLRI or MP_UNREACH_NLRI whose prefixes cannot be told.
    #[error("{name} is malformed: {why} (RFC 7606 §{section})")]
    MalformedMultiprotocol {
        /// Its name.
        name: &'static str,
        /// In words.
        why: &'static str,
        /// Of RFC 7606.
        section: &'static str,
        /// All of it.
        attribute: Bytes,
    },
    /// RFC 4271 §6.3, RFC 7606 §5.3: prefixes that cannot be told from each other.
    #[error(
        "the {0} of an UPDATE are malformed: a prefix is too long or cut short (RFC 7606 §5.3)"
    )]
    InvalidNetworkField(&'static str),
    /// RFC 7606 §5.2: an attribute is malformed and no prefix was found that could be withdrawn instead.
    #[error("{reason}, in an UPDATE without reachable prefixes (RFC 7606 §5.2)")]
    MalformedWithoutNlri {
        /// The fault.
        reason: String,
        /// Error subcode of RFC 4271 §6.3.
        subcode: u8,
        /// What the subcode wants as data.
        data: Bytes,
    },
    /// RFC 7313 §5.
    #[error("a ROUTE-REFRESH has {} octets (RFC 7313 §5)", .0.len())]
    RefreshLength(Bytes),
}

impl WireError {
    /// What the peer is told.
    #[must_use]
    pub fn notification(&self) -> Notification {
        use Notification as N;
        match self {
            Self::MarkerNotAllOnes => N::new(N::MESSAGE_HEADER_ERROR, 1),
            Self::BadMessageLength(length) => {
                N::with_data(N::MESSAGE_HEADER_ERROR, 2, length.to_be_bytes().to_vec())
            }
            Self::BadMessageType(kind) => N::with_data(N::MESSAGE_HEADER_ERROR, 3, vec![*kind]),
            Self::UnsupportedVersion(_) => N::unsupported_version(),
            Self::AsZero => N::bad_peer_as(),
            Self::BadIdentifier => N::bad_bgp_identifier(),
            Self::UnacceptableHoldTime(_) => N::unacceptable_hold_time(),
            Self::UnsupportedOptionalParameter(_) => N::new(N::OPEN_MESSAGE_ERROR, 4),
            Self::MalformedOptionalParameters | Self::MalformedCapability(_) => {
                N::new(N::OPEN_MESSAGE_ERROR, 0)
            }
            Self::MalformedAttributeList | Self::DuplicateMultiprotocol(_) => {
                N::new(N::UPDATE_MESSAGE_ERROR, 1)
            }
            Self::UnrecognizedWellKnown { attribute, .. } => {
                N::with_data(N::UPDATE_MESSAGE_ERROR, 2, attribute.clone())
            }
            Self::MalformedMultiprotocol { attribute, .. } => {
                N::with_data(N::UPDATE_MESSAGE_ERROR, 9, attribute.clone())
            }
            Self::InvalidNetworkField(_) => N::new(N::UPDATE_MESSAGE_ERROR, 10),
            Self::MalformedWithoutNlri { subcode, data, .. } => {
                N::with_data(N::UPDATE_MESSAGE_ERROR, *subcode, data.clone())
            }
            Self::RefreshLength(message) => {
                N::with_data(N::ROUTE_REFRESH_ERROR, 1, message.clone())
            }
        }
    }
}

impl From<WireError> for Notification {
    fn from(error: WireError) -> Self {
        error.notification()
    }
}
