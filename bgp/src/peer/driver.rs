//! The task of one peer: the one place with sockets and a clock. It feeds the [`Fsm`] and carries out its actions.
//!
//! ```text
//! sockets → Link → messages → Fsm → actions ─┬─ Rib (bounded: while it is full, nothing is read)
//!    ↑            Routes holds both ends        └─ status, events
//!    └── Link ← Rib (bounded in octets: see Outbound)
//! ```

use std::{
    future::{Future, poll_fn},
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use tokio::{
    net::TcpStream,
    sync::{broadcast, mpsc, watch},
    task::JoinSet,
    time::Sleep,
};

use self::{
    link::{Link, Progress, farewell},
    report::Reporter,
    routes::Routes,
};
use super::{
    deadlines::{Jitter, Timer},
    fsm::{Action, ConnectionId, Event, Fsm},
    negotiate::Negotiated,
    sockets,
};
use crate::{
    bfd::{Bfd, Watch},
    config::{Keys, PeerConfig},
    mrt::{self, Ends, record::Tap},
    rib::task::{Ending, Order, PeerId, PeerMessage, Session, ToRib},
    speaker,
    status::SessionState,
    wire::Notification,
};
pub(crate) use command::{Anew, Command};
pub(crate) use report::{Detail, PeerReport};

mod command;
mod link;
mod path;
mod report;
mod routes;

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
    /// Who watches paths.
    pub(crate) bfd: Bfd,
    /// What it is told. Boxed: a channel holds room for 32, and mostly nothing is said.
    pub(crate) commands: mpsc::UnboundedReceiver<Box<Command>>,
    /// Who records what it says, if anybody does.
    pub(crate) tap: Tap,
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
struct Dial {
    dialled: Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>,
    /// What it is signed with.
    keys: Option<Keys>,
}

/// What is tried at most before other tasks get their turn.
const TURNS: usize = 16;

/// The longest wait for the peer to take what we say at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Connections at most that hear our last words at once: who dials faster than that is not worth them.
const FAREWELLS: usize = 64;

struct Running {
    fsm: Fsm,
    reporter: Reporter,
    commands: mpsc::UnboundedReceiver<Box<Command>>,
    complete: watch::Receiver<bool>,
    completed: bool,
    stay: Stay,
    /// How long the routes of a peer that left are kept at most.
    kept: Duration,
    leave_at: Option<Instant>,
    bfd: Bfd,
    watch: Option<Watch>,
    tap: Tap,
    dial: Option<Dial>,
    links: Vec<Link>,
    connections: u32,
    routes: Routes,
    farewells: JoinSet<()>,
    timer: Pin<Box<Sleep>>,
    armed: Option<Instant>,
    ended: bool,
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
            commands: driver.commands,
            complete: driver.complete,
            completed: false,
            stay: driver.stay,
            kept: Duration::ZERO,
            leave_at: None,
            bfd: driver.bfd,
            watch: None,
            tap: driver.tap,
            dial: None,
            links: Vec::with_capacity(1),
            connections: 0,
            routes: Routes::new(driver.id, driver.rib),
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
        self.watch_path();
        match command::held_down(self.fsm.config()) {
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
            moved |= self.poll_path(context);
            moved |= self.poll_dial(context);
            moved |= self.poll_orders(context);
            moved |= self.routes.poll(context);
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
            Poll::Ready(Some(command)) => self.obey(*command),
            Poll::Ready(None) => self.obey(Command::Leave),
        }
        true
    }

    /// Takes a connection among ours; `None` where it is already gone again.
    fn adopt(&mut self, stream: TcpStream, keys: Option<Keys>) -> Option<ConnectionId> {
        let id = ConnectionId(self.connections);
        let link = Link::new(id, stream, self.fsm.config().timers.hold, keys).ok()?;
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
        let Poll::Ready(dialled) = dial.dialled.as_mut().poll(context) else {
            return false;
        };
        let keys = self.dial.take().and_then(|dial| dial.keys);
        match dialled {
            Ok(stream) => match self.adopt(stream, keys) {
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
        match self.routes.poll_order(context) {
            Some(Order::Close {
                notification,
                reason,
                stay_away,
            }) => self.feed(Event::Close {
                notification,
                reason,
                stay_away,
            }),
            None => return false,
        }
        true
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
        if self.routes.is_behind() {
            return false;
        }
        let Some(link) = self.links.iter_mut().find(|link| link.id == id) else {
            return false;
        };
        let read = link.poll_read(context, self.tap.borrow().as_ref());
        let Poll::Ready(progress) = read else {
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
        if let Some(messages) = self.routes.messages(id) {
            link.take(messages, context);
        }
        let Poll::Ready(written) = link.poll_write(context) else {
            return false;
        };
        self.feed(Event::Sent(id));
        self.routes.wrote(id, written);
        true
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
        for id in self.fsm.expiring(Timer::Hold, now) {
            if self.has_unread(id) {
                self.feed(Event::Unread(id));
            }
        }
        for id in self.fsm.expiring(Timer::SendHold, now) {
            let unsent = |link: &Link| link.id == id && link.has_unsent();
            if !self.links.iter().any(unsent) {
                self.feed(Event::NothingWaits(id));
            }
        }
        let actions = self.fsm.handle_timeout(now);
        self.act(actions);
        self.ended |= self.leave_at.is_some_and(|at| at <= now);
        true
    }

    /// Whether the peer said something we have not looked at: then it is we who are late.
    fn has_unread(&self, id: ConnectionId) -> bool {
        let of_session = self.routes.connection() == Some(id);
        (of_session && !self.routes.is_level())
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
                Action::Dial(attempt) => self.dial(attempt),
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
                Action::Down(ending, how) => {
                    self.routes.end();
                    self.kept = match ending {
                        Ending::Gone => Duration::ZERO,
                        Ending::Restarting {
                            restart_time,
                            long_lived,
                            ..
                        } => restart_time + long_lived.longest(),
                    };
                    self.routes.say(PeerMessage::Down(ending, how));
                }
                Action::Deliver(updates) => self.routes.say(PeerMessage::Updates(updates)),
                Action::Refresh(refresh) => self.routes.say(PeerMessage::Refresh(refresh)),
                Action::State(state, reason) => {
                    self.record(state);
                    self.reporter.state(state, reason, self.fsm.session());
                }
                Action::Failed(reason) => self.reporter.failed(reason, self.fsm.config()),
                Action::Agreed(id, agreed) => {
                    if let Some(link) = self.links.iter_mut().find(|link| link.id == id) {
                        link.agreed(&agreed, self.fsm.config().local_asn);
                    }
                }
            }
        }
    }

    fn dial(&mut self, attempt: u32) {
        self.reporter.dialling(self.fsm.config());
        let config = Arc::clone(self.fsm.config());
        let keys = config.password.keys_of_attempt(attempt);
        let signed_with = keys.clone();
        let dialled = Box::pin(async move { sockets::dial(&config, signed_with.as_ref()).await });
        self.dial = Some(Dial { dialled, keys });
    }

    /// Writes a change of state down, if anybody records.
    fn record(&self, to: SessionState) {
        let tap = self.tap.borrow();
        let Some(recorder) = tap.as_ref() else {
            return;
        };
        let of_session = self.routes.connection();
        let link = self.links.iter().find(|link| Some(link.id) == of_session);
        let config = self.fsm.config();
        let mut ends = link.or(self.links.first()).map_or(
            Ends {
                peer_asn: 0,
                local_asn: 0,
                peer: config.address,
                local: config.source,
            },
            Link::ends,
        );
        if ends.peer_asn == 0 {
            ends.local_asn = config.local_asn;
            ends.peer_asn = self.reporter.asn().unwrap_or(0);
        }
        let mut records = BytesMut::new();
        let from = self.reporter.shown();
        mrt::state_change(&ends, from, to, SystemTime::now(), &mut records);
        recorder.record(records.freeze());
    }

    fn close(&mut self, id: ConnectionId, notification: Option<Notification>) {
        let Some(index) = self.links.iter().position(|link| link.id == id) else {
            return;
        };
        let link = self.links.swap_remove(index);
        if let Some(notification) = notification
            && self.farewells.len() < FAREWELLS
        {
            self.reporter.said(&notification);
            self.farewells.spawn(farewell(link, notification, FAREWELL));
        }
    }

    /// The session is up: the Rib gets to know it, and the way to its socket.
    fn up(&mut self, id: ConnectionId, agreed: &Negotiated) {
        let Some(link) = self.links.iter().find(|link| link.id == id) else {
            return;
        };
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
            knows_long_stale: agreed.knows_long_stale,
            opening: Arc::new(link.opening()),
            outbound: self.routes.begin(id),
            config,
        };
        self.routes.say(PeerMessage::Established(Box::new(session)));
    }

    /// A peer that came from a range is forgotten once it is gone, and need not stay away any longer. Says whether the time to leave has changed.
    fn consider_leaving(&mut self) -> bool {
        if self.stay == Stay::Configured {
            return false;
        }
        let before = self.leave_at;
        let vacant = self.links.is_empty() && self.routes.is_level() && !self.fsm.is_held();
        self.leave_at = match self.leave_at {
            _ if !vacant => None,
            None => Some(clock::now() + self.kept),
            at => at,
        };
        self.leave_at != before
    }

    /// The last words to the Rib and to the peer.
    async fn wind_up(&mut self) {
        // Who dials now is told by the one who hands connections out, not by silence.
        self.commands.close();
        self.watch = None;
        self.links.clear();
        poll_fn(|context| {
            while !self.routes.is_level() {
                if !self.routes.poll(context) {
                    return Poll::Pending;
                }
            }
            Poll::Ready(())
        })
        .await;
        while self.farewells.join_next().await.is_some() {}
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
