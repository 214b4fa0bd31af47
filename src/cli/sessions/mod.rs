//! `list`, `destroy` and `prune`: the sessions of issues, with their worktrees and branches.

pub(super) mod destroy;
pub(super) mod list;
pub(super) mod prune;

use std::collections::BTreeMap;

use crate::agent::{AgentSettings, remove_workplace};
use crate::cli::context::CliError;
use crate::job::{IssueRef, Job, Session, StateKind};
use crate::queue::{Queue, QueueError};
use crate::store::{ListQuery, OpRefused};

/// An issue that was worked on.
struct Known {
    issue: IssueRef,
    /// `None` when its worktree was made and nothing came of it.
    session: Option<Session>,
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
    if let Err(why) = remove_workplace(settings, &known.issue, force, is_free) {
        return Ok(Err(why));
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
