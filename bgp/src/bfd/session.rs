//! The state machine of one BFD session (RFC 5880 §6.8), asynchronous mode: no socket, no clock, no thread.

use std::time::{Duration, Instant};

use self::timing::Timing;
use super::packet::{Diagnostic, Discard, Flags, Packet, State};
use crate::peer::deadlines::Jitter;

mod timing;

pub use timing::Settings;

/// What happens to a session.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A packet for it came, at this time.
    Received(Packet, Instant),
    /// Its intervals are configured otherwise.
    Configure(Settings),
    /// It is to end; the other side is told that this says nothing of the path.
    Shut,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Send(Packet),
    /// The session is in another state.
    State(State, Cause),
    /// Nothing was heard of the other side for so long that what is known of it is forgotten.
    Forgotten,
    /// The packet is not used.
    Discard(Discard),
}

/// Why the state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The other side is heard, or hears us too.
    Heard,
    /// Nothing came for the detection time.
    Silence {
        /// How long that was.
        after: Duration,
        /// The other side's BFD goes on where its control plane fails (C bit).
        independent: bool,
    },
    /// The other side does not hear us (any more).
    Signaled(Diagnostic),
    /// The other side began anew: its session is another one.
    Restarted,
    /// The other side was taken down by an operator.
    SignaledAdminDown,
    /// We were.
    Shut,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    state: State,
    diagnostic: Diagnostic,
    discriminator: u32,
    timing: Timing,
    poll: Poll,
    remote: Remote,
    /// When the last packet came that was used.
    heard: Option<Instant>,
    /// When the next periodic packet goes out.
    transmit: Option<Instant>,
    /// Until when a silence is not judged that we may have slept through.
    reprieve: Option<Instant>,
    jitter: Jitter,
    actions: Vec<Action>,
}

/// The other side, as its last packet had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its name for the session; 0: not heard.
    pub discriminator: u32,
    /// Its state.
    pub state: State,
    /// Its diagnostic.
    pub diagnostic: Diagnostic,
    /// Its flags.
    pub flags: Flags,
    /// Packets of its that may be missed.
    pub multiplier: u8,
    /// Its Desired Min TX Interval.
    pub desired_min_tx: Duration,
    /// Its Required Min RX Interval.
    pub required_min_rx: Duration,
}

impl Remote {
    /// Before anything is heard (RFC 5880 §6.8.1).
    const UNKNOWN: Self = Self {
        discriminator: 0,
        state: State::Down,
        diagnostic: Diagnostic::NONE,
        flags: Flags::empty(),
        multiplier: 0,
        desired_min_tx: Duration::ZERO,
        required_min_rx: Duration::from_micros(1),
    };

    fn of(packet: &Packet) -> Self {
        Self {
            discriminator: packet.my_discriminator,
            state: packet.state,
            diagnostic: packet.diagnostic,
            flags: packet.flags,
            multiplier: packet.multiplier,
            desired_min_tx: Duration::from_micros(packet.desired_min_tx.into()),
            required_min_rx: Duration::from_micros(packet.required_min_rx.into()),
        }
    }
}

/// A Poll Sequence (RFC 5880 §6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poll {
    None,
    /// We ask until a Final comes.
    Asking,
    /// … and have more to ask then.
    AskingAgain,
}

impl Session {
    /// A silence is judged this late at most before it counts as one that we may have slept through.
    pub const LATE: Duration = Duration::from_millis(20);
    /// What was on its way while we slept then gets so long to arrive.
    pub const REPRIEVE: Duration = Duration::from_millis(10);

    /// A session in Down that speaks at once. `discriminator` is not 0, and of no other session.
    #[must_use]
    pub fn new(now: Instant, discriminator: u32, settings: Settings, jitter: Jitter) -> Self {
        Self {
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            discriminator,
            timing: Timing::new(settings),
            poll: Poll::None,
            remote: Remote::UNKNOWN,
            heard: None,
            transmit: Some(now),
            reprieve: None,
            jitter,
            actions: Vec::new(),
        }
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Our name for it.
    #[must_use]
    pub fn discriminator(&self) -> u32 {
        self.discriminator
    }

    /// Why it last left Up, as the other side is told.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// What is configured.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.timing.settings()
    }

