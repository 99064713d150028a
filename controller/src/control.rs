//! The control socket: HTTP with JSON (or, asked with `Accept: text/plain`, the tables of the command line) on a UNIX socket.
//!
//! ```text
//! GET  /v1/status  /v1/peers[?peer=]  /v1/routes[?direction=&peer=&family=&prefix=&limit=]  /v1/fib[?within=&problems=&limit=]
//!      /v1/explain?query=  /v1/events[?follow=true]  /v1/dump  /v1/mrt/table (octets of MRT)
//! POST /v1/drain  /v1/undrain  /v1/reload  /v1/refresh?peer=[&direction=&family=]
//! GET  /metrics  /healthz  /readyz[?verbose]: the same as over TCP
//! ```
//! The header `routelet-healthy` says what the command line makes its exit code.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::Serialize;
use tokio::{
    net::UnixListener,
    sync::{broadcast, mpsc, oneshot, watch},
};
use tracing::debug;

use self::{
    body::Body,
    query::{Query, Wrong},
};
use crate::{
    cli,
    connections::{Connections, Requests},
    journal::Entry,
    node::{Order, Running, Stopping},
    report, web,
};

pub(crate) mod body;
pub(crate) mod query;
pub(crate) mod socket;

/// The header that says whether what was asked about is healthy.
pub(crate) const HEALTHY: &str = "routelet-healthy";

/// Most connections at once.
const CONNECTIONS: usize = 256;

