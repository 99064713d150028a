//! The state machine of one peer (RFC 4271 §8) with all connections it has at once: no socket, no clock, no task.
//!
//! The RFC runs one machine per connection and lets them collide (§6.8). Here the peer is one machine: it knows whether it
//! is dialling or waiting (Connect, Active), and each of its connections is in OpenSent, OpenConfirm or Established.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use self::bfd::Gate;
use super::{
    collision::{Origin, Rank, Survivor, survivor},
    deadlines::{Deadlines, Jitter, Timer, doubled},
    negotiate::{Cause, Local, Negotiated, our_open, waiting},
};
use crate::{
    bmp,
    config::{Connect, PeerConfig},
    rib::task::Ending,
    status::SessionState::{self, Active, Established, Idle, OpenConfirm, OpenSent},
    wire::{Cease, Kind, Message, Notification, Open, RouteRefresh, Update},
};

mod bfd;
mod effort;
mod living;
mod opening;

/// A connection to the peer, as the driver numbers them; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u32);

/// What happens to a peer.
#[derive(Debug)]
pub enum Event {
    /// Begin (ManualStart, AutomaticStart).
    Start,
    /// Close, and stay down until [`Event::Start`] (ManualStop, AutomaticStop).
    Stop {
        /// What the peer is told.
        notification: Notification,
        /// In words, for status.
        reason: String,
    },
    /// Close without a word where graceful restart allows it, else with this; and come back.
    Reconnect {
        /// What a peer that would not keep routes over silence is told.
        notification: Notification,
        /// In words, for status.
        reason: String,
    },
    /// Close with this, and come back no sooner than told.
    Close {
        /// What the peer is told.
        notification: Notification,
        /// In words, for status.
        reason: String,
        /// How long to stay in Idle.
        stay_away: Duration,
    },
    /// The path to the peer is known to be dead.
    PathDead(String),
    /// BFD says that the path, which worked, is dead.
    BfdDown {
        /// In words.
        reason: String,
        /// When BFD last heard the peer.
        heard: Instant,
        /// It would go on where the peer's control plane fails: forwarding is dead too.
        forwarding: bool,
    },
    /// BFD says that the path works.
    BfdUp,
    /// BFD says nothing against the path (any more).
    BfdClear,
    /// The dial succeeded.
    Dialled(ConnectionId),
    /// The dial failed, with the reason in words.
    DialFailed(String),
    /// The peer dialled, and is here.
    Accepted(ConnectionId),
    /// A message came.
    Received(ConnectionId, Message),
    /// UPDATEs came, several at once.
    Updates(ConnectionId, Vec<Update>),
    /// What came is no message.
    Malformed(ConnectionId, Notification, String),
    /// The connection is gone.
    Closed(ConnectionId, Loss, String),
    /// Octets of ours went out.
    Sent(ConnectionId),
    /// All that we had to say went out: it is not the peer that takes nothing.
    NothingWaits(ConnectionId),
    /// The peer said something that we have not read yet.
    Unread(ConnectionId),
    /// Who dials, and where to, is configured otherwise: attempts begin anew, a session that is up stays.
    Reconsider,
    /// All initial routes are in: our own restart, if there was one, is over.
    Complete,
}

/// How a TCP connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The other side closed or reset it.
    Closed,
    /// Nobody answers any more.
    Unresponsive,
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Action {
    /// Dial; so many attempts before it have failed.
    Dial(u32),
    /// Give up the dial that is under way.
    AbandonDial,
    /// Send this.
    Send(ConnectionId, Message),
    /// Close the connection, first saying this.
    Close(ConnectionId, Option<Notification>),
    /// The OPENs have met on this connection: what follows is read and written so.
    Agreed(ConnectionId, Arc<Negotiated>),
    /// The session is up, over this connection.
    Up(ConnectionId, Arc<Negotiated>),
    /// The session is over: what becomes of its routes, and how it came about.
    Down(Ending, bmp::Down),
    /// Routes for the Rib.
    Deliver(Vec<Update>),
    /// A refresh for the Rib.
    Refresh(RouteRefresh),
    /// The peer as a whole is in another state.
    State(SessionState, String),
    /// Something failed without a change of state, in words.
    Failed(String),
}

