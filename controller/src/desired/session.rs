//! What all sessions of this node have in common, and what is settled once all are known.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use bgp::{
    config::{
        AddPath, Connect, GracefulRestartConfig, MaxPrefixes, NextHopAddresses, NextHopMode,
        OverLimit, Password, PeerAsn, PeerConfig, Policy, RangeConfig, Timers, Ttl,
    },
    prefix::{Families, Family},
};

use super::{Duty, View};
use crate::crd;

/// How long the higher address of two nodes waits for the lower one to dial.
const YIELD: Duration = Duration::from_secs(10);

/// The sessions of this node by name, and which BGPPeer each came from.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) peers: BTreeMap<String, PeerConfig>,
    pub(super) ranges: BTreeMap<String, RangeConfig>,
    /// BGPPeer → its sessions.
    pub(super) of: BTreeMap<String, Vec<String>>,
}

impl Sessions {
    /// Every session and every range.
    pub(super) fn all(&self) -> impl Iterator<Item = &PeerConfig> {
        self.peers
            .values()
            .chain(self.ranges.values().map(|range| &range.peer))
    }

    /// The session with this address on this port, if there is one.
    pub(super) fn with(&self, address: IpAddr, interface: Option<&str>, port: u16) -> Option<&str> {
        self.peers
            .iter()
            .find(|(_, peer)| {
                peer.address == address
                    && peer.port == port
                    && peer.interface.as_deref() == interface
            })
            .map(|(name, _)| name.as_str())
    }
}

/// A session with another node of the cluster, as topology has it.
pub(super) fn between_nodes(
    view: &View<'_>,
    node: &str,
    own: IpAddr,
    address: IpAddr,
    import: Arc<Policy>,
) -> PeerConfig {
    PeerConfig {
        address,
        interface: None,
        unnumbered: None,
        port: view.config.listen_port,
        asn: PeerAsn::Number(view.cluster.asn(node)),
        local_asn: view.asn,
        source: Some(own),
        connect: turn(view, own, address),
        ttl: Ttl::Send(255),
        password: Password::None,
        timers: timers(&view.config.timers),
        families: Families::all(),
        extended_next_hop: false,
        add_path: AddPath::default(),
        graceful_restart: graceful_restart(view, &view.config.graceful_restart),
        next_hop: NextHopMode::Auto,
        next_hop_addresses: node_addresses(view),
        route_reflector_client: false,
        allow_own_as: 0,
        max_prefixes: limit(view, &crd::peer::MaxPrefixes::default(), Some(&[node])),
        bfd: None,
        import,
        export: None,
        shutdown: None,
        mesh: true,
    }
}

/// Lower address dials at once, the other only if nothing comes.
pub(super) fn turn(view: &View<'_>, own: IpAddr, other: IpAddr) -> Connect {
    if own < other || view.config.listen_mode == crd::configuration::ListenMode::None {
        Connect::Dial
    } else {
        Connect::After(YIELD)
    }
}

/// Our InternalIPs as next hops.
pub(super) fn node_addresses(view: &View<'_>) -> NextHopAddresses {
    NextHopAddresses {
        v4: view.addresses.v4,
        v6: view.addresses.v6,
    }
}

/// Session timers in the speaker's terms.
pub(super) fn timers(timers: &crd::configuration::Timers) -> Timers {
    let seconds = |seconds: u16| Duration::from_secs(seconds.into());
    Timers {
        connect_retry: seconds(timers.connect_retry_seconds),
        hold: seconds(timers.hold_seconds),
        keepalive: seconds(timers.keepalive_seconds),
        idle_hold_max: seconds(timers.idle_hold_max_seconds),
    }
}

/// Graceful restart in the speaker's terms.
pub(super) fn graceful_restart(
    view: &View<'_>,
    spec: &crd::configuration::GracefulRestart,
) -> Option<GracefulRestartConfig> {
    spec.enabled.then_some(GracefulRestartConfig {
        restart_time: spec.restart_seconds,
        long_lived: spec.long_lived_seconds,
        notification: spec.notification,
        restarted: view.facts.restarted,
    })
}

/// Maximum prefixes: as given, or 8 for each pod CIDR of `nodes`, or 1000; none where nothing is installed, for then
/// there is no kernel to protect.
pub(super) fn limit(
    view: &View<'_>,
    spec: &crd::peer::MaxPrefixes,
    nodes: Option<&[&str]>,
) -> MaxPrefixes {
    let count = match (spec.count, nodes) {
        (0, _) if !view.config.kernel.install => 0,
        (0, None) => 1000,
        (0, Some(nodes)) => {
            let cidrs: usize = nodes
                .iter()
                .filter_map(|node| view.cluster.nodes.get(*node))
                .map(|node| node.pod_cidrs.len())
                .sum();
            u32::try_from(cidrs.max(2))
                .unwrap_or(u32::MAX)
                .saturating_mul(8)
        }
        (count, _) => count,
    };
    MaxPrefixes {
        count,
        action: match spec.action {
            crd::peer::OverLimit::Warn => OverLimit::Warn,
            crd::peer::OverLimit::Shutdown => {
                OverLimit::Shutdown(Duration::from_secs(spec.idle_seconds.into()))
            }
        },
    }
}

/// What is only known once all sessions are.
pub(super) fn settle(view: &View<'_>, sessions: &mut Sessions) {
    // A node with two ways out: each of its routers must let go of routes at once when told to, for the other one
    // serves; so none is asked to keep them over a NOTIFICATION (RFC 8538).
    let external =
        |peer: &PeerConfig| !peer.mesh && !is_internal(peer.asn, peer.local_asn).unwrap_or(false);
    // Counted by family, for one router may have a session for each.
    let ways_out = |family| {
        let sessions = sessions.peers.values();
        sessions
            .filter(|peer| external(peer) && peer.families.has(family))
            .count()
    };
    let doubled: Families = Family::ALL
        .into_iter()
        .filter(|family| ways_out(*family) >= 2)
        .collect();
    for peer in sessions.peers.values_mut() {
        if external(peer)
            && peer.families.intersects(doubled)
            && let Some(restart) = &mut peer.graceful_restart
        {
            restart.notification = false;
        }
    }
    if view.facts.duty == Duty::Drained {
        let ranges = sessions.ranges.values_mut().map(|range| &mut range.peer);
        for peer in sessions.peers.values_mut().chain(ranges) {
            peer.shutdown
                .get_or_insert_with(|| view.facts.farewell().to_owned());
        }
    }
}

/// Whether a session is internal, where that is known before the peer's OPEN.
pub(super) fn is_internal(asn: PeerAsn, local_asn: u32) -> Option<bool> {
    match asn {
        PeerAsn::Number(asn) => Some(asn == local_asn),
        PeerAsn::Internal => Some(true),
        PeerAsn::External => Some(false),
        PeerAsn::Any => None,
    }
}
