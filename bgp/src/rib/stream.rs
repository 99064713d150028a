//! What a stream of output has told and has still to tell: no copy of routes, just who each prefix was told from, and a set
//! of prefixes that wait. What waits is looked up when there is room, so the newest wins and a slow peer costs a bit a prefix.

use std::{collections::BTreeSet, time::Instant};

use hashbrown::HashMap;

use super::{
    bits::BitSet,
    export::{From, Treatment},
    intern::AttributeTable,
    peer::Peers,
    round::Round,
    route::{Route, Source},
    table::{Number, Table},
    task::{PeerId, Settings},
    told::Told,
};
use crate::{
    prefix::{Family, Prefix},
    speaker::Event,
    status::PeerKind,
    wire::Attributes,
};

/// What output looks at: one family's table and everything beside it.
pub(super) struct View<'a> {
    pub(super) now: Instant,
    pub(super) family: Family,
    pub(super) table: &'a mut Table,
    pub(super) attributes: &'a AttributeTable,
    pub(super) peers: &'a mut Peers,
    pub(super) settings: &'a Settings,
    pub(super) events: &'a mut Vec<Event>,
    pub(super) complete: bool,
}

/// The attributes and source of a best route as one number; equal ones are written together.
type Key = u64;

/// The key of a prefix that has no best route: the lowest, so that what is to be withdrawn comes first.
const NOTHING: Key = 0;

impl View<'_> {
    pub(super) fn best(&self, number: Number) -> Option<&Route> {
        self.table.get(number)?.routes.best()
    }

    fn key(&self, number: Number) -> Key {
        self.best(number).map_or(NOTHING, |route| {
            u64::from(route.effective.number()) << 32 | u64::from(route.source.number())
        })
    }

    /// Where a route of `source` to `prefix` comes from; `None` if that is no longer known.
    pub(super) fn from(&self, source: Source, prefix: Prefix) -> Option<From<'_>> {
        from(self.settings, self.peers, source, prefix)
    }

    /// What `treatment` makes of the best route to a prefix.
    pub(super) fn export(
        &self,
        treatment: &Treatment,
        number: Number,
    ) -> Option<(Source, Attributes)> {
        let route = self.best(number)?;
        let prefix = self.table.prefix(number)?;
        let out = self.export_route(treatment, route, prefix)?;
        Some((route.source, out))
    }

    /// What `treatment` makes of a route to a prefix.
    pub(super) fn export_route(
        &self,
        treatment: &Treatment,
        route: &Route,
        prefix: Prefix,
    ) -> Option<Attributes> {
        let attributes = self.attributes.get(route.effective)?;
        let from = self.from(route.source, prefix)?;
        treatment.export(prefix, from, attributes).ok()
    }

    pub(super) fn is_full(&self, peer: PeerId) -> bool {
        self.live(peer).is_none_or(super::peer::Live::is_full)
    }

    fn live(&self, peer: PeerId) -> Option<&super::peer::Live> {
        self.peers.get(&peer)?.session.as_ref()
    }
}

/// Where a route of `source` to `prefix` comes from, as far as export wants to know.
pub(super) fn from<'a>(
    settings: &'a Settings,
    peers: &Peers,
    source: Source,
    prefix: Prefix,
) -> Option<From<'a>> {
    if source == Source::OURSELVES {
        return settings.originate.get(&prefix).map(From::Ourselves);
    }
    let peer = peers.get(&source.as_peer()?)?;
    Some(From::Peer {
        kind: peer.kind,
        client: peer.config.route_reflector_client && peer.kind == PeerKind::Internal,
        router_id: peer.router_id,
    })
}

/// One stream of output: what was told, and what waits.
#[derive(Debug)]
pub(super) struct Stream {
    told: Told,
    /// Prefixes that may have to be told again.
    pending: BitSet,
    /// Some of them in the order in which they are written, the next one last.
    queue: Vec<(Key, Number)>,
    /// Where the walk over those that wait goes on.
    cursor: Number,
}

/// Prefixes put in order at once: equal attributes among so many meet in one message.
const CHUNK: usize = 256 * 1024;
/// Octets written before room is looked at again.
const ROUND: usize = 64 * 1024;
/// Prefixes of equal attributes taken at once.
const RUN: usize = 8 * 1024;

impl Stream {
    /// One that has told several peers nothing.
    pub(super) fn shared() -> Self {
        Self::new(Told::From {
            sources: Vec::new(),
            count: 0,
            by_source: HashMap::new(),
        })
    }

    /// One that has told `member` nothing.
    pub(super) fn lone(member: PeerId) -> Self {
        Self::new(Told::To {
            member: Source::peer(member),
            prefixes: BitSet::default(),
        })
    }

