//! Output to a peer that takes several paths of a prefix (RFC 7911): a stream of its own, which knows each path it told.

use std::{
    hash::{BuildHasher, RandomState},
    num::NonZeroUsize,
};

use bytes::BytesMut;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{
    bits::BitSet,
    decision::{self, Candidate, Rules},
    export::Treatment,
    round::send,
    route::{Route, Source},
    side::candidate,
    stream::View,
    table::{Number, Table},
    task::PeerId,
};
use crate::{
    prefix::Prefix,
    speaker::Event,
    wire::{Attributes, Nlri, update},
};

/// Prefixes looked up before room is looked at again: equal attributes among their paths meet in one message.
const CHUNK: usize = 4 * 1024;

/// A path that was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// Its identifier: the number of its route.
    pub(super) id: u16,
    /// Of the attributes it was told with; `None`: it is to be told again in any case.
    hash: Option<u64>,
}

/// What one peer has been told, path by path, and what waits.
#[derive(Debug)]
pub(super) struct PathStream {
    peer: PeerId,
    told: HashMap<Number, SmallVec<[Path; 2]>>,
    /// Paths told.
    count: usize,
    /// Prefixes that may have to be told again.
    pending: BitSet,
    hasher: RandomState,
}

/// What is being written: paths with equal attributes go into one message.
#[derive(Default)]
struct Written {
    sets: HashMap<Attributes, usize>,
    /// The paths of each set, in the order in which the sets were met.
    paths: Vec<Vec<(Number, Nlri)>>,
    gone: Vec<Nlri>,
}

