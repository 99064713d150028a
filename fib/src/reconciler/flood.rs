//! Removals that come in a flood wait a moment for the rest: all routes of an object go by one operation once nobody wants any
//! of them, which takes a third of the time that one by one takes.

use std::time::{Duration, Instant};

use crate::{reconciler::Reconciler, target::Target};

/// So many removals wait: some tenths of a second of work for the kernel.
pub(super) const FLOOD: usize = 16 * 1024;
/// When nothing has come for so long, nothing more will.
pub(super) const LULL: Duration = Duration::from_millis(50);
/// No removal waits longer than this for others.
pub(super) const LONGEST: Duration = Duration::from_secs(1);
/// So many of those that wait are looked at.
const SAMPLES: usize = 8;

/// A flood of removals.
#[derive(Debug, Default)]
pub(super) struct Flood {
    /// Removals that the speaker asked for since the last look.
    pub(super) arrived: usize,
    /// Since when, and when the last came.
    times: Option<(Instant, Instant)>,
    /// Until when the removals wait.
    held_until: Option<Instant>,
}

impl Flood {
    /// Until when removals wait, as was decided last.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// Whether the removals are to wait; `waiting` are there, and `worth` tells whether they might go at once.
    fn look(&mut self, now: Instant, waiting: usize, worth: impl FnOnce() -> bool) -> bool {
        let arrived = std::mem::take(&mut self.arrived) > 0;
        self.times = match self.times {
            _ if waiting < FLOOD => None,
            Some((began, last)) => Some((began, if arrived { now } else { last })),
            None if arrived && worth() => Some((now, now)),
            None => None,
        };
        let until = self
            .times
            .map(|(began, last)| (began + LONGEST).min(last + LULL));
        self.held_until = until.filter(|until| now < *until);
        self.held_until.is_some()
    }
}

impl Reconciler {
    /// Whether removals are to wait for now.
    pub(super) fn holds_removals(&mut self, now: Instant) -> bool {
        let mut flood = std::mem::take(&mut self.flood);
        let held = flood.look(now, self.removals.len(), || self.may_go_at_once());
        self.flood = flood;
        held
    }

    /// Whether the removals lead through objects, as far as a few of them tell.
    fn may_go_at_once(&self) -> bool {
        if !self.objects_may_go() {
            return false;
        }
        let each = (self.removals.len() / SAMPLES).max(1);
        self.removals.iter().step_by(each).all(|key| {
            let target = self
                .routes
                .get(key)
                .and_then(|entry| self.targets.get(entry.kernel));
            key.prefix.is_ipv4()
                && matches!(target.map(|target| &**target), Some(Target::Object(_)))
        })
    }
}
