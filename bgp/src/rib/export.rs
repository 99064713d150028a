//! What becomes of a route on its way out: who is told, with which attributes (RFC 4271 §9.1.3, RFC 4456, RFC 8212).

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroUsize,
    sync::Arc,
};

use super::{
    intern::LOCAL_PREF,
    peer::Peer,
    policy::{self, OwnAs, Subject},
    task::Settings,
};
use crate::{
    config::{NextHopMode, Origination, Policy, Set, Source, Verdict},
    prefix::{Families, Family, Prefix},
    status::PeerKind,
    wire::{Attributes, Community, Context, ExtendedCommunity, NextHop, Origin},
};

/// All that decides what a peer is told, and in which octets. Peers with equal treatment are told the same, once.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Treatment {
    pub(super) context: Context,
    kind: PeerKind,
    local_asn: u32,
    client: bool,
    policy: Option<Rules>,
    next_hop: NextHopMode,
    /// Our own next hop for IPv4 and IPv6 prefixes.
    ours: [Option<NextHop>; 2],
    /// Most paths of a prefix, where several were agreed (RFC 7911).
    most_paths: u8,
    /// They know long-lived stale routes.
    knows_long_stale: bool,
    draining: bool,
    cluster_id: Ipv4Addr,
    /// Those restrictions of what we originate that name the peer.
    told_of: BTreeSet<BTreeSet<String>>,
    depends_on_prefix: bool,
}

/// A policy that equals every other of the same rules, whatever its name: rules written out at each of a thousand peers are
/// still told once.
#[derive(Clone, Debug)]
struct Rules(Arc<Policy>);

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&self.0, &other.0);
        Arc::ptr_eq(one, other) || one.default == other.default && one.rules == other.rules
    }
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum From<'a> {
    /// We originate it.
    Ourselves(&'a Origination),
    /// This peer told us.
    Peer {
        kind: PeerKind,
        client: bool,
        router_id: Ipv4Addr,
    },
}

/// Why a peer is not told of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Withheld {
    /// Learned routes are passed on only where an export policy says so.
    NoPolicy,
    /// Neither side is a route reflector client (RFC 4456 §6).
    NotReflected,
    /// The advertisement names other peers.
    NotForPeer,
    /// NO_EXPORT, NO_EXPORT_SUBCONFED or NO_ADVERTISE (RFC 1997).
    Community(&'static str),
    /// The export policy rejects it.
    Policy { name: String, rule: Option<usize> },
    /// It is long-lived stale, and the peer does not know what that means (RFC 9494 §4.3).
    LongStale,
    /// There is no next hop this peer could use.
    NoNextHop(&'static str),
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => {
                f.write_str("without an export policy only what we originate is told")
            }
            Self::NotReflected => f.write_str("neither peer is a route reflector client"),
            Self::NotForPeer => f.write_str("the advertisement names other peers"),
            Self::Community(name) => write!(f, "it carries {name}"),
            Self::Policy {
                name,
                rule: Some(rule),
            } => write!(f, "export policy {name}, rule {}", rule.saturating_add(1)),
            Self::Policy { name, rule: None } => {
                write!(f, "export policy {name}: no rule accepts it")
            }
            Self::LongStale => f.write_str(
                "it is long-lived stale, and the peer does not know long-lived graceful restart",
            ),
            Self::NoNextHop(why) => f.write_str(why),
        }
    }
}

/// The attributes of what we originate, before rules. Prepending is left to the end: to internal peers it would be a loop.
pub(super) fn originated(set: &Set) -> Attributes {
    let mut attributes = Attributes {
        origin: Origin::Igp,
        ..Attributes::default()
    };
    let set = Set {
        prepend: (None, 0),
        ..set.clone()
    };
    policy::set(&set, OwnAs::Omit(0), &mut attributes);
    attributes
}

/// Whether a peer is among those named; who came from a range (`RANGE/ADDRESS`) is where the range is.
fn means(peers: &BTreeSet<String>, name: &str) -> bool {
    let range = name.rsplit_once('/').map(|(range, _)| range);
    peers.contains(name) || range.is_some_and(|range| peers.contains(range))
}

impl Treatment {
    /// How a peer with a session is treated.
    pub(super) fn of(settings: &Settings, peer: &Peer, context: Context) -> Self {
        let told_of = settings
            .originate
            .values()
            .flat_map(Origination::named)
            .filter(|peers| means(peers, &peer.name))
            .cloned()
            .collect();
        Self {
            context: Context {
                families: Families::all(),
                add_path_receive: Families::empty(),
                ..context
            },
            kind: peer.kind,
            local_asn: peer.config.local_asn,
            client: peer.config.route_reflector_client && peer.kind == PeerKind::Internal,
            policy: peer.config.export.clone().map(Rules),
            next_hop: peer.config.next_hop,
            ours: [own_v4(peer, context), own_v6(peer)],
            // A session that agreed on several goes on with one, under its identifier, where no more are wanted.
            most_paths: if context.add_path_send.is_empty() {
                0
            } else {
                peer.config.add_path.send_max.max(1)
            },
            knows_long_stale: peer
                .session
                .as_ref()
                .is_some_and(|live| live.knows_long_stale),
            draining: settings.draining,
            cluster_id: settings.cluster_id,
            told_of,
            depends_on_prefix: peer
                .config
                .export
                .as_ref()
                .is_some_and(|policy| policy::depends_on_prefix(policy)),
        }
    }

