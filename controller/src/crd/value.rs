//! Values with a grammar of their own: CIDRs, communities, AS numbers, regular expressions.

use std::{fmt, net::IpAddr, str::FromStr};

use bgp::{
    config::{AsPathRegex, CommunityValue},
    prefix::Prefix,
    wire::{Community, LargeCommunity},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Reads a value that is written as text through its [`FromStr`].
macro_rules! as_text {
    ($type:ty, $expected:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a string: ", $expected))
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

/// Whether an address can be that of a host.
pub(super) fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !broadcast
}

/// A prefix with its length and without host bits: `10.244.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cidr(pub(crate) Prefix);

as_text!(Cidr, "a CIDR such as 10.244.0.0/16");

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((address, length)) = text.split_once('/') else {
            return Err(match text.parse::<Prefix>() {
                Ok(host) => format!("{text:?} lacks a length; write {host}"),
                Err(_) => format!("{text:?} is no CIDR such as 10.244.0.0/16"),
            });
        };
        let bad = |_| format!("{text:?} is no CIDR such as 10.244.0.0/16 or fd00:10:244::/48");
        let prefix: Prefix = text.parse().map_err(bad)?;
        if length.len() > 3 || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!(
                "{text:?} is no CIDR: the length is a number of bits"
            ));
        }
        if address.parse() != Ok(prefix.address()) {
            return Err(format!(
                "{text:?} has bits set beyond its length; write {prefix}"
            ));
        }
        Ok(Self(prefix))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A community: `65000:100`, `65000:1:2` or a well-known name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CommunityText(pub(crate) CommunityValue);

as_text!(
    CommunityText,
    "a community such as \"65000:100\", \"65000:1:2\" or no-export"
);

/// Well-known communities by the names that Cilium, FRR and the IANA registry give them.
pub(super) const WELL_KNOWN: [(&str, u32); 13] = [
    ("internet", 0),
    ("planned-shut", 0xffff_0000),
    ("graceful-shutdown", 0xffff_0000),
    ("accept-own", 0xffff_0001),
    ("llgr-stale", 0xffff_0006),
    ("no-llgr", 0xffff_0007),
    ("blackhole", 0xffff_029a),
    ("no-export", 0xffff_ff01),
    ("no-advertise", 0xffff_ff02),
    ("no-export-subconfed", 0xffff_ff03),
    ("local-as", 0xffff_ff03),
    ("no-peer", 0xffff_ff04),
    ("nopeer", 0xffff_ff04),
];

impl FromStr for CommunityText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = text.to_ascii_lowercase().replace('_', "-");
        if let Some((_, value)) = WELL_KNOWN.iter().find(|(name, _)| *name == word) {
            return Ok(Self(CommunityValue::Standard(Community(*value))));
        }
        let parts: Vec<&str> = text.split(':').collect();
        let value = match parts.as_slice() {
            [high, low] => standard(high, low),
            [global, local1, local2] => large(global, local1, local2),
            _ => None,
        };
        value.map(Self).ok_or_else(|| {
            format!(
                "{text:?} is no community: two numbers up to 65535 (\"65000:100\"), three up to 4294967295 (\"65000:1:2\") or a well-known name such as no-export"
            )
        })
    }
}

fn standard(high: &str, low: &str) -> Option<CommunityValue> {
    let high: u16 = high.parse().ok()?;
    let low: u16 = low.parse().ok()?;
    Some(CommunityValue::Standard(Community(
        u32::from(high) << 16 | u32::from(low),
    )))
}

fn large(global: &str, local1: &str, local2: &str) -> Option<CommunityValue> {
    Some(CommunityValue::Large(LargeCommunity {
        global: global.parse().ok()?,
        local1: local1.parse().ok()?,
        local2: local2.parse().ok()?,
    }))
}

impl fmt::Display for CommunityText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            CommunityValue::Standard(Community(value)) => {
                match WELL_KNOWN
                    .iter()
                    .find(|(_, known)| *known == value && value != 0)
                {
                    Some((name, _)) => f.write_str(name),
                    None => write!(f, "{}:{}", value >> 16, value & 0xffff),
                }
            }
            CommunityValue::Large(LargeCommunity {
                global,
                local1,
                local2,
            }) => {
                write!(f, "{global}:{local1}:{local2}")
            }
        }
    }
}

/// What `_` stands for in the AS path expressions of other routers. It never occurs in a path: taken as it is, it would match
/// nothing and say nothing.
const BETWEEN_NUMBERS: &str = "(?:^|[ ,{}()]|$)";

/// A regular expression over an AS path as text: numbers with one space between, `_` for either end of a number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AsPathText(pub(crate) AsPathRegex);

as_text!(AsPathText, "a regular expression such as \"^65001( |$)\"");

