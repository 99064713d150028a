//! What a peer's task tells: status, flight recorder, events, and hints for whoever has to find out what is wrong.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use tokio::sync::{broadcast, oneshot};

use super::{
    super::{
        fsm::{ConnectionId, Fsm},
        hints::{self, Counters},
        incoming::Read,
        negotiate::Negotiated,
        recorder::{Recorder, Way},
    },
    command::NO_AO,
};
use crate::{
    bfd::news::News,
    config::{PeerAsn, PeerConfig},
    prefix::Family,
    speaker,
    status::{
        BfdStatus, End, MessageCounts, NotificationStatus, PeerStatus, SessionState, SessionStatus,
        SignedWith,
    },
    wire::{Message, Notification, Update},
};

/// A session that ended because of BFD is not tried again before BFD has nothing against it.
const WAITS_FOR_BFD: &str =
    "we hear its BFD but the path does not work both ways yet: we wait until BFD is up, or silent";

/// All a peer's task knows; the Rib knows the counts of routes.
#[derive(Debug)]
pub(crate) struct PeerReport {
    /// Without what the Rib counts, and what BFD says.
    pub(crate) status: PeerStatus,
    /// How BFD with it is, where it is configured.
    pub(crate) bfd: Option<oneshot::Receiver<BfdStatus>>,
}

/// How much is told of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Without its flight recorder: what is looked at again and again.
    Brief,
    /// All.
    Full,
}

/// The connection of a session.
pub(super) struct Connected {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) signed_with: Option<SignedWith>,
}

/// Kinds of faults told of in one session, and of failures before it.
const KINDS_TOLD: usize = 16;

/// Keeps what is told.
pub(super) struct Reporter {
    name: Arc<str>,
    events: broadcast::Sender<speaker::Event>,
    recorder: Recorder,
    state: SessionState,
    since: SystemTime,
    asn: Option<u32>,
    established: u64,
    messages: MessageCounts,
    last_error: Option<String>,
    /// What ended the last session: the attempts after it fail for lesser reasons.
    ended: Option<String>,
    hint: Option<String>,
    last_notification: Option<NotificationStatus>,
    /// Kinds of faults told of since the session came up.
    told_faults: Vec<String>,
    /// Why it failed, as far as told since the last session.
    told_failures: Vec<String>,
    dial_hint: Option<String>,
    before_dial: Counters,
}

impl Reporter {
    pub(super) fn new(
        name: Arc<str>,
        config: &PeerConfig,
        events: broadcast::Sender<speaker::Event>,
    ) -> Self {
        Self {
            name,
            events,
            recorder: Recorder::default(),
            state: SessionState::Idle,
            since: SystemTime::now(),
            asn: configured_asn(config),
            established: 0,
            messages: MessageCounts::default(),
            last_error: None,
            ended: None,
            hint: None,
            last_notification: None,
            told_faults: Vec::new(),
            told_failures: Vec::new(),
            dial_hint: None,
            before_dial: Counters::default(),
        }
    }

    pub(super) fn reconfigured(&mut self, config: &PeerConfig) {
        self.asn = configured_asn(config);
    }

    /// Its name.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// BFD has something to say of the path.
    pub(super) fn bfd(&mut self, news: &News) {
        let (up, reason) = match news {
            News::Up => (true, ""),
            News::Dead { reason, .. } | News::Down(reason) => (false, &**reason),
            News::Silent => return,
        };
        let what = if up {
            "BFD up".to_owned()
        } else {
            format!("BFD down: {reason}")
        };
        self.note(Way::State, what, 1);
        let (peer, reason) = (self.name.to_string(), reason.to_owned());
        drop(self.events.send(speaker::Event::Bfd { peer, up, reason }));
    }

    /// The configuration keeps the peer down.
    pub(super) fn held_down(&mut self, reason: String) {
        if reason == NO_AO && self.last_error.as_ref() != Some(&reason) {
            self.problem(reason.clone());
        }
        self.note(Way::State, reason.clone(), 1);
        self.last_error = Some(reason);
        self.ended = None;
        self.hint = None;
    }

