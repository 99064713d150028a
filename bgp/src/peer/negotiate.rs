//! What two OPENs agree on, or the NOTIFICATION that refuses (RFC 4271 §6.2, RFC 5492); and what that agreement says about
//! the routes of a session that ended (RFC 4724 §4.2, RFC 8538 §4).

use std::{net::Ipv4Addr, time::Duration};

use crate::{
    config::{PeerAsn, PeerConfig},
    prefix::{Families, Family},
    rib::task::{Ending, LongLived, Refreshing},
    status::{CapabilityStatus, PeerKind},
    wire::{
        Capability, Context, Notification, Open,
        capability::{AddPathMode, GracefulRestart},
    },
};

/// What an OPEN of ours says beyond the peer's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Our BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Our restart is not over yet: peers need not wait for our End-of-RIB, we wait for theirs (R bit, RFC 4724 §3).
    pub restarting: bool,
    /// What we last announced is still what our kernel forwards by (F bit, RFC 4724 §3).
    pub preserved: bool,
}

/// What was agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// What the codec must know.
    pub context: Context,
    /// Internal or external.
    pub kind: PeerKind,
    /// Their AS number.
    pub asn: u32,
    /// Their BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Hold time: the smaller proposal; 0: none.
    pub hold: Duration,
    /// Our keepalive interval, before jitter; 0: none.
    pub keepalive: Duration,
    /// Whether we may ask for a refresh, and they for ours.
    pub refresh: Refreshing,
    /// Graceful restart, where both offered it.
    pub restart: Option<Restart>,
    /// They know long-lived stale routes and may be told of them (RFC 9494 §4.3).
    pub knows_long_stale: bool,
    /// Capabilities in words.
    pub capabilities: Vec<CapabilityStatus>,
    /// Their software version, where they say it.
    pub software: Option<String>,
    /// Their host name, where they say it.
    pub host: Option<String>,
}

/// Graceful restart as agreed (RFC 4724, RFC 8538).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// They have just restarted (R bit).
    pub restarted: bool,
    /// Both offered the N bit: NOTIFICATION and hold timer expiry keep routes too.
    pub notification: bool,
    /// How long they need.
    pub time: Duration,
    /// Families they restart gracefully.
    pub families: Families,
    /// Families whose forwarding state they preserved (F bit).
    pub preserved: Families,
    /// How long their routes stay once that time is over, if both offered it (RFC 9494).
    pub long_lived: LongLived,
}

