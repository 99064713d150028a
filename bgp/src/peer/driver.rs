//! The task of one peer: the one place with sockets and a clock. It feeds the [`Fsm`] and carries out its actions.
//!
//! ```text
//! sockets → Link → messages → Fsm → actions ─┬─ Rib (bounded: while it is full, nothing is read)
//!    ↑                                       └─ status, events
//!    └── Link ← Rib (bounded in octets: see Outbound)
//! ```

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, OnceLock, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinSet,
    time::Sleep,
};
use tokio_util::sync::PollSender;

use self::{
    link::{Link, Progress, farewell},
    report::Reporter,
};
use super::{
    deadlines::Jitter,
    fsm::{Action, ConnectionId, Event, Fsm},
    negotiate::Negotiated,
    sockets,
};
use crate::{
    config::{Password, PeerConfig},
    rib::task::{Ending, Order, Outbound, PeerId, PeerMessage, Room, Session, ToRib},
    speaker,
    wire::{Cease, Notification},
};
pub(crate) use report::PeerReport;

mod link;
mod report;

/// What a peer's task is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// The peer dialled, and is here.
    Accepted(TcpStream, SocketAddr),
    /// Another configuration.
    Reconfigure {
        /// All of it.
        config: Arc<PeerConfig>,
        /// Our BGP Identifier.
        router_id: Ipv4Addr,
        /// What has to begin anew over it.
        anew: Anew,
    },
    /// This interface is gone or lost its carrier, and these were our addresses on it.
    Lost(Arc<str>, Arc<[IpAddr]>),
    /// How it is.
    Report(oneshot::Sender<PeerReport>),
    /// The end, for good: this is said first.
    Stop(Notification, String),
    /// The end, for a restart of ours: without a word where graceful restart was agreed.
    Leave,
}

/// What has to begin anew over another configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Anew {
    /// Nothing.
    Nothing,
    /// The attempts to get a session; one that is up stays.
    Attempts,
    /// The session, for this reason.
    Session(String),
}

/// What a peer's task starts with.
#[derive(Debug)]
pub(crate) struct Driver {
    /// What the Rib knows it by.
    pub(crate) id: PeerId,
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Its configuration.
    pub(crate) config: Arc<PeerConfig>,
    /// Our BGP Identifier.
    pub(crate) router_id: Ipv4Addr,
    /// The way to the Rib.
    pub(crate) rib: mpsc::Sender<ToRib>,
    /// Where events go.
    pub(crate) events: broadcast::Sender<speaker::Event>,
    /// True once all initial routes are in.
    pub(crate) complete: watch::Receiver<bool>,
    /// What it is told.
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    /// Whether it ends by itself once its peer is gone, and nothing of it is kept.
    pub(crate) stay: Stay,
}

/// How long a peer's task lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// Until told otherwise: the peer is configured.
    Configured,
    /// As long as the peer is connected, or we keep its routes: it came from a range.
    Connected,
}

impl Driver {
    /// Runs until it is told to stop, and has said so to the peer and the Rib.
    pub(crate) async fn run(self) {
        let mut running = Running::new(self);
        poll_fn(|context| running.poll(context)).await;
        running.wind_up().await;
    }
}

/// The dial under way.
type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// What is tried at most before other tasks get their turn.
const TURNS: usize = 16;

/// Batches of UPDATEs that wait for the Rib at most, before no more is read.
const BACKLOG: usize = 2;

/// The longest wait for the peer to take what we say at the end.
const FAREWELL: Duration = Duration::from_secs(1);

struct Running {
    fsm: Fsm,
    reporter: Reporter,
    id: PeerId,
    commands: mpsc::UnboundedReceiver<Command>,
    complete: watch::Receiver<bool>,
    completed: bool,
    stay: Stay,
    /// How long the routes of a peer that left are kept at most.
    kept: Duration,
    leave_at: Option<Instant>,
    dial: Option<Dial>,
    links: Vec<Link>,
    connections: u32,
    session: Option<Up>,
    rib: PollSender<ToRib>,
    backlog: VecDeque<PeerMessage>,
    farewells: JoinSet<()>,
    timer: Pin<Box<Sleep>>,
    armed: Option<Instant>,
    ended: bool,
}

