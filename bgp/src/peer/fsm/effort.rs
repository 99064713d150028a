//! What the peer as a whole does to get a session, and to end all it has: Idle, Connect, Active (RFC 4271 §8.2.2).

use super::*;

/// Beginning and ending as a whole.
impl Fsm {
    pub(super) fn start(&mut self, now: Instant) {
        if !matches!(self.effort, Effort::Stopped | Effort::Held) {
            return;
        }
        let from_rest = self.effort == Effort::Stopped;
        self.deadlines.set(Timer::IdleHold, None);
        if self.gate == Gate::Shut {
            self.effort = Effort::Held;
            return self.because("waits for BFD");
        }
        if let Some(until) = self.bfd_first(now) {
            self.effort = Effort::Held;
            self.deadlines.set(Timer::IdleHold, Some(until));
            return self.because("we have restarted: BFD comes first");
        }
        self.effort = Effort::Waiting;
        match self.config.connect {
            Connect::Dial => self.dial(now),
            // The other may have dialled in vain until we were there, and its next dial be far away.
            Connect::After(wait) if from_rest => self.dial_after(now, wait.min(Self::FIRST_RETRY)),
            Connect::After(wait) => self.dial_after(now, wait),
            Connect::Passive => {}
        }
        self.because("started");
    }

    pub(super) fn stop(&mut self, notification: &Notification, reason: String) {
        self.abandon_dial();
        for id in self.ids() {
            self.close(id, Some(notification.clone()), Cause::PathDead);
        }
        self.deadlines.clear();
        self.effort = Effort::Stopped;
        self.attempts = 0;
        self.oscillations = 0;
        self.because(reason);
    }

    pub(super) fn reconnect(&mut self, now: Instant, notification: Notification, reason: String) {
        let silence = self.established().is_some_and(|up| {
            let agreed = up.agreed.as_ref();
            agreed
                .and_then(|agreed| agreed.restart)
                .is_some_and(|restart| !restart.notification)
        });
        self.abandon_dial();
        for id in self.ids() {
            if silence {
                self.close(id, None, Cause::Silence);
            } else {
                self.close(id, Some(notification.clone()), Cause::Sent(&notification));
            }
        }
        if self.effort != Effort::Stopped {
            self.attempts = 0;
            self.effort = Effort::Held;
            self.deadlines.clear();
            self.start(now);
        }
        self.because(reason);
    }

    pub(super) fn end_all(
        &mut self,
        now: Instant,
        notification: Notification,
        reason: String,
        next: Next,
    ) {
        if self.effort == Effort::Stopped {
            return;
        }
        let lasted = self.lasted(now);
        for id in self.ids() {
            self.close(id, Some(notification.clone()), Cause::Sent(&notification));
        }
        self.go_on(now, next, lasted);
        self.because(reason);
    }

    pub(super) fn reconsider(&mut self, now: Instant) {
        if self.effort == Effort::Held {
            self.attempts = 0;
            self.oscillations = 0;
            return self.start(now);
        }
        if self.busy() || !matches!(self.effort, Effort::Dialling | Effort::Waiting) {
            return;
        }
        self.abandon_dial();
        self.deadlines.set(Timer::ConnectRetry, None);
        self.attempts = 0;
        if !self.has_dialled() {
            self.wait_or_dial(now);
        }
    }

    pub(super) fn path_dead(&mut self, now: Instant, reason: String) {
        if self.effort == Effort::Stopped {
            return;
        }
        let lasted = self.lasted(now);
        for id in self.ids() {
            // The NOTIFICATION will hardly arrive; where it does, it is true.
            let said = Notification::cease(Cease::OtherConfigurationChange);
            self.close(id, Some(said), Cause::PathDead);
        }
        self.abandon_dial();
        self.go_on(now, Next::Later, lasted);
        self.because(reason);
    }

    /// How the peer goes on after a session or attempt that lasted this long.
    pub(super) fn go_on(&mut self, now: Instant, next: Next, lasted: Option<Duration>) {
        if self.effort == Effort::Stopped || self.busy() {
            return;
        }
        if lasted.is_some_and(|lasted| lasted >= Self::LASTED) {
            self.attempts = 0;
        }
        match next {
            Next::Hold(at_least) => {
                self.abandon_dial();
                // Idle has no connections (RFC 4271 §8.2.2): one that became a session would leave nothing to end Idle by.
                for id in self.ids() {
                    let said = Notification::cease(Cease::ConnectionRejected);
                    self.close(id, Some(said), Cause::PathDead);
                }
                self.deadlines.set(Timer::ConnectRetry, None);
                let most = self.config.timers.idle_hold_max;
                let penalty = |count| doubled(Self::FIRST_RETRY, count, most);
                let made_good = penalty(self.oscillations).max(Self::LASTED) * 2;
                if lasted.is_some_and(|lasted| lasted > made_good) {
                    self.oscillations = 0;
                }
                let penalty = penalty(self.oscillations);
                self.oscillations = self.oscillations.saturating_add(1);
                let wait = self.jitter.on(penalty).max(at_least);
                self.effort = Effort::Held;
                self.deadlines.set(Timer::IdleHold, Some(now + wait));
            }
            Next::AtOnce if lasted.is_some_and(|lasted| lasted >= Self::LASTED) => {
                self.wait_or_dial(now);
            }
            Next::AtOnce | Next::Later => self.retry_later(now),
        }
    }

    pub(super) fn wait_or_dial(&mut self, now: Instant) {
        match self.config.connect {
            Connect::Dial if self.effort == Effort::Waiting => self.dial(now),
            Connect::After(wait) if self.effort == Effort::Waiting => self.dial_after(now, wait),
            _ => {}
        }
    }

    fn dial_after(&mut self, now: Instant, wait: Duration) {
        let at = now + self.jitter.on(wait);
        self.deadlines.set(Timer::ConnectRetry, Some(at));
    }

    /// Active: wait, the longer the more attempts there were, and listen.
    pub(super) fn retry_later(&mut self, now: Instant) {
        // A wait that runs goes on: who connects and leaves again must not put off our dial.
        let runs = self.deadlines.get(Timer::ConnectRetry).is_some();
        if self.effort != Effort::Waiting || self.busy() || self.has_dialled() || runs {
            return;
        }
        let timers = self.config.timers;
        let first = Self::FIRST_RETRY.min(timers.connect_retry);
        let backed_off = doubled(first, self.attempts, timers.connect_retry);
        self.attempts = self.attempts.saturating_add(1);
        let wait = match self.config.connect {
            Connect::Dial => backed_off,
            Connect::After(wait) => backed_off.max(wait),
            Connect::Passive => return,
        };
        self.dial_after(now, wait);
    }

    pub(super) fn dial(&mut self, now: Instant) {
        if self.busy() || self.has_dialled() {
            return;
        }
        self.effort = Effort::Dialling;
        let patience = self.config.timers.connect_retry.max(Self::FIRST_RETRY);
        let at = now + self.jitter.on(patience);
        self.deadlines.set(Timer::ConnectRetry, Some(at));
        self.actions.push(Action::Dial(self.attempts));
        self.because("dialling");
    }

    pub(super) fn dial_failed(&mut self, now: Instant, reason: String) {
        self.effort = Effort::Waiting;
        self.retry_later(now);
        self.failed(reason);
    }

    pub(super) fn abandon_dial(&mut self) {
        if self.effort == Effort::Dialling {
            self.actions.push(Action::AbandonDial);
            self.effort = Effort::Waiting;
            self.deadlines.set(Timer::ConnectRetry, None);
        }
    }
}