impl FromStr for AsPathText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A megabyte is far more than any expression over AS numbers needs; the default of ten would be a lot a rule.
        regex::RegexBuilder::new(&text.replace('_', BETWEEN_NUMBERS))
            .size_limit(1 << 20)
            .build()
            .map(|regex| Self(AsPathRegex(regex)))
            .map_err(|error| {
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default();
                format!(
                    "{text:?} is no regular expression: {}",
                    reason.trim_start_matches("error: ")
                )
            })
    }
}

impl fmt::Display for AsPathText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.0.as_str())
    }
}

/// Which AS numbers a peer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerAsn {
    /// Just this one.
    Number(u32),
    /// Our own.
    Internal,
    /// Any but our own.
    External,
    /// Any.
    Any,
}

impl<'de> Deserialize<'de> for PeerAsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrWord;
        impl de::Visitor<'_> for NumberOrWord {
            type Value = PeerAsn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an AS number (1–4294967295), Internal, External or Any")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<PeerAsn, E> {
                match u32::try_from(value) {
                    Ok(asn @ 1..) => Ok(PeerAsn::Number(asn)),
                    _ => Err(E::custom(format_args!(
                        "{value} is no AS number (1–4294967295)"
                    ))),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PeerAsn, E> {
                match text {
                    "Internal" => Ok(PeerAsn::Internal),
                    "External" => Ok(PeerAsn::External),
                    "Any" => Ok(PeerAsn::Any),
                    _ => match text.parse::<u32>() {
                        Ok(asn @ 1..) => Ok(PeerAsn::Number(asn)),
                        _ => Err(E::unknown_variant(text, &["Internal", "External", "Any"])),
                    },
                }
            }
        }
        deserializer.deserialize_any(NumberOrWord)
    }
}

impl Serialize for PeerAsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(asn) => serializer.serialize_u32(*asn),
            Self::Internal => serializer.serialize_str("Internal"),
            Self::External => serializer.serialize_str("External"),
            Self::Any => serializer.serialize_str("Any"),
        }
    }
}

/// Our own AS number: 1–4294967295, not AS_TRANS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Asn(pub(crate) u32);

impl Asn {
    fn of(value: u64) -> Result<Self, String> {
        match value {
            0 => Err("0 is no AS number (RFC 7607)".into()),
            23456 => Err("23456 is AS_TRANS (RFC 6793); take another AS number".into()),
            value => u32::try_from(value)
                .map(Self)
                .map_err(|_| format!("{value} is no AS number (1–4294967295)")),
        }
    }
}

impl FromStr for Asn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse();
        Self::of(number.map_err(|_| format!("{text:?} is no AS number (1–4294967295)"))?)
    }
}

impl<'de> Deserialize<'de> for Asn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(u64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cidr_needs_a_length_and_no_host_bits() {
        assert!("10.0.0.0/8".parse::<Cidr>().is_ok());
        assert!("fd00::/48".parse::<Cidr>().is_ok());
        assert_eq!(
            "10.0.0.1".parse::<Cidr>().unwrap_err(),
            "\"10.0.0.1\" lacks a length; write 10.0.0.1/32"
        );
        assert_eq!(
            "10.0.0.1/24".parse::<Cidr>().unwrap_err(),
            "\"10.0.0.1/24\" has bits set beyond its length; write 10.0.0.0/24"
        );
        for bad in [
            "10.0.0.0/33",
            "10.0.0.0/255.0.0.0",
            "10.0.0/8",
            "x/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_underscore_in_an_as_path_expression_is_either_end_of_a_number() {
        let matches = |text: &str, path: &str| {
            let AsPathText(AsPathRegex(regex)) = text.parse().unwrap();
            regex.is_match(path)
        };
        for path in ["65001", "7 65001", "65001 7", "7 65001 8", "7 {65001,9}"] {
            assert!(matches("_65001_", path), "{path}");
        }
        for path in ["", "650010", "165001", "7 650010"] {
            assert!(!matches("_65001_", path), "{path}");
        }
        assert!(matches("_7_65001_", "6 7 65001"));
    }

    #[test]
    fn communities_are_pairs_triples_or_names() {
        for (text, shown) in [
            ("65000:100", "65000:100"),
            ("65000:1:4294967295", "65000:1:4294967295"),
            ("no-export", "no-export"),
            ("NO_EXPORT", "no-export"),
            ("65535:0", "planned-shut"),
        ] {
            assert_eq!(text.parse::<CommunityText>().unwrap().to_string(), shown);
        }
        for bad in [
            "65536:1",
            "1:65536",
            "1",
            "1:2:3:4",
            "a:b",
            "1:2:4294967296",
            "",
        ] {
            assert!(bad.parse::<CommunityText>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_regular_expression_says_what_is_wrong_in_one_line() {
        let message = "^(65001".parse::<AsPathText>().unwrap_err();
        assert_eq!(
            message,
            "\"^(65001\" is no regular expression: unclosed group"
        );
    }
}
