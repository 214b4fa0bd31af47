//! What a job is and how it may change. Pure: no I/O, clock, randomness or threads.
//!
//! A [`NewJob`] is asked for; the store makes a [`Job`] of it, which is in one [`State`] at a time.
//! An [`Event`] may change that, or is [`Refused`]. `docs/STATES.md` in the repository has the
//! picture, and every answer.

mod agent_key;
mod branch_template;
mod hosts;
mod ids;
pub mod issue_ref;
mod lease;
pub mod limits;
mod new_job;
pub(crate) mod order;
mod reason;
mod report;
pub(crate) mod retry;
mod run_limits;
mod session;
mod state;
pub(crate) mod transition;
mod usage;
pub(crate) mod why;

use crate::job::new_job::{check_max_attempts, check_message, check_request_id, check_timeout};
use crate::job::transition::is_commit;
use crate::time::Timestamp;

pub use agent_key::{AgentKey, Hold};
pub use branch_template::BranchTemplate;
pub(crate) use branch_template::check_branch;
pub use hosts::{Host, Hosts};
pub use ids::{JobId, Token, WorkerId};
pub use issue_ref::IssueRef;
pub use lease::{Lease, Run};
pub use new_job::{Edit, NewJob};
pub use reason::Reason;
pub use report::{Attempt, Report, Spent};
pub use retry::RetryPolicy;
pub use run_limits::RunLimits;
pub use session::Session;
pub use state::{Outcome, Pending, State, StateKind};
pub(crate) use transition::Next;
pub use transition::{Event, Refused};
pub use usage::Usage;

/// A job as the store held it when it was asked. A copy: changing it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// The issue it works on.
    pub issue: IssueRef,
    /// What the agent is told.
    pub message: String,
    /// Higher goes first.
    pub priority: i16,
    /// Wall-clock limit of one attempt in milliseconds, if the job has its own.
    pub timeout_ms: Option<u64>,
    /// Attempts the job asked for, if it did.
    pub max_attempts: Option<u32>,
    /// The caller's name for the request, if it gave one.
    pub request_id: Option<String>,
    /// When it was acknowledged.
    pub enqueued_at: Timestamp,
    /// Where it stands.
    pub state: State,
    /// What it has used up of its budgets.
    pub spent: Spent,
    /// Its last attempts, oldest first, at most [`limits::ATTEMPTS_KEPT_MAX`].
    pub attempts: Vec<Attempt>,
}

impl Job {
    /// The pending job that a request becomes.
    pub(crate) fn new(id: JobId, new: NewJob, now: Timestamp) -> Job {
        Job {
            id,
            issue: new.issue,
            message: new.message,
            priority: new.priority,
            timeout_ms: new.timeout_ms,
            max_attempts: new.max_attempts,
            request_id: new.request_id,
            enqueued_at: now,
            state: State::Pending(Pending {
                run_at: new.run_at.unwrap_or(now).max(now),
                since: now,
            }),
            spent: Spent::default(),
            attempts: Vec::new(),
        }
    }

    /// Refuses what no store may take over from another one.
    pub(crate) fn validate(&self) -> Result<(), String> {
        check_message(&self.message)?;
        check_request_id(self.request_id.as_deref())?;
        check_max_attempts(self.max_attempts)?;
        check_timeout(self.timeout_ms)?;
        if self.lease().is_some() {
            return Err("a job that runs stays where it runs".into());
        }
        let limit = limits::ATTEMPTS_KEPT_MAX;
        if self.attempts.len() > limit {
            return Err(format!("a job remembers at most {limit} attempts"));
        }
        let reports = || self.attempts.iter().map(|attempt| &attempt.report);
        if reports().filter_map(|report| report.tip.as_deref()).any(|tip| !is_commit(tip)) {
            return Err("a tip is the name of a commit".into());
        }
        let limit = limits::WORK_BYTES_MAX;
        if reports().filter_map(|report| report.work.as_ref()).any(|work| work.len() > limit) {
            return Err(format!("the place of an attempt's work has at most {limit} bytes"));
        }
        let details = reports().map(|report| &report.detail);
        let details = details.chain(self.outcome().map(|outcome| &outcome.detail));
        let limit = limits::DETAIL_BYTES_MAX;
        match details.map(|detail| detail.len()).max() {
            Some(length) if length > limit => Err(format!("a detail has at most {limit} bytes")),
            Some(_) | None => Ok(()),
        }
    }

    /// The lease, while the job is notified.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Notified(lease) => Some(lease),
            State::Pending(_) | State::Completed(_) | State::Error(_) | State::Cancelled(_) => None,
        }
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            State::Completed(outcome) | State::Error(outcome) | State::Cancelled(outcome) => {
                Some(outcome)
            }
            State::Pending(_) | State::Notified(_) => None,
        }
    }

    /// Commits of the attempts since the last one that completed the job. Whatever ended them, the
    /// work is on the branch.
    pub fn commits_of_failed_attempts(&self) -> u32 {
        let is_success = |reason| retry::class(reason) == retry::Class::Success;
        let failed = self.attempts.iter().rev().take_while(|a| !is_success(a.report.reason));
        failed.map(|attempt| attempt.report.commits).sum()
    }

    /// Number of the first attempt since a user's last retry, whether it was made yet or not. Work
    /// of earlier ones was judged before.
    pub fn first_attempt(&self) -> u32 {
        self.spent.claims_before.saturating_add(1)
    }

    /// Whether only a person frees the job.
    pub fn is_held(&self) -> bool {
        match &self.state {
            State::Pending(pending) => pending.is_held(),
            State::Notified(_) | State::Completed(_) | State::Error(_) | State::Cancelled(_) => {
                false
            }
        }
    }

    /// Whether its agent has ended, and how cannot be read yet.
    pub fn is_judging(&self) -> bool {
        self.lease().is_some_and(|lease| lease.judging.is_some())
    }

    /// Number of the attempt that runs or ran last, from 1; 0 before the first claim.
    pub fn attempt_number(&self) -> u32 {
        self.spent.claims
    }
}
