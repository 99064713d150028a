//! What the audit finds twice in a row is no passing moment: it becomes a problem and an event, and its end is an event too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bgp::prefix::Prefix;

use super::{Audit, Deviation, Finding};
use crate::{journal::Kind, node::Running};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);

/// So many events of one look; the rest is a number.
const TOLD: usize = 10;

/// What the looks have come to. Of the findings only those that nothing else explains: the others may be as many as there are
/// nodes.
#[derive(Debug, Default)]
pub(crate) struct Audited {
    /// The last one; `None` where nothing was expected.
    pub(crate) last: Option<Audit>,
    /// Routes that have not been as they should be for a while.
    pub(crate) astray: Box<[Finding]>,
}

/// What was found, over time.
#[derive(Debug, Default)]
struct Memory {
    /// By the last look.
    found: BTreeSet<(Deviation, Prefix)>,
    /// By the last two.
    lasting: BTreeMap<(Deviation, Prefix), Finding>,
}

impl Memory {
    /// Another look; gives what has changed, in words.
    fn look(&mut self, audit: Audit) -> Vec<String> {
        let found: BTreeSet<_> = audit.findings.iter().map(Finding::key).collect();
        let wrong: BTreeSet<Prefix> = found.iter().map(|(_, prefix)| *prefix).collect();
        let lasting: BTreeMap<_, Finding> = audit
            .findings
            .into_iter()
            .map(|finding| (finding.key(), finding))
            .filter(|(key, _)| self.found.contains(key))
            .collect();
        let began = lasting
            .iter()
            .filter(|(key, _)| !self.lasting.contains_key(*key))
            .map(|(_, finding)| format!("{}: {finding}", finding.about()));
        let ended = self
            .lasting
            .values()
            .filter(|finding| !wrong.contains(&finding.prefix))
            .map(|finding| {
                let about = finding.about();
                format!(
                    "{about}: {} is routed as it should be again",
                    finding.prefix
                )
            });
        let changes = began.chain(ended).collect();
        self.found = found;
        self.lasting = lasting;
        changes
    }

    /// What lasts and nothing else explains.
    fn astray(&self) -> Box<[Finding]> {
        let lasting = self.lasting.values();
        lasting
            .filter(|finding| !finding.explained)
            .cloned()
            .collect()
    }
}

/// Looks again and again until the daemon stops.
pub(crate) async fn watch(running: Arc<Running>) {
    let mut memory = Memory::default();
    let mut looks = tokio::time::interval(EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Ok(audit) = running.audit().await else {
            return;
        };
        let last = audit.unexplained();
        let changes = memory.look(audit);
        for text in changes.iter().take(TOLD) {
            running.journal.write(Kind::Problem, None, text);
        }
        if let Some(more) = changes.len().checked_sub(TOLD).filter(|more| *more > 0) {
            let text = format!("{more} more routes have changed: routelet status tells of them");
            running.journal.write(Kind::Problem, None, text);
        }
        let audited = Audited {
            last: (last.expected > 0).then_some(last),
            astray: memory.astray(),
        };
        running.update(|now| now.audited = Arc::new(audited));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(prefixes: &[&str]) -> Audit {
        Audit {
            findings: prefixes
                .iter()
                .map(|prefix| Finding {
                    is: Deviation::Missing,
                    prefix: prefix.parse().unwrap(),
                    node: Some("node2".into()),
                    because: "no peer announces it".into(),
                    explained: false,
                })
                .collect(),
            ..Audit::default()
        }
    }

    #[test]
    fn what_is_seen_once_is_not_spoken_of() {
        let mut memory = Memory::default();
        assert!(memory.look(missing(&["10.244.2.0/24"])).is_empty());
        assert!(memory.lasting.is_empty());
        assert!(memory.look(missing(&[])).is_empty());
    }

    #[test]
    fn what_lasts_begins_once_and_ends_once() {
        let mut memory = Memory::default();
        memory.look(missing(&["10.244.2.0/24"]));
        let began = "Node node2: no route to its pod CIDR 10.244.2.0/24: no peer announces it";
        assert_eq!(memory.look(missing(&["10.244.2.0/24"])), [began]);
        assert_eq!((memory.lasting.len(), memory.astray().len()), (1, 1));
        let both = missing(&["10.244.2.0/24", "10.244.3.0/24"]);
        assert!(memory.look(both).is_empty());
        let ended = "Node node2: 10.244.2.0/24 is routed as it should be again";
        assert_eq!(memory.look(missing(&[])), [ended]);
        assert!(memory.lasting.is_empty());
        assert!(memory.look(missing(&[])).is_empty());
    }

    #[test]
    fn what_a_session_that_is_down_explains_is_not_astray() {
        let mut audit = missing(&["10.244.2.0/24"]);
        audit
            .findings
            .iter_mut()
            .for_each(|one| one.explained = true);
        let mut memory = Memory::default();
        memory.look(audit.clone());
        assert_eq!(memory.look(audit.clone()).len(), 1);
        assert!(memory.astray().is_empty());
        assert!(audit.unexplained().findings.is_empty());
    }
}
