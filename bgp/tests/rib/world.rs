//! A Rib and peers that read what it says: each keeps what it was told as any BGP speaker would.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bgp::{
    bmp::Down,
    config::{
        AddPath, Connect, MaxPrefixes, Multipath, NextHopAddresses, NextHopMode, Origination,
        OverLimit, Password, PeerAsn, PeerConfig, Policy, Set, Source, Timers, Ttl, Verdict,
    },
    prefix::{Families, Family, Prefix},
    rib::{
        Rib,
        task::{
            Ending, Install, Order, Outbound, PeerChange, PeerId, PeerMessage, Refreshing, Room,
            Session, Settings,
        },
    },
    status::PeerKind,
    wire::{
        AsPath, Attributes, Context, Limit, Message, Nlri, RouteRefresh, Update,
        refresh::RefreshKind, update::Announced,
    },
};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::station::Station;

pub(crate) const OWN_AS: u32 = 64512;

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

pub(crate) fn accept_all() -> Arc<Policy> {
    Arc::new(Policy::always("all", Verdict::Accept))
}

pub(crate) fn settings() -> Settings {
    Settings {
        asn: OWN_AS,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        cluster_id: Ipv4Addr::new(10, 0, 0, 1),
        multipath: Multipath {
            max_paths: 1,
            as_path_relax: false,
        },
        deferral: Duration::from_secs(15),
        draining: false,
        stable: false,
        originate: BTreeMap::new(),
        owners: Arc::default(),
    }
}

pub(crate) fn origination(source: Source) -> Origination {
    Origination {
        source,
        peers: None,
        set: Set::default(),
        others: Vec::new(),
    }
}

/// A peer on 10.0.1.`number`: external in AS 65000 + number, or internal.
pub(crate) fn config(number: u32, kind: PeerKind) -> PeerConfig {
    PeerConfig {
        address: address(number),
        interface: None,
        unnumbered: None,
        port: 179,
        asn: PeerAsn::Any,
        local_asn: OWN_AS,
        source: None,
        connect: Connect::Dial,
        ttl: Ttl::Send(1),
        password: Password::None,
        timers: Timers {
            connect_retry: Duration::from_secs(5),
            hold: Duration::from_secs(90),
            keepalive: Duration::from_secs(30),
            idle_hold_max: Duration::from_secs(60),
        },
        families: Families::all(),
        extended_next_hop: false,
        add_path: AddPath::default(),
        graceful_restart: None,
        next_hop: NextHopMode::Auto,
        next_hop_addresses: NextHopAddresses {
            v4: Some(Ipv4Addr::new(10, 0, 1, 254)),
            v6: Some("fd00::254".parse().expect("an address")),
        },
        route_reflector_client: kind == PeerKind::Internal,
        allow_own_as: 0,
        max_prefixes: MaxPrefixes {
            count: 0,
            action: OverLimit::Warn,
        },
        bfd: None,
        import: accept_all(),
        export: Some(accept_all()),
        shutdown: None,
        mesh: false,
    }
}

pub(crate) fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0100 + number))
}

/// Attributes as peer `number` would send them, with `hops` more ASes behind it.
pub(crate) fn attributes(number: u32, kind: PeerKind, hops: u32) -> Attributes {
    let own = (kind == PeerKind::External).then_some(65000 + number);
    let path: Vec<u32> = own
        .into_iter()
        .chain((0..hops).map(|hop| 65500 + hop))
        .collect();
    Attributes {
        as_path: AsPath::sequence(&path),
        next_hop: Some(address(number).into()),
        local_pref: (kind == PeerKind::Internal).then_some(100),
        ..Attributes::default()
    }
}

