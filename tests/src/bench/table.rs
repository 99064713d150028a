//! What is announced: prefixes in attribute sets, distributed as in the Internet's table.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Origin AS of set 0; the last AS of a path names the set.
pub const FIRST_ORIGIN: u32 = 1_000_000;
/// AS of source 0; the sources of an eBGP workload are numbered from here.
pub const FIRST_SOURCE: u32 = 64_601;

/// A small deterministic generator (splitmix64): every run and every device sees the same table.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        (((self.bits() >> 32) * u64::from(n)) >> 32) as u32
    }
}

/// An IPv4 prefix of at most 24 bits: so long are all we announce, so that each has a place in a bitmap of 2^25.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix4 {
    /// The address, host bits zero.
    pub address: u32,
    /// Bits, 0–24.
    pub length: u8,
}

impl Prefix4 {
    /// Its place in a binary tree laid out level by level.
    #[must_use]
    pub fn place(self) -> usize {
        (1 << self.length) | (u64::from(self.address) >> (32 - u32::from(self.length))) as usize
    }
}

/// The IPv6 prefix number `n` of a table: `2001:db8:HIGH:LOW::/64`.
#[must_use]
pub fn prefix6(n: u32) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, (n >> 16) as u16, n as u16, 0, 0, 0, 0)
}

/// Prefixes that share their attributes.
#[derive(Clone, Debug)]
pub struct Set {
    /// AS path behind the source's own AS; its end names the set.
    pub path: Vec<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// COMMUNITIES.
    pub communities: Vec<u32>,
    /// LARGE_COMMUNITY.
    pub large: Vec<[u32; 3]>,
    /// Which of the table's IPv4 prefixes.
    pub prefixes: std::ops::Range<usize>,
}

/// A routing table to announce.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// IPv4 prefixes, ascending; a set's are neighbours.
    pub prefixes: Vec<Prefix4>,
    /// How many IPv6 prefixes there are beside them (see [`prefix6`]).
    pub prefixes6: u32,
    /// Attribute sets, in the order they are announced in.
    pub sets: Vec<Set>,
}

impl Table {
    /// A piece of the Internet: `sets` attribute sets over `prefixes` prefixes, half of the sets with one prefix only.
    #[must_use]
    pub fn internet(prefixes: usize, sets: usize) -> Self {
        let mut random = Random::new(179);
        let prefixes = scatter(&mut random, prefixes);
        let mut sizes = sizes(&mut random, prefixes.len(), sets);
        shuffle(&mut random, &mut sizes);
        let mut start = 0;
        let mut sets: Vec<Set> = sizes
            .iter()
            .enumerate()
            .map(|(number, &size)| {
                let set = Set::random(&mut random, number, start..start + size);
                start += size;
                set
            })
            .collect();
        shuffle(&mut random, &mut sets);
        Self {
            prefixes,
            prefixes6: 0,
            sets,
        }
    }

    /// What a cluster's nodes have: `nodes` pod CIDRs of IPv4 (10.x.y.0/24 from 10.100.0.0) and as many of IPv6, and no
    /// attribute sets: each node announces its own.
    #[must_use]
    pub fn pods(nodes: u32) -> Self {
        let prefixes = (0..nodes)
            .map(|node| Prefix4 {
                address: u32::from(Ipv4Addr::new(10, 100, 0, 0)) + (node << 8),
                length: 24,
            })
            .collect();
        Self {
            prefixes,
            prefixes6: nodes,
            sets: Vec::new(),
        }
    }
}

impl Set {
    fn random(random: &mut Random, number: usize, prefixes: std::ops::Range<usize>) -> Self {
        // With the source's own AS in front: 2 to 6 hops.
        let transits = [0, 1, 1, 2, 2, 2, 3, 4][random.below(8) as usize];
        let mut path: Vec<u32> = (0..transits)
            .map(|_| 1_000 + random.below(50_000))
            .collect();
        path.push(FIRST_ORIGIN + number as u32);
        let communities = match random.below(10) {
            0..3 => 0,
            3..8 => 1 + random.below(4),
            _ => 5 + random.below(12),
        };
        let large = if random.below(10) == 0 {
            1 + random.below(3)
        } else {
            0
        };
        Self {
            path,
            med: (random.below(5) == 0).then(|| random.below(1_000)),
            communities: (0..communities)
                .map(|_| ((1_000 + random.below(60_000)) << 16) | random.below(65_536))
                .collect(),
            large: (0..large)
                .map(|_| {
                    [
                        1_000 + random.below(60_000),
                        random.below(1_000),
                        random.below(1_000),
                    ]
                })
                .collect(),
            prefixes,
        }
    }
}

/// Distinct prefixes of the lengths the Internet has, in ascending order; none where an installer may refuse it: in 0/8,
/// 10/8, 127/8, 169/8 (link-local) or above 223/8.
fn scatter(random: &mut Random, count: usize) -> Vec<Prefix4> {
    let mut taken = vec![0_u64; 1 << 19];
    let mut prefixes = Vec::with_capacity(count);
    while prefixes.len() < count {
        let length = match random.below(1_000) {
            0..600 => 24,
            600..700 => 23,
            700..815 => 22,
            815..867 => 21,
            867..912 => 20,
            912..938 => 19,
            938..953 => 18,
            953..962 => 17,
            962..976 => 16,
            976..982 => 15,
            982..988 => 14,
            // What has no room left at its own length is a /24 more.
            _ => 24,
        };
        let address = (random.bits() as u32) & (u32::MAX << (32 - u32::from(length)));
        let first = address >> 24;
        let prefix = Prefix4 { address, length };
        let (word, bit) = (prefix.place() / 64, prefix.place() % 64);
        if matches!(first, 0 | 10 | 127 | 169 | 224..) || taken[word] >> bit & 1 == 1 {
            continue;
        }
        taken[word] |= 1 << bit;
        prefixes.push(prefix);
    }
    prefixes.sort_unstable();
    prefixes
}

/// Sizes of `sets` sets that sum up to `total`: half are 1, the rest decay geometrically.
fn sizes(random: &mut Random, total: usize, sets: usize) -> Vec<usize> {
    let single = sets / 2;
    let rest = sets - single;
    let mean = (total - single) as f64 / rest as f64;
    let mut sizes = vec![1; single];
    sizes.extend((0..rest).map(|_| {
        let uniform = (random.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        2 + (-(1.0 - uniform).ln() * (mean - 2.0)) as usize
    }));
    // Rounding: give and take until the sum is right.
    let mut sum: usize = sizes.iter().sum();
    let mut at = single;
    while sum != total {
        if sum < total {
            sizes[at] += 1;
            sum += 1;
        } else if sizes[at] > 2 {
            sizes[at] -= 1;
            sum -= 1;
        }
        at = if at + 1 == sets { single } else { at + 1 };
    }
    sizes
}

fn shuffle<T>(random: &mut Random, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, random.below(i as u32 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_sets_have_one_prefix_and_all_prefixes_are_distinct() {
        let table = Table::internet(54_000, 10_000);
        assert_eq!(table.prefixes.len(), 54_000);
        assert_eq!(table.sets.len(), 10_000);
        assert_eq!(
            table
                .sets
                .iter()
                .filter(|set| set.prefixes.len() == 1)
                .count(),
            5_000
        );
        assert_eq!(
            table
                .sets
                .iter()
                .map(|set| set.prefixes.len())
                .sum::<usize>(),
            54_000
        );
        assert!(table.prefixes.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
