//! Runs whose worker is gone: waiting for their end, and judging what they left.

use std::path::PathBuf;

use crate::agent::AgentExecutor;
use crate::agent::early_exit::EarlyExit;
use crate::agent::judging::OverRun;
use crate::agent::plan::AnyPlan;
use crate::agent::rounds::Round;
use crate::agent::workspace::Workspace;
use crate::executor::{Control, Found, Stop};
use crate::failpoint;
use crate::job::{Job, Reason, Report, Run};
use crate::process::identity::{self, Identity};
use crate::process::remains::{self, Left};
use crate::process::run::{ExitRecord, RunDir};
use crate::run::Verdict;
use crate::time::{self, Clock, SystemClock};

impl AgentExecutor {
    /// Takes over a run from a worker that is gone: waits for its end, if it lives, and judges it.
    pub(super) fn resume_attempt(&self, job: &Job, control: &Control) -> Result<Report, EarlyExit> {
        let nothing_ran =
            || Report::new(Reason::Shutdown, "its worker was gone before the agent started");
        let Some(run) = job.lease().and_then(|lease| lease.run.as_ref()) else {
            return Ok(nothing_ran());
        };
        let dir = RunDir::at(&self.settings.runs().join(&run.folder));
        let shim = Identity { pid: run.pid, start_time: run.start_time };
        let mut requested = None;
        if identity::boot_id().is_ok_and(|boot| boot == run.boot_id) && shim.is_alive() {
            let wait = move |dir: &RunDir| {
                dir.wait_for_shim(shim);
                Ok(())
            };
            // What the agent is called is learned from its log at the end.
            requested = self.attend(control, &dir, shim, wait, || false)?;
        }
        let (dir, record) = match self.what_is_left(&dir, run)? {
            Left::NothingRan => match self.run_before(job, run) {
                Some(before) if requested.is_none() => before,
                Some(_) | None => return Ok(nothing_ran()),
            },
            Left::Vanished(why) => return Ok(self.lost(job, &dir, &why)),
            Left::Record(record) => (dir, *record),
            Left::Supervised | Left::Orphaned => return Err(EarlyExit::LeftAlone),
        };
        let Some(plan) = AnyPlan::read(&dir).unwrap_or_default() else {
            return Ok(Report::new(Reason::Lost, "the run's plan is gone or damaged"));
        };
        let over = OverRun { dir: &dir, plan: &plan, record: &record, requested };
        self.settle_or_go_on(job, control, run, &over)
    }

    fn settle_or_go_on(
        &self,
        job: &Job,
        control: &Control,
        run: &Run,
        over: &OverRun<'_>,
    ) -> Result<Report, EarlyExit> {
        let verdict = self.judge_until_known(job, control, over)?;
        let mut session = control.session(job)?;
        if let Some(session) = &mut session {
            self.learn_session(job, control, session, over.plan.log_from());
        }
        match verdict {
            Verdict::Over(ruling) => {
                if let Some(session) = session.as_mut().filter(|_| ruling.forgets_session) {
                    self.forget_session(job, control, session);
                }
                Ok(ruling.report)
            }
            Verdict::Another(purpose) => {
                failpoint::here("reminded");
                let AnyPlan::Current(plan) = over.plan else {
                    unreachable!("no further run is begun in an old worktree")
                };
                let workspace = Workspace::of_attempt(
                    self.settings.worktree(&job.issue),
                    plan.branch.clone(),
                    plan.base.clone(),
                    plan.before.clone(),
                    plan.changes.clone(),
                );
                let session = match session {
                    Some(session) => session,
                    None => self.keep_session(job, control, &workspace)?,
                };
                let round = Round::after(run.round, plan.progress, over.record, purpose);
                self.run_rounds(job, control, &workspace, session, round)
            }
            Verdict::Unreadable(_) => unreachable!("it is judged until it is known"),
        }
    }

