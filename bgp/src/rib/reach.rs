//! How ranges of addresses are reached: a light answer for who looks often, as an audit does.

use std::net::IpAddr;

use super::{
    Rib, Side,
    route::{Flags, Route, Source},
    table::{Destination, Number},
};
use crate::{
    prefix::{Family, Prefix},
    status::{Reach, Refused},
};

impl Rib {
    /// How each prefix that peers told us of and that meets one of these ranges is reached, in order of the prefixes.
    #[must_use]
    pub fn reach(&self, ranges: Vec<Prefix>) -> Vec<Reach> {
        if ranges.is_empty() {
            return Vec::new();
        }
        let ranges = disjoint(ranges);
        let mut found = Vec::new();
        for family in Family::ALL {
            let side = self.sides.of(family);
            found.extend(side.table.iter().filter_map(|(number, destination)| {
                self.reach_of(side, number, destination, &ranges)
            }));
        }
        found.sort_unstable_by_key(|reach| reach.prefix);
        found
    }

    fn reach_of(
        &self,
        side: &Side,
        number: Number,
        destination: &Destination,
        ranges: &[Prefix],
    ) -> Option<Reach> {
        let prefix = side.table.prefix(number)?;
        let routes = destination.routes.as_slice();
        let ours = |route: &Route| route.is_from(Source::OURSELVES);
        if !meets(ranges, &prefix) || routes.iter().any(ours) {
            return None;
        }
        let used = Flags::BEST | Flags::MULTIPATH;
        let next_hops: Vec<IpAddr> = routes
            .iter()
            .filter(|route| route.flags.intersects(used))
            .filter_map(|route| self.attributes.get(route.effective)?.next_hop)
            .map(|next_hop| next_hop.host())
            .collect();
        let refused = routes.iter().find(|route| !route.eligible());
        let refused = refused.filter(|_| next_hops.is_empty());
        Some(Reach {
            prefix,
            from: routes.first().and_then(|route| self.name_of(route)),
            next_hops,
            refused: refused.map(|route| Refused {
                from: self.name_of(route).unwrap_or_default(),
                why: self.refusal(prefix, route),
            }),
        })
    }

    fn name_of(&self, route: &Route) -> Option<String> {
        let peer = self.peers.get(&route.source.as_peer()?)?;
        Some(peer.name.to_string())
    }
}

/// Without those that lie inside another: in order, and none meets the next.
fn disjoint(mut ranges: Vec<Prefix>) -> Vec<Prefix> {
    ranges.sort_unstable();
    ranges.dedup_by(|inner, outer| outer.contains(inner));
    ranges
}

/// Whether a prefix shares an address with one of these. Only its neighbours in order can.
fn meets(ranges: &[Prefix], prefix: &Prefix) -> bool {
    let after = ranges.partition_point(|range| range < prefix);
    let before = after.checked_sub(1).and_then(|before| ranges.get(before));
    let mut neighbours = before.into_iter().chain(ranges.get(after));
    neighbours.any(|range| range.overlaps(prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_prefix() -> impl Strategy<Value = Prefix> {
        (0_u32..64, 0_u8..=8).prop_map(|(bits, length)| {
            Prefix::v4((bits << 26).into(), length).expect("a short prefix")
        })
    }

    proptest! {
        #[test]
        fn a_prefix_meets_ranges_as_a_look_at_each_of_them_says(
            ranges in proptest::collection::vec(any_prefix(), 0..12),
            asked in any_prefix(),
        ) {
            let naive = ranges.iter().any(|range| range.overlaps(&asked));
            prop_assert_eq!(meets(&disjoint(ranges), &asked), naive);
        }
    }
}
