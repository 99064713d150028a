//! What BFD has to say of a path to who runs sessions over it.

use std::time::Instant;

use super::{
    packet::{Diagnostic, Flags, State},
    session::{Cause, Session},
};

/// What is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It works.
    Up,
    /// It worked, and does not any more.
    Dead {
        /// In words.
        reason: String,
        /// When the other side was last heard: what began later, the failure says nothing of.
        heard: Instant,
        /// The other side's BFD goes on where its control plane fails: so forwarding is dead too.
        forwarding: bool,
    },
    /// It was up and is not any more, which says nothing against the path: an operator did it, or it began anew.
    Down(String),
    /// The other side is not heard (any more), or an operator holds it down.
    Silent,
}

impl News {
    /// What it means that a session is in another state; nothing where it neither was up nor is.
    #[must_use]
    pub fn of(
        session: &Session,
        now: Instant,
        was_up: bool,
        state: State,
        cause: Cause,
    ) -> Option<Self> {
        match state {
            State::Up => Some(Self::Up),
            State::Down | State::AdminDown if was_up => Some(Self::down(session, now, cause)),
            State::Init | State::Down | State::AdminDown => None,
        }
    }

    fn down(session: &Session, now: Instant, cause: Cause) -> Self {
        let flags = session.remote().map(|remote| remote.flags);
        let forwarding = flags.is_some_and(|flags| flags.contains(Flags::INDEPENDENT));
        let reason = in_words(cause);
        match cause {
            Cause::Silence { independent, .. } => Self::Dead {
                reason,
                heard: session.heard().unwrap_or(now),
                forwarding: independent,
            },
            Cause::Signaled(_) if is_of_path(cause) => Self::Dead {
                reason,
                heard: now,
                forwarding,
            },
            _ => Self::Down(reason),
        }
    }
}

/// Whether going down for this cause says something of the path. Who tells that we signaled a failure, while we said Up all the
/// time, has taken BFD away: FRR's bgpd says so where BFD is no longer configured, and where it begins anew once BGP is up.
fn is_of_path(cause: Cause) -> bool {
    match cause {
        Cause::Silence { .. } => true,
        Cause::Signaled(diagnostic) => diagnostic != Diagnostic::NEIGHBOR,
        Cause::Heard | Cause::Restarted | Cause::SignaledAdminDown | Cause::Shut => false,
    }
}

fn in_words(cause: Cause) -> String {
    match cause {
        Cause::Heard => "it is heard".into(),
        Cause::Silence { after, .. } => format!("it said nothing for {} ms", after.as_millis()),
        Cause::Signaled(Diagnostic::EXPIRED) => "it does not hear us any more".into(),
        Cause::Signaled(Diagnostic::NEIGHBOR) => {
            "it ended BFD, as if we had signaled a failure: was it taken away there?".into()
        }
        Cause::Signaled(diagnostic) => format!("it says the path is down: {diagnostic}"),
        Cause::Restarted => "its BFD began anew".into(),
        Cause::SignaledAdminDown => "it was taken down by an operator there".into(),
        Cause::Shut => "no longer configured".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_silence_and_a_failure_that_is_not_ours_are_of_the_path() {
        let silence = Cause::Silence {
            after: Duration::from_secs(1),
            independent: false,
        };
        assert!(is_of_path(silence));
        assert!(is_of_path(Cause::Signaled(Diagnostic::EXPIRED)));
        for other in [
            Cause::Signaled(Diagnostic::NEIGHBOR),
            Cause::SignaledAdminDown,
            Cause::Restarted,
            Cause::Shut,
        ] {
            assert!(!is_of_path(other), "{other:?}");
        }
    }
}
