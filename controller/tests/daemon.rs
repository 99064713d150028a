//! The daemon as its operator meets it: start, reload, drain, stop, and what goes wrong.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, fs::symlink, net::UnixStream},
};

mod support;

use support::{Place, eventually, routelet, text};

/// Two daemons that peer with each other.
fn pair(place: &Place) -> (support::Daemon, support::Daemon) {
    place.write("n1.yaml", &place.node("n1", 1, &[("n2", 2)]));
    place.write("n2.yaml", &place.node("n2", 2, &[("n1", 1)]));
    let (one, two) = (place.start("n1"), place.start("n2"));
    eventually("both are up", || one.is_up("n2") && two.is_up("n1"));
    (one, two)
}

#[test]
fn two_nodes_learn_each_others_pod_cidrs() {
    let place = Place::new();
    let (one, _two) = pair(&place);
    eventually("the route is there", || {
        let routes = one.json(&["routes", "received", "n2"]);
        routes["routes"][0]["prefix"] == "10.2.0.0/24"
            && routes["routes"][0]["fate"]["is"] == "best"
    });
    let explained = one.ask(&["explain", "10.2.0.7"]);
    assert_eq!(
        explained.status.code(),
        Some(0),
        "{}",
        text(&explained.stdout)
    );
    assert!(
        text(&explained.stdout).contains("192.0.2.2"),
        "{}",
        text(&explained.stdout)
    );
    let lost = one.ask(&["explain", "10.3.0.7"]);
    assert_eq!(lost.status.code(), Some(1));
    assert!(
        text(&lost.stdout).starts_with("no route to 10.3.0.7/32"),
        "{}",
        text(&lost.stdout)
    );
}

#[test]
fn the_exit_code_of_status_is_its_health() {
    let place = Place::new();
    let (one, two) = pair(&place);
    eventually("healthy", || one.ask(&["status"]).status.code() == Some(0));
    assert_eq!(two.stop(), Some(0));
    eventually("unhealthy", || {
        one.ask(&["status"]).status.code() == Some(1)
    });
    let shown = text(&one.ask(&["status"]).stdout);
    assert!(shown.contains("Peers      0/1 established"), "{shown}");
    assert!(shown.contains("error: peer n2: "), "{shown}");
    assert_eq!(one.ask(&["peers"]).status.code(), Some(1));
    let socket = one.socket.clone();
    assert_eq!(one.stop(), Some(0));
    let gone = routelet(&["status"], Some(&socket));
    assert_eq!(gone.status.code(), Some(2));
    assert!(
        text(&gone.stderr).contains("no daemon answers at"),
        "{}",
        text(&gone.stderr)
    );
}

#[test]
fn a_changed_file_is_taken_over_and_sessions_that_did_not_change_stay() {
    let place = Place::new();
    let (one, _two) = pair(&place);
    let before = one.session("n2");
    let more = place.node("n1", 1, &[("n2", 2), ("n3", 3)]);
    place.write("n1.yaml", &more);
    eventually("the new peer is there", || {
        one.json(&["peers"])
            .as_array()
            .is_some_and(|peers| peers.len() == 2)
    });
    place.write("n1.yaml", &place.node("n1", 1, &[("n2", 2)]));
    eventually("it is gone again", || {
        one.json(&["peers"])
            .as_array()
            .is_some_and(|peers| peers.len() == 1)
    });
    let after = one.session("n2");
    assert_eq!(before["since"], after["since"]);
    assert_eq!(after["establishedCount"], 1);
}

#[test]
fn sighup_and_reload_read_again_what_no_event_told() {
    let place = Place::new();
    place.write("n1.yaml", &place.node("n1", 1, &[]));
    let one = place.start("n1");
    let unchanged = one.ask(&["reload"]);
    assert_eq!(unchanged.status.code(), Some(0));
    assert_eq!(text(&unchanged.stdout), "nothing has changed\n");
    place.write("n1.yaml", &place.node("n1", 1, &[("n2", 2)]));
    one.signal("HUP");
    eventually("the peer is there", || {
        one.ask(&["peers", "n2"]).status.code() == Some(1)
    });
}

