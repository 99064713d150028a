//! What is told, by whom, and how often.

use bgp::status::SessionState;

use super::*;
use crate::{
    kubernetes::publish::sight::fixture::{cluster, seen_by, sight},
    report::fixture::session,
};

#[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
fn start() -> Instant {
    Instant::now()
}

fn up(name: &str) -> PeerStatus {
    session(name, SessionState::Established)
}

/// Down after it was up so often.
fn down(name: &str, times: u64) -> PeerStatus {
    PeerStatus {
        established_count: times,
        last_error: Some("hold timer expired".into()),
        ..session(name, SessionState::Active)
    }
}

fn node(peer: PeerStatus) -> PeerStatus {
    PeerStatus { mesh: true, ..peer }
}

fn reasons(told: &[Occurrence]) -> Vec<&'static str> {
    told.iter().map(|one| one.reason).collect()
}

fn with(problems: Vec<Problem>) -> Sight {
    let mut sight = sight(Vec::new());
    sight.status.problems = problems;
    sight
}

#[test]
fn a_session_is_told_when_it_comes_up_and_when_it_goes() {
    let (mut seen, now) = (Seen::default(), start());
    let first = seen.look(&sight(vec![up("tor")]), now);
    assert_eq!(reasons(&first), ["SessionEstablished"]);
    assert_eq!(first[0].note, "tor (10.0.0.254): the session is up");
    assert!(!first[0].warning);
    assert_eq!(seen.look(&sight(vec![up("tor")]), now), []);
    let gone = seen.look(&sight(vec![down("tor", 1)]), now);
    assert_eq!(reasons(&gone), ["SessionDown"]);
    assert_eq!(gone[0].note, "tor (10.0.0.254): hold timer expired");
    assert!(gone[0].warning);
    // That it stays away is no news.
    assert_eq!(
        seen.look(&sight(vec![down("tor", 1)]), now + 2 * PATIENCE),
        []
    );
}

#[test]
fn a_session_that_came_back_between_two_looks_was_down_all_the_same() {
    let (mut seen, now) = (Seen::default(), start());
    seen.look(&sight(vec![up("tor")]), now);
    let mut again = up("tor");
    again.established_count = 2;
    let told = seen.look(&sight(vec![again]), now);
    assert_eq!(reasons(&told), ["SessionDown", "SessionEstablished"]);
}

#[test]
fn a_peer_that_never_answers_is_told_of_once_after_a_while() {
    let (mut seen, now) = (Seen::default(), start());
    assert_eq!(seen.look(&sight(vec![down("tor", 0)]), now), []);
    let late = seen.look(&sight(vec![down("tor", 0)]), now + PATIENCE);
    assert_eq!(reasons(&late), ["SessionNotEstablished"]);
    assert_eq!(
        seen.look(&sight(vec![down("tor", 0)]), now + 2 * PATIENCE),
        []
    );
}

#[test]
fn many_sessions_at_once_are_one_event() {
    let (mut seen, now) = (Seen::default(), start());
    let tors = |of: fn(&str) -> PeerStatus| -> Sight {
        sight((1..=20).map(|tor| of(&format!("tor{tor:02}"))).collect())
    };
    assert_eq!(seen.look(&tors(up), now).len(), 1);
    let told = seen.look(&tors(|name| down(name, 1)), now);
    assert_eq!(reasons(&told), ["SessionDown"]);
    assert_eq!(
        told[0].note,
        "20 at once, tor01, tor02, tor03 and 17 more; the first: tor01 (10.0.0.254): hold timer expired"
    );
}

#[test]
fn a_node_that_goes_away_is_told_of_by_three_of_all() {
    let cluster = cluster(12);
    let told = |name: &str| {
        let (mut seen, now) = (Seen::default(), start());
        let look = |peer| seen_by(name, &cluster, vec![peer]);
        seen.look(&look(node(up("n7"))), now);
        seen.look(&look(node(down("n7", 1))), now).len()
    };
    let witnesses: usize = cluster
        .nodes
        .keys()
        .filter(|name| *name != "n7")
        .map(|name| told(name))
        .sum();
    assert_eq!(witnesses, 3);
}

