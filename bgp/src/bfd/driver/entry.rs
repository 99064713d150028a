//! One session with its socket, and what is told of it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::mpsc;

use super::clock;
use crate::{
    bfd::{
        Path,
        news::News,
        packet::{Discard, Flags, State},
        session::{Action, Cause, Event, Remote, Session, Settings},
        socket::{Datagram, Ear, Sender, Sent},
    },
    peer::deadlines::Jitter,
    status::{BfdIntervals, BfdRemote, BfdStatus},
};

/// Where nobody is heard, the way there is looked for again this often: addresses and links come and go.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long the other side is told that a session ended on purpose, where its detection time is not known.
const FAREWELL: Duration = Duration::from_secs(3);

pub(super) struct Entry {
    peer: Arc<str>,
    pub(super) path: Path,
    pub(super) session: Session,
    /// When it is forgotten: it was ended on purpose.
    pub(super) ends: Option<Instant>,
    /// What stands in the driver's list.
    pub(super) armed: Option<Instant>,
    /// Packets of the peer that were thrown away.
    pub(super) discarded: BTreeMap<Discard, u64>,
    sender: Option<Sender>,
    opened: Option<Instant>,
    news: mpsc::UnboundedSender<News>,
    since: SystemTime,
    ups: u64,
    downs: u64,
    packets_in: u64,
    packets_out: u64,
    last_down: Option<String>,
    problem: Option<String>,
}

impl Entry {
    pub(super) fn new(
        now: Instant,
        discriminator: u32,
        peer: Arc<str>,
        path: Path,
        settings: Settings,
        news: mpsc::UnboundedSender<News>,
    ) -> Self {
        let jitter = Jitter::new(discriminator.into(), clock::now());
        Self {
            peer,
            path,
            session: Session::new(now, discriminator, settings, jitter),
            ends: None,
            armed: None,
            discarded: BTreeMap::new(),
            sender: None,
            opened: None,
            news,
            since: SystemTime::now(),
            ups: 0,
            downs: 0,
            packets_in: 0,
            packets_out: 0,
            last_down: None,
            problem: None,
        }
    }

    /// Where its packets come in; `None` until it is known whether its peer is on the link.
    pub(super) fn ear(&self) -> Option<Ear> {
        self.sender.as_ref().map(|sender| Ear {
            v6: self.path.remote.is_ipv6(),
            multihop: sender.multihop,
        })
    }

    /// Whether a packet can be of this session.
    pub(super) fn takes(&self, multihop: bool, datagram: &Datagram) -> bool {
        let Some(sender) = &self.sender else {
            return false;
        };
        sender.multihop == multihop
            && datagram.from.ip() == self.path.remote
            && self.path.source.is_none_or(|source| source == datagram.to)
            && sender
                .interface
                .is_none_or(|index| index == datagram.interface)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.session
            .next_timeout()
            .into_iter()
            .chain(self.ends)
            .min()
    }

    pub(super) fn handle(&mut self, now: Instant, event: Event, port: &mut u16) {
        if matches!(event, Event::Shut) {
            let heard = self.session.remote().is_some();
            let knows_by = self
                .session
                .detection_time()
                .unwrap_or(FAREWELL)
                .max(FAREWELL);
            self.ends = Some(if heard { now + knows_by } else { now });
        }
        let received = matches!(event, Event::Received(..));
        let was_held_down = self.is_held_down_there();
        let actions = self.session.handle(now, event);
        let used = !actions
            .iter()
            .any(|action| matches!(action, Action::Discard(_)));
        self.packets_in = self.packets_in.saturating_add(u64::from(received && used));
        self.act(now, actions, port);
        if self.is_held_down_there() && !was_held_down {
            self.tell(News::Silent);
        }
    }

    /// An operator holds it down on the other side, which says nothing of the path.
    fn is_held_down_there(&self) -> bool {
        let remote = self.session.remote();
        remote.is_some_and(|remote| remote.state == State::AdminDown)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, port: &mut u16) {
        let actions = self.session.handle_timeout(now);
        self.act(now, actions, port);
    }

