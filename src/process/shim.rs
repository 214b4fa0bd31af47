//! The shim: a small process of our own round each agent.
//!
//! It outlives the worker, holds the run's lock and limits, is the parent of whatever the agent
//! leaves behind, and writes down how it ended. It never touches the store.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::unistd::setsid;

use crate::failpoint;
use crate::job::limits;
use crate::process::run::{ExitRecord, RunDir};
use crate::process::safe_file::NotAFile;
use crate::process::signals::Signals;
use crate::process::supervise::supervise;
use crate::process::{command, remove_variables, retry_interrupted, safe_file};
use crate::time::{Clock, SystemClock, monotonic};

/// What the shim says on its standard output once it holds the lock.
pub const READY: &[u8] = b"ready\n";
/// What the worker says on the shim's standard input to let the agent start; the run's nonce
/// follows.
pub const GO: u8 = b'G';
/// Longest nonce.
const NONCE_BYTES_MAX: usize = 64;

/// Runs the shim of a run's folder to its end. An error is one of the shim, not of the agent.
pub fn run(folder: &Path) -> io::Result<()> {
    let run = RunDir::at(folder);
    // Fails where the shim leads a group already, and then it leads what it needs to.
    let _ = setsid();
    prctl::set_child_subreaper(true)?;
    prctl::set_name(c"kugetsu-shim")?;
    let spec = run.spec()?.ok_or_else(|| io::Error::other("the run has no spec.json"))?;
    let lock = run.try_lock()?.ok_or_else(|| io::Error::other("the run's lock is held"))?;
    let _alive = run
        .hold_shim(SystemClock.now())?
        .ok_or_else(|| io::Error::other("another shim holds the run"))?;
    failpoint::here("shim_locked");
    let signals = Signals::catch()?;
    io::stdout().write_all(READY)?;
    io::stdout().flush()?;
    failpoint::here("at_gate");
    let Some(nonce) = wait_at_gate(&signals)? else { return Ok(()) };
    failpoint::here("past_gate");
    run.mark_started()?;
    failpoint::here("started_marked");
    // systemd says so to what it runs. Elsewhere the group we are in is not ours to divide.
    let is_service = std::env::vars_os().any(|(name, _)| name == "INVOCATION_ID");
    let cgroup = if is_service { run.make_cgroup()? } else { None };
    let record = supervise(&run, &spec, &signals, &lock, cgroup)?;
    failpoint::here("before_record");
    write_record(&run, &ExitRecord { nonce, ..record }, &signals)?;
    failpoint::here("recorded");
    Ok(())
}

/// Writes down how the run ended. A disk that is full or fails may take it later: without it, a run
/// that may have cost hours counts as lost.
fn write_record(run: &RunDir, record: &ExitRecord, signals: &Signals) -> io::Result<()> {
    let deadline = monotonic() + Duration::from_millis(limits::EXIT_RECORD_MS_MAX);
    let mut is_first = true;
    loop {
        let error = match run.write_exit_record(record) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if safe_file::planted(&error) == Some(NotAFile::Folder) {
            // The agent's doing, and nothing that a rename would replace.
            run.move_aside("exit.json")?;
        }
        // A folder that is gone does not come back.
        if error.kind() == io::ErrorKind::NotFound || monotonic() >= deadline {
            return Err(io::Error::new(error.kind(), format!("cannot write exit.json: {error}")));
        }
        if is_first {
            tracing::warn!(%error, "cannot write exit.json; trying again for a while");
            is_first = false;
        }
        signals.next(Duration::from_millis(limits::EXIT_RECORD_PAUSE_MS))?;
    }
}

/// The nonce that came with the worker's go, if it came. Its end of the pipe closes with it, however
/// it ends.
fn wait_at_gate(signals: &Signals) -> io::Result<Option<String>> {
    let stdin = io::stdin();
    let mut ready = [
        PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        PollFd::new(signals.stop_requests(), PollFlags::POLLIN),
    ];
    let timeout = PollTimeout::try_from(Duration::from_millis(limits::GATE_WAIT_MS_MAX))
        .map_err(io::Error::other)?;
    if retry_interrupted(|| poll(&mut ready, timeout))? == 0 || ready[1].any().unwrap_or(true) {
        return Ok(None);
    }
    // One write to a pipe arrives whole.
    let mut word = [0; 1 + NONCE_BYTES_MAX];
    let length = stdin.lock().read(&mut word)?;
    match word[..length].split_first() {
        Some((&GO, nonce)) => Ok(Some(String::from_utf8_lossy(nonce).into_owned())),
        Some(_) | None => Ok(None),
    }
}

/// How a shim is started: no terminal, both ends of its talk with the worker as pipes. What its
/// agent is not to know, it does not know itself.
pub(super) fn command_for(
    program: &Path,
    run: &RunDir,
    removed: &[String],
    errors: File,
) -> std::process::Command {
    let mut shim = command(program);
    shim.arg0("kugetsu")
        .arg("shim")
        .arg(run.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors);
    remove_variables(&mut shim, removed);
    shim
}
