//! The prefixes of one family and the routes to each.

use std::{
    hash::BuildHasher,
    net::{Ipv4Addr, Ipv6Addr},
};

use hashbrown::{DefaultHashBuilder, HashTable};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::route::Routes;
use crate::prefix::{Family, Prefix};

/// The number of a prefix in its [`Table`]: what sets of prefixes are made of. It stays the prefix's as long as anybody was
/// told of it.
pub(super) type Number = u32;

bitflags::bitflags! {
    /// What happened to a prefix since it was last decided.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) struct Touched: u8 {
        /// It waits to be decided.
        const CHANGED = 1;
        /// Its best route is another, or has other attributes.
        const BEST = 2;
        /// A route that is used (the best or one beside it) is another.
        const USED = 4;
    }
}

/// One prefix.
#[derive(Debug, Default)]
pub(super) struct Destination {
    pub(super) routes: Routes,
    /// How many hold on to its number: streams of output that told somebody of it, the installer.
    pub(super) holders: u16,
    pub(super) touched: Touched,
}

/// All prefixes of one family.
#[derive(Debug)]
pub(super) struct Table {
    index: Index,
    destinations: Vec<Destination>,
    free: Vec<Number>,
    /// Prefixes with at least one route.
    pub(super) live: usize,
}

impl Table {
    pub(super) fn new(family: Family) -> Self {
        Self {
            index: match family {
                Family::IPv4 => Index::V4(Keys::default()),
                Family::IPv6 => Index::V6(Keys::default()),
            },
            destinations: Vec::new(),
            free: Vec::new(),
            live: 0,
        }
    }

    pub(super) fn find(&self, prefix: Prefix) -> Option<Number> {
        match (&self.index, prefix.network()) {
            (Index::V4(keys), IpNetwork::V4(network)) => keys.find(network),
            (Index::V6(keys), IpNetwork::V6(network)) => keys.find(network),
            _ => None,
        }
    }

    /// The number of the prefix, a new one if need be. `None` only for a prefix of another family.
    pub(super) fn find_or_insert(&mut self, prefix: Prefix) -> Option<Number> {
        if let Some(number) = self.find(prefix) {
            return Some(number);
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                let number = Number::try_from(self.destinations.len()).ok()?;
                self.destinations.push(Destination::default());
                number
            }
        };
        match (&mut self.index, prefix.network()) {
            (Index::V4(keys), IpNetwork::V4(network)) => keys.insert(network, number),
            (Index::V6(keys), IpNetwork::V6(network)) => keys.insert(network, number),
            _ => {
                self.free.push(number);
                return None;
            }
        }
        Some(number)
    }

    pub(super) fn prefix(&self, number: Number) -> Option<Prefix> {
        match &self.index {
            Index::V4(keys) => keys.get(number).map(|key| IpNetwork::V4(key).into()),
            Index::V6(keys) => keys.get(number).map(|key| IpNetwork::V6(key).into()),
        }
    }

    pub(super) fn get(&self, number: Number) -> Option<&Destination> {
        self.destinations.get(number as usize)
    }

    pub(super) fn get_mut(&mut self, number: Number) -> Option<&mut Destination> {
        self.destinations.get_mut(number as usize)
    }

    /// One more holds on to the number.
    pub(super) fn hold(&mut self, number: Number) {
        if let Some(destination) = self.get_mut(number) {
            destination.holders = destination.holders.saturating_add(1);
        }
    }

    /// One less does; a prefix without routes that nobody holds is forgotten.
    pub(super) fn release(&mut self, number: Number) {
        if let Some(destination) = self.get_mut(number) {
            // Saturated once, it is held for good: a number too many, never one too few.
            if destination.holders != u16::MAX {
                destination.holders = destination.holders.saturating_sub(1);
            }
        }
        self.forget_if_unused(number);
    }

    /// Frees the number of a prefix without routes, of which nobody was told, and which does not wait to be decided.
    pub(super) fn forget_if_unused(&mut self, number: Number) {
        let Some(destination) = self.destinations.get(number as usize) else {
            return;
        };
        if !destination.routes.is_empty()
            || destination.holders > 0
            || !destination.touched.is_empty()
        {
            return;
        }
        let removed = match &mut self.index {
            Index::V4(keys) => keys.remove(number),
            Index::V6(keys) => keys.remove(number),
        };
        if removed {
            self.free.push(number);
        }
    }

    /// Every number in use and some that are free: their destinations have no routes.
    pub(super) fn numbers(&self) -> std::ops::Range<Number> {
        0..Number::try_from(self.destinations.len()).unwrap_or(Number::MAX)
    }

    /// Prefixes that have routes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Number, &Destination)> {
        self.numbers()
            .zip(&self.destinations)
            .filter(|(_, destination)| !destination.routes.is_empty())
    }

    /// The longest prefix that holds `prefix` and for which `wanted` holds.
    pub(super) fn longest_match(
        &self,
        prefix: Prefix,
        wanted: impl Fn(&Destination) -> bool,
    ) -> Option<Number> {
        (0..=prefix.length()).rev().find_map(|length| {
            let covering = Prefix::new(prefix.address(), length)?;
            self.find(covering)
                .filter(|number| self.get(*number).is_some_and(&wanted))
        })
    }
}

