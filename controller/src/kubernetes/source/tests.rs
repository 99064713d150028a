//! The source against an API server in memory: lists, watches, what it does not know, where it is away.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{Request, Response, StatusCode, body::Frame};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tower::{ServiceBuilder, service_fn};

use super::*;
use crate::kubernetes::outage::Note;

/// An API server in memory.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<Value>>,
    unknown: BTreeSet<String>,
    forbidden: BTreeSet<String>,
    /// Paths whose lists are never answered.
    silent: BTreeSet<String>,
    away: bool,
    /// What every request is answered with, where it is not.
    refusing: Option<StatusCode>,
    watchers: BTreeMap<String, Vec<mpsc::UnboundedSender<Value>>>,
    version: u64,
    requests: Vec<String>,
}

const NODES: &str = "/api/v1/nodes";
const PEERS: &str = "/apis/routelet.dev/v1alpha1/bgppeers";
const SECRETS: &str = "/api/v1/namespaces/routelet-system/secrets";

impl Server {
    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Without the definitions of our kinds.
    fn bare() -> Self {
        let server = Self::default();
        server.state(|state| {
            for plural in [
                "bgpconfigurations",
                "bgpnodes",
                "bgppeers",
                "bgppolicies",
                "bgpadvertisements",
            ] {
                state
                    .unknown
                    .insert(format!("/apis/routelet.dev/v1alpha1/{plural}"));
            }
        });
        server
    }

    fn put(&self, path: &str, object: Value) {
        self.state(|state| {
            state.version += 1;
            let version = state.version;
            let mut object = object;
            object["metadata"]["resourceVersion"] = version.to_string().into();
            let objects = state.objects.entry(path.into()).or_default();
            let known = objects
                .iter()
                .position(|known| known["metadata"]["name"] == object["metadata"]["name"]);
            let event = json!({"type": if known.is_some() { "MODIFIED" } else { "ADDED" }, "object": object});
            match known {
                Some(index) => objects[index] = object,
                None => objects.push(object),
            }
            state.send(path, &event);
        });
    }

    fn delete(&self, path: &str, name: &str) {
        self.state(|state| {
            state.version += 1;
            let version = state.version;
            let objects = state.objects.entry(path.into()).or_default();
            let index = objects
                .iter()
                .position(|known| known["metadata"]["name"] == name)
                .unwrap();
            let mut object = objects.remove(index);
            object["metadata"]["resourceVersion"] = version.to_string().into();
            state.send(path, &json!({"type": "DELETED", "object": object}));
        });
    }

    /// The history is gone: every watch is told to list again.
    fn forget_history(&self, path: &str) {
        let status = status(410, "Expired");
        self.state(|state| {
            state.send(path, &json!({"type": "ERROR", "object": status}));
            state.watchers.remove(path);
        });
    }

    /// Returns once the path is watched.
    async fn watched(&self, path: &str) {
        let watched =
            |state: &mut State| state.watchers.get(path).is_some_and(|all| !all.is_empty());
        while !self.state(watched) {
            tokio::task::yield_now().await;
        }
    }

    fn go_away(&self) {
        self.state(|state| {
            state.away = true;
            state.watchers.clear();
        });
    }

    async fn answer(self, request: Request<Body>) -> io::Result<Response<Lines>> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let silent = self.state(|state| {
            state.requests.push(format!("{path}?{query}"));
            state.silent.contains(&path)
        });
        if silent {
            std::future::pending::<()>().await;
        }
        self.state(|state| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let mut response = Response::new(Lines(receiver));
            if state.away {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            if let Some(code) = state.refusing {
                *response.status_mut() = code;
                let _ = sender.send(status(code.as_u16(), "Refused"));
            } else if state.unknown.contains(&path) {
                *response.status_mut() = StatusCode::NOT_FOUND;
                let _ = sender.send(status(404, "NotFound"));
            } else if state.forbidden.contains(&path) {
                *response.status_mut() = StatusCode::FORBIDDEN;
                let _ = sender.send(status(403, "Forbidden"));
            } else if query.contains("watch=true") {
                state.watchers.entry(path).or_default().push(sender);
            } else {
                let items = state.objects.get(&path).cloned().unwrap_or_default();
                let _ = sender.send(json!({
                    "kind": "List", "apiVersion": "v1",
                    "metadata": {"resourceVersion": state.version.max(1).to_string()}, "items": items,
                }));
            }
            Ok(response)
        })
    }

    fn connection(&self) -> Connection {
        let (note, reach) = Note::new();
        let notes = note.clone();
        let server = self.clone();
        let service = ServiceBuilder::new()
            .map_result(move |outcome: io::Result<Response<Lines>>| {
                notes.outcome(
                    outcome
                        .as_ref()
                        .map_err(|error| -> &(dyn std::error::Error + 'static) { error }),
                );
                outcome
            })
            .service(service_fn(move |request| server.clone().answer(request)));
        Connection {
            client: Client::new(service, "default"),
            namespace: "routelet-system".into(),
            server: "https://10.96.0.1".into(),
            reach,
            note,
        }
    }
}

impl State {
    fn send(&mut self, path: &str, event: &Value) {
        for watcher in self.watchers.entry(path.into()).or_default() {
            let _ = watcher.send(event.clone());
        }
    }
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no"})
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

fn node(name: &str, cidr: &str) -> Value {
    json!({
        "metadata": {"name": name, "managedFields": [{"manager": "kubelet"}]},
        "spec": {"podCIDRs": [cidr]},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}], "images": [{"names": ["x"]}]},
    })
}

