//! Adj-RIB-Out: peers that are told the same form a group that is written to once. Who can't keep up, has just come or has
//! asked to hear all again is told by a stream of its own until it is level with the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;

use super::{
    bits::BitSet,
    export::Treatment,
    paths::{Path, PathStream},
    round::send,
    stream::{Stream, View},
    table::{Number, Table, Touched},
    task::{PeerId, Refreshing},
};
use crate::{
    config::GracefulRestartConfig,
    prefix::{Families, Family},
    wire::{Context, Message, RouteRefresh, refresh::RefreshKind, update},
};

/// How long a group that has room waits for members that have none.
const GRACE: Duration = Duration::from_millis(20);
/// Rounds of one stream before others, and what comes in, are looked at again: some MiB.
const ROUNDS: usize = 32;
/// How long who lagged stays out of its group; doubles each time.
const PENALTY: Duration = Duration::from_secs(1);
const MAX_PENALTY: Duration = Duration::from_secs(64);

/// Peers that are told the same of one family.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) treatment: Treatment,
    /// What the members are told. Where there is any peer, there is a member.
    main: Stream,
    members: BTreeSet<PeerId>,
    lone: BTreeMap<PeerId, Lone>,
    /// Those who take several paths of a prefix: each is told by itself.
    several: BTreeMap<PeerId, PathStream>,
    /// Those who are owed an End-of-RIB or the end of a refresh.
    unfinished: BTreeSet<PeerId>,
    /// When those who have no room are left behind.
    wait_until: Option<Instant>,
    /// More could be told at once.
    behind: bool,
    /// For how long each who lagged was left out the last time.
    penalties: HashMap<PeerId, Duration>,
}

/// A peer on its own.
#[derive(Debug)]
struct Lone {
    stream: Stream,
    rejoins_after: Option<Instant>,
}

impl Lone {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            rejoins_after: None,
        }
    }
}

impl Group {
    pub(super) fn new(treatment: Treatment) -> Self {
        Self {
            treatment,
            main: Stream::shared(),
            members: BTreeSet::new(),
            lone: BTreeMap::new(),
            several: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            wait_until: None,
            behind: false,
            penalties: HashMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.lone.is_empty() && self.several.is_empty()
    }

    /// All peers in it.
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        let alone = self.lone.keys().chain(self.several.keys());
        self.members.iter().chain(alone).copied()
    }

    fn stream(&self, peer: PeerId) -> &Stream {
        self.lone.get(&peer).map_or(&self.main, |lone| &lone.stream)
    }

    /// How many routes a peer has been told.
    pub(super) fn told_to(&self, peer: PeerId) -> usize {
        match self.several.get(&peer) {
            Some(paths) => paths.told(),
            None => self.stream(peer).told_to(peer),
        }
    }

    /// Whether a peer has been told of a prefix.
    pub(super) fn has_told(&self, peer: PeerId, number: Number) -> bool {
        match self.several.get(&peer) {
            Some(paths) => !paths.of(number).is_empty(),
            None => self.stream(peer).has_told(peer, number),
        }
    }

    /// The paths of a prefix that a peer has been told, where it takes several.
    pub(super) fn paths(&self, peer: PeerId, number: Number) -> Option<&[Path]> {
        self.several.get(&peer).map(|paths| paths.of(number))
    }

    /// How many prefixes may have to be told to a peer.
    pub(super) fn waiting(&self, peer: PeerId) -> usize {
        match self.several.get(&peer) {
            Some(paths) => paths.waiting(),
            None => self.stream(peer).waiting(),
        }
    }