/// The state machine of one peer.
#[derive(Debug)]
pub struct Fsm {
    config: Arc<PeerConfig>,
    local: Local,
    effort: Effort,
    gate: Gate,
    deadlines: Deadlines,
    connections: Vec<Connection>,
    /// Attempts since the last session that lasted.
    attempts: u32,
    /// Sessions in a row that ended in an error.
    oscillations: u32,
    jitter: Jitter,
    shown: SessionState,
    reason: Option<String>,
    actions: Vec<Action>,
}

/// What the peer does to get a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// Nothing, until started.
    Stopped,
    /// Nothing, until IdleHold passes and BFD has nothing against it.
    Held,
    /// A dial is under way; ConnectRetry gives it up.
    Dialling,
    /// None is; ConnectRetry, where set, starts one.
    Waiting,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    origin: Origin,
    /// What our OPEN was made of: what is configured since then was not offered.
    offered: (Arc<PeerConfig>, Local),
    state: SessionState,
    since: Instant,
    deadlines: Deadlines,
    agreed: Option<Arc<Negotiated>>,
    confirmation: Confirmation,
}

/// Which KEEPALIVEs have answered the OPENs.
#[derive(Clone, Copy, Debug, Default)]
struct Confirmation {
    ours: bool,
    theirs: bool,
}

/// How the peer goes on once a session or an attempt is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Dial at once, if it lasted (a graceful close).
    AtOnce,
    /// Dial after a while that grows with each failure.
    Later,
    /// Refuse all for at least this long, and longer with each failure (DampPeerOscillations).
    Hold(Duration),
}

impl Fsm {
    /// Hold time before the OPENs have met (RFC 4271 §8.2.2 suggests 4 minutes).
    pub const OPEN_HOLD: Duration = Duration::from_secs(240);
    /// The same for a connection beside an established session.
    pub const SPARE_OPEN_HOLD: Duration = Duration::from_secs(10);
    /// Most connections that have not said a valid OPEN yet; one more, and the oldest silent one goes.
    pub const PENDING: usize = 4;
    /// How long an OPEN that was good waits for a connection that would win a collision.
    pub const RIVALRY: Duration = Duration::from_millis(500);
    /// A session that lasted this long was a good one: the next attempt may follow at once.
    pub const LASTED: Duration = Duration::from_secs(5);
    /// First wait before dialling again.
    pub const FIRST_RETRY: Duration = Duration::from_secs(1);
    /// Wait for the peer to take something where there is no hold time (RFC 9687 §6).
    pub const SEND_HOLD: Duration = Duration::from_secs(8 * 60);

    /// A machine at rest.
    #[must_use]
    pub fn new(config: Arc<PeerConfig>, router_id: Ipv4Addr, jitter: Jitter) -> Self {
        let restarted = config
            .graceful_restart
            .is_some_and(|restart| restart.restarted);
        Self {
            gate: Gate::of(&config),
            config,
            local: Local {
                router_id,
                restarting: restarted,
                preserved: restarted,
            },
            effort: Effort::Stopped,
            deadlines: Deadlines::default(),
            connections: Vec::new(),
            attempts: 0,
            oscillations: 0,
            jitter,
            shown: Idle,
            reason: None,
            actions: Vec::new(),
        }
    }

    /// Takes over another configuration and BGP Identifier. What has to begin anew over it is told by an event.
    pub fn reconfigure(&mut self, config: Arc<PeerConfig>, router_id: Ipv4Addr) {
        self.config = config;
        self.local.router_id = router_id;
    }

    /// The configuration in use.
    #[must_use]
    pub fn config(&self) -> &Arc<PeerConfig> {
        &self.config
    }

    /// The state of the peer: that of its furthest connection.
    #[must_use]
    pub fn state(&self) -> SessionState {
        let furthest = self.connections.iter().map(|one| one.state).max();
        furthest.unwrap_or(match self.effort {
            Effort::Stopped | Effort::Held => Idle,
            Effort::Dialling => SessionState::Connect,
            Effort::Waiting => Active,
        })
    }

