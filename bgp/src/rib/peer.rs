//! A peer as the Rib knows it: its last session, and what is kept from the one before.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hashbrown::HashMap;

use super::{
    route::Source,
    task::{LongLived, Order, Outbound, PeerId, Refreshing, Session},
};
use crate::{
    bmp::{Down, Opening},
    config::{PeerAsn, PeerConfig},
    prefix::{Families, Family},
    status::PeerKind,
    wire::Context,
};

/// All peers by id.
pub(super) type Peers = HashMap<PeerId, Peer>;

/// One peer. What its last session said of it stays until the next one, for the routes that stay.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) name: Arc<str>,
    pub(super) config: Arc<PeerConfig>,
    pub(super) kind: PeerKind,
    pub(super) asn: u32,
    pub(super) router_id: Ipv4Addr,
    pub(super) address: IpAddr,
    pub(super) local_address: Option<IpAddr>,
    pub(super) local_link_local: Option<Ipv6Addr>,
    pub(super) interface: Option<Arc<str>>,
    /// The session, while it is Established.
    pub(super) session: Option<Live>,
    pub(super) families: [Inbound; 2],
    pub(super) limit: Limit,
    /// When a route that leads astray was last spoken of, seconds since the start.
    pub(super) astray_said: Option<u32>,
    pub(super) updates_out: u64,
    /// Restart time it told when it went, for how long to wait once it is back.
    pub(super) restart_time: Duration,
    /// How long its routes stay after that.
    pub(super) long_lived: LongLived,
    /// How the last one ended.
    pub(super) last_down: Down,
    pub(super) tally: Tally,
}

/// What became of what a peer said, since it is configured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Prefixes that the import policy or the origin check rejected.
    pub(super) rejected: u32,
    /// Prefixes announced again as they were.
    pub(super) duplicate_advertisements: u32,
    /// Prefixes withdrawn that were not there.
    pub(super) duplicate_withdraws: u32,
    /// Announcements with our cluster ID in CLUSTER_LIST.
    pub(super) cluster_loops: u32,
    /// … with our AS number in AS_PATH.
    pub(super) as_path_loops: u32,
    /// … with our BGP Identifier in ORIGINATOR_ID.
    pub(super) originator_loops: u32,
    /// UPDATEs treated as a withdrawal (RFC 7606).
    pub(super) treated_as_withdraw: u32,
}

/// An Established session.
#[derive(Debug)]
pub(super) struct Live {
    /// No other session ever has it.
    pub(super) number: u64,
    pub(super) opening: Arc<Opening>,
    pub(super) context: Context,
    pub(super) refresh: Refreshing,
    pub(super) expects: Families,
    pub(super) outbound: Outbound,
    pub(super) since: Instant,
    /// It may be told of long-lived stale routes.
    pub(super) knows_long_stale: bool,
    /// Our End-of-RIB is not yet sent.
    pub(super) end_of_rib_due: Families,
    /// It asked for a refresh that has not begun.
    pub(super) refresh_due: Families,
    /// The end of a refresh that has begun is not yet marked.
    pub(super) refresh_ends: Families,
    /// It is being told to close: nothing it says counts any more.
    pub(super) closing: bool,
}

/// What a peer told us of one family.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Inbound {
    pub(super) received: usize,
    pub(super) accepted: usize,
    pub(super) stale: usize,
    /// Refused because they do not lead to the owner of their prefix.
    pub(super) astray: usize,
    /// Refused because they have been here.
    pub(super) looped: usize,
    /// Its End-of-RIB was seen in this session.
    pub(super) end_of_rib: bool,
    /// When the session ended that the oldest of what is stale came by.
    pub(super) stale_since: Option<Instant>,
    /// When what is still stale goes, or becomes long-lived stale.
    pub(super) stale_until: Option<Instant>,
    /// When what is long-lived stale goes (RFC 9494).
    pub(super) long_stale_until: Option<Instant>,
    /// When what was not repeated since its Begin-of-RR goes, even without an End (RFC 7313 §4).
    pub(super) refresh_until: Option<Instant>,
    /// Its last Begin-of-RR.
    pub(super) refresh_begun: Option<Instant>,
}

