//! TCP as the speakers see it: who dials, who accepts, what is read, and how connections end.

use std::time::Duration;

use bgp::peer::fsm::{Event as Said, Loss};
use bytes::Bytes;

use crate::{
    clock::Event,
    network::{Dial, LINGER, Packet, Socket, State, Wire},
    process::Sabotage,
    topology::Node,
    trace::What,
    world::World,
};

/// How long who cannot act now waits before it looks again.
const LATER: Duration = Duration::from_secs(1);

/// How connections come about.
impl World {
    /// A SYN sets out, and gets there or is lost.
    pub(crate) fn syn(&mut self, dial: Dial, attempt: u32) {
        if !self.wants(dial) {
            return;
        }
        let Dial { from, to, .. } = dial;
        let takes = self.network.takes(&mut self.clock);
        if !self.network.paths.are_whole(from, to) {
            let again = Duration::from_secs(1 << attempt.min(5));
            return self.clock.after(again, Event::Syn(dial, attempt + 1));
        }
        let listens = self.hosts[to].process.is_some();
        let wire = listens.then(|| self.network.connect(from, to));
        self.clock.after(takes, Event::Answer(dial, wire));
        if let Some(wire) = wire {
            self.hosts[to].backlog.push((from, wire));
            self.accept(to);
        }
    }

    /// Whether the dial is still one that somebody waits for.
    fn wants(&mut self, dial: Dial) -> bool {
        let peer = self.peer(dial.from, dial.to);
        peer.is_some_and(|peer| peer.dial == Some(dial.number))
    }

    /// The speaker takes the connections that came.
    pub(crate) fn accept(&mut self, node: Node) {
        if !self.hosts[node].acts() {
            return;
        }
        for (from, wire) in std::mem::take(&mut self.hosts[node].backlog) {
            let socket = Socket { wire, side: 1 };
            match self.peer(node, from).map(|peer| peer.driver.adopt(socket)) {
                Some(id) => {
                    self.feed(node, from, Said::Accepted(id));
                    self.read(socket);
                }
                None => self.close_socket(socket, None),
            }
        }
    }

    /// The answer to a SYN.
    pub(crate) fn answered(&mut self, dial: Dial, wire: Option<Wire>) {
        let socket = wire.map(|wire| Socket { wire, side: 0 });
        if !self.wants(dial) {
            if let Some(socket) = socket {
                self.close_socket(socket, None);
            }
            return;
        }
        let Dial { from, to, .. } = dial;
        if !self.network.paths.are_whole(from, to) || !self.hosts[from].acts() {
            return self.clock.after(LATER, Event::Answer(dial, wire));
        }
        let Some(peer) = self.peer(from, to) else {
            return;
        };
        peer.dial = None;
        let event = match socket {
            Some(socket) => Said::Dialled(peer.driver.adopt(socket)),
            None => Said::DialFailed("nobody listens there".into()),
        };
        self.feed(from, to, event);
        if let Some(socket) = socket {
            self.read(socket);
        }
    }
}

/// What comes over them.
impl World {
    /// A packet may have come.
    pub(crate) fn arrival(&mut self, socket: Socket) {
        let Some(packet) = self.network.arrive(socket, &mut self.clock) else {
            return self.network.forget(socket.wire);
        };
        let Some(end) = self.network.end(socket) else {
            return;
        };
        let state = end.state;
        if state == State::Open {
            end.inbox.push_back(packet);
            return self.read(socket);
        }
        if let Packet::Octets(octets) = packet {
            self.network.took(socket, octets.len(), &mut self.clock);
            if state == State::Closed {
                self.network.send(socket, Packet::Reset, &mut self.clock);
            }
        }
        self.network.forget(socket.wire);
    }

