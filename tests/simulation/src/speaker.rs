//! What surrounds the state machines and the Rib of a speaker: the model's own driver, as thin as the real ones.

use std::{sync::Arc, time::Duration};

use bgp::{
    peer::{
        deadlines::Timer,
        fsm::{Action, ConnectionId, Event as Said, Loss},
    },
    prefix::Prefix,
    rib::task::{Ending, Order, PeerMessage, Room},
    wire::Notification,
};
use bytes::{Bytes, BytesMut};
use fib::{Completeness, simulated::Written};

use crate::{
    config,
    network::{LINGER, Packet, State, Wire},
    process::{Peer, Process, Sabotage},
    schedule::Event,
    topology::{Node, address},
    trace::What,
    world::World,
};

/// TCP connections.
impl World {
    /// A SYN gets there, or is lost.
    pub(crate) fn syn(&mut self, from: Node, to: Node, dial: u64, attempt: u32) {
        if self
            .peer(from, to)
            .is_none_or(|peer| peer.dial != Some(dial))
        {
            return;
        }
        let takes = self.network.takes(&mut self.random);
        if !self.network.is_whole(from, to) {
            let again = Duration::from_secs(1 << attempt.min(5));
            let attempt = attempt + 1;
            let event = Event::Dial {
                from,
                to,
                dial,
                attempt,
            };
            return self.schedule.add(self.now + again, event);
        }
        let listens = self.hosts[to].process.is_some();
        let wire = listens.then(|| self.network.connect(from, to));
        self.schedule.add(
            self.now + takes,
            Event::Answer {
                from,
                to,
                dial,
                wire,
            },
        );
        if let Some(wire) = wire {
            self.hosts[to].backlog.push((from, wire));
            self.accept(to);
        }
    }

    /// The speaker takes the connections that came.
    pub(crate) fn accept(&mut self, node: Node) {
        if !self.hosts[node].acts() {
            return;
        }
        for (from, wire) in std::mem::take(&mut self.hosts[node].backlog) {
            match self.peer(node, from).map(|peer| peer.adopt(wire, 1)) {
                Some(id) => {
                    self.feed(node, from, Said::Accepted(id));
                    self.read(node, from, wire, 1);
                }
                None => self.close_wire(wire, 1, None),
            }
        }
    }

    /// The answer to a SYN.
    pub(crate) fn answered(&mut self, from: Node, to: Node, dial: u64, wire: Option<Wire>) {
        let still = |world: &mut Self| {
            world
                .peer(from, to)
                .is_some_and(|peer| peer.dial == Some(dial))
        };
        if !still(self) {
            if let Some(wire) = wire {
                self.close_wire(wire, 0, None);
            }
            return;
        }
        if !self.network.is_whole(from, to) || !self.hosts[from].acts() {
            let event = Event::Answer {
                from,
                to,
                dial,
                wire,
            };
            return self.schedule.add(self.now + Duration::from_secs(1), event);
        }
        let Some(peer) = self.peer(from, to) else {
            return;
        };
        peer.dial = None;
        let event = match wire {
            Some(wire) => Said::Dialled(peer.adopt(wire, 0)),
            None => Said::DialFailed("nobody listens there".into()),
        };
        self.feed(from, to, event);
        if let Some(wire) = wire {
            self.read(from, to, wire, 0);
        }
    }

    /// A packet may have come.
    pub(crate) fn arrival(&mut self, wire: Wire, to: usize) {
        let Some(packet) = self.network.arrive(wire, to, self.now, &mut self.schedule) else {
            return self.network.forget(wire);
        };
        let Some(connection) = self.network.connections.get_mut(&wire) else {
            return;
        };
        let (node, other) = (connection.ends[to].node, connection.ends[1 - to].node);
        match connection.ends[to].state {
            State::Open => {
                connection.ends[to].inbox.push_back(packet);
                self.read(node, other, wire, to);
            }
            State::Lingering | State::Closed => {
                let state = connection.ends[to].state;
                if let Packet::Octets(octets) = packet {
                    let count = octets.len();
                    self.took(wire, to, count);
                    if state == State::Closed {
                        self.send(wire, to, Packet::Reset);
                    }
                }
                self.network.forget(wire);
            }
        }
    }

