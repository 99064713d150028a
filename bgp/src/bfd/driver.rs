//! The thread of BFD: the one place with its sockets and clock. It feeds the sessions and carries out their actions.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::poll_fn,
    io,
    net::IpAddr,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use self::entry::Entry;
use super::{
    News, Path,
    packet::{Discard, Packet},
    session::{Event, Settings},
    socket::{Datagram, Ear, Listener, TTL, first_port},
};
use crate::status::BfdStatus;

mod entry;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Another path.
    Watch {
        discriminator: u32,
        peer: Arc<str>,
        path: Path,
        settings: Settings,
        news: mpsc::UnboundedSender<News>,
    },
    /// Other intervals.
    Configure(u32, Settings),
    /// The end of one, as by an operator.
    Remove(u32),
    /// The end of one, without a word.
    Leave(u32),
    /// How it is.
    Report(u32, oneshot::Sender<BfdStatus>),
    /// What was thrown away and is of no path.
    Discarded(oneshot::Sender<Vec<(Discard, u64)>>),
    /// Say so when you are here.
    Settle(oneshot::Sender<()>),
}

/// How long to wait before a port in use is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts the thread.
///
/// # Errors
/// What the kernel says.
pub(super) fn start(orders: mpsc::UnboundedReceiver<Command>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    std::thread::Builder::new()
        .name("bfd".into())
        .spawn(move || runtime.block_on(Driver::new().run(orders)))?;
    Ok(())
}

struct Driver {
    sessions: HashMap<u32, Entry>,
    by_address: HashMap<IpAddr, Vec<u32>>,
    /// When which session has something to do.
    due: BTreeSet<(Instant, u32)>,
    listeners: Vec<Listener>,
    /// Which listeners could not be opened, why, and when to try again.
    deaf: BTreeMap<Ear, String>,
    again: Option<Instant>,
    discarded: BTreeMap<Discard, u64>,
    /// Room for what came.
    arrived: Vec<(bool, Datagram)>,
    port: u16,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the driver of BFD reads the clock and sleeps until its deadlines"
)]
mod clock {
    use std::time::Instant;

    pub(super) fn now() -> Instant {
        Instant::now()
    }

    /// For ever where there is no deadline.
    pub(super) async fn sleep_until(deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    }
}

impl Driver {
    fn new() -> Self {
        Self {
            sessions: HashMap::new(),
            by_address: HashMap::new(),
            due: BTreeSet::new(),
            listeners: Vec::new(),
            deaf: BTreeMap::new(),
            again: None,
            discarded: BTreeMap::new(),
            arrived: Vec::new(),
            port: first_port(),
        }
    }

