//! From one topology to another: make before break. The sessions of the old one stay until every route comes by the new one, and
//! then for a while, since the other nodes need theirs as well.

use std::{collections::BTreeSet, time::Duration};

use bgp::{
    config::SpeakerConfig,
    prefix::Prefix,
    status::{Fate, RouteStatus},
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::{desired::Desired, problem::Problem};

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(1);
/// How long nothing must be missing: time for the others to get as far.
const SETTLE: Duration = Duration::from_secs(20);
/// After this time what is missing is told.
const PATIENCE: Duration = Duration::from_secs(60);

/// One topology gives way to another.
#[derive(Debug)]
pub(super) struct Crossing {
    looks: Interval,
    begun: Option<Instant>,
    /// Since when nothing has been missing.
    clear: Option<Instant>,
    missing: Option<(Prefix, String)>,
    told: bool,
}

/// What to do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet.
    Wait,
    /// Tell what is missing.
    Say,
    /// Leave the old topology.
    Leave,
}

impl Default for Crossing {
    fn default() -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            looks,
            begun: None,
            clear: None,
            missing: None,
            told: false,
        }
    }
}

impl Crossing {
    /// Returns when it is time to look, if ever.
    pub(super) async fn due(crossing: Option<&mut Self>) {
        match crossing {
            Some(crossing) => {
                crossing.looks.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    /// What to do, given what is missing by the new topology alone.
    pub(super) fn look(&mut self, now: Instant, missing: Option<(Prefix, String)>) -> Step {
        let begun = *self.begun.get_or_insert(now);
        self.missing = missing;
        if self.missing.is_none() {
            let clear = *self.clear.get_or_insert(now);
            return if now.duration_since(clear) >= SETTLE {
                Step::Leave
            } else {
                Step::Wait
            };
        }
        self.clear = None;
        let late = now.duration_since(begun) >= PATIENCE;
        if late && !std::mem::replace(&mut self.told, true) {
            return Step::Say;
        }
        Step::Wait
    }

    /// Why it takes so long.
    pub(super) fn problem(&self) -> Option<Problem> {
        let (prefix, session) = self.missing.as_ref().filter(|_| self.told)?;
        Some(Problem::warning(
            "BGPConfiguration default",
            format!(
                "the sessions of the old topology stay beside those of the new one: without {session} there would be no route to {prefix}; look whether the reflectors (or, for a mesh, all nodes) run and have taken over the configuration"
            ),
        ))
    }
}

/// A prefix that would be without a route if only the sessions of `after` were there, and the session that has it now.
pub(super) fn missing(
    routes: &[RouteStatus],
    now: &SpeakerConfig,
    after: &Desired,
) -> Option<(Prefix, String)> {
    let usable = |route: &RouteStatus| !matches!(route.fate, Fate::Refused(_));
    let stays = |route: &RouteStatus| {
        let Some(session) = &route.from else {
            return true;
        };
        let Some(peer) = after.speaker.peers.get(session) else {
            // Dynamic ones are none of the topology's.
            return !now.peers.contains_key(session);
        };
        let same = now
            .peers
            .get(session)
            .is_some_and(|known| known.import == peer.import);
        // A node that reflects no more still tells its own.
        let own = || {
            let owner = after.owner(&route.prefix).map(|(_, node)| node);
            owner.is_some_and(|owner| session.strip_prefix("node:").unwrap_or(session) == owner)
        };
        same || own()
    };
    let kept: BTreeSet<Prefix> = routes
        .iter()
        .filter(|route| usable(route) && stays(route))
        .map(|route| route.prefix)
        .collect();
    let route = routes
        .iter()
        .find(|route| usable(route) && !kept.contains(&route.prefix))?;
    Some((route.prefix, route.from.clone().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
    fn start() -> Instant {
        Instant::now()
    }

    fn lost() -> Option<(Prefix, String)> {
        Some(("10.244.2.0/24".parse().unwrap(), "n2".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_old_topology_is_left_when_nothing_has_been_missing_for_a_while() {
        let mut crossing = Crossing::default();
        let mut now = start();
        assert_eq!(crossing.look(now, lost()), Step::Wait);
        assert_eq!(crossing.look(now, None), Step::Wait);
        now += SETTLE / 2;
        assert_eq!(crossing.look(now, lost()), Step::Wait, "it begins anew");
        assert_eq!(crossing.look(now, None), Step::Wait);
        now += SETTLE;
        assert_eq!(crossing.look(now, None), Step::Leave);
        assert_eq!(crossing.problem(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_for_long_is_told_once_and_nothing_is_left() {
        let mut crossing = Crossing::default();
        let now = start();
        assert_eq!(crossing.look(now, lost()), Step::Wait);
        assert_eq!(crossing.problem(), None);
        assert_eq!(crossing.look(now + PATIENCE, lost()), Step::Say);
        let problem = crossing.problem().unwrap();
        assert!(
            problem
                .text
                .contains("without n2 there would be no route to 10.244.2.0/24")
        );
        assert_eq!(crossing.look(now + 2 * PATIENCE, lost()), Step::Wait);
    }
}
