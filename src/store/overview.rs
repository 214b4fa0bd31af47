//! What a store shows of itself.

use crate::job::{AgentKey, Hold, IssueRef, Job, JobId, StateKind, Usage};
use crate::time::Timestamp;

/// Which jobs to list.
///
/// ```
/// use kugetsu::job::StateKind;
/// use kugetsu::store::ListQuery;
///
/// let mut query = ListQuery::all(10);
/// query.states = vec![StateKind::Pending, StateKind::Notified];
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListQuery {
    /// Only these states; empty is all.
    pub states: Vec<StateKind>,
    /// Only this issue.
    pub issue: Option<IssueRef>,
    /// At most this many.
    pub limit: usize,
}

impl ListQuery {
    /// The first `limit` of all jobs.
    pub fn all(limit: usize) -> ListQuery {
        ListQuery { states: Vec::new(), issue: None, limit }
    }
}

/// A page of a list: running jobs first, then pending ones, both in the order of their numbers, and
/// then ended ones, from the one that ended last.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The jobs.
    pub items: Vec<Job>,
    /// How many jobs the query has in all, those beyond the limit counted.
    pub total: u64,
}

/// How many jobs are where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Waiting.
    pub pending: u64,
    /// Running.
    pub notified: u64,
    /// Done.
    pub completed: u64,
    /// Failed.
    pub error: u64,
    /// Called off.
    pub cancelled: u64,
    /// Of those that wait: jobs that only a person frees.
    pub held: u64,
    /// Of those that run: jobs whose end is still to be read.
    pub judging: u64,
    /// When the oldest pending job was enqueued.
    pub oldest_pending: Option<Timestamp>,
    /// When the next delayed job is due; not set while none is delayed.
    pub next_due: Option<Timestamp>,
    /// The pause of the queue, while there is one.
    pub paused: Option<Paused>,
    /// Agent commands that are held, by their keys.
    pub holds: Vec<Hold>,
    /// Attempts that ended, ever: also of jobs that were removed.
    pub attempts: u64,
    /// What these attempts used up.
    pub usage: Usage,
}

/// A pause of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Paused {
    /// When it ends by itself; `None` is not before somebody resumes.
    pub until: Option<Timestamp>,
    /// Since when; `None` if an older version paused it, which kept no more than the end.
    pub since: Option<Timestamp>,
    /// The job whose agent asked for it; `None` if a person did.
    pub job: Option<JobId>,
    /// That agent's words.
    pub why: String,
}

/// What a resume has ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Resumed {
    /// The pause of the queue, if there was one.
    pub paused: Option<Paused>,
    /// The holds of agent commands.
    pub holds: Vec<Hold>,
}

impl Stats {
    /// How many jobs are unfinished that only a person can let go on, as far as a worker with this
    /// agent command can see.
    pub fn stuck(&self, agent: Option<&AgentKey>) -> u64 {
        let paused = self.paused.as_ref().is_some_and(|paused| paused.until.is_none());
        let mut holds = self.holds.iter().filter(|hold| Some(&hold.agent) == agent);
        let agent_held = holds.any(|hold| hold.until.is_none());
        if paused || agent_held { self.pending } else { self.held }
    }

    /// How many jobs are in a state.
    pub fn count(&self, kind: StateKind) -> u64 {
        match kind {
            StateKind::Pending => self.pending,
            StateKind::Notified => self.notified,
            StateKind::Completed => self.completed,
            StateKind::Error => self.error,
            StateKind::Cancelled => self.cancelled,
        }
    }
}

/// What is between a job and its turn, at one moment. Of a job that is not pending, only what is
/// said of the queue means anything.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Position {
    /// The job.
    pub job: Job,
    /// The moment.
    pub now: Timestamp,
    /// Jobs that are notified and count against the cap.
    pub notified: u64,
    /// The pause of the queue, while there is one.
    pub paused: Option<Paused>,
    /// Agent commands that are held, by their keys.
    pub holds: Vec<Hold>,
    /// The job of the same issue that is notified.
    pub running_of_issue: Option<JobId>,
    /// The first in claim order of the issue's jobs that are due.
    pub first_of_issue: Option<JobId>,
    /// Jobs of other issues that could be claimed now and go before it: one of each issue, at most
    /// as many as were to be counted.
    pub ahead: usize,
}
