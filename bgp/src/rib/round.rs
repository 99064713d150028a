//! One round of output: prefixes with equal attributes become messages, written once and handed to every member, around the
//! places that came from it.

use std::{collections::BTreeSet, ops::Range};

use bytes::{Bytes, BytesMut};

use super::{
    export::Treatment, peer::Peer, route::Source, stream::View, table::Number, task::PeerId,
    told::Told,
};
use crate::{
    speaker::Event,
    wire::{Attributes, Nlri, update},
};

/// Octets for all members but one.
struct Segment {
    end: usize,
    messages: usize,
    except: Option<PeerId>,
}

/// What is being written.
pub(super) struct Round<'a> {
    treatment: &'a Treatment,
    members: &'a BTreeSet<PeerId>,
    octets: BytesMut,
    segments: Vec<Segment>,
    /// Withdrawn, and who need not hear it.
    gone: Vec<(Option<PeerId>, Nlri)>,
    /// Withdrawn for one member only: the route told now is its own.
    owed: Vec<(PeerId, Nlri)>,
    released: Vec<Number>,
    /// What no message can say, in words, and who need not hear it.
    unsendable: Vec<(Option<PeerId>, String)>,
}

impl<'a> Round<'a> {
    pub(super) fn new(treatment: &'a Treatment, members: &'a BTreeSet<PeerId>) -> Self {
        Self {
            treatment,
            members,
            octets: BytesMut::new(),
            segments: Vec::new(),
            gone: Vec::new(),
            owed: Vec::new(),
            released: Vec::new(),
            unsendable: Vec::new(),
        }
    }

    /// Octets written so far.
    pub(super) fn octets(&self) -> usize {
        self.octets.len()
    }

    /// The member that is this source.
    fn member(&self, source: Source) -> Option<PeerId> {
        source.as_peer().filter(|peer| self.members.contains(peer))
    }

    pub(super) fn withdraw(&mut self, told: &mut Told, number: Number, view: &View<'_>) {
        let old = told.tell(number, Source::NONE);
        if old == Source::NONE {
            return;
        }
        if let Some(prefix) = view.table.prefix(number) {
            self.gone.push((self.member(old), prefix.into()));
        }
        self.released.push(number);
    }

    pub(super) fn announce(&mut self, told: &mut Told, run: &[Number], view: &mut View<'_>) {
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
            Err(error) => {
                let others = match nlri.len().saturating_sub(1) {
                    0 => String::new(),
                    more => format!(" and {more} more prefixes"),
                };
                let text = format!("not told of {}{others}: {error}", first.prefix);
                self.unsendable.push((except, text));
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
    pub(super) fn finish(mut self, view: &mut View<'_>) {
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
        for (except, text) in self.unsendable {
            let mut others = self.members.iter().filter(|peer| Some(**peer) != except);
            let first = others.next().and_then(|peer| view.peers.get(peer));
            let likewise = match others.count() {
                0 => String::new(),
                more => format!("; {more} more peers likewise"),
            };
            if let Some(first) = first {
                view.events.push(Event::Problem {
                    peer: Some(first.name.to_string()),
                    text: format!("{text}{likewise}"),
                });
            }
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
