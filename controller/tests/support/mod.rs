//! Runs the real binary: daemons on loopback addresses of their own, with unprivileged ports and nothing in the kernel.

#![allow(dead_code, reason = "each test program uses what it needs")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) mod apiserver;

/// The TCP port of every daemon; their addresses tell them apart.
pub(crate) const PORT: u16 = 1790;

/// A folder and loopback addresses that no other test has.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    number: u32,
}

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("routelet-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self { folder, number }
    }

    /// 127.a.b.n: a and b come from the process and the test, which may run beside others.
    pub(crate) fn address(&self, n: u8) -> Ipv4Addr {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let [.., number] = self.number.to_be_bytes();
        Ipv4Addr::new(127, low, high.wrapping_mul(31).wrapping_add(number), n)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Starts a daemon that is node NAME; its configuration is the file of that name.
    pub(crate) fn start(&self, name: &str) -> Daemon {
        let daemon = self.spawn(name);
        daemon.wait();
        daemon
    }

    pub(crate) fn spawn(&self, name: &str) -> Daemon {
        self.spawn_with(name, &[])
    }

    /// With more arguments. Metrics are served nowhere unless they say so: many daemons share this host.
    pub(crate) fn spawn_with(&self, name: &str, arguments: &[&str]) -> Daemon {
        let file = self.path(&format!("{name}.yaml"));
        self.spawn_on(name, "--config", &file, arguments)
    }

    /// The same where its cluster comes from `option` `path`.
    pub(crate) fn spawn_on(
        &self,
        name: &str,
        option: &str,
        path: &Path,
        arguments: &[&str],
    ) -> Daemon {
        let log = fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        let child = Command::new(binary())
            .args(["run", "--node", name])
            .arg(option)
            .arg(path)
            .arg("--socket")
            .arg(self.path(&format!("{name}.sock")))
            .arg("--state-dir")
            .arg(self.path(&format!("{name}.state")))
            .args(arguments)
            .env("ROUTELET_METRICS_ADDRESS", "none")
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Daemon {
            child,
            socket: self.path(&format!("{name}.sock")),
            log: self.path(&format!("{name}.log")),
        }
    }

    /// A node that peers with `peers` (name, address) and announces its pod CIDR 10.N.0.0/24, N being its own number.
    pub(crate) fn node(&self, name: &str, own: u8, peers: &[(&str, u8)]) -> String {
        let mut text = format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDRs: [10.{own}.0.0/24]}}\n\
             status: {{addresses: [{{type: InternalIP, address: {}}}]}}\n---\n\
             apiVersion: routelet.dev/v1alpha1\nkind: BGPConfiguration\nmetadata: {{name: default}}\n\
             spec:\n  topology: External\n  listenPort: {PORT}\n  kernel: {{install: false}}\n  drain: {{waitSeconds: 0}}\n\
             \x20 timers: {{connectRetrySeconds: 1, idleHoldMaxSeconds: 1}}\n\
             \x20 podNetwork: {{clusterCIDRs: [10.0.0.0/8]}}\n",
            self.address(own)
        );
        for (peer, number) in peers {
            text.push_str(&self.peer(peer, *number, own));
        }
        text
    }

    /// A BGPPeer. No host has a loopback address as next hop, so another is announced.
    pub(crate) fn peer(&self, name: &str, number: u8, own: u8) -> String {
        format!(
            "---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {{name: {name}}}\n\
             spec:\n  peerAddress: {}\n  peerASN: Internal\n  peerPort: {PORT}\n\
             \x20 export: {{rules: [{{match: {{origin: PodCIDR}}, set: {{nextHop: 192.0.2.{own}}}}}]}}\n",
            self.address(number)
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    pub(crate) socket: PathBuf,
    pub(crate) log: PathBuf,
}

impl Daemon {
    /// Until it answers.
    pub(crate) fn wait(&self) {
        eventually("the daemon answers", || {
            self.ask(&["status"]).status.code() != Some(2)
        });
    }

    /// Runs a command of the command line against it.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Output {
        routelet(arguments, Some(&self.socket))
    }

    /// The same with JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
        let output = self.ask(&arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "{arguments:?}: {error}: {}{}",
                text(&output.stdout),
                text(&output.stderr)
            )
        })
    }

    /// The session with PEER.
    pub(crate) fn session(&self, peer: &str) -> Value {
        self.json(&["peers", peer])[0].clone()
    }

    pub(crate) fn is_up(&self, peer: &str) -> bool {
        self.session(peer)["state"] == "Established"
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Stops it and gives the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.child.wait().unwrap().code()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.socket.display(), self.log());
        }
    }
}

pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_routelet"))
}

/// Runs the binary to its end.
pub(crate) fn routelet(arguments: &[&str], socket: Option<&Path>) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments);
    if let Some(socket) = socket {
        command.env("ROUTELET_SOCKET", socket);
    }
    command.output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Looks until it holds, for at most 20 seconds.
#[expect(
    clippy::disallowed_methods,
    reason = "looks again and again, with a limit"
)]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < limit, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
