//! Connections on their way to a session: OPENs, collisions (RFC 4271 §6.8), the first KEEPALIVE.

use super::*;

impl Fsm {
    pub(super) fn open(&mut self, now: Instant, id: ConnectionId, origin: Origin) {
        let wait = if self.established().is_some() {
            Self::SPARE_OPEN_HOLD
        } else {
            Self::OPEN_HOLD
        };
        let mut deadlines = Deadlines::default();
        deadlines.set(Timer::Hold, Some(now + wait));
        self.connections.push(Connection {
            id,
            origin,
            offered: (Arc::clone(&self.config), self.local),
            state: OpenSent,
            since: now,
            deadlines,
            agreed: None,
            confirmation: Confirmation::default(),
        });
        let open = our_open(&self.config, &self.local);
        self.actions.push(Action::Send(id, Message::Open(open)));
        self.because(match origin {
            Origin::Dialled => "connected",
            Origin::Accepted => "it connected",
        });
    }

    /// One more connection from the peer. Silent ones never keep a good one out: the oldest makes room.
    pub(super) fn accept(&mut self, now: Instant, id: ConnectionId) {
        if let Some(up) = self.established() {
            // Is the old connection still alive at the other end? If not, this brings a reset.
            let up = up.id;
            self.actions.push(Action::Send(up, Message::Keepalive));
        }
        let silent = |one: &&Connection| one.state == OpenSent && one.origin == Origin::Accepted;
        if self.connections.iter().filter(silent).count() >= Self::PENDING
            && let Some(oldest) = self.connections.iter().find(silent).map(|one| one.id)
        {
            self.close(
                oldest,
                Some(Notification::cease(Cease::OutOfResources)),
                Cause::PathDead,
            );
        }
        self.open(now, id, Origin::Accepted);
    }

    /// Idle refuses all connections (RFC 4271 §8.2.2).
    pub(super) fn refuse(&mut self, id: ConnectionId) {
        let said = match (&self.config.shutdown, self.gate) {
            (Some(message), _) => Some(Notification::administrative_shutdown(message)),
            // It keeps our routes over silence.
            (None, Gate::Restarted(_)) => None,
            (None, _) => Some(Notification::cease(Cease::ConnectionRejected)),
        };
        self.actions.push(Action::Close(id, said));
    }

    /// Their OPEN is here.
    pub(super) fn opened(&mut self, now: Instant, id: ConnectionId, open: &Open) {
        let Some((config, local)) = self.connection(id).map(|one| &one.offered) else {
            return;
        };
        let agreed = match Negotiated::between(config, local, open) {
            Ok(agreed) => agreed,
            Err((notification, reason)) => return self.fail(now, id, notification, reason),
        };
        if !self.survives_collision(id, open) {
            return;
        }
        let hold = agreed.hold;
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let agreed = Arc::new(agreed);
        connection.state = OpenConfirm;
        connection.agreed = Some(Arc::clone(&agreed));
        // Without a hold time the wait for their KEEPALIVE still ends when that for their OPEN would have: else a peer that
        // falls silent here would keep us from dialling for ever.
        if !hold.is_zero() {
            connection.deadlines.set(Timer::Hold, Some(now + hold));
        }
        self.actions.push(Action::Agreed(id, agreed));
        self.because("its OPEN is good");
        if self.rival(id).is_some() {
            if let Some(connection) = self.connection_mut(id) {
                let at = now + Self::RIVALRY;
                connection.deadlines.set(Timer::Keepalive, Some(at));
            }
        } else {
            self.confirm(now, id);
        }
    }

    /// A younger connection that would win a collision with this one, if its OPEN came. For a moment we then wait with our
    /// KEEPALIVE: else one side could be Established over this connection while the other still prefers that one, each
    /// closes what the other keeps, and none is left.
    fn rival(&self, id: ConnectionId) -> Option<ConnectionId> {
        let this = self.connection(id)?;
        let agreed = this.agreed.as_ref()?;
        let theirs = Rank {
            id: agreed.router_id,
            asn: agreed.asn,
        };
        let wins = |one: &&Connection| {
            one.state == OpenSent
                && one.since + Self::RIVALRY >= this.since
                && one.origin != this.origin
                && survivor(self.rank(), theirs, this.origin, one.origin) == Survivor::Newer
        };
        self.connections.iter().find(wins).map(|one| one.id)
    }

    fn rank(&self) -> Rank {
        Rank {
            id: self.local.router_id,
            asn: self.config.local_asn,
        }
    }

    /// Our KEEPALIVE says that their OPEN is good.
    pub(super) fn confirm(&mut self, now: Instant, id: ConnectionId) {
        self.actions.push(Action::Send(id, Message::Keepalive));
        self.schedule_keepalive(now, id);
        self.restart_send_hold(now, id);
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        connection.confirmation.ours = true;
        if connection.confirmation.theirs {
            self.establish(now, id);
        }
    }

    /// Their KEEPALIVE says that our OPEN is good.
    pub(super) fn confirmed(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        connection.confirmation.theirs = true;
        if connection.confirmation.ours {
            self.establish(now, id);
        }
    }

    /// A connection has gone: who waited for it goes on.
    pub(super) fn release(&mut self, now: Instant) {
        let waits = |one: &&Connection| one.state == OpenConfirm && !one.confirmation.ours;
        let waiting = self.connections.iter().find(waits).map(|one| one.id);
        if let Some(id) = waiting.filter(|id| self.rival(*id).is_none()) {
            self.confirm(now, id);
        }
    }

    /// RFC 4271 §6.8, and RFC 4724 §4.2 for a peer that comes back before its old connection was seen to end.
    fn survives_collision(&mut self, id: ConnectionId, open: &Open) -> bool {
        let Some(newer) = self.connection(id) else {
            return false;
        };
        let (newer_origin, newer_since) = (newer.origin, newer.since);
        let other = self
            .connections
            .iter()
            .find(|one| one.id != id && one.state >= OpenConfirm);
        let Some(other) = other else { return true };
        let older = other.id;
        let wins = if other.state == Established {
            // Both may have dialled just before the session came up: only what came well after it is a restart.
            let restarts = other
                .agreed
                .as_ref()
                .is_some_and(|agreed| agreed.restart.is_some());
            let came_later = newer_since >= other.since + Duration::from_secs(1);
            if restarts && came_later {
                self.close(older, None, Cause::Silence);
                return true;
            }
            Survivor::Older
        } else {
            let theirs = Rank {
                id: open.id,
                asn: open.asn,
            };
            survivor(self.rank(), theirs, other.origin, newer_origin)
        };
        let loser = match wins {
            Survivor::Newer => older,
            Survivor::Older => id,
        };
        let said = Notification::cease(Cease::ConnectionCollisionResolution);
        self.close(loser, Some(said), Cause::PathDead);
        wins == Survivor::Newer
    }

    fn establish(&mut self, now: Instant, id: ConnectionId) {
        let Some(agreed) = self.connection(id).and_then(|one| one.agreed.clone()) else {
            return;
        };
        self.abandon_dial();
        self.deadlines.clear();
        for other in self.ids() {
            if other != id {
                let said = Notification::cease(Cease::ConnectionCollisionResolution);
                self.close(other, Some(said), Cause::PathDead);
            }
        }
        if let Some(connection) = self.connection_mut(id) {
            connection.state = Established;
            connection.since = now;
        }
        // From here on a lost connection leaves our forwarding as it is.
        self.local.preserved = true;
        self.heard(now, id);
        self.actions.push(Action::Up(id, agreed));
        self.because("established");
    }
}
