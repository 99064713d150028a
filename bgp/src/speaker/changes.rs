//! What a changed configuration means for a peer: nothing, another treatment of routes, or a new session.
//!
//! | what changed | what follows |
//! |---|---|
//! | address, interface, AS number we show | it is another peer: the old one goes, a new one comes |
//! | AS number of the peer, from where and with which TTL we speak, whether and how TCP segments are signed, our router ID | a new session: who talks to whom is no longer the same |
//! | one key for another | at once, on the connection there is |
//! | hold and keepalive time, families, extended next hops, add-path, graceful restart | the next session offers it in its OPEN; one that is up keeps what it agreed on, and says what waits ([`crate::peer::negotiate::waiting`]) |
//! | port, who dials, retry timers, the limit of prefixes | attempts begin anew; a session that is up stays |
//! | policies, limits, next hops, reflection, add-path's number of paths, BFD | at once |
//! | shutdown, a password that is missing | at once: the session ends, or begins |
//!
//! A setting of all nodes reaches all of them within a second, so a new session is the last resort: all at once, each would cost the
//! routes of a peer that does not claim to have preserved them.

use crate::{
    config::{Connect, Password, PeerConfig},
    peer::driver::Anew,
};

/// What becomes of a peer whose configuration changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is the same.
    None,
    /// It is the same peer; this much has to begin anew.
    Kept(Anew),
    /// It is another peer under the same name.
    Replaced,
}

/// Compares two configurations of one name.
pub(super) fn change(old: &PeerConfig, new: &PeerConfig) -> Change {
    if old == new {
        return Change::None;
    }
    let identity = |peer: &PeerConfig| {
        let address = peer.unnumbered.is_none().then_some(peer.address);
        (address, peer.interface.clone(), peer.local_asn)
    };
    if identity(old) != identity(new) {
        return Change::Replaced;
    }
    Change::Kept(match anew(old, new) {
        Anew::Nothing | Anew::Attempts if old.address != new.address => Anew::Moved(old.address),
        anew => anew,
    })
}

fn anew(old: &PeerConfig, new: &PeerConfig) -> Anew {
    let session = |what: &str| Anew::Session(format!("our configuration changed: {what}"));
    let dialled = |peer: &PeerConfig| {
        (
            peer.port,
            match peer.connect {
                Connect::Dial => None,
                Connect::After(wait) => Some(wait),
                Connect::Passive => Some(std::time::Duration::MAX),
            },
            peer.timers.connect_retry,
            peer.timers.idle_hold_max,
            // One that stays away because of the old limit need not wait any longer.
            peer.max_prefixes,
            // The peer may know this one.
            peer.password.clone(),
        )
    };
    if old.asn != new.asn {
        session("peerASN")
    } else if needs_session(&old.password, &new.password) {
        session("password")
    } else if old.source != new.source {
        session("source address")
    } else if old.ttl != new.ttl {
        session("TTL")
    } else if dialled(old) != dialled(new) {
        Anew::Attempts
    } else {
        Anew::Nothing
    }
}

/// Whether a session with the old password cannot go on with the new one. From key to key it can: the driver sees to it. One
/// that is missing holds the session down.
fn needs_session(old: &Password, new: &Password) -> bool {
    match (old, new) {
        (_, Password::Missing(_))
        | (Password::Key(_), Password::Key(_))
        | (Password::Ao(_), Password::Ao(_)) => false,
        (old, new) => old != new,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::{BfdConfig, GracefulRestartConfig, Hops, PeerAsn, Ttl, Unnumbered},
        peer::negotiate::waiting,
        prefix::Families,
        rib::fixture,
    };

    fn changed(change: impl FnOnce(&mut PeerConfig)) -> (PeerConfig, PeerConfig) {
        let old = fixture::peer_config();
        let mut new = old.clone();
        change(&mut new);
        assert_ne!(old, new);
        (old, new)
    }

    #[test]
    fn what_an_open_offers_waits_for_the_next_session() {
        type Setting = (&'static str, fn(&mut PeerConfig));
        let settings: [Setting; 6] = [
            ("timers.holdSeconds", |peer| {
                peer.timers.hold = Duration::from_secs(77);
            }),
            ("timers.keepaliveSeconds", |peer| {
                peer.timers.keepalive = Duration::from_secs(7);
            }),
            ("families", |peer| peer.families = Families::IPV6),
            ("extendedNextHop", |peer| {
                peer.extended_next_hop = !peer.extended_next_hop;
            }),
            ("addPath", |peer| {
                peer.add_path.receive = !peer.add_path.receive;
            }),
            ("gracefulRestart", |peer| {
                peer.graceful_restart = Some(GracefulRestartConfig {
                    restart_time: 77,
                    long_lived: 0,
                    notification: false,
                    restarted: false,
                });
            }),
        ];
        for (name, set) in settings {
            let (old, new) = changed(set);
            assert_eq!(change(&old, &new), Change::Kept(Anew::Nothing), "{name}");
            assert_eq!(waiting(&old, &new), [name]);
        }
    }

    #[test]
    fn what_no_open_offers_does_not_wait() {
        type Setting = (Anew, fn(&mut PeerConfig));
        let session = |what: &str| Anew::Session(format!("our configuration changed: {what}"));
        let settings: [Setting; 9] = [
            (session("peerASN"), |peer| peer.asn = PeerAsn::External),
            (session("password"), |peer| {
                peer.password = Password::Key(b"secret".as_slice().into());
            }),
            (session("source address"), |peer| {
                peer.source = Some([10, 9, 9, 9].into());
            }),
            (session("TTL"), |peer| peer.ttl = Ttl::Security(3)),
            (Anew::Attempts, |peer| peer.port = 1790),
            (Anew::Attempts, |peer| peer.connect = Connect::Passive),
            // One that stays away because of the old limit need not wait any longer.
            (Anew::Attempts, |peer| peer.max_prefixes.count = 77),
            (Anew::Nothing, |peer| {
                peer.bfd = Some(BfdConfig {
                    min_rx: Duration::from_millis(300),
                    min_tx: Duration::from_millis(300),
                    multiplier: 3,
                    hops: Hops::Single,
                });
            }),
            (Anew::Nothing, |peer| peer.route_reflector_client = true),
        ];
        for (anew, set) in settings {
            let (old, new) = changed(set);
            assert_eq!(change(&old, &new), Change::Kept(anew.clone()), "{anew:?}");
            assert!(waiting(&old, &new).is_empty(), "{anew:?}");
        }
    }

    #[test]
    fn a_peer_known_by_its_link_stays_the_same_at_another_address_and_no_other_does() {
        let old = PeerConfig {
            interface: Some("eth1".into()),
            unnumbered: Some(Unnumbered::default()),
            ..fixture::peer_config()
        };
        let moved = PeerConfig {
            address: [10, 9, 9, 9].into(),
            ..old.clone()
        };
        assert_eq!(change(&old, &moved), Change::Kept(Anew::Moved(old.address)));
        let by_address = |peer: PeerConfig| PeerConfig {
            unnumbered: None,
            ..peer
        };
        let (old, moved) = (by_address(old), by_address(moved));
        assert_eq!(change(&old, &moved), Change::Replaced);
    }
}
