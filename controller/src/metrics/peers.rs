//! Sessions: sums for all, series of their own for those that a BGPPeer names.

use std::fmt;

use bgp::{
    bfd::packet::State,
    status::{End, MessageCounts, PeerKind, PeerStatus, SessionState},
};

use super::{Page, Scrape, flag, routes, seconds};
use crate::{desired::Desired, report};

/// What a peer is: a node of the cluster, or what the session with it is (unknown: any AS is allowed and it was never up).
pub(super) const TYPES: [&str; 4] = ["mesh", "internal", "external", "unknown"];

/// States with their numbers in BGP4-MIB (RFC 4273, bgpPeerState).
const STATES: [(SessionState, u64); 6] = [
    (SessionState::Idle, 1),
    (SessionState::Connect, 2),
    (SessionState::Active, 3),
    (SessionState::OpenSent, 4),
    (SessionState::OpenConfirm, 5),
    (SessionState::Established, 6),
];

/// A count of messages: received and sent.
type Count = fn(&MessageCounts) -> (u64, u64);

/// One of [`TYPES`].
pub(super) fn type_of(peer: &PeerStatus) -> &'static str {
    match (peer.mesh, peer.kind) {
        (true, _) => "mesh",
        (false, Some(PeerKind::Internal)) => "internal",
        (false, Some(PeerKind::External)) => "external",
        (false, None) => "unknown",
    }
}

/// Whether it has series of its own: no node of the cluster, no member of a range, for there may be a thousand of either.
fn is_named(peer: &PeerStatus, desired: &Desired) -> bool {
    let of_range = peer
        .name
        .split_once('/')
        .is_some_and(|(rule, _)| desired.speaker.ranges.contains_key(rule));
    !peer.mesh && !of_range
}

pub(super) fn write(scrape: &Scrape, page: &mut Page<'_>) -> fmt::Result {
    sums(scrape, page)?;
    let named: Vec<&PeerStatus> = scrape
        .peers
        .iter()
        .filter(|peer| is_named(peer, &scrape.desired))
        .collect();
    sessions(&named, &scrape.desired, page)?;
    messages(&named, page)?;
    watched(&named, page)?;
    for (name, help, count) in routes::COUNTS {
        page.gauge(
            &format!("routelet_peer_routes_{name}"),
            &format!("{help}, of one named peer, by family."),
            named.iter().flat_map(|peer| {
                let families = peer.families.keys();
                families.map(move |family| {
                    let labels = [("peer", peer.name.clone()), ("family", family.to_string())];
                    (labels, routes::of(peer, *family, count))
                })
            }),
        )?;
    }
    Ok(())
}

fn sums(scrape: &Scrape, page: &mut Page<'_>) -> fmt::Result {
    let count = |kind: &str, holds: &dyn Fn(&PeerStatus) -> bool| {
        let all = scrape.peers.iter();
        all.filter(|peer| type_of(peer) == kind && holds(peer))
            .count()
    };
    page.gauge(
        "routelet_peers",
        "Sessions by type of peer and state.",
        TYPES.into_iter().flat_map(|kind| {
            STATES.map(|(state, _)| {
                let labels = [("type", kind.to_owned()), ("state", format!("{state:?}"))];
                (labels, count(kind, &|peer| peer.state == state))
            })
        }),
    )?;
    page.gauge(
        "routelet_peers_shutdown",
        "Sessions held down on purpose, by type of peer.",
        TYPES.map(|kind| {
            let held_down = |peer: &PeerStatus| report::is_held_down(&scrape.desired, &peer.name);
            ([("type", kind)], count(kind, &held_down))
        }),
    )
}

