//! What flows by itself once the daemon runs: routes to the installer, facts to the journal.

use std::{net::IpAddr, sync::Arc};

use bgp::speaker::{Event, Speaker};
use fib::{Completeness, DownCause, Fib, LinkEvent};
use tokio::sync::broadcast::error::RecvError;

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
    if let Some(mut installs) = installs {
        let fib = fib.clone();
        tokio::spawn(async move {
            let links = fib.links();
            while let Some(batch) = installs.recv().await {
                let batch = changes(batch, &links.borrow());
                if fib.update(batch).await.is_err() {
                    return;
                }
            }
        });
    }
    let fib = fib.clone();
    let mut complete = speaker.complete();
    tokio::spawn(async move {
        while complete.wait_for(|complete| *complete).await.is_ok() {
            if fib.set_complete(Completeness::Complete).await.is_err() {
                return;
            }
            if complete.wait_for(|complete| !*complete).await.is_err() {
                return;
            }
            if fib.set_complete(Completeness::Partial).await.is_err() {
                return;
            }
        }
    });
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
                    journal.write(Kind::Session, Some(peer), text);
                }
                Ok(Event::Problem { peer, text }) => journal.write(Kind::Problem, peer, text),
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
                        fib::Event::Failed { .. } | fib::Event::Fighting { .. } => Kind::Problem,
                        _ => Kind::Kernel,
                    };
                    journal.write(kind, None, event.to_string());
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
pub(super) fn link(event: &LinkEvent) -> (String, Option<(String, Vec<IpAddr>)>) {
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
                Some((interface.name.clone(), addresses)),
            )
        }
        LinkEvent::AddressAdded { interface, address } => (
            format!("{} got the address {address}", interface.name),
            None,
        ),
        LinkEvent::AddressRemoved { interface, address } => (
            format!("{} lost the address {address}", interface.name),
            Some((interface.name.clone(), vec![address.ip()])),
        ),
    }
}
