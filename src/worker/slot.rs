//! One job's life in the worker.

use crate::job::{Report, Token};
use crate::time::Monotonic;
use crate::worker::Stop;

/// A job that this worker holds a lease on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub token: Token,
    pub phase: Phase,
    /// Whether another worker began it.
    pub resumed: bool,
    /// Whether its agent has ended, and how cannot be read yet.
    pub judging: bool,
    /// The strongest request to stop that the execution was sent.
    pub stop_sent: Option<Stop>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its execution is under way.
    Executing,
    /// Its end is on the way to the store, and tried again at the time if that fails.
    Finishing { report: Report, retry_at: Option<Monotonic> },
}

impl Slot {
    pub fn new(token: Token) -> Slot {
        Slot { token, phase: Phase::Executing, resumed: false, judging: false, stop_sent: None }
    }

    /// Takes the request if it is stronger than the last one. Says whether to pass it on.
    pub fn escalate(&mut self, stop: Stop) -> bool {
        let is_stronger = self.phase == Phase::Executing
            && self.stop_sent.is_none_or(|sent| strength(sent) < strength(stop));
        if is_stronger {
            self.stop_sent = Some(stop);
        }
        is_stronger
    }
}

/// A lost lease beats everything; ending the work beats leaving it alone.
fn strength(stop: Stop) -> u8 {
    match stop {
        Stop::Detach => 0,
        Stop::Shutdown => 1,
        Stop::Cancel => 2,
        Stop::LeaseLost => 3,
    }
}