/// One peer and what it has been told.
pub(crate) struct Neighbor {
    pub(crate) id: PeerId,
    pub(crate) kind: PeerKind,
    pub(crate) config: Arc<PeerConfig>,
    pub(crate) refresh: Refreshing,
    pub(crate) context: Context,
    session: Option<Inbox>,
    buffer: BytesMut,
    /// What it knows.
    pub(crate) view: BTreeMap<Nlri, Arc<Attributes>>,
    /// End-of-RIBs it got.
    pub(crate) ends: BTreeSet<Family>,
    pub(crate) refreshes: Vec<RouteRefresh>,
    pub(crate) orders: Vec<Order>,
    /// UPDATEs it got that say something.
    pub(crate) updates: usize,
    pub(crate) withdrawn: Vec<Prefix>,
}

struct Inbox {
    messages: mpsc::UnboundedReceiver<Bytes>,
    orders: mpsc::UnboundedReceiver<Box<Order>>,
    room: Arc<Room>,
    blocked: bool,
}

impl Neighbor {
    pub(crate) fn is_up(&self) -> bool {
        self.session.is_some()
    }

    /// Reads at most so many pieces.
    pub(crate) fn read(&mut self, most: usize) -> usize {
        let mut taken = 0;
        while taken < most
            && let Some(inbox) = &mut self.session
            && let Ok(octets) = inbox.messages.try_recv()
        {
            inbox.room.queued.fetch_sub(octets.len(), Ordering::SeqCst);
            self.buffer.extend_from_slice(&octets);
            taken += 1;
        }
        if let Some(inbox) = &mut self.session {
            while let Ok(order) = inbox.orders.try_recv() {
                self.orders.push(*order);
            }
        }
        let context = Context {
            add_path_receive: self.context.add_path_send,
            ..self.context
        };
        while let Some(message) =
            Message::take(&mut self.buffer, Limit::Extended, &context).expect("valid messages")
        {
            match message {
                Message::Update(update) => self.learn(update),
                Message::RouteRefresh(refresh) => self.refreshes.push(refresh),
                other => panic!("the Rib sent {other:?}"),
            }
        }
        taken
    }

    /// Its socket takes nothing more, or takes again.
    pub(crate) fn block(&mut self, blocked: bool) {
        if let Some(inbox) = &mut self.session
            && inbox.blocked != blocked
        {
            inbox.blocked = blocked;
            let queued = &inbox.room.queued;
            if blocked {
                queued.fetch_add(Room::LIMIT, Ordering::SeqCst);
            } else {
                queued.fetch_sub(Room::LIMIT, Ordering::SeqCst);
            }
        }
    }

    pub(crate) fn queued(&self) -> usize {
        self.session
            .as_ref()
            .map_or(0, |inbox| inbox.room.queued.load(Ordering::SeqCst))
    }

    fn learn(&mut self, update: Update) {
        assert_eq!(update.faults, [], "the Rib sent something malformed");
        if let Some(family) = update.end_of_rib {
            self.ends.insert(family);
            return;
        }
        self.updates += 1;
        for nlri in update.withdrawn {
            self.withdrawn.push(nlri.prefix);
            self.view.remove(&nlri);
        }
        for announced in update.announced {
            for nlri in announced.nlri {
                self.view.insert(nlri, announced.attributes.clone());
            }
        }
    }

    pub(crate) fn prefixes(&self) -> Vec<Prefix> {
        self.view.keys().map(|nlri| nlri.prefix).collect()
    }

    pub(crate) fn told(&self, text: &str) -> Option<&Attributes> {
        self.view.get(&prefix(text).into()).map(|found| &**found)
    }
}