/// Serves until it is dropped.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing tells when file descriptors are free again"
)]
pub(crate) async fn serve(listener: UnixListener, running: Arc<Running>) {
    let mut connections = Connections::new(CONNECTIONS, Requests::Many);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let running = running.clone();
                connections.serve(stream, move |request| answer(request, running.clone()));
            }
            // Out of file descriptors: trying again at once would only burn the processor.
            Err(error) => {
                debug!(%error, "control connection not accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Until it is dropped, says to everybody that the daemon waits, and for what.
pub(crate) async fn wait(listener: &UnixListener, why: watch::Receiver<String>) {
    let mut connections = Connections::new(CONNECTIONS, Requests::Many);
    // Where accepting fails, whoever asks finds the daemon not answering, as before.
    while let Ok((stream, _)) = listener.accept().await {
        let why = why.clone();
        connections.serve(stream, move |request| {
            let refusal = Refusal::Waiting(why.borrow().clone());
            std::future::ready(refuse(refusal, wants_text(request.headers())))
        });
    }
    std::future::pending().await
}

/// Why a request is not answered with what it asked for.
enum Refusal {
    /// No such path, peer or thing.
    NotFound(String),
    /// The question itself is wrong.
    BadRequest(String),
    /// It can't be done now.
    Conflict(String),
    /// We are on our way out.
    Stopping,
    /// We do not know yet what to be.
    Waiting(String),
}

impl From<Stopping> for Refusal {
    fn from(_: Stopping) -> Self {
        Self::Stopping
    }
}

impl From<Wrong> for Refusal {
    fn from(Wrong(message): Wrong) -> Self {
        Self::BadRequest(message)
    }
}

async fn answer(request: Request<Incoming>, running: Arc<Running>) -> Response<Body> {
    let as_text = wants_text(request.headers());
    match route(&request, &running, as_text).await {
        Ok(response) => response,
        Err(refusal) => refuse(refusal, as_text),
    }
}

fn refuse(refusal: Refusal, as_text: bool) -> Response<Body> {
    let (status, message) = match refusal {
        Refusal::NotFound(message) => (StatusCode::NOT_FOUND, message),
        Refusal::BadRequest(message) => (StatusCode::BAD_REQUEST, message),
        Refusal::Conflict(message) => (StatusCode::CONFLICT, message),
        Refusal::Stopping => (
            StatusCode::SERVICE_UNAVAILABLE,
            "routelet is stopping".into(),
        ),
        Refusal::Waiting(message) => (StatusCode::SERVICE_UNAVAILABLE, message),
    };
    let json = serde_json::json!({"error": message});
    let body = if as_text {
        format!("{message}\n")
    } else {
        format!("{json}\n")
    };
    response(status, as_text, body.into(), false)
}

async fn route(
    request: &Request<Incoming>,
    running: &Arc<Running>,
    as_text: bool,
) -> Result<Response<Body>, Refusal> {
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/status") => {
            query.only(&[])?;
            let status = running.status().await?;
            reply(&status, cli::status::text, status.healthy, as_text)
        }
        (&Method::GET, "/v1/peers") => {
            query.only(&["peer"])?;
            let name = query.text("peer");
            let peers = running.peers(name).await?;
            if let (Some(name), true) = (name, peers.is_empty()) {
                return Err(unknown_peer(running, name).await);
            }
            let desired = running.now().desired;
            let healthy = peers
                .iter()
                .all(|peer| report::is_up(peer) || report::is_held_down(&desired, &peer.name));
            let text = if name.is_some() {
                cli::peers::details
            } else {
                cli::peers::table
            };
            reply(&peers, |peers| text(peers), healthy, as_text)
        }
        (&Method::GET, "/v1/routes") => {
            query.only(&["direction", "peer", "family", "prefix", "limit"])?;
            let mut asked = query.routes()?;
            if let Some(name) = &asked.peer {
                let found = running.peers(Some(name)).await?;
                asked.peer = match found.as_slice() {
                    [one] => Some(one.name.clone()),
                    [] => return Err(unknown_peer(running, name).await),
                    several => {
                        let names: Vec<&str> =
                            several.iter().map(|peer| peer.name.as_str()).collect();
                        return Err(Refusal::BadRequest(format!(
                            "{name} is several peers: {}",
                            names.join(", ")
                        )));
                    }
                };
            }
            let routes = running.routes(asked).await?;
            reply(&routes, cli::routes::text, true, as_text)
        }
        (&Method::GET, "/v1/fib") => {
            query.only(&["within", "problems", "limit"])?;
            let report = running.fib(query.filter()?).await?;
            let report = report.ok_or_else(|| {
                Refusal::NotFound(
                    "nothing is installed on this node (kernel.install: false)".into(),
                )
            })?;
            let healthy = report.status.in_sync && report.status.problems.is_empty();
            reply(&report, cli::fib::text, healthy, as_text)
        }
        (&Method::GET, "/v1/explain") => {
            query.only(&["query"])?;
            let report = running.explain(query.prefix("query")?).await?;
            reply(&report, cli::explain::text, report.healthy, as_text)
        }
        (&Method::GET, "/v1/dump") => {
            query.only(&[])?;
            let dump = running.dump().await?;
            reply(&dump, cli::status::dumped, dump.status.healthy, as_text)
        }
        (&Method::GET, "/v1/mrt/table") => {
            query.only(&[])?;
            let mut response = response(
                StatusCode::OK,
                false,
                Body::Parts(running.table().await?),
                true,
            );
            let octets = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, octets);
            Ok(response)
        }
        (&Method::GET, "/v1/events") => {
            query.only(&["follow"])?;
            Ok(events(running, query.flag("follow")?, as_text))
        }
        (&Method::POST, "/v1/drain") => order(running, Order::Drain, as_text).await,
        (&Method::POST, "/v1/undrain") => order(running, Order::Undrain, as_text).await,
        (&Method::POST, "/v1/reload") => order(running, Order::Reload, as_text).await,
        (&Method::POST, "/v1/refresh") => {
            query.only(&["peer", "direction", "family"])?;
            let (name, what) = query.refresh()?;
            let refreshed = running.refresh(name, what).await?;
            if refreshed.is_empty() {
                return Err(unknown_peer(running, name).await);
            }
            if refreshed.iter().all(|one| one.refused.is_some()) {
                let text = cli::refresh::text(&refreshed);
                return Err(Refusal::Conflict(text.trim_end().into()));
            }
            let healthy = refreshed.iter().all(|one| one.refused.is_none());
            let text = |refreshed: &Vec<_>| cli::refresh::text(refreshed);
            reply(&refreshed, text, healthy, as_text)
        }
        (&Method::GET, path) if web::PATHS.contains(&path) => {
            Ok(web::answer(path, &query, running).await)
        }
        (method, path) => Err(Refusal::NotFound(format!(
            "no {method} {path}; there are GET /v1/{{status,peers,routes,fib,explain,events,dump,mrt/table}}, POST /v1/{{drain,undrain,reload,refresh}} and GET {}",
            web::PATHS.join(", ")
        ))),
    }
}

