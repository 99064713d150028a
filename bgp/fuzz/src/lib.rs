//! What the fuzz targets share: a context from one octet, and what must hold of whatever can be read.

use std::time::{Duration, Instant};

use bgp::{
    bfd::{
        packet::{Flags, Packet},
        session::{Event, Session, Settings},
    },
    peer::deadlines::Jitter,
    prefix::Families,
    wire::{Context, Kind, Limit, Message, Update, frame, update::Unsendable},
};
use bytes::BytesMut;

pub mod session;

/// The context that the bits of `octet` choose.
pub fn context(octet: u8) -> Context {
    let bit = |bit: u8| octet & (1 << bit) != 0;
    let mut add_path = Families::empty();
    add_path.set(Families::IPV4, bit(1));
    add_path.set(Families::IPV6, bit(2));
    Context {
        families: match (bit(6), bit(7)) {
            (true, false) => Families::IPV4,
            (false, true) => Families::IPV6,
            _ => Families::all(),
        },
        four_octet_as: bit(0),
        add_path_receive: add_path,
        add_path_send: add_path,
        extended_message: bit(3),
        extended_next_hop: bit(4),
        internal: bit(5),
    }
}

/// The message whose body is `body`, if one can be that long.
pub fn framed(kind: Kind, body: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(body.len().checked_add(19)?).ok()?;
    let mut message = vec![0xff; 16];
    message.extend(length.to_be_bytes());
    message.push(kind as u8);
    message.extend(body);
    Some(message)
}

/// Reads a BFD packet: what can be read is written as it was, and leaves a session that has its next deadline ahead.
pub fn check_bfd(octets: &[u8]) {
    let Ok(packet) = Packet::read(octets) else {
        return;
    };
    assert_eq!(Packet::read(&packet.write()).ok(), unauthenticated(packet));
    let (now, interval) = (Instant::now(), Duration::from_millis(100));
    let settings = Settings {
        min_rx: interval,
        min_tx: interval,
        multiplier: 3,
    };
    let mut session = Session::new(now, 1, settings, Jitter::new(1, now));
    for _ in 0..3 {
        drop(session.handle(now, Event::Received(packet, now)));
        drop(session.handle_timeout(now));
        assert!(session.next_timeout().is_none_or(|at| at > now));
    }
}

/// We write none with authentication.
fn unauthenticated(packet: Packet) -> Option<Packet> {
    (!packet.flags.contains(Flags::AUTHENTICATED)).then_some(packet)
}

/// Reads one message after the other; each that is read can be written, and reads as it was.
pub fn check_stream(mut octets: &[u8], context: &Context) {
    while let Ok(Some(found)) = frame(octets, Limit::Extended) {
        match found.message(context) {
            Ok(Some(message)) => check(message, context),
            Ok(None) => {}
            Err(error) => drop((error.to_string(), error.notification().to_string())),
        }
        octets = &octets[found.octets().len()..];
    }
}

fn check(message: Message, context: &Context) {
    match message {
        Message::Update(update) => check_update(update, context),
        message => {
            if let Message::Notification(notification) = &message {
                assert!(!notification.to_string().contains(char::is_control));
            }
            let again = read(
                &write(&message, context).expect("only an UPDATE can be too long"),
                context,
            );
            // Data of a NOTIFICATION may be cut to what a message of 4,096 octets holds.
            if !matches!(&message, Message::Notification(long) if long.data.len() > 4075) {
                assert_eq!(again, [message]);
            }
        }
    }
}

fn check_update(mut update: Update, context: &Context) {
    for announced in &update.announced {
        drop((
            announced.attributes.as_path.to_string(),
            announced.attributes.as_path.hops(),
        ));
        for nlri in &announced.nlri {
            assert!(
                !update.withdrawn.contains(nlri),
                "{nlri:?} is announced and withdrawn"
            );
        }
    }
    update.faults.clear();
    let octets = match write(&Message::Update(update.clone()), context) {
        Ok(octets) => octets,
        Err(Unsendable::TooLong(_)) => return,
        Err(error) => panic!("{error}"),
    };
    let mut joined = Update::default();
    for message in read(&octets, context) {
        let Message::Update(part) = message else {
            panic!("not an UPDATE")
        };
        assert_eq!(part.faults, []);
        joined.withdrawn.extend(part.withdrawn);
        joined.end_of_rib = joined.end_of_rib.or(part.end_of_rib);
        for announced in part.announced {
            match joined.announced.last_mut() {
                Some(last) if last.attributes == announced.attributes => {
                    last.nlri.extend(announced.nlri);
                }
                _ => joined.announced.push(announced),
            }
        }
    }
    // Through two octets a path goes in two attributes, and is joined otherwise than it was cut.
    if context.four_octet_as {
        let sorted = |mut update: Update| {
            update.withdrawn.sort();
            let mut announced: Vec<_> = update
                .announced
                .drain(..)
                .flat_map(|set| {
                    set.nlri
                        .into_iter()
                        .map(move |nlri| (nlri, set.attributes.clone()))
                })
                .collect();
            // Two sets of one family may come back in the other order.
            announced.sort_by_key(|(nlri, attributes)| {
                (*nlri, attributes.next_hop.map(|hop| hop.address))
            });
            (update.withdrawn, announced, update.end_of_rib)
        };
        assert_eq!(sorted(joined), sorted(update));
    }
}

fn write(message: &Message, context: &Context) -> Result<BytesMut, Unsendable> {
    let mut out = BytesMut::new();
    message.write(context, &mut out).map(|_| out)
}

fn read(octets: &[u8], context: &Context) -> Vec<Message> {
    let limit = if context.extended_message {
        Limit::Extended
    } else {
        Limit::Standard
    };
    let mut buffer = BytesMut::from(octets);
    let mut messages = Vec::new();
    while let Some(message) =
        Message::take(&mut buffer, limit, context).expect("we read what we write")
    {
        messages.push(message);
    }
    assert!(buffer.is_empty(), "we write whole messages");
    messages
}
