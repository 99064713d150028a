//! The sockets and the clock: requests come in by HTTP, watches are told as long as somebody listens.

use std::{
    convert::Infallible,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::{
    Response, StatusCode,
    body::{Body, Frame, Incoming},
    header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    controllers,
    journal::Journal,
    query::Query,
    read::{Watch, error_event},
    refusal::Refusal,
    request::{Answer, Request, answer},
    store::{Key, Store},
    tls, write,
};

/// How long a watch lasts that asks for no end.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// How often it is told how far it has come; the last time is shortly before its end.
const BOOKMARK: Duration = Duration::from_secs(60);
const BEFORE_THE_END: Duration = Duration::from_secs(2);

/// Asked for, it lets the controllers run until whoever asked goes away.
const CONTROLLERS: &str = "/controllers";
/// Asked for, it forgets all earlier versions.
const FORGET: &str = "/forget";

/// An API server. Its clones are one and the same.
#[derive(Clone, Debug, Default)]
pub struct Server {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    store: Store,
    journal: Option<Journal>,
    forbidden: Vec<String>,
    writes: Vec<String>,
}

impl Server {
    /// One that goes on where an earlier process with this journal ended.
    ///
    /// # Errors
    /// If the journal is not to be read.
    pub fn with_journal(path: &Path) -> anyhow::Result<Self> {
        let (journal, store) = Journal::open(path)?;
        let state = State {
            store,
            journal: Some(journal),
            ..State::default()
        };
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
            ..Self::default()
        })
    }

    /// Answers without TLS.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn serve(self, listener: TcpListener) -> anyhow::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(self.clone().converse(stream));
        }
    }

    /// Answers on a UNIX socket.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn serve_locally(self, listener: UnixListener) -> anyhow::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(self.clone().converse(stream));
        }
    }

    /// Answers with the certificate `apiserver.crt` and its key in a folder.
    ///
    /// # Errors
    /// If these are not to be read, or the socket fails.
    pub async fn serve_securely(self, listener: TcpListener, folder: &Path) -> anyhow::Result<()> {
        let acceptor = tls::acceptor(folder)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let (acceptor, me) = (acceptor.clone(), self.clone());
            tokio::spawn(async move {
                // Who gives up in the handshake asks nothing.
                if let Ok(stream) = acceptor.accept(stream).await {
                    me.converse(stream).await;
                }
            });
        }
    }

    /// Puts an object into the collection at `path` as it is, status and all, in the place of the one of its name.
    ///
    /// # Errors
    /// If there is no such collection.
    pub fn put(&self, path: &str, object: Value) -> anyhow::Result<()> {
        let put = self.change(|state| write::put(&mut state.store, path, object));
        put.map_err(|refusal| anyhow::anyhow!("{path}: {}", refusal.message))
    }

    /// The object of that name in the collection at `path`.
    #[must_use]
    pub fn get(&self, path: &str, name: &str) -> Option<Value> {
        let state = self.state();
        let key = Key::below(&state.store, path, name).ok()?;
        state.store.get(&key).cloned()
    }

    /// Removes it.
    ///
    /// # Errors
    /// If there is no such collection.
    pub fn delete(&self, path: &str, name: &str) -> anyhow::Result<()> {
        let deleted = self.change(|state| {
            let key = Key::below(&state.store, path, name)?;
            state.store.commit(key, None);
            Ok::<_, Refusal>(())
        });
        deleted.map_err(|refusal| anyhow::anyhow!("{path}: {}", refusal.message))
    }

    /// From now on nobody may write what stands at `path`.
    pub fn forbid(&self, path: &str) {
        self.state().forbidden.push(path.into());
    }

    /// Method and path of every write of what is below `path` that came by a socket.
    #[must_use]
    pub fn writes(&self, path: &str) -> Vec<String> {
        let state = self.state();
        let below = state.writes.iter().filter(|write| write.contains(path));
        below.cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `act` change the state, writes down what it did, and wakes the watches.
    fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let done = act(&mut state);
        let State { store, journal, .. } = &mut *state;
        if let Some(journal) = journal
            && let Err(error) = journal.write(store)
        {
            eprintln!("the journal: {error:#}");
        }
        let version = store.version();
        drop(state);
        self.changed.send_if_modified(|known| {
            let is_new = *known != version;
            *known = version;
            is_new
        });
        done
    }

    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request| {
            let me = self.clone();
            async move { Ok::<_, Infallible>(me.respond(request).await) }
        });
        // A client may go away at any time.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn respond(self, request: hyper::Request<Incoming>) -> Response<Reply> {
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes);
        let body = body.unwrap_or_default();
        let header = |name: HeaderName| {
            let value = parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok());
            value.unwrap_or_default()
        };
        let (method, path) = (parts.method.as_str(), parts.uri.path());
        match path {
            CONTROLLERS => {
                return self.streamed(|me, lines| async move { me.control(lines).await });
            }
            FORGET => {
                self.change(|state| state.store.forget());
                return whole(200, "text/plain", "ok");
            }
            _ => {}
        }
        let query = match Query::read(parts.uri.query().unwrap_or_default()) {
            Ok(query) => query,
            Err(refusal) => return refused(&refusal),
        };
        let request = Request {
            method,
            path,
            query,
            media_type: header(CONTENT_TYPE),
            accept: header(ACCEPT),
            body: &body,
            now: Timestamp::now(),
        };
        let answer = self.change(|state| {
            if method != "GET" {
                state.writes.push(format!("{method} {path}"));
                if state.forbidden.iter().any(|forbidden| forbidden == path) {
                    let refusal = Refusal {
                        code: 403,
                        reason: "Forbidden",
                        message: "Forbidden".into(),
                    };
                    return Answer::Object(403, refusal.status());
                }
            }
            answer(&mut state.store, &request)
        });
        match answer {
            Answer::Object(code, object) => whole(code, "application/json", &object.to_string()),
            Answer::Text(text) => whole(200, "text/plain", text),
            Answer::Watch(watch) => {
                self.streamed(|me, lines| async move { me.tell(watch, lines).await })
            }
        }
    }

    /// An answer that `tell` goes on with for as long as it likes.
    fn streamed<F>(self, tell: impl FnOnce(Self, mpsc::Sender<Bytes>) -> F) -> Response<Reply>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(tell(self, sender));
        response(200, "application/json", Either::Right(Lines(receiver)))
    }

    /// Tells a watch what happens, until its time is over or nobody listens.
    #[expect(clippy::disallowed_methods, reason = "a watch ends at its time")]
    async fn tell(self, mut watch: Watch, lines: mpsc::Sender<Bytes>) {
        let mut changed = self.changed.subscribe();
        let end = Instant::now() + watch.timeout.unwrap_or(LONGEST);
        let mut mark = (Instant::now() + BOOKMARK).min(end - BEFORE_THE_END);
        loop {
            changed.borrow_and_update();
            let events = watch.events(&self.state().store);
            let ends = events.is_err();
            for event in events.unwrap_or_else(|refusal| vec![error_event(&refusal)]) {
                if lines.send(line(&event)).await.is_err() {
                    return;
                }
            }
            if ends {
                return;
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = lines.closed() => return,
                () = tokio::time::sleep_until(mark), if watch.bookmarks && mark < end => {
                    let _ = lines.send(line(&watch.bookmark())).await;
                    let last = end - BEFORE_THE_END;
                    mark = if mark < last { (mark + BOOKMARK).min(last) } else { end };
                }
                () = tokio::time::sleep_until(end) => return,
            }
        }
    }

    /// Runs the controllers until nobody wants them any more.
    async fn control(self, lines: mpsc::Sender<Bytes>) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            self.change(|state| controllers::reconcile(&mut state.store));
            tokio::select! {
                _ = changed.changed() => {}
                () = lines.closed() => return,
            }
        }
    }
}

fn line(event: &Value) -> Bytes {
    format!("{event}\n").into()
}

type Reply = Either<Full<Bytes>, Lines>;

fn refused(refusal: &Refusal) -> Response<Reply> {
    whole(
        refusal.code,
        "application/json",
        &refusal.status().to_string(),
    )
}

fn whole(code: u16, media_type: &'static str, text: &str) -> Response<Reply> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes()));
    response(code, media_type, Either::Left(body))
}

fn response(code: u16, media_type: &'static str, body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    let media_type = HeaderValue::from_static(media_type);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

/// A body of JSON lines, until the sender ends.
#[derive(Debug)]
struct Lines(mpsc::Receiver<Bytes>);

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(context);
        next.map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
