//! `list`, `destroy` and `prune`: the sessions of issues, with their worktrees and branches.

pub(super) mod destroy;
pub(super) mod list;
pub(super) mod prune;
mod words;

use std::collections::BTreeMap;

use crate::agent::{AgentSettings, Kept, Place, remove_workplace};
use crate::cli::context::CliError;
use crate::job::{IssueRef, Job, JobId, Session, StateKind, limits};
use crate::queue::{Queue, QueueError};
use crate::store::{ListQuery, OpRefused};

/// An issue that was worked on.
struct Known {
    issue: IssueRef,
    /// `None` when its worktree was made and nothing came of it.
    session: Option<Session>,
}

impl Known {
    fn place(&self) -> Place<'_> {
        Place { issue: &self.issue, session: self.session.as_ref() }
    }
}

/// Everything that the store and the folder of worktrees know, by issue.
fn known(queue: &Queue, settings: &AgentSettings) -> Result<Vec<Known>, CliError> {
    let mut known = BTreeMap::new();
    for issue in settings.issues_with_worktree()? {
        known.insert(issue.key().to_string(), Known { issue, session: None });
    }
    for session in queue.sessions()? {
        let issue = session.issue.clone();
        known.insert(issue.key().to_string(), Known { issue, session: Some(session) });
    }
    Ok(known.into_values().collect())
}

/// The issue's job that matters most: the one that runs, or the next, or the last.
fn job_of(queue: &Queue, issue: &IssueRef) -> Result<Option<Job>, QueueError> {
    let query = ListQuery { states: Vec::new(), issue: Some(issue.clone()), limit: 1 };
    Ok(queue.list(&query)?.items.pop())
}

/// All jobs of an issue that may have left something: a session outlives the job that used it.
fn jobs_of(queue: &Queue, known: &Known) -> Result<Vec<JobId>, QueueError> {
    let issue = Some(known.issue.clone());
    let query = ListQuery { states: Vec::new(), issue, limit: limits::ENTRIES_READ_MAX };
    let jobs = queue.list(&query)?.items.into_iter().map(|job| job.id);
    let mut jobs: Vec<JobId> =
        jobs.chain(known.session.as_ref().map(|session| session.last_job)).collect();
    jobs.sort();
    jobs.dedup();
    Ok(jobs)
}

/// Takes worktree, branch and session away, or says why they are kept.
fn remove(
    queue: &Queue,
    settings: &AgentSettings,
    known: &Known,
    force: bool,
) -> Result<Result<(), String>, CliError> {
    let is_free = || match job_of(queue, &known.issue) {
        Ok(Some(job)) if job.state.kind() == StateKind::Notified => {
            Err(format!("job {} is at work there", job.id))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    let jobs = if force { Some(jobs_of(queue, known)?) } else { None };
    match remove_workplace(settings, known.place(), jobs.as_deref(), is_free) {
        Ok(()) => {}
        Err(Kept::Because(why)) => return Ok(Err(why)),
        Err(Kept::Unsaved(place)) => {
            return Ok(Err(words::unsaved(&place).unwrap_or_default()));
        }
    }
    if known.session.is_none() {
        return Ok(Ok(()));
    }
    match queue.forget_session(&known.issue) {
        Ok(()) | Err(QueueError::Refused(OpRefused::NoSuchSession(_))) => Ok(Ok(())),
        // A job began in between, and makes the worktree anew.
        Err(QueueError::Refused(OpRefused::IssueBusy(id))) => {
            Ok(Err(format!("job {id} is at work there")))
        }
        Err(error) => Err(error.into()),
    }
}
