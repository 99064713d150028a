//! One TCP stream of a peer: chunks to messages, messages to as few writes as can be.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::mpsc,
};

use super::super::{
    fsm::{ConnectionId, Event, Loss},
    socket_options::{ao, set_md5_key},
    sockets,
};
use crate::{
    bmp::Opening,
    config::{Keys, Password},
    mrt::{self, Ends, record::Recorder},
    peer::negotiate::Negotiated,
    prefix::{Family, Prefix},
    status::SignedWith,
    wire::{self, Kind, Limit, Message, Notification},
};

/// Octets read at once. The chunk belongs to the thread: a thousand idle sessions need none.
const CHUNK: usize = 256 * 1024;
/// Pieces written at once.
const PIECES: usize = 64;
/// Octets written before others get their turn.
const BURST: usize = 1024 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One connection with its socket.
pub(super) struct Link {
    pub(super) id: ConnectionId,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    stream: TcpStream,
    context: wire::Context,
    /// What records of it say; without AS numbers until the OPENs have met.
    ends: Ends,
    /// Set once the OPENs have met.
    limit: Option<Limit>,
    /// What was read but is not a whole message yet, or stands behind an OPEN.
    unparsed: Vec<u8>,
    /// Nothing that comes now is of interest: it broke the rules, or is gone.
    deaf: bool,
    /// The socket takes no more for ever; what it still has to say is read.
    mute: bool,
    waiting: VecDeque<Piece>,
    /// The socket was full when last asked.
    blocked: bool,
    patience: Duration,
    /// What its segments are signed with.
    keys: Option<Keys>,
    /// Our OPEN and theirs, as they went over the wire.
    opens: [Bytes; 2],
}

/// One or more whole messages on their way out.
struct Piece {
    octets: Bytes,
    of_rib: bool,
}

/// What became of the key of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signing {
    /// It is the same.
    Stays,
    /// It is another.
    Changed,
}

/// What reading brought.
pub(super) enum Progress {
    /// Messages.
    Messages(Read),
    /// The end.
    Lost(Loss, String),
}

/// What was in a chunk.
#[derive(Default)]
pub(super) struct Read {
    /// For the Fsm, in order; UPDATEs that follow each other together.
    pub(super) events: Vec<Event>,
    /// All messages.
    pub(super) messages: u64,
    /// UPDATEs among them.
    pub(super) updates: u64,
}

/// How much was written.
#[derive(Clone, Copy, Default)]
pub(super) struct Written {
    /// Octets that the Rib counts.
    pub(super) of_rib: usize,
}

impl Link {
    pub(super) fn new(
        id: ConnectionId,
        stream: TcpStream,
        patience: Duration,
        keys: Option<Keys>,
    ) -> io::Result<Self> {
        let local = sockets::canonical(stream.local_addr()?);
        let remote = sockets::canonical(stream.peer_addr()?);
        Ok(Self {
            id,
            local,
            remote,
            ends: Ends {
                peer_asn: 0,
                local_asn: 0,
                peer: remote.ip(),
                local: Some(local.ip()),
            },
            stream,
            context: wire::Context::default(),
            limit: None,
            unparsed: Vec::new(),
            deaf: false,
            mute: false,
            waiting: VecDeque::new(),
            blocked: false,
            patience,
            keys,
            opens: [Bytes::new(), Bytes::new()],
        })
    }

    /// How the session over it came to be.
    pub(super) fn opening(&self) -> Opening {
        let [sent, received] = self.opens.clone();
        Opening {
            local_port: self.local.port(),
            remote_port: self.remote.port(),
            sent,
            received,
        }
    }

