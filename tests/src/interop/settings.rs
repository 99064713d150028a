//! What a session is to be like, for both of its sides.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::scene::{self, Transport};

/// The other speaker's number on the network.
pub const THEIRS: u8 = 51;
/// The key of a session with TCP MD5.
pub const KEY: &str = "swordfish";
/// How many prefixes of a family it takes, where it has a limit.
pub const LIMIT: u32 = 20;
/// Two more speakers, by hand: their addresses and AS numbers.
pub const SOURCES: [(&str, u32); 2] = [("10.0.200.61", 65_061), ("10.0.200.62", 65_062)];
/// How long the other speaker asks for when it restarts, seconds.
pub(super) const RESTART: u32 = 60;
/// … where what comes after that time is of interest.
pub(super) const SHORT_RESTART: u32 = 3;

/// Our AS number in a session inside an AS.
#[must_use]
pub const fn internal_as() -> u32 {
    65_001
}

/// What the other speaker is told beyond a plain session of both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// TCP MD5 with [`KEY`] (RFC 2385).
    Password,
    /// GTSM, one hop (RFC 5082).
    Gtsm,
    /// Two-octet AS numbers only (RFC 6793 turned off).
    TwoOctetAs,
    /// IPv4 unicast and nothing else.
    OnlyIPv4,
    /// Graceful restart as the one that restarts (RFC 4724).
    GracefulRestart,
    /// … over a NOTIFICATION too (RFC 8538).
    NotificationRestart,
    /// … and long-lived (RFC 9494).
    LongLived,
    /// Several paths of a prefix go out (RFC 7911).
    AddPathSend,
    /// Several paths of a prefix come in.
    AddPathReceive,
    /// Extended messages (RFC 8654).
    ExtendedMessage,
    /// IPv4 prefixes with IPv6 next hops (RFC 8950).
    ExtendedNextHop,
    /// Enhanced route refresh (RFC 7313).
    EnhancedRefresh,
    /// A host name in the OPEN.
    HostName,
    /// BFD over one hop.
    Bfd,
    /// At most [`LIMIT`] prefixes of a family.
    MaxPrefixes,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The AS number we show.
    pub our_as: u32,
    /// Theirs.
    pub their_as: u32,
    /// The addresses it runs between.
    pub transport: Transport,
    theirs: BTreeSet<Feature>,
    ours: String,
    also: String,
    sources: bool,
    graceful: bool,
}

impl Settings {
    /// Between two ASes, over IPv4, both families.
    #[must_use]
    pub fn external() -> Self {
        Self {
            our_as: 65_001,
            their_as: 65_000 + u32::from(THEIRS),
            transport: Transport::IPv4,
            theirs: BTreeSet::new(),
            ours: String::new(),
            also: String::new(),
            sources: false,
            graceful: true,
        }
    }

    /// Inside one AS.
    #[must_use]
    pub fn internal() -> Self {
        Self {
            their_as: internal_as(),
            ..Self::external()
        }
    }

    /// Over these addresses.
    #[must_use]
    pub fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// We show this AS number.
    #[must_use]
    pub fn we_are(self, our_as: u32) -> Self {
        Self { our_as, ..self }.we(&format!("localASN: {our_as}"))
    }

    /// The other speaker does this too.
    #[must_use]
    pub fn they(mut self, feature: Feature) -> Self {
        self.theirs.insert(feature);
        self
    }

    /// One more field of our `BGPPeer`.
    #[must_use]
    pub fn we(mut self, field: &str) -> Self {
        let _ = writeln!(self.ours, "  {field}");
        self
    }

    /// One more manifest of ours.
    #[must_use]
    pub fn with(mut self, manifest: &str) -> Self {
        self.also += "---\n";
        self.also += manifest;
        self
    }

    /// We offer no graceful restart.
    #[must_use]
    pub fn we_restart_hard(self) -> Self {
        Self {
            graceful: false,
            ..self.we("gracefulRestart: {enabled: false}")
        }
    }

    /// Do both sides offer graceful restart?
    #[must_use]
    pub fn is_graceful(&self) -> bool {
        self.graceful && self.has(Feature::GracefulRestart)
    }

    /// The sources may dial us too.
    #[must_use]
    pub fn and_sources(self) -> Self {
        Self {
            sources: true,
            ..self
        }
    }

    /// Does the other speaker do this?
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.theirs.contains(&feature)
    }

    /// Are both of one AS?
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.our_as == self.their_as
    }

    /// Our address.
    #[must_use]
    pub fn our_address(&self) -> String {
        self.transport.address(1)
    }

    /// The other speaker's.
    #[must_use]
    pub fn their_address(&self) -> String {
        self.transport.address(THEIRS)
    }

    /// The restart time that the other speaker asks for.
    #[must_use]
    pub fn restart_seconds(&self) -> u32 {
        if self.has(Feature::LongLived) {
            SHORT_RESTART
        } else {
            RESTART
        }
    }

    /// Our configuration without any peer.
    #[must_use]
    pub fn nobody() -> String {
        scene::configuration("  timers: {connectRetrySeconds: 1, idleHoldMaxSeconds: 1}\n")
    }

    /// Our configuration with this peer, and the sources where they may dial in. They are none otherwise: a node with more than one
    /// external peer offers none of them RFC 8538.
    #[must_use]
    pub fn manifest(&self, name: &str) -> String {
        let mut text = Self::nobody();
        let _ = write!(
            text,
            "---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {{name: {name}}}\nspec:\n  peerAddress: \"{}\"\n  peerASN: {}\n{}",
            self.their_address(),
            self.their_as,
            self.ours
        );
        for (address, asn) in SOURCES.iter().filter(|_| self.sources) {
            let _ = write!(
                text,
                "---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {{name: source{asn}}}\nspec:\n  peerAddress: {address}\n  peerASN: {asn}\n  \
                 passive: true\n  import: {{rules: [{{action: Accept}}]}}\n"
            );
        }
        text + &self.also
    }
}
