//! Keys of the TCP Authentication Option (RFC 5925), as a user writes them.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Verdicts, configuration::SecretKeyRef, schema::cel};

/// The TCP Authentication Option.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "self.keys.all(k, self.keys.exists_one(other, other.sendID == k.sendID))",
        "keys: two have the same sendID",
    ),
    (
        "self.keys.all(k, self.keys.exists_one(other, other.receiveID == k.receiveID))",
        "keys: two have the same receiveID",
    ),
])))]
pub(crate) struct TcpAo {
    /// The keys that may sign, the preferred one first. To roll: a new key as the second on both sides, then as the first, then
    /// without the old one.
    #[schemars(length(min = 1, max = 8))]
    pub(crate) keys: Vec<TcpAoKey>,
}

/// A Master Key Tuple.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpAoKey {
    /// KeyID of what we sign: the peer's receive ID.
    #[serde(rename = "sendID")]
    pub(crate) send_id: u8,
    /// KeyID of what the peer signs: its send ID.
    #[serde(rename = "receiveID")]
    pub(crate) receive_id: u8,
    /// MAC and key derivation (RFC 5926); the MAC has 96 bits.
    pub(crate) algorithm: Algorithm,
    /// The key.
    pub(crate) secret_ref: SecretKeyRef,
}

/// MAC and key derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Algorithm {
    /// HMAC-SHA-1-96.
    #[serde(rename = "HMACSHA1")]
    HmacSha1,
    /// AES-128-CMAC-96.
    #[serde(rename = "AESCMAC")]
    AesCmac,
    /// HMAC-SHA-256, of which no RFC speaks.
    #[serde(rename = "HMACSHA256")]
    HmacSha256,
}

impl From<Algorithm> for bgp::config::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HmacSha1 => Self::HmacSha1,
            Algorithm::AesCmac => Self::AesCmac,
            Algorithm::HmacSha256 => Self::HmacSha256,
        }
    }
}

impl TcpAo {
    /// Some keys, each with IDs of its own.
    pub(crate) fn check(&self, verdicts: &mut Verdicts) {
        verdicts.demand(
            (1..=8).contains(&self.keys.len()),
            "tcpAO.keys",
            "it takes 1 to 8 keys",
        );
        let keys = || self.keys.iter();
        let sent: BTreeSet<u8> = keys().map(|key| key.send_id).collect();
        let received: BTreeSet<u8> = keys().map(|key| key.receive_id).collect();
        for (name, seen) in [("sendID", sent), ("receiveID", received)] {
            verdicts.demand(
                seen.len() == self.keys.len(),
                "tcpAO.keys",
                format!("two have the same {name}"),
            );
        }
        for (index, key) in self.keys.iter().enumerate() {
            let field = format!("tcpAO.keys[{index}].secretRef");
            key.secret_ref.check(&field, verdicts);
        }
    }
}
