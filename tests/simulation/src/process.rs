//! One speaker: what a machine keeps while its process comes and goes, and what the process holds.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bgp::{
    config::PeerConfig,
    peer::{
        deadlines::Jitter,
        fsm::{ConnectionId, Fsm},
        outgoing::Outgoing,
    },
    rib::{
        Rib,
        task::{Install, PeerChange, PeerId, PeerMessage},
    },
    simulated::Driver,
};
use fib::{
    Change, NextHop,
    simulated::{Installer, Kernel},
};

use crate::{
    bfd::Watched,
    clock::Alarm,
    config,
    network::{Socket, Wire},
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
    /// It keeps them for this many seconds longer than was agreed.
    KeepLonger(u64),
    /// A path that BFD takes for dead is one whose kernel is dead too.
    BlameForwarding,
    /// However much a peer tells is taken.
    NoLimit,
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
    flushed: Option<Instant>,
    /// When its task runs next.
    pub rib_runs: Alarm,
    /// The same for the installer.
    pub installer_runs: Alarm,
}

/// After output the next waits so long, as in the Rib's own task.
const PATIENCE: Duration = Duration::from_millis(10);

/// A peer of a speaker.
#[derive(Debug)]
pub struct Peer {
    /// Its session.
    pub driver: Driver<Socket>,
    /// The dial under way.
    pub dial: Option<u64>,
    /// When a deadline of it may have come.
    pub deadline: Alarm,
    /// BFD on the path to it.
    pub path: Option<Watched>,
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
            (
                peer,
                Peer::new(Fsm::new(config, address(node), jitter), node),
            )
        });
        Self {
            rib,
            installer: Installer::start(now, config::fib(), &host.kernel),
            peers: peers.collect(),
            inbox: Vec::new(),
            complete: false,
            flushed: None,
            rib_runs: Alarm::default(),
            installer_runs: Alarm::default(),
        }
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
    fn new(fsm: Fsm, node: Node) -> Self {
        Self {
            driver: Driver::new(fsm, address(node).into()),
            dial: None,
            deadline: Alarm::default(),
            path: None,
        }
    }

    /// The connection that the network knows by this.
    #[must_use]
    pub fn link_on(&self, socket: Socket) -> Option<ConnectionId> {
        let mut links = self.driver.links().iter();
        let found = links.find(|link| link.socket == socket);
        found.map(|link| link.id)
    }

    /// Takes what the Rib has for the connection of the session, as far as it can be written soon; whether the Rib waits to
    /// hear of that, which it need not where all is well.
    pub fn take(&mut self, sabotage: Option<Sabotage>) -> bool {
        if sabotage != Some(Sabotage::QueueWithoutEnd) {
            self.driver.take(Outgoing::has_room);
            return false;
        }
        let taken = self.driver.take(|_| true);
        let connection = self.driver.connection();
        connection.is_some_and(|connection| self.driver.wrote(connection, taken))
    }
}
