//! One TCP stream of a peer: chunks to messages, messages to as few writes as can be.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::mpsc,
};

use super::super::{
    fsm::{ConnectionId, Loss},
    incoming::{Incoming, Read, Seen},
    outgoing::Outgoing,
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
    wire::{Kind, Message, Notification},
};

/// Octets read at once. The chunk belongs to the thread: a thousand idle sessions need none.
const CHUNK: usize = 256 * 1024;
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
    incoming: Incoming,
    outgoing: Outgoing,
    /// What records of it say; without AS numbers until the OPENs have met.
    ends: Ends,
    /// The socket takes no more for ever; what it still has to say is read.
    mute: bool,
    /// The socket was full when last asked.
    blocked: bool,
    patience: Duration,
    /// What its segments are signed with.
    keys: Option<Keys>,
    /// Our OPEN and theirs, as they went over the wire.
    opens: [Bytes; 2],
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
            incoming: Incoming::new(id),
            outgoing: Outgoing::default(),
            mute: false,
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
        self.incoming.agreed(agreed.context);
        self.outgoing.agreed(agreed.context);
        self.ends.peer_asn = agreed.asn;
        self.ends.local_asn = local_asn;
        self.patience = agreed.hold;
        self.set_patience(agreed.hold);
    }

    /// Queues a message of the session itself; says whether it is worth sending.
    pub(super) fn send(&mut self, message: &Message) -> bool {
        let Some(octets) = self.outgoing.send(message) else {
            return false;
        };
        if let (Message::Open(_), [sent, _]) = (message, &mut self.opens) {
            *sent = octets;
        }
        true
    }

    /// Takes what the Rib has, as far as it can be written soon.
    pub(super) fn take(
        &mut self,
        messages: &mut mpsc::UnboundedReceiver<Bytes>,
        context: &mut Context<'_>,
    ) {
        while self.outgoing.has_room() {
            let Poll::Ready(Some(octets)) = messages.poll_recv(context) else {
                return;
            };
            self.outgoing.push(octets);
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
        if self.incoming.is_deaf() {
            return Poll::Pending;
        }
        let mut tape = Tape::new(self.ends, &mut self.opens, recorder);
        if let Some(read) = self.incoming.resume(|seen| tape.note(seen)) {
            tape.record();
            return Poll::Ready(Progress::Messages(read));
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
        let kept = self.incoming.unparsed().len();
        let Some((before, room)) = chunk.split_at_mut_checked(kept) else {
            return self.give_up(Loss::Closed, "more was kept than a message can be".into());
        };
        before.copy_from_slice(self.incoming.unparsed());
        let mut buffer = ReadBuf::new(room);
        match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => {
                self.give_up(Loss::Closed, "it closed the connection".into())
            }
            Ok(()) => {
                let count = buffer.filled().len();
                let whole = chunk.get(..kept.saturating_add(count)).unwrap_or_default();
                let mut tape = Tape::new(self.ends, &mut self.opens, recorder);
                let read = self.incoming.take(whole, |seen| tape.note(seen));
                tape.record();
                Poll::Ready(Progress::Messages(read))
            }
            Err(error) => {
                let (loss, reason) = lost(&error);
                self.give_up(loss, reason)
            }
        }
    }

    fn give_up(&mut self, loss: Loss, reason: String) -> Poll<Progress> {
        self.incoming.deafen();
        Poll::Ready(Progress::Lost(loss, reason))
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
        !self.outgoing.is_empty()
    }

    /// Writes what waits, as far as the socket takes it. Ready when something went out.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Written> {
        let mut written = Written::default();
        let mut total = 0_usize;
        while !self.outgoing.is_empty() && !self.mute && total < BURST {
            let Poll::Ready(ready) = self.stream.poll_write_ready(context) else {
                self.set_blocked(true);
                break;
            };
            let slices: smallvec::SmallVec<[IoSlice<'_>; Outgoing::PIECES]> =
                self.outgoing.pieces().map(IoSlice::new).collect();
            match ready.and_then(|()| self.stream.try_write_vectored(&slices)) {
                Ok(count) => {
                    drop(slices);
                    total = total.saturating_add(count);
                    written.of_rib = written.of_rib.saturating_add(self.outgoing.went_out(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Its last words may still stand in the receive buffer: reading tells what happened.
                Err(_) => self.mute = true,
            }
        }
        if self.outgoing.is_empty() {
            self.set_blocked(false);
        }
        if total == 0 {
            Poll::Pending
        } else {
            Poll::Ready(written)
        }
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

/// Writes down what comes: the OPEN, and, if anybody records, UPDATEs, whatever they say.
struct Tape<'a> {
    ends: Ends,
    opens: &'a mut [Bytes; 2],
    recorder: Option<&'a Recorder>,
    records: BytesMut,
}

impl<'a> Tape<'a> {
    fn new(ends: Ends, opens: &'a mut [Bytes; 2], recorder: Option<&'a Recorder>) -> Self {
        Self {
            ends,
            opens,
            recorder,
            records: BytesMut::new(),
        }
    }

    fn note(&mut self, seen: &Seen<'_>) {
        let octets = seen.frame.octets();
        match (seen.frame.kind(), &mut *self.opens) {
            (Kind::Open, [_, received]) => *received = Bytes::copy_from_slice(octets),
            (Kind::Update, _) if self.recorder.is_some() => {
                let family = match seen.message {
                    Some(Message::Update(update)) => update.family(),
                    _ => None,
                };
                let (family, now) = (family.unwrap_or(Family::IPv4), SystemTime::now());
                let (ends, records) = (&self.ends, &mut self.records);
                mrt::message(ends, seen.context, family, octets, now, records);
            }
            _ => {}
        }
    }

    fn record(self) {
        if let Some(recorder) = self.recorder {
            recorder.record(self.records.freeze());
        }
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
    let octets = link.outgoing.last_words(said);
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