    /// Whether it refuses the peer for a while, after an error or because it told too much.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.effort == Effort::Held
    }

    /// What was agreed on the session, while it is Established.
    #[must_use]
    pub fn session(&self) -> Option<(ConnectionId, &Arc<Negotiated>)> {
        let up = self.established()?;
        Some((up.id, up.agreed.as_ref()?))
    }

    /// Settings that the session, which is up, began without: they wait for the next one.
    #[must_use]
    pub fn waiting(&self) -> Vec<&'static str> {
        let up = self.established();
        up.map_or_else(Vec::new, |up| waiting(&up.offered.0, &self.config))
    }

    /// Connections whose `timer` has passed, before [`Fsm::handle_timeout`] ends them. Of the hold timer, [`Event::Unread`]
    /// saves them; of the send hold timer, [`Event::NothingWaits`].
    #[must_use]
    pub fn expiring(&self, timer: Timer, now: Instant) -> Vec<ConnectionId> {
        let passed = |one: &&Connection| one.deadlines.get(timer).is_some_and(|at| at <= now);
        self.connections
            .iter()
            .filter(passed)
            .map(|one| one.id)
            .collect()
    }

    /// When to call [`Fsm::handle_timeout`] next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let of_connections = self
            .connections
            .iter()
            .filter_map(|one| one.deadlines.earliest());
        of_connections.chain(self.deadlines.earliest()).min()
    }

    /// What follows from an event.
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        use {Event::*, SessionState::Connect};
        match (self.state_for(&event), event) {
            (_, Start) => self.start(now),
            (
                _,
                Stop {
                    notification,
                    reason,
                },
            ) => self.stop(&notification, reason),
            (
                _,
                Reconnect {
                    notification,
                    reason,
                },
            ) => self.reconnect(now, notification, reason),
            (
                _,
                Close {
                    notification,
                    reason,
                    stay_away,
                },
            ) => self.end_all(now, notification, reason, Next::Hold(stay_away)),
            (_, Reconsider) => self.reconsider(now),
            (_, PathDead(reason)) => self.path_dead(now, reason),
            (
                _,
                BfdDown {
                    reason,
                    heard,
                    forwarding,
                },
            ) => self.bfd_down(now, reason, heard, forwarding),
            (_, BfdUp) => self.bfd_up(now),
            (_, BfdClear) => self.bfd_clear(now),
            (_, Complete) => {
                self.local.restarting = false;
                self.local.preserved = true;
            }

            (_, Dialled(id)) if self.effort == Effort::Dialling => {
                self.deadlines.set(Timer::ConnectRetry, None);
                self.effort = Effort::Waiting;
                self.open(now, id, Origin::Dialled);
            }
            (_, Dialled(id)) => self.actions.push(Action::Close(id, None)),
            (_, DialFailed(reason)) if self.effort == Effort::Dialling => {
                self.deadlines.set(Timer::ConnectRetry, None);
                self.dial_failed(now, reason);
            }
            (_, DialFailed(_)) => {}
            (_, Accepted(id)) if matches!(self.effort, Effort::Stopped | Effort::Held) => {
                self.refuse(id);
            }
            (_, Accepted(id)) => self.accept(now, id),

            (OpenSent, Received(id, Message::Open(open))) => self.opened(now, id, &open),
            (OpenConfirm, Received(id, Message::Keepalive)) => self.confirmed(now, id),
            (Established, Received(id, Message::Keepalive)) => self.heard(now, id),
            (Established, Updates(id, updates)) => {
                self.heard(now, id);
                self.actions.push(Action::Deliver(updates));
            }
            (Established, Received(id, Message::Update(update))) => {
                self.heard(now, id);
                self.actions.push(Action::Deliver(vec![update]));
            }
            (Established, Received(id, Message::RouteRefresh(refresh))) => {
                self.heard(now, id);
                self.actions.push(Action::Refresh(refresh));
            }
            (OpenSent | OpenConfirm | Established, Received(id, Message::Notification(said))) => {
                self.notified(now, id, &said);
            }
            (OpenSent | OpenConfirm | Established, Malformed(id, notification, reason)) => {
                self.fail(now, id, notification, reason);
            }
            (OpenSent | OpenConfirm | Established, Closed(id, loss, reason)) => {
                self.closed(now, id, loss, reason);
            }
            (OpenSent | OpenConfirm | Established, Sent(id)) => self.sent(now, id),
            (OpenSent | OpenConfirm | Established, NothingWaits(id)) => {
                self.restart_send_hold(now, id);
            }
            (OpenSent | OpenConfirm | Established, Unread(id)) => self.heard(now, id),

            // Everything else that comes is out of place (RFC 4271 §8.2.2 "any other event", RFC 6608).
            (state @ (OpenSent | OpenConfirm | Established), Received(id, message)) => {
                self.unexpected(now, id, message.kind(), state);
            }
            (state @ (OpenSent | OpenConfirm), Updates(id, _)) => {
                self.unexpected(now, id, Kind::Update, state);
            }
            // A connection that is no longer ours.
            (
                Idle | Connect | Active,
                Received(..) | Updates(..) | Malformed(..) | Closed(..) | Sent(_) | NothingWaits(_)
                | Unread(_),
            ) => {}
        }
        self.done()
    }

    /// What follows from the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Action> {
        while let Some(timer) = self.deadlines.take_passed(now) {
            match (timer, self.effort) {
                (Timer::IdleHold, Effort::Held) => self.start(now),
                (Timer::ConnectRetry, Effort::Dialling) => {
                    self.actions.push(Action::AbandonDial);
                    self.dial_failed(now, "no answer to our SYN".into());
                }
                (Timer::ConnectRetry, Effort::Waiting) => self.dial(now),
                _ => {}
            }
        }
        let due = |one: &mut Connection| Some((one.id, one.deadlines.take_passed(now)?));
        while let Some((id, timer)) = self.connections.iter_mut().find_map(due) {
            self.connection_timeout(now, id, timer);
        }
        self.done()
    }

    fn connection_timeout(&mut self, now: Instant, id: ConnectionId, timer: Timer) {
        match timer {
            Timer::Keepalive if self.is_unconfirmed(id) => self.confirm(now, id),
            Timer::Keepalive => {
                self.actions.push(Action::Send(id, Message::Keepalive));
                self.schedule_keepalive(now, id);
            }
            Timer::Hold => self.hold_expired(now, id),
            Timer::SendHold => self.fail(
                now,
                id,
                Notification::send_hold_timer_expired(),
                "send hold timer expired: it takes nothing from us (RFC 9687)".into(),
            ),
            Timer::ConnectRetry | Timer::IdleHold => {}
        }
    }

    /// The state an event meets: that of its connection, or of the peer.
    fn state_for(&self, event: &Event) -> SessionState {
        match event {
            Event::Received(id, _)
            | Event::Updates(id, _)
            | Event::Malformed(id, ..)
            | Event::Closed(id, ..)
            | Event::Sent(id)
            | Event::NothingWaits(id)
            | Event::Unread(id) => self.connection(*id).map_or(Idle, |one| one.state),
            _ => self.state(),
        }
    }

    /// The actions so far, and the state of the peer if that is news.
    fn done(&mut self) -> Vec<Action> {
        let reason = self.reason.take();
        let state = self.state();
        if state != self.shown {
            self.shown = state;
            let reason = reason.unwrap_or_default();
            self.actions.push(Action::State(state, reason));
        }
        std::mem::take(&mut self.actions)
    }

    /// Why the state of the peer changes, if it does.
    fn because(&mut self, reason: impl Into<String>) {
        self.reason = Some(reason.into());
    }
}

