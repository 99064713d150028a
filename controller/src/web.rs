//! Metrics and health over HTTP: `GET /metrics`, `/healthz`, `/readyz` on an address of their own, and on the control socket.
//!
//! Read-only and small: a connection carries one request, and only so many are open at once; a newer one is never kept waiting by them.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tracing::{debug, info};

use crate::{
    connections::{Connections, Requests},
    control::{body::Body, query::Query},
    journal::Kind,
    metrics,
    node::Running,
    problem::Problem,
    report::StatusReport,
};

mod health;

/// How long an address that cannot be had is left alone before it is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// The metrics are there after so long, or not at all.
const SCRAPE: Duration = Duration::from_secs(30);
/// Most connections at once.
const CONNECTIONS: usize = 64;

/// What is served.
pub(crate) const PATHS: [&str; 3] = [METRICS, HEALTHY, READY];
const METRICS: &str = "/metrics";
const HEALTHY: &str = "/healthz";
const READY: &str = "/readyz";

const TEXT: &str = "text/plain; charset=utf-8";

/// Where metrics and health are served: `ADDR:PORT`, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address(Option<SocketAddr>);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "none" {
            return Ok(Self(None));
        }
        // $(NODE_IP):9179 in a manifest puts no brackets around an IPv6 address.
        let bare = || {
            let (address, port) = text.rsplit_once(':')?;
            let address: IpAddr = address.parse().ok()?;
            Some(SocketAddr::new(address, port.parse().ok()?))
        };
        text.parse()
            .ok()
            .or_else(bare)
            .map(|address| Self(Some(address)))
            .ok_or_else(|| {
                format!(
                    "{text:?} is no ADDR:PORT such as 127.0.0.1:9179 or [::]:9179, and not none"
                )
            })
    }
}

/// What the endpoint has to tell of itself, and what health remembers.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Why it does not listen.
    problem: Mutex<Option<String>>,
    /// When the first synchronisation was done.
    settled: OnceLock<SystemTime>,
    /// The node was ready once: what others do no longer makes it unready.
    was_ready: AtomicBool,
}

impl State {
    /// What stands in the way. Routes flow all the same.
    pub(crate) fn problem(&self) -> Option<Problem> {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem
            .as_ref()
            .map(|text| Problem::warning("metrics", text))
    }

    /// When the first synchronisation was done: all initial routes in, the kernel in step with them.
    pub(crate) fn settled(&self) -> Option<SystemTime> {
        self.settled.get().copied()
    }

    fn set_problem(&self, text: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn was_ready(&self) -> bool {
        self.was_ready.load(Ordering::Relaxed)
    }

    fn now_ready(&self) {
        self.was_ready.store(true, Ordering::Relaxed);
    }
}

/// Serves until it is dropped. An address that cannot be had is a problem in the status and is tried again.
pub(crate) async fn serve(Address(address): Address, running: Arc<Running>) {
    let listening = async {
        let Some(address) = address else { return };
        let listener = listen(address, &running.web).await;
        info!(%address, "serving metrics and health");
        accept(listener, &running).await;
    };
    tokio::join!(first_sync(&running), listening);
}

/// Notes when the first synchronisation is done.
async fn first_sync(running: &Running) {
    let complete = running
        .speaker
        .read()
        .await
        .as_ref()
        .map(bgp::speaker::Speaker::complete);
    let Some(mut complete) = complete else { return };
    if complete.wait_for(|complete| *complete).await.is_err() {
        return;
    }
    if let Some(fib) = &running.fib
        && fib.settled().wait_for(|settled| *settled).await.is_err()
    {
        return;
    }
    // It is set here only.
    let _ = running.web.settled.set(SystemTime::now());
    let text =
        "first synchronisation done: all initial routes are in, and the kernel in step with them";
    running.journal.write(Kind::Daemon, None, text);
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing tells when an address can be had"
)]
async fn listen(address: SocketAddr, state: &State) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                state.set_problem(None);
                return listener;
            }
            Err(error) => {
                debug!(%address, %error, "metrics cannot be served");
                state.set_problem(Some(format!(
                    "{address} cannot be listened on ({error}), so neither metrics nor health are served over TCP: free it, or give another --metrics-address (none: nowhere); it is tried again every {} s, and the control socket has both meanwhile",
                    RETRY.as_secs()
                )));
                sleep(RETRY).await;
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing tells when file descriptors are free again"
)]
async fn accept(listener: TcpListener, running: &Arc<Running>) {
    let mut connections = Connections::new(CONNECTIONS, Requests::One);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let running = running.clone();
                connections.serve(stream, move |request| heard(request, running.clone()));
            }
            Err(error) => {
                debug!(%error, "connection not accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn heard(request: Request<Incoming>, running: Arc<Running>) -> Response<Body> {
    let query = Query::parse(request.uri().query().unwrap_or_default()).unwrap_or_default();
    match *request.method() {
        Method::GET | Method::HEAD => answer(request.uri().path(), &query, &running).await,
        _ => only_get(),
    }
}

/// What a GET of `path` is answered.
pub(crate) async fn answer(path: &str, query: &Query, running: &Running) -> Response<Body> {
    let asked = match path {
        METRICS => return metrics(running).await,
        HEALTHY => health::Asked::Healthy,
        READY => health::Asked::Ready,
        _ => return not_found(),
    };
    let checks = health::look(asked, running).await;
    let status = if checks.passed() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    // As kube-apiserver has it: that the word stands there is enough.
    response(status, TEXT, checks.text(query.has("verbose")))
}

/// What the node is not ready for, by the name of the check; `None`: it is ready, or was once.
pub(crate) fn unready(running: &Running, status: &StatusReport) -> Option<(&'static str, String)> {
    health::unready(running, status)
}

async fn metrics(running: &Running) -> Response<Body> {
    let failed = |text: &str| response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{text}\n"));
    match timeout(SCRAPE, running.scrape()).await {
        Ok(Ok(scrape)) => match metrics::text(scrape) {
            Ok(text) => response(StatusCode::OK, metrics::CONTENT_TYPE, text),
            Err(error) => failed(&error.to_string()),
        },
        Ok(Err(_)) => failed("routelet is stopping"),
        Err(_) => failed("the speaker does not answer"),
    }
}

fn only_get() -> Response<Body> {
    let mut answer = response(
        StatusCode::METHOD_NOT_ALLOWED,
        TEXT,
        "only GET and HEAD\n".into(),
    );
    let allowed = HeaderValue::from_static("GET, HEAD");
    answer.headers_mut().insert(ALLOW, allowed);
    answer
}

fn not_found() -> Response<Body> {
    let text = format!("there are {} (health with ?verbose)\n", PATHS.join(", "));
    response(StatusCode::NOT_FOUND, TEXT, text)
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_or_none() {
        assert_eq!("".parse(), Ok(Address(None)));
        assert_eq!("none".parse(), Ok(Address(None)));
        let given = "[::1]:9179".parse::<Address>();
        assert_eq!(given, Ok(Address("[::1]:9179".parse().ok())));
        assert_eq!("fd00::1:9179".parse::<Address>(), "[fd00::1]:9179".parse());
        for wrong in ["9179", ":9179", "localhost:9179", "127.0.0.1", "::1", "off"] {
            let refused = wrong.parse::<Address>();
            assert!(
                refused.is_err_and(|text| text.contains("ADDR:PORT")),
                "{wrong}"
            );
        }
    }
}
