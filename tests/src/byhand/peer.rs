//! One connection of a speaker by hand, out of the network of a node of the lab.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Socket, Type};

use super::{HEADER, Heard, Open, keepalive, kind};
use crate::container::Container;
use crate::wait::{eventually, now};

/// How long an answer may take on a busy machine.
const ANSWER: Duration = Duration::from_secs(10);

/// Runs `act` on a thread that stands in the network of `container`; a socket made there stays there.
pub fn inside<T: Send>(container: &Container, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let netns = File::open(format!("/proc/{}/ns/net", container.init.pid))?;
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                setns(netns, CloneFlags::CLONE_NEWNET)?;
                act()
            })
            .join()
            .map_err(|_| anyhow!("a thread inside {} panicked", container.name))?
    })
}

/// One TCP connection.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    heard: Vec<u8>,
    /// Where in `heard` the next message begins.
    next: usize,
}

impl Peer {
    /// Connects from `from`, an address of `container`, to port 179 of `to`; tried until it is accepted.
    pub fn dial(container: &Container, from: IpAddr, to: IpAddr) -> Result<Self> {
        Self::dial_with(container, from, to, |_| Ok(()))
    }

    /// As [`Peer::dial`]; `prepare` may set options of the socket first.
    pub fn dial_with(
        container: &Container,
        from: IpAddr,
        to: IpAddr,
        prepare: impl Fn(&Socket) -> Result<()> + Sync,
    ) -> Result<Self> {
        inside(container, || {
            eventually(ANSWER, &format!("{to} accepts {from}"), || {
                let socket =
                    Socket::new(Domain::for_address((to, 179).into()), Type::STREAM, None)?;
                prepare(&socket)?;
                socket.bind(&SocketAddr::from((from, 0)).into())?;
                socket.connect_timeout(&SocketAddr::from((to, 179)).into(), ANSWER)?;
                socket.set_tcp_nodelay(true)?;
                Ok(Self::on(socket.into()))
            })
        })
    }

    /// Speaks on a connection that is there.
    #[must_use]
    pub fn on(stream: TcpStream) -> Self {
        Self {
            stream,
            heard: Vec::new(),
            next: 0,
        }
    }

    /// A second handle on the connection, to write to while this one reads.
    pub fn writer(&self) -> Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    /// Sends octets.
    pub fn send(&mut self, octets: &[u8]) -> Result<()> {
        self.stream.write_all(octets).context("send")
    }

    /// The next message, waiting at most `wait` for it.
    pub fn hear(&mut self, wait: Duration) -> Result<Heard> {
        let start = now();
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(Heard::Silence);
            }
            if !self.read(left)? {
                return Ok(Heard::Closed);
            }
        }
    }

    /// A whole message out of what was read.
    fn take(&mut self) -> Result<Option<Heard>> {
        let waiting = self.heard.get(self.next..).unwrap_or_default();
        let Some(header) = waiting.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [marker @ .., high, low, kind] = header;
        ensure!(
            marker.iter().all(|octet| *octet == 0xff),
            "a message without marker: {header:x?}"
        );
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        ensure!(length >= HEADER, "a message of {length} octets");
        let Some(body) = waiting.get(HEADER..length) else {
            return Ok(None);
        };
        let message = Heard::Message {
            kind: *kind,
            body: body.to_vec(),
        };
        self.next += length;
        Ok(Some(message))
    }

    /// Whether the connection is still open after reading what is there, waiting at most `wait` for it.
    fn read(&mut self, wait: Duration) -> Result<bool> {
        self.heard.drain(..self.next);
        self.next = 0;
        let mut chunk = [0; 65_536];
        self.stream.set_read_timeout(Some(wait))?;
        match self.stream.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.heard.extend(chunk.get(..count).unwrap_or_default());
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error).context("read"),
        }
    }

    /// The body of the next message of type `wanted`; whatever comes before it is passed over, but not a NOTIFICATION.
    pub fn await_kind(&mut self, wanted: u8) -> Result<Vec<u8>> {
        let start = now();
        loop {
            match self.hear(ANSWER.saturating_sub(start.elapsed()))? {
                Heard::Message { kind, body } if kind == wanted => return Ok(body),
                Heard::Message {
                    kind: kind::NOTIFICATION,
                    body,
                } => bail!("NOTIFICATION {body:?} instead of a message of type {wanted}"),
                Heard::Message { .. } => {}
                other => bail!("{other:?} instead of a message of type {wanted}"),
            }
        }
    }

    /// Code, subcode and data of the NOTIFICATION that ends the session.
    pub fn refusal(&mut self) -> Result<(u8, u8, Vec<u8>)> {
        match &*self.await_kind(kind::NOTIFICATION)? {
            [code, subcode, data @ ..] => Ok((*code, *subcode, data.to_vec())),
            short => bail!("a NOTIFICATION of {} octets", short.len()),
        }
    }

    /// Waits for the connection to be closed; whatever comes before is passed over.
    pub fn closed(&mut self, wait: Duration) -> Result<()> {
        let start = now();
        loop {
            match self.hear(wait.saturating_sub(start.elapsed()))? {
                Heard::Closed => return Ok(()),
                Heard::Message { .. } => {}
                Heard::Silence => bail!("not closed within {wait:?}"),
            }
        }
    }

    /// Goes through OPEN and KEEPALIVE; their OPEN's body.
    pub fn establish(&mut self, open: &Open) -> Result<Vec<u8>> {
        self.send(&open.octets())?;
        let theirs = self.await_kind(kind::OPEN)?;
        self.send(&keepalive())?;
        self.await_kind(kind::KEEPALIVE)?;
        Ok(theirs)
    }
}
