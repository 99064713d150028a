//! One speaker: what a machine keeps while its process comes and goes, and what the process holds.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use bgp::{
    config::PeerConfig,
    peer::{
        deadlines::Jitter,
        fsm::{ConnectionId, Fsm},
        incoming::Incoming,
        negotiate::Negotiated,
        outgoing::Outgoing,
    },
    rib::{
        Rib,
        task::{
            Install, Order, Outbound, PeerChange, PeerId, PeerMessage, Room, Session, Settings,
        },
    },
};
use bytes::Bytes;
use fib::{
    Change, NextHop,
    simulated::{Installer, Kernel},
};
use tokio::sync::mpsc;

use crate::{
    config,
    network::Wire,
    topology::{Node, Topology, address},
};

/// A deliberate fault of ours, which the invariants must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Of the UPDATEs that withdraw something one in so many never gets to the Rib.
    LoseWithdrawals(u32),
    /// Neither the hold timer nor TCP ends a session over a dead path.
    NeverExpire,
    /// Who was restarted begins with an empty kernel table.
    EmptyKernel,
    /// A peer that closed without a word keeps its routes for ever.
    KeepForEver,
    /// What the Rib says to a peer is queued however slow the peer is.
    QueueWithoutEnd,
    /// A route that goes is not removed from the kernel.
    LeaveRoutes,
}

/// A machine.
#[derive(Debug)]
pub struct Host {
    /// Its table outlives the process.
    pub kernel: Kernel,
    /// It has power.
    pub up: bool,
    /// An earlier process left its routes.
    pub ran_before: bool,
    /// The process is stopped (SIGSTOP), not ended.
    pub paused: bool,
    /// The speaker, where it runs.
    pub process: Option<Process>,
    /// Connections that nobody has accepted yet.
    pub backlog: Vec<(Node, Wire)>,
}

impl Host {
    /// One that has just been switched on.
    #[must_use]
    pub fn new(node: Node) -> Self {
        let mut host = Self {
            kernel: Kernel::new(),
            up: true,
            ran_before: false,
            paused: false,
            process: None,
            backlog: Vec::new(),
        };
        host.boot(node);
        host
    }

    /// Switched on again: what was in memory is gone.
    pub fn boot(&mut self, node: Node) {
        self.kernel = Kernel::new();
        for (address, subnet) in config::subnets(node) {
            if let Some(subnet) = subnet {
                self.kernel.attach(address, subnet);
            }
        }
        self.up = true;
        self.ran_before = false;
        self.paused = false;
        self.backlog.clear();
    }

    /// Whether a process runs and gets its turns.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.up && !self.paused && self.process.is_some()
    }
}

/// A running speaker.
#[derive(Debug)]
pub struct Process {
    /// Its routes.
    pub rib: Rib,
    /// What writes them to the kernel.
    pub installer: Installer,
    /// Its peers.
    pub peers: BTreeMap<Node, Peer>,
    /// What the Rib has not heard yet.
    pub inbox: Vec<(PeerId, PeerMessage)>,
    /// Its initial routes are in.
    pub complete: bool,
    /// When the Rib last spoke.
    pub flushed: Option<Instant>,
    /// When its task runs next.
    pub rib_at: Option<Instant>,
    /// The same for the installer.
    pub install_at: Option<Instant>,
}

/// After output the next waits so long, as in the Rib's own task.
const PATIENCE: Duration = Duration::from_millis(10);

/// A peer of a speaker.
#[derive(Debug)]
pub struct Peer {
    /// What the Rib knows it by.
    pub id: PeerId,
    /// Its state machine.
    pub fsm: Fsm,
    /// The connections it has.
    pub links: Vec<Link>,
    /// The session that is up.
    pub session: Option<Up>,
    /// The dial under way.
    pub dial: Option<u64>,
    /// When its timer looks next.
    pub armed: Option<Instant>,
    connections: u32,
}

/// A connection as the process has it.
#[derive(Debug)]
pub struct Link {
    /// What the state machine knows it by.
    pub id: ConnectionId,
    /// What the network does.
    pub wire: Wire,
    /// Which of its sides.
    pub side: usize,
    /// Octets to messages.
    pub incoming: Incoming,
    /// Messages to octets.
    pub outgoing: Outgoing,
    /// How long it lets octets go unacknowledged.
    pub patience: Duration,
}

/// An established session.
#[derive(Debug)]
pub struct Up {
    /// Over which connection.
    pub connection: ConnectionId,
    messages: mpsc::UnboundedReceiver<Bytes>,
    orders: mpsc::UnboundedReceiver<Box<Order>>,
    /// What the Rib has queued.
    pub room: Arc<Room>,
}

impl Process {
    /// Starts a speaker.
    #[must_use]
    pub fn start(
        topology: &Topology,
        node: Node,
        host: &Host,
        now: Instant,
        seed: u64,
        epoch: Instant,
    ) -> Self {
        let settings = config::settings(topology, node);
        let mut rib = Rib::new(settings.clone(), true, now);
        let configs = config::peers(topology, node, host.ran_before);
        let changes = configs.iter().map(|(peer, config)| set(*peer, config));
        rib.configure(now, settings, changes.collect());
        let peers = configs.into_iter().map(|(peer, config)| {
            let jitter = Jitter::new(seed ^ (peer as u64).rotate_left(20), epoch);
            let made = Peer {
                id: peer_id(peer),
                fsm: Fsm::new(config, address(node), jitter),
                links: Vec::new(),
                session: None,
                dial: None,
                armed: None,
                connections: 0,
            };
            (peer, made)
        });
        Self {
            rib,
            installer: Installer::start(now, config::fib(), &host.kernel),
            peers: peers.collect(),
            inbox: Vec::new(),
            complete: false,
            flushed: None,
            rib_at: None,
            install_at: None,
        }
    }

