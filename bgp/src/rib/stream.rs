//! What a stream of output has told and has still to tell: no copy of routes, just who each prefix was told from, and a set
//! of prefixes that wait. What waits is looked up when there is room, so the newest wins and a slow peer costs a bit a prefix.

use std::{collections::BTreeSet, ops::Range, time::Instant};

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;

use super::{
    bits::BitSet,
    export::{From, Treatment},
    intern::AttributeTable,
    peer::{Peer, Peers},
    route::{Route, Source},
    table::{Number, Table},
    task::{PeerId, Settings},
};
use crate::{
    prefix::{Family, Prefix},
    status::PeerKind,
    wire::{Attributes, Nlri, update},
};

/// What output looks at: one family's table and everything beside it.
pub(super) struct View<'a> {
    pub(super) now: Instant,
    pub(super) family: Family,
    pub(super) table: &'a mut Table,
    pub(super) attributes: &'a AttributeTable,
    pub(super) peers: &'a mut Peers,
    pub(super) settings: &'a Settings,
    pub(super) complete: bool,
}

/// The attributes and source of a best route as one number; equal ones are written together.
type Key = u64;

/// The key of a prefix that has no best route: the lowest, so that what is to be withdrawn comes first.
const NOTHING: Key = 0;

impl View<'_> {
    fn best(&self, number: Number) -> Option<&Route> {
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
        let attributes = self.attributes.get(route.effective)?;
        let from = self.from(route.source, prefix)?;
        let out = treatment.export(prefix, from, attributes).ok()?;
        Some((route.source, out))
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

/// What was told.
#[derive(Debug)]
enum Told {
    /// To several: the source of the route told for each prefix. That source itself was told nothing.
    From {
        sources: Vec<Source>,
        count: usize,
        by_source: HashMap<Source, usize>,
    },
    /// To one.
    To { member: Source, prefixes: BitSet },
}

impl Told {
    /// Notes that the route of `new` is told (or none); gives what was told before.
    fn tell(&mut self, number: Number, new: Source) -> Source {
        match self {
            Self::From {
                sources,
                count,
                by_source,
            } => {
                let place = number as usize;
                if place >= sources.len() {
                    if new == Source::NONE {
                        return Source::NONE;
                    }
                    sources.resize(place + 1, Source::NONE);
                }
                let old = sources
                    .get_mut(place)
                    .map_or(Source::NONE, |told| std::mem::replace(told, new));
                if old == new {
                    return old;
                }
                if old != Source::NONE {
                    *count = count.saturating_sub(1);
                    if let Some(of_old) = by_source.get_mut(&old) {
                        *of_old = of_old.saturating_sub(1);
                    }
                }
                if new != Source::NONE {
                    *count += 1;
                    *by_source.entry(new).or_default() += 1;
                }
                old
            }
            Self::To { member, prefixes } => {
                let was = if new == Source::NONE || new == *member {
                    prefixes.remove(number)
                } else {
                    !prefixes.insert(number)
                };
                if was { Source::UNKNOWN } else { Source::NONE }
            }
        }
    }

    fn get(&self, number: Number) -> Source {
        match self {
            Self::From { sources, .. } => sources
                .get(number as usize)
                .copied()
                .unwrap_or(Source::NONE),
            Self::To { prefixes, .. } if prefixes.contains(number) => Source::UNKNOWN,
            Self::To { .. } => Source::NONE,
        }
    }

    /// Every prefix of which something was told.
    fn numbers(&self) -> Vec<Number> {
        match self {
            Self::From { sources, .. } => (0..)
                .zip(sources)
                .filter(|(_, source)| **source != Source::NONE)
                .map(|(number, _)| number)
                .collect(),
            Self::To { prefixes, .. } => prefixes.iter().collect(),
        }
    }
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
        while round.octets.len() < ROUND {
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

/// Octets for all members but one.
struct Segment {
    end: usize,
    messages: usize,
    except: Option<PeerId>,
}

/// What is being written.
struct Round<'a> {
    treatment: &'a Treatment,
    members: &'a BTreeSet<PeerId>,
    octets: BytesMut,
    segments: Vec<Segment>,
    /// Withdrawn, and who need not hear it.
    gone: Vec<(Option<PeerId>, Nlri)>,
    /// Withdrawn for one member only: the route told now is its own.
    owed: Vec<(PeerId, Nlri)>,
    released: Vec<Number>,
}

impl<'a> Round<'a> {
    fn new(treatment: &'a Treatment, members: &'a BTreeSet<PeerId>) -> Self {
        Self {
            treatment,
            members,
            octets: BytesMut::new(),
            segments: Vec::new(),
            gone: Vec::new(),
            owed: Vec::new(),
            released: Vec::new(),
        }
    }

    /// The member that is this source.
    fn member(&self, source: Source) -> Option<PeerId> {
        source.as_peer().filter(|peer| self.members.contains(peer))
    }

    fn withdraw(&mut self, told: &mut Told, number: Number, view: &View<'_>) {
        let old = told.tell(number, Source::NONE);
        if old == Source::NONE {
            return;
        }
        if let Some(prefix) = view.table.prefix(number) {
            self.gone.push((self.member(old), prefix.into()));
        }
        self.released.push(number);
    }

    fn announce(&mut self, told: &mut Told, run: &[Number], view: &mut View<'_>) {
        let mut written: Option<Attributes> = None;
        let mut nlri = Vec::with_capacity(run.len());
        let Some(source) = run
            .first()
            .and_then(|number| view.best(*number))
            .map(|route| route.source)
        else {
            return;
        };
        let own = self.member(source);
        let mut same_for_all = false;
        for &number in run {
            if !same_for_all {
                let out = self.export(number, view);
                same_for_all = out.1;
                if out.0 != written {
                    self.write(told, written.as_ref(), &mut nlri, own);
                    written = out.0;
                }
            }
            if written.is_none() {
                self.withdraw(told, number, view);
                continue;
            }
            let Some(prefix) = view.table.prefix(number) else {
                continue;
            };
            let old = told.tell(number, source);
            if let Told::To { member, .. } = told
                && *member == source
            {
                // A lone member's own route: it is told nothing, and no longer what it was told before.
                if old != Source::NONE {
                    self.gone.push((None, prefix.into()));
                    self.released.push(number);
                }
                continue;
            }
            if old == Source::NONE {
                view.table.hold(number);
            } else if old != source
                && let Some(own) = own
            {
                self.owed.push((own, prefix.into()));
            }
            nlri.push((number, prefix.into()));
        }
        self.write(told, written.as_ref(), &mut nlri, own);
    }

    /// The attributes a prefix is told with, and whether all of its run are told so.
    fn export(&self, number: Number, view: &View<'_>) -> (Option<Attributes>, bool) {
        let depends = view
            .best(number)
            .zip(view.table.prefix(number))
            .and_then(|(route, prefix)| view.from(route.source, prefix))
            .is_none_or(|from| self.treatment.depends_on_prefix(from));
        let out = view.export(self.treatment, number);
        (out.map(|(_, attributes)| attributes), !depends)
    }

    fn write(
        &mut self,
        told: &mut Told,
        attributes: Option<&Attributes>,
        nlri: &mut Vec<(Number, Nlri)>,
        except: Option<PeerId>,
    ) {
        let (Some(attributes), Some((_, first))) = (attributes, nlri.first()) else {
            return;
        };
        let written = update::announce(
            attributes,
            first.prefix.family(),
            nlri.iter().map(|(_, nlri)| *nlri),
            &self.treatment.context,
            &mut self.octets,
        );
        match written {
            Ok(messages) => self.segment(messages, except),
            // No message can hold it, so what they were told before no longer holds (RFC 4271 §9.2).
            Err(_) => {
                for (number, nlri) in &*nlri {
                    told.tell(*number, Source::NONE);
                    self.gone.push((None, *nlri));
                    self.released.push(*number);
                }
            }
        }
        nlri.clear();
    }

    fn segment(&mut self, messages: usize, except: Option<PeerId>) {
        let end = self.octets.len();
        match self.segments.last_mut() {
            Some(last) if last.except == except => {
                last.end = end;
                last.messages += messages;
            }
            _ => self.segments.push(Segment {
                end,
                messages,
                except,
            }),
        }
    }

    /// Writes the withdrawals and hands everything over.
    fn finish(mut self, view: &mut View<'_>) {
        self.gone.sort_unstable_by_key(|(except, _)| *except);
        let gone = std::mem::take(&mut self.gone);
        for group in gone.chunk_by(|one, other| one.0 == other.0) {
            let nlri = group.iter().map(|(_, nlri)| *nlri);
            let messages =
                update::withdraw(view.family, nlri, &self.treatment.context, &mut self.octets);
            self.segment(messages, group.first().and_then(|(except, _)| *except));
        }
        self.hand_over(view);
        self.owed.sort_unstable_by_key(|(member, _)| *member);
        for group in self.owed.chunk_by(|one, other| one.0 == other.0) {
            let Some((member, _)) = group.first() else {
                continue;
            };
            let nlri = group.iter().map(|(_, nlri)| *nlri);
            let mut octets = BytesMut::new();
            let messages =
                update::withdraw(view.family, nlri, &self.treatment.context, &mut octets);
            send(view.peers.get_mut(member), octets.freeze(), messages);
        }
        for number in self.released {
            view.table.release(number);
        }
    }

    /// Every member gets one piece, the source of something in it the pieces around that.
    fn hand_over(&mut self, view: &mut View<'_>) {
        if self.octets.is_empty() {
            return;
        }
        let octets = Bytes::copy_from_slice(&self.octets);
        let total = self.segments.iter().map(|segment| segment.messages).sum();
        let mut excepted: Vec<(PeerId, Range<usize>, usize)> = Vec::new();
        let mut start = 0;
        for segment in &self.segments {
            if let Some(except) = segment.except {
                excepted.push((except, start..segment.end, segment.messages));
            }
            start = segment.end;
        }
        excepted.sort_by_key(|(member, range, _)| (*member, range.start));
        for member in self.members {
            let peer = view.peers.get_mut(member);
            let from = excepted.partition_point(|(other, _, _)| other < member);
            let mine = excepted
                .get(from..)
                .unwrap_or_default()
                .iter()
                .take_while(|(other, _, _)| other == member);
            send_around(peer, &octets, total, mine);
        }
    }
}

fn send_around<'a>(
    peer: Option<&mut Peer>,
    octets: &Bytes,
    total: usize,
    holes: impl Iterator<Item = &'a (PeerId, Range<usize>, usize)>,
) {
    let Some(peer) = peer else { return };
    let Some(live) = &peer.session else { return };
    let (mut start, mut messages) = (0, total);
    for (_, hole, left_out) in holes {
        if hole.start > start {
            live.send(octets.slice(start..hole.start));
        }
        start = hole.end;
        messages = messages.saturating_sub(*left_out);
    }
    if start < octets.len() {
        live.send(octets.slice(start..));
    }
    peer.updates_out = peer.updates_out.saturating_add(messages as u64);
}

/// Queues whole messages for one peer.
pub(super) fn send(peer: Option<&mut Peer>, octets: Bytes, messages: usize) {
    if let Some(peer) = peer
        && let Some(live) = &peer.session
        && !octets.is_empty()
    {
        live.send(octets);
        peer.updates_out = peer.updates_out.saturating_add(messages as u64);
    }
}
