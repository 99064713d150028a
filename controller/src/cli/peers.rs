//! `routelet peers`: a line a session, or one in full.

use std::{fmt::Write, process::ExitCode};

use bgp::{
    prefix::Family,
    status::{BfdIntervals, BfdStatus, FamilyCounts, PeerKind, PeerStatus, SignedWith},
};
use clap::Args;

use super::Asking;
use crate::{
    control::query::Query,
    render::Table,
    report::{age, rfc3339},
};

/// Sessions, a line each; or one in full: capabilities, timers, counters, its last messages
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 1 if a session shown is not Established (and not shut down on purpose).\n\n\
                        Examples:\n  \
                        routelet peers\n  \
                        routelet peers tor-r1\n  \
                        routelet peers 10.0.0.254 -o json"
)]
pub(super) struct Options {
    /// A session, a BGPPeer or an address
    peer: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Options {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let query = match self.peer {
            Some(peer) => Query::default().with("peer", peer),
            None => Query::default(),
        };
        self.asking.show("/v1/peers", &query)
    }
}

/// A line a session. Counts are IPv4/IPv6.
pub(crate) fn table(peers: &[PeerStatus]) -> String {
    let mut table = Table::new(&[
        "PEER",
        "ADDRESS",
        "AS",
        "TYPE",
        "STATE",
        "SINCE",
        "RECEIVED",
        "ACCEPTED",
        "ADVERTISED",
        "LAST ERROR",
    ]);
    for peer in peers {
        table.row([
            peer.name.clone(),
            peer.place(),
            peer.asn.map(|asn| asn.to_string()).unwrap_or_default(),
            kind(peer).into(),
            format!("{:?}", peer.state),
            age(peer.since),
            counts(peer, |counts| counts.received),
            counts(peer, |counts| counts.accepted),
            counts(peer, |counts| counts.advertised),
            peer.last_error.clone().unwrap_or_default(),
        ]);
    }
    table.text()
}

fn kind(peer: &PeerStatus) -> &'static str {
    match (peer.mesh, peer.kind) {
        (true, _) => "node",
        (false, Some(PeerKind::Internal)) => "internal",
        (false, Some(PeerKind::External)) => "external",
        (false, None) => "",
    }
}

fn counts(peer: &PeerStatus, count: fn(&FamilyCounts) -> usize) -> String {
    let each = Family::ALL.map(|family| {
        let counts = peer.families.get(&family);
        counts.map_or_else(|| "-".to_owned(), |counts| count(counts).to_string())
    });
    each.join("/")
}

/// Sessions in full.
pub(crate) fn details(peers: &[PeerStatus]) -> String {
    let all: Vec<String> = peers.iter().map(detail).collect();
    all.join("\n")
}