#[test]
fn a_broken_file_changes_nothing_until_it_is_mended() {
    let place = Place::new();
    let (one, _two) = pair(&place);
    let good = place.node("n1", 1, &[("n2", 2)]);
    place.write("n1.yaml", &good.replace("peerASN:", "peerAsn:"));
    eventually("the problem is told", || {
        let asked = one.ask(&["status"]);
        let told = text(&asked.stdout).contains("n1.yaml:23:3: ");
        told && asked.status.code() == Some(1)
    });
    let shown = text(&one.ask(&["status"]).stdout);
    assert!(shown.contains("did you mean \"peerASN\"?"), "{shown}");
    assert!(one.is_up("n2"));
    let refused = one.ask(&["reload"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused.stderr).contains("did you mean"),
        "{}",
        text(&refused.stderr)
    );
    place.write("n1.yaml", &good);
    eventually("all is well again", || {
        one.ask(&["status"]).status.code() == Some(0)
    });
    assert_eq!(one.session("n2")["establishedCount"], 1);
}

#[test]
fn an_object_that_breaks_a_rule_keeps_its_last_valid_version() {
    let place = Place::new();
    let (one, _two) = pair(&place);
    let bad = place.node("n1", 1, &[("n2", 2)]) + "  ttlSecurity: 1\n  ebgpMultihop: 2\n";
    place.write("n1.yaml", &bad);
    eventually("the problem is told", || {
        let asked = one.ask(&["status"]);
        let told = text(&asked.stdout).contains("BGPPeer n2: left out: ");
        told && asked.status.code() == Some(1)
    });
    let shown = text(&one.ask(&["status"]).stdout);
    assert!(
        shown.contains("its last valid version stays in force"),
        "{shown}"
    );
    assert!(one.is_up("n2"));
}

#[test]
fn a_folder_whose_link_is_swapped_as_the_kubelet_does_is_taken_over() {
    let place = Place::new();
    let folder = place.path("n1.yaml");
    for (version, peers) in [("..v1", vec![]), ("..v2", vec![("n2", 2)])] {
        fs::create_dir_all(folder.join(version)).unwrap();
        fs::write(
            folder.join(version).join("all.yaml"),
            place.node("n1", 1, &peers),
        )
        .unwrap();
    }
    symlink("..v1", folder.join("..data")).unwrap();
    symlink("..data/all.yaml", folder.join("all.yaml")).unwrap();
    let one = place.start("n1");
    assert_eq!(one.json(&["peers"]).as_array().unwrap().len(), 0);
    symlink("..v2", folder.join("..tmp")).unwrap();
    fs::rename(folder.join("..tmp"), folder.join("..data")).unwrap();
    eventually("the peer is there", || {
        one.json(&["peers"])
            .as_array()
            .is_some_and(|peers| peers.len() == 1)
    });
}

#[test]
fn a_broken_file_at_the_start_is_told_with_its_place_and_exit_code_2() {
    let place = Place::new();
    place.write("n1.yaml", "apiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {name: x}\nspec: {peerASN: 0}\n");
    let mut one = place.spawn("n1");
    assert_eq!(one.child.wait().unwrap().code(), Some(2));
    let log = one.log();
    assert!(
        log.contains("n1.yaml:4:17: spec.peerASN: 0 is no AS number"),
        "{log}"
    );
    assert!(!one.socket.exists());
}

#[test]
fn a_configuration_that_breaks_a_rule_at_the_start_does_not_become_the_default_one() {
    let place = Place::new();
    let broken = place.node("n1", 1, &[]).replace(
        "topology:",
        "gracefulRestart: {restartSeconds: 9999}\n  topology:",
    );
    place.write("n1.yaml", &broken);
    let mut one = place.spawn("n1");
    assert_eq!(one.child.wait().unwrap().code(), Some(2));
    assert!(
        one.log().contains("9999 is out of range: 1 to 4095"),
        "{}",
        one.log()
    );
}

#[test]
fn a_second_daemon_is_told_that_there_is_one() {
    let place = Place::new();
    place.write("n1.yaml", &place.node("n1", 1, &[]));
    let one = place.start("n1");
    let log = fs::read_to_string(&one.log).unwrap();
    let mut second = place.spawn("n1");
    assert_eq!(second.child.wait().unwrap().code(), Some(1));
    assert!(
        second.log().contains("another routelet is running here"),
        "{}",
        second.log()
    );
    drop(log);
    assert_eq!(one.ask(&["status"]).status.code(), Some(0));
}

