//! Notifies a supervisor that listens (`NOTIFY_SOCKET`): ready, alive, stopping.

use std::time::Duration;

use sd_notify::NotifyState;

/// The supervisor, if there is one.
pub(super) struct Supervisor {
    ready: bool,
    /// Half of what the supervisor allows between two signs of life.
    interval: Option<Duration>,
}

impl Supervisor {
    pub fn from_environment() -> Supervisor {
        Supervisor { ready: false, interval: sd_notify::watchdog_enabled().map(|limit| limit / 2) }
    }

    pub fn ready(&mut self) {
        if !std::mem::replace(&mut self.ready, true) {
            notify(&NotifyState::Ready);
        }
    }

    /// Called once a round of the loop. Says when it wants to be called again.
    pub fn keep_alive(&mut self) -> Option<Duration> {
        if self.interval.is_some() {
            notify(&NotifyState::Watchdog);
        }
        self.interval
    }

    pub fn stopping(&self) {
        notify(&NotifyState::Stopping);
    }
}

/// Without a socket this does nothing.
fn notify(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::warn!(%error, "cannot notify the supervisor");
    }
}
