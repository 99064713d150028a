//! What may be wrong, and what to do about it: from errors of sockets, and from counters the kernel keeps.

use std::io;

use crate::{
    config::{Connect, Password, PeerConfig, Ttl},
    status::SessionState,
};

/// Counters of `/proc/net/netstat` that move when a packet is dropped in silence. They count for the whole network
/// namespace: a hint, no proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    md5_missing: u64,
    md5_unexpected: u64,
    md5_wrong: u64,
    ao_refused: u64,
    ttl_too_low: u64,
}

impl Counters {
    /// What they are now, for a peer which nobody answers for; reading them costs something, so others have zeroes.
    #[must_use]
    pub(crate) fn where_it_matters(config: &PeerConfig) -> Self {
        if matches!(config.password, Password::Key(_) | Password::Ao(_))
            || matches!(config.ttl, Ttl::Security(_))
        {
            Self::now()
        } else {
            Self::default()
        }
    }

    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/net/netstat").unwrap_or_default();
        Self::read(&text)
    }

    fn read(text: &str) -> Self {
        let mut rows = text.lines().filter(|row| row.starts_with("TcpExt:"));
        let (Some(names), Some(values)) = (rows.next(), rows.next()) else {
            return Self::default();
        };
        let mut counters = Self::default();
        for (name, value) in names
            .split_ascii_whitespace()
            .zip(values.split_ascii_whitespace())
        {
            let value = value.parse().unwrap_or_default();
            match name {
                "TCPMD5NotFound" => counters.md5_missing = value,
                "TCPMD5Unexpected" => counters.md5_unexpected = value,
                "TCPMD5Failure" => counters.md5_wrong = value,
                "TCPAORequired" | "TCPAOKeyNotFound" | "TCPAOBad" => {
                    counters.ao_refused = counters.ao_refused.saturating_add(value);
                }
                "TCPMinTTLDrop" => counters.ttl_too_low = value,
                _ => {}
            }
        }
        counters
    }
}

/// What a failed dial means, and what to do.
#[must_use]
pub(crate) fn dial_failed(error: &io::Error, config: &PeerConfig) -> (String, Option<String>) {
    let (address, port) = (config.address, config.port);
    let on = config.interface.as_deref().unwrap_or("?");
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => (
            format!("connection to {address} port {port} refused"),
            Some(
                "nothing listens there: is BGP running, and are we configured as its neighbor?"
                    .into(),
            ),
        ),
        Some(libc::ECONNRESET) => (
            format!("{address} reset our connection"),
            Some("it may not know us as a neighbor".into()),
        ),
        Some(libc::ETIMEDOUT) => (NO_ANSWER.into(), no_answer(config)),
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => (
            format!("no way to {address}: {error}"),
            Some(match config.ttl {
                // A router on the way says so where our packets end.
                Ttl::Send(1) => "is the address right, the link up, the neighbour answering ARP/ND? Is it more than one hop away (ebgpMultihop)?".into(),
                _ => "is the address right, the link up, the neighbour answering ARP/ND?".into(),
            }),
        ),
        Some(libc::EADDRNOTAVAIL) => (
            match config.source {
                Some(source) => format!("our source address {source} is not on this node"),
                None => format!("no usable source address towards {address}"),
            },
            Some("set an address of this node as sourceAddress".into()),
        ),
        Some(libc::ENODEV) => (
            format!("there is no interface {on}"),
            Some("is the interface named right, and up?".into()),
        ),
        Some(libc::EPERM | libc::EACCES) => (
            format!("we may not connect to {address}: {error}"),
            Some("a firewall, or a missing capability (NET_ADMIN for MD5)".into()),
        ),
        _ => (format!("connection to {address} failed: {error}"), None),
    }
}

/// As the state machine says it.
const NO_ANSWER: &str = "no answer to our SYN";