/// Looking at connections.
impl Fsm {
    fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.iter().find(|one| one.id == id)
    }

    fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|one| one.id == id)
    }

    fn is_unconfirmed(&self, id: ConnectionId) -> bool {
        self.connection(id)
            .is_some_and(|one| one.state == OpenConfirm && !one.confirmation.ours)
    }

    fn established(&self) -> Option<&Connection> {
        self.connections.iter().find(|one| one.state == Established)
    }

    fn ids(&self) -> Vec<ConnectionId> {
        self.connections.iter().map(|one| one.id).collect()
    }

    /// A connection has come so far that dialling would only collide.
    fn busy(&self) -> bool {
        self.connections.iter().any(|one| one.state >= OpenConfirm)
    }

    fn has_dialled(&self) -> bool {
        self.effort == Effort::Dialling
            || self
                .connections
                .iter()
                .any(|one| one.origin == Origin::Dialled)
    }

    /// How long the session has been up, if there is one.
    fn lasted(&self, now: Instant) -> Option<Duration> {
        self.established()
            .map(|up| now.saturating_duration_since(up.since))
    }

    /// The same, if `id` is its connection.
    fn lasted_as(&self, id: ConnectionId, now: Instant) -> Option<Duration> {
        self.established()
            .filter(|up| up.id == id)
            .map(|up| now.saturating_duration_since(up.since))
    }
}
