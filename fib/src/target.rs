//! What a kernel route does with a packet, and one copy of each such thing however many routes share it.

use std::{fmt, hash::Hash, net::IpAddr, sync::Arc};

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::objects::ObjectId;

/// What a kernel route does with a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// Something of ours may be there, but we don't know what: it is replaced or removed, never trusted.
    Unknown,
    Blackhole,
    /// What the next-hop object with this number says.
    Object(ObjectId),
    /// At least one, in canonical order, none twice.
    Hops(SmallVec<[Hop; 1]>),
}

/// One way out of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hop {
    /// `None`: the destination itself is on the link.
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) interface: u32,
    /// 1 to 256.
    pub(crate) weight: u16,
    pub(crate) onlink: bool,
}

impl Target {
    /// The target through these hops: sorted, merged, and with the smallest weights that say the same.
    pub(crate) fn through(mut hops: SmallVec<[Hop; 1]>) -> Self {
        hops.sort_unstable();
        hops.dedup_by(|hop, kept| {
            let same = (hop.gateway, hop.interface, hop.onlink)
                == (kept.gateway, kept.interface, kept.onlink);
            if same {
                kept.weight = kept.weight.saturating_add(hop.weight);
            }
            same
        });
        normalise_weights(&mut hops);
        // Weights take part in the order only once they are final.
        hops.sort_unstable();
        Self::Hops(hops)
    }

    pub(crate) fn uses(&self, interface: u32) -> bool {
        matches!(self, Self::Hops(hops) if hops.iter().any(|hop| hop.interface == interface))
    }
}

/// The kernel takes 1 to 256; equal shares are always 1, so that equal sets compare equal.
fn normalise_weights(hops: &mut [Hop]) {
    let most = hops.iter().map(|hop| hop.weight).max().unwrap_or(1).max(1);
    let equal = hops.iter().all(|hop| hop.weight == most);
    for hop in hops {
        hop.weight = if equal {
            1
        } else if most > 256 {
            (u32::from(hop.weight) * 256)
                .div_ceil(u32::from(most))
                .clamp(1, 256) as u16
        } else {
            hop.weight.max(1)
        };
    }
}

/// A target in the words of `ip route`, with interfaces by name where known.
pub(crate) struct InWords<'a, N>(pub(crate) &'a Target, pub(crate) N);

impl<'a, N: Fn(u32) -> Option<&'a str>> fmt::Display for InWords<'a, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Target::Unknown => f.write_str("(not known)"),
            Target::Blackhole => f.write_str("blackhole"),
            Target::Object(id) => write!(f, "nhid {id}"),
            Target::Hops(hops) => match hops.as_slice() {
                [hop] => write_hop(f, hop, &self.1),
                hops => {
                    for (i, hop) in hops.iter().enumerate() {
                        f.write_str(if i == 0 { "nexthop " } else { " nexthop " })?;
                        write_hop(f, hop, &self.1)?;
                        write!(f, " weight {}", hop.weight)?;
                    }
                    Ok(())
                }
            },
        }
    }
}

pub(crate) fn write_hop<'a>(
    f: &mut impl fmt::Write,
    hop: &Hop,
    name: &impl Fn(u32) -> Option<&'a str>,
) -> fmt::Result {
    if let Some(gateway) = hop.gateway {
        write!(f, "via {gateway} ")?;
    }
    match name(hop.interface) {
        Some(name) => write!(f, "dev {name}")?,
        None => write!(f, "dev if{}", hop.interface)?,
    }
    if hop.onlink {
        f.write_str(" onlink")
    } else {
        Ok(())
    }
}

/// The number of an interned value; 0 is never given out and means "none" where it is stored.
pub(crate) type Id = u32;

/// One copy of each value, counted by its users.
#[derive(Debug)]
pub(crate) struct Interned<T> {
    slots: Vec<Option<Slot<T>>>,
    ids: HashMap<Arc<T>, Id>,
    free: Vec<Id>,
}

#[derive(Debug)]
struct Slot<T> {
    value: Arc<T>,
    users: u32,
}