/// How far the warnings about the number of prefixes have gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Limit {
    #[default]
    Far,
    /// 80 % was said.
    Near,
    /// Being over it was said.
    Over,
}

impl Peer {
    pub(super) fn new(id: PeerId, name: Arc<str>, config: Arc<PeerConfig>) -> Self {
        let asn = match config.asn {
            PeerAsn::Number(asn) => asn,
            PeerAsn::Internal | PeerAsn::External | PeerAsn::Any => config.local_asn,
        };
        Self {
            id,
            name,
            kind: if asn == config.local_asn {
                PeerKind::Internal
            } else {
                PeerKind::External
            },
            asn,
            router_id: Ipv4Addr::UNSPECIFIED,
            address: config.address,
            config,
            local_address: None,
            local_link_local: None,
            interface: None,
            session: None,
            families: [Inbound::default(); 2],
            limit: Limit::default(),
            astray_said: None,
            updates_out: 0,
            restart_time: Duration::ZERO,
            long_lived: LongLived::default(),
            last_down: Down::TheyLeft,
            tally: Tally::default(),
        }
    }

    pub(super) fn source(&self) -> Source {
        Source::peer(self.id)
    }

    /// A new session, of this number.
    pub(super) fn establish(&mut self, now: Instant, number: u64, session: Session) {
        // Its configuration is what we were last told it is: the session may have begun before that.
        let families = session.context.families;
        self.kind = session.kind;
        self.asn = session.asn;
        self.router_id = session.router_id;
        self.address = session.address;
        self.local_address = Some(session.local_address);
        self.local_link_local = session.local_link_local;
        self.interface = session.interface;
        self.limit = Limit::Far;
        for inbound in &mut self.families {
            inbound.end_of_rib = false;
            inbound.refresh_until = None;
        }
        self.session = Some(Live {
            number,
            opening: session.opening,
            context: session.context,
            refresh: session.refresh,
            expects: session.expects_end_of_rib & families,
            outbound: session.outbound,
            since: now,
            knows_long_stale: session.knows_long_stale,
            end_of_rib_due: families,
            refresh_due: Families::empty(),
            refresh_ends: Families::empty(),
            closing: false,
        });
    }

    pub(super) fn inbound(&self, family: Family) -> &Inbound {
        let [v4, v6] = &self.families;
        match family {
            Family::IPv4 => v4,
            Family::IPv6 => v6,
        }
    }

    pub(super) fn inbound_mut(&mut self, family: Family) -> &mut Inbound {
        let [v4, v6] = &mut self.families;
        match family {
            Family::IPv4 => v4,
            Family::IPv6 => v6,
        }
    }

    /// Prefixes it has told us, both families together.
    pub(super) fn received(&self) -> usize {
        self.families.iter().map(|inbound| inbound.received).sum()
    }

    /// … of which these have been here.
    pub(super) fn looped(&self) -> usize {
        self.families.iter().map(|inbound| inbound.looped).sum()
    }

    /// Whether its session carries the family.
    pub(super) fn carries(&self, family: Family) -> bool {
        self.session
            .as_ref()
            .is_some_and(|live| live.context.families.has(family))
    }
}

impl Live {
    /// Whether nothing more may be queued; then it says so when that has changed.
    pub(super) fn is_full(&self) -> bool {
        self.outbound.room.is_full()
    }

    /// Queues whole messages.
    pub(super) fn send(&self, messages: Bytes) {
        self.outbound.room.add(messages.len());
        // A session that has ended says so itself.
        let _ = self.outbound.messages.send(messages);
    }

    pub(super) fn order(&self, order: Order) {
        // A session that has ended says so itself.
        let _ = self.outbound.orders.send(Box::new(order));
    }
}
