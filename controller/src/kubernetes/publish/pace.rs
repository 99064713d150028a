//! When something is written: soon, but never often, and not by all nodes at once.

use std::time::Duration;

use tokio::time::Instant;

use super::node::News;
use crate::order::hash;

/// Shortest time from one write of an object to the next.
pub(super) const PAUSE: Duration = Duration::from_secs(10);
/// The same where only figures differ.
const FIGURES: Duration = Duration::from_secs(300);
/// Longest time from a write that failed to the next attempt.
const PATIENCE: Duration = Duration::from_secs(300);
/// What all nodes have to write at once is spread over so much time for each of them: some 17 writes a second, which every
/// watch of every daemon is told of.
const TURN: Duration = Duration::from_millis(60);

/// This node's turn when all have something to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn(Duration);

impl Turn {
    /// After so much time.
    pub(super) fn after(time: Duration) -> Self {
        Self(time)
    }

    /// Of the node `name` among `nodes`; always the same, so that the nodes stay apart.
    pub(super) fn of(name: &str, nodes: usize) -> Self {
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        let place = u32::try_from(hash(name) % u64::from(nodes.max(1))).unwrap_or_default();
        Self(TURN.saturating_mul(place))
    }
}

/// The writes of one object.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// The last one that succeeded.
    written: Option<Instant>,
    /// Not before: the last one was then, or failed.
    earliest: Option<Instant>,
    /// The next one.
    due: Option<Instant>,
    failures: u32,
}

impl Pace {
    /// Whether to write now, given how much of news there is.
    pub(super) fn is_due(&mut self, now: Instant, news: News, turn: Turn) -> bool {
        let from = match news {
            News::Nothing => {
                self.due = None;
                self.failures = 0;
                return false;
            }
            // All daemons may have started at once.
            News::Own if self.written.is_none() => now + turn.0,
            News::Own => now,
            News::Common => now + turn.0,
            News::Figures => self.written.map_or(now, |written| written + FIGURES) + turn.0,
        };
        let due = self.due.map_or(from, |due| due.min(from));
        self.due = Some(due);
        self.next().is_some_and(|next| next <= now)
    }

    /// When it will be time, if nothing changes.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = self.due?;
        Some(self.earliest.map_or(due, |earliest| due.max(earliest)))
    }

    /// What made it fail may be over: the next attempt waits no longer than the next write would.
    pub(super) fn again(&mut self, now: Instant, turn: Turn) {
        let soon = now + PAUSE + turn.0;
        self.earliest = self.earliest.map(|earliest| earliest.min(soon));
    }

    /// The last attempt failed, and there is still something to write.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// It was written.
    pub(super) fn wrote(&mut self, now: Instant) {
        *self = Self {
            written: Some(now),
            earliest: Some(now + PAUSE),
            ..Self::default()
        };
    }

    /// It could not be written.
    pub(super) fn failed(&mut self, now: Instant, turn: Turn) {
        let wait = PAUSE.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.earliest = Some(now + wait.min(PATIENCE) + turn.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Turn = Turn(Duration::ZERO);
    const LATE: Turn = Turn(Duration::from_secs(60));

    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
    fn start() -> Instant {
        Instant::now()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn own_news_are_written_at_once_but_never_twice_within_the_pause() {
        let (mut pace, now) = (Pace::default(), start());
        assert!(pace.is_due(now, News::Own, ALONE));
        pace.wrote(now);
        assert!(!pace.is_due(now + seconds(9), News::Own, LATE));
        assert_eq!(pace.next(), Some(now + PAUSE));
        assert!(pace.is_due(now + PAUSE, News::Own, LATE));
    }

    #[test]
    fn what_all_nodes_see_is_written_when_it_is_this_nodes_turn() {
        let (mut pace, now) = (Pace::default(), start());
        pace.wrote(now);
        let seen = now + seconds(100);
        assert!(!pace.is_due(seen, News::Common, LATE));
        // More of the same does not put it off.
        assert!(!pace.is_due(seen + seconds(59), News::Common, LATE));
        assert!(pace.is_due(seen + seconds(60), News::Common, LATE));
    }

    #[test]
    fn figures_are_refreshed_rarely() {
        let (mut pace, now) = (Pace::default(), start());
        pace.wrote(now);
        assert!(!pace.is_due(now + seconds(299), News::Figures, ALONE));
        assert!(pace.is_due(now + seconds(300), News::Figures, ALONE));
    }

    #[test]
    fn news_that_have_passed_are_not_written() {
        let (mut pace, now) = (Pace::default(), start());
        pace.wrote(now);
        assert!(!pace.is_due(now + seconds(1), News::Own, ALONE));
        assert!(!pace.is_due(now + seconds(20), News::Nothing, ALONE));
        assert_eq!(pace.next(), None);
    }

    #[test]
    fn a_write_that_fails_is_tried_again_ever_later() {
        let (mut pace, mut now) = (Pace::default(), start());
        for wait in [10, 20, 40, 80, 160, 300, 300] {
            assert!(pace.is_due(now, News::Own, ALONE));
            pace.failed(now, ALONE);
            assert!(!pace.is_due(now + seconds(wait - 1), News::Own, ALONE));
            now += seconds(wait);
        }
        assert!(pace.is_due(now, News::Own, ALONE));
        pace.wrote(now);
        now += PAUSE;
        assert!(pace.is_due(now, News::Own, ALONE));
    }

    #[test]
    fn when_the_api_server_is_back_the_next_attempt_is_soon() {
        let (mut pace, now) = (Pace::default(), start());
        assert!(pace.is_due(now, News::Own, ALONE));
        for _ in 0..10 {
            pace.failed(now, ALONE);
        }
        assert_eq!(pace.next(), Some(now + PATIENCE));
        pace.again(now, ALONE);
        assert_eq!(pace.next(), Some(now + PAUSE));
    }

    #[test]
    fn five_thousand_nodes_take_turns() {
        let turns: Vec<Duration> = (0..5000)
            .map(|node| Turn::of(&format!("node{node}"), 5000).0)
            .collect();
        let within = |from: u64| {
            let second = seconds(from)..seconds(from + 1);
            turns.iter().filter(|turn| second.contains(turn)).count()
        };
        let busiest = (0..300).map(within).max();
        assert!(busiest < Some(40), "{busiest:?} in one second");
        assert_eq!(Turn::of("n1", 1), ALONE);
        assert!(Turn::of("n1", 3).0 < seconds(1));
    }
}
