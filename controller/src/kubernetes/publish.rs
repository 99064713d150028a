//! What the daemon tells the API server: the status of its `BGPNode`, its Node's condition `NetworkUnavailable`, events, and, one
//! daemon for all, the status of each `BGPPeer`.
//!
//! ```text
//! Running ── look ──► Sight ── node::status, network::verdict, event::Seen (pure) ──► what should stand there
//!                              pace: now, later, not at all                      ──► objects: get, create, patch
//! ```
//! Looks are cheap and stay on the node: one when the journal has something new, and one every ten seconds. What is written,
//! and when, follows from what was written last. Whatever becomes of a write, nothing on the node depends on it: one that fails
//! is a problem in `routelet status` where the operator can do something, and is tried again ever later.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use self::{
    event::{Budget, Occurrence, Seen},
    failure::{Failure, Target},
    network::Verdict,
    node::News,
    objects::{Objects, OurNode},
    pace::{Pace, Turn},
    sight::Sight,
};
use super::{client::Connection, outage::Reach, reports::Reports};
use crate::{
    cluster::Registration,
    journal::{Entry, Kind},
    node::{Running, Stopping},
    problem::Problem,
};

mod condition;
mod event;
mod failure;
mod network;
mod node;
mod objects;
mod pace;
mod peer;
pub(crate) mod sight;

/// Longest time from one look to the next.
const LOOK: Duration = Duration::from_secs(10);
/// What has just happened is looked at after this time, with what follows from it.
const QUIET: Duration = Duration::from_secs(1);

/// How many nodes look after a `BGPPeer`.
const WRITERS: usize = 3;
/// How long each of them waits for the one before.
const RELIEF: Duration = Duration::from_secs(30);
/// Most events that wait for an API server that is away; the oldest are dropped.
const WAITING: usize = 32;

/// What stands in the way of writing, by what is written.
#[derive(Debug, Default)]
pub(crate) struct Obstacles(Mutex<BTreeMap<Target, Problem>>);

impl Obstacles {
    /// In words with the remedy.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let obstacles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        obstacles.values().cloned().collect()
    }

    /// Notes how a write of `target` ended; gives the problem where it is a new one.
    fn note(&self, target: Target, problem: Option<Problem>) -> Option<Problem> {
        let mut obstacles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(problem) = problem else {
            obstacles.remove(&target);
            return None;
        };
        let known = obstacles.insert(target, problem.clone());
        (known.as_ref() != Some(&problem)).then_some(problem)
    }
}

/// Writes until the daemon stops. This process may be one that `follows` another whose routes are still in the kernel.
pub(crate) async fn run(
    connection: Connection,
    reports: watch::Receiver<Reports>,
    running: Arc<Running>,
    follows: bool,
) {
    let (_, mut journal) = running.journal.follow();
    let mut reach = connection.reach.clone();
    let mut publisher = Publisher {
        objects: Objects::new(&connection, &running.name),
        running,
        reports,
        follows,
        registration: Registration::default(),
        known: None,
        status: Pace::default(),
        turn: Turn::default(),
        said: None,
        network: Pace::default(),
        seen: Seen::default(),
        budget: Budget::default(),
        waiting: VecDeque::new(),
        events: Pace::default(),
        peers: BTreeMap::new(),
    };
    while publisher.look().await.is_ok() {
        let next = publisher.next();
        match news(&mut journal, &mut reach, next).await {
            Wake::Time => {}
            Wake::Back => publisher.back(),
            Wake::Ended => return,
        }
    }
}

/// Why a look is taken.
enum Wake {
    /// Something happened, or it is time.
    Time,
    /// The API server answers again.
    Back,
    /// There is nothing more to come.
    Ended,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the driver waits for its deadline, and for what follows from an event"
)]
async fn news(
    journal: &mut broadcast::Receiver<Entry>,
    reach: &mut watch::Receiver<Reach>,
    next: Option<Instant>,
) -> Wake {
    let mut back = false;
    let deadline = Instant::now() + LOOK;
    let deadline = next.map_or(deadline, |next| next.min(deadline));
    tokio::select! {
        () = sleep_until(deadline) => return Wake::Time,
        entry = journal.recv() => if matches!(entry, Err(broadcast::error::RecvError::Closed)) {
            return Wake::Ended;
        },
        changed = reach.changed() => {
            if changed.is_err() {
                return Wake::Ended;
            }
            back = *reach.borrow_and_update() == Reach::Answers;
        }
    }
    sleep(QUIET).await;
    // One look for all of them.
    *journal = journal.resubscribe();
    if back { Wake::Back } else { Wake::Time }
}

