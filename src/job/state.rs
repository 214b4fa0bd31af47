//! Where a job stands.

use std::fmt;
use std::str::FromStr;

use crate::job::{Lease, Reason};
use crate::time::Timestamp;

/// Where a job stands. Data lives in the variant that needs it.
///
/// There are no more than these: an attempt may end in new ways, a [`Reason`] each, but a job waits,
/// is worked on, or has ended well, badly or not at all. So match all of them, without `_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waits for its time, its turn or a free agent.
    Pending(Pending),
    /// Claimed: a worker holds a lease on it, its agent is at work.
    Notified(Lease),
    /// The work was done.
    Completed(Outcome),
    /// It failed and no retry is left.
    Error(Outcome),
    /// Somebody called it off.
    Cancelled(Outcome),
}

impl State {
    /// Its name alone.
    pub fn kind(&self) -> StateKind {
        match self {
            State::Pending(_) => StateKind::Pending,
            State::Notified(_) => StateKind::Notified,
            State::Completed(_) => StateKind::Completed,
            State::Error(_) => StateKind::Error,
            State::Cancelled(_) => StateKind::Cancelled,
        }
    }
}

/// The name of a state, as users see and type it. As closed as [`State`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKind {
    /// `pending`
    Pending,
    /// `notified`
    Notified,
    /// `completed`
    Completed,
    /// `error`
    Error,
    /// `cancelled`
    Cancelled,
}

impl StateKind {
    /// All of them, in the order of a job's life.
    pub const ALL: [StateKind; 5] = [
        StateKind::Pending,
        StateKind::Notified,
        StateKind::Completed,
        StateKind::Error,
        StateKind::Cancelled,
    ];

    /// As users see it.
    pub fn name(self) -> &'static str {
        match self {
            StateKind::Pending => "pending",
            StateKind::Notified => "notified",
            StateKind::Completed => "completed",
            StateKind::Error => "error",
            StateKind::Cancelled => "cancelled",
        }
    }

    /// Whether nothing but a retry leaves it.
    pub fn is_ended(self) -> bool {
        match self {
            StateKind::Pending | StateKind::Notified => false,
            StateKind::Completed | StateKind::Error | StateKind::Cancelled => true,
        }
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for StateKind {
    type Err = String;

    fn from_str(text: &str) -> Result<StateKind, String> {
        let names = StateKind::ALL.map(StateKind::name).join(", ");
        StateKind::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("'{text}' is not a state (one of {names}, all)"))
    }
}

/// What a pending job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pending {
    /// Due from this time on; [`Timestamp::NEVER`] is not before a person frees the job.
    pub run_at: Timestamp,
    /// Since when it is pending: enqueued, put back, or retried.
    pub since: Timestamp,
}

impl Pending {
    /// Whether only a person frees the job: by a retry, or by an edit of its time.
    pub fn is_held(&self) -> bool {
        self.run_at == Timestamp::NEVER
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Why.
    pub reason: Reason,
    /// The evidence in words.
    pub detail: String,
    /// When.
    pub finished_at: Timestamp,
}