    fn send(&mut self, wire: Wire, side: usize, packet: Packet) {
        let Self {
            network,
            schedule,
            random,
            now,
            ..
        } = self;
        network.send(wire, side, packet, *now, schedule, random);
    }

    fn took(&mut self, wire: Wire, side: usize, count: usize) {
        let Self {
            network,
            schedule,
            random,
            now,
            ..
        } = self;
        network.took(wire, side, count, *now, schedule, random);
    }

    /// Reads what came over a connection, as far as the process gets to it.
    pub(crate) fn read(&mut self, node: Node, other: Node, wire: Wire, side: usize) {
        while self.hosts[node].acts() {
            let now = self.now;
            let Some(connection) = self.network.connections.get_mut(&wire) else {
                return;
            };
            let end = &mut connection.ends[side];
            if end.state != State::Open || end.unread_until.is_some_and(|until| now < until) {
                return;
            }
            let Some(id) = self
                .peer(node, other)
                .and_then(|peer| peer.link_on(wire, side))
            else {
                return;
            };
            let Some(connection) = self.network.connections.get_mut(&wire) else {
                return;
            };
            let Some(packet) = connection.ends[side].inbox.pop_front() else {
                return;
            };
            match packet {
                Packet::Octets(octets) => {
                    self.took(wire, side, octets.len());
                    self.tell(node, What::Read(other, octets.len()));
                    self.hear(node, other, id, &octets);
                }
                Packet::Fin => self.feed(
                    node,
                    other,
                    Said::Closed(id, Loss::Closed, "it closed the connection".into()),
                ),
                Packet::Reset => self.feed(
                    node,
                    other,
                    Said::Closed(id, Loss::Closed, "it reset the connection".into()),
                ),
            }
        }
    }

    fn hear(&mut self, node: Node, other: Node, id: ConnectionId, octets: &Bytes) {
        let mut fresh = Some(octets);
        loop {
            let Some(link) = self.peer(node, other).and_then(|peer| peer.link(id)) else {
                return;
            };
            if link.incoming.is_deaf() {
                return;
            }
            let read = match fresh.take() {
                Some(octets) => {
                    let chunk = [link.incoming.unparsed(), octets].concat();
                    Some(link.incoming.take(&chunk, |_| {}))
                }
                None => link.incoming.resume(|_| {}),
            };
            let Some(read) = read.filter(|read| !read.events.is_empty()) else {
                return;
            };
            for event in read.events {
                self.feed(node, other, event);
            }
        }
    }

    /// There is room to write again.
    pub(crate) fn room(&mut self, wire: Wire, side: usize) {
        if let Some((node, other)) = self.whose(wire, side) {
            self.pump(node, other);
        }
    }

    /// Nothing was acknowledged for long.
    pub(crate) fn unacknowledged(&mut self, wire: Wire, side: usize) {
        let never = self.sabotage == Some(Sabotage::NeverExpire);
        let Self {
            network,
            schedule,
            now,
            ..
        } = self;
        if never || !network.gives_up(wire, side, *now, schedule) {
            return;
        }
        let Some((node, other)) = self.whose(wire, side) else {
            return;
        };
        if !self.hosts[node].acts() {
            let event = Event::Unacknowledged { wire, side };
            return self.schedule.add(self.now + Duration::from_secs(1), event);
        }
        if let Some(id) = self
            .peer(node, other)
            .and_then(|peer| peer.link_on(wire, side))
        {
            let reason = "nothing we sent was acknowledged".into();
            self.feed(node, other, Said::Closed(id, Loss::Unresponsive, reason));
        }
    }

    /// The last words were said long enough ago.
    pub(crate) fn lingered(&mut self, wire: Wire, side: usize) {
        if let Some(connection) = self.network.connections.get_mut(&wire)
            && connection.ends[side].state == State::Lingering
        {
            connection.ends[side].state = State::Closed;
            self.network.forget(wire);
        }
    }

    /// The process comes to read a connection again.
    pub(crate) fn look(&mut self, wire: Wire, side: usize) {
        if let Some((node, other)) = self.whose(wire, side) {
            self.read(node, other, wire, side);
        }
    }

    fn whose(&self, wire: Wire, side: usize) -> Option<(Node, Node)> {
        let connection = self.network.connections.get(&wire)?;
        Some((connection.ends[side].node, connection.ends[1 - side].node))
    }

