//! A guard round a helper program: it ends the helper, with all its children, when whoever wanted
//! its work is gone.
//!
//! A worker that is killed cannot end its `git fetch`, which would hold the repository's lock and
//! the network for as long as it likes.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

use crate::job::limits;
use crate::process::signals::{Heard, Signals};
use crate::process::{command, tree};

/// The first argument of a guard.
pub const VERB: &str = "guard";

/// The same command under a guard, whose program is kugetsu itself. Streams and process group are
/// for the caller to set; the helper has the guard's.
pub fn guarded(guard: &Path, helper: &Command) -> Command {
    let mut command = command(guard);
    command
        .arg(VERB)
        .arg(Pid::this().to_string())
        .arg(helper.get_program())
        .args(helper.get_args());
    if let Some(folder) = helper.get_current_dir() {
        command.current_dir(folder);
    }
    for (name, value) in helper.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Runs a guard to its end: the exit code is the helper's, or 128 and the number of the signal that
/// ended it. An error is one of the guard.
pub fn run(parent: &str, program: &OsString, arguments: &[OsString]) -> io::Result<u8> {
    prctl::set_child_subreaper(true)?;
    prctl::set_name(c"kugetsu-guard")?;
    let signals = Signals::catch()?;
    // Comes when the thread ends that started this; it waits for this one's end.
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    let is_orphan = || getppid().to_string() != parent;
    if is_orphan() {
        return Err(io::Error::other("whoever started it is gone"));
    }
    let mut helper = command(program).args(arguments).spawn()?;
    loop {
        if let Some(status) = helper.try_wait()? {
            return Ok(code(status));
        }
        if signals.next(Duration::from_millis(limits::SHIM_QUIET_TICK_MS))? == Heard::End {
            break;
        }
    }
    // TERM lets git clean up behind itself; a killed process ends, and the rest is the kernel's.
    for stat in tree::descendants()? {
        stat.identity.signal(Signal::SIGTERM)?;
    }
    let rounds = limits::HELPER_GRACE_MS / limits::KILL_PAUSE_MS;
    for _ in 0..rounds {
        if helper.try_wait()?.is_some() {
            break;
        }
        signals.next(Duration::from_millis(limits::KILL_PAUSE_MS))?;
    }
    tree::kill_descendants()?;
    Ok(code(helper.wait()?))
}

fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let signalled = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(signalled).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
