//! The runs of one attempt, one after the other, until there is a verdict.

use crate::agent::early_exit::EarlyExit;
use crate::agent::judging::OverRun;
use crate::agent::plan::AnyPlan;
use crate::agent::workspace::Workspace;
use crate::agent::{AgentExecutor, usage_of};
use crate::executor::Control;
use crate::failpoint;
use crate::git::changes::Changes;
use crate::job::{Job, Report, Session, limits};
use crate::process::run::{ExitRecord, RunDir};
use crate::run::{Progress, Purpose, Verdict};

/// One run of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Round {
    /// From 1. It grows also where a worker died before its agent began.
    pub number: u32,
    pub purpose: Purpose,
    /// What the attempt has been through before.
    pub progress: Progress,
}

impl Round {
    pub fn first() -> Round {
        Round { number: 1, purpose: Purpose::Message, progress: Progress::default() }
    }

    /// The round after one that is over.
    pub fn after(number: u32, progress: Progress, record: &ExitRecord, purpose: Purpose) -> Round {
        let mut progress = Progress { usage: progress.usage.plus(usage_of(record)), ..progress };
        match &purpose {
            Purpose::Message => {}
            Purpose::FreshSession => progress.is_renewed = true,
            Purpose::Bring { .. } => progress.is_brought = true,
            Purpose::Reminder(_) => progress.is_reminded = true,
        }
        Round { number: number + 1, purpose, progress }
    }
}

impl AgentExecutor {
    /// From this round on, until the attempt is over.
    pub(super) fn run_rounds(
        &self,
        job: &Job,
        control: &Control,
        workspace: &Workspace,
        mut session: Session,
        mut round: Round,
    ) -> Result<Report, EarlyExit> {
        for _ in 0..limits::ROUNDS_MAX {
            if round.purpose == Purpose::FreshSession {
                self.forget_session(job, control, &mut session);
                self.begin_from_base(job, control, workspace, &mut session)?;
            }
            let dir = self.run_dir(job, control, round.number);
            let (running, run, plan) =
                self.start(job, control, workspace, &session, &dir, &round)?;
            let (shim, nonce) = (running.identity, running.nonce.clone());
            let learns = self.settings.command.has_sessions();
            let requested = self.attend(
                control,
                &dir,
                shim,
                // A child is waited for, so that it does not stay as a zombie.
                move |_| running.wait(),
                || learns && !self.learn_session(job, control, &mut session, plan.log_from),
            )?;
            let record = self.record_of(job, &dir, &run, &nonce)?;
            let over = OverRun {
                dir: &dir,
                plan: &AnyPlan::Current(plan.clone()),
                record: &record,
                requested,
            };
            self.learn_session(job, control, &mut session, plan.log_from);
            match self.judge_until_known(job, control, &over)? {
                Verdict::Another(purpose) => {
                    tracing::info!(job = %job.id, ?purpose, "the attempt goes on");
                    failpoint::here("reminded");
                    round = Round::after(round.number, round.progress, &record, purpose);
                }
                Verdict::Over(ruling) => {
                    if ruling.forgets_session {
                        self.forget_session(job, control, &mut session);
                    }
                    return Ok(ruling.report);
                }
                Verdict::Unreadable(_) => unreachable!("it is judged until it is known"),
            }
        }
        unreachable!("an attempt is reminded, brought and renewed once each")
    }

    /// What was changed in the clone before the job's first attempt, if a later one asks.
    pub(super) fn changes_before_job(&self, job: &Job) -> Option<Changes> {
        let first = job.first_attempt();
        if job.attempt_number() == first {
            return None;
        }
        let plans = self.run_folders(job.id).into_iter();
        let mut plans = plans.filter_map(|path| AnyPlan::read(&RunDir::at(&path)).ok().flatten());
        plans.find_map(|plan| match plan {
            AnyPlan::Current(plan) if plan.attempt == first => Some(plan.changes),
            AnyPlan::Current(_) | AnyPlan::Old(_) => None,
        })
    }

    fn run_dir(&self, job: &Job, control: &Control, round: u32) -> RunDir {
        let name = format!("{}-{}-{round}", job.id, control.token());
        RunDir::at(&self.settings.runs().join(name))
    }
}
