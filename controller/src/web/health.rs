//! Whether the daemon is alive (`/healthz`) and the node ready (`/readyz`), check by check.
//!
//! Alive means that its tasks answer: what only a restart heals. Ready means that pods here are reached and reach others: the
//! first synchronisation is done, the kernel took it, and a peer was up. Once that was so, no neighbour's death, no resync and no
//! single route takes it back: the daemon would be restarted or its roll-out stopped for what others did.

use std::{fmt::Write, future::Future, time::Duration};

use tokio::{sync::oneshot, time::timeout};

use crate::{
    node::{Order, Running},
    report::StatusReport,
};

/// How long the daemon's tasks may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Which question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// `/healthz`
    Healthy,
    /// `/readyz`
    Ready,
}

/// What one of the daemon's tasks did when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Answered,
    Silent,
    Ended,
}

/// The tasks a daemon cannot do without.
#[derive(Clone, Copy, Debug)]
struct Tasks {
    daemon: Task,
    speaker: Task,
    /// `None`: nothing is installed.
    installer: Option<Task>,
}

/// The checks of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checks {
    asked: Asked,
    checks: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    name: &'static str,
    /// What is missing, or that nothing is.
    result: Result<(), String>,
}

impl Checks {
    /// All hold.
    pub(super) fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.result.is_ok())
    }

    /// `ok`, or each check on a line and the whole on the last one.
    pub(super) fn text(&self, verbose: bool) -> String {
        if self.passed() && !verbose {
            return "ok\n".into();
        }
        let mut text = String::new();
        // Writing to a String does not fail.
        for check in &self.checks {
            let _ = match &check.result {
                Ok(()) => writeln!(text, "[+]{} ok", check.name),
                Err(missing) => writeln!(text, "[-]{} failed: {missing}", check.name),
            };
        }
        let question = match self.asked {
            Asked::Healthy => "healthz",
            Asked::Ready => "readyz",
        };
        let verdict = if self.passed() { "passed" } else { "failed" };
        let _ = writeln!(text, "{question} check {verdict}");
        text
    }
}

/// Asks the tasks, and for readiness the status.
pub(super) async fn look(asked: Asked, running: &Running) -> Checks {
    let (tasks, status) = tokio::join!(tasks(running), async {
        match asked {
            Asked::Healthy => None,
            Asked::Ready => timeout(DEADLINE, running.status())
                .await
                .ok()
                .and_then(Result::ok),
        }
    });
    let mut checks = alive(tasks);
    if asked == Asked::Ready && !running.web.was_ready() {
        checks.extend(connected(status.as_ref()));
    }
    let checks = Checks { asked, checks };
    if asked == Asked::Ready && checks.passed() {
        running.web.now_ready();
    }
    checks
}

/// The first check of readiness that fails, with what is missing; `None`: the node is ready, or was once.
pub(super) fn unready(running: &Running, status: &StatusReport) -> Option<(&'static str, String)> {
    if running.web.was_ready() {
        return None;
    }
    let failed = connected(Some(status))
        .into_iter()
        .find_map(|check| Some((check.name, check.result.err()?)));
    if failed.is_none() {
        running.web.now_ready();
    }
    failed
}

async fn tasks(running: &Running) -> Tasks {
    let daemon = answer(async {
        let (reply, answer) = oneshot::channel();
        running.orders.send(Order::Ping(reply)).await.ok()?;
        answer.await.ok()
    });
    let speaker = answer(async {
        let speaker = running.speaker.read().await;
        speaker.as_ref()?.answers().await.then_some(())
    });
    let installer = async {
        let fib = running.fib.as_ref()?;
        Some(answer(async { fib.status().await.ok().map(drop) }).await)
    };
    let (daemon, speaker, installer) = tokio::join!(daemon, speaker, installer);
    Tasks {
        daemon,
        speaker,
        installer,
    }
}

/// What became of a question that is answered by `None` when the task has ended.
async fn answer(question: impl Future<Output = Option<()>>) -> Task {
    match timeout(DEADLINE, question).await {
        Ok(Some(())) => Task::Answered,
        Ok(None) => Task::Ended,
        Err(_) => Task::Silent,
    }
}

/// What only a restart heals.
fn alive(tasks: Tasks) -> Vec<Check> {
    let silent = || format!("no answer within {} s", DEADLINE.as_secs());
    let ended = || "it has ended, or routelet is stopping: the log says why".to_owned();
    let answers = |task| match task {
        Task::Answered => Ok(()),
        Task::Silent => Err(silent()),
        Task::Ended => Err(ended()),
    };
    let mut checks = vec![
        Check {
            name: "daemon",
            result: answers(tasks.daemon),
        },
        Check {
            name: "speaker",
            result: answers(tasks.speaker),
        },
    ];
    checks.extend(tasks.installer.map(|task| Check {
        name: "installer",
        result: match task {
            // A kernel that is slow to take many routes is not made faster by a restart.
            Task::Answered | Task::Silent => Ok(()),
            Task::Ended => Err(ended()),
        },
    }));
    checks
}

/// What must have been so once for the node to be ready.
fn connected(status: Option<&StatusReport>) -> Vec<Check> {
    let Some(status) = status else {
        let missing = format!("the status is not there within {} s", DEADLINE.as_secs());
        return vec![Check {
            name: "sync",
            result: Err(missing),
        }];
    };
    vec![
        Check {
            name: "sync",
            result: synced(status),
        },
        Check {
            name: "kernel",
            result: installed(status),
        },
        Check {
            name: "peers",
            result: a_peer(status),
        },
    ]
}

fn synced(status: &StatusReport) -> Result<(), String> {
    match (status.settled, status.complete) {
        (Some(_), _) => Ok(()),
        (None, false) => Err(
            "initial routes are not all in yet: some peers have not sent their End-of-RIB, and the deferral after the start still runs".into(),
        ),
        (None, true) => Err("initial routes are on their way to the kernel".into()),
    }
}

/// One route that fails is its own trouble; that all do is the node's.
fn installed(status: &StatusReport) -> Result<(), String> {
    let Some(kernel) = &status.kernel else {
        return Ok(());
    };
    let sum =
        |count: fn(&fib::Counts) -> u64| count(&kernel.ipv4).saturating_add(count(&kernel.ipv6));
    let failed = sum(|counts| counts.failed);
    if failed == 0 || sum(|counts| counts.installed) > 0 {
        return Ok(());
    }
    let why = kernel.problems.first().map_or("", String::as_str);
    Err(format!(
        "the kernel takes none of our routes, {failed} failed: {why}"
    ))
}

fn a_peer(status: &StatusReport) -> Result<(), String> {
    let peers = &status.peers;
    let meant = peers.total.saturating_sub(peers.shutdown);
    if meant == 0 || peers.ever_established > 0 {
        return Ok(());
    }
    Err(format!(
        "none of {meant} peers has been up since the start: routelet peers says why"
    ))
}

#[cfg(test)]
mod tests;
