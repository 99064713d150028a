//! What the stories of a cluster stand on: a control plane that behaves as the ones that routelet will meet.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::kubernetes::{Account, ControlPlane, Needs, Server, real_story, story, v1};
use tests::segment::{Segment, addresses};
use tests::wait::{eventually, now};

const SOON: Duration = Duration::from_secs(30);

/// Registers `nodeN`, which needs no container for that.
fn register(control: &ControlPlane<'_>, number: u8) -> Result<Vec<String>> {
    let name = format!("node{number}");
    control.register(&name, &addresses(number), &json!({"rack": "r1"}))?;
    let cidrs = control.pod_cidrs(&name)?;
    println!("{name}: {}", cidrs.join(", "));
    ensure!(
        cidrs.len() == 2
            && cidrs
                .iter()
                .any(|cidr| cidr.starts_with("10.244.") && cidr.ends_with("/24"))
            && cidrs
                .iter()
                .any(|cidr| cidr.starts_with("fd00:10:244:") && cidr.ends_with("/64")),
        "{name} has {cidrs:?}"
    );
    Ok(cidrs)
}

/// What a watch from `version` on tells within a second: kind of event and name.
fn since(control: &ControlPlane<'_>, version: &str) -> Result<Vec<(String, String)>> {
    let path = format!("/api/v1/nodes?watch=true&resourceVersion={version}&timeoutSeconds=1");
    let text = control.ask("GET", &path, "")?.body;
    let text_at = |event: &Value, pointer: &str| {
        let found = event.pointer(pointer).and_then(Value::as_str);
        found.map(str::to_owned).with_context(|| event.to_string())
    };
    text.lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line)?;
            Ok((
                text_at(&event, "/type")?,
                text_at(&event, "/object/metadata/name")?,
            ))
        })
        .collect()
}

/// Waits until a watch from `version` on tells of this.
fn told(control: &ControlPlane<'_>, version: &str, event: &(String, String)) -> Result<()> {
    eventually(SOON, "the watch tells of it", || {
        let events = since(control, version)?;
        ensure!(events.contains(event), "{events:?}");
        Ok(())
    })
}

#[test]
fn nodes_get_pod_cidrs_and_watches_outlive_the_api_server() {
    story(Segment::named("cluster"), |_, control| {
        let first = register(control, 1)?;
        let second = register(control, 2)?;
        ensure!(
            first.iter().all(|cidr| !second.contains(cidr)),
            "both nodes have {first:?}"
        );
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            control.end(Server::Api, signal)?;
            control.get("/readyz").expect_err("nobody is there");
            control.launch(Server::Api)?;
            control.ready()?;
        }

        // The controllers' watches go on. An API server that has just started knows nothing of before: we watch from now on.
        let nodes = control.get("/api/v1/nodes?labelSelector=rack%3Dr1")?;
        let version = nodes
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str)
            .context("a list has a version")?
            .to_owned();
        register(control, 3)?;
        let added = ("ADDED".to_owned(), "node3".to_owned());
        told(control, &version, &added)?;
        control.delete(&v1("nodes", "node3"))?;
        let deleted = ("DELETED".to_owned(), "node3".to_owned());
        told(control, &version, &deleted)?;
        for server in [Server::Etcd, Server::Api, Server::Controllers] {
            if let Ok(peak) = control.peak_memory(server) {
                println!("{}: {peak} MiB", server.name());
            }
        }
        Ok(())
    });
}

const ACCOUNT: Account<'_> = Account {
    namespace: "apart",
    name: "reader",
};

const RIGHTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: apart}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: apart}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules:
- {apiGroups: [\"\"], resources: [nodes], verbs: [get, list, watch]}
- {apiGroups: [\"\"], resources: [configmaps], verbs: [get, create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: apart}]
";

/// Ties whoever writes a ConfigMap from a pod to the name of the pod's node.
const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: own-node}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
  matchConditions:
  - {name: reader, expression: \"request.userInfo.username == 'system:serviceaccount:apart:reader'\"}
  validations:
  - expression: \"object.metadata.name in request.userInfo.extra['authentication.kubernetes.io/node-name']\"
    message: only what bears the name of its node
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: own-node}
spec: {policyName: own-node, validationActions: [Deny]}
";

#[test]
fn a_pod_may_do_what_its_account_may_and_no_more() {
    real_story(
        Needs::Rights,
        Segment::named("rights").node(1),
        |lab, control| {
            register(control, 1)?;
            control.apply(RIGHTS)?;
            control.apply(POLICY)?;
            control.place("node1", ACCOUNT)?;
            let token = lab
                .node("node1")?
                .run(&["cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"])?;
            let as_pod = |words: &[&str]| control.kubectl_as(&token, words);

            let done = as_pod(&["get", "nodes", "-o", "name"])?;
            ensure!(done.stdout.trim() == "node/node1", "{done:?}");
            let done = as_pod(&["label", "node", "node1", "rack=mine", "--overwrite"])?;
            ensure!(
                done.code != 0 && done.stderr.contains("cannot patch resource \"nodes\""),
                "{done:?}"
            );
            let done = as_pod(&["get", "secrets", "-A"])?;
            ensure!(
                done.code != 0 && done.stderr.contains("Forbidden"),
                "{done:?}"
            );

            // A policy takes effect some time after it was accepted.
            let mut tries = 0;
            eventually(SOON, "the policy is in force", || {
                tries += 1;
                let done = as_pod(&[
                    "create",
                    "configmap",
                    "-n",
                    "apart",
                    &format!("other{tries}"),
                ])?;
                ensure!(
                    done.code != 0 && done.stderr.contains("only what bears the name of its node"),
                    "{done:?}"
                );
                Ok(())
            })?;
            let done = as_pod(&["create", "configmap", "-n", "apart", "node1"])?;
            ensure!(done.code == 0, "{done:?}");

            // The token ends with its pod.
            let pod = "reader-node1";
            control.delete(&format!("/api/v1/namespaces/apart/pods/{pod}"))?;
            let begin = now();
            eventually(SOON, "a token without its pod is worth nothing", || {
                let done = as_pod(&["get", "nodes"])?;
                ensure!(
                    done.code != 0 && done.stderr.contains("Unauthorized"),
                    "{done:?}"
                );
                Ok(())
            })?;
            println!(
                "the token ended {:.1} s after its pod",
                begin.elapsed().as_secs_f64()
            );
            Ok(())
        },
    );
}