/// The established session, on this side of the Rib.
struct Up {
    connection: ConnectionId,
    messages: mpsc::UnboundedReceiver<bytes::Bytes>,
    orders: mpsc::UnboundedReceiver<Order>,
    room: Arc<Room>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the driver of a peer reads the clock and sleeps until its deadlines"
)]
mod clock {
    use super::*;

    pub(super) fn now() -> Instant {
        Instant::now()
    }

    /// When the first peer began.
    pub(super) fn epoch() -> Instant {
        static EPOCH: OnceLock<Instant> = OnceLock::new();
        *EPOCH.get_or_init(Instant::now)
    }

    pub(super) fn sleep() -> Pin<Box<Sleep>> {
        Box::pin(tokio::time::sleep(Duration::ZERO))
    }
}

impl Running {
    fn new(driver: Driver) -> Self {
        let seed = u64::from(driver.id.0) ^ u64::from(std::process::id()).rotate_left(32);
        let reporter = Reporter::new(driver.name, &driver.config, driver.events);
        let mut running = Self {
            fsm: Fsm::new(
                driver.config,
                driver.router_id,
                Jitter::new(seed, clock::epoch()),
            ),
            reporter,
            id: driver.id,
            commands: driver.commands,
            complete: driver.complete,
            completed: false,
            stay: driver.stay,
            kept: Duration::ZERO,
            leave_at: None,
            dial: None,
            links: Vec::new(),
            connections: 0,
            session: None,
            rib: PollSender::new(driver.rib),
            backlog: VecDeque::new(),
            farewells: JoinSet::new(),
            timer: clock::sleep(),
            armed: None,
            ended: false,
        };
        running.start();
        running
    }

    /// Begins, unless the configuration holds the peer down.
    fn start(&mut self) {
        match held_down(self.fsm.config()) {
            None => self.feed(Event::Start),
            Some(reason) => self.reporter.held_down(reason),
        }
    }

    /// One round over everything that may have something for us, until nothing has.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            let mut moved = self.poll_commands(context);
            if self.ended {
                return Poll::Ready(());
            }
            moved |= self.poll_complete();
            moved |= self.poll_dial(context);
            moved |= self.poll_orders(context);
            moved |= self.poll_rib(context);
            moved |= self.poll_links(context);
            moved |= self.poll_timer(context);
            while let Poll::Ready(Some(_)) = self.farewells.poll_join_next(context) {}
            moved |= self.consider_leaving();
            if !moved {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_commands(&mut self, context: &mut Context<'_>) -> bool {
        match self.commands.poll_recv(context) {
            Poll::Pending => return false,
            Poll::Ready(Some(command)) => self.obey(command),
            Poll::Ready(None) => self.obey(Command::Leave),
        }
        true
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Accepted(stream, remote) => self.accepted(stream, remote),
            Command::Reconfigure {
                config,
                router_id,
                anew,
            } => self.reconfigure(config, router_id, anew),
            Command::Lost(interface, addresses) => self.lost(&interface, &addresses),
            Command::Report(reply) => {
                let local = self.session.as_ref().and_then(|up| {
                    let link = self.links.iter().find(|link| link.id == up.connection)?;
                    Some((link.local, link.remote))
                });
                drop(reply.send(self.reporter.report(&self.fsm, local)));
            }
            Command::Stop(notification, reason) => {
                self.feed(Event::Stop {
                    notification,
                    reason,
                });
                self.ended = true;
            }
            Command::Leave => {
                self.feed(Event::Reconnect {
                    notification: Notification::cease(Cease::OtherConfigurationChange),
                    reason: "we restart".into(),
                });
                // The Rib hears nothing of it: what it had installed stays in the kernel for whoever follows us.
                self.backlog.clear();
                self.ended = true;
            }
        }
    }