/// What a failure in words means; `before` is from when the dial began, `state` is that in which it happened.
#[must_use]
pub(crate) fn failed(
    reason: &str,
    state: SessionState,
    config: &PeerConfig,
    before: &Counters,
) -> Option<String> {
    let opening = matches!(state, SessionState::OpenSent | SessionState::OpenConfirm);
    if opening && reason.starts_with("hold timer expired") {
        return Some(
            "what we send may not arrive: ttlSecurity (GTSM) on one side only, or a firewall?"
                .into(),
        );
    }
    if opening
        && (reason.contains("closed the connection") || reason.contains("reset the connection"))
    {
        return Some(
            "are we configured there as a neighbor, with this address and AS number?".into(),
        );
    }
    if reason == NO_ANSWER {
        let now = Counters::where_it_matters(config);
        return counted(before, &now).or_else(|| no_answer(config));
    }
    let hints = [
        ("takes nothing from us", "its BGP hangs or is overloaded"),
        (
            "hold timer expired",
            "the path may lose packets, or its BGP hangs",
        ),
        (
            "sent no OPEN",
            "it accepts connections but does not speak BGP on them: is its session held down?",
        ),
        ("it says AS", "correct peerASN here, or the AS number there"),
        (
            "Bad Peer AS",
            "it expects another AS number from us: correct localASN (or asNumber) here, or remote-as there",
        ),
        ("router ID", "give one of the two another router ID"),
        (
            "no address family",
            "enable a common family on both sides (families)",
        ),
        (
            "Administrative Shutdown",
            "it was shut down on the other side",
        ),
        (
            "Connection Rejected",
            "the other side does not want us now: is its session shut down, or are we unknown to it?",
        ),
        (
            "Maximum Number of Prefixes",
            "it got more prefixes from us than it allows",
        ),
        (
            "reset the connection",
            match config.ttl {
                Ttl::Security(_) => {
                    "with ttlSecurity: is it that many hops away, and does it send with TTL 255?"
                }
                Ttl::Send(_) => "its log may say why",
            },
        ),
    ];
    hints
        .iter()
        .find(|(part, _)| reason.contains(part))
        .map(|(_, hint)| (*hint).to_owned())
}

/// What is in the way of a peer that is known by its link and is not up.
#[must_use]
pub(crate) fn noted(state: SessionState, config: &PeerConfig) -> Option<String> {
    let known = config.unnumbered.as_ref()?;
    known
        .note
        .clone()
        .filter(|_| state != SessionState::Established)
}

/// What a peer that is to dial in, and does not, may lack.
#[must_use]
pub(crate) fn waiting(state: SessionState, config: &PeerConfig) -> Option<String> {
    let waits = config.connect == Connect::Passive
        && state == SessionState::Active
        && noted(state, config).is_none();
    waits.then(|| {
        let mut text = String::from("we wait for it to dial in (passive): is it up, does it know us as a neighbor, and is it not passive too?");
        match config.password {
            Password::Key(_) => text.push_str(" Has it the same MD5 password?"),
            Password::Ao(_) => text.push_str(" Has it the same TCP-AO keys?"),
            Password::None | Password::Missing(_) => {}
        }
        text
    })
}

fn no_answer(config: &PeerConfig) -> Option<String> {
    let mut maybe = vec![match config.password {
        Password::Key(_) => "MD5 on one side only, or another password?",
        Password::Ao(_) => {
            "TCP-AO on one side only, or another key? (Our sendID is its receive ID, and the other way round; the algorithm has to be the same, its MAC 96 bits.)"
        }
        Password::None | Password::Missing(_) => "is it up? MD5 on its side only? A firewall?",
    }];
    match config.ttl {
        Ttl::Security(_) => maybe.push("Does it send with TTL 255 (GTSM)?"),
        Ttl::Send(1) => maybe.push("Is it more than one hop away (ebgpMultihop)?"),
        Ttl::Send(_) => {}
    }
    Some(maybe.join(" "))
}

/// What the kernel dropped since.
fn counted(before: &Counters, now: &Counters) -> Option<String> {
    let told = [
        (
            before.md5_missing,
            now.md5_missing,
            "packets came without MD5 signature: MD5 on one side only?",
        ),
        (
            before.md5_unexpected,
            now.md5_unexpected,
            "packets came with an MD5 signature we did not expect: MD5 on one side only?",
        ),
        (
            before.md5_wrong,
            now.md5_wrong,
            "packets came with a wrong MD5 signature: is the password the same on both sides?",
        ),
        (
            before.ao_refused,
            now.ao_refused,
            "packets came without TCP-AO, with an unknown KeyID or a wrong MAC: are keys, IDs and algorithm the same on both sides?",
        ),
        (
            before.ttl_too_low,
            now.ttl_too_low,
            "packets came with too low a TTL: does it send with 255 (GTSM), and is it that near?",
        ),
    ];
    told.iter()
        .find(|(before, now, _)| now > before)
        .map(|(_, _, hint)| (*hint).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let text = "TcpExt: SyncookiesSent TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPMinTTLDrop TCPAORequired TCPAOBad\n\
                    TcpExt: 9 1 2 3 4 5 6\nIpExt: InNoRoutes\nIpExt: 7\n";
        let expected = Counters {
            md5_missing: 1,
            md5_unexpected: 2,
            md5_wrong: 3,
            ao_refused: 11,
            ttl_too_low: 4,
        };
        assert_eq!(Counters::read(text), expected);
        assert_eq!(Counters::read("nonsense"), Counters::default());
    }

    #[test]
    fn what_moved_is_the_hint() {
        let before = Counters::default();
        let now = Counters {
            md5_wrong: 1,
            ..before
        };
        assert!(counted(&before, &now).is_some_and(|hint| hint.contains("password")));
        assert_eq!(counted(&now, &now), None);
    }
}
