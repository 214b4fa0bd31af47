//! Starting an agent: shim, gate, record, and only then the word to go.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::agent::early_exit::{EarlyExit, early_exit_on, start_failed};
use crate::agent::message;
use crate::agent::plan::Plan;
use crate::agent::rounds::Round;
use crate::agent::workspace::Workspace;
use crate::agent::{AgentExecutor, Values};
use crate::executor::Control;
use crate::failpoint;
use crate::git::environment::environment_for_agents;
use crate::job::{Job, Run, Session};
use crate::process::identity;
use crate::process::run::{RESULT, RunDir, RunSpec, TEMPORARY_FOLDER};
use crate::process::spawn::{self, Running};
use crate::run::Purpose;

impl AgentExecutor {
    /// Starts the agent. What another holder of the job could see is written past the gate alone:
    /// this worker may be stopped at any line, and go on when the job is another's.
    pub(super) fn start(
        &self,
        job: &Job,
        control: &Control,
        workspace: &Workspace,
        session: &Session,
        dir: &RunDir,
        round: &Round,
    ) -> Result<(Running, Run, Plan), EarlyExit> {
        dir.create().map_err(start_failed("make the run's folder"))?;
        message::write(job, workspace, &round.purpose, dir)
            .map_err(start_failed("write the message"))?;
        workspace.write_bundle(dir).map_err(start_failed("write what the clone lacks"))?;
        failpoint::here("message_written");
        let spec = self.spec(job, workspace, session, dir, &round.purpose);
        dir.write_spec(&spec).map_err(start_failed("write the run's spec"))?;
        failpoint::here("before_shim");
        tracing::debug!(job = %job.id, "starting the shim");
        let (removed, secrets) = (&spec.environment_removed, self.settings.secret_environment());
        let gated = spawn::spawn(&self.settings.shim, dir, removed, &secrets)
            .map_err(start_failed("start the shim"))?;
        tracing::debug!(job = %job.id, pid = gated.identity().pid, "the shim is at its gate");
        failpoint::here("shim_at_gate");
        let boot_id = identity::boot_id().map_err(start_failed("read the boot id"))?;
        let run = Run {
            pid: gated.identity().pid,
            start_time: gated.identity().start_time,
            boot_id,
            folder: dir.name(),
            started_at: control.now(),
            round: round.number,
        };
        control.record_run(run.clone())?;
        failpoint::here("run_recorded");
        let log = self.settings.log(job.id);
        let log_from = message::begin_log(&log, job, &round.purpose, control.now())
            .map_err(start_failed(&format!("write the log {}", log.display())))?;
        let plan = Plan {
            attempt: job.attempt_number(),
            branch: workspace.branch.clone(),
            base: workspace.base.clone(),
            before: workspace.before.clone(),
            changes: workspace.changes.clone(),
            log_from,
            is_resumed: session.id.is_some(),
            progress: round.progress,
        };
        plan.write(dir).map_err(start_failed("write the run's plan"))?;
        failpoint::here("plan_written");
        // A request that came in the meantime: nothing has run yet, and dropping the gate keeps it
        // so.
        if let Ok(stop) = control.stop().try_recv() {
            return Err(early_exit_on(stop));
        }
        failpoint::here("before_gate");
        let running = gated.open().map_err(start_failed("open the gate"))?;
        failpoint::here("gate_opened");
        let pid = running.identity.pid;
        tracing::info!(job = %job.id, issue = %job.issue, pid, "agent started");
        Ok((running, run, plan))
    }

    fn spec(
        &self,
        job: &Job,
        workspace: &Workspace,
        session: &Session,
        dir: &RunDir,
        purpose: &Purpose,
    ) -> RunSpec {
        let settings = &self.settings;
        let values = self.values(job, workspace, session, dir);
        let (steps, arguments) = match purpose {
            Purpose::Bring { tip } => workspace.bring(tip),
            Purpose::Message => (workspace.steps(dir), settings.command.fill(&values)),
            Purpose::FreshSession | Purpose::Reminder(_) => {
                (Vec::new(), settings.command.fill(&values))
            }
        };
        let sandbox = settings.sandbox(|name| inherited(name).map(PathBuf::from));
        let environment = environment(&values, dir);
        RunSpec {
            arguments,
            folder: workspace.folder.clone(),
            stdin: message::message_file(dir),
            log: settings.log(job.id),
            places: Vec::new(),
            environment,
            environment_removed: settings.environment_removed(),
            limits: settings.limits.of_job(job.timeout_ms),
            steps,
            sandbox,
            untrusted: vec![settings.worktrees()],
        }
    }

    fn values(&self, job: &Job, workspace: &Workspace, session: &Session, dir: &RunDir) -> Values {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Values {
            message_file: text(&message::message_file(dir)),
            session: session.id.clone().unwrap_or_default(),
            worktree: text(&workspace.folder),
            job: job.id.to_string(),
            attempt: job.attempt_number().to_string(),
            issue: job.issue.to_string(),
            branch: workspace.branch.to_string(),
        }
    }
}

/// What an agent finds in its environment: where it is, and that nobody is there to be asked.
fn environment(values: &Values, dir: &RunDir) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let own = [
        ("KUGETSU_MESSAGE_FILE", values.message_file.clone()),
        ("KUGETSU_CONTEXT_FILE", text(&message::context_file(dir))),
        ("KUGETSU_SESSION", values.session.clone()),
        ("KUGETSU_WORKTREE", values.worktree.clone()),
        ("KUGETSU_JOB", format!("{}/{}", values.job, values.attempt)),
        ("KUGETSU_ATTEMPT", values.attempt.clone()),
        ("KUGETSU_ISSUE", values.issue.clone()),
        ("KUGETSU_BRANCH", values.branch.clone()),
        ("KUGETSU_RUN", text(dir.path())),
        ("KUGETSU_RESULT", text(&dir.agent_file(RESULT))),
        ("TMPDIR", text(&dir.agent_file(TEMPORARY_FOLDER))),
    ];
    let quiet = environment_for_agents(|name| inherited(name).is_some());
    let all = quiet.into_iter().chain(own);
    all.map(|(name, value)| (name.to_string(), value)).collect()
}

/// What a variable is in this process's environment, which an agent's is made from.
fn inherited(name: &str) -> Option<OsString> {
    let mut all = std::env::vars_os();
    all.find(|(set, _)| set == name).map(|(_, value)| value).filter(|value| !value.is_empty())
}
