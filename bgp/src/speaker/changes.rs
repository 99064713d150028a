//! What a changed configuration means for a peer: nothing, another treatment of routes, or a new session.

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

/// Graceful restart is not here: what is offered anew is offered in the next OPEN, and a session that is up keeps what it
/// agreed on. A second ToR, which takes the N bit from the first one, must not cost the first one's session.
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
    } else if old.families != new.families {
        session("families")
    } else if old.source != new.source {
        session("source address")
    } else if old.ttl != new.ttl {
        session("TTL")
    } else if (old.timers.hold, old.timers.keepalive) != (new.timers.hold, new.timers.keepalive) {
        session("hold or keepalive time")
    } else if old.extended_next_hop != new.extended_next_hop {
        session("extended next hop")
    } else if (old.add_path.receive, old.add_path.send_max > 0)
        != (new.add_path.receive, new.add_path.send_max > 0)
    {
        session("add-path")
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
    use super::*;
    use crate::config::{GracefulRestartConfig, MaxPrefixes, OverLimit, Unnumbered};
    use crate::rib::fixture;

    #[test]
    fn another_offer_of_graceful_restart_waits_for_the_next_session() {
        let old = fixture::peer_config();
        let mut new = old.clone();
        new.graceful_restart = Some(GracefulRestartConfig {
            restart_time: 77,
            long_lived: 0,
            notification: false,
            restarted: false,
        });
        assert_eq!(change(&old, &new), Change::Kept(Anew::Nothing));
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

    #[test]
    fn another_limit_is_a_reason_to_try_again() {
        let old = fixture::peer_config();
        let mut new = old.clone();
        new.max_prefixes = MaxPrefixes {
            count: 77,
            action: OverLimit::Warn,
        };
        assert_eq!(change(&old, &new), Change::Kept(Anew::Attempts));
    }
}
