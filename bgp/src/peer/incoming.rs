//! What comes over one connection: octets in, what they mean to the state machine out. No socket.

use super::fsm::{ConnectionId, Event};
use crate::wire::{self, Context, Frame, Kind, Limit, Message};

/// The octets of one connection on their way to messages.
#[derive(Debug)]
pub struct Incoming {
    id: ConnectionId,
    context: Context,
    /// Set once the OPENs have met.
    limit: Option<Limit>,
    /// What is not a whole message yet, or stands behind an OPEN.
    unparsed: Vec<u8>,
    /// Nothing that comes now is of interest: it broke the rules, or is gone.
    deaf: bool,
}

/// What was in a chunk.
#[derive(Debug, Default)]
pub struct Read {
    /// For the Fsm, in order; UPDATEs that follow each other together.
    pub events: Vec<Event>,
    /// All messages.
    pub messages: u64,
    /// UPDATEs among them.
    pub updates: u64,
}

/// A message that was in it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// As it came.
    pub frame: Frame<'a>,
    /// What it was read by.
    pub context: &'a Context,
    /// What it says, where that can be read.
    pub message: Option<&'a Message>,
}

impl Incoming {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(id: ConnectionId) -> Self {
        Self {
            id,
            context: Context::default(),
            limit: None,
            unparsed: Vec::new(),
            deaf: false,
        }
    }

    /// From here on messages are read by what was agreed.
    pub fn agreed(&mut self, context: Context) {
        self.context = context;
        // We offer extended messages always, and so have to take them.
        self.limit = Some(Limit::Extended);
    }

    /// Whether nothing more is read.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Reads nothing more.
    pub fn deafen(&mut self) {
        self.deaf = true;
    }

    /// What was left of the chunks so far.
    #[must_use]
    pub fn unparsed(&self) -> &[u8] {
        &self.unparsed
    }

    /// Goes on with what the last chunk left; `None` where that is no whole message. `see` is shown each message in turn.
    pub fn resume(&mut self, see: impl FnMut(&Seen<'_>)) -> Option<Read> {
        if self.unparsed.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.unparsed);
        let (read, left) = self.parse(&rest, see);
        self.unparsed = rest;
        self.unparsed
            .drain(..self.unparsed.len().saturating_sub(left));
        (read.messages > 0 || self.deaf).then_some(read)
    }

    /// Reads a chunk: [`Incoming::unparsed`], and what came behind it. `see` is shown each message in turn.
    pub fn take(&mut self, chunk: &[u8], see: impl FnMut(&Seen<'_>)) -> Read {
        let (read, left) = self.parse(chunk, see);
        let rest = chunk.get(chunk.len().saturating_sub(left)..);
        self.unparsed = rest.unwrap_or_default().to_vec();
        read
    }

    /// Messages up to an OPEN (what follows it may have to be read otherwise) or an error, and how many octets are left.
    fn parse(&mut self, mut octets: &[u8], mut see: impl FnMut(&Seen<'_>)) -> (Read, usize) {
        let mut read = Read::default();
        let mut updates = Vec::new();
        while !octets.is_empty() {
            let message = match wire::frame(octets, self.limit.unwrap_or_default()) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    octets = octets.get(frame.octets().len()..).unwrap_or_default();
                    if frame.kind() == Kind::Update && self.limit.is_none() {
                        // Out of place whatever it says.
                        Ok(Some(Message::Update(wire::Update::default())))
                    } else {
                        let message = frame.message(&self.context);
                        see(&Seen {
                            frame,
                            context: &self.context,
                            message: message.as_ref().ok().and_then(Option::as_ref),
                        });
                        message
                    }
                }
                Err(error) => Err(error),
            };
            read.messages = read.messages.saturating_add(1);
            match message {
                Ok(Some(Message::Update(update))) => {
                    read.updates = read.updates.saturating_add(1);
                    updates.push(update);
                    continue;
                }
                Ok(None) => continue,
                other => {
                    flush(&mut updates, self.id, &mut read.events);
                    match other {
                        Ok(Some(message)) => {
                            let open = matches!(message, Message::Open(_));
                            read.events.push(Event::Received(self.id, message));
                            if open {
                                break;
                            }
                        }
                        Ok(None) => {}
                        Err(error) => {
                            let reason = format!("malformed message: {error}");
                            let said = error.notification();
                            read.events.push(Event::Malformed(self.id, said, reason));
                            self.deaf = true;
                            octets = &[];
                        }
                    }
                }
            }
        }
        flush(&mut updates, self.id, &mut read.events);
        (read, octets.len())
    }
}

fn flush(updates: &mut Vec<wire::Update>, id: ConnectionId, events: &mut Vec<Event>) {
    if !updates.is_empty() {
        events.push(Event::Updates(id, std::mem::take(updates)));
    }
}