    /// A connection of the peer could not be used. While there is a session, that is not what ended it.
    pub(super) fn refused(&mut self, error: &io::Error) {
        let reason = error.to_string();
        tracing::debug!(peer = %self.name, %reason, "a connection could not be used");
        if self.state == SessionState::Established {
            return;
        }
        self.hint = (error.kind() == io::ErrorKind::PermissionDenied)
            .then(|| "does it send with TTL 255 (GTSM on both sides), and is it that near?".into());
        if self.last_error.as_ref() != Some(&reason) {
            self.note(Way::State, reason.clone(), 1);
            self.last_error = Some(reason);
        }
    }

    /// What failed last, and what ended the session before that if it is something else.
    fn why_not_up(&self) -> Option<String> {
        match (&self.last_error, &self.ended) {
            (Some(last), Some(ended)) if last != ended => {
                Some(format!("{last}; the last session ended: {ended}"))
            }
            (last, _) => last.clone(),
        }
    }

    fn shown_hint(&self, fsm: &Fsm) -> Option<String> {
        let hint = self
            .hint
            .clone()
            .or_else(|| fsm.waits_for_bfd().then(|| WAITS_FOR_BFD.into()))
            .or_else(|| hints::waiting(self.state, fsm.config()));
        match (hint, hints::noted(self.state, fsm.config())) {
            (Some(hint), Some(note)) => Some(format!("{hint} {note}")),
            (hint, note) => hint.or(note),
        }
    }

    /// … and no longer does.
    pub(super) fn released(&mut self) {
        self.last_error = None;
    }

    /// A connection goes on with another key.
    pub(super) fn signs_anew(&mut self) {
        tracing::info!(peer = %self.name, "its connection is signed with another key from here on");
        self.note(Way::State, "signed with another key from here on", 1);
    }

    /// Messages came.
    pub(super) fn received(&mut self, read: &Read) {
        self.messages.messages_in = self.messages.messages_in.saturating_add(read.messages);
        self.messages.updates_in = self.messages.updates_in.saturating_add(read.updates);
        for event in &read.events {
            use super::super::fsm::Event;
            match event {
                Event::Received(_, message) => {
                    if let Message::Notification(said) = message {
                        self.ended_by(said, End::Peer);
                    }
                    self.note(Way::In, in_words(message), 1);
                }
                Event::Updates(_, updates) => {
                    let count = u64::try_from(updates.len()).unwrap_or(u64::MAX);
                    self.note(Way::In, "UPDATE", count);
                    self.faults(updates);
                }
                _ => {}
            }
        }
    }

    /// Faults that were survived are counted; each kind is told once a session, and so many kinds of it: a peer that can
    /// do nothing else wrong must not fill a log.
    fn faults(&mut self, updates: &[Update]) {
        for update in updates.iter().filter(|update| !update.faults.is_empty()) {
            self.messages.faulty = self.messages.faulty.saturating_add(1);
            for fault in &update.faults {
                if self.told_faults.len() >= KINDS_TOLD {
                    break;
                }
                let what = format!("{:?}: {}", fault.treatment, fault.reason);
                if !self.told_faults.contains(&what) {
                    tracing::warn!(peer = %self.name, fault = %what, "malformed UPDATE survived");
                    self.problem(format!("malformed UPDATE survived (RFC 7606): {what}"));
                    self.note(Way::In, format!("faulty UPDATE: {what}"), 1);
                    self.told_faults.push(what);
                }
            }
        }
    }

    /// A message of the session itself is on its way.
    pub(super) fn sent(&mut self, message: &Message) {
        self.messages.messages_out = self.messages.messages_out.saturating_add(1);
        self.note(Way::Out, in_words(message), 1);
    }

    /// The last message on a connection.
    pub(super) fn said(&mut self, notification: &Notification) {
        self.messages.messages_out = self.messages.messages_out.saturating_add(1);
        self.ended_by(notification, End::Us);
        self.note(Way::Out, format!("NOTIFICATION {notification}"), 1);
    }

    /// The attempts after a session fail for lesser reasons than it did.
    fn ended_by(&mut self, notification: &Notification, from: End) {
        if self.state == SessionState::Established || self.ended.is_none() {
            self.last_notification = Some(numbers(notification, from));
        }
    }

