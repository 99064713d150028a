//! Every distinct set of attributes once: routes hold its number.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, Hash},
    net::IpAddr,
    sync::Arc,
};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::next_hops::NextHops;
use crate::wire::{Attributes, Community};

/// The number of a set of attributes in an [`AttributeTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct AttributesId(u32);

impl AttributesId {
    pub(super) const fn number(self) -> u32 {
        self.0
    }
}

/// What the decision looks at first, so that it seldom has to follow the pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rank {
    /// LOCAL_PREF; 100 where there is none.
    pub(super) local_pref: u32,
    /// MULTI_EXIT_DISC; 0 where there is none (RFC 4271 §9.1.2.2 c).
    pub(super) med: u32,
    /// The neighbour AS; 0: our own, or unknown.
    pub(super) neighbor_as: u32,
    /// Length of AS_PATH.
    pub(super) hops: u16,
    /// ORIGIN.
    pub(super) origin: u8,
    pub(super) doubts: Doubts,
}

bitflags::bitflags! {
    /// What makes a route yield to any that has nothing of it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) struct Doubts: u8 {
        /// Carries LLGR_STALE (RFC 9494).
        const LONG_STALE = 1;
        /// Its next hop is known to lead nowhere.
        const UNRESOLVED = 2;
    }
}

/// LOCAL_PREF of a route that has none.
pub(super) const LOCAL_PREF: u32 = 100;

impl Rank {
    pub(super) fn of(attributes: &Attributes) -> Self {
        Self {
            local_pref: attributes.local_pref.unwrap_or(LOCAL_PREF),
            med: attributes.med.unwrap_or(0),
            neighbor_as: attributes.as_path.neighbor_as().unwrap_or(0),
            hops: u16::try_from(attributes.as_path.hops()).unwrap_or(u16::MAX),
            origin: attributes.origin as u8,
            doubts: if attributes.communities.contains(&Community::LLGR_STALE) {
                Doubts::LONG_STALE
            } else {
                Doubts::empty()
            },
        }
    }
}

#[derive(Debug)]
struct Entry {
    /// `None`: the number is free.
    attributes: Option<Arc<Attributes>>,
    holders: u32,
    hash: u32,
    rank: Rank,
}

/// The table of distinct attributes, counted by who holds them.
#[derive(Debug, Default)]
pub(super) struct AttributeTable {
    index: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    next_hops: NextHops,
    hasher: DefaultHashBuilder,
}

/// The table wants 64 bits of which it uses the highest and the lowest; half of them are kept.
const fn spread(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}

impl AttributeTable {
    /// The number of `attributes`, with one more holder.
    pub(super) fn intern(&mut self, attributes: &Arc<Attributes>) -> AttributesId {
        let full = self.hasher.hash_one(attributes);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let hash = (full ^ full >> 32) as u32;
        let entries = &mut self.entries;
        let same = |number: &u32| {
            entries.get(*number as usize).is_some_and(|entry| {
                entry.hash == hash && entry.attributes.as_ref() == Some(attributes)
            })
        };
        if let Some(&number) = self.index.find(spread(hash), same) {
            self.hold(AttributesId(number));
            return AttributesId(number);
        }
        self.next_hops.hold(attributes);
        let mut rank = Rank::of(attributes);
        let nowhere = self.next_hops.lead_nowhere(attributes);
        rank.doubts.set(Doubts::UNRESOLVED, nowhere);
        let entry = Entry {
            attributes: Some(attributes.clone()),
            holders: 1,
            hash,
            rank,
        };
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(place) = self.entries.get_mut(number as usize) {
                    *place = entry;
                }
                number
            }
            None => {
                let number = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
                self.entries.push(entry);
                number
            }
        };
        let entries = &self.entries;
        self.index.insert_unique(spread(hash), number, |number| {
            spread(entries.get(*number as usize).map_or(0, |entry| entry.hash))
        });
        AttributesId(number)
    }

    /// One more holder.
    pub(super) fn hold(&mut self, id: AttributesId) {
        if let Some(entry) = self.entries.get_mut(id.0 as usize) {
            entry.holders = entry.holders.saturating_add(1);
        }
    }

    /// One holder less; without any the attributes are freed.
    pub(super) fn release(&mut self, id: AttributesId) {
        let Some(entry) = self.entries.get_mut(id.0 as usize) else {
            return;
        };
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders > 0 {
            return;
        }
        if let Some(attributes) = entry.attributes.take() {
            self.next_hops.release(&attributes);
        }
        if let Ok(found) = self
            .index
            .find_entry(spread(entry.hash), |number| *number == id.0)
        {
            found.remove();
            self.free.push(id.0);
        }
    }

    /// The attributes; every id that is held has some.
    pub(super) fn get(&self, id: AttributesId) -> Option<&Arc<Attributes>> {
        self.entries.get(id.0 as usize)?.attributes.as_ref()
    }

    pub(super) fn rank(&self, id: AttributesId) -> Option<&Rank> {
        self.entries.get(id.0 as usize).map(|entry| &entry.rank)
    }

    pub(super) fn next_hops_mut(&mut self) -> &mut NextHops {
        &mut self.next_hops
    }

    /// These next hops lead nowhere; whether that is anything new for a set.
    pub(super) fn judge(&mut self, unresolved: BTreeSet<IpAddr>) -> bool {
        let Self {
            next_hops, entries, ..
        } = self;
        if !next_hops.judge(unresolved) {
            return false;
        }
        let mut news = false;
        for entry in entries {
            if let Some(attributes) = &entry.attributes {
                let (before, nowhere) = (entry.rank.doubts, next_hops.lead_nowhere(attributes));
                entry.rank.doubts.set(Doubts::UNRESOLVED, nowhere);
                news |= entry.rank.doubts != before;
            }
        }
        news
    }

    /// How many distinct sets there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(med: u32) -> Arc<Attributes> {
        Arc::new(Attributes {
            med: Some(med),
            ..Attributes::default()
        })
    }

    #[test]
    fn equal_sets_share_a_number_until_the_last_holder_is_gone() {
        let mut table = AttributeTable::default();
        let first = table.intern(&attributes(1));
        assert_eq!(table.intern(&attributes(1)), first);
        let second = table.intern(&attributes(2));
        assert_ne!(first, second);
        table.release(first);
        assert_eq!(table.len(), 2);
        table.release(first);
        assert_eq!(table.len(), 1);
        assert_eq!(
            table.intern(&attributes(3)),
            first,
            "numbers are used again"
        );
        assert_eq!(table.get(second), Some(&attributes(2)));
    }

    #[test]
    fn many_sets_are_told_apart() {
        let mut table = AttributeTable::default();
        let ids: Vec<_> = (0..10_000)
            .map(|med| table.intern(&attributes(med)))
            .collect();
        assert_eq!(table.len(), 10_000);
        for (med, id) in (0..).zip(&ids) {
            assert_eq!(table.get(*id), Some(&attributes(med)));
        }
        ids.into_iter().for_each(|id| table.release(id));
        assert_eq!(table.len(), 0);
    }
}
