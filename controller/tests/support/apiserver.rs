//! An API server on loopback, as small as can be: objects are listed and watched, and it can go away and come back.

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
use hyper::{Request, Response, StatusCode, body::Frame, body::Incoming, service::service_fn};
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

    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let objects = state.objects.entry(path.into()).or_default();
        objects.retain(|known| known["metadata"]["name"] != object["metadata"]["name"]);
        objects.push(object.clone());
        state.tell(path, &json!({"type": "MODIFIED", "object": object}));
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
    fn tell(&mut self, path: &str, event: &Value) {
        self.watchers
            .retain(|(watched, sender)| watched != path || sender.send(event.clone()).is_ok());
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        let service = service_fn(move |request| {
            let answer = answer(&request, &state);
            async move { Ok::<_, Infallible>(answer) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

fn answer(request: &Request<Incoming>, state: &Mutex<State>) -> Response<Lines> {
    let path = request.uri().path().to_owned();
    let mut state = state.lock().unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut response = Response::new(Lines(receiver));
    if request
        .uri()
        .query()
        .is_some_and(|query| query.contains("watch=true"))
    {
        state.watchers.push((path, sender));
    } else if path.starts_with("/apis/routelet.dev/") && !state.objects.contains_key(&path) {
        // As without our definitions.
        *response.status_mut() = StatusCode::NOT_FOUND;
        let _ = sender.send(json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}));
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