/// What ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause<'a> {
    /// The TCP connection closed without a word, or a new one took its place (RFC 4724 §4.2).
    Silence,
    /// The path is known to be dead: BFD down, the interface gone; or the peer is no longer configured.
    PathDead,
    /// Nothing came, or nothing was acknowledged, for too long: the hold timer, or TCP's own.
    Unresponsive,
    /// They said so.
    Received(&'a Notification),
    /// We said so.
    Sent(&'a Notification),
}

impl Negotiated {
    /// What we both can do, or why we will not talk.
    ///
    /// # Errors
    /// The NOTIFICATION to close with, and the reason in words.
    pub fn between(
        config: &PeerConfig,
        local: &Local,
        open: &Open,
    ) -> Result<Self, (Notification, String)> {
        let kind = accept_asn(config, open.asn)?;
        accept_id(local.router_id, kind, open.id)?;
        let hold = accept_hold(config, open.hold_time)?;
        let families = accept_families(config.families, open.families())?;
        let keepalive = config.timers.keepalive.min(hold / 3);
        let path_ids = |wanted: bool, modes: [AddPathMode; 2]| -> Families {
            let fits = |family: &Family| {
                let mode = open.add_path(*family);
                wanted && mode.is_some_and(|mode| modes.contains(&mode))
            };
            families.each().filter(fits).collect()
        };
        let (host, software) = open.host_and_software();
        let context = Context {
            families,
            four_octet_as: open.four_octet_as(),
            add_path_receive: path_ids(
                config.add_path.receive,
                [AddPathMode::Send, AddPathMode::Both],
            ),
            add_path_send: path_ids(
                config.add_path.send_max > 0,
                [AddPathMode::Receive, AddPathMode::Both],
            ),
            extended_message: open.has(&Capability::ExtendedMessage),
            extended_next_hop: config.extended_next_hop
                && open.extended_next_hop().has(Family::IPv4),
            internal: kind == PeerKind::Internal,
        };
        Ok(Self {
            context,
            kind,
            asn: open.asn,
            router_id: open.id,
            hold,
            keepalive: if hold.is_zero() {
                Duration::ZERO
            } else {
                keepalive.max(Duration::from_secs(1))
            },
            refresh: if open.has(&Capability::EnhancedRouteRefresh) {
                Refreshing::Enhanced
            } else if open.has(&Capability::RouteRefresh) {
                Refreshing::Plain
            } else {
                Refreshing::No
            },
            restart: agreed_restart(config, open, families),
            knows_long_stale: open.graceful_restart().is_some()
                && !open.long_lived_graceful_restart().is_empty(),
            capabilities: compared(&capabilities(config, local), &open.capabilities),
            software: software.map(str::to_owned),
            host: host.map(str::to_owned),
        })
    }

    /// Families to wait for End-of-RIB on: it sends one, and does not itself wait for ours (RFC 4724 §4.1).
    #[must_use]
    pub fn expects_end_of_rib(&self) -> Families {
        match self.restart {
            Some(Restart {
                restarted: false, ..
            }) => self.context.families,
            _ => Families::empty(),
        }
    }

    /// Families whose routes from before are still good as stale ones.
    #[must_use]
    pub fn preserved(&self) -> Families {
        self.restart
            .map_or(Families::empty(), |restart| restart.preserved)
    }

    /// What becomes of the routes of a session that `cause` ended (`design.md` §3: a restart keeps them, a dead path does
    /// not).
    #[must_use]
    pub fn ending(&self, cause: Cause<'_>) -> Ending {
        let Some(restart) = self.restart else {
            return Ending::Gone;
        };
        let long_lived = restart.long_lived;
        let families = match restart.time {
            Duration::ZERO => long_lived.families(),
            _ => restart.families | long_lived.families(),
        };
        if families.is_empty() {
            return Ending::Gone;
        }
        let restarting = |yields| Ending::Restarting {
            families,
            restart_time: restart.time,
            long_lived,
            yields,
        };
        let (keeps, yields) = (restarting(false), restarting(true));
        match cause {
            Cause::Silence => keeps,
            // It holds another connection with us for the one that stays; we hold this one for it, where it was up here first.
            Cause::Received(said) if said.is_collision_resolution() => keeps,
            Cause::PathDead => Ending::Gone,
            Cause::Unresponsive if restart.notification => yields,
            Cause::Received(said) | Cause::Sent(said)
                if restart.notification && !said.is_hard_reset() =>
            {
                if said.code == Notification::HOLD_TIMER_EXPIRED
                    || said.code == Notification::SEND_HOLD_TIMER_EXPIRED
                {
                    yields
                } else {
                    keeps
                }
            }
            Cause::Unresponsive | Cause::Received(_) | Cause::Sent(_) => Ending::Gone,
        }
    }

    /// `said` as it goes over a session with this agreement: what is meant for good becomes a Hard Reset where a plain
    /// NOTIFICATION would keep routes (RFC 8538 §3.1, §5.1).
    #[must_use]
    pub fn worded(&self, said: Notification) -> Notification {
        const FOR_GOOD: [u8; 4] = [1, 2, 3, 10]; // maximum prefixes, shutdown, de-configured, BFD down
        let keeps = self.restart.is_some_and(|restart| restart.notification);
        if keeps && said.is_cease() && FOR_GOOD.contains(&said.subcode) {
            Notification::hard_reset(&said)
        } else {
            said
        }
    }
}

/// Settings, as the manifests call them, that are not what an OPEN of ours offered: they wait for the next session.
#[must_use]
pub fn waiting(offered: &PeerConfig, now: &PeerConfig) -> Vec<&'static str> {
    let several = |peer: &PeerConfig| (peer.add_path.receive, peer.add_path.send_max > 0);
    let restart = |peer: &PeerConfig| {
        let offer = peer.graceful_restart?;
        Some((offer.restart_time, offer.long_lived, offer.notification))
    };
    [
        ("timers.holdSeconds", offered.timers.hold != now.timers.hold),
        (
            "timers.keepaliveSeconds",
            offered.timers.keepalive != now.timers.keepalive,
        ),
        ("families", offered.families != now.families),
        (
            "extendedNextHop",
            offered.extended_next_hop != now.extended_next_hop,
        ),
        ("addPath", several(offered) != several(now)),
        ("gracefulRestart", restart(offered) != restart(now)),
    ]
    .into_iter()
    .filter_map(|(setting, waits)| waits.then_some(setting))
    .collect()
}

/// The OPEN we send.
#[must_use]
pub fn our_open(config: &PeerConfig, local: &Local) -> Open {
    Open {
        asn: config.local_asn,
        hold_time: u16::try_from(config.timers.hold.as_secs()).unwrap_or(u16::MAX),
        id: local.router_id,
        capabilities: capabilities(config, local),
    }
}

fn capabilities(config: &PeerConfig, local: &Local) -> Vec<Capability> {
    let families = config.families;
    let mut offered: Vec<_> = families.each().map(Capability::Multiprotocol).collect();
    offered.push(Capability::RouteRefresh);
    offered.push(Capability::EnhancedRouteRefresh);
    offered.push(Capability::ExtendedMessage);
    offered.push(Capability::FourOctetAs(config.local_asn));
    if config.extended_next_hop && families.has(Family::IPv4) {
        offered.push(Capability::ExtendedNextHop(vec![Family::IPv4]));
    }
    let add_path = match (config.add_path.receive, config.add_path.send_max > 0) {
        (true, true) => Some(AddPathMode::Both),
        (true, false) => Some(AddPathMode::Receive),
        (false, true) => Some(AddPathMode::Send),
        (false, false) => None,
    };
    if let Some(mode) = add_path {
        offered.push(Capability::AddPath(
            families.each().map(|family| (family, mode)).collect(),
        ));
    }
    if let Some(restart) = &config.graceful_restart {
        offered.push(Capability::GracefulRestart(GracefulRestart {
            restarted: local.restarting,
            notification: restart.notification,
            restart_time: restart.restart_time.min(4095),
            families: families
                .each()
                .map(|family| (family, local.preserved))
                .collect(),
        }));
        if restart.long_lived > 0 {
            offered.push(Capability::LongLivedGracefulRestart(
                families
                    .each()
                    .map(|family| (family, local.preserved, restart.long_lived))
                    .collect(),
            ));
        }
    }
    offered
}

