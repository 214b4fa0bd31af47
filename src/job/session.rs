//! What agents remember of an issue.

use crate::job::{IssueRef, Job, JobId};
use crate::time::Timestamp;

/// An issue's agent session, bound to its worktree. A later job of the issue continues it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The issue.
    pub issue: IssueRef,
    /// The agent's own id for it, once it is known.
    pub id: Option<String>,
    /// The folder it works in.
    pub worktree: String,
    /// The branch it commits to.
    pub branch: String,
    /// The job that used it last.
    pub last_job: JobId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was used last.
    pub used_at: Timestamp,
}

impl Session {
    /// A session that a job makes at `now`, without an id yet.
    pub fn new(
        job: &Job,
        worktree: impl Into<String>,
        branch: impl Into<String>,
        now: Timestamp,
    ) -> Session {
        Session {
            issue: job.issue.clone(),
            id: None,
            worktree: worktree.into(),
            branch: branch.into(),
            last_job: job.id,
            created_at: now,
            used_at: now,
        }
    }
}
