//! Octets that nobody who keeps to the protocol would send.

use bgp::{
    peer::negotiate::{Local, our_open},
    wire::{Context, Message},
};
use bytes::BytesMut;

use crate::{
    config,
    network::{Socket, State},
    topology::{Node, address},
    trace::What,
    world::World,
};

impl World {
    /// A buggy peer: something it said before comes again with octets changed, or octets come that mean nothing.
    pub(crate) fn garble(&mut self, node: Node, peer: Node) {
        let mut open = self.network.between(node, peer);
        open.retain(|one| self.network.is_open(*one) && self.network.is_open(one.other()));
        for socket in open {
            let random = &mut self.clock.random;
            let mut octets = self.network.said(socket).to_vec();
            octets.truncate(4096);
            if octets.len() < 19 || random.u8(..4) == 0 {
                octets = [&[0xff; 16][..], &[0, 23, 2, 0, 0, 0, 0]].concat();
            }
            for _ in 0..1 + random.usize(..4) {
                // Mostly behind the marker.
                let from = if random.u8(..8) == 0 { 0 } else { 16 };
                let place = random.usize(from..octets.len());
                octets[place] = random.u8(..);
            }
            self.tell(node, What::Link(peer, "garbled octets"));
            self.network.inject(socket, octets.into(), &mut self.clock);
        }
    }

    /// Somebody dials from the address of a neighbour, and says as much of a session as chance has it.
    pub(crate) fn rogue(&mut self, node: Node, other: Node) {
        if self.hosts[node].process.is_none() || !self.hosts[node].up {
            return;
        }
        self.tell(node, What::Link(other, "somebody dials from there"));
        let wire = self.network.connect(other, node);
        if let Some(connection) = self.network.connections.get_mut(&wire) {
            connection.ends[0].state = State::Lingering;
            connection.tainted = true;
        }
        self.hosts[node].backlog.push((other, wire));
        let random = &mut self.clock.random;
        let peer = config::peer(&self.topology, other, node, random.bool());
        let local = Local {
            router_id: address(other),
            restarting: random.bool(),
            preserved: random.bool(),
        };
        let mut octets = BytesMut::new();
        let messages = [
            Message::Open(our_open(&peer, &local)),
            Message::Keepalive,
            Message::Keepalive,
        ];
        for message in messages.iter().take(random.usize(..4)) {
            let _ = message.write(&Context::default(), &mut octets);
        }
        if random.bool() {
            let noise = (0..random.usize(1..60)).map(|_| random.u8(..));
            octets.extend(noise.collect::<Vec<u8>>());
        }
        if !octets.is_empty() {
            let socket = Socket { wire, side: 0 };
            self.network
                .inject(socket, octets.freeze(), &mut self.clock);
        }
        self.accept(node);
    }
}