impl PathStream {
    /// One that has told `peer` nothing.
    pub(super) fn new(peer: PeerId) -> Self {
        Self {
            peer,
            told: HashMap::new(),
            count: 0,
            pending: BitSet::default(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// How many paths were told.
    pub(super) const fn told(&self) -> usize {
        self.count
    }

    /// The paths told of a prefix.
    pub(super) fn of(&self, number: Number) -> &[Path] {
        self.told.get(&number).map_or(&[], |paths| paths)
    }

    /// The prefix may have to be told again.
    pub(super) fn mark(&mut self, number: Number) {
        self.pending.insert(number);
    }

    /// Everything that has a route may have to be told.
    pub(super) fn mark_all(&mut self, table: &Table) {
        table.iter().for_each(|(number, _)| self.mark(number));
    }

    /// Everything that was told is to be told again, changed or not.
    pub(super) fn repeat(&mut self) {
        for (number, paths) in &mut self.told {
            paths.iter_mut().for_each(|path| path.hash = None);
            self.pending.insert(*number);
        }
    }

    /// Gives up everything that was told: its peer is gone.
    pub(super) fn forget(&mut self, table: &mut Table) {
        let mut told: Vec<Number> = self.told.drain().map(|(number, _)| number).collect();
        // In which order numbers are free again decides which are given next, and so the order of what is told.
        told.sort_unstable();
        told.into_iter().for_each(|number| table.release(number));
        self.count = 0;
        self.pending = BitSet::default();
    }

    /// Tells what waits of as many prefixes as are looked up at once.
    pub(super) fn round(&mut self, treatment: &Treatment, view: &mut View<'_>) {
        let Some(most) = treatment.paths(view.family) else {
            return;
        };
        let mut written = Written::default();
        let chunk: Vec<Number> = self.pending.iter().take(CHUNK).collect();
        for number in chunk {
            self.pending.remove(number);
            self.look(number, most, treatment, view, &mut written);
        }
        self.write(written, treatment, view);
    }

    /// Compares what should be told of a prefix with what was.
    fn look(
        &mut self,
        number: Number,
        most: NonZeroUsize,
        treatment: &Treatment,
        view: &mut View<'_>,
        written: &mut Written,
    ) {
        let Some(prefix) = view.table.prefix(number) else {
            return;
        };
        let old = self.told.remove(&number).unwrap_or_default();
        let mut new = SmallVec::<[Path; 2]>::new();
        for (route, attributes) in chosen(number, prefix, self.peer, most, treatment, view) {
            let hash = Some(self.hasher.hash_one(&attributes));
            let id = route.number;
            if !old.iter().any(|path| path.id == id && path.hash == hash) {
                written.announce(number, nlri(prefix, id), attributes);
            }
            new.push(Path { id, hash });
        }
        for path in &old {
            if new.iter().all(|other| other.id != path.id) {
                written.gone.push(nlri(prefix, path.id));
            }
        }
        self.count = (self.count + new.len()).saturating_sub(old.len());
        // Held before released: a number nobody holds is another prefix's at once.
        if !new.is_empty() {
            view.table.hold(number);
            self.told.insert(number, new);
        }
        if !old.is_empty() {
            view.table.release(number);
        }
    }

    fn write(&mut self, written: Written, treatment: &Treatment, view: &mut View<'_>) {
        let Written {
            sets,
            paths,
            mut gone,
        } = written;
        let context = &treatment.context;
        let (mut octets, mut messages) = (BytesMut::new(), 0);
        let mut sets: Vec<(usize, Attributes)> =
            sets.into_iter().map(|(set, place)| (place, set)).collect();
        sets.sort_unstable_by_key(|(place, _)| *place);
        for ((_, attributes), paths) in sets.iter().zip(paths) {
            let all = paths.iter().map(|(_, nlri)| *nlri);
            match update::announce(attributes, view.family, all, context, &mut octets) {
                Ok(more) => messages += more,
                // No message can hold it, so what was told before no longer holds (RFC 4271 §9.2).
                Err(error) => {
                    let Some((_, first)) = paths.first() else {
                        continue;
                    };
                    view.events.push(Event::Problem {
                        peer: view.peers.get(&self.peer).map(|peer| peer.name.to_string()),
                        text: format!(
                            "not told of {} and {} more paths: {error}",
                            first.prefix,
                            paths.len() - 1
                        ),
                    });
                    for (number, nlri) in paths {
                        self.untell(number, nlri, view.table);
                        gone.push(nlri);
                    }
                }
            }
        }
        if !gone.is_empty() {
            messages += update::withdraw(view.family, gone, context, &mut octets);
        }
        send(view.peers.get_mut(&self.peer), octets.freeze(), messages);
    }

    /// A path could not be told.
    fn untell(&mut self, number: Number, nlri: Nlri, table: &mut Table) {
        let Some(paths) = self.told.get_mut(&number) else {
            return;
        };
        let before = paths.len();
        paths.retain(|path| u32::from(path.id) != nlri.path_id);
        self.count = self.count.saturating_sub(before - paths.len());
        if paths.is_empty() {
            self.told.remove(&number);
            table.release(number);
        }
    }
}

impl Written {
    fn announce(&mut self, number: Number, nlri: Nlri, attributes: Attributes) {
        let place = *self.sets.entry(attributes).or_insert_with(|| {
            self.paths.push(Vec::new());
            self.paths.len() - 1
        });
        if let Some(paths) = self.paths.get_mut(place) {
            paths.push((number, nlri));
        }
    }
}

fn nlri(prefix: Prefix, id: u16) -> Nlri {
    Nlri {
        prefix,
        path_id: id.into(),
    }
}

/// The routes a peer is to be told of, the best first, at most `most`, each with its attributes: what it told us itself is
/// not among them, nor what export withholds.
fn chosen(
    number: Number,
    prefix: Prefix,
    peer: PeerId,
    most: NonZeroUsize,
    treatment: &Treatment,
    view: &View<'_>,
) -> Vec<(Route, Attributes)> {
    let listener = Source::peer(peer);
    let routes = view
        .table
        .get(number)
        .map(|destination| destination.routes.as_slice())
        .unwrap_or_default();
    let (mut left, mut candidates): (Vec<&Route>, Vec<Candidate<'_>>) = routes
        .iter()
        .filter(|route| route.eligible() && route.number != 0 && !route.is_from(listener))
        .filter_map(|route| Some((route, candidate(route, view.attributes, view.peers)?)))
        .unzip();
    let rules = Rules {
        multipath: view.settings.multipath,
        stable: view.settings.stable,
    };
    let mut chosen = Vec::new();
    while chosen.len() < most.get()
        && let Some(decision) = decision::decide(&candidates, rules)
        && decision.best < left.len()
    {
        candidates.swap_remove(decision.best);
        let route = left.swap_remove(decision.best);
        if let Some(attributes) = view.export_route(treatment, route, prefix) {
            chosen.push((*route, attributes));
        }
    }
    chosen
}
