//! What surrounds the state machine of a session: the model's own driver, as thin as the real one.

use std::time::Duration;

use bgp::{
    peer::{
        deadlines::Timer,
        fsm::{Action, ConnectionId, Event as Said},
    },
    rib::task::{Ending, PeerMessage},
    simulated::{Effect, Link},
    wire::Notification,
};
use bytes::BytesMut;

use crate::{
    clock::Event,
    network::{Dial, Packet, Socket},
    process::{Peer, Sabotage},
    topology::Node,
    trace::What,
    world::World,
};

/// What state machines hear.
impl World {
    pub(crate) fn peer(&mut self, node: Node, peer: Node) -> Option<&mut Peer> {
        self.hosts[node].process.as_mut()?.peers.get_mut(&peer)
    }

    pub(crate) fn link(
        &mut self,
        node: Node,
        peer: Node,
        id: ConnectionId,
    ) -> Option<&mut Link<Socket>> {
        self.peer(node, peer)?.driver.link(id)
    }

    /// A peer's task starts.
    pub(crate) fn begin(&mut self, node: Node, peer: Node) {
        let opens = |peer: &mut Peer| peer.driver.fsm.config().shutdown.is_none();
        if self.peer(node, peer).is_some_and(opens) {
            self.feed(node, peer, Said::Start);
        }
    }

    /// Something happens to a peer.
    pub(crate) fn feed(&mut self, node: Node, peer: Node, event: Said) {
        let now = self.clock.now;
        if let Some(one) = self.peer(node, peer) {
            let actions = one.driver.fsm.handle(now, event);
            self.act(node, peer, actions);
        }
        self.arm(node, peer);
    }

    /// Octets came over a connection.
    pub(crate) fn hear(&mut self, node: Node, peer: Node, id: ConnectionId, octets: &[u8]) {
        let Some(link) = self.link(node, peer, id) else {
            return;
        };
        let mut events = link.hear(octets);
        while !events.is_empty() {
            for event in events {
                self.feed(node, peer, event);
            }
            let link = self.link(node, peer, id);
            events = link.map_or_else(Vec::new, Link::go_on);
        }
    }

    fn arm(&mut self, node: Node, peer: Node) {
        let process = self.hosts[node].process.as_mut();
        if let Some(one) = process.and_then(|process| process.peers.get_mut(&peer))
            && let Some(at) = one.driver.fsm.next_timeout()
        {
            let event = Event::Timer(node, peer);
            one.deadline.set(at, &mut self.clock, event);
        }
    }

    /// A deadline of a peer may have come.
    pub(crate) fn timer(&mut self, node: Node, peer: Node) {
        let now = self.clock.now;
        if !self.hosts[node].acts() {
            return;
        }
        let never = self.sabotage == Some(Sabotage::NeverExpire);
        let Some(one) = self.peer(node, peer) else {
            return;
        };
        if !one.deadline.rings(now) {
            return;
        }
        let held = one.driver.fsm.expiring(Timer::Hold, now);
        let stuck = one.driver.fsm.expiring(Timer::SendHold, now);
        for id in held {
            if never || self.has_unread(node, peer, id) {
                self.feed(node, peer, Said::Unread(id));
            }
        }
        for id in stuck {
            let link = self.link(node, peer, id);
            let waits = link.is_some_and(|link| !link.outgoing.is_empty());
            if never || !waits {
                self.feed(node, peer, Said::NothingWaits(id));
            }
        }
        if let Some(one) = self.peer(node, peer) {
            let actions = one.driver.fsm.handle_timeout(now);
            self.act(node, peer, actions);
        }
        self.arm(node, peer);
    }

    fn has_unread(&mut self, node: Node, peer: Node, id: ConnectionId) -> bool {
        let socket = self.link(node, peer, id).map(|link| link.socket);
        let end = socket.and_then(|socket| self.network.end(socket));
        end.is_some_and(|end| !end.inbox.is_empty())
    }
}

/// What they do.
impl World {
    fn act(&mut self, node: Node, peer: Node, actions: Vec<Action>) {
        let mut writes = false;
        for action in actions {
            let Some(one) = self.peer(node, peer) else {
                return;
            };
            match one.driver.carry_out(action) {
                Some(Effect::Dial) => self.dial(node, peer),
                Some(Effect::AbandonDial) => one.dial = None,
                Some(Effect::Writes) => writes = true,
                Some(Effect::Closed(link, said)) => self.close(node, peer, link, said),
                Some(Effect::Say(message)) => self.pass_on(node, peer, message),
                Some(Effect::State(state, reason)) => {
                    self.tell(node, What::State(peer, state, reason));
                }
                None => {}
            }
        }
        if writes {
            self.pump(node, peer);
        }
    }

