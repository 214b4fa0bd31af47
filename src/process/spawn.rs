//! Starting a shim behind its gate.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::job::limits;
use crate::process::identity::Identity;
use crate::process::run::{RunDir, private_file};
use crate::process::{retry_interrupted, safe_file, shim};

/// A shim that holds its run's lock and waits for the go-ahead. Dropped, it is ended: nothing ran.
pub struct Gated {
    child: Option<Child>,
    identity: Identity,
}

/// A shim whose agent may run.
pub struct Running {
    child: Child,
    /// Who it is.
    pub identity: Identity,
    /// What its exit record has to hold to be believed.
    pub nonce: String,
}

/// Starts the shim of a run and waits until it stands at its gate.
///
/// `program` is kugetsu itself. The shim inherits this process's environment without what is
/// `removed` from its agent's, and `secrets` too.
pub fn spawn(
    program: &Path,
    run: &RunDir,
    removed: &[String],
    secrets: &[(String, String)],
) -> io::Result<Gated> {
    let errors = run.file("shim.log");
    let errors_file = private_file().create_new(true).write(true).open(&errors)?;
    let child = shim::command_for(program, run, removed, errors_file)
        .envs(secrets.iter().map(|(name, value)| (name, value)))
        .spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // The child is not waited for yet, so its pid cannot be anybody else's.
    let identity = Identity::of(pid);
    let mut gated =
        Gated { child: Some(child), identity: identity.unwrap_or(Identity { pid, start_time: 0 }) };
    if identity.is_none() || !gated.is_ready()? {
        drop(gated);
        let said = safe_file::read_text(&errors, limits::RECORD_BYTES_MAX);
        let said = said.unwrap_or_default().unwrap_or_default();
        return Err(io::Error::other(format!("the shim did not come up: {}", said.trim())));
    }
    Ok(gated)
}

impl Gated {
    /// Who it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    fn is_ready(&mut self) -> io::Result<bool> {
        let stdout = self.child.as_mut().and_then(|child| child.stdout.as_mut());
        let Some(stdout) = stdout else { return Ok(false) };
        let timeout = PollTimeout::try_from(Duration::from_millis(limits::SHIM_READY_MS_MAX))
            .map_err(io::Error::other)?;
        let mut ready = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        if retry_interrupted(|| poll(&mut ready, timeout))? == 0 {
            return Ok(false);
        }
        let mut word = [0; shim::READY.len()];
        // Six bytes of one write to a pipe arrive together.
        Ok(stdout.read_exact(&mut word).is_ok() && word == shim::READY)
    }

    /// Lets the agent start, and gives the shim a word that nobody else knows.
    pub fn open(mut self) -> io::Result<Running> {
        let nonce = safe_file::random_word()?;
        let opened = || io::Error::other("the gate is open already");
        let child = self.child.as_mut().ok_or_else(opened)?;
        let words = [&[shim::GO], nonce.as_bytes()].concat();
        child.stdin.take().ok_or_else(opened)?.write_all(&words)?;
        let child = self.child.take().ok_or_else(opened)?;
        Ok(Running { child, identity: self.identity, nonce })
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing ran behind the gate, so there is nothing to save. A shim that is gone
            // already cannot be killed, and that is as well.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Running {
    /// Waits until the shim has ended.
    pub fn wait(mut self) -> io::Result<()> {
        self.child.wait().map(drop)
    }
}