    /// The process lets go of a connection, perhaps with last words.
    fn close_wire(&mut self, wire: Wire, side: usize, last_words: Option<Bytes>) {
        let Some(connection) = self.network.connections.get_mut(&wire) else {
            return;
        };
        let end = &mut connection.ends[side];
        let unread: usize = end
            .inbox
            .drain(..)
            .filter(|one| matches!(one, Packet::Octets(_)))
            .count();
        end.state = if last_words.is_some() {
            State::Lingering
        } else {
            State::Closed
        };
        match last_words {
            Some(words) => {
                self.send(wire, side, Packet::Octets(words));
                self.send(wire, side, Packet::Fin);
                self.schedule
                    .add(self.now + LINGER, Event::Lingered { wire, side });
            }
            // A kernel that has to throw octets away says so.
            None if unread > 0 => self.send(wire, side, Packet::Reset),
            None => self.send(wire, side, Packet::Fin),
        }
    }

    /// The process is gone: its kernel closes all it had.
    pub(crate) fn close_all(&mut self, node: Node) {
        let open = self
            .network
            .connections
            .iter()
            .flat_map(|(wire, connection)| {
                [0, 1].map(|side| {
                    (
                        *wire,
                        side,
                        connection.ends[side].node,
                        connection.ends[side].state,
                    )
                })
            });
        let ours: Vec<(Wire, usize)> = open
            .filter(|(.., whose, state)| *whose == node && *state == State::Open)
            .map(|(wire, side, ..)| (wire, side))
            .collect();
        for (wire, side) in ours {
            self.close_wire(wire, side, None);
        }
        self.hosts[node].backlog.clear();
    }
}

/// State machines.
impl World {
    pub(crate) fn process(&mut self, node: Node) -> Option<&mut Process> {
        self.hosts[node].process.as_mut()
    }

    pub(crate) fn peer(&mut self, node: Node, peer: Node) -> Option<&mut Peer> {
        self.hosts[node].process.as_mut()?.peers.get_mut(&peer)
    }

    /// A peer's task starts.
    pub(crate) fn begin(&mut self, node: Node, peer: Node) {
        let shut = |peer: &mut Peer| peer.fsm.config().shutdown.is_some();
        if self.peer(node, peer).is_some_and(|peer| !shut(peer)) {
            self.feed(node, peer, Said::Start);
        }
    }

    /// Something happens to a peer.
    pub(crate) fn feed(&mut self, node: Node, peer: Node, event: Said) {
        let now = self.now;
        if let Some(one) = self.peer(node, peer) {
            let actions = one.fsm.handle(now, event);
            self.act(node, peer, actions);
        }
        self.arm(node, peer);
    }

    fn arm(&mut self, node: Node, peer: Node) {
        let Some(one) = self.peer(node, peer) else {
            return;
        };
        if let Some(at) = one.fsm.next_timeout()
            && one.armed.is_none_or(|armed| at < armed)
        {
            one.armed = Some(at);
            self.schedule
                .add(at.max(self.now), Event::Timer { node, peer });
        }
    }

    /// A deadline of a peer may have come.
    pub(crate) fn timer(&mut self, node: Node, peer: Node) {
        let now = self.now;
        if !self.hosts[node].acts() {
            return;
        }
        let never = self.sabotage == Some(Sabotage::NeverExpire);
        let Some(one) = self.peer(node, peer) else {
            return;
        };
        if one.armed.is_none_or(|armed| armed > now) {
            return;
        }
        one.armed = None;
        let held = one.fsm.expiring(Timer::Hold, now);
        let stuck = one.fsm.expiring(Timer::SendHold, now);
        for id in held {
            if never || self.has_unread(node, peer, id) {
                self.feed(node, peer, Said::Unread(id));
            }
        }
        for id in stuck {
            let waits = self
                .peer(node, peer)
                .and_then(|one| one.link(id))
                .is_some_and(|link| !link.outgoing.is_empty());
            if never || !waits {
                self.feed(node, peer, Said::NothingWaits(id));
            }
        }
        if let Some(one) = self.peer(node, peer) {
            let actions = one.fsm.handle_timeout(now);
            self.act(node, peer, actions);
        }
        self.arm(node, peer);
    }