    fn dial(&mut self, from: Node, to: Node) {
        self.dials += 1;
        let number = self.dials;
        if let Some(one) = self.peer(from, to) {
            one.dial = Some(number);
        }
        let takes = self.network.takes(&mut self.clock);
        let syn = Event::Syn(Dial { from, to, number }, 0);
        self.clock.after(takes, syn);
    }

    fn close(
        &mut self,
        node: Node,
        peer: Node,
        mut link: Link<Socket>,
        said: Option<Notification>,
    ) {
        self.tell(node, What::Closed(peer, said.clone()));
        let room = self.network.room(link.socket);
        // What does not fit within the second that we wait for it is not heard.
        let words = said
            .map(|said| link.outgoing.last_words(said))
            .filter(|words| words.len() <= room);
        self.close_socket(link.socket, words);
    }

    /// What a session says goes to its Rib, where no sabotage is in the way.
    fn pass_on(&mut self, node: Node, peer: Node, message: PeerMessage) {
        let message = match (message, self.sabotage) {
            (PeerMessage::Down(ending, how), sabotage) => {
                self.tell(node, What::Down(peer, ending));
                PeerMessage::Down(kept(ending, sabotage), how)
            }
            (PeerMessage::Updates(mut updates), Some(Sabotage::LoseWithdrawals(one_in))) => {
                let random = &mut self.clock.random;
                updates.retain(|update| update.withdrawn.is_empty() || random.u32(..one_in) > 0);
                PeerMessage::Updates(updates)
            }
            (message, _) => message,
        };
        self.say(node, peer, message);
    }
}

fn kept(ending: Ending, sabotage: Option<Sabotage>) -> Ending {
    match ending {
        Ending::Restarting {
            families,
            restart_time,
            long_lived,
            yields,
        } => Ending::Restarting {
            families,
            restart_time: match sabotage {
                Some(Sabotage::KeepForEver) => Duration::from_secs(1_000_000),
                Some(Sabotage::KeepLonger(seconds)) => restart_time + Duration::from_secs(seconds),
                _ => restart_time,
            },
            long_lived,
            yields,
        },
        Ending::Gone => ending,
    }
}

/// What they write.
impl World {
    /// Writes what waits, as far as there is room, and obeys the Rib.
    pub(crate) fn pump(&mut self, node: Node, peer: Node) {
        if !self.hosts[node].acts() {
            return;
        }
        while let Some(order) = self.peer(node, peer).and_then(|one| one.driver.order()) {
            self.feed(node, peer, order);
        }
        self.take(node, peer);
        let Some(one) = self.peer(node, peer) else {
            return;
        };
        let ids: Vec<ConnectionId> = one.driver.links().iter().map(|link| link.id).collect();
        for id in ids {
            while self.write(node, peer, id) {
                self.take(node, peer);
            }
        }
    }

    /// Takes what the Rib has to say.
    fn take(&mut self, node: Node, peer: Node) {
        let sabotage = self.sabotage;
        if self.peer(node, peer).is_some_and(|one| one.take(sabotage)) {
            self.say(node, peer, PeerMessage::Writable);
        }
    }

    /// Writes some of what waits on a connection; whether something went.
    fn write(&mut self, node: Node, peer: Node, id: ConnectionId) -> bool {
        let process = self.hosts[node].process.as_mut();
        let one = process.and_then(|process| process.peers.get_mut(&peer));
        let Some(link) = one.and_then(|one| one.driver.link(id)) else {
            return false;
        };
        let socket = link.socket;
        let blocked = !link.outgoing.is_empty();
        let room = if blocked {
            self.network.room(socket)
        } else {
            0
        };
        if let Some(end) = self.network.end(socket) {
            // While the peer takes nothing it is the send hold timer's turn.
            end.patience = if blocked && room == 0 {
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
        let mut of_rib = link.outgoing.went_out(octets.len());
        if self.sabotage == Some(Sabotage::QueueWithoutEnd) {
            of_rib = 0;
        }
        let packet = Packet::Octets(octets.freeze());
        self.network.send(socket, packet, &mut self.clock);
        self.feed(node, peer, Said::Sent(id));
        let one = self.peer(node, peer);
        if one.is_some_and(|one| one.driver.wrote(id, of_rib)) {
            self.say(node, peer, PeerMessage::Writable);
        }
        true
    }
}