    /// How many paths of a prefix the peers are told, where that may be several.
    pub(super) fn paths(&self, family: Family) -> Option<NonZeroUsize> {
        NonZeroUsize::new(self.most_paths.into()).filter(|_| self.context.add_path_send.has(family))
    }

    /// Whether two prefixes with equal attributes from the same source may fare differently.
    pub(super) fn depends_on_prefix(&self, from: From<'_>) -> bool {
        self.depends_on_prefix || matches!(from, From::Ourselves(_))
    }

    /// The attributes the peers are told, or why they are not.
    pub(super) fn export(
        &self,
        prefix: Prefix,
        from: From<'_>,
        attributes: &Attributes,
    ) -> Result<Attributes, Withheld> {
        let own = match from {
            From::Ourselves(origination) => Some(self.told(origination)?),
            From::Peer { kind, client, .. } => {
                self.permit(kind, client, attributes)?;
                None
            }
        };
        let mut out = match own {
            Some(set) => Cow::Owned(originated(set)),
            None => Cow::Borrowed(attributes),
        };
        if self.kind == PeerKind::External
            && matches!(from, From::Peer { .. })
            && attributes.med.is_some()
        {
            out.to_mut().med = None; // RFC 4271 §5.1.4; rules may set one
        }
        let next_hop_set = self.rule(prefix, from, &mut out)?;
        let mut out = out.into_owned();
        if let Some(Set { prepend, .. }) = own
            && self.kind == PeerKind::External
        {
            let asn = prepend.0.unwrap_or(self.local_asn);
            out.as_path = out.as_path.prepend(asn, usize::from(prepend.1));
        }
        out.next_hop = Some(self.next_hop(prefix.family(), from, next_hop_set, &out)?);
        match self.kind {
            PeerKind::External => self.outward(&mut out),
            PeerKind::Internal => self.inward(from, &mut out),
        }
        if self.draining {
            policy::with(&mut out.communities, Community::GRACEFUL_SHUTDOWN);
        }
        Ok(out)
    }

