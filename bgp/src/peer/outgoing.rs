//! What goes out over one connection: messages of the session and of the Rib, and what waits of them. No socket.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::wire::{Context, Message, Notification};

/// The messages of one connection on their way out.
#[derive(Debug, Default)]
pub struct Outgoing {
    context: Context,
    waiting: VecDeque<Piece>,
}

/// One or more whole messages.
#[derive(Debug)]
struct Piece {
    octets: Bytes,
    of_rib: bool,
}

impl Outgoing {
    /// Pieces written at once, and that wait here at most before no more is taken of the Rib.
    pub const PIECES: usize = 64;

    /// From here on messages are written by what was agreed.
    pub fn agreed(&mut self, context: Context) {
        self.context = context;
    }

    /// Queues a message of the session itself. A KEEPALIVE is left out where UPDATEs wait: they say the same
    /// (the first one of a session, which says more, comes before any UPDATE); or where the peer takes nothing anyway.
    /// Gives its octets, if it goes.
    pub fn send(&mut self, message: &Message) -> Option<Bytes> {
        let updates = self.waiting.iter().any(|piece| piece.of_rib);
        let stuck = self.waiting.len() >= Self::PIECES;
        if matches!(message, Message::Keepalive) && (updates || stuck) {
            return None;
        }
        let mut octets = BytesMut::new();
        if let Err(error) = message.write(&self.context, &mut octets) {
            tracing::error!(%error, "a message of ours cannot be written");
            return None;
        }
        let octets = octets.freeze();
        self.waiting.push_back(Piece {
            octets: octets.clone(),
            of_rib: false,
        });
        Some(octets)
    }

    /// Whether it takes more of what the Rib has.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting.len() < Self::PIECES
    }

    /// Takes whole messages of the Rib.
    pub fn push(&mut self, octets: Bytes) {
        self.waiting.push_back(Piece {
            octets,
            of_rib: true,
        });
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Octets that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(|piece| piece.octets.len()).sum()
    }

    /// What to write next, as one.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let pieces = self.waiting.iter().take(Self::PIECES);
        pieces.map(|piece| &*piece.octets)
    }

    /// Takes `count` written octets off what waits; gives how many of them the Rib counts.
    pub fn went_out(&mut self, mut count: usize) -> usize {
        let mut of_rib = 0_usize;
        while let Some(piece) = self.waiting.front_mut() {
            let step = count.min(piece.octets.len());
            if piece.of_rib {
                of_rib = of_rib.saturating_add(step);
            }
            count = count.saturating_sub(step);
            if step < piece.octets.len() {
                piece.octets.advance(step);
                break;
            }
            self.waiting.pop_front();
        }
        of_rib
    }

    /// What is said at the end: the rest of a message that has begun, and `said`.
    #[must_use]
    pub fn last_words(&mut self, said: Notification) -> Bytes {
        let mut octets = BytesMut::new();
        if let Some(begun) = self.waiting.pop_front() {
            octets.extend_from_slice(&begun.octets);
        }
        if let Err(error) = Message::Notification(said).write(&self.context, &mut octets) {
            tracing::error!(%error, "a NOTIFICATION of ours cannot be written");
        }
        octets.freeze()
    }
}