    fn new(told: Told) -> Self {
        Self {
            told,
            pending: BitSet::default(),
            queue: Vec::new(),
            cursor: 0,
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// The prefix may have to be told again.
    pub(super) fn mark(&mut self, number: Number) {
        self.pending.insert(number);
    }

    /// Everything that has a route is to be told.
    pub(super) fn mark_all(&mut self, table: &Table) {
        table.iter().for_each(|(number, _)| self.mark(number));
    }

    /// Everything that was told is to be told again.
    pub(super) fn mark_told(&mut self) {
        for number in self.told.numbers() {
            self.mark(number);
        }
    }

    /// How many prefixes `member` has been told.
    pub(super) fn told_to(&self, member: PeerId) -> usize {
        match &self.told {
            Told::From {
                count, by_source, ..
            } => {
                let own = by_source.get(&Source::peer(member)).copied();
                count.saturating_sub(own.unwrap_or(0))
            }
            Told::To { prefixes, .. } => prefixes.len(),
        }
    }

    /// Whether nobody was told anything.
    pub(super) fn told_nothing(&self) -> bool {
        match &self.told {
            Told::From { count, .. } => *count == 0,
            Told::To { prefixes, .. } => prefixes.is_empty(),
        }
    }

    /// Whether `member` has been told of the prefix.
    pub(super) fn has_told(&self, member: PeerId, number: Number) -> bool {
        let source = self.told.get(number);
        source != Source::NONE && source != Source::peer(member)
    }

    /// A stream for `member` alone that has told it what this one has.
    pub(super) fn split(&self, member: PeerId, table: &mut Table) -> Self {
        let mut prefixes = BitSet::default();
        for number in self.told.numbers() {
            if self.has_told(member, number) {
                prefixes.insert(number);
                table.hold(number);
            }
        }
        Self {
            pending: self.pending.clone(),
            ..Self::new(Told::To {
                member: Source::peer(member),
                prefixes,
            })
        }
    }

    /// Makes this stream, of one member, one that others can share. What it told before and has still to tell anew is from a
    /// source nobody knows any more.
    pub(super) fn share(&mut self, treatment: &Treatment, view: &mut View<'_>) {
        let Told::To { member, prefixes } = &mut self.told else {
            return;
        };
        let (member, prefixes) = (*member, std::mem::take(prefixes));
        let mut shared = Self::shared();
        for number in prefixes.iter() {
            let source = view
                .best(number)
                .filter(|_| !self.pending.contains(number))
                .map_or(Source::UNKNOWN, |route| route.source);
            shared.told.tell(number, source);
        }
        // Its own routes it was never told, but all others are.
        for number in view.table.numbers() {
            if !self.pending.contains(number)
                && view.best(number).is_some_and(|route| route.is_from(member))
                && view.export(treatment, number).is_some()
            {
                shared.told.tell(number, member);
                view.table.hold(number);
            }
        }
        self.told = shared.told;
    }

    /// Gives up everything that was told; whoever was told is gone or is told by another stream.
    pub(super) fn forget(&mut self, table: &mut Table) {
        let told = self.told.numbers();
        *self = match self.told {
            Told::From { .. } => Self::shared(),
            Told::To { member, .. } => Self::new(Told::To {
                member,
                prefixes: BitSet::default(),
            }),
        };
        told.into_iter().for_each(|number| table.release(number));
    }

    /// Puts those that wait in order, as far as they fit.
    fn refill(&mut self, view: &View<'_>) {
        let Self {
            pending,
            queue,
            cursor,
            ..
        } = self;
        let start = *cursor;
        queue.extend(
            pending
                .from(start)
                .chain(pending.iter().take_while(|number| *number < start))
                .take(CHUNK)
                .map(|number| (view.key(number), number)),
        );
        *cursor = queue.last().map_or(0, |(_, number)| number.wrapping_add(1));
        queue.sort_unstable_by(|one, other| other.cmp(one));
    }

    /// Takes the next prefixes with equal attributes. What changed since it was put in order keeps waiting, to meet its like.
    fn next_run(&mut self, view: &View<'_>, run: &mut Vec<Number>) -> Option<Key> {
        run.clear();
        let mut wanted = None;
        while let Some(&(key, number)) = self.queue.last() {
            if wanted.is_some_and(|wanted| wanted != key) || run.len() >= RUN {
                break;
            }
            self.queue.pop();
            if view.key(number) == key && self.pending.remove(number) {
                wanted = Some(key);
                run.push(number);
            }
        }
        wanted
    }

    /// Writes once around as much as is looked for at once, and gives it to the members.
    pub(super) fn round(
        &mut self,
        treatment: &Treatment,
        members: &BTreeSet<PeerId>,
        view: &mut View<'_>,
    ) {
        if self.queue.is_empty() {
            self.refill(view);
        }
        let mut round = Round::new(treatment, members);
        let mut run = Vec::new();
        while round.octets() < ROUND {
            let Some(key) = self.next_run(view, &mut run) else {
                break;
            };
            if key == NOTHING {
                for &number in &run {
                    round.withdraw(&mut self.told, number, view);
                }
            } else {
                round.announce(&mut self.told, &run, view);
            }
        }
        round.finish(view);
        if self.queue.is_empty() {
            // Nothing is kept for a stream that is at rest.
            self.queue = Vec::new();
        }
    }
}
