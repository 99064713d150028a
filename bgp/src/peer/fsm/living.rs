//! Connections that live, and how they end.

use super::*;

impl Fsm {
    /// The peer said something: the hold timer starts again.
    pub(super) fn heard(&mut self, now: Instant, id: ConnectionId) {
        if let Some(connection) = self.connection_mut(id)
            && let Some(agreed) = &connection.agreed
        {
            let at = (!agreed.hold.is_zero()).then(|| now + agreed.hold);
            connection.deadlines.set(Timer::Hold, at);
        }
    }

    /// Something of ours went out: the peer will not miss a KEEPALIVE for a while (RFC 4271 §4.4), and takes what we send.
    pub(super) fn sent(&mut self, now: Instant, id: ConnectionId) {
        if !self.is_unconfirmed(id) {
            self.schedule_keepalive(now, id);
            self.restart_send_hold(now, id);
        }
    }

    pub(super) fn schedule_keepalive(&mut self, now: Instant, id: ConnectionId) {
        let Some(index) = self.connections.iter().position(|one| one.id == id) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(index)
            && let Some(agreed) = &connection.agreed
            && !agreed.keepalive.is_zero()
        {
            let at = self.jitter.beat(now, agreed.keepalive);
            connection.deadlines.set(Timer::Keepalive, Some(at));
        }
    }

    /// RFC 9687 §3 recommends the greater of 8 minutes and twice the hold time. We take twice the hold time: a peer that
    /// took nothing for so long has missed every KEEPALIVE of ours, and should have closed itself.
    pub(super) fn restart_send_hold(&mut self, now: Instant, id: ConnectionId) {
        if let Some(connection) = self.connection_mut(id)
            && let Some(agreed) = &connection.agreed
        {
            let wait = if agreed.hold.is_zero() {
                Self::SEND_HOLD
            } else {
                agreed.hold * 2
            };
            connection.deadlines.set(Timer::SendHold, Some(now + wait));
        }
    }

    pub(super) fn hold_expired(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        let reason = match connection.agreed.as_ref().map(|agreed| agreed.hold) {
            Some(hold) if hold.is_zero() => "it never confirmed our OPEN".into(),
            Some(hold) => format!(
                "hold timer expired: it said nothing for {} s",
                hold.as_secs()
            ),
            None => "it connected but sent no OPEN".into(),
        };
        let lasted = self.lasted_as(id, now);
        let said = Notification::hold_timer_expired();
        self.close(id, Some(said), Cause::Unresponsive);
        self.go_on(now, Next::Later, lasted);
        self.release(now);
        self.failed(reason);
    }

    pub(super) fn closed(&mut self, now: Instant, id: ConnectionId, loss: Loss, reason: String) {
        let lasted = self.lasted_as(id, now);
        let (cause, next) = match loss {
            Loss::Closed => (Cause::Silence, Next::AtOnce),
            Loss::Unresponsive => (Cause::Unresponsive, Next::Later),
        };
        self.close(id, None, cause);
        self.go_on(now, next, lasted);
        self.release(now);
        self.failed(reason);
    }

    pub(super) fn notified(&mut self, now: Instant, id: ConnectionId, said: &Notification) {
        const STAYS_AWAY: [u8; 5] = [1, 2, 3, 5, 8]; // prefixes, shutdown, de-configured, rejected, resources
        let lasted = self.lasted_as(id, now);
        let inner = said.inner();
        let meant = inner.as_ref().unwrap_or(said);
        let graceful = meant.is_cease() && !STAYS_AWAY.contains(&meant.subcode);
        self.close(id, None, Cause::Received(said));
        self.go_on(
            now,
            if graceful { Next::AtOnce } else { Next::Later },
            lasted,
        );
        self.release(now);
        if meant.is_collision_resolution() && self.busy() {
            return self.because("a collision was resolved");
        }
        self.failed(format!("it closed with {said}"));
    }

    /// We end a connection over an error. A session that was up stays down for a while, longer each time.
    pub(super) fn fail(
        &mut self,
        now: Instant,
        id: ConnectionId,
        notification: Notification,
        reason: String,
    ) {
        let lasted = self.lasted_as(id, now);
        self.close(id, Some(notification.clone()), Cause::Sent(&notification));
        self.release(now);
        let next = if lasted.is_some() {
            Next::Hold(Duration::ZERO)
        } else {
            Next::Later
        };
        self.go_on(now, next, lasted);
        self.failed(reason);
    }

    pub(super) fn unexpected(
        &mut self,
        now: Instant,
        id: ConnectionId,
        kind: Kind,
        state: SessionState,
    ) {
        let notification = Notification::unexpected_message(kind, state);
        let reason = format!("it sent {kind:?} in {state:?} (RFC 6608)");
        self.fail(now, id, notification, reason);
    }

    pub(super) fn failed(&mut self, reason: String) {
        self.actions.push(Action::Failed(reason.clone()));
        self.because(reason);
    }

    /// Takes a connection out; if it carried the session, that is down.
    pub(super) fn close(&mut self, id: ConnectionId, said: Option<Notification>, cause: Cause<'_>) {
        let Some(index) = self.connections.iter().position(|one| one.id == id) else {
            return;
        };
        let connection = self.connections.swap_remove(index);
        let agreed = connection.agreed;
        let worded = match (&agreed, said) {
            (Some(agreed), Some(said)) => Some(agreed.worded(said)),
            (_, said) => said,
        };
        if connection.state == Established {
            let ending = agreed.map_or(Ending::Gone, |agreed| match (cause, &worded) {
                (Cause::Sent(_), Some(worded)) => agreed.ending(Cause::Sent(worded)),
                (cause, _) => agreed.ending(cause),
            });
            let down = match (&cause, &worded) {
                (_, Some(said)) => bmp::Down::WeSaid(said.clone()),
                (Cause::Received(said), None) => bmp::Down::TheySaid((*said).clone()),
                (Cause::Silence, None) => bmp::Down::TheyLeft,
                (Cause::Unresponsive, None) => bmp::Down::WeLeft(bmp::Down::CONNECTION_FAILS),
                (Cause::PathDead | Cause::Sent(_), None) => bmp::Down::WeLeft(0),
            };
            self.actions.push(Action::Down(ending, down));
        }
        self.actions.push(Action::Close(id, worded));
    }
}
