//! P16: one daemon in a cluster of 5,000 nodes, at a real API server: what it takes to know them all.

use std::{path::Path, thread, time::Duration};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Against, Figure, Must, Scene, Workload};
use crate::{
    Lab,
    bench::{
        device::{Device, Usage},
        now,
    },
    container::Container,
    kubernetes::{self, ControlPlane, DAEMON, Server, audit},
    segment::{Segment, addresses},
    wait::{eventually, pause},
};

pub(super) const WORKLOAD: Workload = Workload {
    name: "P16",
    about: "Kubernetes: 5,000 nodes at a real API server; external peers only, then two route reflectors that are away",
    against: Against::Nobody,
    figures: &[
        Figure::of("P16", "External: memory", "MB", Must::AtMost(60.0)),
        Figure::of("P16", "peak memory", "MB", Must::Tell),
        Figure::of("P16", "idle, of one processor", "%", Must::AtMost(0.5)),
        Figure::of(
            "P16",
            "beside every kubelet's status in 5 minutes",
            "%",
            Must::Tell,
        ),
        Figure::of("P16", "start until the first sync is done", "s", Must::Tell),
        Figure::of("P16", "API requests of a start", "", Must::Tell),
        Figure::of("P16", "received by a start", "MB", Must::Tell),
        Figure::of("P16", "API requests of a restart", "", Must::Tell),
        Figure::of("P16", "API requests a minute, idle", "", Must::Tell),
        Figure::of("P16", "reflectors away: memory", "MB", Must::AtMost(60.0)),
        Figure::of("P16", "peak memory", "MB", Must::Tell),
        Figure::of("P16", "idle, of one processor", "%", Must::AtMost(0.5)),
        Figure::of(
            "P16",
            "beside every kubelet's status in 5 minutes",
            "%",
            Must::Tell,
        ),
        Figure::of("P16", "start until the first sync is done", "s", Must::Tell),
        Figure::of("P16", "API requests of a start", "", Must::Tell),
        Figure::of("P16", "received by a start", "MB", Must::Tell),
        Figure::of("P16", "API requests of a restart", "", Must::Tell),
        Figure::of("P16", "API requests a minute, idle", "", Must::Tell),
    ],
    run,
};

/// The node that is there.
const NODE: &str = "node1";
/// Nodes are made by so many at once.
const WRITERS: usize = 4;
/// A kubelet writes its Node's status this often, whatever it says (`nodeStatusReportFrequency`).
const REPORT: Duration = Duration::from_secs(300);
/// What follows a start: the deferral, the first status, what is allocated once.
const SETTLE: Duration = Duration::from_secs(20);
/// Longest that a step may take beside other work of this machine.
const LIMIT: Duration = Duration::from_secs(180);

fn run(scene: &Scene<'_>) -> Result<Vec<f64>> {
    let Device::Routelet(binary) = scene.device else {
        bail!("only routelet watches nodes")
    };
    let nodes = scene.size(5_000);
    let segment = Segment::named("scale").node(1).binary(binary);
    kubernetes::with_control_plane(segment, |lab, control| {
        control.install()?;
        control.register(NODE, &addresses(1), &json!({}))?;
        control.place(NODE, DAEMON)?;
        control.pod_cidrs(NODE)?;
        // They have no range for so many; the nodes that are not there bring theirs along.
        control.end(Server::Controllers, Signal::SIGTERM)?;
        populate(control, nodes)?;

        let observer = Observer {
            lab,
            control,
            node: lab.node(NODE)?,
            nodes,
            span: Duration::from_secs(if scene.quick { 6 } else { 60 }),
        };
        control.apply(&configuration("External"))?;
        let mut figures = observer.observe("External")?;
        for number in 2..=3 {
            control.label(&name(number), "routelet.dev/route-reflector=true")?;
        }
        control.apply(&configuration("RouteReflector"))?;
        figures.extend(observer.observe("reflectors away")?);
        Ok(figures)
    })
}

