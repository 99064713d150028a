//! What the kernel should hold: like a stream of output, a set of prefixes that wait until the installer has room.

use std::{net::IpAddr, sync::Arc};

use smallvec::SmallVec;

use super::{
    bits::BitSet,
    intern::AttributeTable,
    peer::Peers,
    route::{Flags, Route, Source},
    table::{Number, Table},
    task::{Hop, Install},
};
use crate::wire::{Attributes, NextHop};

/// Adj-RIB-Out towards the kernel, of one family.
#[derive(Debug, Default)]
pub(super) struct Installing {
    wanted: bool,
    pending: BitSet,
    told: BitSet,
}

impl Installing {
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            wanted,
            ..Self::default()
        }
    }

    /// Nobody installs any more.
    pub(super) fn stop(&mut self, table: &mut Table) {
        let told = std::mem::take(self).told;
        told.iter().for_each(|number| table.release(number));
    }

    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The next hops of the prefix may have changed.
    pub(super) fn mark(&mut self, number: Number) {
        if self.wanted {
            self.pending.insert(number);
        }
    }

    /// Adds to `batch` what changed, until it has `most`.
    pub(super) fn take(
        &mut self,
        most: usize,
        table: &mut Table,
        attributes: &AttributeTable,
        peers: &Peers,
        batch: &mut Vec<Install>,
    ) {
        let taken: Vec<Number> = self
            .pending
            .iter()
            .take(most.saturating_sub(batch.len()))
            .collect();
        for number in taken {
            self.pending.remove(number);
            let (Some(prefix), Some(destination)) = (table.prefix(number), table.get(number))
            else {
                continue;
            };
            let next_hops = hops(destination.routes.as_slice(), attributes, peers);
            let install = Install { prefix, next_hops };
            if install.next_hops.is_empty() {
                if self.told.remove(number) {
                    batch.push(install);
                    table.release(number);
                }
            } else {
                if self.told.insert(number) {
                    table.hold(number);
                }
                batch.push(install);
            }
        }
    }
}

/// Where the used routes lead; nowhere for what we originate ourselves.
fn hops(routes: &[Route], attributes: &AttributeTable, peers: &Peers) -> SmallVec<[Hop; 1]> {
    let mut used: SmallVec<[(&Route, &Arc<Attributes>); 4]> = routes
        .iter()
        .filter(|route| route.flags.intersects(Flags::BEST | Flags::MULTIPATH))
        .filter_map(|route| Some((route, attributes.get(route.effective)?)))
        .collect();
    if used
        .iter()
        .any(|(route, _)| route.source == Source::OURSELVES)
    {
        return SmallVec::new();
    }
    used.sort_by_key(|(route, attributes)| {
        (
            attributes.next_hop.map(|hop| hop.address),
            route.source,
            route.path_id,
        )
    });
    let weights = weights(used.iter().map(|(_, attributes)| &***attributes));
    let mut hops: SmallVec<[Hop; 1]> = SmallVec::new();
    for ((route, attributes), weight) in used.into_iter().zip(weights) {
        let Some(next_hop) = attributes.next_hop else {
            continue;
        };
        let hop = Hop {
            interface: interface(route, next_hop, peers),
            next_hop,
            weight,
        };
        let known = hops
            .iter_mut()
            .find(|other| other.next_hop == next_hop && other.interface == hop.interface);
        match known {
            Some(other) => other.weight = other.weight.max(weight),
            None => hops.push(hop),
        }
    }
    hops
}

/// The interface matters where an address means something on one link only.
fn interface(route: &Route, next_hop: NextHop, peers: &Peers) -> Option<Arc<str>> {
    let local = matches!(next_hop.address, IpAddr::V6(address) if address.is_unicast_link_local());
    if !local && next_hop.link_local.is_none() {
        return None;
    }
    peers.get(&route.source.as_peer()?)?.interface.clone()
}

/// The largest weight the kernel takes.
const MOST: f32 = 256.0;

/// Shares of traffic, if all say how much they can carry; else all are equal.
fn weights<'a>(routes: impl Iterator<Item = &'a Attributes>) -> SmallVec<[u16; 4]> {
    let bandwidths: SmallVec<[Option<f32>; 4]> = routes.map(bandwidth).collect();
    let known: Option<SmallVec<[f32; 4]>> = bandwidths.iter().copied().collect();
    let largest = known
        .as_ref()
        .and_then(|known| known.iter().copied().reduce(f32::max));
    let (Some(known), Some(largest)) = (known.filter(|known| known.len() > 1), largest) else {
        return SmallVec::from_elem(1, bandwidths.len());
    };
    if known.iter().all(|one| *one == largest) {
        return SmallVec::from_elem(1, known.len());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 1–256"
    )]
    let weight = |bandwidth: f32| (bandwidth / largest * MOST).round().clamp(1.0, MOST) as u16;
    known.into_iter().map(weight).collect()
}

fn bandwidth(attributes: &Attributes) -> Option<f32> {
    attributes
        .extended_communities
        .iter()
        .find_map(|community| community.link_bandwidth())
}