    fn reconfigure(&mut self, config: Arc<PeerConfig>, router_id: Ipv4Addr, anew: Anew) {
        let was_down = held_down(self.fsm.config()).is_some();
        let held = held_down(&config);
        self.reporter.reconfigured(&config);
        self.fsm.reconfigure(config, router_id);
        match (held, anew) {
            (Some(reason), _) => {
                let notification = match &self.fsm.config().shutdown {
                    Some(message) => Notification::administrative_shutdown(message),
                    None => Notification::cease(Cease::OtherConfigurationChange),
                };
                self.feed(Event::Stop {
                    notification,
                    reason: reason.clone(),
                });
                self.reporter.held_down(reason);
            }
            (None, _) if was_down => {
                self.reporter.released();
                self.feed(Event::Start);
            }
            (None, Anew::Session(reason)) => self.feed(Event::Reconnect {
                notification: Notification::cease(Cease::OtherConfigurationChange),
                reason,
            }),
            (None, Anew::Attempts) => self.feed(Event::Reconsider),
            (None, Anew::Nothing) => {}
        }
    }

    fn lost(&mut self, interface: &str, addresses: &[IpAddr]) {
        let bound = self.fsm.config().interface.as_deref() == Some(interface);
        let ours = |link: &Link| addresses.contains(&link.local.ip());
        if bound || self.links.iter().any(ours) {
            let reason = format!("interface {interface} is gone or has no carrier");
            self.feed(Event::PathDead(reason));
        }
    }

    fn accepted(&mut self, stream: TcpStream, remote: SocketAddr) {
        if let Err(error) = sockets::adopt(&stream, self.fsm.config(), remote.ip()) {
            self.reporter.refused(&error);
            return;
        }
        if let Some(id) = self.adopt(stream) {
            self.feed(Event::Accepted(id));
        }
    }

    /// Takes a connection among ours; `None` where it is already gone again.
    fn adopt(&mut self, stream: TcpStream) -> Option<ConnectionId> {
        let id = ConnectionId(self.connections);
        let link = Link::new(id, stream, self.fsm.config().timers.hold).ok()?;
        self.connections = self.connections.wrapping_add(1);
        self.links.push(link);
        Some(id)
    }

    /// No waker is needed: what this changes is only said in the next OPEN.
    fn poll_complete(&mut self) -> bool {
        if self.completed || !*self.complete.borrow() {
            return false;
        }
        self.completed = true;
        self.feed(Event::Complete);
        true
    }

    fn poll_dial(&mut self, context: &mut Context<'_>) -> bool {
        let Some(dial) = &mut self.dial else {
            return false;
        };
        let Poll::Ready(dialled) = dial.as_mut().poll(context) else {
            return false;
        };
        self.dial = None;
        match dialled {
            Ok(stream) => match self.adopt(stream) {
                Some(id) => self.feed(Event::Dialled(id)),
                None => self.feed(Event::DialFailed("it closed at once".into())),
            },
            Err(error) => {
                let reason = self.reporter.dial_failed(&error, self.fsm.config());
                self.feed(Event::DialFailed(reason));
            }
        }
        true
    }

    fn poll_orders(&mut self, context: &mut Context<'_>) -> bool {
        let Some(up) = &mut self.session else {
            return false;
        };
        let Poll::Ready(Some(order)) = up.orders.poll_recv(context) else {
            return false;
        };
        match order {
            Order::Close {
                notification,
                reason,
                stay_away,
            } => self.feed(Event::Close {
                notification,
                reason,
                stay_away,
            }),
        }
        true
    }

    /// Hands over what waits for the Rib, as far as it has room.
    fn poll_rib(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        while !self.backlog.is_empty() {
            match self.rib.poll_reserve(context) {
                Poll::Pending => return moved,
                Poll::Ready(Ok(())) => {
                    if let Some(message) = self.backlog.pop_front() {
                        let sent = self.rib.send_item(ToRib::Peer(self.id, message));
                        debug_assert!(sent.is_ok(), "room was reserved");
                        moved = true;
                    }
                }
                // The Rib has ended: so does the speaker.
                Poll::Ready(Err(_)) => self.backlog.clear(),
            }
        }
        moved
    }

