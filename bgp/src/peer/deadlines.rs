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
pub struct Jitter {
    state: u64,
    epoch: Instant,
}

impl Jitter {
    /// Parts of an interval on which [`Jitter::beat`] lies.
    const BEATS: u32 = 32;

    /// A stream that depends on `seed` alone. Who shares an `epoch` beats together.
    #[must_use]
    pub fn new(seed: u64, epoch: Instant) -> Self {
        // splitmix64, so that neighbouring seeds give unlike streams; the state must not be 0.
        let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self {
            state: (state ^ (state >> 31)) | 1,
            epoch,
        }
    }

    /// Between three quarters of `interval` and all of it (RFC 4271 §10).
    pub fn on(&mut self, interval: Duration) -> Duration {
        self.between(interval, 0.75, 1.0)
    }

    /// Between these two parts of `interval`.
    pub fn between(&mut self, interval: Duration, least: f64, most: f64) -> Duration {
        interval.mul_f64(least + (most - least) * self.fraction())
    }

    /// A moment between three quarters of `interval` and all of it from now, on a beat that all peers share: a thousand
    /// KEEPALIVEs wake the process once a second, not a thousand times.
    pub fn beat(&mut self, now: Instant, interval: Duration) -> Instant {
        let beat = interval / Self::BEATS;
        // A beat is lost to rounding down.
        let wait = interval.mul_f64(0.75 + 0.25 * self.fraction() * 7.0 / 8.0) + beat;
        let at = now + wait;
        let since = at.saturating_duration_since(self.epoch).as_nanos();
        let beyond = since.checked_rem(beat.as_nanos()).unwrap_or_default();
        at.checked_sub(Duration::from_nanos(
            u64::try_from(beyond).unwrap_or_default(),
        ))
        .unwrap_or(at)
    }

    /// Between 0 and 1.
    fn fraction(&mut self) -> f64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let parts = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 54; // 0–1023
        parts as f64 / 1023.0
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
        let mut jitter = Jitter::new(7, Instant::now());
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
    fn beats_are_shared_and_stay_in_the_same_range() {
        let epoch = Instant::now();
        let interval = Duration::from_secs(32);
        for seed in 0..1000 {
            let now = epoch + Duration::from_millis(seed * 37);
            let at = Jitter::new(seed, epoch).beat(now, interval);
            assert!((Duration::from_secs(24)..=interval).contains(&(at - now)));
            assert_eq!((at - epoch).subsec_nanos(), 0);
        }
        let no_interval = Jitter::new(1, epoch).beat(epoch, Duration::ZERO);
        assert_eq!(no_interval, epoch);
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
