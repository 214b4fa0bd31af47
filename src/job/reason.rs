//! Why an attempt ended.

use std::fmt;
use std::str::FromStr;

/// Why an attempt ended. The names are part of the contract.
///
/// It decides what becomes of the job. [`Reason::Done`] and [`Reason::Updated`] complete it,
/// [`Reason::Cancelled`] cancels it. [`Reason::Shutdown`], [`Reason::Machine`],
/// [`Reason::Interrupted`], [`Reason::Deferred`], [`Reason::ProviderLimit`] and
/// [`Reason::ProviderLogin`] put it back, and cost it nothing. [`Reason::AgentError`] is tried again
/// [`RetryPolicy::max_attempts`] times, or as often as [`NewJob::max_attempts`] says.
/// [`Reason::Lost`] and [`Reason::StartFailed`] have budgets of their own in [`limits`]. All others
/// end the job in error, unless it asked for several attempts.
///
/// [`RetryPolicy::max_attempts`]: crate::job::RetryPolicy::max_attempts
/// [`NewJob::max_attempts`]: crate::job::NewJob::max_attempts
/// [`limits`]: crate::job::limits
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The work was done.
    Done,
    /// The job's own earlier work was brought onto a newer base, and nothing else was to be done.
    Updated,
    /// The agent ended, and there is nothing new.
    NoChanges,
    /// The agent ended and left changes without a commit, after a reminder too.
    Uncommitted,
    /// The agent ended, and its work is not on the branch and could not be brought there.
    OffBranch,
    /// The agent ended in the middle of a merge, a rebase or the like.
    Unmerged,
    /// What the agent left could not be read for too long: nobody knows whether the work was done.
    Unreadable,
    /// What the agent left is no working copy any more. The next attempt, if the job has one, begins
    /// in a fresh one.
    CloneDamaged,
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
    /// Something outside ended the attempt, and no worker had ordered that.
    Interrupted,
    /// The machine could not do it: no room, no memory, no processes, a failing disk.
    Machine,
    /// Not now: the agent or the network asks for later.
    Deferred,
    /// Not now: the agent's provider has a limit that is used up, or is overloaded.
    ProviderLimit,
    /// Not before a person has seen to it: the agent's provider wants a login, or credit.
    ProviderLogin,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 24] = [
        Reason::Done,
        Reason::Updated,
        Reason::NoChanges,
        Reason::Uncommitted,
        Reason::OffBranch,
        Reason::Unmerged,
        Reason::Unreadable,
        Reason::CloneDamaged,
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
        Reason::Interrupted,
        Reason::Machine,
        Reason::Deferred,
        Reason::ProviderLimit,
        Reason::ProviderLogin,
    ];

    /// As users and programs see it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Done => "done",
            Reason::Updated => "updated",
            Reason::NoChanges => "no_changes",
            Reason::Uncommitted => "uncommitted",
            Reason::OffBranch => "off_branch",
            Reason::Unmerged => "unmerged",
            Reason::Unreadable => "unreadable",
            Reason::CloneDamaged => "clone_damaged",
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
            Reason::Interrupted => "interrupted",
            Reason::Machine => "machine",
            Reason::Deferred => "deferred",
            Reason::ProviderLimit => "provider_limit",
            Reason::ProviderLogin => "provider_login",
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
