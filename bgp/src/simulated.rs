//! The driver of one session on connections in memory, moved by hand: no socket, no task, no clock. What a simulation of a
//! whole network and a fuzzer of whole sessions use; `peer/driver.rs` does the same with sockets.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    peer::{
        fsm::{Action, ConnectionId, Event, Fsm},
        incoming::Incoming,
        negotiate::Negotiated,
        outgoing::Outgoing,
    },
    rib::task::{Order, Outbound, PeerMessage, Room, Session},
    status::SessionState,
    wire::Notification,
};

/// What lies between a state machine, its connections and the Rib. `S` is what carries the octets of a connection.
#[derive(Debug)]
pub struct Driver<S> {
    /// The state machine.
    pub fsm: Fsm,
    local: IpAddr,
    links: Vec<Link<S>>,
    session: Option<Up>,
    connections: u32,
}

/// A connection.
#[derive(Debug)]
pub struct Link<S> {
    /// What the state machine knows it by.
    pub id: ConnectionId,
    /// What carries it.
    pub socket: S,
    /// Octets to messages.
    pub incoming: Incoming,
    /// Messages to octets.
    pub outgoing: Outgoing,
    /// How long it lets octets go unacknowledged.
    pub patience: Duration,
}

/// The established session, on this side of the Rib.
#[derive(Debug)]
struct Up {
    connection: ConnectionId,
    messages: mpsc::UnboundedReceiver<Bytes>,
    orders: mpsc::UnboundedReceiver<Box<Order>>,
    room: Arc<Room>,
}

/// What is left of an action for whoever moves the driver.
#[derive(Debug)]
pub enum Effect<S> {
    /// Dials.
    Dial,
    /// The dial under way is of no interest any more.
    AbandonDial,
    /// Something waits to be written.
    Writes,
    /// This connection is over, after these last words.
    Closed(Link<S>, Option<Notification>),
    /// Says this to the Rib.
    Say(PeerMessage),
    /// The session is in another state, for this reason.
    State(SessionState, String),
}

impl<S> Driver<S> {
    /// One without a connection; `local` is our address towards the peer.
    #[must_use]
    pub fn new(fsm: Fsm, local: IpAddr) -> Self {
        Self {
            fsm,
            local,
            links: Vec::new(),
            session: None,
            connections: 0,
        }
    }

    /// Takes a connection among its own.
    pub fn adopt(&mut self, socket: S) -> ConnectionId {
        let id = ConnectionId(self.connections);
        self.connections = self.connections.wrapping_add(1);
        self.links.push(Link {
            id,
            socket,
            incoming: Incoming::new(id),
            outgoing: Outgoing::default(),
            patience: self.fsm.config().timers.hold,
        });
        id
    }

    /// The connections it has.
    #[must_use]
    pub fn links(&self) -> &[Link<S>] {
        &self.links
    }

    /// One of its connections.
    pub fn link(&mut self, id: ConnectionId) -> Option<&mut Link<S>> {
        self.links.iter_mut().find(|link| link.id == id)
    }

    /// Carries out what the state machine wants, as far as it concerns this session alone.
    pub fn carry_out(&mut self, action: Action) -> Option<Effect<S>> {
        match action {
            Action::Dial(_) => Some(Effect::Dial),
            Action::AbandonDial => Some(Effect::AbandonDial),
            Action::Send(id, message) => {
                let sent = self.link(id)?.outgoing.send(&message);
                sent.map(|_| Effect::Writes)
            }
            Action::Close(id, said) => {
                let index = self.links.iter().position(|link| link.id == id)?;
                Some(Effect::Closed(self.links.swap_remove(index), said))
            }
            Action::Agreed(id, agreed) => {
                let link = self.link(id)?;
                link.incoming.agreed(agreed.context);
                link.outgoing.agreed(agreed.context);
                link.patience = agreed.hold;
                None
            }
            Action::Up(id, agreed) => {
                let session = self.begin(id, &agreed);
                Some(Effect::Say(PeerMessage::Established(Box::new(session))))
            }
            Action::Down(ending, how) => {
                self.session = None;
                Some(Effect::Say(PeerMessage::Down(ending, how)))
            }
            Action::Deliver(updates) => Some(Effect::Say(PeerMessage::Updates(updates))),
            Action::Refresh(refresh) => Some(Effect::Say(PeerMessage::Refresh(refresh))),
            Action::State(state, reason) => Some(Effect::State(state, reason)),
            Action::Failed(_) => None,
        }
    }