    /// The other side; `None` where it is not heard.
    #[must_use]
    pub fn remote(&self) -> Option<&Remote> {
        (self.remote.discriminator != 0).then_some(&self.remote)
    }

    /// When the last packet came.
    #[must_use]
    pub fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// The time between two packets of ours, before jitter (RFC 5880 §6.8.2); `None`: none go out by themselves.
    #[must_use]
    pub fn transmit_interval(&self) -> Option<Duration> {
        if self.remote.required_min_rx.is_zero() || self.is_quiet() {
            return None;
        }
        Some(self.timing.transmit().max(self.remote.required_min_rx))
    }

    /// How long the other side may say nothing (RFC 5880 §6.8.4); `None` where it is not heard.
    #[must_use]
    pub fn detection_time(&self) -> Option<Duration> {
        let remote = self.remote()?;
        let interval = self.timing.receive().max(remote.desired_min_tx);
        Some(interval * u32::from(remote.multiplier))
    }

    /// When to call [`Session::handle_timeout`] next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.transmit.into_iter().chain(self.judgement()).min()
    }

    /// What follows from an event.
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        match event {
            Event::Received(packet, arrived) => self.receive(now, &packet, arrived),
            Event::Configure(settings) => self.configure(now, settings),
            Event::Shut => self.shut(now),
        }
        std::mem::take(&mut self.actions)
    }

    /// What follows from the passing of time. All that came until `now` must have been handled before: a silence is judged
    /// by what came, not by when we looked.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Action> {
        if let Some(at) = self.judgement().filter(|at| *at <= now) {
            self.judge(now, at);
        }
        if self.transmit.is_some_and(|at| at <= now) {
            self.send(now, Flags::empty());
        }
        std::mem::take(&mut self.actions)
    }

    /// When the silence is long enough.
    fn judgement(&self) -> Option<Instant> {
        let expires = self.heard? + self.detection_time()?;
        Some(self.reprieve.map_or(expires, |until| until.max(expires)))
    }

    /// A silence that ended while we slept gets a moment more, once: where the whole machine stood still, our timer can run
    /// before the packets that waited for it have come in.
    fn judge(&mut self, now: Instant, expired: Instant) {
        let late = now.saturating_duration_since(expired) > Self::LATE;
        if late && self.reprieve.is_none() {
            self.reprieve = Some(now + Self::REPRIEVE);
            return;
        }
        let cause = Cause::Silence {
            after: self.detection_time().unwrap_or_default(),
            independent: self.remote.flags.contains(Flags::INDEPENDENT),
        };
        self.remote = Remote::UNKNOWN;
        self.reprieve = None;
        if matches!(self.state, State::Init | State::Up) {
            self.go(now, State::Down, Diagnostic::EXPIRED, cause);
        }
        self.actions.push(Action::Forgotten);
    }

    /// RFC 5880 §6.8.6, from where the session is known.
    fn receive(&mut self, now: Instant, packet: &Packet, arrived: Instant) {
        if packet.flags.contains(Flags::AUTHENTICATED) {
            return self.actions.push(Action::Discard(Discard::Authenticated));
        }
        let known = self.remote.discriminator;
        let before = self.transmit_interval();
        self.remote = Remote::of(packet);
        if packet.flags.contains(Flags::FINAL) {
            self.poll_answered(now);
        }
        if self.state == State::AdminDown {
            return self.actions.push(Action::Discard(Discard::AdminDown));
        }
        let anew = known != 0 && known != packet.my_discriminator;
        match (self.state, packet.state) {
            (State::Down, State::AdminDown) => {}
            (_, State::AdminDown) => {
                let cause = Cause::SignaledAdminDown;
                self.go(now, State::Down, Diagnostic::NEIGHBOR, cause);
            }
            (State::Down, State::Down) => self.go(now, State::Init, self.diagnostic, Cause::Heard),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.go(now, State::Up, Diagnostic::NONE, Cause::Heard);
            }
            (State::Up, State::Down) => {
                let cause = if anew {
                    Cause::Restarted
                } else {
                    Cause::Signaled(packet.diagnostic)
                };
                self.go(now, State::Down, Diagnostic::NEIGHBOR, cause);
            }
            _ => {}
        }
        self.heard = self.heard.max(Some(arrived));
        self.reprieve = None;
        if packet.flags.contains(Flags::POLL) {
            self.answer();
        }
        if self.transmit_interval() != before {
            self.reschedule(now);
        }
    }

    fn configure(&mut self, now: Instant, settings: Settings) {
        if settings == self.timing.settings() {
            return;
        }
        let polls = self.timing.configure(settings, self.state);
        if polls && self.state == State::Up {
            self.ask();
        }
        if self.state != State::AdminDown {
            self.send(now, Flags::empty());
        }
    }

    fn shut(&mut self, now: Instant) {
        if self.state != State::AdminDown {
            self.go(now, State::AdminDown, Diagnostic::ADMIN, Cause::Shut);
        }
    }

    /// Another state; the other side hears of it at once (RFC 5880 §6.8.7).
    fn go(&mut self, now: Instant, to: State, diagnostic: Diagnostic, cause: Cause) {
        self.state = to;
        self.diagnostic = diagnostic;
        let polls = self.timing.entered(to);
        if to == State::Up {
            if polls {
                self.ask();
            }
        } else {
            self.poll = Poll::None;
        }
        self.actions.push(Action::State(to, cause));
        self.send(now, Flags::empty());
    }

    fn ask(&mut self) {
        self.poll = match self.poll {
            Poll::None => Poll::Asking,
            Poll::Asking | Poll::AskingAgain => Poll::AskingAgain,
        };
    }

    fn poll_answered(&mut self, now: Instant) {
        match self.poll {
            Poll::None => return,
            Poll::Asking => {
                self.poll = Poll::None;
                self.timing.agreed();
            }
            // Which of the two questions this answers, nobody knows.
            Poll::AskingAgain => self.poll = Poll::Asking,
        }
        self.reschedule(now);
    }

    /// The other side asks for no periodic packets while all is well (RFC 5880 §6.8.7).
    fn is_quiet(&self) -> bool {
        self.remote.flags.contains(Flags::DEMAND)
            && self.state == State::Up
            && self.remote.state == State::Up
            && self.poll == Poll::None
    }

    /// The interval changed: what was to go out later than it allows goes out sooner.
    fn reschedule(&mut self, now: Instant) {
        let next = self.next_transmit(now);
        self.transmit = match (self.transmit, next) {
            (Some(at), Some(next)) => Some(at.min(next)),
            (_, next) => next,
        };
    }

    /// A quarter of jitter, so that sessions do not beat in step; with multiplier 1 the packet must not be late
    /// (RFC 5880 §6.8.7).
    fn next_transmit(&mut self, now: Instant) -> Option<Instant> {
        let interval = self.transmit_interval()?;
        let most = match self.timing.settings().multiplier {
            1 => 0.9,
            _ => 1.0,
        };
        Some(now + self.jitter.between(interval, 0.75, most))
    }

    fn send(&mut self, now: Instant, mut flags: Flags) {
        if self.poll != Poll::None {
            flags |= Flags::POLL;
        }
        let packet = self.packet(flags);
        self.actions.push(Action::Send(packet));
        self.transmit = self.next_transmit(now);
    }

    /// A Final, beside the periodic packets.
    fn answer(&mut self) {
        let packet = self.packet(Flags::FINAL);
        self.actions.push(Action::Send(packet));
    }

    /// C stays clear: this BFD ends with the process that speaks BGP.
    fn packet(&self, flags: Flags) -> Packet {
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            flags,
            multiplier: self.timing.settings().multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: timing::micros(self.timing.desired_min_tx()),
            required_min_rx: timing::micros(self.timing.settings().min_rx),
            required_min_echo_rx: 0,
        }
    }
}

#[cfg(test)]
mod tests;
