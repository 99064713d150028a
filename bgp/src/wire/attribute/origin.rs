//! ORIGIN: how the first AS came to know the prefix (RFC 4271 §5.1.1).

use std::fmt;

use bytes::BufMut;
use serde::Serialize;

use super::{
    Partial,
    table::{Flags, Malformed, Row, Scope},
};
use crate::wire::update::Treatment;

/// ORIGIN; the lower the better (RFC 4271 §9.1.2.2 b).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Origin {
    /// Interior to the originating AS.
    #[default]
    Igp,
    /// Learned via EGP.
    Egp,
    /// Learned by some other means.
    Incomplete,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Igp => "IGP",
            Self::Egp => "EGP",
            Self::Incomplete => "incomplete",
        })
    }
}

pub(super) const ORIGIN: Row = Row {
    code: 1,
    name: "ORIGIN",
    flags: Flags::WELL_KNOWN,
    if_malformed: Treatment::Withdraw,
    rule: "RFC 7606 §7.1",
    subcode: 6,
    scope: Scope::Any,
    partial: Partial::empty(),
    read: |value, draft| {
        draft.attributes.origin = match value {
            [0] => Origin::Igp,
            [1] => Origin::Egp,
            [2] => Origin::Incomplete,
            [_] => return Err(Malformed::Value("is none of IGP, EGP, INCOMPLETE")),
            _ => return Err(Malformed::Length("1")),
        };
        Ok(())
    },
    write: |attributes, _, out| {
        out.put_u8(match attributes.origin {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        });
        true
    },
};
