//! Judging a run that is over: gathering the facts, and asking the rules of [`crate::run`].

use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use crate::agent::early_exit::{EarlyExit, is_machines_fault_in_words};
use crate::agent::plan::AnyPlan;
use crate::agent::{AgentExecutor, legacy, result, seeing, transcript, usage_of};
use crate::dialect::Trouble;
use crate::executor::{Control, Stop};
use crate::job::{Job, Reason, Report, Run, Usage, limits};
use crate::process::remains::{self, Left};
use crate::process::run::{Cause, ExitRecord, RunDir};
use crate::process::safe_file;
use crate::run::{self, End, Facts, Progress, Ruling, Seen, Verdict, judge};
use crate::time::{self, Timestamp};

/// A run that is over, and all that is known of it.
pub(super) struct OverRun<'r> {
    pub dir: &'r RunDir,
    pub plan: &'r AnyPlan,
    pub record: &'r ExitRecord,
    /// The request to stop that was passed on, if one was.
    pub requested: Option<Stop>,
}

impl AgentExecutor {
    /// Judges a run. What cannot be read now is looked at again, for an hour from the run's end;
    /// meanwhile the job counts against no cap, and a request to stop is heard.
    pub(super) fn judge_until_known(
        &self,
        job: &Job,
        control: &Control,
        over: &OverRun<'_>,
    ) -> Result<Verdict, EarlyExit> {
        let mut pause_ms = limits::JUDGE_PAUSE_MS_FIRST;
        for look in 0.. {
            let why = match self.judge_once(job, over, control.now()) {
                Verdict::Unreadable(why) => why,
                verdict @ (Verdict::Over(_) | Verdict::Another(_)) => return Ok(verdict),
            };
            if self.is_given_up(over.dir, control.now()) {
                let detail = format!("what the agent left cannot be read: {why}");
                let mut report = Report::new(Reason::Unreadable, detail);
                report.usage = progress_of(over.plan).usage.plus(usage_of(over.record));
                return Ok(Verdict::Over(Ruling { report, forgets_session: false }));
            }
            if look == 0 {
                tracing::warn!(job = %job.id, why, "cannot judge the run; looking again");
                control.judging(&why)?;
            }
            match control.stop().recv_timeout(Duration::from_millis(pause_ms)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Stop::Cancel) => {
                    let mut report = Report::new(Reason::Cancelled, "ended on request");
                    report.usage = progress_of(over.plan).usage.plus(usage_of(over.record));
                    return Ok(Verdict::Over(Ruling { report, forgets_session: false }));
                }
                // The next worker judges it.
                Ok(Stop::Shutdown | Stop::Detach | Stop::LeaseLost)
                | Err(RecvTimeoutError::Disconnected) => return Err(EarlyExit::LeftAlone),
            }
            pause_ms = (2 * pause_ms).min(limits::JUDGE_PAUSE_MS_MAX);
        }
        unreachable!("it is given up after an hour")
    }

    /// Judges a run by what can be read now.
    pub(super) fn judge_once(&self, job: &Job, over: &OverRun<'_>, now: Timestamp) -> Verdict {
        let OverRun { dir, plan, record, requested } = over;
        let seen = self.seen(job, over);
        let said = transcript::said(&self.settings.log(job.id), plan.log_from(), record, now);
        let trouble = said
            .trouble
            .map(|trouble| Trouble { words: self.settings.masked(&trouble.words), ..trouble });
        judge(&Facts {
            completion: self.settings.completion,
            end: &end_of(record),
            seen: &seen,
            trouble: trouble.as_ref(),
            last_words: &self.settings.masked(&said.last_words),
            result: &result::read(dir),
            is_resumed: match plan {
                AnyPlan::Current(plan) => plan.is_resumed,
                AnyPlan::Old(_) => false,
            },
            progress: progress_of(plan),
            requested: *requested,
            now,
        })
    }

    fn seen(&self, job: &Job, over: &OverRun<'_>) -> Seen {
        // By the exit code alone nobody needs to look into the clone, but it tells how much was done.
        match over.plan {
            AnyPlan::Current(plan) => seeing::seen(&self.settings, job, plan),
            AnyPlan::Old(plan) => legacy::seen(&self.settings, job, plan),
        }
    }

    fn is_given_up(&self, dir: &RunDir, now: Timestamp) -> bool {
        let ended_at = dir.ended_at(now);
        now.ms_since(ended_at) >= limits::JUDGE_MS_MAX
    }

    /// How a run ended whose shim was this worker's child.
    pub(super) fn record_of(
        &self,
        job: &Job,
        dir: &RunDir,
        run: &Run,
        nonce: &str,
    ) -> Result<ExitRecord, EarlyExit> {
        let deadline = time::monotonic() + self.ending_time();
        match remains::settle(dir, run, Some(nonce), deadline) {
            Ok(Left::Record(record)) => Ok(*record),
            Ok(Left::NothingRan) => {
                let why = "the shim ended before the agent started";
                Err(Report::new(Reason::StartFailed, why).into())
            }
            Ok(Left::Vanished(why)) => Err(self.lost(job, dir, &why_lost(dir, &why)).into()),
            // Something of it lives on, or nothing is known: the issue stays taken, and recovery
            // looks again.
            Ok(Left::Supervised | Left::Orphaned) | Err(_) => Err(EarlyExit::LeftAlone),
        }
    }

    /// A run that nobody saw end. What it committed counts for the next attempt.
    pub(super) fn lost(&self, job: &Job, dir: &RunDir, why: &str) -> Report {
        let plan = AnyPlan::read(dir).unwrap_or_default();
        let mut report = Report::new(Reason::Lost, why);
        if let Some(AnyPlan::Current(plan)) = &plan
            && let Seen::Evidence(evidence) = seeing::seen(&self.settings, job, plan)
        {
            report.commits = evidence.commits;
            report.tip = evidence.tip;
        }
        if let Some(AnyPlan::Old(plan)) = &plan
            && let Seen::Evidence(evidence) = legacy::seen(&self.settings, job, plan)
        {
            report.commits = evidence.commits;
        }
        report.usage = plan.as_ref().map_or(Progress::default(), progress_of).usage;
        report
    }
}