impl<T: Hash + Eq> Interned<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![None],
            ids: HashMap::new(),
            free: Vec::new(),
        }
    }

    /// The number of `value`, with one more user.
    pub(crate) fn acquire(&mut self, value: T) -> Id {
        if let Some(&id) = self.ids.get(&value) {
            self.retain(id);
            return id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Id::try_from(self.slots.len() - 1).unwrap_or(Id::MAX)
        });
        let value = Arc::new(value);
        self.ids.insert(Arc::clone(&value), id);
        if let Some(slot) = self.slots.get_mut(id as usize) {
            *slot = Some(Slot { value, users: 1 });
        }
        id
    }

    pub(crate) fn get(&self, id: Id) -> Option<&Arc<T>> {
        self.slots
            .get(id as usize)?
            .as_ref()
            .map(|slot| &slot.value)
    }

    /// The number of a value that has one.
    pub(crate) fn find(&self, value: &T) -> Option<Id> {
        self.ids.get(value).copied()
    }

    pub(crate) fn users(&self, id: Id) -> u32 {
        let slot = self.slots.get(id as usize).and_then(Option::as_ref);
        slot.map_or(0, |slot| slot.users)
    }

    pub(crate) fn retain(&mut self, id: Id) {
        if let Some(Some(slot)) = self.slots.get_mut(id as usize) {
            slot.users += 1;
        }
    }

    /// One user less; true if that was the last one and the number is free again.
    pub(crate) fn release(&mut self, id: Id) -> bool {
        let Some(slot) = self.slots.get_mut(id as usize) else {
            return false;
        };
        let Some(used) = slot else { return false };
        used.users -= 1;
        if used.users > 0 {
            return false;
        }
        if let Some(gone) = slot.take() {
            self.ids.remove(&gone.value);
        }
        self.free.push(id);
        true
    }

    pub(crate) fn ids(&self) -> Vec<Id> {
        let used = |(id, slot): (usize, &Option<Slot<T>>)| slot.as_ref().map(|_| id as Id);
        self.slots.iter().enumerate().filter_map(used).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &Arc<T>)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(id, slot)| Some((id as Id, &slot.as_ref()?.value)))
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    fn hop(gateway: &str, weight: u16) -> Hop {
        Hop {
            gateway: Some(gateway.parse().unwrap()),
            interface: 2,
            weight,
            onlink: false,
        }
    }

    #[test]
    fn the_order_of_hops_does_not_matter() {
        let there = Target::through(smallvec![hop("10.0.0.2", 1), hop("10.0.0.3", 1)]);
        let back = Target::through(smallvec![hop("10.0.0.3", 1), hop("10.0.0.2", 1)]);
        assert_eq!(there, back);
    }

    #[test]
    fn equal_weights_are_one_and_large_ones_are_scaled() {
        assert_eq!(
            Target::through(smallvec![hop("10.0.0.2", 700), hop("10.0.0.3", 700)]),
            Target::Hops(smallvec![hop("10.0.0.2", 1), hop("10.0.0.3", 1)])
        );
        assert_eq!(
            Target::through(smallvec![hop("10.0.0.2", 1000), hop("10.0.0.3", 500)]),
            Target::Hops(smallvec![hop("10.0.0.2", 256), hop("10.0.0.3", 128)])
        );
    }

    #[test]
    fn the_same_hop_twice_is_one_hop_of_both_weights() {
        assert_eq!(
            Target::through(smallvec![
                hop("10.0.0.2", 1),
                hop("10.0.0.3", 1),
                hop("10.0.0.2", 1)
            ]),
            Target::Hops(smallvec![hop("10.0.0.2", 2), hop("10.0.0.3", 1)])
        );
    }

    #[test]
    fn an_interned_value_lives_as_long_as_it_is_used() {
        let mut interned = Interned::new();
        let one = interned.acquire("a");
        assert_eq!(interned.acquire("a"), one);
        assert!(!interned.release(one));
        assert!(interned.release(one));
        assert!(interned.get(one).is_none());
        assert_eq!(interned.acquire("b"), one);
    }
}