    fn has_unread(&mut self, node: Node, peer: Node, id: ConnectionId) -> bool {
        let Some(link) = self.peer(node, peer).and_then(|one| one.link(id)) else {
            return false;
        };
        let (wire, side) = (link.wire, link.side);
        let connection = self.network.connections.get(&wire);
        connection.is_some_and(|connection| !connection.ends[side].inbox.is_empty())
    }

    fn act(&mut self, node: Node, peer: Node, actions: Vec<Action>) {
        let mut writes = false;
        for action in actions {
            match action {
                Action::Dial(_) => {
                    self.dials += 1;
                    let dial = self.dials;
                    if let Some(one) = self.peer(node, peer) {
                        one.dial = Some(dial);
                    }
                    let takes = self.network.takes(&mut self.random);
                    let (from, to, attempt) = (node, peer, 0);
                    self.schedule.add(
                        self.now + takes,
                        Event::Dial {
                            from,
                            to,
                            dial,
                            attempt,
                        },
                    );
                }
                Action::AbandonDial => {
                    if let Some(one) = self.peer(node, peer) {
                        one.dial = None;
                    }
                }
                Action::Send(id, message) => {
                    if let Some(link) = self.peer(node, peer).and_then(|one| one.link(id)) {
                        writes |= link.outgoing.send(&message).is_some();
                    }
                }
                Action::Close(id, said) => self.close(node, peer, id, said),
                Action::Agreed(id, agreed) => {
                    if let Some(link) = self.peer(node, peer).and_then(|one| one.link(id)) {
                        link.incoming.agreed(agreed.context);
                        link.outgoing.agreed(agreed.context);
                        link.patience = agreed.hold;
                    }
                }
                Action::Up(id, agreed) => {
                    if let Some(one) = self.peer(node, peer) {
                        let session = one.begin(id, &agreed, address(node));
                        self.say(node, peer, PeerMessage::Established(Box::new(session)));
                    }
                }
                Action::Down(ending, how) => {
                    self.tell(node, What::Down(peer, ending));
                    if let Some(one) = self.peer(node, peer) {
                        one.session = None;
                    }
                    self.say(
                        node,
                        peer,
                        PeerMessage::Down(self.kept_by_sabotage(ending), how),
                    );
                }
                Action::Deliver(mut updates) => {
                    if let Some(Sabotage::LoseWithdrawals(one_in)) = self.sabotage {
                        updates.retain(|update| {
                            update.withdrawn.is_empty() || self.random.u32(..one_in) > 0
                        });
                    }
                    self.say(node, peer, PeerMessage::Updates(updates));
                }
                Action::Refresh(refresh) => self.say(node, peer, PeerMessage::Refresh(refresh)),
                Action::State(state, reason) => self.tell(node, What::State(peer, state, reason)),
                Action::Failed(_) => {}
            }
        }
        if writes {
            self.pump(node, peer);
        }
    }

    fn kept_by_sabotage(&self, ending: Ending) -> Ending {
        match ending {
            Ending::Restarting {
                families,
                long_lived,
                yields,
                ..
            } if self.sabotage == Some(Sabotage::KeepForEver) => Ending::Restarting {
                families,
                restart_time: Duration::from_secs(1_000_000),
                long_lived,
                yields,
            },
            ending => ending,
        }
    }

    fn close(&mut self, node: Node, peer: Node, id: ConnectionId, said: Option<Notification>) {
        let Some(one) = self.peer(node, peer) else {
            return;
        };
        let Some(index) = one.links.iter().position(|link| link.id == id) else {
            return;
        };
        let mut link = one.links.swap_remove(index);
        self.tell(node, What::Closed(peer, said.clone()));
        let room = self.network.room(link.wire, link.side);
        // What does not fit within the second that we wait for it is not heard.
        let words = said
            .map(|said| link.outgoing.last_words(said))
            .filter(|words| words.len() <= room);
        self.close_wire(link.wire, link.side, words);
    }