    /// Goes over to another configuration of a peer, or of the whole.
    pub fn configure(&mut self, now: Instant, settings: Settings, peers: Vec<PeerChange>) {
        self.rib.configure(now, settings, peers);
    }

    /// One turn of the task that owns the Rib: hears what came, speaks if it is time. Gives when it wants the next turn.
    pub fn turn(&mut self, now: Instant) -> Option<Instant> {
        let mut wanted = self.rib.is_behind();
        for (peer, message) in self.inbox.drain(..) {
            wanted |= matches!(message, PeerMessage::Writable);
            self.rib.hear(now, peer, message);
        }
        self.rib.handle_timeout(now);
        let rested = |flushed| now >= flushed + PATIENCE;
        let owed = if wanted || self.flushed.is_none_or(rested) {
            self.rib.flush(now);
            self.flushed = Some(now);
            self.rib.is_behind().then_some(now)
        } else {
            self.flushed.map(|flushed| flushed + PATIENCE)
        };
        drop(self.rib.take_events());
        owed.into_iter().chain(self.rib.next_timeout()).min()
    }

    /// What the Rib has for the installer.
    pub fn hand_over(&mut self, sabotage: Option<Sabotage>) -> bool {
        let mut any = false;
        while self.rib.wants_to_install() {
            let installs = self.rib.take_installs(4096);
            let mut changes: Vec<Change> = installs.iter().map(change).collect();
            if sabotage == Some(Sabotage::LeaveRoutes) {
                changes.retain(|change| matches!(change, Change::Wanted(_)));
            }
            self.installer.update(changes);
            any = true;
        }
        any
    }
}

/// What the Rib knows a peer by.
#[must_use]
pub fn peer_id(peer: Node) -> PeerId {
    PeerId(u32::try_from(peer).unwrap_or(u32::MAX))
}

/// How a peer is called.
#[must_use]
pub fn name(peer: Node) -> String {
    format!("node{peer}")
}

/// A peer's configuration, as the Rib learns it.
#[must_use]
pub fn set(peer: Node, config: &Arc<PeerConfig>) -> PeerChange {
    PeerChange::Set {
        peer: peer_id(peer),
        name: name(peer).into(),
        config: Arc::clone(config),
    }
}

fn change(install: &Install) -> Change {
    let prefix = install.prefix.network();
    if install.next_hops.is_empty() {
        return Change::Withdrawn(prefix);
    }
    let hops = install.next_hops.iter();
    Change::wanted(prefix, hops.map(|hop| NextHop::new(hop.next_hop.address)))
}

impl Peer {
    /// Takes a connection among its own.
    pub fn adopt(&mut self, wire: Wire, side: usize) -> ConnectionId {
        let id = ConnectionId(self.connections);
        self.connections += 1;
        self.links.push(Link {
            id,
            wire,
            side,
            incoming: Incoming::new(id),
            outgoing: Outgoing::default(),
            patience: self.fsm.config().timers.hold,
        });
        id
    }

    /// One of its connections.
    pub fn link(&mut self, id: ConnectionId) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.id == id)
    }

    /// The one that the network knows by this.
    #[must_use]
    pub fn link_on(&self, wire: Wire, side: usize) -> Option<ConnectionId> {
        let found = self
            .links
            .iter()
            .find(|link| link.wire == wire && link.side == side);
        found.map(|link| link.id)
    }

    /// A session begins: what the Rib needs to know of it.
    pub fn begin(
        &mut self,
        connection: ConnectionId,
        agreed: &Negotiated,
        own: Ipv4Addr,
    ) -> Session {
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
            local_address: own.into(),
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
    pub fn order(&mut self) -> Option<Order> {
        let order = self.session.as_mut()?.orders.try_recv().ok()?;
        Some(*order)
    }

    /// Takes what the Rib has for the connection of the session, as far as it can be written soon.
    pub fn take(&mut self, sabotage: Option<Sabotage>) {
        let Some(up) = &mut self.session else { return };
        let Some(link) = self.links.iter_mut().find(|link| link.id == up.connection) else {
            return;
        };
        while (link.outgoing.has_room() || sabotage == Some(Sabotage::QueueWithoutEnd))
            && let Ok(octets) = up.messages.try_recv()
        {
            if sabotage == Some(Sabotage::QueueWithoutEnd) {
                up.room.subtract(octets.len());
                link.outgoing.push(octets);
                continue;
            }
            link.outgoing.push(octets);
        }
    }

    /// Octets of the Rib went out; whether it waits to hear of that.
    #[must_use]
    pub fn wrote(&self, connection: ConnectionId, of_rib: usize) -> bool {
        let up = self.session.as_ref();
        let up = up.filter(|up| up.connection == connection);
        up.is_some_and(|up| up.room.subtract(of_rib))
    }
}
