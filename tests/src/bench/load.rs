//! Our own speakers, all on one thread: they dial the device, announce what was encoded before, and count what comes back.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

use super::{
    message::{self, HEADER, KEEPALIVE, NOTIFICATION, OPEN, UPDATE},
    now,
    view::View,
};

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Octets written to one peer before the others have their turn.
const SHARE: usize = 1 << 20;
const BUFFER: usize = 256 * 1024;

/// One of our speakers and its session with the device.
#[derive(Debug)]
pub struct Session {
    local: Ipv4Addr,
    asn: u32,
    stream: Option<TcpStream>,
    writable_wanted: bool,
    tail: Vec<u8>,
    outbox: VecDeque<(Arc<[u8]>, usize)>,
    dial_at: Instant,
    greeting: Option<Arc<[u8]>>,
    /// How far it is.
    pub state: State,
    /// What it has heard since it is established.
    pub view: View,
    /// Why the last session ended, if one did.
    pub ended: Option<String>,
}

/// A session's state (RFC 4271 §8.2.2), with `Down` for one that was established and is not dialled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "RFC 4271's names")]
pub enum State {
    Idle,
    Connect,
    OpenSent,
    OpenConfirm,
    Established,
    Down,
}

impl Session {
    /// It is established.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == State::Established
    }

    /// All that was to be sent has left.
    #[must_use]
    pub fn has_sent(&self) -> bool {
        self.outbox.is_empty()
    }

    fn down(&mut self, why: String) {
        self.stream = None;
        self.tail.clear();
        self.outbox.clear();
        self.writable_wanted = false;
        self.ended = Some(why);
        if self.state == State::Established {
            self.state = State::Down;
            return;
        }
        self.state = State::Idle;
        self.dial_at = now() + Duration::from_millis(20);
    }
}

/// All our speakers in one run.
#[derive(Debug)]
pub struct Load {
    epoll: Epoll,
    device: SocketAddrV4,
    sessions: Vec<Session>,
    idle: VecDeque<usize>,
    opening: usize,
    /// Most sessions that may be on their way up at once.
    pub dial_at_once: usize,
    pause_until: Instant,
    keepalive_at: Instant,
    buffer: Vec<u8>,
    touched: Vec<usize>,
}

