//! Events: what differs from one look to the next, in one line each, for `kubectl get events`.
//!
//! Many nodes see the same: one that goes away is told of by three of its neighbours, what is wrong with an object of the
//! cluster by one node (the first to whom it applies, in an order that all nodes agree on), what is wrong with a Node by its own
//! daemon. What happens to many at once is one event, and a daemon tells ten at most before it has to wait: what lasts waits with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bgp::status::PeerStatus;
use tokio::time::Instant;
use tracing::debug;

use super::sight::{Sight, short, some};
use crate::{
    crd,
    order::rank,
    problem::{Problem, Reason},
    report::{is_held_down, is_up},
};

/// Longest note that the API server takes is 1024 octets.
const LETTERS: usize = 250;
/// How many nodes tell of a session with a node.
const WITNESSES: usize = 3;
/// Of so many at once each is told.
const EACH: usize = 3;
/// A session that has not come up for so long is told of.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most events at once …
const BURST: u32 = 10;
/// … and then one in this time.
const REFILL: Duration = Duration::from_secs(30);

/// An object by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) name: String,
}

impl Object {
    fn new(kind: &str, name: &str) -> Self {
        Self {
            kind: kind.into(),
            name: name.into(),
        }
    }
}

/// One event that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Occurrence {
    /// Whose it is.
    pub(super) regarding: Object,
    /// What else it is about, with the session, if it is one's.
    pub(super) related: Option<(Object, Option<String>)>,
    /// Somebody should look at it.
    pub(super) warning: bool,
    /// In one word that does not change.
    pub(super) reason: &'static str,
    /// What was done.
    pub(super) action: &'static str,
    /// In words.
    pub(super) note: String,
    /// The problems that it tells of: unlike what happens with a session they last.
    problems: Vec<Key>,
}

/// What a problem is known by.
type Key = (Reason, String);

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(super) struct Seen {
    sessions: BTreeMap<String, Session>,
    problems: BTreeSet<Key>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    up: bool,
    /// How often it has been up.
    times: u64,
    /// Since when it has not been; `None`: that is told already.
    down: Option<Instant>,
}

impl Seen {
    /// Another look; gives what there is to tell.
    pub(super) fn look(&mut self, sight: &Sight, now: Instant) -> Vec<Occurrence> {
        let mut all = self.sessions(sight, now);
        all.extend(self.problems(sight));
        together(all)
    }

    /// What of it there is room for. A problem that there is none for is told later, if it still is one then.
    pub(super) fn within(
        &mut self,
        budget: &mut Budget,
        all: Vec<Occurrence>,
        now: Instant,
    ) -> Vec<Occurrence> {
        let mut told = Vec::new();
        for one in all {
            if budget.take(now) {
                told.push(one);
                continue;
            }
            debug!(reason = one.reason, note = one.note, "too many events");
            for key in &one.problems {
                self.problems.remove(key);
            }
        }
        told
    }

    fn sessions(&mut self, sight: &Sight, now: Instant) -> Vec<Occurrence> {
        let mut told = Vec::new();
        let mut sessions = BTreeMap::new();
        for peer in &sight.peers {
            let before = self.sessions.get(&peer.name);
            let up = is_up(peer);
            let times = peer.established_count;
            let was_up = before.is_some_and(|before| before.up);
            let again = times > before.map_or(0, |before| before.times);
            let mut down = match before {
                Some(before) if !before.up && !up => before.down,
                _ => (!up).then_some(now),
            };
            let witness = !peer.mesh || is_witness(sight, &peer.name);
            if witness && was_up && (!up || again) {
                told.push(went_down(sight, peer));
                down = None;
            }
            if witness && up && again {
                told.push(of_session(
                    sight,
                    peer,
                    "SessionEstablished",
                    "the session is up".into(),
                ));
            }
            let long = down.is_some_and(|since| now.duration_since(since) >= PATIENCE);
            if long && witness && !is_held_down(&sight.desired, &peer.name) {
                let mut late = of_session(sight, peer, "SessionNotEstablished", why(peer));
                late.warning = true;
                told.push(late);
                down = None;
            }
            sessions.insert(peer.name.clone(), Session { up, times, down });
        }
        self.sessions = sessions;
        told
    }

    fn problems(&mut self, sight: &Sight) -> Vec<Occurrence> {
        let now: BTreeSet<_> = sight.status.problems.iter().map(key).collect();
        let mut new: BTreeSet<_> = now.difference(&self.problems).cloned().collect();
        // The first of a reason and an object stands for all of them.
        let told = sight
            .status
            .problems
            .iter()
            .filter(|problem| new.remove(&key(problem)))
            .filter_map(|problem| of_problem(sight, problem))
            .collect();
        self.problems = now;
        told
    }
}

/// Whether this node tells of a session with the node of that name.
fn is_witness(sight: &Sight, peer: &str) -> bool {
    let others = sight.nodes.keys().filter(|node| *node != peer);
    rank(peer, &sight.status.node, others.map(String::as_str)) < WITNESSES
}

