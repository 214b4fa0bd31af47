//! Runs whose worker is gone: waiting for their end, and judging what they left.

use std::path::PathBuf;

use crate::agent::completion::Verdict;
use crate::agent::repository::Worktree;
use crate::agent::{AgentExecutor, EarlyExit, OverRun, Plan, Round};
use crate::executor::{Control, Found, Stop};
use crate::failpoint;
use crate::job::{Job, Reason, Report, Run};
use crate::process::identity::{self, Identity};
use crate::process::remains::{self, Left};
use crate::process::run::{ExitRecord, RunDir, read_json};
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
        let mut stop_sent = None;
        if identity::boot_id().is_ok_and(|boot| boot == run.boot_id) && shim.is_alive() {
            let wait = move |dir: &RunDir| {
                dir.wait_for_shim(shim);
                Ok(())
            };
            // What the agent is called is learned from its log at the end.
            stop_sent = self.attend(control, &dir, shim, wait, || false)?;
        }
        let (dir, record) = match self.what_is_left(&dir, run, None)? {
            Left::NothingRan => match self.run_before(job, run) {
                Some(before) if stop_sent.is_none() => before,
                Some(_) | None => return Ok(nothing_ran()),
            },
            Left::Vanished(why) => return Ok(self.lost(&dir, &why)),
            Left::Record(record) => (dir, *record),
            Left::Supervised | Left::Orphaned => return Err(EarlyExit::LeftAlone),
        };
        let Some(plan): Option<Plan> = read_json(&dir.file("plan.json")).unwrap_or_default() else {
            return Ok(Report::new(Reason::Lost, "the run's plan is gone or damaged"));
        };
        let worktree = Worktree {
            folder: plan.worktree.clone(),
            branch: job.issue.branch(),
            base: plan.base.clone(),
            head: plan.head_before.clone(),
        };
        let mut session = self.keep_session(job, control, &worktree)?;
        self.learn_session(job, control, &mut session, &plan);
        let over =
            OverRun { dir: &dir, plan: &plan, record: &record, stop_sent, now: control.now() };
        match self.verdict(job, &over)? {
            Verdict::Remind => {
                failpoint::here("reminded");
                let round = Round { number: run.round + 1, earlier: Some(record) };
                self.run_rounds(job, control, &worktree, session, round)
            }
            Verdict::Over(report) => {
                self.forget_lost_session(job, control, session, &report);
                Ok(report)
            }
        }
    }

    /// The run of the message, if this one is a reminder that came to nothing: it is reminded again.
    /// Tokens grow, so the last one that has a record is that of this attempt.
    fn run_before(&self, job: &Job, run: &Run) -> Option<(RunDir, ExitRecord)> {
        if run.round == 1 {
            return None;
        }
        let record_of = |path: PathBuf| {
            let dir = RunDir::at(&path);
            let token: u64 = dir.name().strip_suffix("-1")?.split('-').nth(1)?.parse().ok()?;
            let record = dir.exit_record().ok()??;
            Some((token, dir, record))
        };
        let last =
            self.runs_of(job.id).into_iter().filter_map(record_of).max_by_key(|run| run.0)?;
        Some((last.1, last.2))
    }

    /// What a dead shim left, once all of its run is dead too. The nonce is known to the worker
    /// alone whose shim it was.
    pub(super) fn what_is_left(
        &self,
        dir: &RunDir,
        run: &Run,
        nonce: Option<&str>,
    ) -> Result<Left, EarlyExit> {
        let deadline = time::monotonic() + self.ending_time();
        remains::settle(dir, run, nonce, deadline).map_err(|error| {
            // Not known to be dead is alive: nobody else may work on the issue.
            tracing::warn!(folder = %dir.path().display(), %error, "cannot look at a run");
            EarlyExit::LeftAlone
        })
    }

    /// Inspects a run whose worker is gone, and waits for nothing.
    pub(super) fn inspect_left(&self, job: &Job) -> Found {
        let Some(lease) = job.lease() else { return Found::NothingRan };
        let Some(run) = &lease.run else { return Found::NothingRan };
        let dir = RunDir::at(&self.settings.runs().join(&run.folder));
        let stop_sent = lease.cancel_requested.then_some(Stop::Cancel);
        let left = remains::inspect(&dir, run, None).and_then(|left| {
            remains::enforce(&dir, run, &left, stop_sent.is_some())?;
            Ok(left)
        });
        match left {
            Ok(Left::Supervised | Left::Orphaned) => Found::Alive,
            // A reminder is not over before a worker has tried again.
            Ok(Left::NothingRan) if stop_sent.is_none() && self.run_before(job, run).is_some() => {
                Found::Alive
            }
            Ok(Left::NothingRan) => Found::NothingRan,
            Ok(Left::Vanished(why)) => Found::Ended(self.lost(&dir, &why)),
            Ok(Left::Record(record)) => self.judge_leftover(job, &dir, &record, stop_sent),
            Err(error) => {
                // Not known to be dead is alive: nobody else may work on the issue.
                tracing::warn!(job = %job.id, %error, "cannot look at what its run left");
                Found::Alive
            }
        }
    }

    fn judge_leftover(
        &self,
        job: &Job,
        dir: &RunDir,
        record: &ExitRecord,
        stop_sent: Option<Stop>,
    ) -> Found {
        let lost = |why: String| Found::Ended(Report::new(Reason::Lost, why));
        let plan: Plan = match read_json(&dir.file("plan.json")) {
            Ok(Some(plan)) => plan,
            Ok(None) => return lost("the run's plan is gone".into()),
            Err(error) => return lost(format!("the run's plan is damaged: {error}")),
        };
        let now = SystemClock.now();
        match self.verdict(job, &OverRun { dir, plan: &plan, record, stop_sent, now }) {
            Ok(Verdict::Over(report)) => Found::Ended(report),
            Err(EarlyExit::Over(report)) => Found::Ended(*report),
            // The attempt is not over: a worker reminds its agent.
            Ok(Verdict::Remind) | Err(EarlyExit::LeftAlone) => Found::Alive,
        }
    }
}
