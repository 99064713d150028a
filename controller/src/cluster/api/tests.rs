//! What watches tell, and the cluster that comes of it.

use serde_json::{Value, json};

use super::*;

fn named(name: &str) -> NamespacedName {
    (String::new(), name.to_owned())
}

fn node(name: &str, cidr: &str) -> Event {
    let object = json!({
        "metadata": {"name": name},
        "spec": {"podCIDRs": [cidr]},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
    });
    let object = serde_json::from_value(object).unwrap();
    Event::Applied(named(name), Item::Node(Node::of(object).map(Arc::new)))
}

fn ours(kind: &str, name: &str, spec: Value) -> Event {
    let object = json!({
        "apiVersion": crate::crd::API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    Event::Applied(named(name), Item::Ours(object.into()))
}

fn told(mirror: &mut Mirror, subject: &Subject, events: Vec<Event>) -> bool {
    events.into_iter().fold(false, |changed, event| {
        mirror.take(subject, event) | changed
    })
}

const PEERS: Subject = Subject::Ours("BGPPeer");

#[test]
fn what_a_list_does_not_tell_is_gone_and_the_rest_was_never_away() {
    let mut mirror = Mirror::default();
    let first = vec![
        Event::Listing,
        node("n1", "10.1.0.0/24"),
        node("n2", "10.2.0.0/24"),
        Event::Listed,
    ];
    assert!(told(&mut mirror, &Subject::Nodes, first));
    mirror.take(&Subject::Nodes, Event::Listing);
    assert_eq!(mirror.cluster().nodes.len(), 2, "a list has only begun");
    assert!(
        !mirror.take(&Subject::Nodes, node("n1", "10.1.0.0/24")),
        "known already"
    );
    assert!(mirror.take(&Subject::Nodes, Event::Listed), "n2 is gone");
    let names: Vec<String> = mirror.cluster().nodes.keys().cloned().collect();
    assert_eq!(names, ["n1"]);
}

#[test]
fn a_deleted_object_is_gone_at_once() {
    let mut mirror = Mirror::default();
    told(
        &mut mirror,
        &Subject::Nodes,
        vec![node("n1", "10.1.0.0/24")],
    );
    assert!(mirror.take(&Subject::Nodes, Event::Deleted(named("n1"))));
    assert!(
        !mirror.take(&Subject::Nodes, Event::Deleted(named("n1"))),
        "once"
    );
    assert_eq!(mirror.cluster(), Cluster::default());
}

#[test]
fn a_version_that_breaks_a_rule_leaves_the_last_valid_one_in_force() {
    let mut mirror = Mirror::default();
    let good = json!({"peerAddress": "10.0.0.254", "peerASN": 65001});
    told(
        &mut mirror,
        &PEERS,
        vec![ours("BGPPeer", "tor", good.clone())],
    );
    let bad =
        json!({"peerAddress": "10.0.0.254", "peerASN": 65001, "ttlSecurity": 1, "ebgpMultihop": 2});
    assert!(told(&mut mirror, &PEERS, vec![ours("BGPPeer", "tor", bad)]));
    let cluster = mirror.cluster();
    assert_eq!(cluster.peers["tor"].ttl_security, None);
    let texts: Vec<String> = cluster.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "error: BGPPeer tor: left out: spec.ttlSecurity: ttlSecurity and ebgpMultihop exclude each other: ttlSecurity alone says how many hops away the peer is",
            "warning: BGPPeer tor: its last valid version stays in force until this one is put right",
        ]
    );
    assert!(
        told(&mut mirror, &PEERS, vec![ours("BGPPeer", "tor", good)]),
        "put right"
    );
    assert!(mirror.cluster().problems.is_empty());
}

#[test]
fn an_object_that_was_never_valid_is_left_out_and_the_others_are_not() {
    let mut mirror = Mirror::default();
    let good = json!({"peerAddress": "10.0.0.254", "peerASN": 65001});
    let events = vec![
        ours("BGPPeer", "tor", good),
        ours(
            "BGPPeer",
            "odd",
            json!({"peerAdress": "10.0.0.254", "peerASN": 65001}),
        ),
    ];
    told(&mut mirror, &PEERS, events);
    let cluster = mirror.cluster();
    assert_eq!(cluster.peers.len(), 1);
    assert!(cluster.left_out.contains(&("BGPPeer".into(), "odd".into())));
    assert!(
        cluster.problems[0]
            .text
            .contains("did you mean \"peerAddress\"?")
    );
    // Listed again without it.
    told(&mut mirror, &PEERS, vec![Event::Listing, Event::Listed]);
    assert_eq!(mirror.cluster(), Cluster::default());
}

#[test]
fn only_secrets_that_are_referred_to_are_asked_for() {
    let mut mirror = Mirror::default();
    assert!(mirror.referred().is_empty());
    let peer =
        json!({"peerAddress": "10.0.0.254", "peerASN": 65001, "authSecretRef": {"name": "md5"}});
    told(&mut mirror, &PEERS, vec![ours("BGPPeer", "tor", peer)]);
    let configuration = json!({"meshPasswordRef": {"name": "mesh"}});
    let kind = Subject::Ours("BGPConfiguration");
    told(
        &mut mirror,
        &kind,
        vec![ours("BGPConfiguration", "default", configuration)],
    );
    let secrets = ["md5", "mesh"].map(|name| Subject::Secret(name.into()));
    assert_eq!(mirror.referred(), secrets.into());
}

#[test]
fn services_are_asked_for_where_an_advertisement_speaks_of_them() {
    let mut mirror = Mirror::default();
    let kind = Subject::Ours("BGPAdvertisement");
    let prefixes = json!({"prefixes": ["203.0.113.0/24"]});
    told(
        &mut mirror,
        &kind,
        vec![ours("BGPAdvertisement", "static", prefixes)],
    );
    assert!(mirror.referred().is_empty());
    told(
        &mut mirror,
        &kind,
        vec![ours("BGPAdvertisement", "services", json!({}))],
    );
    assert_eq!(
        mirror.referred(),
        [Subject::Services, Subject::EndpointSlices].into()
    );
}

#[test]
fn a_secret_that_is_rotated_is_another_cluster() {
    let mut mirror = Mirror::default();
    let subject = Subject::Secret("md5".into());
    let secret = |value: &str| {
        let values = BTreeMap::from([("password".to_owned(), value.as_bytes().to_vec())]);
        Event::Applied(("ns".into(), "md5".into()), Item::Secret(Secret(values)))
    };
    assert!(mirror.take(&subject, secret("one")));
    assert!(!mirror.take(&subject, secret("one")));
    assert!(mirror.take(&subject, secret("two")));
    assert!(mirror.forget(&subject));
    assert!(mirror.cluster().secrets.is_empty());
}
