//! A table of numbered prefixes: made to be announced in bulk, and kept as a peer announces it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use super::{Said, Update, mp_unreach, nlri};

/// Prefixes in one UPDATE that withdraws: few enough that it stays below 4,096 octets.
const SET: usize = 200;

/// Numbered prefixes to be announced.
#[derive(Debug, Clone)]
pub struct Bulk {
    /// How many, from number 0.
    pub count: u32,
    /// Prefixes that share an AS path, and stand in one UPDATE.
    pub set: usize,
    /// Communities that mean nothing, so that the attributes take space.
    pub ballast: u16,
    /// The AS path but for its last AS, which names the set.
    pub path: Vec<u32>,
    /// Its family is the prefixes' one.
    pub next_hop: IpAddr,
}

impl Bulk {
    /// In sets of 200, without ballast.
    #[must_use]
    pub fn of(count: u32, path: &[u32], next_hop: IpAddr) -> Self {
        Self {
            count,
            set: SET,
            ballast: 0,
            path: path.to_vec(),
            next_hop,
        }
    }

    /// The octets of UPDATEs that announce all of them with that mark.
    #[must_use]
    pub fn announce(&self, mark: u16) -> Vec<u8> {
        let numbers: Vec<u32> = (0..self.count).collect();
        let communities: Vec<(u16, u16)> = std::iter::once((Table::MARK, mark))
            .chain((0..self.ballast).map(|number| (64_999, number)))
            .collect();
        let mut octets = Vec::new();
        for (set, numbers) in (100_000..).zip(numbers.chunks(self.set)) {
            let prefixes: Vec<u8> = numbers
                .iter()
                .flat_map(|number| numbered(*number, self.next_hop.is_ipv6()))
                .collect();
            let path: Vec<u32> = self.path.iter().copied().chain([set]).collect();
            let update = match self.next_hop {
                IpAddr::V4(hop) => Update::announcing(&path, hop).prefixes(&prefixes),
                IpAddr::V6(hop) => Update::announcing6(&path, hop, &prefixes),
            };
            octets.extend(update.communities(&communities).octets());
        }
        octets
    }
}

/// The first of the numbered IPv4 prefixes: 20.0.0.0/24, 20.0.1.0/24 …
const FIRST: u32 = 0x1400_0000;

/// The prefix number `number` as NLRI.
#[must_use]
pub fn numbered(number: u32, ipv6: bool) -> Vec<u8> {
    let (address, length) = place(number, ipv6);
    nlri(address, length)
}

/// The prefix number `number` as text: `20.0.0.0/24` and on, or `2001:db8::/64` and on.
#[must_use]
pub fn numbered_name(number: u32, ipv6: bool) -> String {
    let (address, length) = place(number, ipv6);
    format!("{address}/{length}")
}

fn place(number: u32, ipv6: bool) -> (IpAddr, u8) {
    if ipv6 {
        let [a, b, c, d] = number.to_be_bytes();
        let high = u16::from_be_bytes([a, b]);
        let low = u16::from_be_bytes([c, d]);
        (
            Ipv6Addr::new(0x2001, 0xdb8, high, low, 0, 0, 0, 0).into(),
            64,
        )
    } else {
        (Ipv4Addr::from(FIRST.wrapping_add(number << 8)).into(), 24)
    }
}

