//! A Kubernetes control plane in a lab: etcd, kube-apiserver and kube-controller-manager on one of its nodes, and kubectl to talk to it; or where
//! these are not at hand, a stand-in.
//!
//! ```text
//! Segment::control_plane(250) → Lab ── ControlPlane::start ─┬─ etcd, kube-apiserver, kube-controller-manager   (server.rs)
//!                                                           ├─ certificates, kubeconfigs                       (identity.rs)
//!                                                           ├─ ask, get: HTTP on a socket                      (proxy.rs)
//!                                                           ├─ create, apply, patch, delete                    (write.rs)
//!                                                           ├─ join, place: what a kubelet would do            (kubelet.rs)
//!                                                           ├─ says, event: what daemons told                  (told.rs)
//! topologies/cluster.clab.yml → Lab ── ControlPlane::of ────┴─ and all its nodes join                          (topology.rs)
//! ```

pub mod audit;
mod identity;
mod kubelet;
pub mod object;
pub mod programs;
mod proxy;
mod server;
mod told;
mod topology;
mod write;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use self::identity::{Authority, FOLDER};
pub use self::kubelet::{Account, DAEMON, EVERYTHING};
pub use self::proxy::Answer;
use self::proxy::Proxy;
pub use self::server::{CLUSTER_CIDRS, Make, SERVICE_CIDRS, Server};
pub use self::told::{NetworkWatch, TOLD};
pub use self::write::{ours, v1};
use crate::container::Container;
use crate::converge::Cluster;
use crate::lab::Lab;
use crate::segment::{CONTROL_PLANE, Segment, addresses};
use crate::shell::{self, Background, Output};
use crate::story::{last_lines, tell_in};
use crate::wait::eventually;

/// How long the servers may take to answer, and their watches to be back after a restart, on a busy machine.
const START: Duration = Duration::from_secs(120);

/// A running control plane. Dropping it ends its servers.
#[derive(Debug)]
pub struct ControlPlane<'lab> {
    make: Make,
    lab: &'lab Lab,
    host: &'lab Container,
    addresses: Vec<String>,
    authority: Authority,
    servers: Mutex<BTreeMap<Server, Background>>,
    lifetime: Lifetime,
    proxy: Proxy,
}

/// Everything an API server at `addresses` is called.
fn names(addresses: &[String]) -> Vec<&str> {
    let addresses = addresses.iter().map(String::as_str);
    addresses.chain(server::OWN_SERVICE).collect()
}

/// How long the servers of a control plane run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as whoever started them; they can be ended one by one.
    Story,
    /// As long as the lab, which may be left up.
    Lab,
}

/// The name of its node.
const HOST: &str = "control";

/// What a story may need that the stand-in does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// What kubectl prints.
    Kubectl,
    /// RBAC, tokens that open something and admission.
    Rights,
    /// What definitions demand of objects: schemas and CEL.
    Rules,
    /// Controllers that can be away while the API server is there.
    Controllers,
}

/// A story on the stand-in asks something of kubectl.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoKubectl(String);

impl std::fmt::Display for NoKubectl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is no kubectl to ask: {}", self.0)
    }
}

impl std::error::Error for NoKubectl {}