#[derive(Debug)]
enum Index {
    V4(Keys<Ipv4Network>),
    V6(Keys<Ipv6Network>),
}

/// Prefixes by number, and numbers by prefix: the prefixes stand once, 5 or 17 octets each.
#[derive(Debug)]
struct Keys<K> {
    index: HashTable<Number>,
    keys: Vec<K>,
    /// Seeded at random: the keys come from peers.
    hasher: DefaultHashBuilder,
}

impl<K> Default for Keys<K> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            keys: Vec::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

trait Key: Copy + Eq {
    /// What stands in unused places.
    const NOTHING: Self;
    fn hash(self, hasher: &DefaultHashBuilder) -> u64;
}

impl<K: Key> Keys<K> {
    fn find(&self, key: K) -> Option<Number> {
        self.index
            .find(key.hash(&self.hasher), |number| {
                self.keys.get(*number as usize) == Some(&key)
            })
            .copied()
    }

    fn insert(&mut self, key: K, number: Number) {
        if number as usize >= self.keys.len() {
            self.keys.resize(number as usize + 1, K::NOTHING);
        }
        if let Some(place) = self.keys.get_mut(number as usize) {
            *place = key;
        }
        let Self {
            index,
            keys,
            hasher,
        } = self;
        index.insert_unique(key.hash(hasher), number, |number| {
            keys.get(*number as usize).map_or(0, |key| key.hash(hasher))
        });
    }

    fn get(&self, number: Number) -> Option<K> {
        self.keys.get(number as usize).copied()
    }

    fn remove(&mut self, number: Number) -> bool {
        let Some(key) = self.get(number) else {
            return false;
        };
        self.index
            .find_entry(key.hash(&self.hasher), |other| *other == number)
            .is_ok_and(|found| {
                found.remove();
                true
            })
    }
}

impl Key for Ipv4Network {
    const NOTHING: Self = match Self::new_checked(Ipv4Addr::UNSPECIFIED, 0) {
        Some(network) => network,
        None => unreachable!(),
    };

    fn hash(self, hasher: &DefaultHashBuilder) -> u64 {
        hasher.hash_one(u64::from(u32::from(self.ip())) << 8 | u64::from(self.prefix()))
    }
}

impl Key for Ipv6Network {
    const NOTHING: Self = match Self::new_checked(Ipv6Addr::UNSPECIFIED, 0) {
        Some(network) => network,
        None => unreachable!(),
    };

    fn hash(self, hasher: &DefaultHashBuilder) -> u64 {
        hasher.hash_one((u128::from(self.ip()), self.prefix()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rib::{intern::AttributesId, route::Route};

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("a prefix")
    }

    #[test]
    fn a_prefix_with_one_route_costs_forty_octets_and_its_key() {
        assert_eq!(size_of::<AttributesId>(), 4);
        assert_eq!(size_of::<Route>(), 24);
        assert_eq!(size_of::<Destination>(), 40);
        assert_eq!(size_of::<Ipv4Network>(), 5);
    }

    #[test]
    fn a_number_stays_its_prefix_while_anybody_holds_it() {
        let mut table = Table::new(Family::IPv4);
        let number = table.find_or_insert(prefix("10.0.0.0/8")).expect("IPv4");
        table.hold(number);
        table.forget_if_unused(number);
        assert_eq!(table.find(prefix("10.0.0.0/8")), Some(number));
        table.release(number);
        assert_eq!(table.find(prefix("10.0.0.0/8")), None);
        assert_eq!(table.find_or_insert(prefix("10.0.0.0/9")), Some(number));
        assert_eq!(table.prefix(number), Some(prefix("10.0.0.0/9")));
    }

    #[test]
    fn a_number_is_freed_once_only() {
        let mut table = Table::new(Family::IPv6);
        let number = table.find_or_insert(prefix("fd00::/8")).expect("IPv6");
        table.forget_if_unused(number);
        table.forget_if_unused(number);
        let one = table.find_or_insert(prefix("fd01::/16"));
        let other = table.find_or_insert(prefix("fd02::/16"));
        assert_ne!(one, other);
    }

    #[test]
    fn a_table_holds_its_own_family_only() {
        let mut table = Table::new(Family::IPv4);
        assert_eq!(table.find_or_insert(prefix("fd00::/8")), None);
        assert_eq!(table.find(prefix("fd00::/8")), None);
    }

    #[test]
    fn the_longest_wanted_prefix_is_found() {
        let mut table = Table::new(Family::IPv4);
        let short = table.find_or_insert(prefix("10.0.0.0/8"));
        let long = table.find_or_insert(prefix("10.1.0.0/16"));
        let address = prefix("10.1.2.3");
        assert_eq!(table.longest_match(address, |_| true), long);
        if let Some(found) = long.and_then(|number| table.get_mut(number)) {
            found.holders = 1;
        }
        assert_eq!(
            table.longest_match(address, |found| found.holders == 0),
            short
        );
        assert_eq!(table.longest_match(prefix("11.0.0.1"), |_| true), None);
    }
}