    fn poll_links(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        let ids: smallvec::SmallVec<[ConnectionId; 4]> =
            self.links.iter().map(|link| link.id).collect();
        for id in ids {
            moved |= self.poll_read(id, context);
            moved |= self.poll_write(id, context);
        }
        moved
    }

    /// Reads a chunk and hands over all messages in it; not while earlier ones still wait for the Rib.
    fn poll_read(&mut self, id: ConnectionId, context: &mut Context<'_>) -> bool {
        if self.backlog.len() >= BACKLOG {
            return false;
        }
        let Some(link) = self.links.iter_mut().find(|link| link.id == id) else {
            return false;
        };
        let Poll::Ready(progress) = link.poll_read(context) else {
            return false;
        };
        match progress {
            Progress::Messages(read) => {
                self.reporter.received(&read);
                for event in read.events {
                    self.feed(event);
                }
            }
            Progress::Lost(loss, reason) => self.feed(Event::Closed(id, loss, reason)),
        }
        true
    }

    fn poll_write(&mut self, id: ConnectionId, context: &mut Context<'_>) -> bool {
        let Some(link) = self.links.iter_mut().find(|link| link.id == id) else {
            return false;
        };
        let up = self.session.as_mut().filter(|up| up.connection == id);
        if let Some(up) = up {
            link.take(&mut up.messages, context);
        }
        let Poll::Ready(written) = link.poll_write(context) else {
            return false;
        };
        self.wrote(id, written);
        true
    }

    /// Octets went out: the timers learn of it, and the Rib if it waits for room.
    fn wrote(&mut self, id: ConnectionId, written: link::Written) {
        self.feed(Event::Sent(id));
        let Some(up) = self.session.as_ref().filter(|up| up.connection == id) else {
            return;
        };
        let before = up.room.queued.fetch_sub(written.of_rib, Ordering::AcqRel);
        let left = before.saturating_sub(written.of_rib);
        if left <= Room::LIMIT / 2 && up.room.awaited.swap(false, Ordering::AcqRel) {
            self.backlog.push_back(PeerMessage::Writable);
        }
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> bool {
        let deadlines = self.fsm.next_timeout().into_iter().chain(self.leave_at);
        let Some(deadline) = deadlines.min() else {
            return false;
        };
        // A deadline that moved later is noticed when the earlier one passes: KEEPALIVEs cost no timer.
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.timer.as_mut().reset(deadline.into());
            self.armed = Some(deadline);
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return false;
        }
        self.armed = None;
        let now = clock::now();
        for id in self.fsm.expiring(now) {
            if self.has_unread(id) {
                self.feed(Event::Unread(id));
            }
        }
        let actions = self.fsm.handle_timeout(now);
        self.act(actions);
        self.ended |= self.leave_at.is_some_and(|at| at <= now);
        true
    }

    /// Whether the peer said something we have not looked at: then it is we who are late.
    fn has_unread(&self, id: ConnectionId) -> bool {
        let of_session = self.session.as_ref().is_some_and(|up| up.connection == id);
        (of_session && !self.backlog.is_empty())
            || self
                .links
                .iter()
                .any(|link| link.id == id && link.has_unread())
    }

