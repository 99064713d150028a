//! Each condition for each reason.

use std::sync::Arc;

use bgp::status::{PeerStatus, SessionState};

use super::*;
use crate::{
    audit::{Finding, lasting::Audited},
    kubernetes::publish::sight::fixture::sight,
    problem::Reason,
    report::fixture::{kernel, session},
};

fn up(name: &str) -> PeerStatus {
    session(name, SessionState::Established)
}

fn down(name: &str) -> PeerStatus {
    session(name, SessionState::Active)
}

fn node(peer: PeerStatus) -> PeerStatus {
    PeerStatus { mesh: true, ..peer }
}

/// Status and reason.
fn said(aspect: &Aspect) -> (&'static str, &'static str) {
    (aspect.status, aspect.reason)
}

#[test]
fn a_peer_that_is_named_is_missed() {
    let with = |peers| sessions(&sight(peers));
    assert_eq!(said(&with(vec![up("tor")])), ("True", "AllEstablished"));
    assert_eq!(said(&with(Vec::new())), ("True", "NoPeers"));
    let missed = with(vec![up("tor-a"), down("tor-b")]);
    assert_eq!(said(&missed), ("False", "PeersDown"));
    assert!(
        missed
            .message
            .starts_with("1 of 2 sessions are up; not tor-b:"),
        "{}",
        missed.message
    );
}

#[test]
fn a_node_that_is_away_is_missed_only_where_all_are() {
    let with = |peers| sessions(&sight(peers));
    let some = with(vec![node(up("n2")), node(down("n3"))]);
    assert_eq!(said(&some), ("True", "NodesAway"));
    let none = with(vec![node(down("n2")), node(down("n3"))]);
    assert_eq!(said(&none), ("False", "NoNodeEstablished"));
}

#[test]
fn readiness_is_that_of_readyz_but_for_a_drained_node() {
    let mut sight = sight(vec![up("tor")]);
    assert_eq!(said(&ready(&sight)), ("True", "Ready"));
    for (check, reason) in [
        ("sync", "InitialSync"),
        ("kernel", "KernelRefuses"),
        ("peers", "NoPeerEver"),
    ] {
        sight.unready = Some((check, "why".into()));
        assert_eq!(said(&ready(&sight)), ("False", reason));
        assert_eq!(ready(&sight).message, "why");
    }
    sight.unready = None;
    sight.status.duty = Duty::Drained;
    assert_eq!(said(&ready(&sight)), ("False", "Drained"));
}

#[test]
fn routes_are_in_the_kernel_or_it_is_said_what_keeps_them_out() {
    let mut sight = sight(vec![up("tor")]);
    assert_eq!(said(&super::kernel(&sight)), ("True", "Installed"));
    let counts = |failed, unresolved| fib::Counts {
        failed,
        unresolved,
        ..fib::Counts::default()
    };
    sight.status.kernel = Some(kernel(counts(2, 1)));
    assert_eq!(said(&super::kernel(&sight)), ("False", "KernelRefuses"));
    sight.status.kernel = Some(kernel(counts(0, 1)));
    let unresolved = super::kernel(&sight);
    assert_eq!(said(&unresolved), ("False", "NextHopUnresolved"));
    assert!(unresolved.message.ends_with("no such device"));
    sight.status.kernel = Some(kernel(counts(0, 0)));
    sight.status.settled = None;
    assert_eq!(said(&super::kernel(&sight)), ("False", "InitialSync"));
    sight.status.kernel = None;
    assert_eq!(said(&super::kernel(&sight)), ("False", "InstallerEnded"));
}

#[test]
fn a_route_that_is_astray_is_told() {
    let finding = || Finding {
        is: crate::audit::Deviation::Missing,
        prefix: "10.244.2.0/24".parse().unwrap(),
        node: Some("n2".into()),
        because: "no peer announces it".into(),
        explained: false,
    };
    let mut sight = sight(vec![up("tor")]);
    assert_eq!(said(&expected(&sight)), ("True", "AsExpected"));
    sight.audited = Arc::new(Audited {
        last: None,
        astray: [finding(), finding()].into(),
    });
    let astray = expected(&sight);
    assert_eq!(said(&astray), ("False", "RouteMissing"));
    assert_eq!(
        astray.message,
        "Node n2: no route to its pod CIDR 10.244.2.0/24: no peer announces it; and 1 more"
    );
}

#[test]
fn an_error_in_the_configuration_gives_its_reason() {
    let mut sight = sight(vec![up("tor")]);
    sight.configured = vec![Problem::warning("BGPPeer tor", "x")];
    assert_eq!(said(&configuration(&sight)), ("True", "Valid"));
    let missing = Problem::error("BGPPeer tor", "there is no Secret md5");
    sight.configured = vec![missing.because(Reason::SecretMissing)];
    let invalid = configuration(&sight);
    assert_eq!(said(&invalid), ("False", "SecretMissing"));
    assert_eq!(invalid.message, "BGPPeer tor: there is no Secret md5");
}

#[test]
fn a_condition_remembers_since_when_it_is_so() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let aspect = |reason| Aspect::holds("Ready", reason, "x");
    let first = since(&[], [aspect("Ready")], Some(1), at(10));
    assert_eq!(first[0].last_transition_time, Time(at(10)));
    let same = since(&first, [aspect("Other")], Some(2), at(20));
    assert_eq!(same[0].last_transition_time, Time(at(10)));
    assert_eq!(
        (same[0].reason.as_str(), same[0].observed_generation),
        ("Other", Some(2))
    );
    let other = since(
        &same,
        [Aspect::fails("Ready", "Drained", "x")],
        Some(2),
        at(30),
    );
    assert_eq!(other[0].last_transition_time, Time(at(30)));
}
