//! NOTIFICATION: why a session ends (RFC 4271 §4.5, §6; RFC 4486, 6608, 8538, 9003, 9384, 9687).

use bytes::{BufMut, Bytes, BytesMut};

use super::{Capability, Kind};
use crate::{prefix::Family, status::SessionState};

mod words;

pub(in crate::wire) use words::is_unfit;

/// A NOTIFICATION message: code, subcode, data. `Display` says it in words: `Cease/Administrative Shutdown: maintenance`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode; 0 is unspecific.
    pub subcode: u8,
    /// Data, as the code and subcode demand.
    pub data: Bytes,
}

/// The subcodes of Cease (RFC 4486 §3, RFC 8538 §3.1, RFC 9384 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cease {
    /// More prefixes than allowed; better [`Notification::max_prefixes`].
    MaximumPrefixes = 1,
    /// Better [`Notification::administrative_shutdown`].
    AdministrativeShutdown = 2,
    /// The peer is no longer configured.
    PeerDeconfigured = 3,
    /// Better [`Notification::administrative_reset`].
    AdministrativeReset = 4,
    /// We do not want this connection.
    ConnectionRejected = 5,
    /// The configuration changed in a way that needs a new session.
    OtherConfigurationChange = 6,
    /// The other connection of the two survived (RFC 4271 §6.8).
    ConnectionCollisionResolution = 7,
    /// We have no memory left.
    OutOfResources = 8,
    /// Better [`Notification::hard_reset`].
    HardReset = 9,
    /// BFD says the path is dead.
    BfdDown = 10,
}

impl Notification {
    /// Code 1.
    pub const MESSAGE_HEADER_ERROR: u8 = 1;
    /// Code 2.
    pub const OPEN_MESSAGE_ERROR: u8 = 2;
    /// Code 3.
    pub const UPDATE_MESSAGE_ERROR: u8 = 3;
    /// Code 4.
    pub const HOLD_TIMER_EXPIRED: u8 = 4;
    /// Code 5.
    pub const FSM_ERROR: u8 = 5;
    /// Code 6.
    pub const CEASE: u8 = 6;
    /// Code 7 (RFC 7313 §5).
    pub const ROUTE_REFRESH_ERROR: u8 = 7;
    /// Code 8 (RFC 9687 §6).
    pub const SEND_HOLD_TIMER_EXPIRED: u8 = 8;

    /// Longest shutdown communication, in octets (RFC 9003 §2).
    pub const LONGEST_COMMUNICATION: usize = 255;

    /// One without data.
    #[must_use]
    pub const fn new(code: u8, subcode: u8) -> Self {
        Self {
            code,
            subcode,
            data: Bytes::new(),
        }
    }

    /// One with data.
    #[must_use]
    pub fn with_data(code: u8, subcode: u8, data: impl Into<Bytes>) -> Self {
        Self {
            code,
            subcode,
            data: data.into(),
        }
    }

    /// 2/1: we speak version 4 only, and the data says so (RFC 4271 §6.2).
    #[must_use]
    pub fn unsupported_version() -> Self {
        Self::with_data(Self::OPEN_MESSAGE_ERROR, 1, Bytes::from_static(&[0, 4]))
    }

    /// 2/2: the OPEN carries another AS number than configured, or 0 (RFC 4271 §6.2, RFC 7607).
    #[must_use]
    pub const fn bad_peer_as() -> Self {
        Self::new(Self::OPEN_MESSAGE_ERROR, 2)
    }

    /// 2/3: 0, or our own within our AS (RFC 6286 §2.2).
    #[must_use]
    pub const fn bad_bgp_identifier() -> Self {
        Self::new(Self::OPEN_MESSAGE_ERROR, 3)
    }

    /// 2/6: a hold time we do not accept (RFC 4271 §6.2).
    #[must_use]
    pub const fn unacceptable_hold_time() -> Self {
        Self::new(Self::OPEN_MESSAGE_ERROR, 6)
    }

    /// 2/7: we cannot do without these; the data lists them as in an OPEN (RFC 5492 §5).
    #[must_use]
    pub fn unsupported_capability(missing: &[Capability]) -> Self {
        let mut data = BytesMut::new();
        for capability in missing {
            capability.write(&mut data);
        }
        Self::with_data(Self::OPEN_MESSAGE_ERROR, 7, data)
    }

    /// 4/0 (RFC 4271 §6.5).
    #[must_use]
    pub const fn hold_timer_expired() -> Self {
        Self::new(Self::HOLD_TIMER_EXPIRED, 0)
    }

    /// 5/1–3: something came that this state does not allow (RFC 6608 §3); 5/0 in states the RFC has no subcode for.
    #[must_use]
    pub const fn fsm_error(state: SessionState) -> Self {
        let subcode = match state {
            SessionState::OpenSent => 1,
            SessionState::OpenConfirm => 2,
            SessionState::Established => 3,
            SessionState::Idle | SessionState::Connect | SessionState::Active => 0,
        };
        Self::new(Self::FSM_ERROR, subcode)
    }

    /// As [`Self::fsm_error`], with the type of the unexpected message as data (RFC 6608 §3).
    #[must_use]
    pub fn unexpected_message(kind: Kind, state: SessionState) -> Self {
        Self {
            data: Bytes::copy_from_slice(&[kind as u8]),
            ..Self::fsm_error(state)
        }
    }