fn whole(snapshot: &Snapshot) -> &Cluster {
    snapshot.cluster.as_ref().unwrap()
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    let nodes = &whole(snapshot).nodes;
    nodes.keys().map(String::as_str).collect()
}

fn texts(snapshot: &Snapshot) -> String {
    let texts: Vec<&str> = snapshot
        .problems
        .iter()
        .map(|problem| problem.text.as_str())
        .collect();
    texts.join("\n")
}

/// The next snapshot of which it holds.
async fn until(api: &mut Api, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    loop {
        let snapshot = api.next().await;
        if holds(&snapshot) {
            return snapshot;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_our_definitions_the_nodes_are_the_cluster_and_the_remedy_is_named() {
    let server = Server::bare();
    server.put(NODES, node("n1", "10.1.0.0/24"));
    let mut api = Api::start(server.connection());
    let first = api.next().await;
    assert_eq!(names(&first), ["n1"]);
    assert!(
        texts(&first).contains("routelet crds | kubectl apply"),
        "{}",
        texts(&first)
    );
    // They are installed later.
    server.state(|state| state.unknown.clear());
    let peer = json!({"metadata": {"name": "tor"}, "spec": {"peerAddress": "10.0.0.254", "peerASN": 65001}});
    server.put(PEERS, peer);
    let later = until(&mut api, |snapshot| {
        !whole(snapshot).peers.is_empty() && snapshot.problems.is_empty()
    })
    .await;
    assert_eq!(names(&later), ["n1"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_everything_was_listed_once() {
    let server = Server::default();
    server.put(NODES, node("n1", "10.1.0.0/24"));
    server.state(|state| state.silent.insert(PEERS.into()));
    let mut api = Api::start(server.connection());
    let waiting = api.waiting();
    let told = timeout(Duration::from_secs(60), api.next()).await;
    assert!(told.is_err());
    assert!(
        waiting.borrow().ends_with("not listed yet: BGPPeer"),
        "{}",
        *waiting.borrow()
    );
}

#[tokio::test(start_paused = true)]
async fn what_we_may_not_read_yet_is_waited_for_and_never_taken_for_empty() {
    // As an API server answers before it has read its own roles.
    let server = Server::default();
    server.put(NODES, node("n1", "10.1.0.0/24"));
    server.state(|state| state.forbidden.insert(NODES.into()));
    let mut api = Api::start(server.connection());
    let first = api.next().await;
    assert_eq!(first.cluster, None);
    assert!(
        texts(&first).contains("rights of deploy/rbac.yaml"),
        "{}",
        texts(&first)
    );
    server.state(|state| state.forbidden.clear());
    let next = until(&mut api, |snapshot| snapshot.problems.is_empty()).await;
    assert_eq!(names(&next), ["n1"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_we_may_not_read_holds_up_nothing_else() {
    let server = Server::default();
    server.state(|state| state.forbidden.insert(SECRETS.into()));
    server.put(PEERS, peer_with_key());
    let mut api = Api::start(server.connection());
    let told = until(&mut api, |snapshot| snapshot.cluster.is_some()).await;
    assert_eq!(whole(&told).peers.len(), 1);
    assert!(
        texts(&told).contains("Secret md5 cannot be read"),
        "{}",
        texts(&told)
    );
}

fn peer_with_key() -> Value {
    json!({"metadata": {"name": "tor"}, "spec": {"peerAddress": "10.0.0.254", "peerASN": 65001, "authSecretRef": {"name": "md5"}}})
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_snapshot_and_a_deleted_node_is_gone() {
    let server = Server::default();
    let mut api = Api::start(server.connection());
    assert!(names(&*api.next().await).is_empty());
    server.watched(NODES).await;
    for i in 1..=100 {
        server.put(NODES, node(&format!("n{i}"), &format!("10.{i}.0.0/24")));
    }
    assert_eq!(whole(&*api.next().await).nodes.len(), 100);
    server.delete(NODES, "n7");
    let after = api.next().await;
    assert_eq!(whole(&after).nodes.len(), 99);
    assert!(!whole(&after).nodes.contains_key("n7"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_forgotten_where_we_were_is_listed_again_without_a_flap() {
    let server = Server::default();
    server.put(NODES, node("n1", "10.1.0.0/24"));
    server.put(NODES, node("n2", "10.2.0.0/24"));
    let mut api = Api::start(server.connection());
    assert_eq!(names(&*api.next().await), ["n1", "n2"]);
    server.watched(NODES).await;
    // What happens now, no watch tells.
    server.forget_history(NODES);
    server.delete(NODES, "n2");
    server.put(NODES, node("n3", "10.3.0.0/24"));
    let next = api.next().await;
    assert_eq!(names(&next), ["n1", "n3"], "and nothing in between");
}

#[tokio::test(start_paused = true)]
async fn an_outage_changes_nothing_but_the_words() {
    let server = Server::default();
    server.put(NODES, node("n1", "10.1.0.0/24"));
    let mut api = Api::start(server.connection());
    let before = api.next().await;
    server.watched(NODES).await;
    server.go_away();
    let during = until(&mut api, |snapshot| !snapshot.problems.is_empty()).await;
    assert_eq!(during.cluster, before.cluster);
    assert!(
        texts(&during).contains("https://10.96.0.1 has not answered since"),
        "{}",
        texts(&during)
    );
    server.state(|state| state.away = false);
    let after = until(&mut api, |snapshot| snapshot.problems.is_empty()).await;
    assert_eq!(after.cluster, before.cluster);
    // Where it was: nothing is listed again.
    let lists = server.state(|state| {
        let lists = state
            .requests
            .iter()
            .filter(|request| request.starts_with(NODES) && !request.contains("watch=true"));
        lists.count()
    });
    assert_eq!(lists, 1);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_overloaded_or_broken_for_a_minute_changes_nothing() {
    for code in [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::UNAUTHORIZED,
    ] {
        let server = Server::default();
        server.put(NODES, node("n1", "10.1.0.0/24"));
        let mut api = Api::start(server.connection());
        let before = api.next().await;
        server.watched(NODES).await;
        server.state(|state| {
            state.refusing = Some(code);
            state.watchers.clear();
        });
        let minute = async {
            loop {
                assert_eq!(api.next().await.cluster, before.cluster, "{code}");
            }
        };
        assert!(timeout(Duration::from_secs(60), minute).await.is_err());
        let token = code == StatusCode::UNAUTHORIZED;
        let last = api.snapshots.borrow().clone().unwrap();
        assert_eq!(texts(&last).contains("does not accept the token"), token);
        server.state(|state| state.refusing = None);
        // By then every watch has asked again.
        let asked = timeout(Duration::from_secs(120), std::future::pending::<()>());
        assert!(asked.await.is_err());
        server.put(NODES, node("n2", "10.2.0.0/24"));
        let after = until(&mut api, |snapshot| {
            snapshot.problems.is_empty() && whole(snapshot).nodes.len() == 2
        })
        .await;
        assert_eq!(names(&after), ["n1", "n2"], "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_watched_by_its_name_once_a_peer_refers_to_it() {
    let server = Server::default();
    let mut api = Api::start(server.connection());
    api.next().await;
    let asked = |server: &Server| {
        server.state(|state| {
            state
                .requests
                .iter()
                .any(|request| request.starts_with(SECRETS))
        })
    };
    assert!(!asked(&server));
    let secret = |value: &str| json!({"metadata": {"name": "md5", "namespace": "routelet-system"}, "data": {"password": value}});
    server.put(SECRETS, secret("b25l"));
    server.watched(PEERS).await;
    server.put(PEERS, peer_with_key());
    let with = api.next().await;
    assert_eq!(whole(&with).peers.len(), 1);
    assert_eq!(
        whole(&with).secrets.len(),
        1,
        "never the peer without its key"
    );
    assert!(server.state(|state| {
        let one = format!("{SECRETS}?&fieldSelector=metadata.name%3Dmd5");
        state
            .requests
            .iter()
            .any(|request| request.starts_with(&one))
    }));
    server.watched(SECRETS).await;
    server.put(SECRETS, secret("dHdv"));
    let rotated = api.next().await;
    assert_ne!(whole(&rotated).secrets, whole(&with).secrets);
}
