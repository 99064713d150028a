//! Two sessions against each other over a wire of the test's making, with a clock moved by hand.

#![expect(
    clippy::disallowed_methods,
    reason = "a test needs some instant to count from"
)]

use std::collections::VecDeque;

use super::*;

const MS: Duration = Duration::from_millis(1);
/// Of the detection time most tests have.
const SILENCE: Cause = Cause::Silence {
    after: Duration::from_millis(300),
    independent: false,
};

fn settings(rx: u32, tx: u32, multiplier: u8) -> Settings {
    Settings {
        min_rx: MS * rx,
        min_tx: MS * tx,
        multiplier,
    }
}

/// What becomes of a packet: how long it takes, or that it is lost.
type Wire = Box<dyn FnMut(&Packet) -> Option<Duration>>;

struct Side {
    session: Session,
    /// To the other side.
    wire: Wire,
    /// From the other side, with the time of arrival.
    inbox: VecDeque<(Instant, Packet)>,
    /// When packets went out.
    sent: Vec<(Instant, Packet)>,
    states: Vec<(State, Cause)>,
    forgotten: u32,
}

struct Pair {
    begin: Instant,
    now: Instant,
    sides: [Side; 2],
}

impl Pair {
    fn new(left: Settings, right: Settings) -> Self {
        let begin = Instant::now();
        let side = |discriminator: u32, settings| Side {
            session: Session::new(
                begin,
                discriminator,
                settings,
                Jitter::new(discriminator.into(), begin),
            ),
            wire: Box::new(|_| Some(MS)),
            inbox: VecDeque::new(),
            sent: Vec::new(),
            states: Vec::new(),
            forgotten: 0,
        };
        Self {
            begin,
            now: begin,
            sides: [side(11, left), side(22, right)],
        }
    }

    /// Both Up, and all polls answered.
    fn up(left: Settings, right: Settings) -> Self {
        let mut pair = Self::new(left, right);
        pair.run(MS * 5000);
        assert_eq!(pair.states(), [State::Up, State::Up]);
        for side in &mut pair.sides {
            assert_eq!(side.session.poll, Poll::None);
            side.states.clear();
            side.sent.clear();
        }
        pair
    }

    fn states(&self) -> [State; 2] {
        [0, 1].map(|side: usize| self.sides[side].session.state())
    }