    /// Goes over to another password without a new session. An MD5 key that it knows stays; else we sign with its current one
    /// from here on, and what the other side signs with another is dropped and sent again, until it does so too or TCP loses
    /// patience. TCP-AO has both sides agree on when to change.
    pub(super) fn sign(&mut self, password: &Password) -> io::Result<Signing> {
        let remote = self.remote.ip();
        let keys = match (&self.keys, password) {
            (Some(Keys::Md5(old)), Password::Key(new)) if !new.knows(old) => {
                set_md5_key(&self.stream, Prefix::host(remote), &new.current)?;
                Keys::Md5(new.current.clone())
            }
            (Some(Keys::Ao(old)), Password::Ao(new)) if old != new => {
                ao::roll(&self.stream, remote, old, new)?;
                Keys::Ao(Arc::clone(new))
            }
            _ => return Ok(Signing::Stays),
        };
        self.keys = Some(keys);
        Ok(Signing::Changed)
    }

    /// Which keys of this password sign it.
    pub(super) fn signed_with(&self, password: &Password) -> Option<SignedWith> {
        Some(match (self.keys.as_ref()?, password) {
            (Keys::Ao(_), _) => SignedWith::TcpAo,
            (Keys::Md5(key), Password::Key(known)) if *key == known.current => SignedWith::Current,
            (Keys::Md5(_), _) => SignedWith::Previous,
        })
    }

    /// From here on messages are read and written by what was agreed.
    pub(super) fn agreed(&mut self, agreed: &Negotiated, local_asn: u32) {
        self.context = agreed.context;
        self.ends.peer_asn = agreed.asn;
        self.ends.local_asn = local_asn;
        // We offer extended messages always, and so have to take them.
        self.limit = Some(Limit::Extended);
        self.patience = agreed.hold;
        self.set_patience(agreed.hold);
    }

    /// Queues a message of the session itself. A KEEPALIVE is left out where UPDATEs wait: they say the same
    /// (the first one of a session, which says more, comes before any UPDATE); or where the peer takes nothing anyway.
    pub(super) fn send(&mut self, message: &Message) -> bool {
        let updates = self.waiting.iter().any(|piece| piece.of_rib);
        let stuck = self.waiting.len() >= PIECES;
        if matches!(message, Message::Keepalive) && (updates || stuck) {
            return false;
        }
        let mut octets = BytesMut::new();
        if let Err(error) = message.write(&self.context, &mut octets) {
            tracing::error!(%error, "a message of ours cannot be written");
            return false;
        }
        let octets = octets.freeze();
        if let (Message::Open(_), [sent, _]) = (message, &mut self.opens) {
            *sent = octets.clone();
        }
        self.waiting.push_back(Piece {
            octets,
            of_rib: false,
        });
        true
    }

    /// Takes what the Rib has, as far as it can be written soon.
    pub(super) fn take(
        &mut self,
        messages: &mut mpsc::UnboundedReceiver<Bytes>,
        context: &mut Context<'_>,
    ) {
        while self.waiting.len() < PIECES {
            let Poll::Ready(Some(octets)) = messages.poll_recv(context) else {
                return;
            };
            self.waiting.push_back(Piece {
                octets,
                of_rib: true,
            });
        }
    }

    /// What records of it say.
    pub(super) const fn ends(&self) -> Ends {
        self.ends
    }

