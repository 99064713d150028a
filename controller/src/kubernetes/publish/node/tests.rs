//! What is in a status, and what is news in it.

use std::{collections::BTreeMap, time::Duration};

use bgp::{
    prefix::Family,
    status::{FamilyCounts, SessionState},
};

use super::*;
use crate::{
    kubernetes::publish::sight::fixture::sight,
    problem::{Problem, Reason},
    report::fixture::session,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn up(name: &str) -> PeerStatus {
    session(name, SessionState::Established)
}

fn down(name: &str) -> PeerStatus {
    PeerStatus {
        last_error: Some("no answer to our SYN".into()),
        ..session(name, SessionState::Connect)
    }
}

fn node(peer: PeerStatus) -> PeerStatus {
    PeerStatus { mesh: true, ..peer }
}

fn of(peers: Vec<PeerStatus>) -> BGPNodeStatus {
    status(&sight(peers), &BGPNodeStatus::default(), Some(1), at(0))
}

#[test]
fn it_reads_as_the_custom_resource_has_it() {
    let mut tor = up("tor");
    let counts = FamilyCounts {
        received: 7,
        accepted: 5,
        advertised: 1,
        ..FamilyCounts::default()
    };
    tor.families = BTreeMap::from([(Family::IPv4, counts)]);
    let peers = vec![tor, node(up("n2")), node(down("n3"))];
    let mut value = serde_json::to_value(of(peers)).unwrap();
    let conditions = value.as_object_mut().unwrap().remove("conditions").unwrap();
    let types: Vec<&str> = conditions
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| condition["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        [
            "Ready",
            "SessionsEstablished",
            "RoutesInKernel",
            "ExpectedRoutes",
            "ConfigurationValid"
        ]
    );
    assert_eq!(
        value,
        serde_json::json!({
            "asNumber": 64512,
            "routerID": "10.0.0.1",
            "addresses": ["10.0.0.1"],
            "sessions": {"established": 2, "total": 3},
            "meshPeers": {"established": 1, "total": 2},
            "peers": [
                {"name": "n3", "address": "10.0.0.254", "node": true, "asn": 65001, "state": "Connect", "since": "1970-01-01T00:00:00Z",
                 "received": 0, "accepted": 0, "advertised": 0, "lastError": "no answer to our SYN"},
                {"name": "tor", "address": "10.0.0.254", "asn": 65001, "state": "Established", "since": "1970-01-01T00:00:00Z",
                 "received": 7, "accepted": 5, "advertised": 1},
            ],
            "bgpPeers": [],
            "routes": {"received": 0, "desired": 2, "installed": 2, "failed": 0, "refused": 0},
            "observedGeneration": 1,
            "version": "0",
            "lastUpdated": "1970-01-01T00:00:00Z",
        })
    );
}

#[test]
fn a_large_cluster_does_not_make_it_large() {
    let mut far = down("tor");
    far.last_error = Some("x".repeat(10_000));
    let many = (0..1000).map(|number| node(down(&format!("n{number}"))));
    let status = of(many.chain([far]).collect());
    assert_eq!(status.peers.len(), LISTED);
    assert_eq!(status.peers_omitted, 1001 - 64);
    assert_eq!(status.peers[0].name, "tor", "named ones first");
    let size = serde_json::to_string(&status).unwrap().len();
    assert!(size < 20_000, "{size} octets");
}

#[test]
fn a_session_of_a_named_peer_is_own_news() {
    assert_eq!(
        news(&of(vec![up("tor")]), &of(vec![down("tor")])),
        News::Own
    );
}

#[test]
fn a_node_that_comes_or_goes_is_news_to_all() {
    let both = vec![node(up("n2")), node(up("n3"))];
    let one = vec![node(up("n2")), node(down("n3"))];
    assert_eq!(news(&of(both), &of(one)), News::Common);
    let none = vec![node(down("n2")), node(down("n3"))];
    let one = vec![node(up("n2")), node(down("n3"))];
    assert_eq!(news(&of(one), &of(none)), News::Own, "this node is cut off");
}

#[test]
fn a_peer_that_tries_for_ever_is_no_news() {
    let before = of(vec![down("tor"), node(up("n2")), node(down("n3"))]);
    let mut trying = down("tor");
    trying.state = SessionState::Active;
    trying.since += Duration::from_secs(1000);
    let mut node_trying = node(down("n3"));
    node_trying.since += Duration::from_secs(1000);
    node_trying.last_error = Some("something else".into());
    let after = of(vec![trying, node(up("n2")), node_trying]);
    assert_eq!(news(&before, &after), News::Nothing);
}

#[test]
fn counts_and_words_are_figures() {
    let before = of(vec![up("tor")]);
    let mut more = up("tor");
    let counts = FamilyCounts {
        received: 1,
        ..FamilyCounts::default()
    };
    more.families.insert(Family::IPv4, counts);
    assert_eq!(news(&before, &of(vec![more])), News::Figures);
    let mut later = before.clone();
    later.last_updated = Some(Time(at(1000)));
    assert_eq!(news(&before, &later), News::Nothing);
}

#[test]
fn another_thing_that_is_wrong_with_the_configuration_is_news_though_its_reason_is_the_same() {
    let wrong = |text: &str| {
        let mut sight = sight(vec![up("tor")]);
        let problem = Problem::error("BGPPeer tor", text).because(Reason::SecretMissing);
        sight.configured = vec![problem];
        status(&sight, &BGPNodeStatus::default(), None, at(0))
    };
    let (no_secret, no_key) = (wrong("there is no Secret md5"), wrong("it has no key"));
    assert_eq!(news(&no_secret, &no_key), News::Common);
    assert_eq!(news(&no_key, &no_key), News::Nothing);
}