    /// With which attributes the peer is told of what we originate.
    fn told<'a>(&self, origination: &'a Origination) -> Result<&'a Set, Withheld> {
        let other = origination
            .others
            .iter()
            .find(|(peers, _)| self.told_of.contains(peers));
        match (other, &origination.peers) {
            (Some((_, set)), _) => Ok(set),
            (None, Some(peers)) if !self.told_of.contains(peers) => Err(Withheld::NotForPeer),
            (None, _) => Ok(&origination.set),
        }
    }

    /// What holds of a learned route whatever the rules say.
    fn permit(
        &self,
        kind: PeerKind,
        client: bool,
        attributes: &Attributes,
    ) -> Result<(), Withheld> {
        let external = self.kind == PeerKind::External;
        for (community, name, forbidden) in [
            (Community::NO_ADVERTISE, "NO_ADVERTISE", true),
            (Community::NO_EXPORT, "NO_EXPORT", external),
            (
                Community::NO_EXPORT_SUBCONFED,
                "NO_EXPORT_SUBCONFED",
                external,
            ),
        ] {
            if forbidden && attributes.communities.contains(&community) {
                return Err(Withheld::Community(name));
            }
        }
        if !self.knows_long_stale && attributes.communities.contains(&Community::LLGR_STALE) {
            return Err(Withheld::LongStale);
        }
        match (kind, self.kind) {
            (PeerKind::Internal, PeerKind::Internal) if client || self.client => Ok(()),
            (PeerKind::Internal, PeerKind::Internal) => Err(Withheld::NotReflected),
            _ if self.policy.is_none() => Err(Withheld::NoPolicy),
            _ => Ok(()),
        }
    }

    /// What the rules make of it; whether they set the next hop.
    fn rule(
        &self,
        prefix: Prefix,
        from: From<'_>,
        out: &mut Cow<'_, Attributes>,
    ) -> Result<bool, Withheld> {
        let Some(Rules(policy)) = &self.policy else {
            return Ok(false);
        };
        let subject = Subject {
            prefix,
            source: match from {
                From::Ourselves(origination) => origination.source,
                From::Peer { .. } => Source::Learned,
            },
            // To an internal peer our own AS in AS_PATH is a loop.
            own_as: match self.kind {
                PeerKind::External => OwnAs::Prepend(self.local_asn),
                PeerKind::Internal => OwnAs::Omit(self.local_asn),
            },
        };
        let ruling = policy::rule(policy, subject, out);
        match ruling.verdict {
            Verdict::Accept => Ok(ruling.next_hop_set),
            Verdict::Reject => Err(Withheld::Policy {
                name: policy.name.clone(),
                rule: ruling.rule,
            }),
        }
    }

    fn next_hop(
        &self,
        family: Family,
        from: From<'_>,
        set: bool,
        out: &Attributes,
    ) -> Result<NextHop, Withheld> {
        let learned = out.next_hop.filter(|_| match (self.next_hop, self.kind) {
            _ if set => true,
            _ if matches!(from, From::Ourselves(_)) => false,
            (NextHopMode::Keep, _) | (NextHopMode::Auto, PeerKind::Internal) => true,
            (NextHopMode::SelfAddress, _) | (NextHopMode::Auto, PeerKind::External) => false,
        });
        let Some(learned) = learned else {
            let [v4, v6] = self.ours;
            return match family {
                Family::IPv4 => v4.ok_or(Withheld::NoNextHop(
                    "we have no IPv4 address the peer could use as next hop",
                )),
                Family::IPv6 => v6.ok_or(Withheld::NoNextHop(
                    "we have no IPv6 address the peer could use as next hop",
                )),
            };
        };
        match (family, learned.address) {
            (Family::IPv4, IpAddr::V6(_)) if !self.context.extended_next_hop => {
                Err(Withheld::NoNextHop(
                    "its next hop is IPv6, and RFC 8950 was not agreed with the peer",
                ))
            }
            (Family::IPv6, IpAddr::V4(_)) => Err(Withheld::NoNextHop(
                "an IPv6 prefix can't have an IPv4 next hop",
            )),
            (_, IpAddr::V6(address)) if address.is_unicast_link_local() => {
                Err(Withheld::NoNextHop(
                    "its next hop is link-local, of use on its own link only: set the next hop to ourselves",
                ))
            }
            // The link-local address beside a global one means nothing on another link (RFC 2545 §3).
            (_, address) => Ok(address.into()),
        }
    }

    fn outward(&self, out: &mut Attributes) {
        // RFC 5065 §5.3: what a confederation wrote there is its own affair.
        out.as_path = out
            .as_path
            .without_confederation()
            .prepend(self.local_asn, 1);
        if out.extended_communities.iter().any(stays_in_its_as) {
            // RFC 4360 §6.
            let list = std::mem::take(&mut out.extended_communities).into_vec();
            out.extended_communities = list
                .into_iter()
                .filter(|community| !stays_in_its_as(community))
                .collect();
        }
        out.local_pref = None;
        out.originator_id = None;
        out.cluster_list = Box::default();
    }

    fn inward(&self, from: From<'_>, out: &mut Attributes) {
        let local_pref = if self.draining {
            0
        } else {
            out.local_pref.unwrap_or(LOCAL_PREF)
        };
        out.local_pref = Some(local_pref);
        match from {
            From::Peer {
                kind: PeerKind::Internal,
                router_id,
                ..
            } => {
                out.originator_id.get_or_insert(router_id);
                out.cluster_list = std::iter::once(self.cluster_id)
                    .chain(out.cluster_list.iter().copied())
                    .collect();
            }
            From::Peer { .. } | From::Ourselves(_) => {
                out.originator_id = None;
                out.cluster_list = Box::default();
            }
        }
    }
}

fn stays_in_its_as(community: &ExtendedCommunity) -> bool {
    !community.is_transitive()
}

/// Over an IPv6 session with RFC 8950 the peer may well have no IPv4 on the link: there our IPv6 address serves both.
fn own_v4(peer: &Peer, context: Context) -> Option<NextHop> {
    let over_v6 = matches!(peer.local_address, Some(IpAddr::V6(_)));
    let v6 = || own_v6(peer).filter(|_| context.extended_next_hop);
    let session = peer.local_address.filter(IpAddr::is_ipv4);
    let v4 = peer
        .config
        .next_hop_addresses
        .v4
        .map(IpAddr::V4)
        .or(session);
    if over_v6 {
        v6().or(v4.map(Into::into))
    } else {
        v4.map(Into::into).or_else(v6)
    }
}

/// The global address, with the link-local one beside it on a shared link; where there is none, that alone (RFC 2545 §3).
fn own_v6(peer: &Peer) -> Option<NextHop> {
    let session = match peer.local_address {
        Some(IpAddr::V6(address)) => Some(address),
        _ => None,
    };
    let global = peer
        .config
        .next_hop_addresses
        .v6
        .or(session.filter(|address| !address.is_unicast_link_local()));
    let link_local = peer
        .local_link_local
        .or(session.filter(|address| address.is_unicast_link_local()));
    match (global, link_local) {
        (Some(global), link_local) => Some(NextHop {
            address: global.into(),
            link_local,
        }),
        (None, Some(link_local)) => Some(IpAddr::V6(link_local).into()),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod naming {
    use super::*;

    #[test]
    fn the_name_of_a_range_stands_for_all_who_came_from_it() {
        let peers = BTreeSet::from(["anyone".to_owned(), "tor".to_owned()]);
        assert!(means(&peers, "tor"));
        assert!(means(&peers, "anyone/10.9.0.5"));
        assert!(!means(&peers, "anyone-else/10.9.0.5"));
        assert!(!means(&peers, "node2"));
    }
}