fn detail(peer: &PeerStatus) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<13} {value}");
    };
    line("Peer", peer.name.clone());
    line("Address", peer.place());
    let asn = peer
        .asn
        .map_or_else(|| "not known yet".into(), |asn| asn.to_string());
    line("AS", format!("{asn} (we are {})", peer.local_asn));
    line(
        "Type",
        if kind(peer).is_empty() {
            "not known yet".into()
        } else {
            kind(peer).into()
        },
    );
    line(
        "State",
        format!(
            "{:?} for {}, established {} times",
            peer.state,
            age(peer.since),
            peer.established_count
        ),
    );
    if let Some(error) = &peer.last_error {
        line("Last error", error.clone());
    }
    if let Some(hint) = &peer.hint {
        line("Hint", hint.clone());
    }
    if let Some(session) = &peer.session {
        line(
            "Connection",
            format!("{} ↔ {}", session.local, session.remote),
        );
        line("Router ID", session.router_id.to_string());
        line(
            "Timers",
            format!(
                "hold {} s, keepalive {} s",
                session.hold_seconds, session.keepalive_seconds
            ),
        );
        if !session.waiting.is_empty() {
            line(
                "Next session",
                format!("brings {}", session.waiting.join(", ")),
            );
        }
        if let Some(signed_with) = session.signed_with {
            let key = match signed_with {
                SignedWith::Current => "MD5",
                SignedWith::Previous => "MD5, with the previous key of its password",
                SignedWith::TcpAo => "TCP-AO",
            };
            line("Signed", key.into());
        }
        let families: Vec<String> = session.families.iter().map(ToString::to_string).collect();
        line("Families", families.join(", "));
        for (name, value) in [("Software", &session.software), ("Host", &session.host)] {
            if let Some(value) = value {
                line(name, value.clone());
            }
        }
    }
    if let Some(bfd) = &peer.bfd {
        for (name, value) in watched(bfd) {
            line(name, value);
        }
    }
    let messages = &peer.messages;
    line(
        "Messages",
        format!(
            "{} in ({} UPDATEs, {} faulty), {} out ({} UPDATEs)",
            messages.messages_in,
            messages.updates_in,
            messages.faulty,
            messages.messages_out,
            messages.updates_out
        ),
    );
    if !peer.families.is_empty() {
        text.push('\n');
        text.push_str(&families(peer));
    }
    if let Some(session) = &peer.session {
        text.push('\n');
        let mut table = Table::new(&["CAPABILITY", "OURS", "THEIRS"]);
        let word = |offered: bool| if offered { "yes" } else { "no" }.to_owned();
        for capability in &session.capabilities {
            table.row([
                capability.name.clone(),
                word(capability.ours),
                word(capability.theirs),
            ]);
        }
        text.push_str(&table.text());
    }
    if !peer.recorder.is_empty() {
        text.push('\n');
        let mut table = Table::new(&["TIME", "", "LAST MESSAGES AND STATES"]);
        for record in &peer.recorder {
            table.row([rfc3339(record.at), record.kind.into(), record.what.clone()]);
        }
        text.push_str(&table.text());
    }
    text
}

/// BFD in lines.
fn watched(bfd: &BfdStatus) -> Vec<(&'static str, String)> {
    let wants = |of: &BfdIntervals| {
        let (rx, tx) = (of.min_rx_ms, of.min_tx_ms);
        format!("rx {rx} ms, tx {tx} ms × {}", of.multiplier)
    };
    let hops = if bfd.multihop {
        "multihop"
    } else {
        "single hop"
    };
    let mut lines = vec![(
        "BFD",
        format!(
            "{:?} for {}, {hops}, {} times up, {} down",
            bfd.state,
            age(bfd.since),
            bfd.ups,
            bfd.downs
        ),
    )];
    lines.push(("BFD wants", format!("we {}", wants(&bfd.ours))));
    if let Some(remote) = &bfd.remote {
        let theirs = wants(&remote.wants);
        let text = format!("it {theirs}, is {:?} ({})", remote.state, remote.diagnostic);
        lines.push(("", text));
    }
    let time = |time: Option<u64>| time.map_or_else(|| "none".into(), |time| format!("{time} ms"));
    lines.push((
        "BFD timers",
        format!(
            "a packet every {}, detection time {}",
            time(bfd.transmit_ms),
            time(bfd.detection_ms)
        ),
    ));
    let (packets_in, out) = (bfd.packets_in, bfd.packets_out);
    lines.push(("BFD packets", format!("{packets_in} in, {out} out")));
    let discarded = bfd.discarded.iter();
    lines.extend(discarded.map(|(why, count)| ("", format!("{count} thrown away: {why}"))));
    if let Some(down) = &bfd.last_down {
        lines.push(("BFD last down", down.clone()));
    }
    if let Some(problem) = &bfd.problem {
        lines.push(("BFD problem", problem.clone()));
    }
    lines
}

fn families(peer: &PeerStatus) -> String {
    let mut table = Table::new(&[
        "FAMILY",
        "RECEIVED",
        "ACCEPTED",
        "STALE",
        "WRONG ORIGIN",
        "LOOPED",
        "ADVERTISED",
        "END-OF-RIB",
    ]);
    for (family, counts) in &peer.families {
        table.row([
            family.to_string(),
            counts.received.to_string(),
            counts.accepted.to_string(),
            counts.stale.to_string(),
            counts.refused_by_origin.to_string(),
            counts.looped.to_string(),
            counts.advertised.to_string(),
            if counts.end_of_rib { "seen" } else { "not yet" }.into(),
        ]);
    }
    table.text()
}
