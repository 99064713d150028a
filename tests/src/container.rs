//! A container without a container engine: one network namespace, and mounts, processes and host name of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::clab::Bind;
use crate::shell::{self, Background, Output};

/// A process that is still the same one: its id and its start time, in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// As the host sees it.
    pub pid: i32,
    started: u64,
}

impl Process {
    /// The process `pid` as it is now.
    pub fn of(pid: i32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("process {pid}"))?;
        // The name in parentheses may hold anything: count from the last one. The start time is field 22, the state field 3.
        let after = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest)
            .with_context(|| stat.clone())?;
        let started = after
            .split_whitespace()
            .nth(19)
            .and_then(|field| field.parse().ok())
            .context("start time")?;
        Ok(Self { pid, started })
    }

    /// Does it still run?
    #[must_use]
    pub fn alive(self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == self)
    }

    /// Ends it without asking. In a pid namespace's first process this ends all the others too.
    pub fn kill(self) {
        if self.alive() {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }
}

/// A running container.
#[derive(Debug)]
pub struct Container {
    /// The node's name in the topology.
    pub name: String,
    /// Its network namespace, by the name `ip netns` knows.
    pub netns: String,
    /// The first process inside.
    pub init: Process,
    env: BTreeMap<String, String>,
    engine: Background,
}

/// What a container is made from.
#[derive(Debug)]
pub struct Recipe<'a> {
    /// The node's name.
    pub name: &'a str,
    /// An existing network namespace.
    pub netns: &'a str,
    /// Inside.
    pub hostname: &'a str,
    /// What to mount where.
    pub binds: &'a [Bind],
    /// For everything that runs inside.
    pub env: &'a BTreeMap<String, String>,
    /// A folder of this machine for this container alone.
    pub folder: &'a Path,
}

/// What a container may write to without the machine noticing. Anything else is shared with the machine.
const PRIVATE: [&str; 6] = ["/etc", "/var", "/usr/local", "/root", "/opt", "/srv"];

impl Container {
    /// Starts the first process, and waits until all mounts are in place.
    pub fn start(recipe: &Recipe<'_>) -> Result<Self> {
        let scratch = recipe.folder.join("scratch");
        std::fs::create_dir_all(&scratch)?;
        let script = recipe.folder.join("init.sh");
        std::fs::write(&script, init_script(recipe, &scratch)?)?;
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(recipe.folder.join("log"))?;
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            recipe.netns,
            "unshare",
            "--mount",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
            "bash",
        ]);
        command.arg(&script).stdout(Stdio::piped()).stderr(log);
        let mut engine = Background::start(&mut command)?;
        let mut line = String::new();
        if let Some(stdout) = engine.child().stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let told = || std::fs::read_to_string(recipe.folder.join("log")).unwrap_or_default();
        let pid = line
            .trim()
            .parse()
            .with_context(|| format!("container {} did not start: {}", recipe.name, told()))?;
        Ok(Self {
            name: recipe.name.to_owned(),
            netns: recipe.netns.to_owned(),
            init: Process::of(pid)?,
            env: recipe.env.clone(),
            engine,
        })
    }

    /// A command that runs inside, as `docker exec` would.
    pub fn command<S: AsRef<str>>(&self, words: &[S]) -> Command {
        let mut command = enter(self.init.pid);
        command.arg("--").arg("env");
        command.args(self.env.iter().map(|(key, value)| format!("{key}={value}")));
        command.args(words.iter().map(AsRef::as_ref));
        command
    }

    /// A long-running tool in the container's network and mounts whose process id is its own, so that it can be signalled.
    /// It ends with the thread that started it.
    pub fn tool<S: AsRef<str>>(&self, words: &[S]) -> Command {
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "nsenter",
            "--target",
            &self.init.pid.to_string(),
            "--net",
            "--mount",
            "--",
        ]);
        command.args(words.iter().map(AsRef::as_ref));
        command
    }

    /// Runs `words` to its end; its standard output.
    pub fn run<S: AsRef<str>>(&self, words: &[S]) -> Result<String> {
        shell::run(&mut self.command(words)).with_context(|| format!("on {}", self.name))
    }

    /// Runs `words` to its end, whatever its exit code.
    pub fn output<S: AsRef<str>>(&self, words: &[S]) -> Result<Output> {
        shell::output(&mut self.command(words), "")
    }

    /// Runs a line of shell.
    pub fn sh(&self, line: &str) -> Result<String> {
        self.run(&["bash", "-c", line])
    }

    /// A path of the container, as this machine reaches it.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init.pid))
    }

    /// Ends everything inside.
    pub fn stop(self) -> Result<()> {
        self.init.kill();
        self.engine.stop(Signal::SIGKILL)?;
        Ok(())
    }

    /// Lets it run on when the lab's process ends.
    pub fn leave(self) {
        self.engine.leave();
    }
}

/// A command that enters all namespaces of the container whose first process is `pid`.
#[must_use]
pub fn enter(pid: i32) -> Command {
    let mut command = Command::new("nsenter");
    command.args([
        "--target",
        &pid.to_string(),
        "--net",
        "--mount",
        "--uts",
        "--pid",
    ]);
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command
}

/// The scratch tmpfs holds the upper layers and, while the view of the machine is still whole, handles on what is to be bound.
fn init_script(recipe: &Recipe<'_>, scratch: &Path) -> Result<String> {
    let scratch = scratch.display();
    let mut script = format!(
        r#"set -eu
read -r outer _ </proc/self/stat
mount --make-rprivate /
hostname {hostname}
mount -t tmpfs -o mode=755 lab {scratch}
cd {scratch}
mkdir run run/lab run/netns run/frr run/bird run/lock binds
"#,
        hostname = quote(recipe.hostname)
    );
    for (number, bind) in recipe.binds.iter().enumerate() {
        let make = if bind.source.is_dir() {
            "mkdir"
        } else {
            "touch"
        };
        writeln!(
            script,
            "{make} binds/{number}; mount --bind {} binds/{number}",
            quote(&bind.source.display().to_string())
        )?;
    }
    for folder in PRIVATE {
        let name = folder.trim_start_matches('/').replace('/', "-");
        writeln!(
            script,
            "[ ! -d {folder} ] || {{ mkdir -p layer/{name} work/{name}; \
             mount -t overlay overlay -o lowerdir={folder},upperdir={scratch}/layer/{name},workdir={scratch}/work/{name} {folder}; }}"
        )?;
    }
    script.push_str(
        "getent passwd frr >/dev/null && chown frr:frr run/frr\n\
         mount --rbind . run/lab\n\
         mount --rbind run /run\n\
         mount -t tmpfs -o mode=1777 tmp /tmp\n\
         mount -t proc proc /proc\n\
         # What a container runtime brings.\n\
         mkdir -p /etc/cni/net.d\n",
    );
    for (number, bind) in recipe.binds.iter().enumerate() {
        let target = quote(&bind.target.display().to_string());
        let make = if bind.source.is_dir() {
            "mkdir -p"
        } else {
            "touch"
        };
        writeln!(
            script,
            "mkdir -p \"$(dirname {target})\"; [ -e {target} ] || {make} {target}; mount --bind /run/lab/binds/{number} {target}"
        )?;
        if bind.read_only {
            writeln!(script, "mount -o remount,bind,ro {target}")?;
        }
    }
    // bash, unlike sleep, reaps the daemons that are handed to it.
    script.push_str(
        "cd /\necho \"$outer\"\nexec >/dev/null 2>&1 </dev/null\nsleep infinity &\nwait\n",
    );
    Ok(script)
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
