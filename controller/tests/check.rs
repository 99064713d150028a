//! `routelet check` and the rest of the command line that needs no daemon.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use serde_json::{Value, json};
use support::{Place, routelet, text};

const NODE: &str = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {podCIDRs: [10.244.1.0/24]}\n\
                    status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}\n---\n";

/// What check says of a file with this in it, and its exit code.
fn check(yaml: &str) -> (String, Option<i32>) {
    let place = Place::new();
    let path = place.write("objects.yaml", yaml);
    let output = routelet(&["check", "-f", path.to_str().unwrap()], None);
    let folder = format!("{}/", place.folder.display());
    (
        text(&output.stdout).replace(&folder, ""),
        output.status.code(),
    )
}

#[test]
fn what_is_right_is_valid() {
    let (said, code) = check(NODE);
    assert_eq!(
        said,
        "valid: 1 node, 0 peers, 0 policies, 0 advertisements, 0 services\n"
    );
    assert_eq!(code, Some(0));
}

/// The stories read the same list to a real API server.
#[test]
fn no_mistake_that_an_api_server_refuses_is_valid_here() {
    let list = format!("{}/tests/mistakes.yaml", env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(list).unwrap();
    let mistakes: Vec<Value> = serde_saphyr::from_str(&list).unwrap();
    for mistake in mistakes {
        let name = mistake["name"].as_str().unwrap_or("default");
        let object = json!({
            "apiVersion": "routelet.dev/v1alpha1",
            "kind": mistake["kind"],
            "metadata": {"name": name},
            "spec": mistake["spec"],
        });
        let (said, code) = check(&format!("{NODE}{object}\n"));
        assert_eq!(code, Some(1), "{object}: {said}");
        let field = mistake["field"].as_str().unwrap();
        assert!(said.contains(field), "{object}: {said}");
    }
}

#[test]
fn every_mistake_has_its_place_and_what_would_be_right() {
    let ours = |kind: &str, spec: &str| {
        format!(
            "{NODE}apiVersion: routelet.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: default}}\nspec: {spec}\n"
        )
    };
    for (yaml, expected) in [
        (
            ours("BGPPeer", "{}"),
            "objects.yaml:10:7: spec: the field peerASN is required",
        ),
        (
            ours("BGPPeers", "{}"),
            "objects.yaml:8:7: kind: unknown kind \"BGPPeers\"; did you mean \"BGPPeer\"?",
        ),
        (
            ours("BGPConfiguration", "{asNumber: sixty}"),
            "objects.yaml:10:18: spec.asNumber: expected u64, found the text \"sixty\"",
        ),
        (
            ours("BGPConfiguration", "{topology: mesh}"),
            "objects.yaml:10:18: spec.topology: unknown value \"mesh\"; did you mean \"Mesh\"?",
        ),
        (
            ours(
                "BGPConfiguration",
                "{podNetwork: {clusterCIDRs: [10.244.1.0/16]}}",
            ),
            "objects.yaml:10:36: spec.podNetwork.clusterCIDRs[0]: \"10.244.1.0/16\" has bits set beyond its length; write 10.244.0.0/16",
        ),
        (
            ours("BGPPolicy", "{rules: [{match: {communities: [no-exprt]}}]}"),
            "objects.yaml:10:39: spec.rules[0].match.communities[0]: \"no-exprt\" is no community",
        ),
        (
            ours("BGPPolicy", "{rules: [{match: {asPath: \"(\"}}]}"),
            "objects.yaml:10:33: spec.rules[0].match.asPath: \"(\" is no regular expression: unclosed group",
        ),
        (
            ours("BGPNode", "{routerId: 1.2.3.4}"),
            "objects.yaml:10:8: spec: unknown field \"routerId\"; did you mean \"routerID\"?",
        ),
        (
            NODE.replace("v1\nkind", "routelet.dev/v1alpha1\nkind"),
            "objects.yaml:1:13: apiVersion: Node has apiVersion v1, not \"routelet.dev/v1alpha1\"",
        ),
        (
            format!("{NODE}{NODE}"),
            "objects.yaml:9:18: Node n1 is given twice: drop one of the two",
        ),
        (
            format!("{NODE}- just\n- a list\n"),
            "objects.yaml:7:1: expected a Kubernetes object",
        ),
        (format!("{NODE}kind: [\n"), "objects.yaml:"),
    ] {
        let (said, code) = check(&yaml);
        assert!(said.contains(expected), "expected {expected}\ngot {said}");
        assert_eq!(code, Some(1), "{said}");
    }
}

#[test]
fn rules_that_several_fields_break_are_told_too() {
    let peer = |spec: &str| {
        format!(
            "{NODE}apiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {{name: p}}\nspec: {{peerASN: 65001, {spec}}}\n"
        )
    };
    for (spec, expected) in [
        ("peerPort: 179", "it says nobody to peer with"),
        (
            "peerAddress: 10.0.0.9, peerRange: 10.0.0.0/24",
            "peerAddress and peerRange exclude each other",
        ),
        (
            "peerAddress: 10.0.0.9, timers: {holdSeconds: 2}",
            "2 is not allowed (RFC 4271 §4.2)",
        ),
        (
            "peerAddress: 10.0.0.9, timers: {holdSeconds: 9, keepaliveSeconds: 4}",
            "4 is more than a third of holdSeconds (9)",
        ),
        (
            "peerAddress: 10.0.0.9, ttlSecurity: 1, ebgpMultihop: 2",
            "exclude each other",
        ),
        (
            "peerAddress: \"fe80::1\"",
            "is link-local: say on which link by sourceInterface",
        ),
        (
            "peerAddress: 10.0.0.9, families: []",
            "it is empty: give IPv4, IPv6 or both",
        ),
        (
            "peerAddress: 10.0.0.9, node: a, nodeSelector: {matchLabels: {a: b}}",
            "node and nodeSelector exclude each other",
        ),
        (
            "peerAddress: 10.0.0.9, import: {policy: a, rules: []}",
            "give either rules or policy: NAME",
        ),
        (
            "peerAddress: 10.0.0.9, sourceAddress: \"fd00::1\"",
            "they are of different families",
        ),
    ] {
        let (said, code) = check(&peer(spec));
        assert!(said.contains(expected), "expected {expected}\ngot {said}");
        assert_eq!(code, Some(1), "{said}");
    }
    let long = peer(&format!(
        "peerAddress: 10.0.0.9, shutdown: {{message: {}}}",
        "ä".repeat(128)
    ));
    assert!(
        check(&long)
            .0
            .contains("256 octets are too many: at most 255")
    );
}

#[test]
fn a_list_as_kubectl_prints_it_is_read_with_its_status_and_foreign_kinds() {
    let (said, code) = check(
        r#"{"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "x", "creationTimestamp": "2026-01-01T00:00:00Z"},
             "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
             "status": {"addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.1"}],
                        "capacity": {"cpu": "4", "memory": "16Gi"}, "images": [{"names": ["a"], "sizeBytes": 5}]}},
            {"apiVersion": "routelet.dev/v1alpha1", "kind": "BGPNode", "metadata": {"name": "n1"}, "spec": {}, "status": {"anything": [1]}},
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}]}"#,
    );
    assert!(
        said.contains("apps/v1 Deployment is not for routelet: skipped"),
        "{said}"
    );
    assert!(said.contains("valid: 1 node,"), "{said}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_missing_file_and_an_empty_folder_are_told() {
    let place = Place::new();
    for path in [place.path("nowhere.yaml"), place.folder.clone()] {
        let output = routelet(&["check", "-f", path.to_str().unwrap()], None);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output.stdout).contains("cannot be read: "),
            "{}",
            text(&output.stdout)
        );
    }
}