fn sessions(named: &[&PeerStatus], desired: &Desired, page: &mut Page<'_>) -> fmt::Result {
    page.gauge(
        "routelet_peer_info",
        "Address, AS number and type of a named peer, in labels; always 1.",
        named.iter().map(|peer| {
            let labels = [
                ("peer", peer.name.clone()),
                ("address", peer.place()),
                (
                    "asn",
                    peer.asn.map(|asn| asn.to_string()).unwrap_or_default(),
                ),
                ("type", type_of(peer).to_owned()),
            ];
            (labels, 1_u64)
        }),
    )?;
    page.gauge(
        "routelet_peer_up",
        "1 if the session with a named peer is Established.",
        each(named, |peer| flag(report::is_up(peer))),
    )?;
    page.gauge(
        "routelet_peer_state",
        "State of the session with a named peer: 1 Idle, 2 Connect, 3 Active, 4 OpenSent, 5 OpenConfirm, 6 Established.",
        each(named, |peer| {
            let number = STATES.iter().find(|(state, _)| *state == peer.state);
            number.map_or(0, |(_, number)| *number)
        }),
    )?;
    page.gauge(
        "routelet_peer_state_since_timestamp_seconds",
        "Since when the session with a named peer is in its state, in seconds since 1970.",
        each(named, |peer| seconds(peer.since)),
    )?;
    page.gauge(
        "routelet_peer_shutdown",
        "1 if the session with a named peer is held down on purpose.",
        each(named, |peer| {
            flag(report::is_held_down(desired, &peer.name))
        }),
    )?;
    page.counter(
        "routelet_peer_sessions",
        "Sessions with a named peer that became Established: one more with each flap.",
        each(named, |peer| peer.established_count),
    )?;
    page.gauge(
        "routelet_peer_last_notification",
        "Code and subcode of the NOTIFICATION that ended the last session with a named peer (RFC 4271 §4.5), and who said it (us, peer), in labels; always 1.",
        named.iter().filter_map(|peer| {
            let said = peer.last_notification?;
            let from = match said.from {
                End::Us => "us",
                End::Peer => "peer",
            };
            let labels = [
                ("peer", peer.name.clone()),
                ("code", said.code.to_string()),
                ("subcode", said.subcode.to_string()),
                ("from", from.to_owned()),
            ];
            Some((labels, 1_u64))
        }),
    )
}

fn messages(named: &[&PeerStatus], page: &mut Page<'_>) -> fmt::Result {
    let both: [(&str, &str, Count); 2] = [
        ("routelet_peer_messages", "BGP messages", |counts| {
            (counts.messages_in, counts.messages_out)
        }),
        ("routelet_peer_updates", "UPDATE messages", |counts| {
            (counts.updates_in, counts.updates_out)
        }),
    ];
    for (name, what, count) in both {
        page.counter(
            name,
            &format!("{what} from and to a named peer, by direction (received, sent)."),
            named.iter().flat_map(|peer| {
                let (received, sent) = count(&peer.messages);
                [("received", received), ("sent", sent)].map(|(direction, count)| {
                    let labels = [
                        ("peer", peer.name.clone()),
                        ("direction", direction.to_owned()),
                    ];
                    (labels, count)
                })
            }),
        )?;
    }
    page.counter(
        "routelet_peer_faulty_updates",
        "UPDATE messages from a named peer with faults that RFC 7606 let the session survive.",
        each(named, |peer| peer.messages.faulty),
    )
}

fn watched(named: &[&PeerStatus], page: &mut Page<'_>) -> fmt::Result {
    let bfd = || {
        named
            .iter()
            .filter_map(|peer| Some((peer, peer.bfd.as_ref()?)))
    };
    page.gauge(
        "routelet_peer_bfd_up",
        "1 if BFD on the path to a named peer is Up; only where it is configured.",
        bfd().map(|(peer, bfd)| {
            let labels = [("peer", peer.name.clone())];
            (labels, flag(bfd.state == State::Up))
        }),
    )?;
    page.counter(
        "routelet_peer_bfd_transitions",
        "How often BFD on the path to a named peer came up and went down (to).",
        bfd().flat_map(|(peer, bfd)| {
            [("up", bfd.ups), ("down", bfd.downs)].map(|(to, count)| {
                let labels = [("peer", peer.name.clone()), ("to", to.to_owned())];
                (labels, count)
            })
        }),
    )
}

/// One series a peer.
fn each<V>(
    named: &[&PeerStatus],
    value: impl Fn(&PeerStatus) -> V,
) -> impl Iterator<Item = ([(&'static str, String); 1], V)> {
    named
        .iter()
        .map(move |peer| ([("peer", peer.name.clone())], value(peer)))
}
