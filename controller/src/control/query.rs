//! The query string of a request: written by the command line, read by the daemon.

use std::fmt::Write;

use bgp::{
    prefix::{Family, Prefix},
    speaker::{Direction, Refresh, RouteQuery},
};

/// Keys and values, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

/// What is wrong with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong(pub(crate) String);

impl Query {
    /// Reads `a=b&c=d`.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        text.split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decode(key)?, decode(value)?))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Adds a pair.
    pub(crate) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.push((key.to_owned(), value.into()));
        self
    }

    /// `PATH?a=b&c=d`.
    pub(crate) fn on(&self, path: &str) -> String {
        let mut text = path.to_owned();
        for (i, (key, value)) in self.0.iter().enumerate() {
            text.push(if i == 0 { '?' } else { '&' });
            text.push_str(&encode(key));
            text.push('=');
            text.push_str(&encode(value));
        }
        text
    }

    /// Refuses keys that are not among these.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Wrong> {
        match self
            .0
            .iter()
            .find(|(key, _)| !known.contains(&key.as_str()))
        {
            Some((key, _)) => Err(Wrong(format!(
                "unknown parameter {key:?}; known are {known:?}"
            ))),
            None => Ok(()),
        }
    }

    /// The value of `key`, if it is given and not empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether `key` is given, with whatever value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(known, _)| known == key)
    }

    /// Whether `key` is given and true.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Wrong> {
        match self.text(key) {
            None | Some("false") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(Wrong(format!("{key} is true or false, not {other:?}"))),
        }
    }

    /// The prefix (or address) under `key`.
    pub(crate) fn prefix(&self, key: &str) -> Result<Prefix, Wrong> {
        let text = self.text(key).ok_or_else(|| {
            Wrong(format!(
                "the parameter {key} is required: a prefix or an address"
            ))
        })?;
        parse_prefix(text)
    }

    fn limit(&self) -> Result<usize, Wrong> {
        match self.text("limit") {
            None => Ok(0),
            Some(text) => text
                .parse()
                .map_err(|_| Wrong(format!("limit is a number, not {text:?}"))),
        }
    }

    fn direction(&self) -> Result<Option<Direction>, Wrong> {
        match self.text("direction") {
            None => Ok(None),
            Some("received") => Ok(Some(Direction::Received)),
            Some("advertised") => Ok(Some(Direction::Advertised)),
            Some(other) => Err(Wrong(format!(
                "direction is received or advertised, not {other:?}"
            ))),
        }
    }

    fn family(&self) -> Result<Option<Family>, Wrong> {
        match self.text("family").map(str::to_lowercase).as_deref() {
            None => Ok(None),
            Some("ipv4" | "4") => Ok(Some(Family::IPv4)),
            Some("ipv6" | "6") => Ok(Some(Family::IPv6)),
            Some(other) => Err(Wrong(format!("family is IPv4 or IPv6, not {other:?}"))),
        }
    }

    /// What `/v1/refresh` is told: whose routes, and which.
    pub(crate) fn refresh(&self) -> Result<(&str, Refresh), Wrong> {
        let peer = self
            .text("peer")
            .ok_or_else(|| Wrong("the parameter peer is required: whose routes?".into()))?;
        let refresh = Refresh {
            direction: self.direction()?.unwrap_or(Direction::Received),
            family: self.family()?,
        };
        Ok((peer, refresh))
    }

    /// What `/v1/routes` is asked.
    pub(crate) fn routes(&self) -> Result<RouteQuery, Wrong> {
        Ok(RouteQuery {
            peer: self.text("peer").map(str::to_owned),
            direction: self.direction()?,
            family: self.family()?,
            prefix: self.text("prefix").map(parse_prefix).transpose()?,
            limit: self.limit()?,
        })
    }

    /// What `/v1/fib` is asked.
    pub(crate) fn filter(&self) -> Result<fib::Filter, Wrong> {
        Ok(fib::Filter {
            within: self
                .text("within")
                .map(parse_prefix)
                .transpose()?
                .map(|prefix| prefix.network()),
            among: None,
            only_problems: self.flag("problems")?,
            limit: self.limit()?,
        })
    }
}

/// A prefix, or an address as the prefix that holds just it.
pub(crate) fn parse_prefix(text: &str) -> Result<Prefix, Wrong> {
    text.parse().map_err(|_| {
        Wrong(format!(
            "{text:?} is neither a prefix (10.244.1.0/24) nor an address (10.244.1.5)"
        ))
    })
}

/// Percent-encoding (RFC 3986 §2.1).
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn decode(text: &str) -> Result<String, Wrong> {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                let value = high.zip(low).map(|(high, low)| high << 4 | low);
                value
                    .and_then(|value| u8::try_from(value).ok())
                    .ok_or_else(|| {
                        Wrong(format!("{text:?} is not percent-encoded as it should be"))
                    })?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| Wrong(format!("{text:?} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let query = Query::default()
            .with("peer", "uplink/fe80::1%eth0 &=+ü")
            .with("limit", "5");
        let text = query.on("/v1/routes");
        let (_, text) = text.split_once('?').unwrap();
        assert_eq!(Query::parse(text).unwrap(), query);
    }

    #[test]
    fn a_wrong_question_is_told_what_is_wrong() {
        assert!(Query::parse("a=%zz").is_err());
        assert!(Query::parse("a=%2").is_err());
        assert!(Query::parse("peer=x").unwrap().only(&["limit"]).is_err());
        assert!(
            Query::parse("direction=sideways")
                .unwrap()
                .routes()
                .is_err()
        );
        assert!(Query::parse("limit=-1").unwrap().routes().is_err());
        assert!(
            Query::parse("query=10.0.0.300")
                .unwrap()
                .prefix("query")
                .is_err()
        );
    }
}
