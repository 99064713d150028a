//! Pings: one, many at once, or a steady stream whose losses are counted.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::shell::{Background, output};
use crate::wait::{eventually, now};

/// Someone who can send packets: a node, or a pod on one.
pub trait Sender: Sync {
    /// What to call it.
    fn label(&self) -> String;
    /// A command in its network.
    fn command_in(&self, words: &[&str]) -> Command;
    /// As [`Sender::command_in`], for a tool that is to be signalled.
    fn tool_in(&self, words: &[&str]) -> Command;
}

/// Sends one echo request to each of `targets` at once; those that did not answer within `seconds`.
pub fn unreachable(from: &dyn Sender, targets: &[String], seconds: u32) -> Result<Vec<String>> {
    let line = "for target; do shift; (ping -n -q -c 1 -W \"$SECONDS_TO_WAIT\" \"$target\" >/dev/null 2>&1 || echo \"$target\") & done; wait";
    let wait = format!("SECONDS_TO_WAIT={seconds}");
    let mut words = vec!["env", wait.as_str(), "bash", "-c", line, "bash"];
    words.extend(targets.iter().map(String::as_str));
    let done = output(&mut from.command_in(&words), "")?;
    ensure!(done.code == 0, "{}: {}", from.label(), done.stderr);
    Ok(done.stdout.lines().map(str::to_owned).collect())
}

/// Lets everyone ping everything at once; the pairs that failed, in words.
pub fn all_to_all(pairs: &[(&dyn Sender, Vec<String>)], seconds: u32) -> Result<Vec<String>> {
    let results: Vec<Result<Vec<String>>> = thread::scope(|scope| {
        let running: Vec<_> = pairs
            .iter()
            .map(|(from, targets)| {
                scope.spawn(move || {
                    Ok(unreachable(*from, targets, seconds)?
                        .iter()
                        .map(|target| format!("{} -> {target}", from.label()))
                        .collect())
                })
            })
            .collect();
        running
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a ping thread panicked")))
            })
            .collect()
    });
    Ok(results
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// A steady stream of pings.
#[derive(Debug)]
pub struct Stream {
    ping: Background,
    what: String,
}

/// How a stream went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Echo requests sent.
    pub sent: u32,
    /// Answers received.
    pub received: u32,
}

impl Tally {
    /// Requests without an answer.
    #[must_use]
    pub fn lost(self) -> u32 {
        self.sent.saturating_sub(self.received)
    }
}

impl Stream {
    /// Starts pinging `target` every `every`; returns once the path has answered, so that the first neighbour discovery is not counted.
    pub fn start(from: &dyn Sender, target: &str, every: Duration) -> Result<Self> {
        let what = format!("{} -> {target}", from.label());
        eventually(Duration::from_secs(10), &format!("{what} answers"), || {
            ensure!(
                unreachable(from, &[target.to_owned()], 1)?.is_empty(),
                "no answer"
            );
            Ok(())
        })?;
        let interval = format!("{:.3}", every.as_secs_f64());
        // -W is as long as nobody would wait: a late answer is not a lost one.
        let mut command = from.tool_in(&["ping", "-n", "-q", "-i", &interval, "-W", "5", target]);
        let ping = Background::start(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
        Ok(Self { ping, what })
    }

    /// Ends it, and counts.
    pub fn stop(mut self) -> Result<Tally> {
        let stdout = self.ping.child().stdout.take().context("no pipe")?;
        self.ping.signal(Signal::SIGINT)?;
        let text = std::io::read_to_string(stdout)?;
        self.ping.wait()?;
        tally(&text).with_context(|| format!("{}: {text}", self.what))
    }
}

/// Reads `N packets transmitted, N received, …`.
fn tally(text: &str) -> Result<Tally> {
    let line = text
        .lines()
        .find(|line| line.contains("packets transmitted"))
        .context("ping gave no summary")?;
    let mut numbers = line
        .split(", ")
        .filter_map(|part| part.split_whitespace().next()?.parse().ok());
    let (sent, received) = (
        numbers.next().context("sent")?,
        numbers.next().context("received")?,
    );
    // ping is interrupted between a request and its answer at least as often as not.
    Ok(Tally { sent, received })
}

/// How long nothing answered: pings once after the other until `target` answers.
pub fn outage(from: &dyn Sender, target: &str, deadline: Duration) -> Result<Duration> {
    let start = now();
    eventually(
        deadline,
        &format!("{} -> {target} answers again", from.label()),
        || {
            ensure!(
                unreachable(from, &[target.to_owned()], 1)?.is_empty(),
                "no answer"
            );
            Ok(())
        },
    )?;
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::{Tally, tally};

    #[test]
    fn the_summary_of_ping_is_read() {
        let text = "PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.\n\n--- 10.0.0.1 ping statistics ---\n200 packets transmitted, 198 received, +1 duplicates, 1% packet loss, time 1990ms\n";
        assert_eq!(
            tally(text).unwrap(),
            Tally {
                sent: 200,
                received: 198
            }
        );
    }
}
