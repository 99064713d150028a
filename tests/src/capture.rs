//! Packet captures, and questions about them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::ping::Sender;
use crate::shell::{self, Background};

/// Whatever wraps a packet in another: IPIP, SIT, GRE, EtherIP, IP-in-UDP of VXLAN, Geneve and GUE, ESP and WireGuard.
pub const ENCAPSULATED: &str = "(ip proto 4 or ip proto 41 or ip proto 47 or ip proto 50 or ip proto 97 or ip6 proto 4 or ip6 proto 41 or ip6 proto 47 or ip6 proto 50 \
     or udp port 4789 or udp port 8472 or udp port 6081 or udp port 6080 or udp port 51820)";

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Background,
    file: PathBuf,
}

/// A finished capture.
#[derive(Debug)]
pub struct Captured {
    file: PathBuf,
}

impl Capture {
    /// Captures what `filter` selects on `interface` into `file`; returns once it really listens.
    pub fn start(on: &dyn Sender, interface: &str, filter: &str, file: &Path) -> Result<Self> {
        Self::start_with(on, interface, &[], filter, file)
    }

    /// The same of what goes out only, not of what comes in.
    pub fn outgoing(on: &dyn Sender, interface: &str, filter: &str, file: &Path) -> Result<Self> {
        Self::start_with(on, interface, &["-Q", "out"], filter, file)
    }

    fn start_with(
        on: &dyn Sender,
        interface: &str,
        options: &[&str],
        filter: &str,
        file: &Path,
    ) -> Result<Self> {
        // Opened outside: the node has its own view of /run. Packets are flushed one by one, or the end of the capture would be lost.
        let sink = std::fs::File::create(file).with_context(|| file.display().to_string())?;
        let words: &[&str] = &[
            "tcpdump",
            "-n",
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
            "-B",
            "8192",
            "-i",
            interface,
            "-w",
            "-",
        ];
        let words = [words, options, &[filter]].concat();
        let mut tcpdump =
            Background::start(on.tool_in(&words).stdout(sink).stderr(Stdio::piped()))?;
        let mut said = BufReader::new(tcpdump.child().stderr.take().context("no pipe")?);
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            ensure!(
                said.read_line(&mut line)? > 0,
                "{}: tcpdump ended before it listened on {interface}",
                on.label()
            );
        }
        // Its last words go into a pipe nobody reads: they are a few lines, less than the pipe holds.
        std::mem::forget(said);
        Ok(Self {
            tcpdump,
            file: file.to_owned(),
        })
    }

    /// Where what it has captured so far lies.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Ends it.
    pub fn stop(self) -> Result<Captured> {
        self.tcpdump.stop(Signal::SIGTERM)?;
        Ok(Captured { file: self.file })
    }
}

impl Captured {
    /// Where it lies.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The packets that `filter` selects, one line each, as tcpdump prints them.
    pub fn packets(&self, filter: &str) -> Result<Vec<String>> {
        let mut command = Command::new("tcpdump");
        command.args(["-n", "-r"]).arg(&self.file).arg(filter);
        Ok(shell::run(&mut command)?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// The packets that `filter` selects, one line each; their MD5 signatures (RFC 2385) are judged by `key`: `md5 valid`.
    pub fn signed(&self, key: &str, filter: &str) -> Result<Vec<String>> {
        let mut command = Command::new("tcpdump");
        command.args(["-n", "-v", "-M", key, "-r"]).arg(&self.file);
        // Verbose packets take several lines; one of them has the options.
        let text = shell::run(command.arg(filter))?;
        let of_tcp = |line: &&str| line.contains("Flags [");
        Ok(text.lines().filter(of_tcp).map(str::to_owned).collect())
    }

    /// The packets that are wrapped in another, one line each.
    pub fn encapsulated(&self) -> Result<Vec<String>> {
        self.packets(ENCAPSULATED)
    }
}
