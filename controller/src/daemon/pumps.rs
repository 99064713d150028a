//! What flows by itself once the daemon runs: routes to the installer, facts to the journal (speaker and installer log theirs
//! themselves).

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use bgp::{
    rib::task::{Install, NextHops, Verdict},
    speaker::{Event, Gone, Speaker},
};
use fib::{Completeness, DownCause, Fib, LinkEvent};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc, watch},
    time::MissedTickBehavior,
};

use crate::{
    install::changes,
    journal::{Journal, Kind},
};

/// Starts them; each ends with its source.
pub(super) fn start(speaker: &mut Speaker, fib: Option<&Fib>, journal: &Arc<Journal>) {
    sessions(speaker, journal.clone());
    let installs = speaker.installs();
    let Some(fib) = fib else {
        // Nobody listens; the speaker notices by the closed channel.
        return;
    };
    kernel(fib, journal.clone());
    tokio::spawn(next_hops(speaker.next_hops(), fib.clone()));
    tokio::spawn(verdicts(fib.unresolved(), speaker.next_hops().verdict()));
    if let Some(installs) = installs {
        tokio::spawn(routes(installs, speaker.complete(), fib.clone()));
    }
}

/// Routes to the installer, and after the last of the initial ones the word that there are no more.
async fn routes(
    mut installs: mpsc::Receiver<Vec<Install>>,
    mut complete: watch::Receiver<bool>,
    fib: Fib,
) {
    let links = fib.links();
    let mut told = false;
    loop {
        let done = tokio::select! {
            // In this order: what was sent before "complete" is handed on before it.
            biased;
            batch = installs.recv() => {
                let Some(batch) = batch else { return };
                let batch = changes(batch, &links.borrow());
                fib.update(batch).await
            }
            is = other_than(told, &mut complete) => {
                let Some(is) = is else { return };
                told = is;
                let completeness = if is { Completeness::Complete } else { Completeness::Partial };
                fib.set_complete(completeness).await
            }
        };
        if done.is_err() {
            return;
        }
    }
}

/// While a mesh comes up next hops come one by one: the installer is asked about all of them so seldom.
const PACE: Duration = Duration::from_millis(100);

/// The next hops of all routes to the installer, which knows the ways out of this node.
async fn next_hops(mut asked: NextHops, fib: Fib) {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(next_hops) = asked.changed().await {
        if fib.track(next_hops).await.is_err() {
            return;
        }
        pace.tick().await;
    }
}

/// Its answer to the speaker: of two routes the one that can be used is the better.
async fn verdicts(mut unresolved: watch::Receiver<BTreeSet<IpAddr>>, verdict: Verdict) {
    while unresolved.changed().await.is_ok() {
        let next_hops = unresolved.borrow_and_update().clone();
        if verdict.unresolved(next_hops).await.is_err() {
            return;
        }
    }
}

/// What is true once it is other than what was told; `None`: it will not change any more.
async fn other_than(told: bool, complete: &mut watch::Receiver<bool>) -> Option<bool> {
    let now = complete.wait_for(|complete| *complete != told).await;
    now.ok().map(|now| *now)
}

fn sessions(speaker: &Speaker, journal: Arc<Journal>) {
    let mut events = speaker.events();
    tokio::spawn(async move {
        loop {
            match events.recv().await {
                Ok(Event::Session { peer, up, reason }) => {
                    let text = match (up, reason.is_empty()) {
                        (true, true) => "up".to_owned(),
                        (true, false) => format!("up: {reason}"),
                        (false, _) => format!("down: {reason}"),
                    };
                    journal.note(Kind::Session, Some(peer), text);
                }
                Ok(Event::Bfd { peer, up, reason }) => {
                    let text = if up {
                        "BFD up".to_owned()
                    } else {
                        format!("BFD down: {reason}")
                    };
                    journal.note(Kind::Session, Some(peer), text);
                }
                Ok(Event::Problem { peer, text }) => journal.note(Kind::Problem, peer, text),
                Err(RecvError::Lagged(lost)) => {
                    journal.write(
                        Kind::Problem,
                        None,
                        format!("{lost} session events went by unseen"),
                    );
                }
                Err(RecvError::Closed) => return,
            }
        }
    });
}

fn kernel(fib: &Fib, journal: Arc<Journal>) {
    let mut events = fib.events();
    tokio::spawn(async move {
        loop {
            match events.recv().await {
                Ok(event) => {
                    let kind = match event {
                        fib::Event::Failed { .. }
                        | fib::Event::ObjectFailed { .. }
                        | fib::Event::Fighting { .. } => Kind::Problem,
                        _ => Kind::Kernel,
                    };
                    journal.note(kind, None, event.to_string());
                }
                Err(RecvError::Lagged(lost)) => {
                    journal.write(
                        Kind::Kernel,
                        None,
                        format!("{lost} kernel events went by unseen"),
                    );
                }
                Err(RecvError::Closed) => return,
            }
        }
    });
}

/// A link event in words, and the addresses whose sessions are over, with their interface.
pub(super) fn link(event: &LinkEvent) -> (String, Option<(String, Vec<IpAddr>, Gone)>) {
    match event {
        LinkEvent::Up { interface } => (format!("{} is up", interface.name), None),
        LinkEvent::Down { interface, cause } => {
            let why = match cause {
                DownCause::Admin => "set down",
                DownCause::Carrier => "lost its carrier",
                DownCause::Gone => "is gone",
            };
            let addresses = interface
                .addresses
                .iter()
                .map(|address| address.ip())
                .collect();
            (
                format!("{} {why}", interface.name),
                Some((interface.name.clone(), addresses, Gone::Interface)),
            )
        }
        LinkEvent::AddressAdded { interface, address } => (
            format!("{} got the address {address}", interface.name),
            None,
        ),
        LinkEvent::DefaultRoute => ("a default route has changed".into(), None),
        LinkEvent::AddressRemoved { interface, address } => (
            format!("{} lost the address {address}", interface.name),
            Some((interface.name.clone(), vec![address.ip()], Gone::Addresses)),
        ),
    }
}
