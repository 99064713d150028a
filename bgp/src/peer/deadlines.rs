//! Time as data: the timers of a session as instants (RFC 4271 §8.1.3, §10; RFC 9687 §3), and the jitter on them.

use std::time::{Duration, Instant};

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Dial (again), or give up a dial that got no answer.
    ConnectRetry,
    /// Leave Idle (IdleHoldTimer, RFC 4271 §8.1.1 DampPeerOscillations).
    IdleHold,
    /// The peer said nothing for too long.
    Hold,
    /// We must say something.
    Keepalive,
    /// The peer takes nothing (RFC 9687).
    SendHold,
}

impl Timer {
    /// In the order in which deadlines that passed together are served: what ends a session comes last, so that whatever
    /// could still save it is done first.
    const ALL: [Self; 5] = [
        Self::Keepalive,
        Self::ConnectRetry,
        Self::IdleHold,
        Self::SendHold,
        Self::Hold,
    ];
}

/// The deadlines of a peer, or of one of its connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadlines {
    connect_retry: Option<Instant>,
    idle_hold: Option<Instant>,
    hold: Option<Instant>,
    keepalive: Option<Instant>,
    send_hold: Option<Instant>,
}

impl Deadlines {
    /// Sets a deadline, or clears it.
    pub fn set(&mut self, timer: Timer, at: Option<Instant>) {
        *self.slot(timer) = at;
    }

    /// When `timer` passes, if it is set.
    #[must_use]
    pub fn get(&self, timer: Timer) -> Option<Instant> {
        match timer {
            Timer::ConnectRetry => self.connect_retry,
            Timer::IdleHold => self.idle_hold,
            Timer::Hold => self.hold,
            Timer::Keepalive => self.keepalive,
            Timer::SendHold => self.send_hold,
        }
    }

    /// The one that passes first.
    #[must_use]
    pub fn earliest(&self) -> Option<Instant> {
        Timer::ALL
            .into_iter()
            .filter_map(|timer| self.get(timer))
            .min()
    }

    /// Clears and gives one that has passed.
    pub fn take_passed(&mut self, now: Instant) -> Option<Timer> {
        let passed = Timer::ALL
            .into_iter()
            .find(|timer| self.get(*timer).is_some_and(|at| at <= now))?;
        self.set(passed, None);
        Some(passed)
    }

    /// Clears all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn slot(&mut self, timer: Timer) -> &mut Option<Instant> {
        match timer {
            Timer::ConnectRetry => &mut self.connect_retry,
            Timer::IdleHold => &mut self.idle_hold,
            Timer::Hold => &mut self.hold,
            Timer::Keepalive => &mut self.keepalive,
            Timer::SendHold => &mut self.send_hold,
        }
    }
}

/// A small stream of random numbers (xorshift64*): enough to keep a thousand peers from acting in step, and repeatable.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// A stream that depends on `seed` alone.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // splitmix64, so that neighbouring seeds give unlike streams; the state must not be 0.
        let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((state ^ (state >> 31)) | 1)
    }

    /// Between three quarters of `interval` and all of it (RFC 4271 §10).
    pub fn on(&mut self, interval: Duration) -> Duration {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let parts = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 54; // 0–1023
        interval.mul_f64(0.75 + 0.25 * parts as f64 / 1023.0)
    }
}

/// `first` doubled `times` times, at most `most`.
#[must_use]
pub fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    let factor = 1_u32.checked_shl(times.min(30)).unwrap_or(u32::MAX);
    first
        .checked_mul(factor)
        .unwrap_or(most)
        .min(most.max(first))
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test needs some instant to count from"
)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_three_quarters_and_the_whole() {
        let mut jitter = Jitter::new(7);
        let whole = Duration::from_secs(100);
        let drawn: Vec<_> = (0..1000).map(|_| jitter.on(whole)).collect();
        assert!(
            drawn
                .iter()
                .all(|wait| (Duration::from_secs(75)..=whole).contains(wait))
        );
        let mean = drawn.iter().sum::<Duration>() / 1000;
        assert!((Duration::from_secs(85)..Duration::from_secs(90)).contains(&mean));
    }

    #[test]
    fn doubling_stops_at_the_most_and_never_overflows() {
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(60));
        let waits: Vec<_> = (0..8)
            .map(|times| doubled(first, times, most).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(doubled(first, u32::MAX, most), most);
        assert_eq!(doubled(most, 3, first), most);
    }

    #[test]
    fn the_hold_timer_is_served_after_all_others() {
        let now = Instant::now();
        let mut deadlines = Deadlines::default();
        deadlines.set(Timer::Hold, Some(now));
        deadlines.set(Timer::Keepalive, Some(now));
        assert_eq!(deadlines.earliest(), Some(now));
        assert_eq!(deadlines.take_passed(now), Some(Timer::Keepalive));
        assert_eq!(deadlines.take_passed(now), Some(Timer::Hold));
        assert_eq!(deadlines.take_passed(now), None);
    }
}