fn went_down(sight: &Sight, peer: &PeerStatus) -> Occurrence {
    let mut down = of_session(sight, peer, "SessionDown", why(peer));
    down.warning = !is_held_down(&sight.desired, &peer.name);
    down
}

fn why(peer: &PeerStatus) -> String {
    let mut why = peer.last_error.clone().unwrap_or_default();
    if let Some(hint) = &peer.hint {
        why.push_str(&format!(" ({hint})"));
    }
    if why.is_empty() {
        why = format!("{:?}", peer.state);
    }
    why
}

fn of_session(sight: &Sight, peer: &PeerStatus, reason: &'static str, what: String) -> Occurrence {
    let rule = sight.desired.rule_of(&peer.name);
    let related = match rule {
        Some(rule) => Object::new("BGPPeer", rule),
        None => Object::new("Node", &peer.name),
    };
    Occurrence {
        regarding: us(sight),
        related: Some((related, Some(peer.name.clone()))),
        warning: false,
        reason,
        action: "Peering",
        note: format!("{} ({}): {what}", peer.name, peer.place()),
        problems: Vec::new(),
    }
}

fn key(problem: &Problem) -> Key {
    (problem.reason, problem.about.clone())
}

fn us(sight: &Sight) -> Object {
    Object::new("BGPNode", &sight.status.node)
}

/// What a problem tells of, if it is ours to tell.
fn of_problem(sight: &Sight, problem: &Problem) -> Option<Occurrence> {
    use Reason as R;
    let me = sight.status.node.as_str();
    let (kind, name) = problem
        .about
        .split_once(' ')
        .unwrap_or((&problem.about, ""));
    let (regarding, related) = match (problem.reason, kind) {
        // Told as they happen; or in the condition.
        (R::SessionDown | R::ApiServerProblem | R::InitialSync | R::OutOfService, _) => {
            return None;
        }
        (R::RouteMissing | R::RouteWrong | R::RouteUnexpected, "Node") => {
            (us(sight), Some((Object::new("Node", name), None)))
        }
        (_, "Node") if name == me => (Object::new("Node", name), None),
        (_, "BGPNode") if name == me => (us(sight), None),
        (_, "Node" | "BGPNode") => return None,
        (_, kind) if crd::KINDS.contains(&kind) => {
            let first = match (kind, sight.desired.rules.get(name)) {
                ("BGPPeer", Some(rule)) => rule.rank == 0,
                _ => {
                    let nodes = sight.nodes.keys().map(String::as_str);
                    rank(&problem.about, me, nodes) == 0
                }
            };
            if !first {
                return None;
            }
            (Object::new(kind, name), None)
        }
        (R::ConflistNotWritten | R::CniPluginMissing, _) => (Object::new("Node", me), None),
        _ => (us(sight), None),
    };
    Some(Occurrence {
        note: match related {
            Some(_) => problem.text.clone(),
            None if regarding.name == name => problem.text.clone(),
            None => format!("{}: {}", problem.about, problem.text),
        },
        regarding,
        related,
        warning: true,
        reason: problem.reason.word(),
        action: "Checking",
        problems: vec![key(problem)],
    })
}

/// What happens to many at once is one event.
fn together(all: Vec<Occurrence>) -> Vec<Occurrence> {
    let mut groups: Vec<Vec<Occurrence>> = Vec::new();
    for one in all {
        let alike = |group: &&mut Vec<Occurrence>| {
            group.first().is_some_and(|first| {
                (&first.regarding, first.reason) == (&one.regarding, one.reason)
            })
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    let mut told = Vec::new();
    for group in groups {
        if group.len() <= EACH {
            told.extend(group);
            continue;
        }
        let many = group.len();
        let named = group.iter().filter_map(|one| {
            let (object, session) = one.related.as_ref()?;
            Some(session.as_deref().unwrap_or(&object.name))
        });
        let names = some(named);
        let warning = group.iter().any(|one| one.warning);
        let problems = group.iter().flat_map(|one| one.problems.clone()).collect();
        told.extend(group.into_iter().next().map(|first| Occurrence {
            note: format!("{many} at once, {names}; the first: {}", first.note),
            related: None,
            warning,
            problems,
            ..first
        }));
    }
    for one in &mut told {
        one.note = short(&one.note, LETTERS);
    }
    told
}

/// How many events may still be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: u32,
    /// When the next one comes in.
    refill: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: BURST,
            refill: None,
        }
    }
}

impl Budget {
    /// Whether one more may be told now.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        while self.left < BURST
            && let Some(refill) = self.refill.filter(|refill| *refill <= now)
        {
            self.left = self.left.saturating_add(1);
            self.refill = Some(refill + REFILL);
        }
        if self.left == BURST {
            self.refill = Some(now + REFILL);
        }
        let enough = self.left > 0;
        self.left = self.left.saturating_sub(1);
        enough
    }
}

#[cfg(test)]
mod tests;
