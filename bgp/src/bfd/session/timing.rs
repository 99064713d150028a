//! The intervals of a session: what we say, and what already holds (RFC 5880 §6.8.3).

use std::time::Duration;

use crate::bfd::packet::State;

/// The intervals of a session as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Required Min RX Interval.
    pub min_rx: Duration,
    /// Desired Min TX Interval.
    pub min_tx: Duration,
    /// Packets of ours that may be missed before the other side gives us up; at least 1.
    pub multiplier: u8,
}

/// A session that is not Up sends no faster (RFC 5880 §6.8.3).
const SLOW: Duration = Duration::from_secs(1);

/// What we say, and what holds until the other side has answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    settings: Settings,
    /// What our packets say.
    desired_min_tx: Duration,
    /// What we send by.
    transmit: Duration,
    /// What the detection time counts with.
    receive: Duration,
}

impl Timing {
    /// Those of a session in Down.
    pub(super) fn new(settings: Settings) -> Self {
        let slow = settings.min_tx.max(SLOW);
        Self {
            settings,
            desired_min_tx: slow,
            transmit: slow,
            receive: settings.min_rx,
        }
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings
    }

    pub(super) fn desired_min_tx(&self) -> Duration {
        self.desired_min_tx
    }

    pub(super) fn transmit(&self) -> Duration {
        self.transmit
    }

    pub(super) fn receive(&self) -> Duration {
        self.receive
    }

    /// The session is in another state. Says whether the other side must be asked by a Poll Sequence.
    pub(super) fn entered(&mut self, state: State) -> bool {
        let before = self.desired_min_tx;
        self.desired_min_tx = if state == State::Up {
            self.settings.min_tx
        } else {
            self.settings.min_tx.max(SLOW)
        };
        self.agreed();
        self.desired_min_tx != before
    }

    /// Other settings. While the session is Up, slower sending and a shorter detection time wait for the answer: else the other
    /// side would miss packets, or we would, before it knows.
    pub(super) fn configure(&mut self, settings: Settings, state: State) -> bool {
        let (tx, rx) = (self.desired_min_tx, self.settings.min_rx);
        self.settings = settings;
        if state != State::Up {
            self.entered(state);
            return false;
        }
        self.desired_min_tx = settings.min_tx;
        self.transmit = self.transmit.min(settings.min_tx);
        self.receive = self.receive.max(settings.min_rx);
        tx != settings.min_tx || rx != settings.min_rx
    }

    /// The other side knows.
    pub(super) fn agreed(&mut self) {
        self.transmit = self.desired_min_tx;
        self.receive = self.settings.min_rx;
    }
}

/// An interval as it goes on the wire.
pub(super) fn micros(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}