    /// A session begins: what the Rib needs to know of it.
    fn begin(&mut self, connection: ConnectionId, agreed: &Negotiated) -> Session {
        let (to_session, messages) = mpsc::unbounded_channel();
        let (to_order, orders) = mpsc::unbounded_channel();
        let room = Arc::new(Room::default());
        self.session = Some(Up {
            connection,
            messages,
            orders,
            room: Arc::clone(&room),
        });
        let config = Arc::clone(self.fsm.config());
        Session {
            context: agreed.context,
            kind: agreed.kind,
            asn: agreed.asn,
            router_id: agreed.router_id,
            address: config.address,
            local_address: self.local,
            local_link_local: None,
            interface: None,
            refresh: agreed.refresh,
            expects_end_of_rib: agreed.expects_end_of_rib(),
            preserved: agreed.preserved(),
            knows_long_stale: agreed.knows_long_stale,
            opening: Arc::default(),
            outbound: Outbound {
                messages: to_session,
                room,
                orders: to_order,
            },
            config,
        }
    }

    /// What the Rib orders.
    pub fn order(&mut self) -> Option<Event> {
        let order = self.session.as_mut()?.orders.try_recv().ok()?;
        let Order::Close {
            notification,
            reason,
            stay_away,
        } = *order;
        Some(Event::Close {
            notification,
            reason,
            stay_away,
        })
    }

    /// Takes what the Rib has for the connection of the session, while `more` of it may wait there. Gives how many octets.
    pub fn take(&mut self, more: impl Fn(&Outgoing) -> bool) -> usize {
        let Some(up) = &mut self.session else {
            return 0;
        };
        let Some(link) = self.links.iter_mut().find(|link| link.id == up.connection) else {
            return 0;
        };
        let mut taken = 0_usize;
        while more(&link.outgoing)
            && let Ok(octets) = up.messages.try_recv()
        {
            taken = taken.saturating_add(octets.len());
            link.outgoing.push(octets);
        }
        taken
    }

    /// The connection of the session.
    #[must_use]
    pub fn connection(&self) -> Option<ConnectionId> {
        self.session.as_ref().map(|up| up.connection)
    }

    /// Octets of the Rib went out over this connection; whether it waits to hear of that.
    #[must_use]
    pub fn wrote(&self, connection: ConnectionId, of_rib: usize) -> bool {
        let up = self.session.as_ref();
        let up = up.filter(|up| up.connection == connection);
        up.is_some_and(|up| up.room.subtract(of_rib))
    }

    /// Octets that the Rib has queued.
    #[must_use]
    pub fn queued(&self) -> usize {
        let up = self.session.as_ref();
        up.map_or(0, |up| up.room.queued.load(Ordering::SeqCst))
    }
}

impl<S> Link<S> {
    /// What came, as far as it can be read before the state machine has heard it; [`Link::go_on`] reads the rest.
    pub fn hear(&mut self, octets: &[u8]) -> Vec<Event> {
        if self.incoming.is_deaf() {
            return Vec::new();
        }
        let chunk = [self.incoming.unparsed(), octets].concat();
        self.incoming.take(&chunk, |_| {}).events
    }

    /// More of what came already; nothing: that was all.
    pub fn go_on(&mut self) -> Vec<Event> {
        if self.incoming.is_deaf() {
            return Vec::new();
        }
        let read = self.incoming.resume(|_| {});
        read.map_or_else(Vec::new, |read| read.events)
    }
}
