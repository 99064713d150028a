//! The requests against an API server that notes them.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, header::CONTENT_TYPE};
use kube::{Client, client::Body};
use tower::service_fn;

use super::*;
use crate::kubernetes::outage::{Note, Reach};

/// One request.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    /// Method and path.
    what: String,
    query: String,
    kind: String,
    body: Value,
}

/// What an API server answers: a code and an object.
type Answers = fn(&str) -> (u16, Value);

#[derive(Clone)]
struct Server {
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Answers,
}

fn connection(client: Client) -> Connection {
    let (note, reach) = Note::new();
    Connection {
        client,
        namespace: "routelet-system".into(),
        server: "https://10.96.0.1".into(),
        reach,
        note,
    }
}

impl Server {
    fn with(answers: Answers) -> (Self, Objects) {
        let server = Self {
            asked: Arc::default(),
            answers,
        };
        let answering = server.clone();
        let service = service_fn(move |request| answering.clone().answer(request));
        let objects = Objects::new(&connection(Client::new(service, "default")), "n1");
        (server, objects)
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Full<Bytes>>, Infallible> {
        let what = format!("{} {}", request.method(), request.uri().path());
        let query = request.uri().query().unwrap_or_default().to_owned();
        let kind = request.headers().get(CONTENT_TYPE);
        let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let (code, mut answer) = (self.answers)(&what);
        if code >= 400 {
            answer = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "x", "message": "no"});
        }
        self.asked.lock().unwrap().push(Asked {
            what,
            query,
            kind,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        });
        let mut response = Response::new(Full::new(answer.to_string().into()));
        *response.status_mut() = code.try_into().unwrap();
        Ok(response)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn whats(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.what).collect()
    }
}

fn bgp_node() -> Value {
    json!({"apiVersion": "routelet.dev/v1alpha1", "kind": "BGPNode", "metadata": {"name": "n1", "generation": 3},
           "status": {"asNumber": 64512, "routerID": "10.0.0.1"}})
}

fn node() -> Value {
    json!({"metadata": {"name": "n1", "uid": "u-1"}})
}

#[tokio::test]
async fn a_node_of_ours_that_is_there_is_taken_as_it_is() {
    let (server, objects) = Server::with(|_| (200, bgp_node()));
    let ours = objects.our_node().await.unwrap();
    assert_eq!(ours.generation, Some(3));
    assert_eq!(ours.status.as_number, 64512);
    assert_eq!(
        server.whats(),
        ["GET /apis/routelet.dev/v1alpha1/bgpnodes/n1"]
    );
}

#[tokio::test]
async fn one_that_is_absent_is_made_and_goes_with_its_node() {
    let (server, objects) = Server::with(|what| match what {
        what if what.starts_with("POST") => (201, bgp_node()),
        what if what.starts_with("GET /api/v1/nodes/n1") => (200, node()),
        _ => (404, Value::Null),
    });
    objects.our_node().await.unwrap();
    let asked = server.asked();
    assert_eq!(asked[2].what, "POST /apis/routelet.dev/v1alpha1/bgpnodes");
    assert!(asked[2].query.contains("fieldManager=routelet"));
    assert_eq!(
        asked[2].body["metadata"],
        json!({"name": "n1", "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u-1"}]})
    );
}

#[tokio::test]
async fn its_status_is_applied_as_ours() {
    let (server, objects) = Server::with(|_| (200, bgp_node()));
    let status = BGPNodeStatus {
        as_number: 64999,
        ..BGPNodeStatus::default()
    };
    let ours = objects.write_status(&status).await.unwrap();
    assert_eq!(ours.status, status);
    let asked = server.asked();
    assert_eq!(
        asked[0].what,
        "PATCH /apis/routelet.dev/v1alpha1/bgpnodes/n1/status"
    );
    assert!(asked[0].query.contains("force=true&fieldManager=routelet"));
    assert_eq!(asked[0].kind, "application/apply-patch+yaml");
    assert_eq!(asked[0].body["kind"], "BGPNode");
    assert_eq!(asked[0].body["status"]["asNumber"], 64999);
    assert_eq!(asked[0].body.get("spec"), None);
}

#[tokio::test]
async fn the_condition_of_the_node_is_patched_unless_it_says_so_already() {
    let (server, objects) = Server::with(|_| (200, node()));
    objects
        .say(Verdict::Routed, Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    let asked = server.asked();
    assert_eq!(asked[1].what, "PATCH /api/v1/nodes/n1/status");
    assert_eq!(asked[1].kind, "application/strategic-merge-patch+json");
    let (server, objects) = Server::with(|_| {
        let said = Verdict::Routed.patch(&[], Timestamp::UNIX_EPOCH);
        (
            200,
            json!({"metadata": {"name": "n1"}, "status": said["status"]}),
        )
    });
    objects
        .say(Verdict::Routed, Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    assert_eq!(server.whats(), ["GET /api/v1/nodes/n1"]);
}

#[tokio::test]
async fn what_is_not_allowed_is_told_apart_from_what_is_not_there() {
    let (_, objects) = Server::with(|_| (403, Value::Null));
    assert_eq!(
        objects.our_node().await,
        Err(Failure::Forbidden("no".into()))
    );
    let (_, objects) = Server::with(|_| (404, Value::Null));
    assert_eq!(objects.our_node().await, Err(Failure::Absent));
    let (_, objects) = Server::with(|_| (503, Value::Null));
    assert_eq!(objects.our_node().await, Err(Failure::Away("no".into())));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_in_time_is_away() {
    let silent = service_fn(|_: Request<Body>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let connection = connection(Client::new(silent, "default"));
    let objects = Objects::new(&connection, "n1");
    let why = "no answer within 15 s";
    assert_eq!(objects.our_node().await, Err(Failure::Away(why.into())));
    assert!(matches!(&*connection.reach.borrow(), Reach::Away(_, told) if told == why));
}
