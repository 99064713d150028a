//! Every route and what follows from it: Adj-RIB-In, decision, Adj-RIB-Out (RFC 4271 §3.2, §9).

use std::time::{Instant, SystemTime};

use crate::{
    prefix::Prefix,
    speaker::{Event, RouteQuery},
    status::{Explanation, RouteStatus},
};

pub mod task;

use task::{Install, PeerChange, PeerId, PeerMessage, RibCounts, Settings};

/// Every route we know, and what each peer and the kernel has been told of them. It has no clock and no I/O: time is an
/// argument, what it says goes into channels that never make it wait.
#[derive(Debug)]
pub struct Rib {}

impl Rib {
    /// An empty Rib. `installs`: whether anyone wants to know what the kernel should hold.
    #[must_use]
    pub fn new(settings: Settings, installs: bool, now: Instant) -> Self {
        let _ = (settings, installs, now);
        Self {}
    }

    /// A session speaks.
    pub fn hear(&mut self, _now: Instant, _peer: PeerId, _message: PeerMessage) {}

    /// The configuration changed.
    pub fn configure(&mut self, _now: Instant, _settings: Settings, _peers: Vec<PeerChange>) {}

    /// Asks a peer for its routes.
    pub fn ask_refresh(&mut self, _peer: PeerId) {}

    /// When [`Rib::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// Tells peers what changed, as far as they have room.
    pub fn flush(&mut self, _now: Instant) {}

    /// Whether [`Rib::take_installs`] would give something.
    #[must_use]
    pub fn wants_to_install(&self) -> bool {
        false
    }

    /// What changed for the kernel, at most `most` prefixes.
    pub fn take_installs(&mut self, _most: usize) -> Vec<Install> {
        Vec::new()
    }

    /// Nobody installs any more.
    pub fn stop_installing(&mut self) {}

    /// What an operator should know.
    pub fn take_events(&mut self) -> Vec<Event> {
        Vec::new()
    }

    /// Whether all initial routes are in.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        false
    }

    /// Counts.
    #[must_use]
    pub fn counts(&self) -> RibCounts {
        RibCounts::default()
    }

    /// Routes.
    #[must_use]
    pub fn routes(
        &self,
        _query: &RouteQuery,
        _now: Instant,
        _wall: SystemTime,
    ) -> Vec<RouteStatus> {
        Vec::new()
    }

    /// All about one prefix.
    #[must_use]
    pub fn explain(
        &self,
        _prefix: Prefix,
        _now: Instant,
        _wall: SystemTime,
    ) -> Option<Explanation> {
        None
    }
}
