use super::*;
use crate::report::{
    PeerCounts,
    fixture::{self, settled, starting},
};

const ALL_ANSWER: Tasks = Tasks {
    daemon: Task::Answered,
    speaker: Task::Answered,
    installer: Some(Task::Answered),
};

/// A kernel with so many routes.
fn kernel(installed: u64, failed: u64) -> fib::Status {
    fixture::kernel(fib::Counts {
        desired: installed + failed,
        installed,
        failed,
        ..fib::Counts::default()
    })
}

fn missing(checks: &[Check]) -> Vec<&'static str> {
    let failed = checks.iter().filter(|check| check.result.is_err());
    failed.map(|check| check.name).collect()
}

fn not_ready_for(status: &StatusReport) -> Vec<&'static str> {
    missing(&connected(Some(status)))
}

#[test]
fn a_node_is_ready_when_its_first_routes_are_in_the_kernel_and_a_peer_was_up() {
    assert_eq!(not_ready_for(&starting()), ["sync", "peers"]);
    assert_eq!(not_ready_for(&settled()), [""; 0]);
    assert_eq!(missing(&connected(None)), ["sync"]);
}

#[test]
fn routes_on_their_way_to_the_kernel_are_waited_for() {
    let mut status = settled();
    status.settled = None;
    assert_eq!(not_ready_for(&status), ["sync"]);
}

#[test]
fn a_node_with_nobody_to_talk_to_is_ready() {
    let mut status = settled();
    status.peers = PeerCounts::default();
    assert_eq!(not_ready_for(&status), [""; 0]);
    // Nor does it wait for those it holds down itself.
    status.peers.total = 2;
    assert_eq!(not_ready_for(&status), ["peers"]);
    status.peers.shutdown = 2;
    assert_eq!(not_ready_for(&status), [""; 0]);
}

#[test]
fn a_route_that_fails_is_its_own_trouble_but_not_when_all_do() {
    let mut status = settled();
    status.kernel = Some(kernel(1, 1));
    assert_eq!(not_ready_for(&status), [""; 0]);
    status.kernel = Some(kernel(0, 2));
    assert_eq!(not_ready_for(&status), ["kernel"]);
    status.kernel = None;
    assert_eq!(not_ready_for(&status), [""; 0]);
}

#[test]
fn a_task_that_does_not_answer_is_told_and_a_busy_installer_is_not() {
    assert_eq!(missing(&alive(ALL_ANSWER)), [""; 0]);
    let without_daemon = Tasks {
        daemon: Task::Silent,
        ..ALL_ANSWER
    };
    assert_eq!(missing(&alive(without_daemon)), ["daemon"]);
    let without_speaker = Tasks {
        speaker: Task::Ended,
        ..ALL_ANSWER
    };
    assert_eq!(missing(&alive(without_speaker)), ["speaker"]);
    let busy = Tasks {
        installer: Some(Task::Silent),
        ..ALL_ANSWER
    };
    assert_eq!(missing(&alive(busy)), [""; 0]);
    let without_installer = Tasks {
        installer: Some(Task::Ended),
        ..ALL_ANSWER
    };
    assert_eq!(missing(&alive(without_installer)), ["installer"]);
}

#[test]
fn the_answer_names_each_check_where_one_fails_or_all_are_asked_for() {
    let mut checks = Checks {
        asked: Asked::Healthy,
        checks: alive(ALL_ANSWER),
    };
    assert_eq!(checks.text(false), "ok\n");
    assert_eq!(
        checks.text(true),
        "[+]daemon ok\n[+]speaker ok\n[+]installer ok\nhealthz check passed\n"
    );
    checks.asked = Asked::Ready;
    checks.checks = connected(Some(&starting()));
    let text = checks.text(false);
    assert!(text.contains("[-]peers failed: none of 2 peers"), "{text}");
    assert!(text.ends_with("readyz check failed\n"), "{text}");
}
