//! The loop around the Rib: the one place where it meets channels and the clock.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{broadcast, mpsc, watch};

use super::{CollectorMessage, Install, PeerMessage, Settings, ToRib};
use crate::{rib::Rib, speaker::Event};

/// Messages taken at once before output is looked at.
const BATCH: usize = 64;

/// After output the next waits so long, unless a peer asks for it by having room again: in a burst what changes twice is said
/// once and equal attributes meet, while a change that stands alone is told at once.
const PATIENCE: Duration = Duration::from_millis(10);

/// How output stands.
#[derive(Clone, Copy)]
enum Output {
    /// All is told that there is room for.
    Told,
    /// It is looked at when [`PATIENCE`] ends.
    Owed,
    /// There is more, and room.
    Behind,
}

pub(super) struct Task {
    pub(super) receiver: mpsc::Receiver<ToRib>,
    pub(super) installs: Option<mpsc::Sender<Vec<Install>>>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) complete: watch::Sender<bool>,
    pub(super) next_hops: watch::Sender<BTreeSet<IpAddr>>,
}

impl Task {
    /// On a thread of its own, so that a big table never holds up the sessions' runtime; where no thread can be had, on
    /// that runtime.
    pub(super) fn start(self, settings: Settings) {
        let (hand_over, take_over) = std::sync::mpsc::channel::<Self>();
        let for_thread = settings.clone();
        let thread = std::thread::Builder::new()
            .name("rib".into())
            .spawn(move || {
                let Ok(task) = take_over.recv() else { return };
                match tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                {
                    Ok(runtime) => runtime.block_on(task.run(for_thread)),
                    Err(error) => tracing::error!(%error, "no timer for the Rib"),
                }
            });
        match thread {
            Ok(_) => drop(hand_over.send(self)),
            Err(error) => {
                tracing::warn!(%error, "no thread for the Rib, it shares the runtime's");
                drop(tokio::spawn(self.run(settings)));
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the driver of the Rib reads the clock"
    )]
    async fn run(mut self, settings: Settings) {
        let mut rib = Rib::new(settings, self.installs.is_some(), Instant::now());
        let mut batch = Vec::with_capacity(BATCH);
        let mut flushed: Option<Instant> = None;
        let mut output = Output::Told;
        loop {
            let deadline = match (output, flushed) {
                (Output::Behind, Some(flushed)) => Some(flushed),
                (Output::Owed, Some(flushed)) => Some(flushed + PATIENCE),
                _ => rib.next_timeout(),
            };
            tokio::select! {
                biased;
                taken = self.receiver.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                }
                () = until(deadline) => {}
                () = room(self.installs.as_ref()), if rib.wants_to_install() => {}
            }
            let now = Instant::now();
            let mut wanted = matches!(output, Output::Behind);
            for message in batch.drain(..) {
                wanted |= matches!(
                    message,
                    ToRib::Peer(_, PeerMessage::Writable)
                        | ToRib::Collector(_, CollectorMessage::Writable)
                );
                hear(&mut rib, now, message);
            }
            rib.handle_timeout(now);
            output = if wanted || flushed.is_none_or(|flushed| now >= flushed + PATIENCE) {
                rib.flush(now);
                rib.tell_collectors(now, SystemTime::now());
                if let Some(next_hops) = rib.take_next_hops() {
                    self.next_hops.send_replace(next_hops);
                }
                flushed = Some(now);
                if rib.is_behind() {
                    Output::Behind
                } else {
                    Output::Told
                }
            } else {
                Output::Owed
            };
            self.speak(&mut rib);
        }
    }

    /// Hands on what is not for sessions.
    fn speak(&mut self, rib: &mut Rib) {
        let mut closed = false;
        if let Some(installs) = &self.installs {
            while rib.wants_to_install() && !closed {
                match installs.try_reserve() {
                    Ok(place) => place.send(rib.take_installs(INSTALLS)),
                    Err(mpsc::error::TrySendError::Full(())) => break,
                    Err(mpsc::error::TrySendError::Closed(())) => closed = true,
                }
            }
        }
        if closed {
            self.installs = None;
            rib.stop_installing();
        }
        for event in rib.take_events() {
            if let Event::Problem { peer, text } = &event {
                tracing::warn!(peer, "{text}");
            }
            // Nobody listening is no error.
            let _ = self.events.send(event);
        }
        // Who sweeps the kernel when it hears this must have heard of every route before.
        if rib.is_complete() && !(self.installs.is_some() && rib.wants_to_install()) {
            self.complete
                .send_if_modified(|known| !std::mem::replace(known, true));
        }
    }
}

/// Prefixes in one batch for the installer.
const INSTALLS: usize = 4096;

fn hear(rib: &mut Rib, now: Instant, message: ToRib) {
    match message {
        ToRib::Peer(peer, message) => rib.hear(now, peer, message),
        ToRib::Configure(settings, peers) => rib.configure(now, *settings, peers),
        ToRib::Unresolved(next_hops) => rib.unresolved(now, next_hops),
        ToRib::Collector(id, message) => rib.hear_collector(now, id, message),
        question => answer(rib, now, question),
    }
}

/// What was said before a question is in its answer. Whoever asked may have gone.
fn answer(rib: &mut Rib, now: Instant, question: ToRib) {
    rib.settle();
    rib.handle_timeout(now);
    match question {
        ToRib::Counts(reply) => drop(reply.send(rib.counts())),
        ToRib::Routes(query, reply) => {
            drop(reply.send(rib.routes(&query, now, SystemTime::now())));
        }
        ToRib::Explain(prefix, reply) => {
            drop(reply.send(rib.explain(prefix, now, SystemTime::now())));
        }
        ToRib::Reach(ranges, reply) => drop(reply.send(rib.reach(ranges))),
        ToRib::Dump(place, reply) => drop(reply.send(rib.dump(place, now, SystemTime::now()))),
        ToRib::Refresh(peer, what, reply) => drop(reply.send(rib.refresh_again(peer, what))),
        ToRib::Peer(..) | ToRib::Configure(..) | ToRib::Unresolved(_) | ToRib::Collector(..) => {}
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn room(installs: Option<&mpsc::Sender<Vec<Install>>>) {
    match installs {
        // Closed is noticed where the place is used.
        Some(installs) => drop(installs.reserve().await),
        None => std::future::pending().await,
    }
}