    /// Writes what waits, as far as there is room, and obeys the Rib.
    pub(crate) fn pump(&mut self, node: Node, peer: Node) {
        if !self.hosts[node].acts() {
            return;
        }
        let sabotage = self.sabotage;
        while let Some(order) = self.peer(node, peer).and_then(Peer::order) {
            let Order::Close {
                notification,
                reason,
                stay_away,
            } = order;
            self.feed(
                node,
                peer,
                Said::Close {
                    notification,
                    reason,
                    stay_away,
                },
            );
        }
        let Some(one) = self.peer(node, peer) else {
            return;
        };
        one.take(sabotage);
        let ids: Vec<ConnectionId> = one.links.iter().map(|link| link.id).collect();
        for id in ids {
            while self.write(node, peer, id) {
                if let Some(one) = self.peer(node, peer) {
                    one.take(sabotage);
                }
            }
        }
    }

    /// Writes some of what waits on a connection; whether something went.
    fn write(&mut self, node: Node, peer: Node, id: ConnectionId) -> bool {
        let Some(link) = self.hosts[node]
            .process
            .as_mut()
            .and_then(|process| process.peers.get_mut(&peer))
            .and_then(|one| one.link(id))
        else {
            return false;
        };
        let (wire, side) = (link.wire, link.side);
        let blocked = !link.outgoing.is_empty();
        let room = if blocked {
            self.network.room(wire, side)
        } else {
            0
        };
        if let Some(connection) = self.network.connections.get_mut(&wire) {
            // While the peer takes nothing it is the send hold timer's turn.
            connection.ends[side].patience = if blocked && room == 0 {
                Duration::ZERO
            } else {
                link.patience
            };
        }
        if room == 0 {
            return false;
        }
        let mut octets = BytesMut::new();
        for piece in link.outgoing.pieces() {
            let left = room - octets.len();
            octets.extend_from_slice(piece.get(..left).unwrap_or(piece));
            if octets.len() == room {
                break;
            }
        }
        let of_rib = link.outgoing.went_out(octets.len());
        self.send(wire, side, Packet::Octets(octets.freeze()));
        self.feed(node, peer, Said::Sent(id));
        if self
            .peer(node, peer)
            .is_some_and(|one| one.wrote(id, of_rib))
        {
            self.say(node, peer, PeerMessage::Writable);
        }
        true
    }
}

/// The Rib and the installer.
impl World {
    /// Says this to the Rib.
    fn say(&mut self, node: Node, peer: Node, message: PeerMessage) {
        if let Some(process) = self.process(node) {
            process.inbox.push((crate::process::peer_id(peer), message));
        }
        self.soon(node);
    }

    /// The Rib gets its turn soon.
    pub(crate) fn soon(&mut self, node: Node) {
        let wait = Duration::from_micros(self.random.u64(10..2000));
        let at = self.now + wait;
        self.rib_at(node, at);
    }

    fn rib_at(&mut self, node: Node, at: std::time::Instant) {
        let now = self.now;
        if let Some(process) = self.process(node)
            && process.rib_at.is_none_or(|armed| at < armed)
        {
            process.rib_at = Some(at);
            self.schedule.add(at.max(now), Event::Rib(node));
        }
    }

    /// The task of the Rib runs.
    pub(crate) fn rib(&mut self, node: Node) {
        let (now, sabotage) = (self.now, self.sabotage);
        if !self.hosts[node].acts() {
            return;
        }
        let Some(process) = self.process(node) else {
            return;
        };
        if process.rib_at.is_none_or(|at| at > now) {
            return;
        }
        process.rib_at = None;
        let next = process.turn(now);
        let installs = process.hand_over(sabotage);
        let completes = !process.complete && process.rib.is_complete();
        if completes {
            process.complete = true;
            process.installer.set_complete(Completeness::Complete);
        }
        let peers: Vec<Node> = process
            .peers
            .iter()
            .filter(|(_, peer)| peer.session.is_some())
            .map(|(peer, _)| *peer)
            .collect();
        if completes {
            self.tell(node, What::Complete);
            for peer in &self.topology.neighbours[node]
                .keys()
                .copied()
                .collect::<Vec<_>>()
            {
                self.feed(node, *peer, Said::Complete);
            }
        }
        if installs || completes {
            let wait = Duration::from_micros(self.random.u64(1..5000));
            self.install_at(node, now + wait);
        }
        for peer in peers {
            self.pump(node, peer);
        }
        self.bounded(node);
        if let Some(next) = next {
            self.rib_at(node, next.max(now));
        }
    }

