//! Why an attempt ended.

use std::fmt;
use std::str::FromStr;

/// Why an attempt ended. The names are part of the contract.
///
/// It decides what becomes of the job. [`Reason::Done`] completes it, [`Reason::Cancelled`] cancels
/// it, [`Reason::Shutdown`] puts it back for nothing. [`Reason::AgentError`] is tried again
/// [`RetryPolicy::max_attempts`] times, or as often as [`NewJob::max_attempts`] says.
/// [`Reason::Lost`], [`Reason::StartFailed`] and [`Reason::Deferred`] have budgets of their own in
/// [`limits`]. All others end the job in error, unless it asked for several attempts.
///
/// [`RetryPolicy::max_attempts`]: crate::job::RetryPolicy::max_attempts
/// [`NewJob::max_attempts`]: crate::job::NewJob::max_attempts
/// [`limits`]: crate::job::limits
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The work was done.
    Done,
    /// The agent ended, and there is nothing new.
    NoChanges,
    /// The agent ended and left changes without a commit, after a reminder too.
    Uncommitted,
    /// The wall-clock limit.
    Timeout,
    /// No sign of life for too long.
    IdleTimeout,
    /// The agent ended with an error and without a commit.
    AgentError,
    /// The agent did not come up.
    StartFailed,
    /// Repository, worktree or branch could not be had.
    WorktreeFailed,
    /// The agent vanished: killed, or the machine went down.
    Lost,
    /// The agent wrote more log than it may.
    LogLimit,
    /// The agent called its model more often than it may.
    StepLimit,
    /// The agent cost more than it may.
    CostLimit,
    /// Called off.
    Cancelled,
    /// The worker was told to stop and put the job back.
    Shutdown,
    /// Not now: the agent, its provider or the network asks for later.
    Deferred,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 15] = [
        Reason::Done,
        Reason::NoChanges,
        Reason::Uncommitted,
        Reason::Timeout,
        Reason::IdleTimeout,
        Reason::AgentError,
        Reason::StartFailed,
        Reason::WorktreeFailed,
        Reason::Lost,
        Reason::LogLimit,
        Reason::StepLimit,
        Reason::CostLimit,
        Reason::Cancelled,
        Reason::Shutdown,
        Reason::Deferred,
    ];

    /// As users and programs see it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Done => "done",
            Reason::NoChanges => "no_changes",
            Reason::Uncommitted => "uncommitted",
            Reason::Timeout => "timeout",
            Reason::IdleTimeout => "idle_timeout",
            Reason::AgentError => "agent_error",
            Reason::StartFailed => "start_failed",
            Reason::WorktreeFailed => "worktree_failed",
            Reason::Lost => "lost",
            Reason::LogLimit => "log_limit",
            Reason::StepLimit => "step_limit",
            Reason::CostLimit => "cost_limit",
            Reason::Cancelled => "cancelled",
            Reason::Shutdown => "shutdown",
            Reason::Deferred => "deferred",
        }
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Reason, String> {
        let named = Reason::ALL.into_iter().find(|reason| reason.name() == text);
        named.ok_or_else(|| format!("'{text}' is not a reason"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
