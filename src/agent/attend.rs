//! Waiting for a shim, and passing requests to stop on to it.

use std::io;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{after, bounded, never, select};
use nix::sys::signal::Signal;

use crate::agent::AgentExecutor;
use crate::agent::early_exit::EarlyExit;
use crate::executor::{Control, Stop};
use crate::failpoint;
use crate::job::limits;
use crate::process::identity::Identity;
use crate::process::remains;
use crate::process::run::RunDir;

impl AgentExecutor {
    /// Waits for the shim, and passes requests on to it; gives the request, if there was one. Calls
    /// `learn` now and then, for as long as it wants to be. From here on the agent may be alive, so
    /// whatever goes wrong leaves it to the next worker.
    pub(super) fn attend(
        &self,
        control: &Control,
        dir: &RunDir,
        shim: Identity,
        wait: impl FnOnce(&RunDir) -> io::Result<()> + Send + 'static,
        mut learn: impl FnMut() -> bool,
    ) -> Result<Option<Stop>, EarlyExit> {
        let (sender, ended) = bounded(1);
        let waiter = thread::Builder::new().name("shim".into());
        let waited_for = dir.clone();
        if let Err(error) = waiter.spawn(move || sender.send(wait(&waited_for))) {
            tracing::error!(%error, "no thread to wait for the agent");
            return Err(EarlyExit::LeftAlone);
        }
        let mut requested = None;
        let mut patience = never();
        let mut look_ms = limits::SESSION_POLL_MS_FIRST;
        let mut look = after(Duration::from_millis(look_ms));
        loop {
            select! {
                recv(ended) -> _ => {
                    failpoint::here("agent_ended");
                    return Ok(requested);
                }
                recv(look) -> _ => {
                    look_ms = (2 * look_ms).min(limits::SESSION_POLL_MS_MAX);
                    look = if learn() { after(Duration::from_millis(look_ms)) } else { never() };
                }
                recv(control.stop()) -> stop => match stop.unwrap_or(Stop::LeaseLost) {
                    Stop::Detach | Stop::LeaseLost => return Err(EarlyExit::LeftAlone),
                    stop @ (Stop::Cancel | Stop::Shutdown) => {
                        if requested.replace(stop).is_none() {
                            if let Err(error) = remains::request_end(dir, shim) {
                                tracing::error!(pid = shim.pid, %error, "cannot signal the shim");
                            }
                            patience = after(self.ending_time());
                        }
                    }
                },
                recv(patience) -> _ => {
                    tracing::error!(pid = shim.pid, "the shim does not end its agent; killing both");
                    // One that cannot be signalled is gone, or is looked at again.
                    let _ = shim.signal(Signal::SIGKILL);
                    patience = after(self.ending_time());
                }
            }
        }
    }

    /// Twice what the shim needs, and what a busy machine adds.
    pub(super) fn ending_time(&self) -> Duration {
        let grace_ms = self.settings.limits.kill_grace_ms;
        Duration::from_millis(2 * grace_ms + limits::SHIM_READY_MS_MAX)
    }
}