/// Brings `segment` up with a control plane on it, lets `tell` run, and takes it down. Where the real programs are missing, the stand-in takes
/// their place, and the story says so.
///
/// # Panics
/// If the story fails, after showing what the cluster and its nodes have to say.
pub fn story(segment: Segment, tell: impl FnOnce(&Lab, &ControlPlane<'_>) -> Result<()>) {
    match programs::folder() {
        Ok(_) => story_on(Make::Real, segment, tell),
        Err(why) => {
            // tests/run counts both: what was skipped, and what was told instead.
            println!("skipped: on the real API server: {why:#}");
            story_on(Make::Fake, segment, |lab, control| {
                match tell(lab, control) {
                    Err(error) if error.is::<NoKubectl>() => {
                        println!("nor on the stand-in: {error:#}");
                        Ok(())
                    }
                    told => {
                        println!("instead: on the stand-in");
                        told
                    }
                }
            });
        }
    }
}

/// As [`story`], but skipped where the real programs are missing.
///
/// # Panics
/// If the story fails.
pub fn real_story(
    needs: Needs,
    segment: Segment,
    tell: impl FnOnce(&Lab, &ControlPlane<'_>) -> Result<()>,
) {
    match programs::folder() {
        Ok(_) => story_on(Make::Real, segment, tell),
        Err(why) => println!("skipped: {} and {why:#}", needs.words()),
    }
}

/// As [`story`], on that make.
///
/// # Panics
/// If the story fails.
#[expect(clippy::panic, reason = "that is how a test fails")]
pub fn story_on(
    make: Make,
    segment: Segment,
    tell: impl FnOnce(&Lab, &ControlPlane<'_>) -> Result<()>,
) {
    let programs = match make {
        Make::Real => programs::real(),
        Make::Fake => programs::fake().map(|program| vec![program]),
    };
    let programs = programs.unwrap_or_else(|error| panic!("{error:#}"));
    let segment = segment.control_plane(HOST, &programs);
    tell_in(segment.lab(), |lab| {
        let addresses = addresses(CONTROL_PLANE);
        let control = ControlPlane::start(make, lab, HOST, &addresses, Lifetime::Story)?;
        tell(lab, &control).inspect_err(|_| control.autopsy())
    });
}

impl Needs {
    fn words(self) -> &'static str {
        match self {
            Self::Kubectl => "kubectl is asked,",
            Self::Rights => "rights are the real API server's alone,",
            Self::Rules => "the rules of definitions are the real API server's alone,",
            Self::Controllers => "the stand-in's controllers are never away,",
        }
    }
}

/// Brings `segment` up with a real control plane on it for as long as `tell` runs.
pub fn with_control_plane<T>(
    segment: Segment,
    tell: impl FnOnce(&Lab, &ControlPlane<'_>) -> Result<T>,
) -> Result<T> {
    let lab = segment.control_plane(HOST, &programs::real()?).lab()?;
    let addresses = addresses(CONTROL_PLANE);
    let control = ControlPlane::start(Make::Real, &lab, HOST, &addresses, Lifetime::Story)?;
    tell(&lab, &control)
}

impl<'lab> ControlPlane<'lab> {
    /// Starts the servers on the node `host`, whose `addresses` the other nodes reach, and waits until they are ready.
    pub fn start(
        make: Make,
        lab: &'lab Lab,
        host: &str,
        addresses: &[String],
        lifetime: Lifetime,
    ) -> Result<Self> {
        let authority = Authority::new()?;
        let host = lab.node(host)?;
        authority.furnish(&host.path(FOLDER), &names(addresses))?;
        let control = Self {
            make,
            lab,
            host,
            addresses: addresses.to_vec(),
            authority,
            servers: Mutex::default(),
            lifetime,
            proxy: Proxy::start(make, host, &lab.folder.join(&host.name).join("proxy.log"))?,
        };
        let launch = || {
            control.launch(Server::Etcd)?;
            control.launch(Server::Api)?;
            control.ready()?;
            // It gives up where no API server is ready in time.
            control.launch(Server::Controllers)
        };
        launch().inspect_err(|_| control.autopsy())?;
        Ok(control)
    }

    /// The name of its node.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host.name
    }

    /// Starts a server that does not run. It may take a while until it answers: see [`ControlPlane::ready`].
    pub fn launch(&self, server: Server) -> Result<()> {
        let address = self.addresses.first().context("a node has an address")?;
        let Some(words) = server.words(self.make, address) else {
            return Ok(());
        };
        let mut command = match self.lifetime {
            Lifetime::Story => self.host.tool(&words),
            Lifetime::Lab => self.host.command(&words),
        };
        // Several control planes share a small machine: memory before speed.
        command.env("GOMAXPROCS", "2").env("GOGC", "50");
        let log = self.log(server);
        self.servers()
            .insert(server, Background::logged(&mut command, &log)?);
        Ok(())
    }

    /// Ends a server by `signal`, and waits for its end.
    pub fn end(&self, server: Server, signal: Signal) -> Result<()> {
        let running = self
            .servers()
            .remove(&server)
            .with_context(|| format!("{} does not run", server.name()))?;
        running.stop(signal)?;
        Ok(())
    }

    /// Sends `signal` to a server, which may go on after it.
    pub fn signal(&self, server: Server, signal: Signal) -> Result<()> {
        let servers = self.servers();
        let running = servers
            .get(&server)
            .with_context(|| format!("{} does not run", server.name()))?;
        running.signal(signal)
    }

    /// Gives the API server another certificate of the same authority.
    pub fn renew_certificate(&self) -> Result<()> {
        let folder = self.host.path(FOLDER);
        self.authority.certify(&folder, &names(&self.addresses))
    }

    /// Lets etcd forget everything but how things are now: no watch can be resumed from what was before.
    pub fn compact(&self) -> Result<()> {
        if self.make == Make::Fake {
            return self.ask("GET", "/forget", "").map(drop);
        }
        let etcd = |what: &str, question: &Value| {
            let url = format!("http://127.0.0.1:2379/v3/kv/{what}");
            let question = question.to_string();
            let said = self.host.run(&["curl", "-fsS", &url, "-d", &question])?;
            anyhow::Ok(serde_json::from_str::<Value>(&said)?)
        };
        // Any key will do: the answer bears the revision.
        let now = etcd("range", &json!({"key": "Lw==", "limit": "1"}))?;
        let revision = now.pointer("/header/revision").context("a revision")?;
        etcd(
            "compaction",
            &json!({"revision": revision, "physical": true}),
        )
        .map(drop)
    }

    /// Waits until the API server calls itself ready.
    pub fn ready(&self) -> Result<()> {
        eventually(START, "the API server is ready", || {
            for (server, running) in self.servers().iter_mut() {
                // Nothing to wait for: the caller shows why.
                if let Some(code) = running.ended()? {
                    return Ok(Err(format!("{} ended ({code})", server.name())));
                }
            }
            self.get("/readyz").map(|_| Ok(()))
        })?
        .map_err(anyhow::Error::msg)
    }

    /// Puts a request to the API server as the cluster's administrator.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        self.proxy.ask(method, path, "application/json", body)
    }

    /// As [`ControlPlane::ask`], with a body of that media type.
    pub fn ask_as(&self, method: &str, path: &str, media_type: &str, body: &str) -> Result<Answer> {
        self.proxy.ask(method, path, media_type, body)
    }

    /// What stands at `path`.
    pub fn get(&self, path: &str) -> Result<Value> {
        let answer = self.ask("GET", path, "")?;
        ensure!(answer.code == 200, "{path}: {answer:?}");
        Ok(serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body)))
    }

    /// Runs kubectl as the cluster's administrator; what it prints.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.kubectl_with(words, "")
    }

    /// As [`ControlPlane::kubectl`], with `input` as its standard input.
    pub fn kubectl_with(&self, words: &[&str], input: &str) -> Result<String> {
        if self.make == Make::Fake {
            return Err(NoKubectl(words.join(" ")).into());
        }
        shell::run_with(&mut self.command(words), input)
    }

    /// kubectl with nothing but a bearer token, to its end.
    pub fn kubectl_as(&self, token: &str, words: &[&str]) -> Result<Output> {
        let authority = format!("--certificate-authority={FOLDER}/ca.crt");
        let token = format!("--token={token}");
        let nobody = [
            "kubectl",
            "--kubeconfig=/dev/null",
            "--server=https://127.0.0.1:6443",
            &authority,
            &token,
        ];
        let all: Vec<&str> = nobody.iter().chain(words).copied().collect();
        self.host.output(&all)
    }

    /// A kubectl that is yet to be started.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> std::process::Command {
        let admin = format!("--kubeconfig={FOLDER}/admin.conf");
        let all: Vec<&str> = ["kubectl", &admin, "--request-timeout=20s"]
            .iter()
            .chain(words)
            .copied()
            .collect();
        self.host.command(&all)
    }

    /// The pod CIDRs of a node, once it has them.
    pub fn pod_cidrs(&self, node: &str) -> Result<Vec<String>> {
        let what = format!("{node} gets its pod CIDRs");
        eventually(START, &what, || {
            let object = self.get(&format!("/api/v1/nodes/{node}"))?;
            let cidrs = object.pointer("/spec/podCIDRs").context("it has none")?;
            Ok(serde_json::from_value(cidrs.clone())?)
        })
    }

    /// The nodes of the lab that the API server knows, once all of them have their pod CIDRs.
    pub fn cluster(&self) -> Result<Cluster<'lab>> {
        let nodes = eventually(START, "all nodes have pod CIDRs", || {
            let nodes = self.get("/api/v1/nodes")?;
            let items = nodes.get("items").and_then(Value::as_array);
            let mut items = items.context("a list has items")?.clone();
            // An object in a list does not say its kind.
            for object in items.iter_mut().filter_map(Value::as_object_mut) {
                object.insert("kind".into(), "Node".into());
            }
            let without = items
                .iter()
                .find(|node| node.pointer("/spec/podCIDRs").is_none());
            ensure!(without.is_none(), "{without:?}");
            Ok(items)
        })?;
        Cluster::registered(self.lab, &nodes)
    }

    /// The most memory a server had so far, in MiB.
    pub fn peak_memory(&self, server: Server) -> Result<u64> {
        let pid = self
            .servers()
            .get(&server)
            .map(Background::pid)
            .with_context(|| format!("{} does not run", server.name()))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next())
            .context("VmHWM")?;
        Ok(peak.parse::<u64>()? / 1024)
    }

    /// What a server has to say for itself.
    #[must_use]
    pub fn log(&self, server: Server) -> std::path::PathBuf {
        let name = format!("{}.log", server.name());
        self.lab.folder.join(&self.host.name).join(name)
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<Server, Background>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the servers run on: they end with their lab.
    pub fn leave(self) {
        for server in std::mem::take(&mut *self.servers()).into_values() {
            server.leave();
        }
    }

    /// Everything of the cluster that may explain a failure, on standard output.
    pub fn autopsy(&self) {
        for words in [
            &["get", "nodes", "-o", "wide"][..],
            &["get", "pods", "-A", "-o", "wide"],
            &["get", "events", "-A"],
            &["get", "bgpnodes,bgppeers,bgpconfigurations", "-o", "yaml"],
        ] {
            if self.make == Make::Fake {
                break;
            }
            println!("\n# kubectl {}", words.join(" "));
            if let Ok(done) = shell::output(&mut self.command(words), "") {
                println!("{}{}", done.stdout, done.stderr);
            }
        }
        for path in [
            "/api/v1/nodes",
            "/apis/events.k8s.io/v1/events",
            &ours("bgpnodes", ""),
        ] {
            if self.make == Make::Fake {
                println!("\n# {path}\n{:#}", self.get(path).unwrap_or_default());
            }
        }
        for server in [Server::Etcd, Server::Api, Server::Controllers] {
            let said = std::fs::read_to_string(self.log(server)).unwrap_or_default();
            println!(
                "\n---- {} said last:\n{}",
                server.name(),
                last_lines(&said, 20)
            );
        }
    }
}