impl Load {
    /// Speakers that dial `device`; they start with the next [`Load::until`].
    ///
    /// # Errors
    /// No epoll.
    pub fn new(device: SocketAddrV4) -> Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            device,
            sessions: Vec::new(),
            idle: VecDeque::new(),
            opening: 0,
            dial_at_once: 4,
            pause_until: now(),
            keepalive_at: now() + KEEPALIVE_INTERVAL,
            buffer: vec![0; BUFFER],
            touched: Vec::new(),
        })
    }

    /// Adds a speaker; its number.
    pub fn add(&mut self, local: Ipv4Addr, asn: u32, view: View) -> usize {
        self.sessions.push(Session {
            local,
            asn,
            stream: None,
            writable_wanted: false,
            tail: Vec::new(),
            outbox: VecDeque::new(),
            dial_at: now(),
            greeting: None,
            state: State::Idle,
            view,
            ended: None,
        });
        self.idle.push_back(self.sessions.len() - 1);
        self.sessions.len() - 1
    }

    /// The sessions, by number.
    #[must_use]
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// What a session says as soon as it is established.
    pub fn greet(&mut self, number: usize, messages: Vec<u8>) {
        self.sessions[number].greeting = Some(messages.into());
    }

    /// Queues messages on an established session.
    pub fn send(&mut self, number: usize, messages: Arc<[u8]>) {
        self.sessions[number].outbox.push_back((messages, 0));
        self.write(number);
    }

    /// Ends a session with a TCP reset, as a peer does whose process dies with data unread.
    ///
    /// # Errors
    /// The socket refuses.
    pub fn reset(&mut self, number: usize) -> Result<()> {
        if let Some(stream) = self.sessions[number].stream.take() {
            let socket = Socket::from(stream);
            socket.set_linger(Some(Duration::ZERO))?;
        }
        self.sessions[number].down("reset by us".into());
        Ok(())
    }

    /// Ends a session with a Cease.
    pub fn cease(&mut self, number: usize) {
        if let Some(stream) = &mut self.sessions[number].stream {
            // The peer may be gone already: then there is nobody to tell.
            let _ = stream.write_all(&message::cease());
        }
        self.sessions[number].down("ceased by us".into());
    }

    /// Runs until every session has `reached` it; the moment.
    ///
    /// # Errors
    /// `limit` passed, or a session ended that was established.
    pub fn until(
        &mut self,
        limit: Duration,
        mut reached: impl FnMut(usize, &Session) -> bool,
    ) -> Result<Instant> {
        let deadline = now() + limit;
        let mut done: Vec<bool> = self
            .sessions
            .iter()
            .enumerate()
            .map(|(n, s)| reached(n, s))
            .collect();
        let mut missing = done.iter().filter(|done| !**done).count();
        while missing > 0 {
            if now() > deadline {
                bail!(
                    "{missing} of {} sessions not there after {limit:?}; {}",
                    done.len(),
                    self.first_missing(&done)
                );
            }
            self.turn(deadline)?;
            for at in 0..self.touched.len() {
                let number = self.touched[at];
                let is = reached(number, &self.sessions[number]);
                match (done[number], is) {
                    (false, true) => missing -= 1,
                    (true, false) => missing += 1,
                    _ => {}
                }
                done[number] = is;
            }
        }
        Ok(now())
    }

    fn first_missing(&self, done: &[bool]) -> String {
        let number = done.iter().position(|done| !done).unwrap_or_default();
        let session = &self.sessions[number];
        format!(
            "the first is {number}: {:?}, {} prefixes, {} right, {} updates, ended {:?}",
            session.state,
            session.view.present,
            session.view.right,
            session.view.updates,
            session.ended
        )
    }

    /// Runs for a while, whatever comes.
    ///
    /// # Errors
    /// As of [`Load::until`], but for the limit.
    pub fn go_on(&mut self, span: Duration) -> Result<()> {
        let deadline = now() + span;
        while now() < deadline {
            self.turn(deadline)?;
        }
        Ok(())
    }

    /// Runs until nothing has come for `pause`; the moment of the last message before it.
    ///
    /// # Errors
    /// `limit` passed.
    pub fn quiet(&mut self, pause: Duration, limit: Duration) -> Result<Instant> {
        let start = now();
        let mut last = start;
        while now() < last + pause {
            if now() > start + limit {
                bail!("no quiet within {limit:?}");
            }
            self.turn(last + pause)?;
            if !self.touched.is_empty() {
                last = now();
            }
        }
        Ok(last)
    }

    /// One turn: dials what is due, waits for events until `deadline` at most, reads and writes. Leaves in `touched`
    /// whose state may have changed.
    fn turn(&mut self, deadline: Instant) -> Result<()> {
        self.touched.clear();
        self.dial()?;
        self.keep_alive();
        let mut wait = deadline
            .saturating_duration_since(now())
            .min(Duration::from_millis(100));
        if !self.idle.is_empty() {
            wait = wait.min(Duration::from_millis(1));
        }
        let mut events = [EpollEvent::empty(); 256];
        let wait = EpollTimeout::from(wait.as_millis().max(1) as u16);
        let count = self
            .epoll
            .wait(&mut events, wait)
            .or_else(|error| match error {
                nix::errno::Errno::EINTR => Ok(0),
                error => Err(error),
            })?;
        for event in &events[..count] {
            let number = event.data() as usize;
            let was = self.sessions[number].state;
            if event
                .events()
                .intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
                && was != State::Connect
            {
                self.read(number);
            }
            if was == State::Connect {
                self.connected(number);
            }
            self.write(number);
            self.account(number, was);
            self.touched.push(number);
        }
        Ok(())
    }

    /// Keeps `idle` and `opening` true after a session may have changed.
    fn account(&mut self, number: usize, was: State) {
        let is_opening =
            |state| matches!(state, State::Connect | State::OpenSent | State::OpenConfirm);
        let state = self.sessions[number].state;
        if is_opening(was) && !is_opening(state) {
            self.opening -= 1;
        }
        if state == State::Idle && was != State::Idle {
            self.idle.push_back(number);
        }
    }

    fn dial(&mut self) -> Result<()> {
        if now() < self.pause_until {
            return Ok(());
        }
        for _ in 0..self.idle.len() {
            if self.opening >= self.dial_at_once {
                break;
            }
            let Some(number) = self.idle.pop_front() else {
                break;
            };
            if self.sessions[number].dial_at > now() {
                self.idle.push_back(number);
                continue;
            }
            let session = &mut self.sessions[number];
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
            socket
                .bind(&SocketAddrV4::new(session.local, 0).into())
                .with_context(|| format!("bind to {}", session.local))?;
            match socket.connect(&self.device.into()) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
                Err(error) => return Err(error).with_context(|| format!("dial {}", self.device)),
            }
            let stream = TcpStream::from(socket);
            stream.set_nodelay(true)?;
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
            self.epoll
                .add(&stream, EpollEvent::new(interest, number as u64))?;
            session.writable_wanted = true;
            session.stream = Some(stream);
            session.state = State::Connect;
            self.opening += 1;
        }
        Ok(())
    }

    fn connected(&mut self, number: usize) {
        let session = &mut self.sessions[number];
        let Some(stream) = &session.stream else {
            return;
        };
        match stream.take_error() {
            Ok(None) if stream.peer_addr().is_ok() => {
                session.state = State::OpenSent;
                session
                    .outbox
                    .push_back((message::open(session.asn, session.local).into(), 0));
            }
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => {
                session.down(format!("connect: {error}"));
                // Nobody listens yet. To ask for all sessions would take the processor from who is starting.
                session.dial_at = now();
                self.pause_until = now() + Duration::from_millis(1);
            }
        }
    }

    fn keep_alive(&mut self) {
        if now() < self.keepalive_at {
            return;
        }
        self.keepalive_at = now() + KEEPALIVE_INTERVAL;
        let keepalive: Arc<[u8]> = message::message(KEEPALIVE, &[]).into();
        for number in 0..self.sessions.len() {
            if self.sessions[number].is_up() {
                self.send(number, Arc::clone(&keepalive));
            }
        }
    }

    fn write(&mut self, number: usize) {
        let session = &mut self.sessions[number];
        if session.state == State::Connect {
            return;
        }
        let mut share = SHARE;
        while let Some((messages, offset)) = session.outbox.front_mut()
            && share > 0
        {
            let Some(stream) = &mut session.stream else {
                return;
            };
            let end = messages.len().min(*offset + share);
            match stream.write(&messages[*offset..end]) {
                Ok(count) => {
                    *offset += count;
                    share -= count;
                    if *offset == messages.len() {
                        session.outbox.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    session.down(format!("write: {error}"));
                    return;
                }
            }
        }
        let wanted = !session.outbox.is_empty();
        if let Some(stream) = &session.stream
            && wanted != session.writable_wanted
        {
            let interest = if wanted {
                EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT
            } else {
                EpollFlags::EPOLLIN
            };
            let _ = self
                .epoll
                .modify(stream, &mut EpollEvent::new(interest, number as u64));
            session.writable_wanted = wanted;
        }
    }

    fn read(&mut self, number: usize) {
        let session = &mut self.sessions[number];
        for _ in 0..4 {
            let Some(stream) = &mut session.stream else {
                return;
            };
            let kept = session.tail.len();
            self.buffer[..kept].copy_from_slice(&session.tail);
            let count = match stream.read(&mut self.buffer[kept..]) {
                Ok(0) => return session.down("closed by the device".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return session.down(format!("read: {error}")),
            };
            session.tail.clear();
            let mut octets = &self.buffer[..kept + count];
            while let Some(length) = octets
                .get(16..18)
                .map(|l| usize::from(u16::from_be_bytes([l[0], l[1]])))
                && let Some(message) = octets.get(..length)
            {
                octets = &octets[length..];
                if let Err(why) = take(session, message[HEADER - 1], &message[HEADER..]) {
                    return session.down(why);
                }
            }
            session.tail.extend_from_slice(octets);
            if kept + count < self.buffer.len() {
                return;
            }
        }
    }
}

/// Takes in one message; the error is why the session ends.
fn take(session: &mut Session, kind: u8, body: &[u8]) -> Result<(), String> {
    match (kind, session.state) {
        (OPEN, State::OpenSent) => {
            session
                .outbox
                .push_back((message::message(KEEPALIVE, &[]).into(), 0));
            session.state = State::OpenConfirm;
        }
        (KEEPALIVE, State::OpenConfirm) => {
            session.view.clear();
            session.state = State::Established;
            session
                .outbox
                .extend(session.greeting.take().map(|messages| (messages, 0)));
        }
        (UPDATE, State::Established) => session.view.update(body),
        (NOTIFICATION, _) => return Err(format!("NOTIFICATION {body:?}")),
        (KEEPALIVE | 5, State::Established) => {}
        (kind, state) => return Err(format!("message {kind} in {state:?}")),
    }
    Ok(())
}