    /// Reads what came over a connection, as far as the process gets to it.
    pub(crate) fn read(&mut self, socket: Socket) {
        let Some((node, other)) = self.network.nodes(socket) else {
            return;
        };
        while self.hosts[node].acts() {
            let now = self.clock.now;
            let Some(id) = self.peer(node, other).and_then(|peer| peer.link_on(socket)) else {
                return;
            };
            let Some(end) = self.network.end(socket) else {
                return;
            };
            if end.state != State::Open || end.unread_until.is_some_and(|until| now < until) {
                return;
            }
            let Some(packet) = end.inbox.pop_front() else {
                return;
            };
            let ending = match packet {
                Packet::Octets(octets) => {
                    self.network.took(socket, octets.len(), &mut self.clock);
                    self.tell(node, What::Read(other, octets.len()));
                    self.hear(node, other, id, &octets);
                    continue;
                }
                Packet::Fin => "it closed the connection",
                Packet::Reset => "it reset the connection",
            };
            let closed = Said::Closed(id, Loss::Closed, ending.into());
            self.feed(node, other, closed);
        }
    }

    /// There is room to write again.
    pub(crate) fn room(&mut self, socket: Socket) {
        if let Some((node, other)) = self.network.nodes(socket) {
            self.pump(node, other);
        }
    }
}

/// How they end.
impl World {
    /// Nothing was acknowledged for long.
    pub(crate) fn unacknowledged(&mut self, socket: Socket) {
        if self.sabotage == Some(Sabotage::NeverExpire)
            || !self.network.gives_up(socket, &mut self.clock)
        {
            return;
        }
        let Some((node, other)) = self.network.nodes(socket) else {
            return;
        };
        if !self.hosts[node].acts() {
            return self.clock.after(LATER, Event::Unacknowledged(socket));
        }
        if let Some(id) = self.peer(node, other).and_then(|peer| peer.link_on(socket)) {
            let reason = "nothing we sent was acknowledged".into();
            self.feed(node, other, Said::Closed(id, Loss::Unresponsive, reason));
        }
    }

    /// The last words were said long enough ago.
    pub(crate) fn lingered(&mut self, socket: Socket) {
        if let Some(end) = self.network.end(socket)
            && end.state == State::Lingering
        {
            end.state = State::Closed;
            self.network.forget(socket.wire);
        }
    }

    /// The process lets go of a connection, perhaps with last words.
    pub(crate) fn close_socket(&mut self, socket: Socket, last_words: Option<Bytes>) {
        let Some(end) = self.network.end(socket) else {
            return;
        };
        let octets = |packet: &Packet| matches!(packet, Packet::Octets(_));
        let unread = end.inbox.drain(..).filter(octets).count();
        end.state = match last_words {
            Some(_) => State::Lingering,
            None => State::Closed,
        };
        let clock = &mut self.clock;
        match last_words {
            Some(words) => {
                self.network.send(socket, Packet::Octets(words), clock);
                self.network.send(socket, Packet::Fin, clock);
                clock.after(LINGER, Event::Lingered(socket));
            }
            // A kernel that has to throw octets away says so.
            None if unread > 0 => self.network.send(socket, Packet::Reset, clock),
            None => self.network.send(socket, Packet::Fin, clock),
        }
    }

    /// The process is gone: its kernel closes all it had.
    pub(crate) fn close_all(&mut self, node: Node) {
        let mut open = self.network.sockets(node);
        open.retain(|socket| self.network.is_open(*socket));
        for socket in open {
            self.close_socket(socket, None);
        }
        self.hosts[node].backlog.clear();
    }

    /// Something between the two sides resets a connection.
    pub(crate) fn reset(&mut self, wire: Wire) {
        if let Some(connection) = self.network.connections.get_mut(&wire) {
            connection.tainted = false;
        }
        for side in [0, 1] {
            let socket = Socket { wire, side };
            self.network.send(socket, Packet::Reset, &mut self.clock);
        }
        // Whoever is nobody's process lets go too.
        if let Some(connection) = self.network.connections.get_mut(&wire) {
            for end in &mut connection.ends {
                if end.state == State::Lingering {
                    end.state = State::Closed;
                }
            }
        }
    }
}
