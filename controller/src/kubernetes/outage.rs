//! Does the API server answer? Every request that the client makes tells.

use std::{error::Error, time::SystemTime};

use hyper::{Response, StatusCode};
use tokio::sync::watch;

/// What to do where it does not take us for whom we are.
pub(crate) const UNAUTHENTICATED: &str = "it does not accept the token of routelet's ServiceAccount (401 Unauthorized): a token lives as long as its pod, and the kubelet renews it; if this lasts, delete the pod of routelet on this node, so that it gets another";

/// Whether the API server answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing has come back yet.
    #[default]
    Unknown,
    /// It answered last time.
    Answers,
    /// It did not: since when, and what happened first.
    Away(SystemTime, String),
}

/// Notes how each request ended.
#[derive(Clone, Debug)]
pub(crate) struct Note(watch::Sender<Reach>);

impl Note {
    /// A note, and where it is read.
    pub(crate) fn new() -> (Self, watch::Receiver<Reach>) {
        let (sender, receiver) = watch::channel(Reach::Unknown);
        (Self(sender), receiver)
    }

    /// An answer came, or did not.
    pub(crate) fn outcome<B>(&self, outcome: Result<&Response<B>, &(dyn Error + 'static)>) {
        match outcome {
            Ok(response) if response.status().is_server_error() => {
                self.away(&status_words(response.status()));
            }
            Ok(_) => {
                self.0.send_if_modified(|reach| {
                    let news = *reach != Reach::Answers;
                    *reach = Reach::Answers;
                    news
                });
            }
            Err(error) => self.away(&root(error).to_string()),
        }
    }

    /// It does not answer as it should.
    pub(crate) fn away(&self, why: &str) {
        self.0.send_if_modified(|reach| {
            let news = !matches!(reach, Reach::Away(..));
            if news {
                *reach = Reach::Away(SystemTime::now(), why.to_owned());
            }
            news
        });
    }
}

/// What it comes down to: the layers above only say that something went wrong.
fn root<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

fn status_words(status: StatusCode) -> String {
    format!("it answers {status}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_begins_with_the_first_failure_and_ends_with_the_first_answer() {
        let (note, reach) = Note::new();
        let failed = |text: &str| {
            let error = std::io::Error::other(text.to_owned());
            note.outcome::<()>(Err(&error));
        };
        failed("connection refused");
        let Reach::Away(since, why) = reach.borrow().clone() else {
            panic!("it is away");
        };
        failed("timed out");
        assert_eq!(*reach.borrow(), Reach::Away(since, why.clone()));
        assert_eq!(why, "connection refused");
        note.outcome(Ok(&Response::new(())));
        assert_eq!(*reach.borrow(), Reach::Answers);
        let mut starting = Response::new(());
        *starting.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        note.outcome(Ok(&starting));
        assert!(matches!(&*reach.borrow(), Reach::Away(_, why) if why.contains("503")));
    }
}
