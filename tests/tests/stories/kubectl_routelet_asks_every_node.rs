//! `kubectl routelet`, with a kubectl whose `exec` enters the lab's nodes as a kubelet would enter its pods; all else of it is real.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::Lab;
use tests::kubernetes::{ControlPlane, Needs, real_story};
use tests::segment::{Segment, addresses};
use tests::shell::{self, Output, show};

/// Writes the kubectl that the script is given.
fn kubectl(lab: &Lab, control: &ControlPlane<'_>) -> Result<PathBuf> {
    let mut enter = String::new();
    for node in ["node1", "node2"] {
        let command = lab.node(node)?.command::<&str>(&[]);
        writeln!(enter, "  routelet-{node}) {} \"$@\" ;;", show(&command))?;
    }
    let real = show(&control.command(&[]));
    let text = format!(
        r#"#!/usr/bin/env bash
[ "$1" = exec ] || exec {real} "$@"
pod=$4
while [ "$1" != -- ]; do shift; done
shift
case $pod in
{enter}  *) echo "error: unable to upgrade connection: pod does not exist" >&2; exit 1 ;;
esac
code=$?
[ $code -eq 0 ] || echo "command terminated with exit code $code" >&2
exit $code
"#
    );
    let path = lab.folder.join("kubectl");
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    Ok(path)
}

fn ask(kubectl: &Path, words: &[&str]) -> Result<Output> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubectl-routelet");
    shell::output(Command::new(script).env("KUBECTL", kubectl).args(words), "")
}

fn document(done: &Output) -> Result<Value> {
    serde_json::from_str(&done.stdout).with_context(|| format!("{done:?}"))
}

#[test]
fn one_command_shows_all_nodes_and_those_that_do_not_answer() {
    real_story(
        Needs::Kubectl,
        Segment::named("plugin").nodes(2),
        |lab, control| {
            control.found(2)?;
            control.register("node3", &addresses(3), &json!({}))?;
            for pod in ["routelet-node1", "routelet-node2"] {
                let label = "app.kubernetes.io/name=routelet";
                control.kubectl(&["label", "pod", "-n", "routelet", pod, label])?;
                let running = r#"{"status": {"phase": "Running"}}"#;
                control.kubectl(&[
                    "patch",
                    "pod",
                    "-n",
                    "routelet",
                    pod,
                    "--subresource=status",
                    "--type=merge",
                    "-p",
                    running,
                ])?;
            }
            let kubectl = kubectl(lab, control)?;

            let done = ask(&kubectl, &["status"])?;
            let absent =
                "== node3 ==\nits routelet cannot be asked (no pod of routelet runs there)";
            ensure!(
                done.code == 1
                    && done.stdout.contains("== node1 ==\nNode       node1")
                    && done.stdout.contains("== node2 ==\nNode       node2")
                    && done.stdout.contains(absent),
                "{done:?}"
            );

            let done = ask(&kubectl, &["peers", "--node", "node1,node2", "-o", "json"])?;
            let both = document(&done)?;
            let all = both.as_object().context("an object")?;
            // Both miss their session with node3.
            ensure!(
                done.code == 1 && all.keys().eq(["node1", "node2"]),
                "{done:?}"
            );

            lab.stop("node2", Signal::SIGTERM)?;
            let done = ask(&kubectl, &["fib", "-o=json"])?;
            let all = document(&done)?;
            for (node, says) in [("node2", "daemon"), ("node3", "no pod of routelet")] {
                let error = all.pointer(&format!("/{node}/error"));
                let error = error.and_then(Value::as_str).unwrap_or_default();
                ensure!(error.contains(says), "{node}: {all}");
            }
            ensure!(
                done.code == 2 && all.pointer("/node1/error").is_none(),
                "{done:?}"
            );

            let done = ask(&kubectl, &["drain"])?;
            ensure!(done.code == 2 && done.stderr.contains("--node"), "{done:?}");
            let done = ask(
                &kubectl,
                &["status", "--namespace", "elsewhere", "--node", "node9"],
            )?;
            ensure!(done.stdout.contains("no pod of routelet"), "{done:?}");
            Ok(())
        },
    );
}