/// The inverse of [`numbered`].
fn number(prefix: &[u8]) -> Option<u32> {
    match prefix {
        [24, a, b, c] => Some(u32::from_be_bytes([*a, *b, *c, 0]).wrapping_sub(FIRST) >> 8),
        [64, 0x20, 0x01, 0x0d, 0xb8, a, b, c, d] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// What a peer has announced and not withdrawn: numbered prefixes with a mark, the lower half of a community.
#[derive(Debug, Default)]
pub struct Table {
    /// By NLRI.
    marks: HashMap<Vec<u8>, u16>,
    with_mark: HashMap<u16, usize>,
    /// Announcements and withdrawals heard, each prefix counted.
    pub heard: usize,
}

impl Table {
    /// The community whose lower half is the mark.
    pub const MARK: u16 = 65_000;

    /// The octets of UPDATEs that withdraw `count` numbered prefixes.
    #[must_use]
    pub fn withdraw(count: u32, ipv6: bool) -> Vec<u8> {
        let numbers: Vec<u32> = (0..count).collect();
        let mut octets = Vec::new();
        for numbers in numbers.chunks(SET) {
            let prefixes: Vec<u8> = numbers.iter().flat_map(|n| numbered(*n, ipv6)).collect();
            let update = if ipv6 {
                Update::default().with(&mp_unreach(2, 1, &prefixes))
            } else {
                Update::default().withdrawing(&prefixes)
            };
            octets.extend(update.octets());
        }
        octets
    }

    /// Takes in an UPDATE.
    pub fn hear(&mut self, said: &Said<'_>) -> Result<()> {
        let mark = said.community(Self::MARK).unwrap_or(0);
        for list in [said.withdrawn, said.withdrawn6] {
            each(list, |prefix| self.set(prefix, None))?;
        }
        for list in [said.announced, said.announced6] {
            each(list, |prefix| self.set(prefix, Some(mark)))?;
        }
        Ok(())
    }

    fn set(&mut self, prefix: &[u8], mark: Option<u16>) {
        self.heard += 1;
        let before = match mark {
            Some(mark) => {
                *self.with_mark.entry(mark).or_default() += 1;
                self.marks.insert(prefix.to_vec(), mark)
            }
            None => self.marks.remove(prefix),
        };
        if let Some(count) = before.and_then(|mark| self.with_mark.get_mut(&mark)) {
            *count = count.saturating_sub(1);
        }
    }

    /// How many prefixes carry `mark`.
    #[must_use]
    pub fn marked(&self, mark: u16) -> usize {
        self.with_mark.get(&mark).copied().unwrap_or_default()
    }

    /// How many prefixes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// The mark of one prefix, given as NLRI.
    #[must_use]
    pub fn mark(&self, prefix: &[u8]) -> Option<u16> {
        self.marks.get(prefix).copied()
    }

    /// The prefixes that are none of the numbered ones below `count`.
    #[must_use]
    pub fn strangers(&self, count: u32) -> usize {
        let known = |prefix: &Vec<u8>| number(prefix).is_some_and(|n| n < count);
        self.marks.keys().filter(|prefix| !known(prefix)).count()
    }
}

fn each(mut list: &[u8], mut take: impl FnMut(&[u8])) -> Result<()> {
    while let Some(length) = list.first() {
        let (prefix, rest) = list
            .split_at_checked(1 + usize::from(length.div_ceil(8)))
            .context("a prefix beyond the end")?;
        take(prefix);
        list = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byhand::{HEADER, LONGEST, read_update};

    /// The bodies of a run of messages.
    fn bodies(octets: &[u8]) -> Vec<&[u8]> {
        let mut rest = octets;
        let mut all = Vec::new();
        while let Some([high, low]) = rest.get(16..18) {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            assert!((HEADER..=LONGEST).contains(&length));
            let (message, after) = rest.split_at(length);
            all.push(message.get(HEADER..).unwrap_or_default());
            rest = after;
        }
        assert!(rest.is_empty());
        all
    }

    #[test]
    fn what_is_announced_is_heard_and_what_is_withdrawn_is_gone() {
        for next_hop in ["10.0.0.9", "fd00:10::9"] {
            let next_hop: IpAddr = next_hop.parse().expect("an address");
            let mut table = Table::default();
            for body in bodies(&Bulk::of(1000, &[65_009], next_hop).announce(7)) {
                table
                    .hear(&read_update(body).expect("whole"))
                    .expect("whole");
            }
            assert_eq!(
                (table.len(), table.marked(7), table.strangers(1000)),
                (1000, 1000, 0)
            );
            assert_eq!(table.strangers(999), 1);
            for body in bodies(&Table::withdraw(1000, next_hop.is_ipv6())) {
                table
                    .hear(&read_update(body).expect("whole"))
                    .expect("whole");
            }
            assert_eq!((table.len(), table.marked(7), table.heard), (0, 0, 2000));
        }
    }
}