    /// 6/x without data.
    #[must_use]
    pub const fn cease(why: Cease) -> Self {
        Self::new(Self::CEASE, why as u8)
    }

    /// 6/1 with the family and the limit as data (RFC 4486 §4).
    #[must_use]
    pub fn max_prefixes(family: Family, limit: u32) -> Self {
        let mut data = BytesMut::with_capacity(7);
        data.put_u16(family.afi());
        data.put_u8(family.safi());
        data.put_u32(limit);
        Self::with_data(Self::CEASE, Cease::MaximumPrefixes as u8, data)
    }

    /// 6/2 with this message (RFC 9003), cut after 255 octets; an empty one is left out.
    #[must_use]
    pub fn administrative_shutdown(communication: &str) -> Self {
        Self::with_communication(Cease::AdministrativeShutdown, communication)
    }

    /// 6/4 with this message (RFC 9003), cut after 255 octets; an empty one is left out.
    #[must_use]
    pub fn administrative_reset(communication: &str) -> Self {
        Self::with_communication(Cease::AdministrativeReset, communication)
    }

    fn with_communication(why: Cease, communication: &str) -> Self {
        let mut end = communication.len().min(Self::LONGEST_COMMUNICATION);
        while !communication.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let text = communication.get(..end).unwrap_or_default();
        let Ok(length) = u8::try_from(text.len()) else {
            return Self::cease(why);
        };
        if text.is_empty() {
            return Self::cease(why);
        }
        let mut data = BytesMut::with_capacity(text.len().saturating_add(1));
        data.put_u8(length);
        data.put_slice(text.as_bytes());
        Self::with_data(Self::CEASE, why as u8, data)
    }

    /// 6/9 around another one: end the session for good, whatever graceful restart would keep (RFC 8538 §3.1).
    #[must_use]
    pub fn hard_reset(inner: &Self) -> Self {
        let mut data = BytesMut::with_capacity(inner.data.len().saturating_add(2));
        data.put_u8(inner.code);
        data.put_u8(inner.subcode);
        data.put_slice(&inner.data);
        Self::with_data(Self::CEASE, Cease::HardReset as u8, data)
    }

    /// 8/0: the peer took nothing from us for too long (RFC 9687 §6).
    #[must_use]
    pub const fn send_hold_timer_expired() -> Self {
        Self::new(Self::SEND_HOLD_TIMER_EXPIRED, 0)
    }

    /// Whether it is a Cease.
    #[must_use]
    pub const fn is_cease(&self) -> bool {
        self.code == Self::CEASE
    }

    /// Whether it closes one of two connections in favour of the other (RFC 4271 §6.8).
    #[must_use]
    pub const fn is_collision_resolution(&self) -> bool {
        self.is_cease() && self.subcode == Cease::ConnectionCollisionResolution as u8
    }

    /// Whether it is a Hard Reset (RFC 8538 §3.1).
    #[must_use]
    pub const fn is_hard_reset(&self) -> bool {
        self.is_cease() && self.subcode == Cease::HardReset as u8
    }

    /// What a Hard Reset carries inside, if it carries something.
    #[must_use]
    pub fn inner(&self) -> Option<Self> {
        match &*self.data {
            [code, subcode, ..] if self.is_hard_reset() => Some(Self {
                code: *code,
                subcode: *subcode,
                data: self.data.slice(2..),
            }),
            _ => None,
        }
    }

    /// The shutdown communication of an administrative shutdown or reset (also inside a Hard Reset), fit for a terminal and
    /// a log line: invalid UTF-8 replaced, control characters left out (RFC 9003 §2, §6). `None` where there is none.
    #[must_use]
    pub fn communication(&self) -> Option<String> {
        if let Some(inner) = self.inner() {
            // One level only: a Hard Reset in a Hard Reset says nothing.
            return if inner.is_hard_reset() {
                None
            } else {
                inner.communication()
            };
        }
        let said = self.is_cease()
            && [
                Cease::AdministrativeShutdown as u8,
                Cease::AdministrativeReset as u8,
            ]
            .contains(&self.subcode);
        let (&length, rest) = self.data.split_first().filter(|_| said)?;
        // A length beyond the data is the sender's fault; what there is of the text is still worth showing.
        let text = rest.get(..usize::from(length)).unwrap_or(rest);
        let text = words::printable(text);
        (!text.is_empty()).then_some(text)
    }

    /// Reads the body of a message; the header has seen to it that code and subcode are there.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        match body {
            [code, subcode, data @ ..] => Some(Self {
                code: *code,
                subcode: *subcode,
                data: Bytes::copy_from_slice(data),
            }),
            _ => None,
        }
    }

    /// Writes the body; data that would not fit into a message is cut (4,096 octets in all, RFC 4271 §4.1).
    pub(super) fn write(&self, out: &mut BytesMut) {
        let most = super::MAX_MESSAGE.saturating_sub(super::HEADER + 2);
        out.put_u8(self.code);
        out.put_u8(self.subcode);
        out.put_slice(self.data.get(..most).unwrap_or(&self.data));
    }
}
