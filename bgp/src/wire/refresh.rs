//! ROUTE-REFRESH: "tell me all of it again" (RFC 2918, RFC 7313).

use bytes::{BufMut, Bytes, BytesMut};

use super::WireError;
use crate::prefix::Family;

/// A ROUTE-REFRESH message for one of our families; a refresh of another family is ignored on reading (RFC 2918 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Which family.
    pub family: Family,
    /// What it asks or marks.
    pub kind: RefreshKind,
}

/// The message subtype of RFC 7313 §3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshKind {
    /// 0: please send everything again.
    Request,
    /// 1: what follows is everything (BoRR).
    Begin,
    /// 2: that was everything (EoRR).
    End,
}

impl RouteRefresh {
    /// Reads the whole message. `None`: it means nothing to us (another family, another subtype) and is ignored
    /// (RFC 2918 §4, RFC 7313 §5). Route filters behind a request (RFC 5291) are passed over: we never offered to take any,
    /// and sending more than was asked for is no error.
    pub(super) fn read(message: &[u8]) -> Result<Option<Self>, WireError> {
        let wrong_length = || WireError::RefreshLength(Bytes::copy_from_slice(message));
        let body = message.get(super::HEADER..).unwrap_or_default();
        let [afi, afi_low, subtype, safi, filters @ ..] = body else {
            return Err(wrong_length());
        };
        let kind = match subtype {
            0 => RefreshKind::Request,
            1 => RefreshKind::Begin,
            2 => RefreshKind::End,
            _ => return Ok(None),
        };
        if kind != RefreshKind::Request && !filters.is_empty() {
            return Err(wrong_length());
        }
        let family = Family::from_afi_safi(u16::from_be_bytes([*afi, *afi_low]), *safi);
        Ok(family.map(|family| Self { family, kind }))
    }

    /// Writes the body.
    pub(super) fn write(self, out: &mut BytesMut) {
        out.put_u16(self.family.afi());
        out.put_u8(match self.kind {
            RefreshKind::Request => 0,
            RefreshKind::Begin => 1,
            RefreshKind::End => 2,
        });
        out.put_u8(self.family.safi());
    }
}
