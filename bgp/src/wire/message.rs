//! Framing: from a stream of octets to whole messages, and back (RFC 4271 §4.1, §6.1, RFC 8654 §4).

use bytes::{Buf, BytesMut};

use super::{
    Context, HEADER, Kind, MAX_EXTENDED_MESSAGE, MAX_MESSAGE, Message, Notification, Open,
    RouteRefresh, Update, WireError,
    update::{Unsendable, write::message},
};

impl Kind {
    /// The kind of this type octet.
    #[must_use]
    pub const fn from_octet(octet: u8) -> Option<Self> {
        Some(match octet {
            1 => Self::Open,
            2 => Self::Update,
            3 => Self::Notification,
            4 => Self::Keepalive,
            5 => Self::RouteRefresh,
            _ => return None,
        })
    }

    /// The shortest and the longest it can be, in octets.
    const fn lengths(self, limit: Limit) -> (usize, usize) {
        let longest = match limit {
            Limit::Standard => MAX_MESSAGE,
            Limit::Extended => MAX_EXTENDED_MESSAGE,
        };
        match self {
            Self::Open => (29, MAX_MESSAGE),
            Self::Update => (23, longest),
            Self::Notification => (21, longest),
            Self::Keepalive => (HEADER, HEADER),
            Self::RouteRefresh => (23, longest),
        }
    }
}

/// How long messages from the peer may be. Whoever *offered* extended messages must take them, whatever the peer offered
/// (RFC 8654 §4); to send them, [`Context::extended_message`] must say that the peer offered it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// 4,096 octets.
    #[default]
    Standard,
    /// 65,535 octets.
    Extended,
}

/// One whole message, still octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    kind: Kind,
    octets: &'a [u8],
}

/// The message at the front of `buffer`; `None`: more octets are needed. Nothing is looked at beyond it, and a wrong header
/// is an error as soon as its octets are there.
pub fn frame(buffer: &[u8], limit: Limit) -> Result<Option<Frame<'_>>, WireError> {
    let marker = buffer.get(..16).unwrap_or(buffer);
    if marker.iter().any(|octet| *octet != 0xff) {
        return Err(WireError::MarkerNotAllOnes);
    }
    let Some((_, &[high, low, kind])) = buffer.get(..HEADER).and_then(<[u8]>::split_last_chunk)
    else {
        return Ok(None);
    };
    let length = u16::from_be_bytes([high, low]);
    let octets = usize::from(length);
    if octets < HEADER {
        return Err(WireError::BadMessageLength(length));
    }
    let kind = Kind::from_octet(kind).ok_or(WireError::BadMessageType(kind))?;
    let (shortest, longest) = kind.lengths(limit);
    if octets < shortest || octets > longest {
        return Err(WireError::BadMessageLength(length));
    }
    Ok(buffer.get(..octets).map(|octets| Frame { kind, octets }))
}

impl<'a> Frame<'a> {
    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// All of it, header and body.
    #[must_use]
    pub const fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// What it says. `None`: something that is to be ignored, such as a refresh of a family we do not know.
    pub fn message(&self, context: &Context) -> Result<Option<Message>, WireError> {
        let body = self.octets.get(HEADER..).unwrap_or_default();
        Ok(match self.kind {
            Kind::Open => Some(Message::Open(Open::read(body)?)),
            Kind::Update => Some(Message::Update(Update::read(body, context)?)),
            Kind::Notification => Notification::read(body).map(Message::Notification),
            Kind::Keepalive => Some(Message::Keepalive),
            Kind::RouteRefresh => RouteRefresh::read(self.octets)?.map(Message::RouteRefresh),
        })
    }
}

impl Message {
    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Open(_) => Kind::Open,
            Self::Update(_) => Kind::Update,
            Self::Notification(_) => Kind::Notification,
            Self::Keepalive => Kind::Keepalive,
            Self::RouteRefresh(_) => Kind::RouteRefresh,
        }
    }

    /// The next message of the stream in `buffer`, which is taken off; `None`: more octets are needed. What is to be ignored
    /// is passed over.
    pub fn take(
        buffer: &mut BytesMut,
        limit: Limit,
        context: &Context,
    ) -> Result<Option<Self>, WireError> {
        while let Some(frame) = frame(buffer, limit)? {
            let message = frame.message(context)?;
            let length = frame.octets.len();
            buffer.advance(length);
            if message.is_some() {
                return Ok(message);
            }
        }
        Ok(None)
    }

    /// Appends it; an UPDATE becomes as many messages as it takes (see [`super::update::announce`]). Returns how many
    /// messages. Only an UPDATE can fail.
    pub fn write(&self, context: &Context, out: &mut BytesMut) -> Result<usize, Unsendable> {
        match self {
            Self::Update(update) => return update.write(context, out),
            Self::Open(open) => message(Kind::Open, out, |out| open.write(out)),
            Self::Notification(notification) => {
                message(Kind::Notification, out, |out| notification.write(out));
            }
            Self::Keepalive => message(Kind::Keepalive, out, |_| {}),
            Self::RouteRefresh(refresh) => {
                message(Kind::RouteRefresh, out, |out| refresh.write(out));
            }
        }
        Ok(1)
    }
}
