//! What a BGPPeer says of itself.

use super::*;
use crate::{
    kubernetes::publish::sight::fixture::{cluster, seen_by},
    problem::{Problem, Reason},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn rule(nodes: usize) -> Rule {
    Rule {
        nodes,
        here: true,
        rank: 0,
        sessions: vec!["tor".into()],
    }
}

fn report(established: u32, total: u32) -> Vec<RuleCounts> {
    vec![RuleCounts {
        name: "tor".into(),
        established,
        total,
    }]
}

/// Nodes n1, n2, … of four have reported so.
fn reports(each: &[(u32, u32)]) -> Reports {
    let mut reports = Reports::default();
    for (number, (established, total)) in (1..).zip(each) {
        reports
            .nodes
            .insert(format!("n{number}"), report(*established, *total));
    }
    reports
}

fn of(reports: &Reports, nodes: usize) -> BGPPeerStatus {
    let sight = seen_by("n1", &cluster(4), Vec::new());
    status(
        &sight,
        reports,
        "tor",
        &rule(nodes),
        &Written::default(),
        at(0),
    )
}

/// Type, status and reason of each condition.
fn conditions(status: &BGPPeerStatus) -> Vec<[&str; 3]> {
    let all = status.conditions.iter();
    all.map(|condition| {
        [
            condition.type_.as_str(),
            condition.status.as_str(),
            condition.reason.as_str(),
        ]
    })
    .collect()
}

#[test]
fn it_counts_what_the_nodes_report() {
    let status = of(&reports(&[(1, 1), (1, 1), (0, 1)]), 3);
    assert_eq!((status.nodes, status.established, status.total), (3, 2, 3));
    assert_eq!(
        conditions(&status),
        [
            ["Accepted", "True", "Accepted"],
            ["Established", "False", "SomeDown"]
        ]
    );
    assert_eq!(
        status.conditions[1].message,
        "2 of 3 sessions are up, not all on n3: their BGPNode says why"
    );
}

#[test]
fn all_none_and_no_session_have_reasons_of_their_own() {
    let established = |each: &[(u32, u32)], nodes| {
        let status = of(&reports(each), nodes);
        status.conditions[1].reason.clone()
    };
    assert_eq!(established(&[(1, 1)], 1), "AllEstablished");
    assert_eq!(established(&[(0, 1), (0, 1)], 2), "NoneEstablished");
    assert_eq!(established(&[], 2), "NoSessions");
    assert_eq!(established(&[], 0), "NoNodes");
}

#[test]
fn a_node_that_is_gone_does_not_count() {
    let mut reports = reports(&[(1, 1)]);
    reports.nodes.insert("n9".into(), report(1, 1));
    assert_eq!(of(&reports, 1).total, 1);
}

#[test]
fn a_rule_that_cannot_be_followed_says_why() {
    let mut sight = seen_by("n1", &cluster(4), Vec::new());
    let missing = Problem::error("BGPPeer tor", "there is no Secret md5");
    sight.configured = vec![missing.because(Reason::SecretMissing)];
    let written = Written::default();
    let status = status(
        &sight,
        &Reports::default(),
        "tor",
        &rule(1),
        &written,
        at(0),
    );
    assert_eq!(
        conditions(&status)[0],
        ["Accepted", "False", "SecretMissing"]
    );
}

#[test]
fn what_stands_there_already_is_no_news() {
    let written = of(&reports(&[(1, 1)]), 1);
    assert!(!is_news(&written, &of(&reports(&[(1, 1)]), 1)));
    assert!(is_news(&written, &of(&reports(&[(0, 1)]), 1)));
    assert!(is_news(&BGPPeerStatus::default(), &written));
}

#[test]
fn another_thing_that_is_wrong_with_it_is_news_though_its_reason_is_the_same() {
    let wrong = |text: &str| {
        let mut sight = seen_by("n1", &cluster(4), Vec::new());
        let problem = Problem::error("BGPPeer tor", text).because(Reason::SecretMissing);
        sight.configured = vec![problem];
        let (reports, written) = (Reports::default(), Written::default());
        status(&sight, &reports, "tor", &rule(1), &written, at(0))
    };
    let no_secret = wrong("there is no Secret md5");
    assert!(is_news(&no_secret, &wrong("it has no key")));
    assert!(!is_news(&no_secret, &no_secret.clone()));
}