    fn act(&mut self, side: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(packet) => {
                    let packet = Packet::read(&packet.write()).expect("what we send can be read");
                    self.sides[side].sent.push((self.now, packet));
                    if let Some(after) = (self.sides[side].wire)(&packet) {
                        let at = self.now + after;
                        let inbox = &mut self.sides[1 - side].inbox;
                        let place = inbox.partition_point(|(other, _)| *other <= at);
                        inbox.insert(place, (at, packet));
                    }
                }
                Action::State(state, cause) => self.sides[side].states.push((state, cause)),
                Action::Forgotten => self.sides[side].forgotten += 1,
                Action::Discard(_) => {}
            }
        }
    }

    fn event(&mut self, side: usize, event: Event) {
        let actions = self.sides[side].session.handle(self.now, event);
        self.act(side, actions);
    }

    /// Does what is due for one side: first what came, then what time demands.
    fn wake(&mut self, side: usize) {
        while let Some((at, packet)) = self.sides[side].inbox.front().copied() {
            if at > self.now {
                break;
            }
            self.sides[side].inbox.pop_front();
            self.event(side, Event::Received(packet, at));
        }
        let actions = self.sides[side].session.handle_timeout(self.now);
        self.act(side, actions);
    }

    fn run(&mut self, time: Duration) {
        self.run_awake(time, [true, true]);
    }

    /// Lets time pass; who is not awake sleeps through it.
    fn run_awake(&mut self, time: Duration, awake: [bool; 2]) {
        let end = self.now + time;
        loop {
            let due = |side: &Side| {
                let packet = side.inbox.front().map(|(at, _)| *at);
                packet.into_iter().chain(side.session.next_timeout()).min()
            };
            let next = [0, 1]
                .into_iter()
                .filter(|side| awake[*side])
                .filter_map(|side| Some((due(&self.sides[side])?, side)))
                .min();
            match next {
                Some((at, side)) if at <= end => {
                    self.now = self.now.max(at);
                    self.wake(side);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Cuts the wire from a side.
    fn cut(&mut self, side: usize) {
        self.sides[side].wire = Box::new(|_| None);
    }
}

#[test]
fn two_sessions_come_up_slowly_and_then_agree_on_their_intervals() {
    let mut pair = Pair::new(settings(100, 200, 3), settings(300, 50, 5));
    pair.run(MS * 5000);
    let [left, right] = &pair.sides;
    let to = |side: &Side| {
        side.states
            .iter()
            .map(|(state, _)| *state)
            .collect::<Vec<_>>()
    };
    assert_eq!(to(left).last(), Some(&State::Up));
    assert_eq!(to(right).last(), Some(&State::Up));
    assert!(!to(left).contains(&State::AdminDown));
    // The slower of what one side wants to send and the other to receive.
    assert_eq!(left.session.transmit_interval(), Some(MS * 300));
    assert_eq!(right.session.transmit_interval(), Some(MS * 100));
    assert_eq!(left.session.detection_time(), Some(MS * 100 * 5));
    assert_eq!(right.session.detection_time(), Some(MS * 300 * 3));
}

#[test]
fn nothing_goes_out_faster_than_once_a_second_before_the_session_is_up() {
    let mut pair = Pair::new(settings(100, 100, 3), settings(100, 100, 3));
    pair.cut(0);
    pair.cut(1);
    pair.run(MS * 60_000);
    let sent = pair.sides[0].sent.len();
    assert!((60..=81).contains(&sent), "{sent} packets in a minute");
    let (_, packet) = pair.sides[0].sent[0];
    assert_eq!(packet.desired_min_tx, 1_000_000);
    assert_eq!(packet.required_min_rx, 100_000);
}

#[test]
fn periodic_packets_have_a_quarter_of_jitter_and_multiplier_one_is_never_late() {
    for (multiplier, most) in [(3, 100), (1, 90)] {
        let mut pair = Pair::up(settings(100, 100, multiplier), settings(100, 100, 3));
        pair.run(MS * 20_000);
        let sent = &pair.sides[0].sent;
        let gaps = sent.windows(2).map(|two| two[1].0 - two[0].0);
        assert!(gaps.clone().all(|gap| (MS * 75..=MS * most).contains(&gap)));
        let gaps: std::collections::BTreeSet<_> = gaps.collect();
        assert!(gaps.len() > 50, "{} distinct gaps", gaps.len());
    }
}

#[test]
fn a_silence_is_seen_when_the_detection_time_ends_and_not_before() {
    let mut pair = Pair::up(settings(100, 100, 3), settings(100, 100, 3));
    pair.cut(1);
    pair.sides[0].inbox.clear();
    let heard = pair.sides[0].session.heard().expect("it was heard");
    let left = (heard + MS * 300).saturating_duration_since(pair.now);
    pair.run(left - MS / 10);
    assert_eq!(pair.states()[0], State::Up);
    pair.run(MS / 10);
    assert_eq!(pair.sides[0].states, [(State::Down, SILENCE)]);
    assert_eq!(pair.sides[0].forgotten, 1);
    assert_eq!(pair.sides[0].session.diagnostic(), Diagnostic::EXPIRED);
    // The other side still hears us, and hears of it at once.
    pair.run(MS * 2);
    let cause = Cause::Signaled(Diagnostic::EXPIRED);
    assert_eq!(pair.sides[1].states[0], (State::Down, cause));
}

#[test]
fn a_session_comes_back_when_the_path_does() {
    let mut pair = Pair::up(settings(100, 100, 3), settings(100, 100, 3));
    pair.cut(0);
    pair.cut(1);
    pair.run(MS * 3000);
    assert_eq!(pair.states(), [State::Down, State::Down]);
    for side in &mut pair.sides {
        side.wire = Box::new(|_| Some(MS));
    }
    pair.run(MS * 3000);
    assert_eq!(pair.states(), [State::Up, State::Up]);
    assert_eq!(pair.sides[0].session.detection_time(), Some(MS * 300));
}

#[test]
fn one_direction_alone_never_comes_up_and_is_seen_from_both_sides() {
    let mut pair = Pair::new(settings(100, 100, 3), settings(100, 100, 3));
    pair.cut(0);
    pair.run(MS * 20_000);
    assert_eq!(pair.states(), [State::Init, State::Down]);
}

#[test]
fn two_of_three_packets_may_be_lost_for_ever() {
    let mut pair = Pair::up(settings(100, 100, 3), settings(100, 100, 3));
    for side in &mut pair.sides {
        let mut count = 0;
        side.wire = Box::new(move |_| {
            count += 1;
            (count % 3 == 0).then_some(MS)
        });
    }
    pair.run(MS * 60_000);
    assert_eq!(pair.states(), [State::Up, State::Up]);
    assert!(pair.sides.iter().all(|side| side.states.is_empty()));
}

#[test]
fn packets_that_overtake_each_other_do_no_harm() {
    let mut pair = Pair::up(settings(100, 100, 3), settings(100, 100, 3));
    for (seed, side) in pair.sides.iter_mut().enumerate() {
        let mut jitter = Jitter::new(seed as u64, pair.begin);
        side.wire = Box::new(move |_| Some(jitter.between(MS * 120, 0.0, 1.0)));
    }
    pair.run(MS * 60_000);
    assert!(pair.sides.iter().all(|side| side.states.is_empty()));
}

#[test]
fn a_late_wake_up_of_ours_is_not_the_others_silence() {
    let mut pair = Pair::up(settings(100, 100, 10), settings(100, 100, 3));
    // We sleep through several detection times while the other side goes on; it gives us a second.
    pair.run_awake(MS * 900, [false, true]);
    pair.wake(0);
    assert_eq!(pair.states()[0], State::Up);
    pair.run(MS * 5000);
    assert!(pair.sides[0].states.is_empty());
}

#[test]
fn after_a_late_wake_up_a_real_silence_is_seen_a_moment_later() {
    let mut pair = Pair::up(settings(100, 100, 10), settings(100, 100, 3));
    pair.cut(1);
    pair.run_awake(MS * 900, [false, true]);
    pair.wake(0);
    assert_eq!(pair.states()[0], State::Up, "it gets a moment");
    pair.run(Session::REPRIEVE);
    assert_eq!(pair.sides[0].states, [(State::Down, SILENCE)]);
}

#[test]
fn the_moment_is_given_once_however_late_we_are_again() {
    let mut pair = Pair::up(settings(100, 100, 100), settings(100, 100, 3));
    pair.cut(1);
    for _ in 0..2 {
        pair.run_awake(MS * 900, [false, true]);
        pair.wake(0);
    }
    assert_eq!(pair.states()[0], State::Down);
}

#[test]
fn what_came_while_we_slept_counts_from_when_it_came() {
    let mut pair = Pair::up(settings(100, 100, 30), settings(100, 100, 3));
    pair.run_awake(MS * 200, [false, true]);
    pair.cut(1);
    let last = pair.sides[0].inbox.back().expect("some came").0;
    pair.run_awake(MS * 250, [false, true]);
    pair.wake(0);
    assert_eq!(pair.sides[0].session.heard(), Some(last));
    pair.run((last + MS * 300) - pair.now);
    assert_eq!(pair.sides[0].states, [(State::Down, SILENCE)]);
}

#[test]
fn faster_and_slower_intervals_are_polled_for_without_a_flap() {
    let mut pair = Pair::up(settings(300, 300, 3), settings(50, 50, 3));
    assert_eq!(pair.sides[0].session.detection_time(), Some(MS * 900));
    for new in [
        settings(50, 50, 3),
        settings(1000, 1000, 3),
        settings(100, 20, 1),
    ] {
        pair.event(0, Event::Configure(new));
        let (_, asked) = *pair.sides[0].sent.last().expect("it asks at once");
        assert!(asked.flags.contains(Flags::POLL));
        pair.run(MS * 6000);
        assert_eq!(pair.sides[0].session.poll, Poll::None);
        assert_eq!(
            pair.sides[0].session.transmit_interval(),
            Some(new.min_tx.max(MS * 50))
        );
        assert_eq!(
            pair.sides[0].session.detection_time(),
            Some(new.min_rx.max(MS * 50) * 3)
        );
    }
    assert!(pair.sides.iter().all(|side| side.states.is_empty()));
}

#[test]
fn slower_sending_and_faster_detection_wait_for_the_answer() {
    let mut pair = Pair::up(settings(300, 100, 3), settings(100, 100, 3));
    // The answer is lost for a while.
    pair.sides[1].wire = Box::new(|packet| (!packet.flags.contains(Flags::FINAL)).then_some(MS));
    pair.event(0, Event::Configure(settings(100, 1000, 3)));
    pair.run(MS * 2000);
    assert_eq!(pair.sides[0].session.transmit_interval(), Some(MS * 100));
    assert_eq!(pair.sides[0].session.detection_time(), Some(MS * 900));
    pair.sides[1].wire = Box::new(|_| Some(MS));
    pair.run(MS * 2000);
    assert_eq!(pair.sides[0].session.transmit_interval(), Some(MS * 1000));
    assert_eq!(pair.sides[0].session.detection_time(), Some(MS * 300));
    assert!(pair.sides.iter().all(|side| side.states.is_empty()));
}

#[test]
fn a_poll_is_answered_at_once_with_final_and_never_with_both() {
    let mut pair = Pair::up(settings(1000, 1000, 3), settings(1000, 1000, 3));
    let mut poll = pair.sides[1].session.packet(Flags::POLL);
    poll.desired_min_tx = 777_000;
    pair.event(0, Event::Configure(settings(900, 900, 3)));
    let before = pair.sides[0].sent.len();
    pair.event(0, Event::Received(poll, pair.now));
    let answer = pair.sides[0].sent[before].1;
    assert_eq!(answer.flags, Flags::FINAL);
}

#[test]
fn who_asks_for_silence_gets_it() {
    let mut pair = Pair::up(settings(100, 100, 3), settings(100, 100, 3));
    let wish = Packet {
        required_min_rx: 0,
        ..pair.sides[1].session.packet(Flags::empty())
    };
    pair.event(0, Event::Received(wish, pair.now));
    assert_eq!(pair.sides[0].session.transmit_interval(), None);
    let demand = pair.sides[1].session.packet(Flags::DEMAND);
    pair.event(0, Event::Received(demand, pair.now));
    assert_eq!(pair.sides[0].session.transmit_interval(), None);
    let again = pair.sides[1].session.packet(Flags::empty());
    pair.event(0, Event::Received(again, pair.now));
    assert_eq!(pair.sides[0].session.transmit_interval(), Some(MS * 100));
}

#[test]
fn taken_down_on_purpose_is_told_apart_from_a_failure() {
    let mut pair = Pair::up(settings(100, 100, 3), settings(100, 100, 3));
    pair.event(1, Event::Shut);
    pair.run(MS * 2000);
    assert_eq!(pair.sides[1].states, [(State::AdminDown, Cause::Shut)]);
    assert_eq!(
        pair.sides[0].states,
        [(State::Down, Cause::SignaledAdminDown)]
    );
    assert_eq!(pair.sides[0].session.diagnostic(), Diagnostic::NEIGHBOR);
    let (_, last) = *pair.sides[1].sent.last().expect("it goes on to say so");
    assert_eq!(
        (last.state, last.diagnostic),
        (State::AdminDown, Diagnostic::ADMIN)
    );
}

#[test]
fn one_that_begins_anew_is_told_apart_from_a_failure() {
    let mut pair = Pair::up(settings(100, 100, 3), settings(100, 100, 3));
    pair.sides[1].session = Session::new(
        pair.now,
        33,
        settings(100, 100, 3),
        Jitter::new(33, pair.begin),
    );
    pair.run(MS * 3000);
    assert_eq!(
        pair.sides[0].states,
        [(State::Down, Cause::Restarted), (State::Up, Cause::Heard)]
    );
}

#[test]
fn authenticated_packets_are_refused_whatever_they_say() {
    let mut pair = Pair::up(settings(100, 100, 3), settings(100, 100, 3));
    let mut packet = pair.sides[1].session.packet(Flags::AUTHENTICATED);
    packet.state = State::Down;
    let actions = pair.sides[0]
        .session
        .handle(pair.now, Event::Received(packet, pair.now));
    assert_eq!(actions, [Action::Discard(Discard::Authenticated)]);
    assert_eq!(pair.states()[0], State::Up);
}

#[test]
fn while_held_down_nothing_that_comes_changes_the_state() {
    let mut pair = Pair::up(settings(100, 100, 3), settings(100, 100, 3));
    pair.event(0, Event::Shut);
    let packet = pair.sides[1].session.packet(Flags::empty());
    let actions = pair.sides[0]
        .session
        .handle(pair.now, Event::Received(packet, pair.now));
    assert_eq!(actions, [Action::Discard(Discard::AdminDown)]);
    pair.run(MS * 10_000);
    assert_eq!(pair.states()[0], State::AdminDown);
}

#[test]
fn a_peer_that_died_asking_for_silence_is_spoken_to_again() {
    let mut pair = Pair::up(settings(100, 100, 3), settings(100, 100, 3));
    let wish = Packet {
        required_min_rx: 0,
        ..pair.sides[1].session.packet(Flags::empty())
    };
    pair.event(0, Event::Received(wish, pair.now));
    pair.cut(1);
    pair.run(MS * 5000);
    assert_eq!(pair.states()[0], State::Down);
    assert!(pair.sides[0].session.transmit_interval().is_some());
    assert!(pair.sides[0].session.next_timeout().is_some());
}
