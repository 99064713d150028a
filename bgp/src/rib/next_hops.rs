//! The next hops of all routes, and which of them lead nowhere: such a route yields to any that can be used (RFC 4271 §9.1.2.1).

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use hashbrown::HashMap;

use super::Rib;
use crate::wire::{Attributes, NextHop};

/// Next hops, counted by the sets of attributes that name them.
#[derive(Debug, Default)]
pub(super) struct NextHops {
    sets: HashMap<IpAddr, u32>,
    /// Another one is named, or one no more.
    changed: bool,
    unresolved: BTreeSet<IpAddr>,
}

/// The next hop that can be asked about. A link-local one is where its session is, and ends with it.
fn of(attributes: &Attributes) -> Option<IpAddr> {
    let hop: NextHop = attributes.next_hop?;
    let local = matches!(hop.host(), IpAddr::V6(address) if address.is_unicast_link_local());
    (!local && hop.link_local.is_none()).then_some(hop.host())
}

impl NextHops {
    /// One more set of attributes.
    pub(super) fn hold(&mut self, attributes: &Attributes) {
        let Some(address) = of(attributes) else {
            return;
        };
        let sets = self.sets.entry(address).or_default();
        self.changed |= *sets == 0;
        *sets += 1;
    }

    /// One set less.
    pub(super) fn release(&mut self, attributes: &Attributes) {
        let Some(address) = of(attributes) else {
            return;
        };
        if let Some(sets) = self.sets.get_mut(&address) {
            *sets -= 1;
            if *sets == 0 {
                self.sets.remove(&address);
                self.changed = true;
            }
        }
    }

    /// Whether the next hop of these attributes is known to lead nowhere.
    pub(super) fn lead_nowhere(&self, attributes: &Attributes) -> bool {
        !self.unresolved.is_empty()
            && of(attributes).is_some_and(|address| self.unresolved.contains(&address))
    }

    /// Another verdict; whether it is another one.
    pub(super) fn judge(&mut self, unresolved: BTreeSet<IpAddr>) -> bool {
        let before = std::mem::replace(&mut self.unresolved, unresolved);
        before != self.unresolved
    }

    fn take_changed(&mut self) -> Option<BTreeSet<IpAddr>> {
        std::mem::take(&mut self.changed).then(|| self.sets.keys().copied().collect())
    }
}

impl Rib {
    /// The next hops of all routes, where they have changed since the last call.
    pub fn take_next_hops(&mut self) -> Option<BTreeSet<IpAddr>> {
        self.attributes.next_hops_mut().take_changed()
    }

    /// Those of them that lead nowhere. Of others nothing is known, and that speaks for them.
    pub fn unresolved(&mut self, now: Instant, next_hops: BTreeSet<IpAddr>) {
        self.now(now);
        if self.attributes.judge(next_hops) {
            self.decide_all();
        }
    }
}