    /// When [`Group::flush`] wants to be called even if nothing happens.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.wait_until
    }

    /// Whether [`Group::flush`] stopped although there was room.
    pub(super) const fn is_behind(&self) -> bool {
        self.behind
    }

    /// The prefix may have to be told again: its best route, or for those who take several paths any.
    pub(super) fn mark(&mut self, number: Number, touched: Touched) {
        if touched.contains(Touched::BEST) {
            self.streams().for_each(|stream| stream.mark(number));
        }
        self.several
            .values_mut()
            .for_each(|paths| paths.mark(number));
    }

    fn streams(&mut self) -> impl Iterator<Item = &mut Stream> {
        let lone = self.lone.values_mut().map(|lone| &mut lone.stream);
        std::iter::once(&mut self.main)
            .filter(|_| !self.members.is_empty())
            .chain(lone)
    }

    /// A peer comes and is told everything.
    pub(super) fn join(&mut self, peer: PeerId, family: Family, table: &Table) {
        self.unfinished.insert(peer);
        if self.treatment.paths(family).is_some() {
            let mut paths = PathStream::new(peer);
            paths.mark_all(table);
            self.several.insert(peer, paths);
            return;
        }
        if self.is_empty() || self.main.told_nothing() && !self.members.is_empty() {
            self.members.insert(peer);
            self.main.mark_all(table);
            return;
        }
        let mut stream = Stream::lone(peer);
        stream.mark_all(table);
        self.lone.insert(peer, Lone::new(stream));
    }

    /// A peer goes.
    pub(super) fn leave(&mut self, peer: PeerId, table: &mut Table) {
        self.unfinished.remove(&peer);
        self.penalties.remove(&peer);
        if let Some(mut paths) = self.several.remove(&peer) {
            paths.forget(table);
        } else if let Some(mut lone) = self.lone.remove(&peer) {
            lone.stream.forget(table);
        } else if self.members.remove(&peer) && self.members.is_empty() {
            self.main.forget(table);
            self.wait_until = None;
        }
    }

    /// All of its peers are treated otherwise from now on, and `differences` says for which prefixes that matters.
    pub(super) fn change(&mut self, treatment: Treatment, differences: &BitSet) {
        self.treatment = treatment;
        for stream in self.streams() {
            differences.iter().for_each(|number| stream.mark(number));
        }
        for paths in self.several.values_mut() {
            differences.iter().for_each(|number| paths.mark(number));
        }
    }

    /// A peer goes over to another group, and `differences` says for which prefixes that matters.
    pub(super) fn hand_over(
        &mut self,
        peer: PeerId,
        to: &mut Self,
        differences: &BitSet,
        table: &mut Table,
    ) {
        if self.unfinished.contains(&peer) {
            to.unfinished.insert(peer);
        }
        if let Some(mut paths) = self.several.remove(&peer) {
            differences.iter().for_each(|number| paths.mark(number));
            self.leave(peer, table);
            to.several.insert(peer, paths);
            return;
        }
        let mut lone = match self.lone.remove(&peer) {
            Some(lone) => lone,
            None => Lone::new(self.main.split(peer, table)),
        };
        differences
            .iter()
            .for_each(|number| lone.stream.mark(number));
        self.leave(peer, table);
        to.lone.insert(peer, lone);
    }

    /// A peer wants to hear all again (RFC 2918). One refresh at a time: a second is begun when the first has ended.
    pub(super) fn refresh(&mut self, peer: PeerId, view: &mut View<'_>) {
        let family = Families::from(view.family);
        let Some(live) = view
            .peers
            .get_mut(&peer)
            .and_then(|peer| peer.session.as_mut())
        else {
            return;
        };
        if live.refresh_ends.contains(family) {
            live.refresh_due |= family;
            return;
        }
        live.refresh_due -= family;
        live.refresh_ends |= family;
        if live.refresh == Refreshing::Enhanced {
            live.send(refresh(view.family, RefreshKind::Begin));
        }
        self.unfinished.insert(peer);
        if let Some(paths) = self.several.get_mut(&peer) {
            paths.repeat();
            return;
        }
        if !self.lone.contains_key(&peer) {
            if self.members.len() < 2 {
                self.main.mark_told();
                return;
            }
            self.split(peer, None, view.table);
        }
        if let Some(lone) = self.lone.get_mut(&peer) {
            lone.stream.mark_told();
        }
    }

    /// Leaves a member on its own.
    fn split(&mut self, peer: PeerId, rejoins_after: Option<Instant>, table: &mut Table) {
        if self.members.remove(&peer) {
            let stream = self.main.split(peer, table);
            self.lone.insert(
                peer,
                Lone {
                    stream,
                    rejoins_after,
                },
            );
        }
    }

    /// Tells all peers what waits for them, as far as they have room.
    pub(super) fn flush(&mut self, view: &mut View<'_>) {
        self.promote(view);
        self.behind = false;
        let mut rounds = 0;
        while !self.main.is_clean() && self.may_go_on(view) {
            if rounds == ROUNDS {
                self.behind = true;
                break;
            }
            self.main.round(&self.treatment, &self.members, view);
            rounds += 1;
        }
        if self.main.is_clean() {
            self.wait_until = None;
        }
        for (peer, lone) in &mut self.lone {
            let alone = BTreeSet::from([*peer]);
            let mut rounds = 0;
            while !lone.stream.is_clean() && !view.is_full(*peer) {
                if rounds == ROUNDS {
                    self.behind = true;
                    break;
                }
                lone.stream.round(&self.treatment, &alone, view);
                rounds += 1;
            }
        }
        for (peer, paths) in &mut self.several {
            let mut rounds = 0;
            while !paths.is_clean() && !view.is_full(*peer) {
                if rounds == ROUNDS {
                    self.behind = true;
                    break;
                }
                paths.round(&self.treatment, view);
                rounds += 1;
            }
        }
        self.rejoin(view);
        self.finish(view);
    }

    /// Without members one of the others becomes the first.
    fn promote(&mut self, view: &mut View<'_>) {
        if !self.members.is_empty() || self.lone.is_empty() {
            return;
        }
        let level = self.lone.iter().find(|(_, lone)| lone.stream.is_clean());
        let chosen = level.or(self.lone.iter().next()).map(|(peer, _)| *peer);
        if let Some((peer, mut lone)) = chosen.and_then(|peer| self.lone.remove_entry(&peer)) {
            lone.stream.share(&self.treatment, view);
            self.main = lone.stream;
            self.members.insert(peer);
        }
    }

    /// Whether every member has room. The first that has some again waits a moment for the others; then those are left
    /// behind, so that nobody waits for a peer that is stuck.
    fn may_go_on(&mut self, view: &mut View<'_>) -> bool {
        let full: Vec<PeerId> = self
            .members
            .iter()
            .copied()
            .filter(|peer| view.is_full(*peer))
            .collect();
        if full.is_empty() {
            self.wait_until = None;
            return true;
        }
        if full.len() == self.members.len() {
            self.wait_until = None;
            return false;
        }
        let until = *self.wait_until.get_or_insert(view.now + GRACE);
        if view.now < until {
            return false;
        }
        self.wait_until = None;
        for peer in full {
            let penalty = self
                .penalties
                .get(&peer)
                .map_or(PENALTY, |last| (*last * 2).min(MAX_PENALTY));
            self.penalties.insert(peer, penalty);
            self.split(peer, Some(view.now + penalty), view.table);
        }
        true
    }

    /// Who is level with the others goes on with them.
    fn rejoin(&mut self, view: &mut View<'_>) {
        if !self.main.is_clean() || self.members.is_empty() {
            return;
        }
        let level: Vec<PeerId> = self
            .lone
            .iter()
            .filter(|(_, lone)| {
                lone.stream.is_clean() && lone.rejoins_after.is_none_or(|after| view.now >= after)
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in level {
            if let Some(mut lone) = self.lone.remove(&peer) {
                debug_assert!(
                    view.table.numbers().all(|number| {
                        lone.stream.has_told(peer, number) == self.main.has_told(peer, number)
                    }),
                    "a lone peer rejoins that was told something else"
                );
                lone.stream.forget(view.table);
                self.members.insert(peer);
            }
        }
    }

    /// Marks the end of what was to be told: End-of-RIB once our own view is complete, and the end of a refresh.
    fn finish(&mut self, view: &mut View<'_>) {
        let level: Vec<PeerId> = self
            .unfinished
            .iter()
            .copied()
            .filter(|peer| self.waiting(*peer) == 0)
            .collect();
        for id in level {
            let again = finish(id, view);
            if again.is_empty() {
                self.unfinished.remove(&id);
            }
            if again.contains(Unfinished::REFRESH) {
                self.refresh(id, view);
            }
        }
    }
}

bitflags::bitflags! {
    /// What a peer is still owed.
    #[derive(Clone, Copy)]
    struct Unfinished: u8 {
        const END_OF_RIB = 1;
        const REFRESH = 2;
    }
}

fn finish(id: PeerId, view: &mut View<'_>) -> Unfinished {
    let family = Families::from(view.family);
    let mut left = Unfinished::empty();
    let Some(peer) = view.peers.get_mut(&id) else {
        return left;
    };
    let Some(live) = &mut peer.session else {
        return left;
    };
    if live.refresh_ends.contains(family) {
        live.refresh_ends -= family;
        if live.refresh == Refreshing::Enhanced {
            live.send(refresh(view.family, RefreshKind::End));
        }
        if live.refresh_due.contains(family) {
            left |= Unfinished::REFRESH;
        }
    }
    if !live.end_of_rib_due.contains(family) {
        return left;
    }
    // Only who has restarted waits for the others first: else two that start together would wait for each other.
    let restarted = |restart: GracefulRestartConfig| restart.restarted;
    if !view.complete && peer.config.graceful_restart.is_some_and(restarted) {
        return left | Unfinished::END_OF_RIB;
    }
    live.end_of_rib_due -= family;
    let mut octets = BytesMut::new();
    update::end_of_rib(view.family, &mut octets);
    send(Some(peer), octets.freeze(), 1);
    left
}

/// A ROUTE-REFRESH message.
pub(super) fn refresh(family: Family, kind: RefreshKind) -> Bytes {
    let mut octets = BytesMut::new();
    let message = Message::RouteRefresh(RouteRefresh { family, kind });
    // Only an UPDATE may not fit.
    let _ = message.write(&Context::default(), &mut octets);
    octets.freeze()
}