fn configuration(topology: &str) -> String {
    format!(
        "{{apiVersion: routelet.dev/v1alpha1, kind: BGPConfiguration, metadata: {{name: default}}, spec: {{topology: {topology}}}}}"
    )
}

struct Observer<'lab> {
    lab: &'lab Lab,
    control: &'lab ControlPlane<'lab>,
    node: &'lab Container,
    nodes: usize,
    span: Duration,
}

impl Observer<'_> {
    /// Starts the daemon, looks at it for a while, and ends it.
    fn observe(&self, what: &str) -> Result<Vec<f64>> {
        let octets = received(&self.process()?)?;
        let before = self.control.requests()?;
        let complete = self.start()?;
        let of_start = self.requests_since(&before, what, "start")?;
        let octets = received(&self.process()?)? - octets;

        let before = self.control.requests()?;
        let idle = self.share_of_processor(|| {
            pause(self.span);
            Ok(())
        })?;
        let asked = self.requests_since(&before, what, "idle")?;
        let usage = Usage::of(&self.process()?)?;
        let beside_others = self.share_of_processor(|| self.heartbeats())?;

        self.lab.stop(NODE, Signal::SIGTERM)?;
        let before = self.control.requests()?;
        self.start()?;
        let of_restart = self.requests_since(&before, what, "restart")?;
        self.lab.stop(NODE, Signal::SIGTERM)?;
        let megabytes = |mebibytes: f64| mebibytes * 1.048_576;
        Ok(vec![
            megabytes(usage.memory),
            megabytes(usage.peak),
            idle * 100.0,
            beside_others * 100.0,
            complete.as_secs_f64(),
            of_start,
            octets / 1e6,
            of_restart,
            asked * 60.0 / self.span.as_secs_f64(),
        ])
    }

    /// Starts it and waits until it has calmed down; how long its first sync took.
    fn start(&self) -> Result<Duration> {
        let start = now();
        self.lab.start(NODE)?;
        eventually(LIMIT, "the first sync is done", || {
            let status = self.node.routelet(&["status"])?;
            ensure!(
                status.pointer("/complete") == Some(&true.into()),
                "{status}"
            );
            Ok(())
        })?;
        let took = start.elapsed();
        pause(SETTLE);
        Ok(took)
    }

    /// Its folder in `/proc`; that of the container's first process where it does not run yet.
    fn process(&self) -> Result<std::path::PathBuf> {
        let pid = std::fs::read_to_string(self.node.path("/run/lab.pid"));
        let pid = pid.as_deref().map_or("1", str::trim);
        let folder = self.node.path(&format!("/proc/{pid}"));
        Ok(if folder.exists() {
            folder
        } else {
            self.node.path("/proc/1")
        })
    }

    fn share_of_processor(&self, meanwhile: impl FnOnce() -> Result<()>) -> Result<f64> {
        let process = self.process()?;
        let before = Usage::of(&process)?.cpu;
        let start = now();
        meanwhile()?;
        let span = start.elapsed();
        let used = Usage::of(&process)?.cpu - before;
        Ok(used.as_secs_f64() / span.as_secs_f64())
    }

    fn requests_since(&self, before: &audit::Requests, what: &str, when: &str) -> Result<f64> {
        let asked = audit::since(before, &self.control.requests()?);
        eprintln!("    {what}, {when}: {asked:?}");
        Ok(asked.values().sum::<usize>() as f64)
    }

    /// What all kubelets write in this time.
    fn heartbeats(&self) -> Result<()> {
        let interval = REPORT / u32::try_from(self.nodes)?;
        let start = now();
        for turn in 1_u32.. {
            let due = interval * turn;
            if due > self.span {
                break;
            }
            pause(due.saturating_sub(start.elapsed()));
            let number = 2 + turn as usize % (self.nodes - 1);
            let heartbeat = format!("2026-01-01T01:{:02}:{:02}Z", turn / 60 % 60, turn % 60);
            let status = json!({"status": {"conditions": conditions(&heartbeat)}});
            let path = format!("/api/v1/nodes/{}/status", name(number));
            let merge = "application/merge-patch+json";
            let answer = self
                .control
                .ask_as("PATCH", &path, merge, &status.to_string())?;
            ensure!(answer.code == 200, "{path}: {answer:?}");
        }
        Ok(())
    }
}

