//! Keys that sign TCP segments. None of them has a shown form: logs and dumps cannot hold one.

use std::sync::Arc;

/// What TCP segments are signed with, and the other side's have to be.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// Nothing.
    None,
    /// The TCP MD5 signature option (RFC 2385) with this key.
    Key(Md5Key),
    /// The TCP Authentication Option (RFC 5925) with these keys, at least one; the first is the one we ask the other side
    /// for, and sign with until it asks for another.
    Ao(Arc<[AoKey]>),
    /// It should have one but we do not have it: the session is held down, and this says why.
    Missing(String),
}

/// A key, and during a roll the one before it. New connections are signed with the current one; where nobody answers to it, we
/// dial with the previous one too. A connection that is signed with either goes on so.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Key {
    /// 1–80 octets. Never logged.
    pub current: Box<[u8]>,
    /// What others may still sign with.
    pub previous: Option<Box<[u8]>>,
}

impl Md5Key {
    /// Whether it is one of the two.
    pub(crate) fn knows(&self, key: &[u8]) -> bool {
        *self.current == *key || self.previous.as_deref() == Some(key)
    }
}

impl From<&[u8]> for Md5Key {
    fn from(key: &[u8]) -> Self {
        Self {
            current: key.into(),
            previous: None,
        }
    }
}

impl std::fmt::Debug for Md5Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.previous {
            None => "Key(…)",
            Some(_) => "Key(…, …)",
        })
    }
}

impl Password {
    /// What a connection that somebody else opened is signed with by now, and the first attempt at one of ours.
    pub(crate) fn keys(&self) -> Option<Keys> {
        match self {
            Self::None | Self::Missing(_) => None,
            Self::Key(key) => Some(Keys::Md5(key.current.clone())),
            Self::Ao(keys) => Some(Keys::Ao(Arc::clone(keys))),
        }
    }

    /// What we sign an attempt with: where there is a previous key, every second one with that.
    pub(crate) fn keys_of_attempt(&self, attempt: u32) -> Option<Keys> {
        match self {
            Self::Key(Md5Key {
                previous: Some(previous),
                ..
            }) if attempt % 2 == 1 => Some(Keys::Md5(previous.clone())),
            password => password.keys(),
        }
    }
}

/// What a connection is signed with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Keys {
    /// One key.
    Md5(Box<[u8]>),
    /// As [`Password::Ao`].
    Ao(Arc<[AoKey]>),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Key(key) => key.fmt(f),
            Self::Ao(keys) => f.debug_tuple("Ao").field(keys).finish(),
            Self::Missing(why) => f.debug_tuple("Missing").field(why).finish(),
        }
    }
}

/// A key of the TCP Authentication Option: a Master Key Tuple (RFC 5925 §3.1) without its connection.
#[derive(Clone, PartialEq, Eq)]
pub struct AoKey {
    /// KeyID of what we sign with it. No two keys of a peer share one.
    pub send_id: u8,
    /// KeyID of what the other side signs with it. No two keys of a peer share one.
    pub receive_id: u8,
    /// How.
    pub algorithm: Algorithm,
    /// 1–80 octets. Never logged.
    pub secret: Box<[u8]>,
}

impl std::fmt::Debug for AoKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (send, receive, algorithm) = (self.send_id, self.receive_id, self.algorithm);
        write!(f, "{algorithm} (send {send}, receive {receive}, …)")
    }
}

/// MAC and key derivation of the TCP Authentication Option (RFC 5926), always with a MAC of 96 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC-SHA-1-96 (RFC 5926 §3.2.1).
    HmacSha1,
    /// AES-128-CMAC-96 (RFC 5926 §3.2.2).
    AesCmac,
    /// HMAC-SHA-256, of which no RFC speaks; Linux and some routers have it.
    HmacSha256,
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::HmacSha1 => "HMAC-SHA-1-96",
            Self::AesCmac => "AES-128-CMAC-96",
            Self::HmacSha256 => "HMAC-SHA-256-96",
        })
    }
}