#[test]
fn show_says_what_a_node_would_be() {
    let place = Place::new();
    let path = place.write("objects.yaml", NODE);
    let path = path.to_str().unwrap();
    let shown = text(&routelet(&["check", "-f", path, "--show"], None).stdout);
    assert!(shown.contains("routerID: \"10.0.0.1\""), "{shown}");
    let output = routelet(&["check", "-f", path, "--show", "-o", "json"], None);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["valid"], true);
    assert_eq!(json["nodes"]["n1"]["speaker"]["asn"], 64512);
}

#[test]
fn every_command_has_help_with_an_example() {
    let all = text(&routelet(&["--help"], None).stdout);
    for command in [
        "run",
        "status",
        "peers",
        "routes",
        "fib",
        "explain",
        "events",
        "refresh",
        "drain",
        "undrain",
        "reload",
        "cleanup",
        "check",
        "completions",
    ] {
        assert!(
            all.contains(&format!("\n  {command}")),
            "{command} is not in the help"
        );
        let help = routelet(&[command, "--help"], None);
        assert_eq!(help.status.code(), Some(0));
        assert!(
            text(&help.stdout).contains("Example"),
            "{command}: {}",
            text(&help.stdout)
        );
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [
        &["nonsense"][..],
        &[],
        &["run"],
        &["explain", "nonsense"],
        &["check"],
        &["peers", "-o", "xml"],
    ] {
        let output = routelet(arguments, None);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn completions_are_there_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = routelet(&["completions", shell], None);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("undrain"), "{shell}");
    }
}
