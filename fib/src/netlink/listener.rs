//! A socket for events: links, addresses, neighbours, and the routes that others change.

use std::io;

use rtnetlink::{
    MulticastGroup,
    sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};
use socket2::{SockFilter, SockRef};
use tracing::warn;

use crate::{
    error::Error,
    kernel::{KernelEvent, Signal},
    netlink::{decode, frame::frames, requester::widen},
};

/// 64 MB hold a burst of several 100,000 routes by others.
const SOCKET_BUFFER: usize = 64 << 20;
const RECEIVE_OCTETS: usize = 64 * 1024;
/// So many receives are told as one signal.
const RECEIVES: usize = 256;
const MSG_DONTWAIT: i32 = 0x40;
const ENOBUFS: i32 = 105;

/// See the top of the file.
pub(super) struct Listener {
    socket: TokioSocket,
    own_port: u32,
    buffer: Vec<u8>,
}

impl Listener {
    /// Opens the socket in the network namespace of the calling thread; what `own_port` changed is not told.
    pub(super) fn open(own_port: u32) -> Result<Self, Error> {
        let failed = |source| Error::Netlink {
            what: "listening to the kernel",
            source,
        };
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            // Kernels without next-hop objects have no such group, and take no offence.
            MulticastGroup::Nexthop,
        ];
        let groups = groups
            .into_iter()
            .fold(0_u32, |bits, group| bits | 1 << (group as u32 - 1));
        let mut listener = TokioSocket::new(NETLINK_ROUTE).map_err(failed)?;
        let socket = listener.socket_mut();
        widen(socket, SOCKET_BUFFER);
        if let Err(error) = SockRef::from(&*socket).attach_filter(&only_news(own_port)) {
            warn!(%error, "no socket filter: our own changes come back as events");
        }
        socket.bind(&SocketAddr::new(0, groups)).map_err(failed)?;
        Ok(Self {
            socket: listener,
            own_port,
            buffer: Vec::with_capacity(RECEIVE_OCTETS),
        })
    }

    /// The next events, or that some were lost. Cancel-safe: nothing is received before it is told.
    pub(super) async fn next(&mut self) -> Signal {
        loop {
            self.buffer.clear();
            let mut received = self.socket.recv(&mut self.buffer).await;
            let mut events = Vec::new();
            for _ in 0..RECEIVES {
                match received {
                    Ok(()) => self.decode(&mut events),
                    // What was received before is in the reading that follows.
                    Err(error) if error.raw_os_error() == Some(ENOBUFS) => return Signal::Overrun,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(source) => return gone(source),
                }
                self.buffer.clear();
                received = self
                    .socket
                    .socket_ref()
                    .recv(&mut self.buffer, MSG_DONTWAIT)
                    .map(|_| ());
            }
            if !events.is_empty() {
                return Signal::Changed(events);
            }
        }
    }

    fn decode(&self, events: &mut Vec<KernelEvent>) {
        let foreign = frames(&self.buffer).filter(|frame| frame.port != self.own_port);
        events.extend(
            foreign
                .filter_map(|frame| decode::message(&frame))
                .map(KernelEvent::from),
        );
    }
}

fn gone(source: io::Error) -> Signal {
    Signal::Gone(Error::Netlink {
        what: "listening to the kernel",
        source,
    })
}

/// A classic BPF program that drops what would only wake us: messages whose `nlmsg_pid` is ours (with a listener
/// beside it in the same process the writer would otherwise be held up by its own echoes), and all of the
/// neighbours' comings and goings but failures.
fn only_news(own_port: u32) -> [SockFilter; 9] {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HALF: u16 = 0x28;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const NLMSG_TYPE: u32 = 4;
    const NLMSG_PID: u32 = 12;
    const NDM_STATE: u32 = 24;
    const RTM_NEWNEIGH: u16 = 28;
    const RTM_DELNEIGH: u16 = 29;
    const NUD_FAILED: u16 = 0x20;
    // BPF loads in network byte order what netlink writes in the host's.
    let word = |value: u32| u32::from_be_bytes(value.to_ne_bytes());
    let half = |value: u16| u32::from(u16::from_be_bytes(value.to_ne_bytes()));
    [
        SockFilter::new(LOAD_WORD, 0, 0, NLMSG_PID),
        SockFilter::new(JUMP_IF_EQUAL, 6, 0, word(own_port)),
        SockFilter::new(LOAD_HALF, 0, 0, NLMSG_TYPE),
        SockFilter::new(JUMP_IF_EQUAL, 4, 0, half(RTM_DELNEIGH)),
        SockFilter::new(JUMP_IF_EQUAL, 0, 2, half(RTM_NEWNEIGH)),
        SockFilter::new(LOAD_HALF, 0, 0, NDM_STATE),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, half(NUD_FAILED)),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
