//! A topology brought to life, and taken down without a trace.

mod copy;
mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

pub use state::{State, sweep};

use crate::clab::{Bind, End, Kind, Link, Network, Node, Topology};
use crate::container::{Container, Recipe};
use crate::kubernetes::programs;
use crate::overheard::Overheard;
use crate::program::{Program, waits_for_kubelet};
use crate::shell::{self, Background};
use crate::wait::{eventually, pause};

/// How a lab is to be brought up.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Replaces the prefix of namespace names, so that the same topology can be up several times.
    pub prefix: Option<String>,
    /// The routelet to run; by default the one that `ROUTELET` names, or that was built beside this program.
    pub routelet: Option<PathBuf>,
    /// Shows each step on standard error.
    pub verbose: bool,
    /// Captures all that the routelets say.
    pub overhear: bool,
}

/// A running lab. Dropping it takes it down.
#[derive(Debug)]
pub struct Lab {
    /// What it was made from.
    pub topology: Topology,
    /// Logs and scratch files.
    pub folder: PathBuf,
    state: State,
    containers: BTreeMap<String, Container>,
    daemons: Mutex<BTreeMap<String, Background>>,
    overheard: Option<Overheard>,
    verbose: bool,
}

impl Lab {
    /// Brings `topology` up. Whatever an earlier run under the same name left is removed first.
    ///
    /// # Errors
    /// If another process is running a lab of that name, or a step fails.
    pub fn up(topology: Topology, options: Options) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the lab makes network namespaces: run it as root"
        );
        let prefix = options
            .prefix
            .clone()
            .unwrap_or_else(|| topology.prefix.clone());
        let id = if prefix.ends_with(&format!("{}-", topology.name)) {
            prefix.trim_end_matches('-').to_owned()
        } else {
            format!("{prefix}{}", topology.name)
        };
        if options.verbose && State::open(&id).is_ok_and(|earlier| earlier.kept()) {
            eprintln!("  {}: taking down the one that was left up", topology.name);
        }
        let state = State::claim(&id, &topology, &prefix)?;
        let mut lab = Self {
            folder: state::folder(&id),
            topology,
            state,
            containers: BTreeMap::new(),
            daemons: Mutex::default(),
            overheard: None,
            verbose: options.verbose,
        };
        lab.build(&options)
            .inspect_err(|_| lab.tell("bringing it up failed"))?;
        Ok(lab)
    }

    fn build(&mut self, options: &Options) -> Result<()> {
        let topology = self.topology.clone();
        for note in &topology.notes {
            self.tell(note);
        }
        let programs = topology
            .nodes
            .values()
            .map(|node| Ok((node, Program::of(node)?)))
            .collect::<Result<Vec<_>>>()?;
        let brought = brought(&programs, options)?;

        self.tell("namespaces");
        for netns in self.state.namespaces() {
            shell::run(std::process::Command::new("ip").args(["netns", "add", &netns]))?;
        }
        for (node, program) in &programs {
            if *program != Program::Bridge {
                let of_image = brought.iter().filter(|(of, _)| of == program);
                let container = self.contain(node, of_image.map(|(_, bind)| bind))?;
                self.state.started(&node.name, container.init)?;
                self.containers.insert(node.name.clone(), container);
            }
        }
        self.tell("links");
        self.connect()?;
        if options.overhear {
            self.overheard = Some(self.overhear()?);
        }
        self.tell("programs");
        let mut order = programs.clone();
        order.sort_by_key(|(node, _)| (node.startup_delay, node.network != Network::Own));
        let mut waited = 0;
        for (node, _) in order {
            pause(Duration::from_secs(
                node.startup_delay.saturating_sub(waited),
            ));
            waited = waited.max(node.startup_delay);
            if !waits_for_kubelet(node) {
                self.start(&node.name)?;
            }
        }
        self.tell("exec");
        for node in topology.nodes.values() {
            for words in &node.exec {
                self.node(&node.name)?.run(words)?;
            }
        }
        Ok(())
    }

    fn overhear(&self) -> Result<Overheard> {
        let mut overheard = Overheard::default();
        for name in self.running(Program::Routelet) {
            let file = self.folder.join(&name).join("said.pcap");
            overheard.listen(self.node(&name)?, &file)?;
        }
        Ok(overheard)
    }

    /// What its routelets have said since they were started, if anybody has listened.
    pub const fn overheard(&mut self) -> Option<Overheard> {
        self.overheard.take()
    }

    fn contain<'a>(
        &self,
        node: &Node,
        of_image: impl Iterator<Item = &'a Bind>,
    ) -> Result<Container> {
        let folder = self.folder.join(&node.name);
        std::fs::create_dir_all(&folder)?;
        let mut binds = node.binds.clone();
        binds.extend(of_image.cloned());
        let netns = self.netns(&node.name)?;
        let container = Container::start(&Recipe {
            name: &node.name,
            netns: &netns,
            hostname: &node.hostname,
            binds: &binds,
            env: &node.env,
            folder: &folder,
        })?;
        if !node.sysctls.is_empty() {
            let settings = node
                .sysctls
                .iter()
                .map(|(key, value)| format!("{key}={value}"));
            let words: Vec<String> = ["sysctl".to_owned(), "-q".into(), "-w".into()]
                .into_iter()
                .chain(settings)
                .collect();
            container.run(&words)?;
        }
        Ok(container)
    }

    /// The links first, then what is to be done inside each namespace.
    fn connect(&self) -> Result<()> {
        let ip = || std::process::Command::new("ip");
        let mut pairs = String::new();
        let mut inside: BTreeMap<String, String> = self
            .state
            .namespaces()
            .into_iter()
            .map(|netns| (netns, "link set lo up\n".to_owned()))
            .collect();
        for node in self
            .topology
            .nodes
            .values()
            .filter(|node| node.kind == Kind::Bridge)
        {
            let lines = inside.entry(self.netns(&node.name)?).or_default();
            *lines += &format!("link add {0} type bridge\nlink set {0} up\n", node.name);
        }
        for Link { ends: [a, b], mtu } in &self.topology.links {
            let end = |end: &End| {
                let address = end
                    .mac
                    .as_ref()
                    .map(|mac| format!(" address {mac}"))
                    .unwrap_or_default();
                let netns = self.netns(&end.node)?;
                anyhow::Ok(format!(
                    "{} netns {netns} mtu {mtu}{address}",
                    end.interface
                ))
            };
            pairs += &format!("link add {} type veth peer name {}\n", end(a)?, end(b)?);
            for end in [a, b] {
                let lines = inside.entry(self.netns(&end.node)?).or_default();
                if self.topology.node(&end.node)?.kind == Kind::Bridge {
                    *lines += &format!("link set {} master {}\n", end.interface, end.node);
                }
                *lines += &format!("link set {} up\n", end.interface);
            }
        }
        shell::run_with(ip().args(["-batch", "-"]), &pairs)?;
        for (netns, lines) in inside {
            shell::run_with(ip().args(["-n", &netns, "-batch", "-"]), &lines)?;
        }
        Ok(())
    }

    fn netns(&self, node: &str) -> Result<String> {
        Ok(match &self.topology.node(node)?.network {
            Network::Own => self.state.netns(node),
            Network::Of(other) => self.state.netns(other),
        })
    }

    /// The container of a node.
    pub fn node(&self, name: &str) -> Result<&Container> {
        self.containers
            .get(name)
            .with_context(|| format!("no container {name} in {}", self.topology.name))
    }

    /// All containers.
    pub fn nodes(&self) -> impl Iterator<Item = &Container> {
        self.containers.values()
    }

    /// The names of the nodes that run `program`.
    #[must_use]
    pub fn running(&self, program: Program) -> Vec<String> {
        let runs = |node: &&Node| Program::of(node).is_ok_and(|its| its == program);
        self.topology
            .nodes
            .values()
            .filter(runs)
            .map(|node| node.name.clone())
            .collect()
    }

    /// Starts the program of a node, as at the beginning.
    pub fn start(&self, name: &str) -> Result<()> {
        let node = self.topology.node(name)?;
        let program = Program::of(node)?;
        if let Some(words) = program.background() {
            let container = self.node(name)?;
            let log = std::fs::File::options()
                .create(true)
                .append(true)
                .open(self.log(name))?;
            let code = Background::start(
                container
                    .command(&words)
                    .stdout(log.try_clone()?)
                    .stderr(log),
            )?
            .wait()?;
            ensure!(
                code == 0,
                "{name}: {} failed ({code}): {}",
                words.join(" "),
                self.said(name)
            );
        }
        if let Some(words) = program.foreground(node) {
            self.spawn(name, &words)?;
        }
        Ok(())
    }

    /// Starts `words` as the daemon of a node, instead of what the topology says.
    pub fn spawn(&self, name: &str, words: &[String]) -> Result<()> {
        // The pid as the container sees it: `exec` keeps it.
        let mut line: Vec<String> = ["sh", "-c", "echo $$ >/run/lab.pid; exec \"$@\"", "sh"]
            .map(str::to_owned)
            .to_vec();
        line.extend_from_slice(words);
        let daemon = Background::logged(&mut self.node(name)?.command(&line), &self.log(name))?;
        self.daemons().insert(name.to_owned(), daemon);
        Ok(())
    }

    /// Sends a signal to the daemon of a node (BIRD or routelet).
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        self.node(name)?.sh(&format!(
            "kill -{} $(cat /run/lab.pid)",
            signal.as_str().trim_start_matches("SIG")
        ))?;
        // Who entered the namespaces for it stops with it, and would not see it end.
        match (signal, self.daemons().get(name)) {
            (Signal::SIGCONT, Some(entered)) => entered.signal(signal),
            _ => Ok(()),
        }
    }

    /// Sends a signal to the daemon of a node and waits until it has ended; its exit code.
    pub fn stop(&self, name: &str, signal: Signal) -> Result<i32> {
        let mut daemon = self
            .daemons()
            .remove(name)
            .with_context(|| format!("{name} runs no daemon"))?;
        self.signal(name, signal)?;
        eventually(
            Duration::from_secs(30),
            &format!("{name} ends after {signal}"),
            || {
                daemon
                    .ended()?
                    .with_context(|| format!("{name} still runs"))
            },
        )
    }

    /// The exit code of a node's daemon, if it has ended.
    pub fn ended(&self, name: &str) -> Result<Option<i32>> {
        self.daemons()
            .get_mut(name)
            .map_or(Ok(None), Background::ended)
    }

    /// Where the output of a node's daemon goes.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join(name).join("log")
    }

    /// What a node's daemon has said so far.
    #[must_use]
    pub fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.log(name)).unwrap_or_default()
    }

    fn daemons(&self) -> MutexGuard<'_, BTreeMap<String, Background>> {
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: &str) {
        if self.verbose {
            eprintln!("  {}: {what}", self.topology.name);
        }
    }

    /// Leaves the lab up when this process ends; [`State::open`] finds it again.
    pub fn keep(mut self) -> Result<()> {
        self.state.keep()?;
        for daemon in std::mem::take(&mut *self.daemons()).into_values() {
            daemon.leave();
        }
        for container in std::mem::take(&mut self.containers).into_values() {
            container.leave();
        }
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.daemons().clear();
        for container in std::mem::take(&mut self.containers).into_values() {
            let _ = container.stop();
        }
        self.state.clean();
    }
}