pub(crate) struct World {
    pub(crate) rib: Rib,
    pub(crate) settings: Settings,
    pub(crate) now: Instant,
    pub(crate) peers: BTreeMap<u32, Neighbor>,
    /// What the kernel has.
    pub(crate) kernel: BTreeMap<Prefix, Install>,
    /// Next hops that lead nowhere.
    pub(crate) unresolved: BTreeSet<IpAddr>,
    /// Who is told over BMP.
    pub(crate) station: Option<Station>,
    start: Instant,
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        // The one look at a clock: an Instant can't be had otherwise. All that matters is what is added to it.
        #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning")]
        let start = Instant::now();
        let mut rib = Rib::new(settings.clone(), true, start);
        rib.configure(start, settings.clone(), Vec::new());
        Self {
            rib,
            settings,
            now: start,
            peers: BTreeMap::new(),
            kernel: BTreeMap::new(),
            unresolved: BTreeSet::new(),
            station: None,
            start,
        }
    }

    /// The time on the other clock, which began in 2001.
    pub(crate) fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000_000) + (self.now - self.start)
    }

    /// A configured peer, not up.
    pub(crate) fn add(
        &mut self,
        number: u32,
        kind: PeerKind,
        change: impl FnOnce(&mut PeerConfig),
    ) {
        let mut config = config(number, kind);
        change(&mut config);
        let config = Arc::new(config);
        let internal = kind == PeerKind::Internal;
        let neighbor = Neighbor {
            id: PeerId(number),
            kind,
            config: config.clone(),
            refresh: Refreshing::Enhanced,
            context: Context {
                families: Families::all(),
                four_octet_as: true,
                internal,
                ..Context::default()
            },
            session: None,
            buffer: BytesMut::new(),
            view: BTreeMap::new(),
            ends: BTreeSet::new(),
            refreshes: Vec::new(),
            orders: Vec::new(),
            updates: 0,
            withdrawn: Vec::new(),
        };
        self.peers.insert(number, neighbor);
        self.set(number, config);
    }

    /// Another configuration for a peer.
    pub(crate) fn set(&mut self, number: u32, config: Arc<PeerConfig>) {
        let peer = self.peers.get_mut(&number).expect("a peer");
        peer.config = config.clone();
        let change = PeerChange::Set {
            peer: peer.id,
            name: format!("peer{number}").into(),
            config,
        };
        self.rib
            .configure(self.now, self.settings.clone(), vec![change]);
    }

    pub(crate) fn change(&mut self, number: u32, change: impl FnOnce(&mut PeerConfig)) {
        let mut config = (*self.peer(number).config).clone();
        change(&mut config);
        self.set(number, Arc::new(config));
    }

    pub(crate) fn reconfigure(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.rib
            .configure(self.now, self.settings.clone(), Vec::new());
    }

    pub(crate) fn peer(&self, number: u32) -> &Neighbor {
        self.peers.get(&number).expect("a peer")
    }

    pub(crate) fn peer_mut(&mut self, number: u32) -> &mut Neighbor {
        self.peers.get_mut(&number).expect("a peer")
    }

    /// A session without graceful restart.
    pub(crate) fn up(&mut self, number: u32) {
        self.up_with(number, |_| {});
    }

    pub(crate) fn up_with(&mut self, number: u32, change: impl FnOnce(&mut Session)) {
        let peer = self.peers.get_mut(&number).expect("a peer");
        let (messages, inbox) = mpsc::unbounded_channel();
        let (orders, ordered) = mpsc::unbounded_channel();
        let room = Arc::new(Room::default());
        let mut session = Session {
            config: peer.config.clone(),
            context: peer.context,
            kind: peer.kind,
            asn: match peer.kind {
                PeerKind::External => 65000 + number,
                PeerKind::Internal => OWN_AS,
            },
            router_id: Ipv4Addr::from(0x0a01_0000 + number),
            address: address(number),
            local_address: IpAddr::V4(Ipv4Addr::new(10, 0, 1, 254)),
            local_link_local: None,
            interface: None,
            refresh: peer.refresh,
            expects_end_of_rib: Families::empty(),
            preserved: Families::empty(),
            knows_long_stale: false,
            opening: Arc::default(),
            outbound: Outbound {
                messages,
                room: room.clone(),
                orders,
            },
        };
        change(&mut session);
        peer.context = session.context;
        peer.session = Some(Inbox {
            messages: inbox,
            orders: ordered,
            room,
            blocked: false,
        });
        peer.buffer.clear();
        peer.view.clear();
        peer.ends.clear();
        let id = peer.id;
        self.rib
            .hear(self.now, id, PeerMessage::Established(Box::new(session)));
    }

    pub(crate) fn down(&mut self, number: u32, ending: Ending) {
        let peer = self.peer_mut(number);
        peer.session = None;
        peer.view.clear();
        let id = peer.id;
        self.rib
            .hear(self.now, id, PeerMessage::Down(ending, Down::TheyLeft));
    }

    pub(crate) fn say(&mut self, number: u32, update: Update) {
        let id = self.peer(number).id;
        self.rib
            .hear(self.now, id, PeerMessage::Updates(vec![update]));
    }

    /// A peer announces prefixes with these attributes.
    pub(crate) fn announce_with(&mut self, number: u32, attributes: Attributes, nlri: Vec<Nlri>) {
        let update = Update {
            announced: [Announced {
                attributes: attributes.into(),
                nlri,
            }]
            .into_iter()
            .collect(),
            ..Update::default()
        };
        self.say(number, update);
    }

    pub(crate) fn announce(&mut self, number: u32, prefixes: &[&str]) {
        let attributes = attributes(number, self.peer(number).kind, 1);
        let nlri = prefixes.iter().map(|text| prefix(text).into()).collect();
        self.announce_with(number, attributes, nlri);
    }

    pub(crate) fn withdraw(&mut self, number: u32, prefixes: &[&str]) {
        let update = Update {
            withdrawn: prefixes.iter().map(|text| prefix(text).into()).collect(),
            ..Update::default()
        };
        self.say(number, update);
    }

    pub(crate) fn end_of_rib(&mut self, number: u32, family: Family) {
        let update = Update {
            end_of_rib: Some(family),
            ..Update::default()
        };
        self.say(number, update);
    }

    pub(crate) fn refresh(&mut self, number: u32, family: Family, kind: RefreshKind) {
        let id = self.peer(number).id;
        let message = PeerMessage::Refresh(RouteRefresh { family, kind });
        self.rib.hear(self.now, id, message);
    }

    /// Those lead nowhere, and no others.
    pub(crate) fn unresolved(&mut self, next_hops: BTreeSet<IpAddr>) {
        self.unresolved.clone_from(&next_hops);
        self.rib.unresolved(self.now, next_hops);
    }

    pub(crate) fn flush(&mut self) {
        self.rib.handle_timeout(self.now);
        self.rib.flush(self.now);
        self.rib.tell_collectors(self.now, self.wall());
    }

    /// Lets time pass: everything that becomes due meanwhile is done when it is due.
    pub(crate) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.rib.next_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.flush();
            assert!(
                self.rib.is_behind() || self.rib.next_timeout().is_none_or(|next| next > due),
                "what is due is done"
            );
        }
        self.now = until;
        self.rib.handle_timeout(self.now);
    }

    /// Everyone reads until nothing is left to say.
    pub(crate) fn settle(&mut self) {
        loop {
            self.flush();
            let mut read = 0;
            for peer in self.peers.values_mut() {
                read += peer.read(usize::MAX);
            }
            if let Some(station) = &mut self.station {
                read += station.read(usize::MAX);
            }
            self.install();
            if read == 0 {
                break;
            }
        }
    }

    pub(crate) fn install(&mut self) {
        while self.rib.wants_to_install() {
            for install in self.rib.take_installs(100) {
                if install.next_hops.is_empty() {
                    self.kernel.remove(&install.prefix);
                } else {
                    self.kernel.insert(install.prefix, install);
                }
            }
        }
    }

    pub(crate) fn prefixes_of(&mut self, number: u32) -> Vec<String> {
        self.settle();
        self.peer(number)
            .prefixes()
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}