    /// The last run of the attempt that is over, if this one came to nothing: what followed from it
    /// is done again. Tokens and rounds grow.
    fn run_before(&self, job: &Job, run: &Run) -> Option<(RunDir, ExitRecord)> {
        if run.round == 1 {
            return None;
        }
        let record_of = |path: PathBuf| {
            let dir = RunDir::at(&path);
            let name = dir.name();
            let mut numbers = name.split('-').skip(1).map(str::parse::<u64>);
            let order = (numbers.next()?.ok()?, numbers.next()?.ok()?);
            let record = dir.exit_record().ok()??;
            (name != run.folder).then_some((order, dir, record))
        };
        let last =
            self.run_folders(job.id).into_iter().filter_map(record_of).max_by_key(|run| run.0)?;
        Some((last.1, last.2))
    }

    /// What a dead shim left, once all of its run is dead too.
    fn what_is_left(&self, dir: &RunDir, run: &Run) -> Result<Left, EarlyExit> {
        let deadline = time::monotonic() + self.ending_time();
        remains::settle(dir, run, None, deadline).map_err(|error| {
            // Not known to be dead is alive: nobody else may work on the issue.
            tracing::warn!(folder = %dir.path().display(), %error, "cannot inspect a run");
            EarlyExit::LeftAlone
        })
    }

    /// Inspects a run whose worker is gone: changes nothing, and waits for nothing.
    pub(super) fn inspect_run(&self, job: &Job) -> Found {
        let Some(lease) = job.lease() else { return Found::NothingRan };
        let Some(run) = &lease.run else { return Found::NothingRan };
        let dir = RunDir::at(&self.settings.runs().join(&run.folder));
        let requested = lease.cancel_requested.then_some(Stop::Cancel);
        match remains::inspect(&dir, run, None) {
            Ok(Left::Supervised | Left::Orphaned) => Found::Alive,
            // A reminder is not over before a worker has tried again.
            Ok(Left::NothingRan) if requested.is_none() && self.run_before(job, run).is_some() => {
                Found::Alive
            }
            Ok(Left::NothingRan) => Found::NothingRan,
            Ok(Left::Vanished(why)) => Found::Ended(self.lost(job, &dir, &why)),
            Ok(Left::Record(record)) => self.judge_remains(job, &dir, &record, requested),
            Err(error) => {
                // Not known to be dead is alive: nobody else may work on the issue.
                tracing::warn!(job = %job.id, %error, "cannot inspect what its run left");
                Found::Alive
            }
        }
    }

    /// Ends what lives of a run without its shim, and asks the shim of a job that is called off for
    /// the end of its agent.
    pub(super) fn enforce_limits(&self, job: &Job) {
        let Some(lease) = job.lease() else { return };
        let Some(run) = &lease.run else { return };
        let dir = RunDir::at(&self.settings.runs().join(&run.folder));
        let enforced = remains::inspect(&dir, run, None)
            .and_then(|left| remains::enforce(&dir, run, &left, lease.cancel_requested));
        if let Err(error) = enforced {
            tracing::warn!(job = %job.id, %error, "cannot end what its run left");
        }
    }

    fn judge_remains(
        &self,
        job: &Job,
        dir: &RunDir,
        record: &ExitRecord,
        requested: Option<Stop>,
    ) -> Found {
        let lost = |why: String| Found::Ended(Report::new(Reason::Lost, why));
        let plan = match AnyPlan::read(dir) {
            Ok(Some(plan)) => plan,
            Ok(None) => return lost("the run's plan is gone".into()),
            Err(error) => return lost(format!("the run's plan is damaged: {error}")),
        };
        let over = OverRun { dir, plan: &plan, record, requested };
        match self.judge_once(job, &over, SystemClock.now()) {
            Verdict::Over(ruling) => Found::Ended(ruling.report),
            // The attempt is not over: a worker goes on with it.
            Verdict::Another(_) | Verdict::Unreadable(_) => Found::Alive,
        }
    }
}