#[test]
fn a_socket_left_by_a_killed_daemon_is_no_obstacle() {
    let place = Place::new();
    place.write("n1.yaml", &place.node("n1", 1, &[]));
    let one = place.start("n1");
    let socket = one.socket.clone();
    one.signal("KILL");
    drop(one);
    assert!(socket.exists());
    let again = place.start("n1");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&socket), 0o660);
    // Who may read a file may lock it.
    assert_eq!(mode(&socket.with_extension("lock")), 0o600);
    assert_eq!(again.stop(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn the_control_socket_speaks_plain_http() {
    let place = Place::new();
    place.write("n1.yaml", &place.node("n1", 1, &[]));
    let one = place.start("n1");
    let ask = |request: &str| {
        let mut stream = UnixStream::connect(&one.socket).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask("GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(
        answer.contains("content-type: application/json"),
        "{answer}"
    );
    assert!(answer.contains("routelet-healthy: true"), "{answer}");
    assert!(answer.contains("\"node\":\"n1\""), "{answer}");
    for (request, status) in [
        ("GET /v2 HTTP/1.1", "404"),
        ("POST /v1/status HTTP/1.1", "404"),
        ("GET /v1/explain?query=nonsense HTTP/1.1", "400"),
        ("GET /v1/routes?limit=many HTTP/1.1", "400"),
        ("GET /v1/routes?colour=red HTTP/1.1", "400"),
        ("GET /v1/peers?peer=%zz HTTP/1.1", "400"),
        ("GET /v1/peers?peer=nobody HTTP/1.1", "404"),
    ] {
        let answer = ask(&format!(
            "{request}\r\nHost: x\r\nConnection: close\r\n\r\n"
        ));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {answer}"
        );
        assert!(answer.contains("\"error\""), "{request}: {answer}");
    }
    assert!(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
}

#[test]
fn a_drained_node_stays_out_of_the_way_over_a_restart_until_it_is_undrained() {
    let place = Place::new();
    let (one, two) = pair(&place);
    let drained = one.ask(&["drain"]);
    assert_eq!(drained.status.code(), Some(0), "{}", text(&drained.stderr));
    eventually("the other hears why", || {
        let last = two.session("n1")["lastError"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        last.contains("Administrative Shutdown") && last.contains("drained by the operator")
    });
    assert_eq!(one.ask(&["status"]).status.code(), Some(1));
    assert_eq!(one.stop(), Some(0));
    let one = place.start("n1");
    assert_eq!(one.json(&["status"])["duty"], "drained");
    assert!(!one.is_up("n2"));
    assert_eq!(one.ask(&["undrain"]).status.code(), Some(0));
    eventually("both are up again", || one.is_up("n2") && two.is_up("n1"));
    assert_eq!(one.json(&["status"])["duty"], "inService");
}

#[test]
fn events_tell_what_happened_and_dump_tells_everything() {
    let place = Place::new();
    let (one, _two) = pair(&place);
    let events = one.json(&["events"]);
    let texts: Vec<&str> = events
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["text"].as_str())
        .collect();
    assert!(
        texts.iter().any(|text| text.starts_with("routelet ")),
        "{texts:?}"
    );
    assert!(texts.iter().any(|text| text.starts_with("up")), "{texts:?}");
    let dump = one.json(&["status", "--dump"]);
    for part in ["status", "peers", "routes", "fib", "desired", "events"] {
        assert!(!dump[part].is_null(), "{part} is missing");
    }
}

#[test]
fn a_password_is_in_no_output() {
    let place = Place::new();
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: correct-horse-battery}\n";
    let peer = place.peer("n2", 2, 1) + "  authSecretRef: {name: s}\n";
    place.write("n1.yaml", &(place.node("n1", 1, &[]) + &peer + secret));
    let one = place.start("n1");
    for command in [&["status", "--dump"][..], &["peers", "n2"], &["events"]] {
        let output = one.ask(command);
        assert!(
            !text(&output.stdout).contains("correct-horse"),
            "{command:?}"
        );
    }
    assert!(!one.log().contains("correct-horse"));
}

#[test]
fn a_state_directory_that_cannot_be_written_is_a_warning_and_no_more() {
    let place = Place::new();
    place.write("n1.yaml", &place.node("n1", 1, &[]));
    place.write("n1.state", "a file where a directory should be");
    let one = place.start("n1");
    let shown = text(&one.ask(&["status"]).stdout);
    assert!(shown.contains("warning: state: "), "{shown}");
    assert_eq!(one.ask(&["status"]).status.code(), Some(0));
}
