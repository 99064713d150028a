//! The table as MRT records (RFC 6396 §4.3), part by part: between two parts the Rib does other things, so a dump shows each
//! prefix as it was when its turn came.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;

use super::{
    Rib,
    route::{Route, Source},
    seconds,
    table::Number,
};
use crate::{
    mrt::{self, Entry, IndexedPeer, PathIds},
    prefix::{Family, Prefix},
    wire::{Attributes, NextHop},
};

/// Prefixes of one part.
const PART: Number = 4096;

/// Where a dump goes on.
#[derive(Clone, Debug)]
pub struct Place {
    /// The number of each peer in the index.
    peers: Arc<HashMap<Source, u16>>,
    family: Family,
    number: Number,
    sequence: u32,
}

impl Rib {
    /// The part of the table at `place`, at first the index of peers, and where it goes on; `None`: that was the last one.
    /// Routes are told as their peers said them (Adj-RIB-In), those we originate as of the peer 0.0.0.0, which is us.
    #[must_use]
    pub fn dump(
        &self,
        place: Option<Place>,
        now: Instant,
        wall: SystemTime,
    ) -> (Bytes, Option<Place>) {
        let mut out = BytesMut::new();
        let next = match place {
            None => Some(self.index(wall, &mut out)),
            Some(place) => self.part(place, now, wall, &mut out),
        };
        (out.freeze(), next)
    }

    fn index(&self, wall: SystemTime, out: &mut BytesMut) -> Place {
        let mut known: Vec<_> = self.peers.values().collect();
        known.sort_unstable_by_key(|peer| peer.id);
        let ourselves = IndexedPeer {
            router_id: self.settings.router_id,
            address: Ipv4Addr::UNSPECIFIED.into(),
            asn: self.settings.asn,
        };
        let of_peers = known.iter().map(|peer| IndexedPeer {
            router_id: peer.router_id,
            address: peer.address,
            asn: peer.asn,
        });
        // More than can be counted are not told of.
        let listed: Vec<IndexedPeer> = std::iter::once(ourselves)
            .chain(of_peers)
            .take(u16::MAX.into())
            .collect();
        mrt::peer_index_table(self.settings.router_id, "", &listed, wall, out);
        let sources =
            std::iter::once(Source::OURSELVES).chain(known.iter().map(|peer| peer.source()));
        Place {
            peers: Arc::new(sources.zip(0..u16::MAX).collect()),
            family: Family::IPv4,
            number: 0,
            sequence: 0,
        }
    }

    fn part(
        &self,
        mut place: Place,
        now: Instant,
        wall: SystemTime,
        out: &mut BytesMut,
    ) -> Option<Place> {
        let table = &self.sides.of(place.family).table;
        let all = table.numbers().end;
        let end = place.number.saturating_add(PART).min(all);
        for number in place.number..end {
            let (Some(destination), Some(prefix)) = (table.get(number), table.prefix(number))
            else {
                continue;
            };
            let routes: Vec<(&Route, u16, SystemTime, Attributes)> = destination
                .routes
                .as_slice()
                .iter()
                .filter_map(|route| {
                    let peer = *place.peers.get(&route.source)?;
                    let age = now
                        .saturating_duration_since(self.started)
                        .saturating_sub(seconds(route.since));
                    let since = wall.checked_sub(age).unwrap_or(wall);
                    Some((route, peer, since, self.as_said(prefix, route)?))
                })
                .collect();
            for ids in [PathIds::Without, PathIds::With] {
                let entries: Vec<Entry<'_>> = routes
                    .iter()
                    .filter(|(route, ..)| self.path_ids(prefix.family(), route) == ids)
                    .map(|(route, peer, since, attributes)| Entry {
                        peer: *peer,
                        since: *since,
                        path_id: route.path_id,
                        attributes,
                    })
                    .collect();
                if !entries.is_empty() {
                    mrt::rib(place.sequence, prefix, ids, &entries, wall, out);
                    place.sequence = place.sequence.wrapping_add(1);
                }
            }
        }
        place.number = end;
        if end < all {
            return Some(place);
        }
        place.number = 0;
        match place.family {
            Family::IPv4 => Some(Place {
                family: Family::IPv6,
                ..place
            }),
            Family::IPv6 => None,
        }
    }

    /// The attributes of a route as its peer said them; of one we originate, with no address for the next hop: it depends on
    /// who is told.
    fn as_said(&self, prefix: Prefix, route: &Route) -> Option<Attributes> {
        let mut attributes = (**self.attributes.get(route.received)?).clone();
        if attributes.next_hop.is_none() {
            let unspecified = match prefix.family() {
                Family::IPv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                Family::IPv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            attributes.next_hop = Some(NextHop::from(unspecified));
        }
        Some(attributes)
    }

    /// Whether its peer gives its routes path identifiers.
    fn path_ids(&self, family: Family, route: &Route) -> PathIds {
        let peer = route.source.as_peer().and_then(|id| self.peers.get(&id));
        let live = peer.and_then(|peer| peer.session.as_ref());
        let agreed = live.is_some_and(|live| live.context.add_path_receive.has(family));
        if agreed || route.path_id != 0 {
            PathIds::With
        } else {
            PathIds::Without
        }
    }
}