fn accept_asn(config: &PeerConfig, asn: u32) -> Result<PeerKind, (Notification, String)> {
    let refuse = |expected: &str| {
        Err((
            Notification::bad_peer_as(),
            format!("it says AS {asn}, we expect {expected}"),
        ))
    };
    let ours = config.local_asn;
    match config.asn {
        _ if asn == 0 => refuse("anything but 0 (RFC 7607)"),
        PeerAsn::Number(expected) if asn != expected => refuse(&format!("AS {expected}")),
        PeerAsn::Internal if asn != ours => refuse(&format!("our own, {ours} (peerASN: Internal)")),
        PeerAsn::External if asn == ours => refuse("another than our own (peerASN: External)"),
        _ if asn == ours => Ok(PeerKind::Internal),
        _ => Ok(PeerKind::External),
    }
}

/// RFC 6286 §2.2.
fn accept_id(ours: Ipv4Addr, kind: PeerKind, id: Ipv4Addr) -> Result<(), (Notification, String)> {
    let refuse = |reason: String| Err((Notification::bad_bgp_identifier(), reason));
    if id.is_unspecified() {
        refuse("its router ID is 0.0.0.0".into())
    } else if kind == PeerKind::Internal && id == ours {
        refuse(format!(
            "its router ID {id} is ours too: two speakers of one AS need different ones"
        ))
    } else {
        Ok(())
    }
}

fn accept_hold(config: &PeerConfig, seconds: u16) -> Result<Duration, (Notification, String)> {
    if matches!(seconds, 1 | 2) {
        return Err((
            Notification::unacceptable_hold_time(),
            format!("it proposes a hold time of {seconds} s; 0 or at least 3 is allowed"),
        ));
    }
    Ok(config.timers.hold.min(Duration::from_secs(seconds.into())))
}

fn accept_families(ours: Families, theirs: Families) -> Result<Families, (Notification, String)> {
    let common = ours & theirs;
    if !common.is_empty() {
        return Ok(common);
    }
    let missing: Vec<_> = ours.each().map(Capability::Multiprotocol).collect();
    let words = |families: Families| {
        let words: Vec<_> = families.each().map(|family| family.to_string()).collect();
        words.join(" and ")
    };
    let offers = if theirs.is_empty() {
        "none that we know".into()
    } else {
        words(theirs)
    };
    Err((
        Notification::unsupported_capability(&missing),
        format!(
            "no address family in common: we want {}, it offers {offers}",
            words(ours)
        ),
    ))
}

fn agreed_restart(config: &PeerConfig, open: &Open, carried: Families) -> Option<Restart> {
    let ours = config.graceful_restart.as_ref()?;
    let theirs = open.graceful_restart()?;
    let families = |wanted: fn(&(Family, bool)) -> bool| -> Families {
        theirs
            .families
            .iter()
            .filter(|entry| wanted(entry))
            .map(|(family, _)| *family)
            .collect()
    };
    // Only beside graceful restart (RFC 9494 §4.1), and only where we offer it too.
    let both = ours.long_lived > 0;
    let mut long_lived = LongLived::default();
    let mut preserved = families(|(_, preserved)| *preserved);
    for (family, forwards, stale) in open.long_lived_graceful_restart() {
        if both && carried.has(*family) {
            long_lived.set(*family, Duration::from_secs((*stale).into()));
            // What the other capability says of a family counts first (§4.2).
            if *forwards && !families(|_| true).has(*family) {
                preserved |= Families::from(*family);
            }
        }
    }
    Some(Restart {
        restarted: theirs.restarted,
        notification: ours.notification && theirs.notification,
        time: Duration::from_secs(theirs.restart_time.into()),
        families: carried & families(|_| true),
        preserved: carried & preserved,
        long_lived,
    })
}

/// Both lists side by side, in the order of the codes.
fn compared(ours: &[Capability], theirs: &[Capability]) -> Vec<CapabilityStatus> {
    let mut rows = std::collections::BTreeMap::<(u8, String), (bool, bool)>::new();
    for capability in ours {
        rows.entry((capability.code(), capability.to_string()))
            .or_default()
            .0 = true;
    }
    for capability in theirs {
        rows.entry((capability.code(), capability.to_string()))
            .or_default()
            .1 = true;
    }
    rows.into_iter()
        .map(|((_, name), (ours, theirs))| CapabilityStatus { name, ours, theirs })
        .collect()
}
