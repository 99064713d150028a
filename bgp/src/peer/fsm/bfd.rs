//! What BFD says of the path, and what that means for the session (RFC 5882).

use super::*;
use crate::bfd::news::News;

impl From<News> for Event {
    fn from(news: News) -> Self {
        match news {
            News::Dead {
                reason,
                heard,
                forwarding,
            } => Self::BfdDown {
                reason: format!("BFD down: {reason}"),
                heard,
                forwarding,
            },
            News::Up => Self::BfdUp,
            News::Down(_) | News::Silent => Self::BfdClear,
        }
    }
}

/// Whether BFD lets us try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Gate {
    /// It says nothing against it.
    #[default]
    Open,
    /// The path failed, and the peer is heard but does not hear us yet, or says that it does not.
    Shut,
    /// We have restarted, and the peer's BFD may still watch our earlier life: a session that were up when it sees the end of that
    /// would end too, and its routes with it. So BFD comes first: until then (from our start on) at most, or until it has been up for
    /// a moment.
    Restarted(Option<Instant>),
}

impl Gate {
    /// That of a peer whose session begins with us.
    pub(super) fn of(config: &PeerConfig) -> Self {
        let restarted = config
            .graceful_restart
            .is_some_and(|restart| restart.restarted);
        // Who dials in out of a range is a peer only while it is connected.
        if restarted && config.bfd.is_some() && config.connect != Connect::Passive {
            Self::Restarted(None)
        } else {
            Self::Open
        }
    }
}

impl Fsm {
    /// How long a session waits for BFD after our restart: longer than BFD needs at the slow pace it begins with
    /// (RFC 5880 §6.8.3). The peer may have none.
    pub const BFD_FIRST: Duration = Duration::from_secs(5);
    /// … and then until the other end of BFD has told its BGP that the earlier session is over and the new one up. FRR does it in
    /// processes of its own: a session that is opened within the milliseconds that takes, it ends again, and our routes with it.
    pub const BFD_SETTLED: Duration = Duration::from_millis(500);

    /// The path, which worked, is dead: what runs over it ends at once, and its routes with it. What began after the peer was
    /// last heard is not meant: it has come over the path since. So a peer that restarts, and whose BFD falls silent
    /// with it, keeps the session it has just opened anew.
    pub(super) fn bfd_down(
        &mut self,
        now: Instant,
        reason: String,
        heard: Instant,
        forwarding: bool,
    ) {
        self.gate = Gate::Shut;
        if self.effort == Effort::Stopped {
            return;
        }
        let lasted = self.lasted(now);
        let meant = self.connections.iter().filter(|one| one.since <= heard);
        for id in meant.map(|one| one.id).collect::<Vec<_>>() {
            let said = Notification::cease(Cease::BfdDown);
            self.close(id, Some(said), Cause::PathDead);
        }
        if !self.connections.is_empty() {
            return;
        }
        if lasted.is_some() {
            self.go_on(now, Next::Hold(Duration::ZERO), lasted);
        } else {
            if forwarding {
                // Routes that we kept over its restart (RFC 5882 §4.3.2): its BFD says that its kernel is gone too.
                let down = bmp::Down::WeLeft(0);
                self.actions.push(Action::Down(Ending::Gone, down));
            }
            self.abandon_dial();
            self.deadlines.clear();
            self.effort = Effort::Held;
        }
        self.because(reason);
    }

    /// Until when, after our restart, nothing is tried or taken.
    pub(super) fn bfd_first(&mut self, now: Instant) -> Option<Instant> {
        let Gate::Restarted(until) = self.gate else {
            return None;
        };
        let until = until.unwrap_or(now + Self::BFD_FIRST);
        if self.config.bfd.is_none() || until <= now {
            self.gate = Gate::Open;
            return None;
        }
        self.gate = Gate::Restarted(Some(until));
        Some(until)
    }

    /// BFD is up.
    pub(super) fn bfd_up(&mut self, now: Instant) {
        if self.bfd_first(now).is_none() {
            return self.bfd_clear(now);
        }
        let settled = now + Self::BFD_SETTLED;
        self.gate = Gate::Restarted(Some(settled));
        if self.is_held() {
            self.deadlines.set(Timer::IdleHold, Some(settled));
        }
    }

    /// BFD says nothing against the path (any more).
    pub(super) fn bfd_clear(&mut self, now: Instant) {
        if self.bfd_first(now).is_some() {
            return;
        }
        self.gate = Gate::Open;
        // An IdleHold that runs is a penalty of its own.
        if self.is_held() && self.deadlines.get(Timer::IdleHold).is_none() {
            self.start(now);
        }
    }

    /// Whether it stays in Idle until BFD is up, or silent.
    #[must_use]
    pub fn waits_for_bfd(&self) -> bool {
        self.is_held() && self.gate == Gate::Shut
    }
}
