//! The task around the reconciler: it has the clock, the channels and the kernel.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use ipnetwork::IpNetwork;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use crate::{
    error::Error,
    event::{Event, Interface, LinkEvent},
    fib::{Query, Request},
    kernel::{Kernel, Signal},
    reconciler::Reconciler,
    status::Explanation,
};

/// Prefixes that may wait inside before `Fib::update` waits: what waits is small, and the more of it is seen at
/// once, the better removals are mixed.
const BACKLOG: usize = 1 << 20;

/// What the task owns.
pub(crate) struct Driver<K> {
    pub(crate) kernel: K,
    pub(crate) reconciler: Reconciler,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) queries: mpsc::Receiver<Query>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) link_events: broadcast::Sender<LinkEvent>,
    pub(crate) links: watch::Sender<Arc<Vec<Interface>>>,
    pub(crate) in_sync: watch::Sender<bool>,
    pub(crate) settled: watch::Sender<bool>,
    pub(crate) unresolved: watch::Sender<BTreeSet<IpAddr>>,
    pub(crate) flushes: Vec<oneshot::Sender<()>>,
    pub(crate) explanations: HashMap<u64, (IpAddr, Box<Explanation>, oneshot::Sender<Explanation>)>,
    pub(crate) tickets: u64,
}

impl<K: Kernel> Driver<K> {
    /// Runs until nobody holds the front door any more, or the kernel is gone. Removes nothing.
    pub(crate) async fn run(mut self) {
        loop {
            let now = clock();
            self.write(now);
            self.publish();
            let deadline = self.reconciler.next_timeout();
            let room = self.reconciler.backlog() < BACKLOG;
            // Work that poll() left for another turn must not wait for a signal.
            let more = self.reconciler.has_more();
            tokio::select! {
                biased;
                signal = self.kernel.next() => {
                    if let Err(gone) = self.signal(signal) {
                        error!(%gone, "the kernel is out of reach; routes stay as they are");
                        return;
                    }
                }
                request = self.requests.recv(), if room => match request {
                    Some(request) => self.request(request),
                    None => return,
                },
                Some(query) = self.queries.recv() => self.query(query),
                () = until(deadline), if deadline.is_some() => {}
                () = std::future::ready(()), if more => {}
            }
        }
    }

    fn write(&mut self, now: Instant) {
        if let Some(marks) = self.reconciler.wants_reading(now) {
            self.kernel.read(marks);
        }
        if let Some(neighbours) = self.reconciler.wants_probing(now) {
            self.kernel.probe(neighbours);
        }
        while let Some(batch) = self.reconciler.poll(now) {
            self.kernel.submit(batch);
        }
        // A reading waits for what is on its way, which may have ended in this very turn.
        if let Some(marks) = self.reconciler.wants_reading(now) {
            self.kernel.read(marks);
        }
    }

    fn publish(&mut self) {
        let (events, link_events) = self.reconciler.take_events();
        for event in events {
            tell(&event);
            // Nobody listening is fine.
            let _ = self.events.send(event);
        }
        if !link_events.is_empty() {
            self.links
                .send_replace(Arc::new(self.reconciler.interfaces()));
            for event in link_events {
                debug!(?event, "link");
                let _ = self.link_events.send(event);
            }
        }
        if let Some(unresolved) = self.reconciler.take_unresolved() {
            self.unresolved.send_if_modified(|before| {
                let other = *before != unresolved;
                *before = unresolved;
                other
            });
        }
        let in_sync = self.reconciler.is_in_sync();
        self.in_sync
            .send_if_modified(|before| std::mem::replace(before, in_sync) != in_sync);
        if in_sync {
            if self.reconciler.is_complete() {
                self.settled
                    .send_if_modified(|before| !std::mem::replace(before, true));
            }
            for flushed in self.flushes.drain(..) {
                let _ = flushed.send(());
            }
        }
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        let now = clock();
        match signal {
            Signal::Done(done) => self.reconciler.done(now, done),
            Signal::Read(Ok(snapshot)) => self.reconciler.compare(now, *snapshot),
            Signal::Read(Err(reason)) => {
                warn!(%reason, "the kernel's table could not be read; trying again");
                self.reconciler.reading_failed(now);
            }
            Signal::Changed(events) => self.reconciler.observe(now, events),
            Signal::Overrun => self.reconciler.overrun(now),
            Signal::Found(ticket, found) => {
                if let Some((address, mut explanation, reply)) = self.explanations.remove(&ticket) {
                    explanation.lookup = self.reconciler.lookup_in_words(address, found);
                    let _ = reply.send(*explanation);
                }
            }
            Signal::Gone(reason) => return Err(reason),
        }
        Ok(())
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Update(changes) => self.reconciler.change(changes),
            Request::Apply(config, reply) => {
                let verdict = crate::fib::check(&config);
                if verdict.is_ok() {
                    self.reconciler.apply(clock(), *config);
                }
                let _ = reply.send(verdict);
            }
            Request::Track(next_hops) => self.reconciler.track(next_hops),
            Request::Complete(completeness) => self.reconciler.set_complete(completeness),
            Request::Flush(reply) => self.flushes.push(reply),
        }
    }

    fn query(&mut self, query: Query) {
        match query {
            Query::Status(reply) => drop(reply.send(self.reconciler.status())),
            Query::Routes(filter, reply) => {
                drop(reply.send(self.reconciler.routes(clock(), &filter)))
            }
            Query::Explain(query, reply) => self.explain(query, reply),
        }
    }

    fn explain(&mut self, query: IpNetwork, reply: oneshot::Sender<Explanation>) {
        let explanation = Box::new(self.reconciler.explain(clock(), query));
        self.explanations
            .retain(|_, (.., reply)| !reply.is_closed());
        self.tickets = self.tickets.wrapping_add(1);
        self.explanations
            .insert(self.tickets, (query.ip(), explanation, reply));
        self.kernel.look_up(self.tickets, query.ip());
    }
}

fn tell(event: &Event) {
    match event {
        Event::Written { .. } | Event::Flushed { .. } => debug!("{event}"),
        Event::Resynced { drifted: 0, .. }
        | Event::Swept { .. }
        | Event::Healed { .. }
        | Event::WithoutObjects => {
            info!("{event}")
        }
        _ => warn!("{event}"),
    }
}

/// The one clock of this crate.
#[expect(
    clippy::disallowed_methods,
    reason = "the driver is where time comes from"
)]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