/// Octets that came in on the node's uplink.
fn received(process: &Path) -> Result<f64> {
    let text = std::fs::read_to_string(process.join("net/dev"))?;
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("eth1:"));
    let octets = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    octets.with_context(|| format!("no eth1 in {text}"))
}

fn populate(control: &ControlPlane<'_>, nodes: usize) -> Result<()> {
    let create = |number| {
        let object = node(number).to_string();
        let answer = control.ask("POST", "/api/v1/nodes", &object)?;
        ensure!(answer.code == 201, "{}: {answer:?}", name(number));
        Ok(())
    };
    thread::scope(|scope| {
        let part = |first| move || (first..=nodes).step_by(WRITERS).try_for_each(create);
        let writers: Vec<_> = (2..2 + WRITERS)
            .map(|first| scope.spawn(part(first)))
            .collect();
        for writer in writers {
            writer.join().map_err(|_| anyhow!("panicked"))??;
        }
        Ok(())
    })
}

fn name(number: usize) -> String {
    format!(
        "ip-10-0-{}-{}.compute.internal",
        16 + number / 250,
        1 + number % 250
    )
}

/// A Node as a kubelet and a cloud's controller leave it, about 5 kB.
fn node(number: usize) -> Value {
    let name = name(number);
    let (high, low) = (64 + number / 256, number % 256);
    let pods = [
        format!("10.{high}.{low}.0/24"),
        format!("fd00:20:0:{number:x}::/64"),
    ];
    let images: Vec<Value> = (0..10)
        .map(|image| {
            let repository = format!("registry.example.com/team-{image}/service");
            json!({"names": [format!("{repository}@sha256:{number:032x}{image:032x}"), format!("{repository}:v1.{image}.0")], "sizeBytes": 50_000_000 + image})
        })
        .collect();
    let resources = json!({"cpu": "8", "ephemeral-storage": "104845292Ki", "hugepages-1Gi": "0", "hugepages-2Mi": "0", "memory": "32386544Ki", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "kubernetes.io/hostname": name,
                "node.kubernetes.io/instance-type": "m5.2xlarge",
                "topology.kubernetes.io/region": "eu-1", "topology.kubernetes.io/zone": format!("eu-1{}", number % 3),
                "rack": format!("r{}", number / 40),
            },
            "annotations": {
                "csi.volume.kubernetes.io/nodeid": format!("{{\"csi.example.com\":\"{name}\"}}"),
                "node.alpha.kubernetes.io/ttl": "300",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
        },
        "spec": {"podCIDR": pods[0], "podCIDRs": pods, "providerID": format!("example:///{name}")},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": format!("10.0.{}.{}", 16 + number / 250, 1 + number % 250)},
                {"type": "InternalIP", "address": format!("fd00:10::1:{number:x}")},
                {"type": "Hostname", "address": name},
            ],
            "allocatable": resources, "capacity": resources,
            "conditions": conditions("2026-01-01T00:00:00Z"),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": images,
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "osImage": "Debian GNU/Linux 12 (bookworm)",
                "bootID": format!("{number:032x}"), "machineID": format!("{number:032x}"), "systemUUID": format!("{number:032x}"),
                "containerRuntimeVersion": "containerd://2.1.4", "kernelVersion": "6.1.0-39-amd64",
                "kubeletVersion": "v1.36.3", "kubeProxyVersion": "",
            },
        },
    })
}

fn conditions(heartbeat: &str) -> Value {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": heartbeat, "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    json!([
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available"
        ),
        condition(
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure"
        ),
        condition(
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available"
        ),
        condition(
            "Ready",
            "True",
            "KubeletReady",
            "kubelet is posting ready status"
        ),
    ])
}
