//! Pings: one, many at once, or a steady stream whose losses are counted.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
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
    reader: JoinHandle<Vec<String>>,
    every: Duration,
    what: String,
}

/// How a stream went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Who pinged whom.
    pub what: String,
    /// Echo requests sent.
    pub sent: usize,
    /// Requests without an answer.
    pub lost: usize,
    /// The longest time without an answer, in steps of the stream's interval; zero where none was lost.
    pub longest_gap: Duration,
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
        let mut command = from.tool_in(&["ping", "-n", "-i", &interval, "-W", "5", target]);
        let mut ping = Background::start(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
        let stdout = ping.child().stdout.take().context("no pipe")?;
        let reader = thread::spawn(move || {
            BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .collect()
        });
        Ok(Self {
            ping,
            reader,
            every,
            what,
        })
    }

    /// Ends it, and counts.
    pub fn stop(mut self) -> Result<Tally> {
        self.ping.signal(Signal::SIGINT)?;
        self.ping.wait()?;
        let lines = self
            .reader
            .join()
            .map_err(|_| anyhow!("the reader of ping panicked"))?;
        tally(&lines, self.every, &self.what).with_context(|| self.what.clone())
    }
}

/// Reads the sequence numbers of the answers, and `N packets transmitted`.
fn tally(lines: &[String], every: Duration, what: &str) -> Result<Tally> {
    let answered = lines.iter().filter_map(|line| {
        line.split_once("icmp_seq=")?
            .1
            .split(' ')
            .next()?
            .parse::<u16>()
            .ok()
    });
    let summary = lines
        .iter()
        .find(|line| line.contains("packets transmitted"))
        .context("ping gave no summary")?;
    let mut sent: usize = summary
        .split(' ')
        .next()
        .and_then(|count| count.parse().ok())
        .context("packets transmitted")?;
    // Sequence numbers wrap at 2^16, and stories are shorter than that.
    ensure!(
        sent < usize::from(u16::MAX),
        "a stream this long is not counted right"
    );
    let mut seen = vec![false; sent + 1];
    for number in answered {
        if let Some(slot) = seen.get_mut(usize::from(number)) {
            *slot = true;
        }
    }
    // ping is interrupted between a request and its answer more often than not.
    if sent > 0 && seen.last() == Some(&false) {
        seen.pop();
        sent -= 1;
    }
    let answers = seen.get(1..).unwrap_or_default();
    let longest = answers
        .split(|answered| *answered)
        .map(<[bool]>::len)
        .max()
        .unwrap_or(0);
    Ok(Tally {
        what: what.to_owned(),
        sent,
        lost: answers.iter().filter(|answered| !**answered).count(),
        longest_gap: every * u32::try_from(longest)?,
    })
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
    use std::time::Duration;

    use super::tally;

    #[test]
    fn lost_pings_are_counted_but_for_the_one_that_the_end_cut_off() {
        let answered = [1, 2, 5, 6, 8]
            .map(|n| format!("64 bytes from 10.0.0.1: icmp_seq={n} ttl=64 time=0.04 ms"));
        let mut lines = answered.to_vec();
        lines.push("9 packets transmitted, 5 received, 44% packet loss, time 80ms".into());
        let tally = tally(&lines, Duration::from_millis(10), "a -> b").unwrap();
        assert_eq!(
            (tally.sent, tally.lost, tally.longest_gap),
            (8, 3, Duration::from_millis(20))
        );
    }
}
