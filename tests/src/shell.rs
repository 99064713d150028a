//! Running programs: to their end with their output, or in the background until dropped.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What a program that ran to its end left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 + the signal's number where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `command` to its end with `input` on its standard input.
pub fn output(command: &mut Command, input: &str) -> Result<Output> {
    let shown = show(command);
    let mut child = command
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start: {shown}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input closes it early; its exit code tells whether that was right.
        let _ = stdin.write_all(input.as_bytes());
    }
    let done = child.wait_with_output().with_context(|| shown)?;
    Ok(Output {
        code: exit_code(done.status),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    })
}

/// Runs `command` to its end; its standard output, or an error that quotes the command and what it said.
pub fn run(command: &mut Command) -> Result<String> {
    run_with(command, "")
}

/// As [`run`], with `input` on the standard input.
pub fn run_with(command: &mut Command, input: &str) -> Result<String> {
    let done = output(command, input)?;
    if done.code != 0 {
        bail!(
            "exit code {} from: {}\n{}{}",
            done.code,
            show(command),
            done.stdout,
            done.stderr
        );
    }
    Ok(done.stdout)
}

/// The command as a person would type it.
#[must_use]
pub fn show(command: &Command) -> String {
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        shown.push(' ');
        shown.push_str(&argument.to_string_lossy());
    }
    shown
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A program running beside the story; killed when dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
}

impl Background {
    /// Starts `command` in a process group of its own, so that a Ctrl-C meant for the lab does not reach it first.
    pub fn start(command: &mut Command) -> Result<Self> {
        let shown = show(command);
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start: {shown}"))?;
        Ok(Self { child })
    }

    /// As [`Background::start`], with standard output and error appended to the file `log`.
    pub fn logged(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| log.display().to_string())?;
        command.stdout(file.try_clone()?).stderr(file);
        Self::start(command)
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends `signal` and waits for the end; the exit code.
    pub fn stop(mut self, signal: Signal) -> Result<i32> {
        self.signal(signal)?;
        Ok(exit_code(self.child.wait()?))
    }

    /// Sends `signal`. A program that has ended already is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match kill(self.pid(), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).context("signal"),
        }
    }

    /// Waits for the program to end by itself; the exit code.
    pub fn wait(&mut self) -> Result<i32> {
        Ok(exit_code(self.child.wait()?))
    }

    /// The exit code, if it has ended.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        Ok(self.child.try_wait()?.map(exit_code))
    }

    /// Its process id, as this process sees it.
    #[must_use]
    #[expect(clippy::cast_possible_wrap, reason = "a pid is at most 2^22")]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Lets it run on after this value is gone: the lab is kept, or its pid namespace ends it.
    pub fn leave(self) {
        let mut me = std::mem::ManuallyDrop::new(self);
        let _ = me.child.try_wait();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
