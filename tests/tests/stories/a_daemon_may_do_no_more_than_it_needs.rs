//! What the manifests give the daemon at the API server: what it needs, about its own node, and nothing else.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::Lab;
use tests::kubernetes::{ControlPlane, DAEMON, EVERYTHING, Needs, programs, real_story};
use tests::manifest::documents;
use tests::segment::{Segment, addresses};
use tests::shell::{self, Output};
use tests::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

/// Verb, group, resource with its subresource, namespace.
type Wish<'a> = (&'a str, &'a str, &'a str, &'a str);

const NEEDED: &[Wish<'_>] = &[
    ("watch", "", "nodes", ""),
    ("watch", "", "services", ""),
    ("watch", "discovery.k8s.io", "endpointslices", ""),
    ("watch", "routelet.dev", "bgppeers", ""),
    ("watch", "", "secrets", "routelet"),
    ("create", "routelet.dev", "bgpnodes", ""),
    ("patch", "routelet.dev", "bgpnodes/status", ""),
    ("patch", "routelet.dev", "bgppeers/status", ""),
    ("patch", "", "nodes/status", ""),
    ("create", "events.k8s.io", "events", "default"),
];

const TOO_MUCH: &[Wish<'_>] = &[
    ("list", "", "secrets", ""),
    ("get", "", "secrets", "kube-system"),
    ("create", "", "secrets", "routelet"),
    ("patch", "", "nodes", ""),
    ("update", "", "nodes/status", ""),
    ("delete", "", "nodes", ""),
    ("list", "", "pods", "routelet"),
    ("create", "", "pods", "routelet"),
    ("create", "", "pods/exec", "routelet"),
    ("patch", "routelet.dev", "bgpnodes", ""),
    ("delete", "routelet.dev", "bgpnodes", ""),
    ("create", "routelet.dev", "bgppeers", ""),
    ("patch", "routelet.dev", "bgpconfigurations", ""),
    ("create", "", "serviceaccounts/token", "routelet"),
    ("impersonate", "", "users", ""),
];

/// May the daemon's account do that?
fn may(control: &ControlPlane<'_>, (verb, group, resource, namespace): Wish<'_>) -> Result<bool> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let question = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": format!("system:serviceaccount:{}:{}", DAEMON.namespace, DAEMON.name),
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": {"verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace},
        },
    });
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answer = control.ask("POST", path, &question.to_string())?;
    let review: Value = serde_json::from_str(&answer.body)?;
    let allowed = review.pointer("/status/allowed").and_then(Value::as_bool);
    allowed.context(answer.body)
}

#[test]
fn its_rights_are_what_it_needs() {
    real_story(
        Needs::Rights,
        Segment::named("rights-of-ours"),
        |_, control| {
            control.install()?;
            for wish in NEEDED {
                ensure!(may(control, *wish)?, "{wish:?} is not allowed");
            }
            for wish in TOO_MUCH {
                ensure!(!may(control, *wish)?, "{wish:?} is allowed");
            }
            Ok(())
        },
    );
}

/// What becomes of `object` when the holder of `token` does `words` with it.
fn attempt(
    lab: &Lab,
    control: &ControlPlane<'_>,
    token: &str,
    words: &[&str],
    object: &Value,
) -> Result<Output> {
    let file = "/run/attempt.json";
    std::fs::write(lab.node("control")?.path(file), object.to_string())?;
    let all: Vec<&str> = words
        .iter()
        .copied()
        .chain(["--validate=false", "-f", file])
        .collect();
    control.kubectl_as(token, &all)
}

const CREATE: &[&str] = &["create"];
const AGAIN: &[&str] = &["apply", "--server-side", "--force-conflicts"];
const REPORT: &[&str] = &["apply", "--server-side", "--subresource=status"];

fn bgp_node(name: &str, rest: Value) -> Value {
    let mut object = json!({"apiVersion": "routelet.dev/v1alpha1", "kind": "BGPNode", "metadata": {"name": name}});
    if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
        object.extend(rest);
    }
    object
}

fn node(name: &str, labels: Value, condition: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
        "status": {"conditions": [{
            "type": condition, "status": "False", "reason": "Story", "message": "told",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]},
    })
}

/// An event that the node `teller` tells about an object.
fn event(teller: &str, namespace: &str, version: &str, kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": format!("{kind}.{name}.{teller}").to_lowercase(), "namespace": namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Warning", "reason": "Story", "action": "Telling", "note": "told",
        "reportingController": "routelet", "reportingInstance": teller,
        "regarding": {"apiVersion": version, "kind": kind, "name": name},
    })
}