/// What the images of the lab bring that is not Debian's.
fn brought(nodes: &[(&Node, Program)], options: &Options) -> Result<Vec<(Program, Bind)>> {
    let wanted = |program| nodes.iter().any(|(_, its)| *its == program);
    let bind = |source, name| Bind {
        source,
        target: Path::new("/usr/local/bin").join(name),
        read_only: true,
    };
    let mut all = Vec::new();
    if wanted(Program::Routelet) {
        all.push((Program::Routelet, bind(routelet(options)?, "routelet")));
    }
    if wanted(Program::ControlPlane) {
        let folder = programs::folder()?;
        let binds = programs::NAMES.map(|name| bind(folder.join(name), name));
        all.extend(binds.map(|bind| (Program::ControlPlane, bind)));
    }
    Ok(all)
}

/// The routelet to run in the lab.
pub fn routelet(options: &Options) -> Result<PathBuf> {
    let named = options
        .routelet
        .clone()
        .or_else(|| std::env::var_os("ROUTELET").map(PathBuf::from));
    let binary = match named {
        Some(binary) => binary,
        // target/PROFILE/lab, or target/PROFILE/deps/stories-…
        None => {
            let me = std::env::current_exe()?;
            let beside = me
                .ancestors()
                .skip(1)
                .take(2)
                .map(|folder| folder.join("routelet"))
                .find(|path| path.is_file());
            beside.context(
                "no routelet beside this program: cargo build -p controller, or set ROUTELET",
            )?
        }
    };
    binary
        .canonicalize()
        .with_context(|| format!("no routelet at {}", binary.display()))
}