#[test]
fn what_is_wrong_with_a_node_is_told_by_its_own_daemon_only() {
    let conflict = |node: &str| {
        Problem::error(format!("Node {node}"), "its pod CIDR overlaps")
            .because(Reason::PodCidrConflict)
    };
    let now = start();
    assert_eq!(Seen::default().look(&with(vec![conflict("n2")]), now), []);
    let told = Seen::default().look(&with(vec![conflict("n1")]), now);
    assert_eq!(reasons(&told), ["PodCIDRConflict"]);
    assert_eq!(told[0].regarding, Object::new("Node", "n1"));
    assert_eq!(told[0].note, "its pod CIDR overlaps");
}

#[test]
fn a_route_that_is_missing_here_is_ours_to_tell() {
    let missing = Problem::warning("Node n2", "no route").because(Reason::RouteMissing);
    let told = Seen::default().look(&with(vec![missing]), start());
    assert_eq!(told[0].regarding, Object::new("BGPNode", "n1"));
    assert_eq!(told[0].related, Some((Object::new("Node", "n2"), None)));
}

#[test]
fn what_is_wrong_with_an_object_is_told_by_one_node() {
    let cluster = cluster(12);
    let told = |name: &String| {
        let mut sight = seen_by(name, &cluster, Vec::new());
        sight.status.problems =
            vec![Problem::error("BGPPolicy p", "left out").because(Reason::ObjectInvalid)];
        Seen::default().look(&sight, start())
    };
    let all: Vec<Occurrence> = cluster.nodes.keys().flat_map(told).collect();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].regarding, Object::new("BGPPolicy", "p"));
}

#[test]
fn a_problem_is_told_when_it_begins_and_again_when_it_comes_back() {
    let (mut seen, now) = (Seen::default(), start());
    let problem = |text: &str| {
        with(vec![
            Problem::error("kernel", text).because(Reason::KernelProblem),
        ])
    };
    let first = seen.look(&problem("1 route fails"), now);
    assert_eq!(first[0].note, "kernel: 1 route fails");
    assert_eq!(
        seen.look(&problem("2 routes fail"), now),
        [],
        "other words for the same"
    );
    assert_eq!(seen.look(&with(Vec::new()), now), []);
    assert_eq!(seen.look(&problem("1 route fails"), now).len(), 1);
}

#[test]
fn a_node_tells_ten_at_most_before_it_has_to_wait() {
    let (mut budget, now) = (Budget::default(), start());
    let granted = |budget: &mut Budget, now| (0..100).filter(|_| budget.take(now)).count();
    assert_eq!(granted(&mut budget, now), 10);
    assert_eq!(granted(&mut budget, now + REFILL / 2), 0);
    assert_eq!(granted(&mut budget, now + REFILL), 1);
    assert_eq!(granted(&mut budget, now + 3 * REFILL), 2);
    assert_eq!(granted(&mut budget, now + 100 * REFILL), 10);
}

#[test]
fn a_problem_that_there_is_no_room_for_is_told_when_there_is() {
    let (mut seen, mut budget, now) = (Seen::default(), Budget::default(), start());
    while budget.take(now) {}
    let mut look = |seen: &mut Seen, sight: &Sight, at: Instant| {
        let all = seen.look(sight, at);
        reasons(&seen.within(&mut budget, all, at))
    };
    let conflict = Problem::error("Node n1", "its pod CIDR overlaps");
    let mut both = with(vec![conflict.because(Reason::PodCidrConflict)]);
    both.peers = vec![up("tor")];
    assert_eq!(look(&mut seen, &both, now), [""; 0]);
    // That the session came up is soon old.
    assert_eq!(look(&mut seen, &both, now + REFILL), ["PodCIDRConflict"]);
    assert_eq!(look(&mut seen, &both, now + 9 * REFILL), [""; 0]);
}
