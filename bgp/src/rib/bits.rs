//! A set of small numbers as bits, quick to walk even where it is nearly empty.

/// A set of numbers. A second level tells which words hold any, so that a walk over a million costs what it finds.
#[derive(Clone, Debug, Default)]
pub(super) struct BitSet {
    words: Vec<u64>,
    summary: Vec<u64>,
    count: usize,
}

const fn split(number: u32) -> (usize, u64) {
    ((number / 64) as usize, 1 << (number % 64))
}

impl BitSet {
    /// Adds a number; whether it was not there.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = split(number);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
            self.summary.resize(self.words.len().div_ceil(64), 0);
        }
        let Some(place) = self.words.get_mut(word) else {
            return false;
        };
        let new = *place & bit == 0;
        *place |= bit;
        if let Some(summary) = self.summary.get_mut(word / 64) {
            *summary |= 1 << (word % 64);
        }
        self.count += usize::from(new);
        new
    }

    /// Removes a number; whether it was there.
    pub(super) fn remove(&mut self, number: u32) -> bool {
        let (word, bit) = split(number);
        let Some(place) = self.words.get_mut(word) else {
            return false;
        };
        let was = *place & bit != 0;
        *place &= !bit;
        if *place == 0
            && let Some(summary) = self.summary.get_mut(word / 64)
        {
            *summary &= !(1 << (word % 64));
        }
        self.count -= usize::from(was);
        was
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        let (word, bit) = split(number);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All members from `start` on, in order.
    pub(super) fn from(&self, start: u32) -> impl Iterator<Item = u32> + '_ {
        let (first, bit) = split(start);
        let head = self
            .words
            .get(first)
            .map_or(0, |word| word & !(bit.wrapping_sub(1)));
        Bits(head).map(move |bit| number(first, bit)).chain(
            self.words_after(first)
                .flat_map(|(place, word)| Bits(word).map(move |bit| number(place, bit))),
        )
    }

    /// All members in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.from(0)
    }

    fn words_after(&self, first: usize) -> impl Iterator<Item = (usize, u64)> + '_ {
        let next = first + 1;
        let (place, bit) = (next / 64, 1_u64 << (next % 64));
        self.summary
            .iter()
            .enumerate()
            .skip(place)
            .flat_map(move |(at, summary)| {
                let wanted = if at == place { !(bit - 1) } else { u64::MAX };
                Bits(summary & wanted).map(move |bit| at * 64 + bit as usize)
            })
            .filter_map(|place| self.words.get(place).map(|word| (place, *word)))
    }
}

fn number(word: usize, bit: u32) -> u32 {
    u32::try_from(word * 64)
        .unwrap_or(u32::MAX)
        .saturating_add(bit)
}

/// The places of the bits of a word.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        (self.0 != 0).then(|| {
            let bit = self.0.trailing_zeros();
            self.0 &= self.0 - 1;
            bit
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(
            steps in prop::collection::vec((any::<bool>(), 0_u32..20_000), 0..300),
            start in 0_u32..20_100,
        ) {
            let (mut bits, mut set) = (BitSet::default(), BTreeSet::new());
            for (insert, number) in steps {
                if insert {
                    prop_assert_eq!(bits.insert(number), set.insert(number));
                } else {
                    prop_assert_eq!(bits.remove(number), set.remove(&number));
                }
                prop_assert_eq!(bits.contains(number), set.contains(&number));
            }
            prop_assert_eq!(bits.len(), set.len());
            prop_assert!(bits.iter().eq(set.iter().copied()));
            prop_assert!(bits.from(start).eq(set.range(start..).copied()));
        }
    }
}
