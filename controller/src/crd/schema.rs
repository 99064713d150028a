//! Schemas of values with a grammar of their own, and CEL rules: what the API server checks before an object is stored.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::value::{AsPathText, Asn, Cidr, CommunityText, PeerAsn};

/// CEL rules with their messages, as `x-kubernetes-validations` wants them.
pub(crate) fn cel(rules: &[(&str, &str)]) -> Value {
    rules
        .iter()
        .map(|(rule, message)| json!({"rule": rule, "message": message}))
        .collect()
}

/// Gives a type a schema that stands where it is used.
macro_rules! schema {
    ($type:ty, $name:literal, $schema:expr) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

/// Stands for an IP address.
pub(crate) struct IpText;

schema!(
    IpText,
    "IP",
    json_schema!({
        "type": "string",
        "maxLength": 45,
        "x-kubernetes-validations": cel(&[("isIP(self)", "it is no IP address")]),
    })
);

/// Stands for an IP address that a host can have.
pub(crate) struct HostText;

schema!(
    HostText,
    "HostIP",
    json_schema!({
        "type": "string",
        "maxLength": 45,
        "x-kubernetes-validations": cel(&[
            ("isIP(self)", "it is no IP address"),
            (
                "!isIP(self) || ip(self).isGlobalUnicast() || ip(self).isLoopback() || ip(self).isLinkLocalUnicast()",
                "it is no address of a host",
            ),
        ]),
    })
);

/// Stands for an identifier in the form of an IPv4 address.
pub(crate) struct Ipv4Text;

schema!(
    Ipv4Text,
    "IPv4",
    json_schema!({
        "type": "string",
        "maxLength": 15,
        "x-kubernetes-validations": cel(&[
            ("isIP(self) && ip(self).family() == 4", "it is no number in the form of an IPv4 address"),
            ("self != '0.0.0.0'", "0.0.0.0 is not allowed (RFC 6286): take any other"),
        ]),
    })
);

schema!(
    Cidr,
    "CIDR",
    json_schema!({
        "type": "string",
        "maxLength": 43,
        "x-kubernetes-validations": [
            {"rule": "isCIDR(self)", "message": "it is no CIDR such as 10.244.0.0/16 or fd00:10:244::/48"},
            {
                "rule": "!isCIDR(self) || cidr(self) == cidr(self).masked()",
                "message": "it has bits set beyond its length",
                "messageExpression": "self + ' has bits set beyond its length; write ' + string(cidr(self).masked())",
            },
        ],
    })
);

/// A number up to 65535.
const SHORT: &str =
    "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})";

schema!(
    CommunityText,
    "Community",
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": format!("^({SHORT}:{SHORT}|[0-9]{{1,10}}:[0-9]{{1,10}}:[0-9]{{1,10}}|[A-Za-z]+([-_][A-Za-z]+)*)$"),
    })
);

schema!(
    AsPathText,
    "ASPathRegex",
    json_schema!({
        "type": "string",
        "maxLength": 256,
        // An expression that does not compile is an error of the rule, and so a refusal that says why.
        "x-kubernetes-validations": cel(&[("''.matches(self) in [true, false]", "it is no regular expression")]),
    })
);

schema!(
    PeerAsn,
    "PeerASN",
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "pattern": "^(Internal|External|Any|[1-9][0-9]{0,9})$",
        "minimum": 1,
        "maximum": u32::MAX,
        "maxLength": 10,
    })
);

schema!(
    Asn,
    "ASN",
    json_schema!({
        "type": "integer",
        "format": "int64",
        "minimum": 1,
        "maximum": u32::MAX,
        "x-kubernetes-validations": cel(&[(
            "self != 23456",
            "23456 is AS_TRANS (RFC 6793); take another AS number",
        )]),
    })
);