async fn unknown_peer(running: &Running, name: &str) -> Refusal {
    let known = running.peers(None).await.unwrap_or_default();
    let names: Vec<&str> = known
        .iter()
        .take(20)
        .map(|peer| peer.name.as_str())
        .collect();
    let names = if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    };
    Refusal::NotFound(format!("there is no peer {name}; there are {names}"))
}

async fn order(
    running: &Running,
    order: impl FnOnce(oneshot::Sender<Result<String, String>>) -> Order,
    as_text: bool,
) -> Result<Response<Body>, Refusal> {
    let (reply, answer) = oneshot::channel();
    running
        .orders
        .send(order(reply))
        .await
        .map_err(|_| Refusal::Stopping)?;
    let done = answer
        .await
        .map_err(|_| Refusal::Stopping)?
        .map_err(Refusal::Conflict)?;
    let json = serde_json::json!({"done": done});
    let body = if as_text {
        format!("{done}\n")
    } else {
        format!("{json}\n")
    };
    Ok(response(StatusCode::OK, as_text, body.into(), true))
}

/// The journal as text lines or as one JSON object a line (an array, where it is not followed).
fn events(running: &Running, follow: bool, as_text: bool) -> Response<Body> {
    let line = move |entry: &Entry| -> String {
        if as_text {
            cli::events::line(entry)
        } else {
            report::json(entry)
                .map(|value| format!("{value}\n"))
                .unwrap_or_default()
        }
    };
    if !follow {
        let entries = running.journal.entries();
        let body = if as_text {
            entries.iter().map(line).collect()
        } else {
            report::json(&entries)
                .map(|value| format!("{value}\n"))
                .unwrap_or_default()
        };
        return response(StatusCode::OK, as_text, body.into(), true);
    }
    let (past, mut coming) = running.journal.follow();
    let (sender, lines) = mpsc::channel(64);
    tokio::spawn(async move {
        for entry in &past {
            if sender.send(Bytes::from(line(entry))).await.is_err() {
                return;
            }
        }
        loop {
            let next = tokio::select! {
                next = coming.recv() => next,
                // Nobody reads any more.
                () = sender.closed() => return,
            };
            let text = match next {
                Ok(entry) => line(&entry),
                // A reader that is too slow loses the oldest.
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return,
            };
            if sender.send(text.into()).await.is_err() {
                return;
            }
        }
    });
    response(StatusCode::OK, as_text, Body::Parts(lines), true)
}

fn reply<T: Serialize>(
    report: &T,
    text: impl FnOnce(&T) -> String,
    healthy: bool,
    as_text: bool,
) -> Result<Response<Body>, Refusal> {
    let body = if as_text {
        text(report)
    } else {
        let json = report::json(report).map_err(|error| Refusal::BadRequest(error.to_string()))?;
        format!("{json}\n")
    };
    Ok(response(StatusCode::OK, as_text, body.into(), healthy))
}

fn response(status: StatusCode, as_text: bool, body: Body, healthy: bool) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = if as_text {
        "text/plain; charset=utf-8"
    } else {
        "application/json"
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        HEALTHY,
        HeaderValue::from_static(if healthy { "true" } else { "false" }),
    );
    response
}

fn wants_text(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.starts_with("text/plain"))
}