    fn act(&mut self, now: Instant, actions: Vec<Action>, port: &mut u16) {
        for action in actions {
            match action {
                Action::Send(packet) => self.send(now, &packet.write(), port),
                Action::State(state, cause) => self.entered(now, state, cause),
                Action::Forgotten => self.tell(News::Silent),
                Action::Discard(why) => {
                    let count = self.discarded.entry(why).or_default();
                    *count = count.saturating_add(1);
                }
            }
        }
    }

    fn entered(&mut self, now: Instant, state: State, cause: Cause) {
        self.since = SystemTime::now();
        let was_up = self.ups > self.downs;
        let Some(news) = News::of(&self.session, now, was_up, state, cause) else {
            return;
        };
        match &news {
            News::Up => {
                self.ups = self.ups.saturating_add(1);
                tracing::info!(peer = %self.peer, "BFD up");
            }
            News::Dead { reason, .. } | News::Down(reason) => {
                self.downs = self.downs.saturating_add(1);
                tracing::warn!(peer = %self.peer, %reason, "BFD down");
                self.last_down = Some(reason.clone());
            }
            News::Silent => {}
        }
        self.tell(news);
    }

    fn tell(&self, news: News) {
        drop(self.news.send(news));
    }

    /// Sends, over a socket that is opened where there is none, and anew where nobody was heard for long.
    fn send(&mut self, now: Instant, octets: &[u8; crate::bfd::packet::LENGTH], port: &mut u16) {
        let stale = self.opened.is_some_and(|opened| now >= opened + LOOK_AGAIN);
        if self.sender.is_none() || (stale && self.session.remote().is_none()) {
            self.opened = Some(now);
            self.sender = match Sender::open(&self.path, port) {
                Ok(sender) => Some(sender),
                Err(error) => {
                    self.problem = Some(format!("no way to send it BFD packets: {error}"));
                    None
                }
            };
        }
        let Some(sender) = &self.sender else { return };
        match sender.send(octets) {
            Sent::Well => self.problem = None,
            Sent::Unheard => {
                self.problem = Some("nothing listens for BFD there: is it configured?".into());
            }
            Sent::Not(error) => {
                self.problem = Some(format!("BFD packets cannot be sent: {error}"));
                self.sender = None;
                return;
            }
        }
        self.packets_out = self.packets_out.saturating_add(1);
    }

    pub(super) fn status(&self, deaf: Option<String>) -> BfdStatus {
        let settings = self.session.settings();
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        BfdStatus {
            state: self.session.state(),
            since: self.since,
            multihop: self.sender.as_ref().is_some_and(|sender| sender.multihop),
            local: self.sender.as_ref().map(|sender| sender.local),
            discriminator: self.session.discriminator(),
            ours: BfdIntervals {
                min_rx_ms: milliseconds(settings.min_rx),
                min_tx_ms: milliseconds(settings.min_tx),
                multiplier: settings.multiplier,
            },
            remote: self.session.remote().map(|remote: &Remote| BfdRemote {
                state: remote.state,
                discriminator: remote.discriminator,
                wants: BfdIntervals {
                    min_rx_ms: milliseconds(remote.required_min_rx),
                    min_tx_ms: milliseconds(remote.desired_min_tx),
                    multiplier: remote.multiplier,
                },
                diagnostic: remote.diagnostic.to_string(),
                control_plane_independent: remote.flags.contains(Flags::INDEPENDENT),
            }),
            transmit_ms: self.session.transmit_interval().map(milliseconds),
            detection_ms: self.session.detection_time().map(milliseconds),
            ups: self.ups,
            downs: self.downs,
            packets_in: self.packets_in,
            packets_out: self.packets_out,
            discarded: self.discarded.clone(),
            last_down: self.last_down.clone(),
            problem: deaf.or_else(|| self.problem.clone()),
        }
    }
}
