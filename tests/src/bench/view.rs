//! What a sink has heard: counts, and for every prefix of the table where its route came from.

use std::sync::Arc;

use super::{
    message::{each4, each6, read_update},
    table::{Prefix4, Table},
};

/// Every prefix of a table by number, and what is right to say of it. Shared by all sinks.
#[derive(Debug)]
pub struct Universe {
    present: Vec<u64>,
    before: Vec<u32>,
    count4: usize,
    count: usize,
    set_of: Vec<u32>,
    winner_of: Vec<u8>,
}

impl Universe {
    /// Of a table, with the rule which source wins a set.
    #[must_use]
    pub fn new(table: &Table, winner: fn(usize) -> Option<u32>) -> Arc<Self> {
        let mut present = vec![0_u64; 1 << 19];
        for prefix in &table.prefixes {
            present[prefix.place() / 64] |= 1 << (prefix.place() % 64);
        }
        let mut sum = 0;
        let before = present
            .iter()
            .map(|word| {
                sum += word.count_ones();
                sum - word.count_ones()
            })
            .collect();
        let count4 = table.prefixes.len();
        let count = count4 + table.prefixes6 as usize;
        let mut universe = Self {
            present,
            before,
            count4,
            count,
            set_of: vec![u32::MAX; count],
            winner_of: vec![0; count],
        };
        for (number, set) in table.sets.iter().enumerate() {
            let name = set
                .path
                .last()
                .map_or(u32::MAX, |origin| origin - super::table::FIRST_ORIGIN);
            for &prefix in &table.prefixes[set.prefixes.clone()] {
                if let Some(index) = universe.index4(prefix) {
                    universe.set_of[index] = name;
                    universe.winner_of[index] = winner(number).map_or(0, |source| source as u8 + 1);
                }
            }
        }
        Arc::new(universe)
    }

    fn index4(&self, prefix: Prefix4) -> Option<usize> {
        if prefix.length > 24 {
            return None;
        }
        let (word, bit) = (prefix.place() / 64, prefix.place() % 64);
        let below = self.present[word] & ((1 << bit) - 1);
        (self.present[word] >> bit & 1 == 1)
            .then(|| (self.before[word] + below.count_ones()) as usize)
    }

    fn index6(&self, number: Option<u32>) -> Option<usize> {
        let index = self.count4 + number? as usize;
        (index < self.count).then_some(index)
    }
}

/// What one session has heard.
#[derive(Debug)]
pub struct View {
    universe: Arc<Universe>,
    /// Per prefix: 0 not there, 1 + source otherwise.
    from: Vec<u8>,
    /// What the session announced itself: it may come back, and counts for nothing.
    own: Option<u32>,
    /// UPDATE messages.
    pub updates: u64,
    /// UPDATE messages that withdraw.
    pub withdrawing: u64,
    /// Prefixes announced.
    pub announced: u64,
    /// Prefixes withdrawn.
    pub withdrawn: u64,
    /// Prefixes there now.
    pub present: usize,
    /// Of these, such as come from the source that should win.
    pub right: usize,
    /// Prefixes that nobody announced, or not with this set's attributes.
    pub wrong: u64,
}

impl View {
    /// Nothing heard yet.
    #[must_use]
    pub fn new(universe: Arc<Universe>) -> Self {
        Self {
            from: vec![0; universe.count],
            universe,
            own: None,
            updates: 0,
            withdrawing: 0,
            announced: 0,
            withdrawn: 0,
            present: 0,
            right: 0,
            wrong: 0,
        }
    }

    /// The same, of a session that announces the table's IPv4 prefix `number` itself.
    #[must_use]
    pub fn of_owner(universe: Arc<Universe>, number: u32) -> Self {
        Self {
            own: Some(number),
            ..Self::new(universe)
        }
    }

    /// Takes in the body of an UPDATE.
    pub fn update(&mut self, body: &[u8]) {
        let said = read_update(body);
        self.updates += 1;
        let universe = Arc::clone(&self.universe);
        let before = self.withdrawn;
        each4(said.withdrawn, |prefix| {
            self.withdraw(universe.index4(prefix))
        });
        each6(said.withdrawn6, |number| {
            self.withdraw(universe.index6(number))
        });
        self.withdrawing += u64::from(self.withdrawn > before);
        let from = said.source.map_or(1, |source| source as u8 + 1);
        each4(said.announced, |prefix| {
            self.announce(universe.index4(prefix), from, said.set)
        });
        each6(said.announced6, |number| {
            self.announce(universe.index6(number), from, said.set)
        });
    }

    fn announce(&mut self, index: Option<usize>, from: u8, set: Option<u32>) {
        self.announced += 1;
        let Some(index) = index else {
            self.wrong += 1;
            return;
        };
        if self.own.is_some_and(|own| own as usize == index) {
            return;
        }
        self.wrong += u64::from(set.unwrap_or(u32::MAX) != self.universe.set_of[index]);
        let was = std::mem::replace(&mut self.from[index], from);
        self.present += usize::from(was == 0);
        self.right += usize::from(self.is_right(index, from));
        self.right -= usize::from(was != 0 && self.is_right(index, was));
    }

    fn withdraw(&mut self, index: Option<usize>) {
        self.withdrawn += 1;
        let Some(index) = index else {
            self.wrong += 1;
            return;
        };
        let was = std::mem::take(&mut self.from[index]);
        self.present -= usize::from(was != 0);
        self.right -= usize::from(was != 0 && self.is_right(index, was));
    }

    fn is_right(&self, index: usize, from: u8) -> bool {
        matches!(self.universe.winner_of[index], winner if winner == 0 || winner == from)
    }

    /// The session is new: nothing is there.
    pub fn clear(&mut self) {
        let own = self.own;
        *self = Self::new(Arc::clone(&self.universe));
        self.own = own;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        message::{HEADER, Source, announce, withdraw},
        table::Table,
    };

    fn hear(view: &mut View, mut octets: &[u8]) {
        while !octets.is_empty() {
            let length = usize::from(u16::from_be_bytes([octets[16], octets[17]]));
            view.update(&octets[HEADER..length]);
            octets = &octets[length..];
        }
    }

    #[test]
    fn a_view_of_what_is_announced_is_whole_and_right_and_empty_once_it_is_withdrawn() {
        fn winner(set: usize) -> Option<u32> {
            Some(set as u32 % 2)
        }
        let table = Table::internet(5_400, 1_000);
        let mut view = View::new(Universe::new(&table, winner));
        let source = |number| Source {
            number,
            address: [10, 0, 0, 2].into(),
            winner,
        };
        hear(&mut view, &announce(&table, source(0)));
        assert_eq!(
            (view.present, view.updates, view.announced, view.wrong),
            (5_400, 1_000, 5_400, 0)
        );
        let right = view.right;
        assert!(right > 2_000 && right < 3_400);
        hear(&mut view, &announce(&table, source(1)));
        assert_eq!(
            (view.present, view.right, view.wrong),
            (5_400, 5_400 - right, 0)
        );
        hear(&mut view, &withdraw(&table));
        assert_eq!(
            (view.present, view.right, view.withdrawn, view.withdrawing),
            (0, 0, 5_400, 6)
        );
    }
}
