//! A collector that reads what the Rib says over BMP, and keeps what it was told as any collector would.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bgp::{
    bmp::Views,
    prefix::{Families, Family},
    rib::task::{CollectorId, CollectorMessage, Feed, Room},
    wire::{Attributes, Context, Limit, Message, Nlri, frame},
};
use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::world::World;

/// A route, and whether it is told of as import let it in.
pub(crate) type Key = (bool, Nlri);

/// A peer, as it was told of.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) asn: u32,
    pub(crate) routes: BTreeMap<Key, Arc<Attributes>>,
    pub(crate) ends: BTreeSet<(bool, Family)>,
}

pub(crate) struct Station {
    pub(crate) id: CollectorId,
    inbox: mpsc::UnboundedReceiver<Bytes>,
    pub(crate) room: Arc<Room>,
    blocked: bool,
    buffer: BytesMut,
    /// Peers that are up.
    pub(crate) peers: BTreeMap<IpAddr, Heard>,
    /// Reason and address of each Peer Down.
    pub(crate) downs: Vec<(u8, IpAddr)>,
    /// Withdrawals of what it had not been told.
    pub(crate) superfluous: usize,
    /// Types and values of the last Statistics Report of each peer.
    pub(crate) statistics: BTreeMap<IpAddr, BTreeMap<u16, Vec<u8>>>,
    /// The Rib has given it up.
    pub(crate) dropped: bool,
}

impl Station {
    pub(crate) fn connect(
        world: &mut World,
        id: u64,
        views: Views,
        statistics: Option<Duration>,
    ) -> Self {
        let (messages, inbox) = mpsc::unbounded_channel();
        let room = Arc::new(Room::default());
        let id = CollectorId(id);
        let feed = Feed {
            views,
            statistics,
            messages,
            room: room.clone(),
        };
        world
            .rib
            .hear_collector(world.now, id, CollectorMessage::Connected(feed.into()));
        Self {
            id,
            inbox,
            room,
            blocked: false,
            buffer: BytesMut::new(),
            peers: BTreeMap::new(),
            downs: Vec::new(),
            superfluous: 0,
            statistics: BTreeMap::new(),
            dropped: false,
        }
    }

    /// It takes nothing more, or takes again.
    pub(crate) fn block(&mut self, blocked: bool) {
        if self.blocked != blocked {
            self.blocked = blocked;
            let queued = &self.room.queued;
            if blocked {
                queued.fetch_add(Room::LIMIT, Ordering::SeqCst);
            } else {
                queued.fetch_sub(Room::LIMIT, Ordering::SeqCst);
            }
        }
    }

    /// Reads at most so many pieces.
    pub(crate) fn read(&mut self, most: usize) -> usize {
        let mut taken = 0;
        while taken < most {
            match self.inbox.try_recv() {
                Ok(octets) => {
                    self.room.queued.fetch_sub(octets.len(), Ordering::SeqCst);
                    self.buffer.extend_from_slice(&octets);
                    taken += 1;
                }
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.dropped = true;
                    break;
                }
            }
        }
        while !self.buffer.is_empty() {
            let length = u32::from_be_bytes(self.buffer[1..5].try_into().expect("four octets"));
            let message = self.buffer.split_to(length as usize);
            self.hear(message.freeze());
        }
        taken
    }

    fn hear(&mut self, mut message: Bytes) {
        assert_eq!(message.get_u8(), 3, "the version");
        message.advance(4);
        let kind = message.get_u8();
        assert_eq!(message.get_u8(), 0, "a global instance peer");
        let flags = message.get_u8();
        assert_eq!(flags & !0xc0, 0, "V and L are the only flags");
        assert_eq!(message.get_u64(), 0, "the distinguisher");
        let mut octets = [0; 16];
        message.copy_to_slice(&mut octets);
        let address: IpAddr = if flags & 0x80 == 0 {
            assert_eq!(octets[..12], [0; 12]);
            Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]).into()
        } else {
            Ipv6Addr::from(octets).into()
        };
        let asn = message.get_u32();
        message.advance(12);
        let post = flags & 0x40 != 0;
        match kind {
            0 => {
                let peer = self
                    .peers
                    .get_mut(&address)
                    .expect("routes of a peer that is up");
                assert_eq!(asn, peer.asn);
                self.superfluous += learn(peer, post, &message, tells_several_paths(address));
            }
            1 => {
                let count = message.get_u32();
                let report = self.statistics.entry(address).or_default();
                for _ in 0..count {
                    let kind = message.get_u16();
                    let length = message.get_u16();
                    report.insert(kind, message.split_to(length.into()).to_vec());
                }
                assert!(message.is_empty());
            }
            2 => {
                self.peers.remove(&address).expect("a peer that was up");
                self.downs.push((message.get_u8(), address));
            }
            3 => {
                let peer = Heard {
                    asn,
                    ..Heard::default()
                };
                let before = self.peers.insert(address, peer);
                assert!(before.is_none(), "{address} is up twice");
            }
            other => panic!("the Rib sent a message of type {other}"),
        }
    }

    pub(crate) fn routes(&self) -> BTreeMap<(IpAddr, Key), Arc<Attributes>> {
        let each = self.peers.iter().flat_map(|(address, peer)| {
            let routes = peer.routes.iter();
            routes.map(|(key, attributes)| ((*address, *key), attributes.clone()))
        });
        each.collect()
    }
}

/// Every third peer of these tests.
pub(crate) fn tells_several_paths(address: IpAddr) -> Families {
    match address {
        IpAddr::V4(address) if address.octets()[3].is_multiple_of(3) => Families::all(),
        _ => Families::empty(),
    }
}

/// Gives how many withdrawals were of nothing.
fn learn(peer: &mut Heard, post: bool, octets: &[u8], several: Families) -> usize {
    let context = Context {
        families: Families::all(),
        four_octet_as: true,
        add_path_receive: several,
        add_path_send: Families::empty(),
        extended_message: true,
        extended_next_hop: true,
        internal: true,
    };
    let frame = frame(octets, Limit::Extended)
        .expect("a message")
        .expect("a whole one");
    assert_eq!(frame.octets().len(), octets.len(), "one UPDATE");
    let Some(Message::Update(update)) = frame.message(&context).expect("a valid one") else {
        panic!("no UPDATE");
    };
    assert_eq!(update.faults, []);
    if let Some(family) = update.end_of_rib {
        peer.ends.insert((post, family));
    }
    let mut superfluous = 0;
    for nlri in update.withdrawn {
        superfluous += usize::from(peer.routes.remove(&(post, nlri)).is_none());
    }
    for announced in update.announced {
        for nlri in announced.nlri {
            peer.routes
                .insert((post, nlri), announced.attributes.clone());
        }
    }
    superfluous
}