    fn install_at(&mut self, node: Node, at: std::time::Instant) {
        let now = self.now;
        if let Some(process) = self.process(node)
            && process.install_at.is_none_or(|armed| at < armed)
        {
            process.install_at = Some(at);
            self.schedule.add(at.max(now), Event::Install(node));
        }
    }

    /// The installer runs.
    pub(crate) fn install(&mut self, node: Node) {
        let now = self.now;
        if !self.hosts[node].acts() {
            return;
        }
        let host = &mut self.hosts[node];
        let Some(process) = &mut host.process else {
            return;
        };
        if process.install_at.is_none_or(|at| at > now) {
            return;
        }
        process.install_at = None;
        process.installer.poll(now, &mut host.kernel);
        let next = process.installer.next_timeout();
        let mut written = host.kernel.take_written();
        // Between prefixes the installer keeps no order.
        written.sort_by_key(|(network, _)| *network);
        for (network, written) in written {
            if let Some(prefix) = Prefix::new(network.network(), network.prefix()) {
                self.written(node, prefix, written);
            }
        }
        if let Some(next) = next {
            self.install_at(node, next);
        }
    }

    /// The kernel's table of a node changed.
    pub(crate) fn written(&mut self, node: Node, prefix: Prefix, written: Written) {
        self.tell(node, What::Kernel(prefix, written));
        if let Some(finding) = self.watch.written(self.now, node, prefix, written) {
            self.found(finding);
        }
    }

    /// What waits for a peer is bounded.
    fn bounded(&mut self, node: Node) {
        let most = Room::LIMIT + 128 * 1024;
        let Some(process) = self.process(node) else {
            return;
        };
        let waits = process.peers.iter_mut().filter_map(|(peer, one)| {
            let queued = one.session.as_ref().map_or(0, |up| {
                up.room.queued.load(std::sync::atomic::Ordering::SeqCst)
            });
            let written: usize = one.links.iter().map(|link| link.outgoing.waiting()).sum();
            let waits = queued.max(written);
            (waits > most).then_some((*peer, waits))
        });
        let found: Vec<(Node, usize)> = waits.collect();
        for (peer, octets) in found {
            let text = format!("{octets} octets wait for node {peer}, more than {most}");
            self.found(crate::watch::Finding::new(node, text));
        }
    }

    /// A speaker that was stopped looks at its configuration.
    pub(crate) fn reread(&mut self, node: Node) {
        if self.hosts[node].acts() {
            self.reconfigure(node, None);
        } else if self.hosts[node].process.is_some() {
            let again = self.now + Duration::from_secs(1);
            self.schedule.add(again, Event::Reread(node));
        }
    }

    /// Another configuration of a node is in force.
    pub(crate) fn reconfigure(&mut self, node: Node, anew: Option<(Node, &'static str)>) {
        let now = self.now;
        let settings = config::settings(&self.topology, node);
        let Some(process) = self.hosts[node].process.as_mut() else {
            return;
        };
        let mut changes = Vec::new();
        let mut shut = Vec::new();
        for (peer, one) in &mut process.peers {
            let restarted = one
                .fsm
                .config()
                .graceful_restart
                .is_some_and(|restart| restart.restarted);
            let new = config::peer(&self.topology, node, *peer, restarted);
            if new == **one.fsm.config() {
                continue;
            }
            let (was, is) = (one.fsm.config().shutdown.clone(), new.shutdown.clone());
            let new = Arc::new(new);
            changes.push(crate::process::set(*peer, &new));
            one.fsm.reconfigure(new, address(node));
            if was != is {
                shut.push((*peer, is));
            }
        }
        process.configure(now, settings, changes);
        for (peer, shutdown) in shut {
            let event = match shutdown {
                Some(message) => Said::Stop {
                    notification: Notification::administrative_shutdown(&message),
                    reason: "administratively down".into(),
                },
                None => Said::Start,
            };
            self.feed(node, peer, event);
        }
        if let Some((peer, reason)) = anew {
            let event = Said::Reconnect {
                notification: Notification::cease(bgp::wire::Cease::OtherConfigurationChange),
                reason: reason.into(),
            };
            self.feed(node, peer, event);
        }
        self.soon(node);
    }
}