    /// A dial begins.
    pub(super) fn dialling(&mut self, config: &PeerConfig) {
        self.before_dial = Counters::where_it_matters(config);
    }

    /// Why a dial failed, in words.
    pub(super) fn dial_failed(&mut self, error: &io::Error, config: &PeerConfig) -> String {
        let (reason, hint) = hints::dial_failed(error, config);
        self.dial_hint = hint;
        reason
    }

    /// Something failed.
    pub(super) fn failed(&mut self, reason: String, config: &PeerConfig) {
        self.hint =
            hints::failed(&reason, self.state, config, &self.before_dial).or(self.dial_hint.take());
        if self.state == SessionState::Established {
            return; // the change of state says it
        }
        if self.last_error.as_ref() == Some(&reason) {
            tracing::debug!(peer = %self.name, %reason, "failed again");
            return;
        }
        // What fails now so, now otherwise, is told once each, and not in ever new ways.
        if self.told_failures.len() < KINDS_TOLD && !self.told_failures.contains(&reason) {
            tracing::warn!(peer = %self.name, %reason, hint = self.hint.as_deref(), "failed");
            self.problem(match &self.hint {
                Some(hint) => format!("{reason}; {hint}"),
                None => reason.clone(),
            });
            self.told_failures.push(reason.clone());
        }
        self.note(Way::State, reason.clone(), 1);
        self.last_error = Some(reason);
    }

    /// The peer's AS number, as far as it is known.
    pub(super) const fn asn(&self) -> Option<u32> {
        self.asn
    }

    /// The state it was last told of.
    pub(super) const fn shown(&self) -> SessionState {
        self.state
    }

    /// The peer is in another state.
    pub(super) fn state(
        &mut self,
        to: SessionState,
        reason: String,
        session: Option<(ConnectionId, &Arc<Negotiated>)>,
    ) {
        let from = std::mem::replace(&mut self.state, to);
        self.since = SystemTime::now();
        self.note(Way::State, format!("{from:?} → {to:?}: {reason}"), 1);
        if let Some((_, agreed)) = session {
            self.asn = Some(agreed.asn);
        }
        let up = to == SessionState::Established;
        if up {
            self.established = self.established.saturating_add(1);
            self.told_faults.clear();
            self.told_failures.clear();
            self.last_error = None;
            self.ended = None;
            self.hint = None;
        }
        if up || from == SessionState::Established {
            let hint = self.hint.as_deref();
            tracing::info!(peer = %self.name, ?from, ?to, %reason, hint, "state changed");
            let reason = match hint {
                Some(hint) => format!("{reason}; {hint}"),
                None => reason,
            };
            if !up {
                self.last_error = Some(reason.clone());
                self.ended = Some(reason.clone());
            }
            let peer = self.name.to_string();
            drop(
                self.events
                    .send(speaker::Event::Session { peer, up, reason }),
            );
        } else {
            tracing::debug!(peer = %self.name, ?from, ?to, %reason, "state changed");
        }
    }

    fn note(&mut self, way: Way, what: impl Into<std::borrow::Cow<'static, str>>, times: u64) {
        self.recorder.add(SystemTime::now(), way, what, times);
    }

    fn problem(&self, text: String) {
        let peer = Some(self.name.to_string());
        drop(self.events.send(speaker::Event::Problem { peer, text }));
    }

    /// How it is.
    pub(super) fn report(
        &self,
        fsm: &Fsm,
        connected: Option<Connected>,
        bfd: Option<oneshot::Receiver<BfdStatus>>,
        detail: Detail,
    ) -> PeerReport {
        let session = fsm.session().zip(connected);
        let config = fsm.config();
        PeerReport {
            bfd,
            status: PeerStatus {
                name: self.name.to_string(),
                address: match session {
                    Some((_, ref connected)) => connected.remote.ip(),
                    None => config.address,
                },
                interface: config.interface.clone().filter(|_| of_link(config)),
                asn: self.asn,
                local_asn: config.local_asn,
                kind: session
                    .as_ref()
                    .map(|((_, agreed), _)| agreed.kind)
                    .or_else(|| configured_kind(config)),
                mesh: config.mesh,
                state: self.state,
                since: self.since,
                established_count: self.established,
                last_error: self.why_not_up(),
                hint: self.shown_hint(fsm),
                last_notification: self.last_notification,
                session: session.map(|((_, agreed), connected)| SessionStatus {
                    waiting: fsm.waiting(),
                    ..shown(agreed, &connected)
                }),
                bfd: None,
                families: std::collections::BTreeMap::new(),
                messages: self.messages,
                recorder: match detail {
                    Detail::Brief => Vec::new(),
                    Detail::Full => self.recorder.shown(),
                },
            },
        }
    }
}

