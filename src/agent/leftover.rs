//! What is left of a run whose worker or shim is gone.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::executor::Stop;
use crate::job::{Run, limits};
use crate::process::identity::{self, Identity};
use crate::process::run::{ExitRecord, RunDir, private_file};
use crate::process::tree;
use crate::time;

/// What was found.
pub(super) enum Left {
    /// Something of the run lives.
    Alive,
    /// The agent never started.
    NothingRan,
    /// The run is over, and its shim wrote down how.
    Record(ExitRecord),
    /// The run is over, and nobody knows how.
    Vanished(&'static str),
}

/// Inspects a run whose worker is gone. An error means that nothing is known.
pub(super) fn inspect(dir: &RunDir, run: &Run, stop_sent: Option<Stop>) -> io::Result<Left> {
    let same_boot = identity::boot_id()? == run.boot_id;
    let shim = Identity { pid: run.pid, start_time: run.start_time };
    // The shim is asked for too, in case somebody removed the folder with the lock.
    if same_boot && (shim.is_alive() || is_held(dir)?) {
        attend(dir, shim, stop_sent)?;
        return Ok(Left::Alive);
    }
    // Nobody holds it any more, so what it left does not change from here on.
    match dir.exit_record() {
        Ok(Some(record)) => return Ok(Left::Record(record)),
        Ok(None) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Ok(Left::Vanished("its exit record is damaged"));
        }
        Err(error) => return Err(error),
    }
    if !same_boot {
        return Ok(Left::Vanished("the machine was restarted while the agent ran"));
    }
    if !dir.path().is_dir() {
        return Ok(Left::Vanished("the run's folder is gone"));
    }
    if !dir.is_started()? {
        return Ok(Left::NothingRan);
    }
    // A process that closed the lock's descriptor is still one of the run.
    if kill(dir)? > 0 {
        return Ok(Left::Alive);
    }
    Ok(Left::Vanished("the agent's shim was killed"))
}

/// Removes a run's folder, unless something of the run lives. Says whether it did.
pub(super) fn remove(dir: &RunDir) -> io::Result<bool> {
    // Held while it is removed: a run that lives keeps its folder.
    let Some(_lock) = dir.try_lock()? else { return Ok(false) };
    fs::remove_dir_all(dir.path())?;
    Ok(true)
}

fn is_held(dir: &RunDir) -> io::Result<bool> {
    Ok(dir.path().is_dir() && dir.try_lock()?.is_none())
}

/// Does for a run that lives what its worker would do.
fn attend(dir: &RunDir, shim: Identity, stop_sent: Option<Stop>) -> io::Result<()> {
    if !shim.is_alive() {
        // Nobody holds the agent's limits any more, and nobody will tell how it ends.
        kill(dir)?;
        return Ok(());
    }
    match stop_sent {
        Some(_) => request_end(dir, shim),
        None => Ok(()),
    }
}

/// Asks a shim to end its agent. To a shim a second TERM means to kill at once, so it is sent once,
/// whoever asks.
pub(super) fn request_end(dir: &RunDir, shim: Identity) -> io::Result<()> {
    let ending = dir.file("ending");
    if !ending.exists() {
        shim.signal(Signal::SIGTERM)?;
        if dir.path().is_dir() {
            private_file().create(true).write(true).truncate(true).open(ending)?;
        }
    }
    Ok(())
}

/// Kills every process of a run until none is left. Says whether that was in time.
pub(super) fn kill_until_gone(dir: &RunDir, deadline: Instant) -> io::Result<bool> {
    loop {
        let killed = kill(dir)?;
        if killed == 0 && !is_held(dir)? {
            return Ok(true);
        }
        if time::monotonic() > deadline {
            return Ok(false);
        }
        time::pause(Duration::from_millis(limits::KILL_PAUSE_MS));
    }
}

/// Kills what is left of a run whose shim is gone, and says how many processes there were.
fn kill(dir: &RunDir) -> io::Result<u32> {
    let mut killed = tree::signal_marked(&marker(dir), Signal::SIGKILL)?;
    if let Some(cgroup) = dir.cgroup() {
        killed += cgroup.kill()?;
        cgroup.remove();
    }
    Ok(killed)
}

/// What every process of a run has in its environment.
fn marker(dir: &RunDir) -> String {
    format!("KUGETSU_RUN={}", dir.path().display())
}
