//! Sessions come, speak and go: what that does to the routes of a peer, graceful restart included (RFC 4724, RFC 7313).

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    Rib,
    adj_out::refresh,
    export,
    peer::{Limit, Peer},
    route::Flags,
    task::{Ending, Order, PeerId, PeerMessage, Refreshing, Session},
};
use crate::{
    bmp::Down,
    config::OverLimit,
    prefix::{Families, Family},
    speaker::{Direction, Event, NoRefresh, Refresh},
    wire::{
        Cease, Nlri, Notification, RouteRefresh, Update,
        refresh::RefreshKind,
        update::{Fault, Treatment},
    },
};

/// How long a peer that is back may take to repeat its routes, at least: an Internet table over a slow line.
const REPEAT: Duration = Duration::from_secs(300);

/// How long after its start a session without End-of-RIB counts as having told all.
const SETTLE: Duration = Duration::from_secs(3);

/// A refresh that begins so soon after another is not looked at: each costs a walk over the table.
const BREATH: Duration = Duration::from_secs(1);

impl Rib {
    /// A session speaks.
    pub fn hear(&mut self, now: Instant, peer: PeerId, message: PeerMessage) {
        self.now(now);
        match message {
            PeerMessage::Established(session) => self.established(now, peer, *session),
            PeerMessage::Updates(updates) => {
                for update in &updates {
                    self.update(peer, update);
                }
            }
            PeerMessage::Refresh(refresh) => self.refresh(now, peer, refresh),
            PeerMessage::Down(ending, how) => self.down(now, peer, ending, how),
            // It is looked at in any case when output is flushed.
            PeerMessage::Writable => {}
        }
    }

    fn established(&mut self, now: Instant, id: PeerId, session: Session) {
        self.leave_groups(id);
        let preserved = session.preserved & session.context.families;
        let Some(peer) = self.peers.get_mut(&id) else {
            // Removed while its session was being set up.
            let close = Order::Close {
                notification: Notification::cease(Cease::PeerDeconfigured),
                reason: "no longer configured".into(),
                stay_away: Duration::ZERO,
            };
            // A session that has ended says so itself.
            let _ = session.outbound.orders.send(Box::new(close));
            return;
        };
        // Not closed, yet a new one: the peer lost the old one without a word (RFC 4724 §4.2).
        let replaces = peer.session.is_some();
        let another = peer.router_id != session.router_id
            || peer.asn != session.asn
            || peer.kind != session.kind;
        let known = peer.received() > 0;
        if replaces {
            peer.last_down = Down::TheyLeft;
        }
        self.sessions += 1;
        peer.establish(now, self.sessions, session);
        for family in (Families::all() - preserved).each() {
            peer.inbound_mut(family).long_stale_until = None;
        }
        let restart = peer.restart_time.max(REPEAT);
        for family in preserved.each() {
            let inbound = peer.inbound_mut(family);
            // What is long-lived stale already has its own time, which goes on (RFC 9494 §4.2).
            inbound.stale_until = inbound.long_stale_until.or(Some(now + restart));
        }
        if known && another {
            self.remove_where(id, Families::all(), |_| true);
        } else if known {
            self.remove_where(id, Families::all() - preserved, |_| true);
            if replaces {
                self.mark_stale(now, id, preserved, false);
            }
            self.import_again(id);
        }
        self.monitors.stir();
        if known {
            self.mark_kept(id);
        }
        self.join_groups(id);
    }

    /// Places a peer among those that are told the same.
    pub(super) fn join_groups(&mut self, id: PeerId) {
        let Some((treatment, families)) = self.treatment(id) else {
            return;
        };
        for family in families.each() {
            self.sides.of_mut(family).join(id, &treatment);
        }
    }

    /// How the peer is to be treated, and the families of its session, if it has one.
    pub(super) fn treatment(&self, id: PeerId) -> Option<(export::Treatment, Families)> {
        let peer = self.peers.get(&id)?;
        let context = peer.session.as_ref()?.context;
        let treatment = export::Treatment::of(&self.settings, peer, context);
        Some((treatment, context.families))
    }

