//! What the other side says: messages, a close, silence; and what stands in an UPDATE.

use anyhow::{Context, Result};

/// What came next on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message {
        /// Its type.
        kind: u8,
        /// All after the header.
        body: Vec<u8>,
    },
    /// The connection was closed or reset.
    Closed,
    /// Nothing, for as long as we waited.
    Silence,
}

/// What an UPDATE says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said<'a> {
    /// Withdrawn IPv4 prefixes.
    pub withdrawn: &'a [u8],
    /// Announced IPv4 prefixes.
    pub announced: &'a [u8],
    /// Withdrawn IPv6 prefixes.
    pub withdrawn6: &'a [u8],
    /// Announced IPv6 prefixes.
    pub announced6: &'a [u8],
    /// The path attributes, as they came.
    pub attributes: &'a [u8],
}

impl<'a> Said<'a> {
    /// Flags and value of the first attribute of that type.
    #[must_use]
    pub fn attribute(&self, wanted: u8) -> Option<(u8, &'a [u8])> {
        attributes(self.attributes)
            .map_while(Result::ok)
            .find(|(_, code, _)| *code == wanted)
            .map(|(flags, _, value)| (flags, value))
    }

    /// The first standard community of AS `high`: its lower half.
    #[must_use]
    pub fn community(&self, high: u16) -> Option<u16> {
        let (_, value) = self.attribute(8)?;
        value.chunks_exact(4).find_map(|community| {
            let (first, second) = community.split_first_chunk::<2>()?;
            (u16::from_be_bytes(*first) == high).then(|| {
                second
                    .first_chunk::<2>()
                    .map(|low| u16::from_be_bytes(*low))
            })?
        })
    }
}

/// Reads the body of an UPDATE.
///
/// # Errors
/// Where a length in it does not fit.
pub fn read_update(body: &[u8]) -> Result<Said<'_>> {
    let (withdrawn, rest) = counted(body).context("withdrawn routes")?;
    let (all, announced) = counted(rest).context("path attributes")?;
    let mut said = Said {
        withdrawn,
        announced,
        attributes: all,
        ..Said::default()
    };
    for attribute in attributes(all) {
        match attribute? {
            (_, 14, [0, 2, 1, length, value @ ..]) => {
                said.announced6 = value
                    .get(usize::from(*length) + 1..)
                    .context("next hop longer than MP_REACH_NLRI")?;
            }
            (_, 15, [0, 2, 1, value @ ..]) => said.withdrawn6 = value,
            _ => {}
        }
    }
    Ok(said)
}

fn counted(octets: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk::<2>().context("no length")?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        .context("length beyond the end")
}

type Attribute<'a> = (u8, u8, &'a [u8]);

fn attributes(mut octets: &[u8]) -> impl Iterator<Item = Result<Attribute<'_>>> {
    std::iter::from_fn(move || {
        if octets.is_empty() {
            return None;
        }
        match one(octets) {
            Ok((attribute, rest)) => {
                octets = rest;
                Some(Ok(attribute))
            }
            Err(error) => {
                octets = &[];
                Some(Err(error))
            }
        }
    })
}

fn one(octets: &[u8]) -> Result<(Attribute<'_>, &[u8])> {
    let ([flags, code], rest) = octets.split_first_chunk().context("attribute header")?;
    let (value, rest) = if flags & 0x10 == 0 {
        let (length, rest) = rest.split_first().context("attribute length")?;
        rest.split_at_checked(usize::from(*length))
            .context("attribute beyond the end")?
    } else {
        counted(rest)?
    };
    Ok(((*flags, *code, value), rest))
}
