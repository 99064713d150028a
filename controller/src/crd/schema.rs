//! Schemas of values with a grammar of their own, and CEL rules: what the API server checks before an object is stored.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::value::{AsPathText, Asn, Cidr, CommunityText, PeerAsn, WELL_KNOWN};

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
        // No messageExpression that says what to write: the API server takes the text of a CIDR for one of any length, and refuses.
        "x-kubernetes-validations": cel(&[
            ("isCIDR(self)", "it is no CIDR such as 10.244.0.0/16 or fd00:10:244::/48"),
            ("!isCIDR(self) || cidr(self) == cidr(self).masked()", "it has bits set beyond its length"),
        ]),
    })
);

/// A number up to 65535.
const SHORT: &str = r"(6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]\d{4}|\d{1,4})";

/// The form of a community: short enough for the cost that the API server allows, whatever the number of communities.
fn is_community() -> String {
    let names = WELL_KNOWN.map(|(name, _)| name.replace('-', "[-_]"));
    let names = names.join("|");
    format!(r"self.matches(r'^({SHORT}:{SHORT}|\d{{1,10}}:\d{{1,10}}:\d{{1,10}}|(?i:{names}))$')")
}

/// What is wrong with something that is no community.
const NO_COMMUNITY: &str = "it is no community: two numbers up to 65535 (65000:100), three up to 4294967295 (65000:1:2) or a well-known name such as no-export";

schema!(
    CommunityText,
    "Community",
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "x-kubernetes-validations": cel(&[
            (is_community().as_str(), NO_COMMUNITY),
            (
                r"!self.matches(r'^\d+:\d+:\d+$') || self.split(':').all(n, int(n) <= 4294967295)",
                NO_COMMUNITY,
            ),
        ]),
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
        "maxLength": 10,
        "x-kubernetes-validations": cel(&[(
            format!(
                "type(self) == string ? self in ['Internal', 'External', 'Any'] || (self.matches('^[1-9][0-9]{{0,9}}$') && int(self) <= {0}) : self >= 1 && self <= {0}",
                u32::MAX
            ).as_str(),
            "it is neither an AS number (1–4294967295) nor Internal, External or Any",
        )]),
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