struct Publisher {
    objects: Objects,
    running: Arc<Running>,
    reports: watch::Receiver<Reports>,
    follows: bool,
    /// What the API server had of us at the last look.
    registration: Registration,
    /// Our `BGPNode` as it was read or written last.
    known: Option<OurNode>,
    status: Pace,
    turn: Turn,
    /// What the Node says.
    said: Option<Verdict>,
    network: Pace,
    /// What events were told from.
    seen: Seen,
    budget: Budget,
    /// Events on their way.
    waiting: VecDeque<Occurrence>,
    events: Pace,
    /// The writes of each `BGPPeer`.
    peers: BTreeMap<String, Pace>,
}

impl Publisher {
    #[expect(clippy::disallowed_methods, reason = "the driver reads the clock")]
    async fn look(&mut self) -> Result<(), Stopping> {
        let sight = self.running.sight().await?;
        self.turn = Turn::of(&self.running.name, sight.nodes.len());
        let now = Instant::now();
        self.look_at_objects(&sight.registration);
        // Where there is no Node there is nobody to write of, and what is common to all is told by those who are left.
        if sight.desired.deleted {
            return Ok(());
        }
        self.say_network(&sight, now).await;
        self.write_status(&sight, now).await;
        self.write_peers(&sight, now).await;
        self.tell_events(&sight, now).await;
        Ok(())
    }

    /// When something is due though nothing happens.
    fn next(&self) -> Option<Instant> {
        let peers = self.peers.values().map(Pace::next);
        [self.status.next(), self.network.next(), self.events.next()]
            .into_iter()
            .chain(peers)
            .flatten()
            .min()
    }

    /// The API server answers again: what failed for that reason need not wait.
    #[expect(clippy::disallowed_methods, reason = "the driver reads the clock")]
    fn back(&mut self) {
        let now = Instant::now();
        self.status.again(now, self.turn);
        self.network.again(now, Turn::default());
        self.events.again(now, self.turn);
        for peer in self.peers.values_mut() {
            peer.again(now, self.turn);
        }
    }

    /// Nothing stands in a Node that was made anew, and a `BGPNode` that is gone has to be made.
    fn look_at_objects(&mut self, now: &Registration) {
        let before = std::mem::replace(&mut self.registration, now.clone());
        if before.created.is_some() && before.created != now.created {
            self.said = None;
            self.network = Pace::default();
            self.status = Pace::default();
        }
        if before.bgp_node && !now.bgp_node {
            self.known = None;
        }
    }

    async fn say_network(&mut self, sight: &Sight, now: Instant) {
        let verdict = network::verdict(&sight.status, sight.is_podless(), self.follows);
        let news = match verdict {
            Some(verdict) if self.said != Some(verdict) => News::Own,
            _ => News::Nothing,
        };
        // Pods wait for it: it takes no turns.
        if !self.network.is_due(now, news, Turn::default()) {
            return;
        }
        let Some(verdict) = verdict else {
            return;
        };
        let said = self.objects.say(verdict, Timestamp::now()).await;
        if self.noted(Target::NodeCondition, said).is_some() {
            self.said = Some(verdict);
            self.network = Pace::default();
        } else {
            self.network.failed(now, Turn::default());
        }
    }

    async fn write_status(&mut self, sight: &Sight, now: Instant) {
        // A restart that keeps the routes is no news: what comes of it is.
        if self.follows && sight.status.settled.is_none() {
            return;
        }
        let at = Timestamp::now();
        let news = match &self.known {
            Some(known) => node::news(&known.status, &known.next(sight, at)),
            None => News::Own,
        };
        if !self.status.is_due(now, news, self.turn) {
            return;
        }
        match self.put_status(sight, at).await {
            Some(()) => self.status.wrote(now),
            None => self.status.failed(now, self.turn),
        }
    }