    pub(super) fn leave_groups(&mut self, id: PeerId) {
        for family in Family::ALL {
            self.sides.of_mut(family).leave(id);
        }
    }

    fn update(&mut self, id: PeerId, update: &Update) {
        if self.peers.get(&id).is_none_or(|peer| !peer.listened_to()) {
            return;
        }
        let withdraws = |fault: &Fault| fault.treatment == Treatment::Withdraw;
        if update.faults.iter().any(withdraws)
            && let Some(peer) = self.peers.get_mut(&id)
        {
            peer.tally.treated_as_withdraw = peer.tally.treated_as_withdraw.wrapping_add(1);
        }
        for nlri in &update.withdrawn {
            self.withdraw(id, *nlri);
        }
        for announced in &update.announced {
            self.announce(id, announced);
        }
        if let Some(family) = update.end_of_rib {
            self.end_of_rib(id, family);
        }
    }

    /// The peer has told all (RFC 4724 §4.2): what it did not repeat is gone.
    fn end_of_rib(&mut self, id: PeerId, family: Family) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.carries(family)) else {
            return;
        };
        self.monitors.end(id, family);
        let inbound = peer.inbound_mut(family);
        inbound.end_of_rib = true;
        inbound.stale_until = None;
        inbound.long_stale_until = None;
        if inbound.stale > 0 {
            self.remove_where(id, family.into(), |route| {
                route.flags.contains(Flags::STALE)
            });
        }
    }

    fn refresh(&mut self, now: Instant, id: PeerId, message: RouteRefresh) {
        let RouteRefresh { family, kind } = message;
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.carries(family)) else {
            return;
        };
        match kind {
            RefreshKind::Request => self.refresh_due.push((id, family)),
            RefreshKind::Begin => {
                let inbound = peer.inbound_mut(family);
                if inbound
                    .refresh_begun
                    .is_some_and(|last| now < last + BREATH)
                {
                    return;
                }
                inbound.refresh_begun = Some(now);
                inbound.refresh_until = Some(now + REPEAT);
                self.flag(id, family.into(), |flags| *flags |= Flags::UNREFRESHED);
            }
            RefreshKind::End => self.refreshed(id, family),
        }
    }

    /// What was not repeated between begin and end is gone (RFC 7313 §4).
    fn refreshed(&mut self, id: PeerId, family: Family) {
        let begun = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.inbound_mut(family).refresh_until.take());
        if begun.is_some() {
            self.remove_where(id, family.into(), |route| {
                route.flags.contains(Flags::UNREFRESHED)
            });
        }
    }

    fn down(&mut self, now: Instant, id: PeerId, ending: Ending, how: Down) {
        self.leave_groups(id);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.session.take().is_some() {
            peer.last_down = how;
            self.monitors.stir();
        }
        for inbound in &mut peer.families {
            inbound.end_of_rib = false;
            inbound.refresh_until = None;
        }
        match ending {
            Ending::Gone => self.forget_routes(id),
            Ending::Restarting {
                families,
                restart_time,
                long_lived,
                yields,
            } => {
                peer.restart_time = restart_time;
                peer.long_lived = long_lived;
                for family in families.each() {
                    peer.inbound_mut(family).stale_until = Some(now + restart_time);
                }
                self.remove_where(id, Families::all() - families, |_| true);
                self.mark_stale(now, id, families, yields);
            }
        }
    }

    pub(super) fn forget_routes(&mut self, id: PeerId) {
        self.remove_where(id, Families::all(), |_| true);
        if let Some(peer) = self.peers.get_mut(&id) {
            for inbound in &mut peer.families {
                inbound.stale_until = None;
                inbound.long_stale_until = None;
            }
        }
    }

    /// Routes from before a restart stay. A route that is stale already when the peer restarts again would have to go by
    /// RFC 4724 §4.2, so that it does not stay for ever; but a speaker that is killed once more before it could repeat its
    /// routes still forwards them. So it goes once the restart time has passed since the first of these restarts.
    fn mark_stale(&mut self, now: Instant, id: PeerId, families: Families, yields: bool) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let mut overdue = Families::empty();
        for family in families.each() {
            let restart_time = peer.restart_time;
            let inbound = peer.inbound_mut(family);
            let since = inbound.stale_since.filter(|_| inbound.stale > 0);
            match since {
                Some(since) if now < since + restart_time => {}
                // They have their time, and are nobody's first choice meanwhile.
                Some(_) if inbound.long_stale_until.is_some() => {}
                _ => {
                    overdue |= family.into();
                    inbound.stale_since = Some(now);
                }
            }
        }
        self.remove_where(id, overdue, |route| route.flags.contains(Flags::STALE));
        self.flag(id, families, |flags| {
            flags.remove(Flags::UNREFRESHED);
            flags.insert(Flags::STALE);
            flags.set(Flags::YIELDS, yields || flags.contains(Flags::YIELDS));
        });
        if let Some(peer) = self.peers.get_mut(&id) {
            for family in families.each() {
                let inbound = peer.inbound_mut(family);
                inbound.stale = inbound.received;
            }
        }
    }

    /// Asks a peer for its routes again, or has it told ours again; says of which families.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn refresh_again(&mut self, id: PeerId, what: Refresh) -> Result<Families, NoRefresh> {
        let peer = self.peers.get(&id).ok_or(NoRefresh::Unknown)?;
        let live = peer.session.as_ref().filter(|live| !live.closing);
        let live = live.ok_or(NoRefresh::Down)?;
        let carried = live.context.families;
        let families = match what.family {
            None => carried,
            Some(family) if carried.has(family) => family.into(),
            Some(family) => return Err(NoRefresh::NotCarried(family)),
        };
        match what.direction {
            Direction::Received if live.refresh == Refreshing::No => {
                return Err(NoRefresh::NotOffered);
            }
            Direction::Received => {
                let requests: Vec<Bytes> = families
                    .each()
                    .map(|family| refresh(family, RefreshKind::Request))
                    .collect();
                live.send(requests.concat().into());
            }
            Direction::Advertised => {
                let due = families.each().map(|family| (id, family));
                self.refresh_due.extend(due);
            }
        }
        Ok(families)
    }

    /// Whether one more route of the peer is taken; says so when it tells too many. What has been here does not count, for the peer only
    /// says again what we said; but nobody can have us keep more of it than the maximum.
    pub(super) fn may_have_more(&mut self, id: PeerId, nlri: Nlri, refused: Flags) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        let limit = peer.config.max_prefixes;
        let (counted, most) = (peer.counted(), limit.count as usize);
        if limit.count == 0 {
            return true;
        }
        if refused.contains(Flags::LOOPED) {
            return peer.looped() < most || self.known_route(id, nlri).is_some();
        }
        if counted < most - most / 5 {
            return true;
        }
        if counted < most {
            if peer.limit < Limit::Near {
                peer.limit = Limit::Near;
                let text = format!("{counted} prefixes: 80 % of the maximum of {most}");
                self.problem(id, text);
            }
            return true;
        }
        let known = self.known_route(id, nlri);
        if known.is_some_and(|route| !route.flags.contains(Flags::LOOPED)) {
            return true;
        }
        self.over_limit(id, limit.action, most, nlri.prefix.family())
    }

    /// The limit is another one: what the peer has told us already counts against it.
    pub(super) fn count_again(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id).filter(|peer| peer.session.is_some()) else {
            return;
        };
        let limit = peer.config.max_prefixes;
        if limit.count > 0 && peer.counted() > limit.count as usize {
            self.over_limit(id, limit.action, limit.count as usize, Family::IPv4);
        }
    }

    fn over_limit(&mut self, id: PeerId, action: OverLimit, most: usize, family: Family) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        let first = peer.limit < Limit::Over;
        peer.limit = Limit::Over;
        match action {
            OverLimit::Warn => {
                if first {
                    let text = format!(
                        "more prefixes than the maximum of {most}: look at what the peer sends, or raise maxPrefixes.count"
                    );
                    self.problem(id, text);
                }
                true
            }
            OverLimit::Shutdown(stay_away) => {
                let reason = format!("more prefixes than the maximum of {most}");
                let text = format!(
                    "{reason}: session closed for {} s; look at what the peer sends, or raise maxPrefixes.count",
                    stay_away.as_secs()
                );
                if let Some(live) = &mut peer.session {
                    live.closing = true;
                    live.order(Order::Close {
                        notification: Notification::max_prefixes(
                            family,
                            u32::try_from(most).unwrap_or(u32::MAX),
                        ),
                        reason,
                        stay_away,
                    });
                }
                self.problem(id, text);
                false
            }
        }
    }

    pub(super) fn problem(&mut self, id: PeerId, text: String) {
        let peer = self.peers.get(&id).map(|peer| peer.name.to_string());
        self.events.push(Event::Problem { peer, text });
    }

    /// When something is due for a peer or for the whole.
    pub(super) fn earliest(&self) -> Option<Instant> {
        let of_peers = self.peers.values().flat_map(|peer| {
            let inbound = peer.families.iter();
            inbound.flat_map(|inbound| [inbound.stale_until, inbound.refresh_until])
        });
        let settling = self
            .peers
            .values()
            .filter(|_| !self.complete)
            .map(|peer| peer.session.as_ref().map(|live| live.since + SETTLE))
            .filter(|settled| settled.is_some_and(|settled| settled > self.clock));
        of_peers.chain(settling).flatten().min()
    }

    /// Drops what was kept long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| now >= deadline);
        let mut due: Vec<(PeerId, Family, bool, bool)> = self
            .peers
            .iter()
            .flat_map(|(id, peer)| {
                Family::ALL.map(|family| {
                    let inbound = peer.inbound(family);
                    (
                        *id,
                        family,
                        is_due(inbound.stale_until),
                        is_due(inbound.refresh_until),
                    )
                })
            })
            .filter(|(_, _, stale, refresh)| *stale || *refresh)
            .collect();
        due.sort_unstable();
        for (id, family, stale, refresh) in due {
            if stale && !self.keep_longer(now, id, family) {
                self.remove_where(id, family.into(), |route| {
                    route.flags.contains(Flags::STALE)
                });
            }
            if refresh {
                self.refreshed(id, family);
            }
        }
    }

    /// The restart time of a peer is over: its stale routes stay as a last resort, marked as such, where that was agreed
    /// (RFC 9494 §4.2). Says whether they do.
    fn keep_longer(&mut self, now: Instant, id: PeerId, family: Family) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        let time = peer.long_lived.of(family);
        let inbound = peer.inbound_mut(family);
        inbound.stale_until = None;
        if inbound.stale == 0 || time.is_zero() {
            inbound.long_stale_until = None;
            return false;
        }
        let until = *inbound.long_stale_until.get_or_insert(now + time);
        if now >= until {
            inbound.long_stale_until = None;
            return false;
        }
        inbound.stale_until = Some(until);
        self.mark_long_stale(id, family);
        true
    }

    /// Complete is who has heard from every peer that is configured (RFC 4724 §4.1), or has waited long enough. A peer that
    /// sends no End-of-RIB counts as heard a moment after it came.
    pub(super) fn look_whether_complete(&mut self, now: Instant) {
        let deferred = now >= self.started + self.settings.deferral;
        let heard = || {
            self.configured
                && self.peers.values().all(|peer| {
                    peer.config.shutdown.is_some()
                        || peer
                            .session
                            .as_ref()
                            .is_some_and(|live| peer.has_told_all(live, now))
                })
        };
        self.complete = self.complete || deferred || heard();
    }
}

impl Peer {
    /// Prefixes that count against its maximum.
    fn counted(&self) -> usize {
        self.received().saturating_sub(self.looped())
    }

    fn listened_to(&self) -> bool {
        self.session.as_ref().is_some_and(|live| !live.closing)
    }

    fn has_told_all(&self, live: &super::peer::Live, now: Instant) -> bool {
        let settled = now >= live.since + SETTLE;
        live.context
            .families
            .each()
            .all(|family| self.inbound(family).end_of_rib || settled && !live.expects.has(family))
    }
}
