//! The agent's session of an issue: kept in the store, learned from the log, dropped when lost.

use crate::agent::base_session::{self, CopyError, Copying};
use crate::agent::early_exit::{EarlyExit, early_exit_on};
use crate::agent::workspace::Workspace;
use crate::agent::{AgentExecutor, transcript};
use crate::executor::Control;
use crate::job::{Job, Reason, Report, Session};
use crate::process::helper::Orphan;

impl AgentExecutor {
    /// The issue's session, in the store before anything runs in its clone.
    pub(super) fn keep_session(
        &self,
        job: &Job,
        control: &Control,
        workspace: &Workspace,
    ) -> Result<Session, EarlyExit> {
        let folder = workspace.folder.to_string_lossy().into_owned();
        let now = control.now();
        let known = control.session(job)?;
        let mut session = Session {
            issue: job.issue.clone(),
            // A session is bound to its folder, and to what is in it: in another one, or in a clone
            // that was made anew, it would hang or go by what is not there.
            id: known
                .as_ref()
                .filter(|session| session.worktree == folder && !workspace.is_new)
                .and_then(|session| session.id.clone()),
            worktree: folder,
            branch: workspace.branch.to_string(),
            last_job: job.id,
            created_at: known.map_or(now, |session| session.created_at),
            used_at: now,
        };
        self.save_session(job, control, &mut session)?;
        Ok(session)
    }

    /// A session that has not begun begins as a copy of the base, if there is one. It is in the
    /// store before the agent runs: whatever becomes of the run, the issue goes on with it.
    pub(super) fn begin_from_base(
        &self,
        job: &Job,
        control: &Control,
        workspace: &Workspace,
        session: &mut Session,
    ) -> Result<(), EarlyExit> {
        let Some(base) = &self.settings.base_session else { return Ok(()) };
        if session.id.is_some() {
            return Ok(());
        }
        let program = self.settings.command.program();
        let copy = base_session::copy(&Copying {
            program,
            base,
            folder: &workspace.folder,
            title: &format!("kugetsu:{}:{}", job.id, job.attempt_number()),
            stop: control.stop(),
            orphan: Orphan::IsKilledBy(&self.settings.shim),
        });
        session.id = Some(copy.map_err(|error| match error {
            CopyError::Stopped(stop) => early_exit_on(stop),
            CopyError::Failed(why) => {
                Report::new(Reason::StartFailed, self.settings.masked(&why)).into()
            }
        })?);
        self.save_session(job, control, session)
    }

    /// The session that the agent named in its log. Says whether it did. A store that is busy now
    /// is no reason to doubt the run.
    pub(super) fn learn_session(
        &self,
        job: &Job,
        control: &Control,
        session: &mut Session,
        log_from: u64,
    ) -> bool {
        let log = self.settings.log(job.id);
        let found = transcript::session(&log, log_from).unwrap_or_default();
        let is_named = found.is_some();
        if is_named && found != session.id {
            session.id = found;
            if self.save_session(job, control, session).is_err() {
                tracing::warn!(job = %job.id, "cannot remember the agent's session");
            }
        }
        is_named
    }

    /// An agent that cannot go on with its session would fail every attempt.
    pub(super) fn forget_session(&self, job: &Job, control: &Control, session: &mut Session) {
        session.id = None;
        if self.save_session(job, control, session).is_err() {
            tracing::warn!(job = %job.id, "cannot forget a session that the agent has lost");
        }
    }

    fn save_session(
        &self,
        job: &Job,
        control: &Control,
        session: &mut Session,
    ) -> Result<(), EarlyExit> {
        session.last_job = job.id;
        session.used_at = control.now();
        Ok(control.save_session(session.clone())?)
    }
}
