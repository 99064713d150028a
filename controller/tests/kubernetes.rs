//! The daemon on an API server: start, change, outage, restart in the outage.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use serde_json::{Value, json};

mod support;

use support::{
    Daemon, PORT, Place,
    apiserver::{ApiServer, NODES},
    eventually, text,
};

const CONFIGURATIONS: &str = "/apis/routelet.dev/v1alpha1/bgpconfigurations";
const BGP_NODES: &str = "/apis/routelet.dev/v1alpha1/bgpnodes";

fn node(place: &Place, name: &str, number: u8) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"podCIDRs": [format!("10.{number}.0.0/24")]},
        "status": {"addresses": [{"type": "InternalIP", "address": place.address(number)}]},
    })
}

/// A mesh that leaves the kernel alone.
fn configuration() -> Value {
    json!({"metadata": {"name": "default"}, "spec": {
        "listenPort": PORT, "kernel": {"install": false},
        "timers": {"connectRetrySeconds": 1, "idleHoldMaxSeconds": 1},
    }})
}

/// An API server with two nodes.
fn two_nodes(place: &Place) -> ApiServer {
    let server = ApiServer::start();
    server.put(CONFIGURATIONS, configuration());
    server.put(NODES, node(place, "n1", 1));
    server.put(NODES, node(place, "n2", 2));
    server
}

fn start(place: &Place, server: &ApiServer, name: &str) -> Daemon {
    let daemon = place.spawn_on(name, "--kubeconfig", &server.kubeconfig(place), &[]);
    daemon.wait();
    daemon
}

fn has_peer(daemon: &Daemon, name: &str) -> bool {
    let peers = daemon.json(&["peers"]);
    peers
        .as_array()
        .is_some_and(|peers| peers.iter().any(|peer| peer["name"] == name))
}

fn says(daemon: &Daemon, words: &str) -> bool {
    text(&daemon.ask(&["status"]).stdout).contains(words)
}

#[test]
fn the_nodes_of_the_api_server_are_a_mesh_and_follow_it() {
    let place = Place::new();
    let server = two_nodes(&place);
    let (one, two) = (start(&place, &server, "n1"), start(&place, &server, "n2"));
    eventually("both are up", || one.is_up("n2") && two.is_up("n1"));
    let since = one.session("n2")["since"].clone();
    server.put(NODES, node(&place, "n3", 3));
    eventually("n3 is a peer", || has_peer(&one, "n3"));
    server.delete(NODES, "n3");
    eventually("it is none any more", || !has_peer(&one, "n3"));
    assert_eq!(one.session("n2")["since"], since, "n2 was never away");
    // The definitions of most kinds are not there.
    assert!(says(&one, "routelet crds | kubectl apply"));
    let reloaded = one.ask(&["reload"]);
    assert_eq!(
        text(&reloaded.stdout),
        "nothing to read: the API server tells of every change by itself\n"
    );
}

#[test]
fn without_anything_stored_it_waits_and_says_for_what() {
    let place = Place::new();
    let mut server = two_nodes(&place);
    server.go_away();
    let one = place.spawn_on("n1", "--kubeconfig", &server.kubeconfig(&place), &[]);
    eventually("it says what it waits for", || {
        let answer = one.ask(&["status"]);
        text(&answer.stderr).contains("waiting for the API server http://127.0.0.1:")
    });
    server.come_back();
    one.wait();
    assert_eq!(one.session("n2")["name"], "n2");
    assert_eq!(one.stop(), Some(0));
}

#[test]
fn a_restart_in_an_outage_comes_back_with_every_session() {
    let place = Place::new();
    let mut server = two_nodes(&place);
    let (one, two) = (start(&place, &server, "n1"), start(&place, &server, "n2"));
    eventually("both are up", || one.is_up("n2") && two.is_up("n1"));
    eventually("it is stored", || {
        place.path("n1.state/cluster.yaml").exists()
    });
    server.go_away();
    eventually("the outage is told", || {
        says(&one, "has not answered since")
    });
    assert!(one.is_up("n2"), "and nothing else happens");
    drop(one); // SIGKILL
    let one = start(&place, &server, "n1");
    eventually("it is up again", || one.is_up("n2"));
    assert!(says(&one, "this node started from what it said last"));
    let since = one.session("n2")["since"].clone();
    server.put(NODES, node(&place, "n3", 3));
    server.come_back();
    eventually("it has caught up", || has_peer(&one, "n3"));
    eventually("the outage is over", || {
        !says(&one, "this node started from")
    });
    assert_eq!(one.session("n2")["since"], since, "without a flap");
}

/// A condition of `n1`'s BGPNode.
fn condition(server: &ApiServer, type_: &str) -> Value {
    let status = server.get(BGP_NODES, "n1").unwrap_or_default()["status"].clone();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions
        .into_iter()
        .find(|condition| condition["type"] == type_);
    found.unwrap_or_default()
}

#[test]
fn a_node_tells_the_api_server_how_it_is() {
    let place = Place::new();
    let server = two_nodes(&place);
    // One of ours that nobody asked for: now the kind is known.
    server.put(BGP_NODES, json!({"metadata": {"name": "n2"}, "spec": {}}));
    let one = start(&place, &server, "n1");
    eventually("it says that it is alone", || {
        condition(&server, "SessionsEstablished")["reason"] == "NoNodeEstablished"
    });
    let made = server.get(BGP_NODES, "n1").unwrap();
    assert_eq!(made["metadata"]["ownerReferences"][0]["kind"], "Node");
    assert_eq!(made["status"]["peers"][0]["name"], "n2");
    let _two = start(&place, &server, "n2");
    eventually("it says that it is not any more", || {
        condition(&server, "SessionsEstablished")["reason"] == "AllEstablished"
            && condition(&server, "Ready")["status"] == "True"
    });
    let status = &server.get(BGP_NODES, "n1").unwrap()["status"];
    assert_eq!(status["sessions"], json!({"established": 1, "total": 1}));
    assert_eq!(
        status["peers"],
        json!([]),
        "nodes that are there are a number"
    );
    // Nothing of the kernel's is ours here, so nothing is said of it.
    assert_eq!(server.writes(NODES), [""; 0]);
    drop(one);
}

#[test]
fn a_right_that_is_missing_is_a_problem_with_its_remedy_and_no_more() {
    let place = Place::new();
    let server = two_nodes(&place);
    server.put(BGP_NODES, json!({"metadata": {"name": "n1"}, "spec": {}}));
    server.forbid(&format!("{BGP_NODES}/n1/status"));
    let (one, two) = (start(&place, &server, "n1"), start(&place, &server, "n2"));
    eventually("it says which right", || {
        says(&one, "patch on bgpnodes.routelet.dev/status")
    });
    eventually("both are up", || one.is_up("n2") && two.is_up("n1"));
}

#[test]
fn what_is_stored_is_a_configuration_too() {
    let place = Place::new();
    let server = two_nodes(&place);
    let one = start(&place, &server, "n1");
    eventually("it is stored", || {
        place.path("n1.state/cluster.yaml").exists()
    });
    let stored = place.path("n1.state/cluster.yaml");
    let checked = support::routelet(&["check", "-f", stored.to_str().unwrap()], None);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stdout));
    assert_eq!(one.stop(), Some(0));
}