/// A shim that failed by itself has said why.
fn why_lost(dir: &RunDir, why: &str) -> String {
    let said = safe_file::read_tail(&dir.file("shim.log"), 0, limits::SHIM_WORDS_BYTES_MAX);
    let said = String::from_utf8_lossy(&said.ok().flatten().unwrap_or_default()).into_owned();
    match said.lines().find_map(|line| line.strip_prefix("error: ")) {
        Some(error) => format!("it cannot be known how the agent ended: {error}"),
        None => why.into(),
    }
}

fn progress_of(plan: &AnyPlan) -> Progress {
    match plan {
        AnyPlan::Current(plan) => plan.progress,
        // No further run is begun in an old worktree.
        AnyPlan::Old(_) => Progress {
            is_reminded: true,
            is_brought: true,
            is_renewed: true,
            usage: Usage::NOTHING,
        },
    }
}

fn end_of(record: &ExitRecord) -> End {
    End {
        cause: match record.cause {
            Cause::Exited => run::Cause::Exited,
            Cause::NotStarted => run::Cause::NotStarted,
            Cause::Timeout => run::Cause::Timeout,
            Cause::IdleTimeout => run::Cause::IdleTimeout,
            Cause::LogLimit => run::Cause::LogLimit,
            Cause::StepLimit => run::Cause::StepLimit,
            Cause::CostLimit => run::Cause::CostLimit,
            Cause::ProviderWait => run::Cause::ProviderWait,
            Cause::Terminated => run::Cause::Terminated,
        },
        exit_code: record.exit_code,
        signal: record.signal,
        detail: record.detail.clone(),
        is_machines_fault: is_machines_fault_in_words(&record.detail),
        is_oom_victim: record.is_oom_victim(),
        was_ordered: record.was_ordered,
        usage: usage_of(record),
    }
}