/// Whether its address says who it is on its link only.
fn of_link(config: &PeerConfig) -> bool {
    config.unnumbered.is_some()
        || matches!(config.address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn shown(agreed: &Negotiated, connected: &Connected) -> SessionStatus {
    SessionStatus {
        router_id: agreed.router_id,
        local: connected.local,
        remote: connected.remote,
        hold_seconds: agreed.hold.as_secs(),
        keepalive_seconds: agreed.keepalive.as_secs(),
        families: agreed.context.families.each().collect::<Vec<Family>>(),
        capabilities: agreed.capabilities.clone(),
        software: agreed.software.clone(),
        host: agreed.host.clone(),
        signed_with: connected.signed_with,
        waiting: Vec::new(),
    }
}

/// A Hard Reset (RFC 8538) only says how; why is what it wraps.
fn numbers(notification: &Notification, from: End) -> NotificationStatus {
    let inner = notification.inner();
    let said = inner.as_ref().unwrap_or(notification);
    NotificationStatus {
        code: said.code,
        subcode: said.subcode,
        from,
    }
}

fn configured_asn(config: &PeerConfig) -> Option<u32> {
    match config.asn {
        PeerAsn::Number(asn) => Some(asn),
        PeerAsn::Internal => Some(config.local_asn),
        PeerAsn::External | PeerAsn::Any => None,
    }
}

fn configured_kind(config: &PeerConfig) -> Option<crate::status::PeerKind> {
    use crate::status::PeerKind::{External, Internal};
    match config.asn {
        PeerAsn::Internal => Some(Internal),
        PeerAsn::External => Some(External),
        PeerAsn::Number(asn) if asn == config.local_asn => Some(Internal),
        PeerAsn::Number(_) => Some(External),
        PeerAsn::Any => None,
    }
}

fn in_words(message: &Message) -> std::borrow::Cow<'static, str> {
    match message {
        Message::Keepalive => "KEEPALIVE".into(),
        Message::Update(_) => "UPDATE".into(),
        Message::Open(open) => format!(
            "OPEN AS {} hold {} s ID {}: {}",
            open.asn,
            open.hold_time,
            open.id,
            open.capabilities
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        )
        .into(),
        Message::Notification(said) => format!("NOTIFICATION {said}").into(),
        Message::RouteRefresh(refresh) => {
            format!("ROUTE-REFRESH {:?} {}", refresh.kind, refresh.family).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rib::fixture::peer_config;

    #[test]
    fn what_fails_now_so_now_otherwise_is_told_once_each_and_again_after_a_session() {
        let config = peer_config();
        let (events, mut told) = broadcast::channel(1024);
        let mut reporter = Reporter::new("peer".into(), &config, events);
        let mut fail = |reporter: &mut Reporter| {
            for attempt in 0..100 {
                let reason = ["connection refused", "timed out"][attempt % 2];
                reporter.failed(reason.into(), &config);
            }
            std::iter::from_fn(|| told.try_recv().ok())
                .filter(|event| matches!(event, speaker::Event::Problem { .. }))
                .count()
        };
        assert_eq!(fail(&mut reporter), 2);
        assert_eq!(reporter.last_error.as_deref(), Some("timed out"));
        reporter.state(SessionState::Established, "up".into(), None);
        reporter.state(SessionState::Idle, "hold timer expired".into(), None);
        assert_eq!(fail(&mut reporter), 2);
        for attempt in 0..100 {
            reporter.failed(format!("the {attempt}. reason"), &config);
        }
        assert_eq!(fail(&mut reporter), KINDS_TOLD - 2);
    }
}
