//! One small entry for each prefix we want or have: made to hold a million of them.

use hashbrown::HashMap;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::{
    guard::Refusal,
    kernel::{Key, Layer},
    status::Counts,
    target::Id,
};

/// What we know of one place for a route. 12 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The set of next hops asked for; 0: not wanted.
    pub(crate) wanted: Id,
    /// The target in the kernel once everything submitted is done; 0: nothing of ours.
    pub(crate) kernel: Id,
    pub(crate) standing: Standing,
    /// Waits in a queue (or for its operation in flight to end).
    pub(crate) queued: bool,
    /// An operation for it is on its way; a second one has to wait for the outcome.
    pub(crate) in_flight: bool,
    /// In the kernel from an earlier run: not removed before the inputs are complete.
    pub(crate) found: bool,
    /// Seen in the reading of the kernel that is being compared.
    pub(crate) seen: bool,
}

/// What was decided last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    #[default]
    Undecided,
    Installed,
    Unresolved,
    Failed,
    /// [`Refusal::code`].
    Refused(u8),
}

impl Entry {
    fn is_idle(&self) -> bool {
        self.wanted == 0 && self.kernel == 0 && !self.queued && !self.in_flight
    }
}

/// How many entries stand where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    pub(crate) refusals: [u64; Refusal::KINDS.len()],
}

impl Tally {
    fn count(&mut self, entry: &Entry, by: impl Fn(&mut u64)) {
        if entry.wanted == 0 {
            if entry.kernel != 0 && entry.found {
                by(&mut self.counts.stale);
            }
            return;
        }
        by(&mut self.counts.desired);
        let pending = entry.queued || entry.in_flight;
        let place = match entry.standing {
            _ if pending => &mut self.counts.pending,
            Standing::Undecided => &mut self.counts.pending,
            Standing::Installed => &mut self.counts.installed,
            Standing::Unresolved => &mut self.counts.unresolved,
            Standing::Failed => &mut self.counts.failed,
            Standing::Refused(code) => {
                if let Some(refusals) = self.refusals.get_mut(usize::from(code)) {
                    by(refusals);
                }
                &mut self.counts.refused
            }
        };
        by(place);
    }
}

/// All entries, by family; keys are without host bits.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    v4: HashMap<Ipv4Network, Entry>,
    v6: HashMap<Ipv6Network, Entry>,
    blackholes: HashMap<IpNetwork, Entry>,
    pub(crate) tally4: Tally,
    pub(crate) tally6: Tally,
    pub(crate) tally_blackholes: Tally,
}

impl Routes {
    pub(crate) fn get(&self, key: &Key) -> Option<&Entry> {
        match (key.layer, key.prefix) {
            (Layer::Blackhole, prefix) => self.blackholes.get(&prefix),
            (Layer::Learned, IpNetwork::V4(prefix)) => self.v4.get(&prefix),
            (Layer::Learned, IpNetwork::V6(prefix)) => self.v6.get(&prefix),
        }
    }

    /// Changes the entry (a fresh one where there is none) and keeps the counts right; an entry with nothing
    /// left to say is dropped.
    pub(crate) fn update<R>(&mut self, key: &Key, change: impl FnOnce(&mut Entry) -> R) -> R {
        match (key.layer, key.prefix) {
            (Layer::Blackhole, prefix) => update(
                &mut self.blackholes,
                &mut self.tally_blackholes,
                prefix,
                change,
            ),
            (Layer::Learned, IpNetwork::V4(prefix)) => {
                update(&mut self.v4, &mut self.tally4, prefix, change)
            }
            (Layer::Learned, IpNetwork::V6(prefix)) => {
                update(&mut self.v6, &mut self.tally6, prefix, change)
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Entry)> {
        let learned = |prefix: IpNetwork| Key {
            layer: Layer::Learned,
            prefix,
        };
        let v4 = self
            .v4
            .iter()
            .map(move |(prefix, entry)| (learned((*prefix).into()), entry));
        let v6 = self
            .v6
            .iter()
            .map(move |(prefix, entry)| (learned((*prefix).into()), entry));
        let blackholes = self.blackholes.iter().map(|(&prefix, entry)| {
            (
                Key {
                    layer: Layer::Blackhole,
                    prefix,
                },
                entry,
            )
        });
        blackholes.chain(v4).chain(v6)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len() + self.blackholes.len()
    }

    /// Nothing of ours is left where this target was in the kernel; gives how many entries that concerns.
    pub(crate) fn forget_kernel(&mut self, target: Id) -> usize {
        forget_kernel(&mut self.v4, &mut self.tally4, target)
            + forget_kernel(&mut self.v6, &mut self.tally6, target)
    }

    /// Starts a comparison with the kernel.
    pub(crate) fn forget_seen(&mut self) {
        for entry in self
            .v4
            .values_mut()
            .chain(self.v6.values_mut())
            .chain(self.blackholes.values_mut())
        {
            entry.seen = false;
        }
    }

    pub(crate) fn reserve(&mut self, v4: usize, v6: usize) {
        self.v4.reserve(v4);
        self.v6.reserve(v6);
    }
}

fn forget_kernel<P>(entries: &mut HashMap<P, Entry>, tally: &mut Tally, target: Id) -> usize {
    let mut concerned = 0;
    entries.retain(|_, entry| {
        if entry.kernel != target {
            return true;
        }
        concerned += 1;
        tally.count(entry, |n| *n -= 1);
        entry.kernel = 0;
        entry.found = false;
        // Nothing is left to look at.
        entry.queued &= entry.wanted != 0 || entry.in_flight;
        let stays = !entry.is_idle();
        if stays {
            tally.count(entry, |n| *n += 1);
        }
        stays
    });
    concerned
}

fn update<P: std::hash::Hash + Eq, R>(
    entries: &mut HashMap<P, Entry>,
    tally: &mut Tally,
    prefix: P,
    change: impl FnOnce(&mut Entry) -> R,
) -> R {
    match entries.entry(prefix) {
        hashbrown::hash_map::Entry::Occupied(mut slot) => {
            let entry = slot.get_mut();
            tally.count(entry, |n| *n -= 1);
            let result = change(entry);
            if entry.is_idle() {
                slot.remove();
            } else {
                tally.count(entry, |n| *n += 1);
            }
            result
        }
        hashbrown::hash_map::Entry::Vacant(slot) => {
            let mut entry = Entry::default();
            let result = change(&mut entry);
            if !entry.is_idle() {
                tally.count(&entry, |n| *n += 1);
                slot.insert(entry);
            }
            result
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small_and_counted_where_it_stands() {
        assert!(size_of::<Entry>() <= 16);
        let mut routes = Routes::default();
        let key = Key {
            layer: Layer::Learned,
            prefix: "10.0.0.0/24".parse().unwrap(),
        };
        routes.update(&key, |entry| entry.wanted = 1);
        assert_eq!(
            (routes.tally4.counts.desired, routes.tally4.counts.pending),
            (1, 1)
        );
        routes.update(&key, |entry| {
            entry.kernel = 1;
            entry.standing = Standing::Installed;
        });
        assert_eq!(
            (routes.tally4.counts.installed, routes.tally4.counts.pending),
            (1, 0)
        );
        routes.update(&key, |entry| *entry = Entry::default());
        assert_eq!(routes.tally4.counts, Counts::default());
        assert_eq!(routes.iter().count(), 0);
    }
}
