//! An API server on loopback, as small as can be: objects are listed, watched, made and patched, and it can go away and come back.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Method, Request, Response, StatusCode, body::Frame, body::Incoming, service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc};

use super::Place;

pub(crate) const NODES: &str = "/api/v1/nodes";

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<Value>>,
    watchers: Vec<(String, mpsc::UnboundedSender<Value>)>,
    version: u64,
    /// Paths that nobody may write.
    forbidden: Vec<String>,
    /// Method and path of every write.
    writes: Vec<String>,
}

pub(crate) struct ApiServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    running: Option<Runtime>,
}

impl ApiServer {
    /// One that answers.
    pub(crate) fn start() -> Self {
        let mut server = Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            state: Arc::default(),
            running: None,
        };
        server.come_back();
        server
    }

    pub(crate) fn come_back(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind(self.address)).unwrap();
        self.address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, self.state.clone()));
        self.running = Some(runtime);
    }

    /// Every connection breaks, and no new one is accepted.
    pub(crate) fn go_away(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
        self.state.lock().unwrap().watchers.clear();
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        self.state.lock().unwrap().put(path, object);
    }

    /// An object as it is now.
    pub(crate) fn get(&self, path: &str, name: &str) -> Option<Value> {
        self.state.lock().unwrap().get(path, name)
    }

    /// From now on nobody may write it.
    pub(crate) fn forbid(&self, path: &str) {
        self.state.lock().unwrap().forbidden.push(path.into());
    }

    /// Method and path of every write of what is below `path`.
    pub(crate) fn writes(&self, path: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let below = state.writes.iter().filter(|write| write.contains(path));
        below.cloned().collect()
    }

    pub(crate) fn delete(&self, path: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let version = state.version.to_string();
        let objects = state.objects.entry(path.into()).or_default();
        let index = objects
            .iter()
            .position(|known| known["metadata"]["name"] == name)
            .unwrap();
        let mut object = objects.remove(index);
        object["metadata"]["resourceVersion"] = version.into();
        state.tell(path, &json!({"type": "DELETED", "object": object}));
    }

    /// A kubeconfig that leads here.
    pub(crate) fn kubeconfig(&self, place: &Place) -> PathBuf {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             clusters: [{{name: here, cluster: {{server: \"http://{}\"}}}}]\n\
             contexts: [{{name: here, context: {{cluster: here, user: here}}}}]\nusers: [{{name: here, user: {{}}}}]\n",
            self.address
        );
        place.write("kubeconfig", &text)
    }
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let objects = self.objects.entry(path.into()).or_default();
        objects.retain(|known| known["metadata"]["name"] != object["metadata"]["name"]);
        objects.push(object.clone());
        self.tell(path, &json!({"type": "MODIFIED", "object": object}));
    }

    fn get(&self, path: &str, name: &str) -> Option<Value> {
        let mut objects = self.objects.get(path)?.iter();
        objects
            .find(|object| object["metadata"]["name"] == name)
            .cloned()
    }

    /// What a write is answered.
    fn write(&mut self, method: &Method, path: &str, body: Value) -> (StatusCode, Value) {
        self.writes.push(format!("{method} {path}"));
        if self.forbidden.iter().any(|forbidden| forbidden == path) {
            return refusal(StatusCode::FORBIDDEN, "Forbidden");
        }
        if method == Method::POST {
            let collection =
                path.starts_with("/apis/events.k8s.io/") || self.objects.contains_key(path);
            if !collection {
                return refusal(StatusCode::NOT_FOUND, "NotFound");
            }
            self.put(path, body.clone());
            return (StatusCode::CREATED, body);
        }
        let bare = path.strip_suffix("/status").unwrap_or(path);
        let Some((collection, name)) = bare.rsplit_once('/') else {
            return refusal(StatusCode::NOT_FOUND, "NotFound");
        };
        let Some(mut object) = self.get(collection, name) else {
            return refusal(StatusCode::NOT_FOUND, "NotFound");
        };
        merge(&mut object["status"], &body["status"]);
        self.put(collection, object.clone());
        (StatusCode::OK, object)
    }

    fn tell(&mut self, path: &str, event: &Value) {
        self.watchers
            .retain(|(watched, sender)| watched != path || sender.send(event.clone()).is_ok());
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        let service = service_fn(move |request| {
            let state = state.clone();
            async move { Ok::<_, Infallible>(answer(request, &state).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

/// Member by member; a list is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn refusal(code: StatusCode, reason: &str) -> (StatusCode, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code.as_u16(), "message": reason});
    (code, status)
}

async fn answer(request: Request<Incoming>, state: &Mutex<State>) -> Response<Lines> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    let body = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let mut state = state.lock().unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut response = Response::new(Lines(receiver));
    let one = path
        .rsplit_once('/')
        .filter(|(collection, _)| state.objects.contains_key(*collection));
    if parts.method != Method::GET {
        let (code, answer) = state.write(&parts.method, &path, body);
        *response.status_mut() = code;
        let _ = sender.send(answer);
    } else if let Some((collection, name)) = one {
        let found = state
            .get(collection, name)
            .map(|object| (StatusCode::OK, object));
        let (code, answer) = found.unwrap_or_else(|| refusal(StatusCode::NOT_FOUND, "NotFound"));
        *response.status_mut() = code;
        let _ = sender.send(answer);
    } else if parts
        .uri
        .query()
        .is_some_and(|query| query.contains("watch=true"))
    {
        state.watchers.push((path, sender));
    } else if path.starts_with("/apis/routelet.dev/") && !state.objects.contains_key(&path) {
        // As without our definitions.
        let (code, answer) = refusal(StatusCode::NOT_FOUND, "NotFound");
        *response.status_mut() = code;
        let _ = sender.send(answer);
    } else {
        let items = state.objects.get(&path).cloned().unwrap_or_default();
        let _ = sender.send(json!({
            "kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": state.version.max(1).to_string()}, "items": items,
        }));
    }
    response
}

/// A body of JSON lines, until the sender ends.
struct Lines(mpsc::UnboundedReceiver<Value>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|line| line.map(|line| Ok(Frame::data(format!("{line}\n").into()))))
    }
}