    /// Reads a chunk, or goes on with what the last one left. UPDATEs are recorded as they came, if anybody does.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        recorder: Option<&Recorder>,
    ) -> Poll<Progress> {
        if self.deaf {
            return Poll::Pending;
        }
        if !self.unparsed.is_empty() {
            let rest = std::mem::take(&mut self.unparsed);
            let (read, left) = self.parse(&rest, recorder);
            self.unparsed = rest;
            self.unparsed
                .drain(..self.unparsed.len().saturating_sub(left));
            if read.messages > 0 || self.deaf {
                return Poll::Ready(Progress::Messages(read));
            }
        }
        SCRATCH.with_borrow_mut(|chunk| self.read_chunk(chunk, context, recorder))
    }

    fn read_chunk(
        &mut self,
        chunk: &mut Vec<u8>,
        context: &mut Context<'_>,
        recorder: Option<&Recorder>,
    ) -> Poll<Progress> {
        chunk.resize(CHUNK, 0);
        let kept = self.unparsed.len();
        let Some((before, room)) = chunk.split_at_mut_checked(kept) else {
            return self.give_up(Loss::Closed, "more was kept than a message can be".into());
        };
        before.copy_from_slice(&self.unparsed);
        let mut buffer = ReadBuf::new(room);
        match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => {
                self.give_up(Loss::Closed, "it closed the connection".into())
            }
            Ok(()) => {
                let count = buffer.filled().len();
                let whole = chunk.get(..kept.saturating_add(count)).unwrap_or_default();
                let (read, left) = self.parse(whole, recorder);
                let rest = whole.get(whole.len().saturating_sub(left)..);
                self.unparsed = rest.unwrap_or_default().to_vec();
                Poll::Ready(Progress::Messages(read))
            }
            Err(error) => {
                let (loss, reason) = lost(&error);
                self.give_up(loss, reason)
            }
        }
    }

    fn give_up(&mut self, loss: Loss, reason: String) -> Poll<Progress> {
        self.deaf = true;
        Poll::Ready(Progress::Lost(loss, reason))
    }

    /// Messages up to an OPEN (what follows it may have to be read otherwise) or an error, and how many octets are left.
    fn parse(&mut self, mut octets: &[u8], recorder: Option<&Recorder>) -> (Read, usize) {
        let mut read = Read::default();
        let mut records = BytesMut::new();
        let mut updates = Vec::new();
        while !octets.is_empty() {
            let message = match wire::frame(octets, self.limit.unwrap_or_default()) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    octets = octets.get(frame.octets().len()..).unwrap_or_default();
                    if let (Kind::Open, [_, received]) = (frame.kind(), &mut self.opens) {
                        *received = Bytes::copy_from_slice(frame.octets());
                    }
                    if frame.kind() == Kind::Update && self.limit.is_none() {
                        // Out of place whatever it says.
                        Ok(Some(Message::Update(wire::Update::default())))
                    } else {
                        let message = frame.message(&self.context);
                        if frame.kind() == Kind::Update && recorder.is_some() {
                            self.record(&message, frame.octets(), &mut records);
                        }
                        message
                    }
                }
                Err(error) => Err(error),
            };
            read.messages = read.messages.saturating_add(1);
            match message {
                Ok(Some(Message::Update(update))) => {
                    read.updates = read.updates.saturating_add(1);
                    updates.push(update);
                    continue;
                }
                Ok(None) => continue,
                other => {
                    flush(&mut updates, self.id, &mut read.events);
                    match other {
                        Ok(Some(message)) => {
                            let open = matches!(message, Message::Open(_));
                            read.events.push(Event::Received(self.id, message));
                            if open {
                                break;
                            }
                        }
                        Ok(None) => {}
                        Err(error) => {
                            let reason = format!("malformed message: {error}");
                            let said = error.notification();
                            read.events.push(Event::Malformed(self.id, said, reason));
                            self.deaf = true;
                            octets = &[];
                        }
                    }
                }
            }
        }
        flush(&mut updates, self.id, &mut read.events);
        if let Some(recorder) = recorder {
            recorder.record(records.freeze());
        }
        (read, octets.len())
    }

    /// Writes an UPDATE down, whatever it says.
    fn record(
        &self,
        message: &Result<Option<Message>, wire::WireError>,
        octets: &[u8],
        records: &mut BytesMut,
    ) {
        let family = match message {
            Ok(Some(Message::Update(update))) => update.family(),
            _ => None,
        };
        let family = family.unwrap_or(Family::IPv4);
        let now = SystemTime::now();
        mrt::message(&self.ends, &self.context, family, octets, now, records);
    }

    /// Whether the kernel holds octets for us, or the end of the stream: a word that was said in time but not heard yet.
    pub(super) fn has_unread(&self) -> bool {
        let mut octet = [std::mem::MaybeUninit::uninit()];
        SockRef::from(&self.stream)
            .peek(&mut octet)
            .is_ok_and(|count| count > 0)
    }

    /// Whether octets of ours wait for the socket.
    pub(super) fn has_unsent(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what waits, as far as the socket takes it. Ready when something went out.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Written> {
        let mut written = Written::default();
        let mut total = 0_usize;
        while !self.waiting.is_empty() && !self.mute && total < BURST {
            let Poll::Ready(ready) = self.stream.poll_write_ready(context) else {
                self.set_blocked(true);
                break;
            };
            let slices: smallvec::SmallVec<[IoSlice<'_>; PIECES]> = self
                .waiting
                .iter()
                .take(PIECES)
                .map(|piece| IoSlice::new(&piece.octets))
                .collect();
            match ready.and_then(|()| self.stream.try_write_vectored(&slices)) {
                Ok(count) => {
                    drop(slices);
                    total = total.saturating_add(count);
                    written.of_rib = written.of_rib.saturating_add(self.went_out(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Its last words may still stand in the receive buffer: reading tells what happened.
                Err(_) => self.mute = true,
            }
        }
        if self.waiting.is_empty() {
            self.set_blocked(false);
        }
        if total == 0 {
            Poll::Pending
        } else {
            Poll::Ready(written)
        }
    }

    /// Takes `count` written octets off what waits; gives how many of them the Rib counts.
    fn went_out(&mut self, mut count: usize) -> usize {
        let mut of_rib = 0_usize;
        while let Some(piece) = self.waiting.front_mut() {
            let step = count.min(piece.octets.len());
            if piece.of_rib {
                of_rib = of_rib.saturating_add(step);
            }
            count = count.saturating_sub(step);
            if step < piece.octets.len() {
                piece.octets.advance(step);
                break;
            }
            self.waiting.pop_front();
        }
        of_rib
    }

    /// While the peer takes nothing it is the send hold timer's turn (RFC 9687), not that of TCP, which knows no difference
    /// between a closed window and a dead path.
    fn set_blocked(&mut self, blocked: bool) {
        if self.blocked != blocked {
            self.blocked = blocked;
            self.set_patience(if blocked {
                Duration::ZERO
            } else {
                self.patience
            });
        }
    }

    fn set_patience(&self, patience: Duration) {
        if let Err(error) = sockets::set_patience(SockRef::from(&self.stream), patience) {
            tracing::debug!(%error, "no TCP user timeout");
        }
    }
}

fn flush(updates: &mut Vec<wire::Update>, id: ConnectionId, events: &mut Vec<Event>) {
    if !updates.is_empty() {
        events.push(Event::Updates(id, std::mem::take(updates)));
    }
}

/// What an error of a socket means.
pub(super) fn lost(error: &io::Error) -> (Loss, String) {
    match error.raw_os_error() {
        Some(libc::ECONNRESET | libc::EPIPE) => {
            (Loss::Closed, "it reset the connection".to_owned())
        }
        Some(libc::ETIMEDOUT) => (
            Loss::Unresponsive,
            "nothing we sent was acknowledged (TCP timed out)".to_owned(),
        ),
        _ => (Loss::Unresponsive, error.to_string()),
    }
}

/// Says why, and waits until it is heard: a close with unread octets would be a reset, which can overtake what was said.
pub(super) async fn farewell(mut link: Link, said: Notification, patience: Duration) {
    let mut octets = BytesMut::new();
    // A message that has begun has to be finished.
    if let Some(begun) = link.waiting.pop_front() {
        octets.extend_from_slice(&begun.octets);
    }
    if let Err(error) = Message::Notification(said).write(&link.context, &mut octets) {
        tracing::error!(%error, "a NOTIFICATION of ours cannot be written");
    }
    let goodbye = async {
        link.stream.write_all(&octets).await?;
        link.stream.shutdown().await?;
        let mut sink = [0; 4096];
        while link.stream.read(&mut sink).await? > 0 {}
        io::Result::Ok(())
    };
    if !matches!(tokio::time::timeout(patience, goodbye).await, Ok(Ok(()))) {
        tracing::debug!(remote = %link.remote, "the last words may not have been heard");
    }
}
