//! How an attempt went, and what attempts have cost a job.

use crate::job::{Reason, Token, Usage, WorkerId};
use crate::time::Timestamp;

/// What a job has used up. A user's `retry` starts all but the claims anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Spent {
    /// Claims ever made: the number of the last attempt.
    pub claims: u32,
    /// Claims made before a user's last `retry`: what was done since then is what counts.
    pub claims_before: u32,
    /// Attempts that count against `max_attempts`.
    pub attempts: u32,
    /// Agents lost.
    pub lost: u32,
    /// Agents that did not come up.
    pub start_failed: u32,
    /// Times in a row that it was put off: by its agent, its provider or the network.
    pub deferred: u32,
    /// Times in a row that something outside ended it.
    pub interrupted: u32,
}

impl Spent {
    /// The same, with nothing in a row any more.
    pub(crate) fn without_row(self) -> Spent {
        Spent { deferred: 0, interrupted: 0, ..self }
    }
}

/// What is known of an attempt that is over: what an executor answers.
///
/// ```
/// use kugetsu::job::{Reason, Report};
///
/// let mut later = Report::new(Reason::Deferred, "the provider answers 429");
/// later.defer_ms = Some(60_000);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Why it ended.
    pub reason: Reason,
    /// The evidence in words, cut at [`DETAIL_BYTES_MAX`](crate::job::limits::DETAIL_BYTES_MAX).
    pub detail: String,
    /// The agent's exit code, if it had one.
    pub exit_code: Option<i32>,
    /// The signal that ended the agent, if one did.
    pub signal: Option<i32>,
    /// New commits on the branch.
    pub commits: u32,
    /// If the job is tried again: this many milliseconds from now, in place of what the policy
    /// says. For [`Reason::Deferred`] and [`Reason::ProviderLimit`] the time that was named, which
    /// has bounds; 0 is as good as none.
    pub defer_ms: Option<u64>,
    /// Whether the whole queue is to wait as long: other jobs would fare no better. For
    /// [`Reason::Deferred`].
    pub pause: bool,
    /// Whether the job is to wait until a person frees it. For [`Reason::Deferred`].
    pub hold: bool,
    /// The commit that the attempt's work ends in, as hexadecimal digits.
    pub tip: Option<String>,
    /// Where that work is, in words: `branch issue-14`. Cut at
    /// [`WORK_BYTES_MAX`](crate::job::limits::WORK_BYTES_MAX).
    pub work: Option<String>,
    /// What it used up.
    pub usage: Usage,
}

impl Report {
    /// A report without an exit and without commits.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Report {
        Report {
            reason,
            detail: detail.into(),
            exit_code: None,
            signal: None,
            commits: 0,
            defer_ms: None,
            pause: false,
            hold: false,
            tip: None,
            work: None,
            usage: Usage::default(),
        }
    }
}

/// One claim of a job, from lease to end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// The lease it had.
    pub token: Token,
    /// Who made it.
    pub worker: WorkerId,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// When its agent started, if it got that far.
    pub started_at: Option<Timestamp>,
    /// When its end was recorded.
    pub ended_at: Timestamp,
    /// How it went.
    pub report: Report,
}