    fn feed(&mut self, event: Event) {
        let actions = self.fsm.handle(clock::now(), event);
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Dial => {
                    self.reporter.dialling(self.fsm.config());
                    let config = Arc::clone(self.fsm.config());
                    self.dial = Some(Box::pin(async move { sockets::dial(&config).await }));
                }
                Action::AbandonDial => self.dial = None,
                Action::Send(id, message) => {
                    if let Some(link) = self.links.iter_mut().find(|link| link.id == id)
                        && link.send(&message)
                    {
                        self.reporter.sent(&message);
                    }
                }
                Action::Close(id, notification) => self.close(id, notification),
                Action::Up(id, agreed) => self.up(id, &agreed),
                Action::Down(ending) => {
                    self.session = None;
                    self.kept = match ending {
                        Ending::Gone => Duration::ZERO,
                        Ending::Restarting { restart_time, .. } => restart_time,
                    };
                    self.backlog.push_back(PeerMessage::Down(ending));
                }
                Action::Deliver(updates) => self.backlog.push_back(PeerMessage::Updates(updates)),
                Action::Refresh(refresh) => self.backlog.push_back(PeerMessage::Refresh(refresh)),
                Action::State(state, reason) => {
                    self.reporter.state(state, reason, self.fsm.session());
                }
                Action::Failed(reason) => self.reporter.failed(reason, self.fsm.config()),
                Action::Agreed(id, agreed) => {
                    if let Some(link) = self.links.iter_mut().find(|link| link.id == id) {
                        link.agreed(agreed.context, agreed.hold);
                    }
                }
            }
        }
    }

    fn close(&mut self, id: ConnectionId, notification: Option<Notification>) {
        let Some(index) = self.links.iter().position(|link| link.id == id) else {
            return;
        };
        let link = self.links.swap_remove(index);
        if let Some(notification) = notification {
            self.reporter.said(&notification);
            self.farewells.spawn(farewell(link, notification, FAREWELL));
        }
    }

    /// The session is up: the Rib gets to know it, and the way to its socket.
    fn up(&mut self, id: ConnectionId, agreed: &Negotiated) {
        let Some(link) = self.links.iter().find(|link| link.id == id) else {
            return;
        };
        let (messages, of_rib) = mpsc::unbounded_channel();
        let (orders, of_orders) = mpsc::unbounded_channel();
        let room = Arc::new(Room::default());
        let config = Arc::clone(self.fsm.config());
        let session = Session {
            context: agreed.context,
            kind: agreed.kind,
            asn: agreed.asn,
            router_id: agreed.router_id,
            address: link.remote.ip(),
            local_address: link.local.ip(),
            local_link_local: sockets::link_local_beside(link.local.ip(), link.remote.ip()),
            interface: interface_of(&config, link.remote),
            refresh: agreed.refresh,
            expects_end_of_rib: agreed.expects_end_of_rib(),
            preserved: agreed.preserved(),
            outbound: Outbound {
                messages,
                room: Arc::clone(&room),
                orders,
            },
            config,
        };
        self.session = Some(Up {
            connection: id,
            messages: of_rib,
            orders: of_orders,
            room,
        });
        self.backlog
            .push_back(PeerMessage::Established(Box::new(session)));
    }

    /// A peer that came from a range is forgotten once it is gone. Says whether the time to leave has changed.
    fn consider_leaving(&mut self) -> bool {
        if self.stay == Stay::Configured {
            return false;
        }
        let before = self.leave_at;
        let vacant = self.links.is_empty() && self.backlog.is_empty();
        self.leave_at = match self.leave_at {
            _ if !vacant => None,
            None => Some(clock::now() + self.kept),
            at => at,
        };
        self.leave_at != before
    }

    /// The last words to the Rib and to the peer.
    async fn wind_up(mut self) {
        self.links.clear();
        poll_fn(|context| {
            while !self.backlog.is_empty() {
                if !self.poll_rib(context) {
                    return Poll::Pending;
                }
            }
            Poll::Ready(())
        })
        .await;
        while self.farewells.join_next().await.is_some() {}
    }
}

/// Why the configuration keeps a peer down, if it does.
fn held_down(config: &PeerConfig) -> Option<String> {
    match (&config.shutdown, &config.password) {
        (Some(message), _) if message.is_empty() => Some("administratively down".into()),
        (Some(message), _) => Some(format!("administratively down: {message}")),
        (None, Password::Missing(why)) => {
            Some(format!("held down, its password is missing: {why}"))
        }
        (None, Password::None | Password::Key(_)) => None,
    }
}

/// The interface of a session between link-local addresses.
fn interface_of(config: &PeerConfig, remote: SocketAddr) -> Option<Arc<str>> {
    if let Some(interface) = &config.interface {
        return Some(interface.as_str().into());
    }
    match sockets::scope(remote) {
        0 => None,
        index => super::socket_options::interface_name(index).map(Into::into),
    }
}
