//! Running helper programs to their end, under a deadline and a request to stop.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, after, bounded, select};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::job::limits;
use crate::process::guard::guarded;
use crate::process::tree;
use crate::worker::Stop;

/// What a helper left.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// What it says went wrong: its words from the first error on, or else the last of them,
    /// without terminal codes.
    pub fn said(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let plain = anstream::adapter::strip_str(text).to_string();
        let lines: Vec<&str> = plain.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let is_telling = |line: &&str| line.contains("Error") || line.contains("error:");
        let from = lines.iter().position(is_telling).unwrap_or(lines.len().saturating_sub(1));
        let words = lines[from..].join(" ");
        if words.is_empty() {
            return "it failed without a word".into();
        }
        words.chars().take(WORDS_MAX).collect()
    }
}

/// Longest words of a helper that are passed on, in characters.
const WORDS_MAX: usize = 300;

/// What a helper may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub timeout_ms: u64,
    /// Of standard output and standard error, each.
    pub output_bytes_max: u64,
}

/// What becomes of a helper when this process is killed.
#[derive(Debug, Clone, Copy)]
pub enum Orphan<'g> {
    /// It goes on to its end, which is near.
    Ends,
    /// It is ended by a guard of this program: kugetsu itself.
    IsKilledBy(&'g Path),
}

/// Why there is no output.
#[derive(Debug)]
pub enum Interrupted {
    /// It was told to stop.
    Stopped(Stop),
    /// It took too long.
    TimedOut,
    /// It could not be run.
    Failed(io::Error),
}

impl From<io::Error> for Interrupted {
    fn from(error: io::Error) -> Interrupted {
        Interrupted::Failed(error)
    }
}

/// Runs a command in a process group of its own, which is killed on a request to stop or at the
/// deadline.
///
/// Its standard input is `stdin`: a lock file, so that the lock is held for as long as the helper
/// lives, even when this process is killed.
pub fn run(
    mut command: Command,
    stdin: &File,
    stop: &Receiver<Stop>,
    bounds: Bounds,
    orphan: Orphan<'_>,
) -> Result<Output, Interrupted> {
    if let Orphan::IsKilledBy(guard) = orphan {
        command = guarded(guard, &command);
    }
    let mut stdout = tempfile::tempfile()?;
    let mut stderr = tempfile::tempfile()?;
    command
        .stdin(Stdio::from(stdin.try_clone()?))
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .process_group(0);
    let mut child = command.spawn()?;
    let group = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let (sender, ended) = bounded(1);
    thread::Builder::new().name("helper".into()).spawn(move || {
        // The other end is there until the helper is dead.
        let _ = sender.send(child.wait());
    })?;
    let interrupted = select! {
        recv(ended) -> status => {
            if let (Orphan::IsKilledBy(_), Ok(Ok(status))) = (orphan, &status)
                && status.signal().is_some()
            {
                // The guard was killed, and what it guarded is not.
                tree::signal_group(group, Signal::SIGKILL)?;
            }
            return Ok(Output {
                status: status.map_err(io::Error::other)??,
                stdout: read_back(&mut stdout, bounds.output_bytes_max)?,
                stderr: read_back(&mut stderr, bounds.output_bytes_max)?,
            });
        }
        recv(stop) -> request => Interrupted::Stopped(request.unwrap_or(Stop::Shutdown)),
        recv(after(Duration::from_millis(bounds.timeout_ms))) -> _ => Interrupted::TimedOut,
    };
    // TERM lets git clean up behind itself; a killed process ends, and the rest is the kernel's.
    tree::signal_group(group, Signal::SIGTERM)?;
    // A guard gives the same grace, and then needs a moment to kill what left its group.
    if ended.recv_timeout(Duration::from_millis(2 * limits::HELPER_GRACE_MS)).is_err() {
        tree::signal_group(group, Signal::SIGKILL)?;
        let _ = ended.recv();
    }
    Err(interrupted)
}

fn read_back(file: &mut File, bytes_max: u64) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    let length = file.metadata()?.len();
    if length > bytes_max {
        return Err(io::Error::other(format!("it said too much ({length} bytes)")));
    }
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_failed_helper_is_quoted_from_its_error_on() {
        for (stdout, stderr, expected) in [
            (
                "",
                "Exporting x\n\u{1b}[91mError: \u{1b}[0mno such\n\n at y\n",
                "Error: no such at y",
            ),
            ("out\n", "first\nlast\n\n", "last"),
            ("only this\n", " \n", "only this"),
            ("", "", "it failed without a word"),
        ] {
            let output = Output {
                status: ExitStatus::from_raw(256),
                stdout: stdout.into(),
                stderr: stderr.into(),
            };
            assert_eq!(output.said(), expected);
        }
    }
}