#[test]
fn it_writes_about_its_own_node_only() {
    real_story(
        Needs::Rights,
        Segment::named("own").nodes(1),
        |lab, control| {
            control.install()?;
            for number in [1, 2] {
                let name = format!("node{number}");
                control.register(&name, &addresses(number), &json!({}))?;
            }
            control.kubectl_with(
                &["create", "-f", "-"],
                &bgp_node("node2", json!({})).to_string(),
            )?;
            control.place("node1", DAEMON)?;
            let own = control.token(DAEMON, Some("routelet-node1"))?;
            let nobodys = control.token(DAEMON, None)?;

            let refused = |token: &str, words: &[&str], object: &Value, why: &str| -> Result<()> {
                let done = attempt(lab, control, token, words, object)?;
                ensure!(
                    done.code != 0 && done.stderr.contains(why),
                    "{object}: {done:?}"
                );
                Ok(())
            };
            let stored = |words: &[&str], object: &Value| -> Result<()> {
                let done = attempt(lab, control, &own, words, object)?;
                ensure!(done.code == 0, "{object}: {done:?}");
                Ok(())
            };

            // A policy takes effect some time after it was accepted.
            let another = bgp_node("node3", json!({}));
            let only = "the BGPNode of its own node only, which is node1";
            eventually(SOON, "the policies are in force", || {
                refused(&own, CREATE, &another, only)
            })?;
            let addresses = json!({"spec": {"addresses": ["10.0.0.2"]}});
            let bare = "makes its BGPNode without a spec";
            refused(&own, CREATE, &bgp_node("node1", addresses), bare)?;
            stored(CREATE, &bgp_node("node1", json!({})))?;

            let status = json!({"status": {"version": "a story"}});
            stored(REPORT, &bgp_node("node1", status.clone()))?;
            refused(&own, REPORT, &bgp_node("node2", status.clone()), only)?;
            let unsaid = "which is not said by this token";
            refused(&nobodys, REPORT, &bgp_node("node1", status), unsaid)?;

            let network = "NetworkUnavailable";
            stored(REPORT, &node("node1", json!({}), network))?;
            let only = "the status of its own node only, which is node1";
            refused(&own, REPORT, &node("node2", json!({}), network), only)?;
            let nothing = "nothing of its node's status but the condition NetworkUnavailable";
            refused(&own, REPORT, &node("node1", json!({}), "Story"), nothing)?;
            let labels = json!({"rack": "mine"});
            let alone = "leaves the metadata of its node alone";
            refused(&own, REPORT, &node("node1", labels, network), alone)?;
            refused(&nobodys, REPORT, &node("node1", json!({}), network), unsaid)?;

            let ours = "routelet.dev/v1alpha1";
            let told = event("node1", "default", ours, "BGPNode", "node1");
            stored(CREATE, &told)?;
            // Once more, in the same event.
            let again = |mut event: Value| {
                event["series"] =
                    json!({"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"});
                event
            };
            stored(AGAIN, &again(told))?;
            stored(CREATE, &event("node1", "default", "v1", "Node", "node1"))?;
            stored(
                CREATE,
                &event("node1", "default", ours, "BGPPeer", "switch"),
            )?;
            let only = "events in the name of its own node only, which is node1";
            let of_node2 = event("node2", "default", ours, "BGPNode", "node2");
            refused(&own, CREATE, &of_node2, only)?;
            control.kubectl_with(&["create", "-f", "-"], &of_node2.to_string())?;
            refused(&own, AGAIN, &again(of_node2), only)?;
            let about = "tells of its own node, of its BGPNode and of the other kinds";
            for (version, kind, name) in [
                ("v1", "Node", "node2"),
                (ours, "BGPNode", "node2"),
                ("v1", "Namespace", "default"),
            ] {
                let of_another = event("node1", "default", version, kind, name);
                refused(&own, CREATE, &of_another, about)?;
            }
            let mut elsewhere = event("node1", "routelet", ours, "BGPNode", "node1");
            elsewhere["regarding"]["namespace"] = "routelet".into();
            refused(&own, CREATE, &elsewhere, "its events belong to default")?;
            let nobodys_word = event("node1", "default", ours, "BGPPeer", "rack");
            refused(&nobodys, CREATE, &nobodys_word, unsaid)
        },
    );
}

#[test]
fn its_pod_is_admitted_where_the_file_puts_it() {
    real_story(
        Needs::Rights,
        Segment::named("pod-of-ours"),
        |_, control| {
            control.install()?;
            // What a DaemonSet's controller would make of the template.
            let set = control.get("/apis/apps/v1/namespaces/routelet/daemonsets/routelet")?;
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "routelet-"}});
            pod["spec"] = set
                .pointer("/spec/template/spec")
                .context("a template")?
                .clone();
            let path = "/api/v1/namespaces/routelet/pods?fieldValidation=Strict";
            eventually(SOON, "the account is there", || {
                let answer = control.ask("POST", path, &pod.to_string())?;
                ensure!(answer.code == 201, "{answer:?}");
                Ok(())
            })?;
            // Nobody made an exception elsewhere: this is why the namespace has its label.
            let strict = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": "strict", "labels": {"pod-security.kubernetes.io/enforce": "baseline"},
            }});
            control.ask("POST", "/api/v1/namespaces", &strict.to_string())?;
            pod["spec"]["serviceAccountName"] = "default".into();
            pod["spec"]["serviceAccount"] = "default".into();
            eventually(SOON, "the account is there", || {
                let path = "/api/v1/namespaces/strict/pods";
                let answer = control.ask("POST", path, &pod.to_string())?;
                ensure!(
                    answer.code == 403 && answer.body.contains("NET_ADMIN"),
                    "{answer:?}"
                );
                Ok(())
            })
        },
    );
}

#[test]
fn the_parts_and_the_one_file_are_the_same() -> Result<()> {
    let kubectl = match programs::folder() {
        Ok(folder) => folder.join("kubectl"),
        Err(why) => {
            println!("skipped: {why:#}");
            return Ok(());
        }
    };
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let built =
        shell::run(std::process::Command::new(kubectl).args([Path::new("kustomize"), &deploy]))?;
    let sorted = |text: &str| -> Result<Vec<String>> {
        let mut all: Vec<String> = documents(text)?.iter().map(ToString::to_string).collect();
        all.sort();
        Ok(all)
    };
    let (built, file) = (sorted(&built)?, sorted(EVERYTHING)?);
    ensure!(built.len() == file.len() && file.len() > 10);
    for (built, file) in built.iter().zip(&file) {
        ensure!(built == file, "{built}\n{file}");
    }
    Ok(())
}
