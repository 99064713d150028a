//! The way between a session and the Rib: what waits to be heard there, and what comes from it.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::{super::fsm::ConnectionId, link::Written};
use crate::rib::task::{Order, Outbound, PeerId, PeerMessage, Room, ToRib};

/// Batches of UPDATEs that wait for the Rib at most, before no more is read.
const BACKLOG: usize = 2;

/// The Rib, as one peer sees it.
pub(super) struct Routes {
    id: PeerId,
    rib: PollSender<ToRib>,
    /// What waits for the Rib, in order. Little more than [`BACKLOG`]: what a chunk of the socket holds, and the begin and the
    /// end of sessions, which wait for each other.
    backlog: VecDeque<PeerMessage>,
    session: Option<Up>,
}

/// The established session, on this side of the Rib.
struct Up {
    connection: ConnectionId,
    /// Bounded in octets by [`Room`].
    messages: mpsc::UnboundedReceiver<Bytes>,
    /// At most a few: the Rib closes a session once.
    orders: mpsc::UnboundedReceiver<Box<Order>>,
    room: Arc<Room>,
}

impl Routes {
    pub(super) fn new(id: PeerId, rib: mpsc::Sender<ToRib>) -> Self {
        Self {
            id,
            rib: PollSender::new(rib),
            backlog: VecDeque::new(),
            session: None,
        }
    }

    /// So much waits for the Rib that nothing more should be read.
    pub(super) fn is_behind(&self) -> bool {
        self.backlog.len() >= BACKLOG
    }

    /// The Rib has heard all.
    pub(super) fn is_level(&self) -> bool {
        self.backlog.is_empty()
    }

    /// Says this to the Rib, after all that waits.
    pub(super) fn say(&mut self, message: PeerMessage) {
        self.backlog.push_back(message);
    }

    /// The Rib hears nothing of what waits.
    pub(super) fn hush(&mut self) {
        self.backlog.clear();
    }

    /// A session begins over this connection; the Rib gets to know the way to it.
    pub(super) fn begin(&mut self, connection: ConnectionId) -> Outbound {
        let (to_session, messages) = mpsc::unbounded_channel();
        let (to_order, orders) = mpsc::unbounded_channel();
        let room = Arc::new(Room::default());
        self.session = Some(Up {
            connection,
            messages,
            orders,
            room: Arc::clone(&room),
        });
        Outbound {
            messages: to_session,
            room,
            orders: to_order,
        }
    }

    /// The session is over.
    pub(super) fn end(&mut self) {
        self.session = None;
    }

    /// The connection of the session.
    pub(super) fn connection(&self) -> Option<ConnectionId> {
        self.session.as_ref().map(|up| up.connection)
    }

    /// What the Rib has for this connection.
    pub(super) fn messages(
        &mut self,
        connection: ConnectionId,
    ) -> Option<&mut mpsc::UnboundedReceiver<Bytes>> {
        let up = self.session.as_mut()?;
        (up.connection == connection).then_some(&mut up.messages)
    }

    /// What the Rib orders.
    pub(super) fn poll_order(&mut self, context: &mut Context<'_>) -> Option<Order> {
        match self.session.as_mut()?.orders.poll_recv(context) {
            Poll::Ready(order) => order.map(|order| *order),
            Poll::Pending => None,
        }
    }

    /// Octets went out over this connection: the Rib learns of it if it waits for room.
    pub(super) fn wrote(&mut self, connection: ConnectionId, written: Written) {
        let Some(up) = self
            .session
            .as_ref()
            .filter(|up| up.connection == connection)
        else {
            return;
        };
        if up.room.subtract(written.of_rib) {
            self.backlog.push_back(PeerMessage::Writable);
        }
    }

    /// Hands over what waits for the Rib, as far as it has room; whether something went.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> bool {
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
}
