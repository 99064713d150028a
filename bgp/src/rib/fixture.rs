//! What unit tests of the Rib start from.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use super::{
    peer::Peer,
    task::{PeerId, Settings},
};
use crate::{
    config::{
        AddPath, Connect, MaxPrefixes, Multipath, NextHopAddresses, NextHopMode, OverLimit,
        Password, PeerAsn, PeerConfig, Policy, Timers, Ttl, Verdict,
    },
    prefix::Families,
    status::PeerKind,
};

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(super) fn settings() -> Settings {
    Settings {
        asn: 64512,
        router_id: Ipv4Addr::new(1, 1, 1, 1),
        cluster_id: Ipv4Addr::new(9, 9, 9, 9),
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

/// A peer over IPv4 in AS 65001 or in our own, from which and to which everything goes.
pub(super) fn peer(kind: PeerKind) -> Peer {
    let mut peer = Peer::new(PeerId(1), "peer1".into(), Arc::new(peer_config()));
    peer.kind = kind;
    peer.asn = match kind {
        PeerKind::Internal => 64512,
        PeerKind::External => 65001,
    };
    peer.local_address = Some(ip("10.0.1.1"));
    peer
}

/// Its configuration.
pub(crate) fn peer_config() -> PeerConfig {
    let all = Arc::new(Policy::always("all", Verdict::Accept));
    PeerConfig {
        address: ip("10.0.1.2"),
        interface: None,
        unnumbered: None,
        port: 179,
        asn: PeerAsn::Any,
        local_asn: 64512,
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
        next_hop_addresses: NextHopAddresses::default(),
        route_reflector_client: false,
        allow_own_as: 0,
        max_prefixes: MaxPrefixes {
            count: 0,
            action: OverLimit::Warn,
        },
        bfd: None,
        import: all.clone(),
        export: Some(all),
        shutdown: None,
        mesh: false,
    }
}

/// Changes the configuration of such a peer.
pub(super) fn configure(peer: &mut Peer, change: impl FnOnce(&mut PeerConfig)) {
    change(Arc::get_mut(&mut peer.config).expect("a configuration of our own"));
}
