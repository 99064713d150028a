//! A NOTIFICATION in words, for status and logs.

use std::fmt;

use super::{Cease, Notification};

impl fmt::Display for Notification {
    /// `Hold Timer Expired`, `Cease/Administrative Shutdown: maintenance`, `UPDATE Message Error/Malformed Attribute List`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match code_name(self.code) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "code {}", self.code)?,
        }
        match subcode_name(self.code, self.subcode) {
            Some(name) => write!(f, "/{name}")?,
            None if self.subcode == 0 => {}
            None => write!(f, "/subcode {}", self.subcode)?,
        }
        if let Some(inner) = self.inner().filter(|inner| !inner.is_hard_reset()) {
            write!(f, " ({inner})")
        } else if let Some(text) = self.communication() {
            write!(f, ": {text}")
        } else {
            self.detail(f)
        }
    }
}

impl Notification {
    /// What the data adds, where its layout is known.
    fn detail(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.subcode, &*self.data) {
            (Self::MESSAGE_HEADER_ERROR, 2, [high, low]) => {
                write!(f, ": length {}", u16::from_be_bytes([*high, *low]))
            }
            (Self::MESSAGE_HEADER_ERROR, 3, [kind]) => write!(f, ": type {kind}"),
            (Self::OPEN_MESSAGE_ERROR, 1, [high, low]) => {
                write!(
                    f,
                    ": they speak version {}",
                    u16::from_be_bytes([*high, *low])
                )
            }
            (Self::OPEN_MESSAGE_ERROR, 7, [code, ..]) => write!(f, ": capability {code}"),
            (Self::UPDATE_MESSAGE_ERROR, 3, [code]) => write!(f, ": attribute {code}"),
            (Self::UPDATE_MESSAGE_ERROR, 2 | 4 | 5 | 9, [_, code, ..]) => {
                write!(f, ": attribute {code}")
            }
            (Self::CEASE, 1, [_, _, _, limit @ ..]) => match <[u8; 4]>::try_from(limit) {
                Ok(limit) => write!(f, ": limit {}", u32::from_be_bytes(limit)),
                Err(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// The registry "BGP Error (Notification) Codes".
fn code_name(code: u8) -> Option<&'static str> {
    Some(match code {
        Notification::MESSAGE_HEADER_ERROR => "Message Header Error",
        Notification::OPEN_MESSAGE_ERROR => "OPEN Message Error",
        Notification::UPDATE_MESSAGE_ERROR => "UPDATE Message Error",
        Notification::HOLD_TIMER_EXPIRED => "Hold Timer Expired",
        Notification::FSM_ERROR => "Finite State Machine Error",
        Notification::CEASE => "Cease",
        Notification::ROUTE_REFRESH_ERROR => "ROUTE-REFRESH Message Error",
        Notification::SEND_HOLD_TIMER_EXPIRED => "Send Hold Timer Expired",
        _ => return None,
    })
}

/// The registries of subcodes; 0 is "unspecific" everywhere and has no name.
fn subcode_name(code: u8, subcode: u8) -> Option<&'static str> {
    Some(match (code, subcode) {
        (Notification::MESSAGE_HEADER_ERROR, 1) => "Connection Not Synchronized",
        (Notification::MESSAGE_HEADER_ERROR, 2) => "Bad Message Length",
        (Notification::MESSAGE_HEADER_ERROR, 3) => "Bad Message Type",
        (Notification::OPEN_MESSAGE_ERROR, 1) => "Unsupported Version Number",
        (Notification::OPEN_MESSAGE_ERROR, 2) => "Bad Peer AS",
        (Notification::OPEN_MESSAGE_ERROR, 3) => "Bad BGP Identifier",
        (Notification::OPEN_MESSAGE_ERROR, 4) => "Unsupported Optional Parameter",
        (Notification::OPEN_MESSAGE_ERROR, 5) => "Authentication Failure",
        (Notification::OPEN_MESSAGE_ERROR, 6) => "Unacceptable Hold Time",
        (Notification::OPEN_MESSAGE_ERROR, 7) => "Unsupported Capability",
        (Notification::OPEN_MESSAGE_ERROR, 11) => "Role Mismatch",
        (Notification::UPDATE_MESSAGE_ERROR, 1) => "Malformed Attribute List",
        (Notification::UPDATE_MESSAGE_ERROR, 2) => "Unrecognized Well-known Attribute",
        (Notification::UPDATE_MESSAGE_ERROR, 3) => "Missing Well-known Attribute",
        (Notification::UPDATE_MESSAGE_ERROR, 4) => "Attribute Flags Error",
        (Notification::UPDATE_MESSAGE_ERROR, 5) => "Attribute Length Error",
        (Notification::UPDATE_MESSAGE_ERROR, 6) => "Invalid ORIGIN Attribute",
        (Notification::UPDATE_MESSAGE_ERROR, 7) => "AS Routing Loop",
        (Notification::UPDATE_MESSAGE_ERROR, 8) => "Invalid NEXT_HOP Attribute",
        (Notification::UPDATE_MESSAGE_ERROR, 9) => "Optional Attribute Error",
        (Notification::UPDATE_MESSAGE_ERROR, 10) => "Invalid Network Field",
        (Notification::UPDATE_MESSAGE_ERROR, 11) => "Malformed AS_PATH",
        (Notification::FSM_ERROR, 1) => "Receive Unexpected Message in OpenSent State",
        (Notification::FSM_ERROR, 2) => "Receive Unexpected Message in OpenConfirm State",
        (Notification::FSM_ERROR, 3) => "Receive Unexpected Message in Established State",
        (Notification::CEASE, subcode) => Cease::from_subcode(subcode)?.name(),
        (Notification::ROUTE_REFRESH_ERROR, 1) => "Invalid Message Length",
        _ => return None,
    })
}

impl Cease {
    /// The Cease of this subcode; `None` for 0 and what is not assigned.
    #[must_use]
    pub const fn from_subcode(subcode: u8) -> Option<Self> {
        Some(match subcode {
            1 => Self::MaximumPrefixes,
            2 => Self::AdministrativeShutdown,
            3 => Self::PeerDeconfigured,
            4 => Self::AdministrativeReset,
            5 => Self::ConnectionRejected,
            6 => Self::OtherConfigurationChange,
            7 => Self::ConnectionCollisionResolution,
            8 => Self::OutOfResources,
            9 => Self::HardReset,
            10 => Self::BfdDown,
            _ => return None,
        })
    }

    /// As in the registry "BGP Cease NOTIFICATION message subcodes".
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MaximumPrefixes => "Maximum Number of Prefixes Reached",
            Self::AdministrativeShutdown => "Administrative Shutdown",
            Self::PeerDeconfigured => "Peer De-configured",
            Self::AdministrativeReset => "Administrative Reset",
            Self::ConnectionRejected => "Connection Rejected",
            Self::OtherConfigurationChange => "Other Configuration Change",
            Self::ConnectionCollisionResolution => "Connection Collision Resolution",
            Self::OutOfResources => "Out of Resources",
            Self::HardReset => "Hard Reset",
            Self::BfdDown => "BFD Down",
        }
    }
}

/// Text of a stranger, fit for a terminal and one log line: no control characters, and none that change the direction of
/// what follows or hide in it.
pub(super) fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .map(|character| {
            if character.is_whitespace() {
                ' '
            } else {
                character
            }
        })
        .filter(|character| !is_unfit(*character))
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Whether a character of a stranger could do more in a terminal than stand there.
pub(in crate::wire) fn is_unfit(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