    async fn put_status(&mut self, sight: &Sight, at: Timestamp) -> Option<()> {
        let known = match self.known.take() {
            Some(known) => known,
            None => {
                let found = self.objects.our_node().await;
                self.noted(Target::OurNode, found)?
            }
        };
        let status = known.next(sight, at);
        if node::news(&known.status, &status) > News::Figures {
            let written = self.objects.write_status(&status).await;
            self.known = Some(self.noted(Target::NodeStatus, written)?);
        } else {
            // What stands there still holds: nothing is missing.
            self.known = Some(known);
            self.noted(Target::NodeStatus, Ok(()));
        }
        Some(())
    }

    async fn write_peers(&mut self, sight: &Sight, now: Instant) {
        // Counts that are not all in yet would only be taken back.
        if sight.status.settled.is_none() {
            return;
        }
        let rules = &sight.desired.rules;
        self.peers.retain(|name, _| rules.contains_key(name));
        for (name, rule) in rules.iter().filter(|(_, rule)| rule.rank < WRITERS) {
            let wanted = {
                let reports = self.reports.borrow();
                // One that is not told of is not there (any more).
                let Some(written) = reports.peers.get(name) else {
                    continue;
                };
                let status = peer::status(sight, &reports, name, rule, written, Timestamp::now());
                peer::is_news(&written.status, &status).then_some(status)
            };
            let news = wanted.as_ref().map_or(News::Nothing, |_| News::Common);
            let rank = u32::try_from(rule.rank).unwrap_or(u32::MAX);
            let turn = Turn::after(RELIEF.saturating_mul(rank));
            let pace = self.peers.entry(name.clone()).or_default();
            let (true, Some(status)) = (pace.is_due(now, news, turn), wanted) else {
                continue;
            };
            let written = self.objects.write_peer(name, &status).await;
            let written = self.noted(Target::PeerStatus, written);
            let pace = self.peers.entry(name.clone()).or_default();
            match written {
                Some(()) => pace.wrote(now),
                None => pace.failed(now, turn),
            }
        }
        if !self.peers.values().any(Pace::is_failing) {
            self.noted(Target::PeerStatus, Ok(()));
        }
    }

    async fn tell_events(&mut self, sight: &Sight, now: Instant) {
        let all = self.seen.look(sight, now);
        for one in self.seen.within(&mut self.budget, all, now) {
            if self.waiting.len() >= WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back(one);
        }
        let news = if self.waiting.is_empty() {
            News::Nothing
        } else {
            News::Own
        };
        if !self.events.is_due(now, news, Turn::default()) {
            return;
        }
        while let Some(one) = self.waiting.front() {
            let told = self.objects.tell(one).await;
            let later = matches!(
                told,
                Err(Failure::Away(_) | Failure::Forbidden(_) | Failure::Unauthenticated)
            );
            self.noted(Target::Events, told);
            if later {
                self.events.failed(now, Turn::default());
                return;
            }
            self.waiting.pop_front();
        }
        self.events = Pace::default();
    }

    /// What came of a write; a failure that the operator has to know of is told once.
    fn noted<T>(&self, target: Target, outcome: Result<T, Failure>) -> Option<T> {
        let failure = outcome.as_ref().err();
        if let Some(failure) = failure {
            debug!(?target, %failure, "not written");
        }
        let problem = failure.and_then(|failure| failure.problem(target));
        if let Some(problem) = self.running.obstacles.note(target, problem) {
            self.running
                .journal
                .write(Kind::Problem, None, problem.to_string());
        }
        outcome.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Problem;

    #[test]
    fn what_stands_in_the_way_is_told_once_and_until_it_is_over() {
        let obstacles = Obstacles::default();
        let problem = |text: &str| Some(Problem::warning("API server", text));
        assert!(
            obstacles
                .note(Target::NodeStatus, problem("no right"))
                .is_some()
        );
        assert!(
            obstacles
                .note(Target::NodeStatus, problem("no right"))
                .is_none()
        );
        assert!(obstacles.note(Target::Events, None).is_none());
        assert_eq!(obstacles.problems().len(), 1);
        assert!(
            obstacles
                .note(Target::NodeStatus, problem("another"))
                .is_some()
        );
        assert!(obstacles.note(Target::NodeStatus, None).is_none());
        assert_eq!(obstacles.problems(), []);
    }
}
