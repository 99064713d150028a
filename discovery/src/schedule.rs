//! When a link hears from us: often at first, then now and then, and at once where somebody asks.

use std::{
    collections::BTreeMap,
    net::Ipv6Addr,
    time::{Duration, Instant},
};

/// Where we speak: the index of a link, and our address on it.
pub(crate) type Place = (u32, Ipv6Addr);

/// From one advertisement to the next; the shortest time RFC 4861 §6.2.1 allows is 3 s.
const INTERVAL: Duration = Duration::from_secs(10);
/// The first ones follow each other faster, for one may be lost (§6.2.4).
const FIRST: (u32, Duration) = (4, Duration::from_secs(1));
/// Who asks more often than this is not answered.
const ANSWERS: Duration = Duration::from_millis(100);

/// See the top of the file.
#[derive(Debug, Default)]
pub(crate) struct Schedule(BTreeMap<Place, Turn>);

#[derive(Debug)]
struct Turn {
    next: Instant,
    sent: u32,
    answered: Option<Instant>,
}

impl Schedule {
    /// We speak in these places; a new one is due at once.
    pub(crate) fn set(&mut self, now: Instant, places: &[Place]) {
        self.0.retain(|place, _| places.contains(place));
        for place in places {
            self.0.entry(*place).or_insert(Turn {
                next: now,
                sent: 0,
                answered: None,
            });
        }
    }

    /// When the next one is due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.0.values().map(|turn| turn.next).min()
    }

    /// Where it is time to speak; said once for each time.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Place> {
        let due = self.0.iter_mut().filter(|(_, turn)| turn.next <= now);
        due.map(|(place, turn)| {
            turn.sent = turn.sent.saturating_add(1);
            let (first, fast) = FIRST;
            turn.next = now + if turn.sent < first { fast } else { INTERVAL };
            *place
        })
        .collect()
    }

    /// Somebody on this link asks: from where the answer comes, if one is due.
    pub(crate) fn asked(&mut self, now: Instant, link: u32) -> Option<Place> {
        let (place, turn) = self.0.iter_mut().find(|((index, _), _)| *index == link)?;
        let often = |last: Instant| now.saturating_duration_since(last) < ANSWERS;
        if turn.answered.is_some_and(often) {
            return None;
        }
        turn.answered = Some(now);
        Some(*place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = (2, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
    const MOVED: Place = (2, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2));

    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_first_advertisements_follow_each_other_fast() {
        let (mut schedule, begun) = (Schedule::default(), start());
        schedule.set(begun, &[HERE]);
        let mut times = Vec::new();
        while times.len() < 6 {
            let now = schedule.next_timeout().expect("there is a link");
            assert_eq!(schedule.due(now), [HERE]);
            assert_eq!(schedule.due(now), [], "said once");
            times.push(now.duration_since(begun).as_secs());
        }
        assert_eq!(times, [0, 1, 2, 3, 13, 23]);
    }

    #[test]
    fn another_address_of_ours_is_told_at_once_and_the_old_one_no_more() {
        let (mut schedule, now) = (Schedule::default(), start());
        schedule.set(now, &[HERE]);
        assert_eq!(schedule.due(now), [HERE]);
        schedule.set(now, &[MOVED]);
        assert_eq!(schedule.due(now), [MOVED]);
        schedule.set(now, &[]);
        assert_eq!(schedule.next_timeout(), None);
    }

    #[test]
    fn who_asks_is_answered_at_once_and_who_floods_is_not() {
        let (mut schedule, now) = (Schedule::default(), start());
        schedule.set(now, &[HERE]);
        assert_eq!(schedule.asked(now, 2), Some(HERE));
        assert_eq!(schedule.asked(now, 2), None);
        assert_eq!(schedule.asked(now + ANSWERS, 2), Some(HERE));
        assert_eq!(schedule.asked(now, 3), None, "not our link");
    }
}