    /// Runs until nobody can tell it anything any more.
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Command>) {
        loop {
            let deadline = self.due.first().map(|(at, _)| *at);
            let deadline = deadline.into_iter().chain(self.again).min();
            let listeners = &self.listeners;
            let ready = poll_fn(|context| {
                let ready = |listener: &Listener| listener.poll_ready(context).is_ready();
                // All of them are asked, so that each knows whom to wake.
                match listeners.iter().map(ready).filter(|ready| *ready).count() {
                    0 => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            });
            tokio::select! {
                command = orders.recv() => match command {
                    Some(command) => self.obey(clock::now(), command),
                    None => return,
                },
                () = ready => {}
                () = clock::sleep_until(deadline) => {}
            }
            while let Ok(command) = orders.try_recv() {
                self.obey(clock::now(), command);
            }
            // First the time, then what came until then, then what follows from both.
            let now = clock::now();
            self.drain(now);
            self.judge(now);
        }
    }

    fn obey(&mut self, now: Instant, command: Command) {
        match command {
            Command::Watch {
                discriminator,
                peer,
                path,
                settings,
                news,
            } => {
                let names = self.by_address.entry(path.remote).or_default();
                names.push(discriminator);
                let entry = Entry::new(now, discriminator, peer, path, settings, news);
                self.sessions.insert(discriminator, entry);
                self.touch(now, discriminator, None);
            }
            Command::Configure(session, settings) => {
                self.touch(now, session, Some(Event::Configure(settings)));
            }
            Command::Remove(session) => {
                self.touch(now, session, Some(Event::Shut));
                self.forget_where_over(now, session);
            }
            Command::Leave(session) => {
                if let Some(entry) = self.sessions.get_mut(&session) {
                    entry.ends = Some(now);
                }
                self.forget_where_over(now, session);
            }
            Command::Report(session, reply) => {
                if let Some(entry) = self.sessions.get(&session) {
                    let ear = entry.ear();
                    let deaf = ear.and_then(|ear| self.deaf.get(&ear));
                    drop(reply.send(entry.status(deaf.cloned())));
                }
            }
            Command::Discarded(reply) => {
                let all = self.discarded.iter().map(|(why, count)| (*why, *count));
                drop(reply.send(all.collect()));
            }
            Command::Settle(reply) => drop(reply.send(())),
        }
    }

    /// Gives a session what happened, and looks when it has something to do next.
    fn touch(&mut self, now: Instant, discriminator: u32, event: Option<Event>) {
        let Some(entry) = self.sessions.get_mut(&discriminator) else {
            return;
        };
        if let Some(armed) = entry.armed.take() {
            self.due.remove(&(armed, discriminator));
        }
        match event {
            Some(event) => entry.handle(now, event, &mut self.port),
            None => entry.handle_timeout(now, &mut self.port),
        }
        entry.armed = entry.next_timeout();
        if let Some(at) = entry.armed {
            self.due.insert((at, discriminator));
        }
        if let Some(ear) = entry.ear() {
            self.listen(now, ear);
        }
    }

    /// What was held down on purpose is gone once the other side must know.
    fn forget_where_over(&mut self, now: Instant, discriminator: u32) {
        let over = |entry: &Entry| entry.ends.is_some_and(|at| at <= now);
        if !self.sessions.get(&discriminator).is_some_and(over) {
            return;
        }
        if let Some(entry) = self.sessions.remove(&discriminator) {
            if let Some(armed) = entry.armed {
                self.due.remove(&(armed, discriminator));
            }
            if let Some(names) = self.by_address.get_mut(&entry.path.remote) {
                names.retain(|name| *name != discriminator);
            }
            self.by_address.retain(|_, names| !names.is_empty());
        }
        if self.sessions.is_empty() {
            self.listeners.clear();
            self.deaf.clear();
            self.again = None;
        }
    }

    fn judge(&mut self, now: Instant) {
        let due = self
            .due
            .range(..=(now, u32::MAX))
            .map(|(_, session)| *session);
        for discriminator in due.collect::<Vec<_>>() {
            self.touch(now, discriminator, None);
            self.forget_where_over(now, discriminator);
        }
        if self.again.is_some_and(|at| at <= now) {
            self.again = None;
            for ear in std::mem::take(&mut self.deaf).into_keys() {
                self.listen(now, ear);
            }
        }
    }

    fn listen(&mut self, now: Instant, ear: Ear) {
        let same = |listener: &Listener| listener.ear == ear;
        if self.listeners.iter().any(same) || self.deaf.contains_key(&ear) {
            return;
        }
        match Listener::open(now, ear) {
            Ok(listener) => self.listeners.push(listener),
            Err(error) => {
                let text = format!(
                    "cannot listen on UDP port {} for BFD: {error}; another BFD daemon on this node?",
                    ear.port()
                );
                tracing::warn!(problem = %text, "not listening");
                self.deaf.insert(ear, text);
                self.again = Some(now + AGAIN);
            }
        }
    }

    fn drain(&mut self, now: Instant) {
        let mut all = std::mem::take(&mut self.arrived);
        for listener in &mut self.listeners {
            let multihop = listener.ear.multihop;
            listener.drain(now, |datagram| all.push((multihop, datagram)));
        }
        for (multihop, datagram) in all.drain(..) {
            self.came(now, multihop, &datagram);
        }
        self.arrived = all;
    }

    /// RFC 5880 §6.8.6 up to the session; RFC 5881 §5 before it.
    fn came(&mut self, now: Instant, multihop: bool, datagram: &Datagram) {
        match self.whose(multihop, datagram) {
            Ok((discriminator, packet)) => {
                let event = Event::Received(packet, datagram.arrived);
                self.touch(now, discriminator, Some(event));
            }
            Err(why) => {
                let of = self.by_address.get(&datagram.from.ip());
                let entry = of
                    .and_then(|names| names.last())
                    .and_then(|name| self.sessions.get_mut(name));
                let counted = match entry {
                    Some(entry) => &mut entry.discarded,
                    None => &mut self.discarded,
                };
                let count = counted.entry(why).or_default();
                *count = count.saturating_add(1);
            }
        }
    }

    fn whose(&self, multihop: bool, datagram: &Datagram) -> Result<(u32, Packet), Discard> {
        if !multihop && datagram.ttl != TTL {
            return Err(Discard::TtlTooLow);
        }
        let packet = Packet::read(datagram.octets())?;
        let fits = |entry: &Entry| entry.takes(multihop, datagram);
        let named = packet.your_discriminator;
        let found = if named == 0 {
            let names = self.by_address.get(&datagram.from.ip());
            let entries = names
                .into_iter()
                .flatten()
                .filter_map(|name| self.sessions.get(name));
            // One that is on its way out meant the same path; who begins anew means the one that stays.
            entries
                .filter(|entry| entry.ends.is_none() && fits(entry))
                .max_by_key(|entry| entry.path.source == Some(datagram.to))
                .ok_or(Discard::Stranger)?
        } else {
            let entry = self.sessions.get(&named);
            let entry = entry.ok_or(Discard::UnknownDiscriminator)?;
            if !fits(entry) {
                return Err(Discard::WrongAddress);
            }
            entry
        };
        if datagram.ttl < found.path.least_ttl {
            return Err(Discard::TtlTooLow);
        }
        Ok((found.session.discriminator(), packet))
    }
}
