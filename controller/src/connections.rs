//! The HTTP connections of one listener: so many at once, and the newest is served whatever the others do.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::AbortHandle,
};
use tracing::debug;

use crate::control::body::Body;

/// A request has to be there so long after its connection, or after the one before it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a connection carries one request or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requests {
    One,
    Many,
}

/// What is open. Where all places are taken the oldest makes room: who opens connections and says nothing keeps nobody out.
#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    requests: Requests,
    /// The oldest is first.
    open: VecDeque<AbortHandle>,
}

impl Connections {
    pub(crate) fn new(most: usize, requests: Requests) -> Self {
        Self {
            most,
            requests,
            open: VecDeque::new(),
        }
    }

    /// Answers what comes on `stream`, in a task of its own.
    pub(crate) fn serve<S, A, F>(&mut self, stream: S, answer: A)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let service = service_fn(move |request| {
            let answer = answer(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .keep_alive(self.requests == Requests::Many)
            .serve_connection(TokioIo::new(stream), service);
        let task = tokio::spawn(async {
            if let Err(error) = served.await {
                debug!(%error, "HTTP connection");
            }
        });
        self.open.retain(|connection| !connection.is_finished());
        while self.open.len() >= self.most {
            let Some(oldest) = self.open.pop_front() else {
                break;
            };
            debug!("the oldest HTTP connection makes room");
            oldest.abort();
        }
        self.open.push_back(task.abort_handle());
    }
}
