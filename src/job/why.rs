//! Why a job does not run, or what became of it: from facts alone.

use crate::job::order;
use crate::job::{Hold, Job, JobId, Lease, Outcome, Pending, Reason, State, WorkerId};
use crate::time::Timestamp;

/// What is known about a job and of its surroundings, all at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Facts<'j> {
    pub job: &'j Job,
    pub now: Timestamp,
    /// Most jobs that may run at once.
    pub cap: u32,
    /// Jobs that run.
    pub notified: u64,
    pub pause: Option<Pause>,
    /// What holds back the agent command that workers run here.
    pub agent_held: Option<Hold>,
    /// The job of the same issue that runs.
    pub running_of_issue: Option<JobId>,
    /// The due job of the same issue that goes first, if that is another one.
    pub first_of_issue: Option<JobId>,
    pub ahead: Ahead,
    /// Whether a worker lives that takes jobs.
    pub has_worker: bool,
    /// Of a job that runs: whether its worker lives, as far as that can be told.
    pub worker_lives: Option<bool>,
    /// Of a job that runs: whether its agent's shim lives, if it has got that far.
    pub shim_lives: Option<bool>,
}

/// A pause of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pause {
    /// `None` is until somebody resumes.
    pub until: Option<Timestamp>,
    /// The job whose agent asked for it, and its words; `None` if a person did.
    pub by: Option<(JobId, String)>,
}

/// How many jobs go before one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    Exactly(u64),
    /// Nobody counted further.
    AtLeast(u64),
}

/// One reason. Every state has at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// Nobody is there to take it.
    NoWorker,
    /// Only a person frees it.
    Held {
        /// How its last attempt ended, and the evidence in words.
        after: Option<(Reason, String)>,
    },
    /// The machine could not do it when it was tried last: why, in words.
    Machine(String),
    Paused(Pause),
    /// Its agent command is held back.
    AgentHeld(Hold),
    /// Its time has not come.
    Delayed {
        until: Timestamp,
        /// The failure that it is tried again after; `None` if it was asked for so.
        after: Option<Reason>,
    },
    /// A job of its issue runs.
    IssueBusy(JobId),
    CapReached {
        running: u64,
        cap: u32,
    },
    /// A job of its issue goes first.
    IssueTurn(JobId),
    /// Jobs of other issues go first.
    Behind(Ahead),
    /// Nothing is in its way.
    Next,
    /// It was claimed, and its agent has not started.
    Starting {
        worker: WorkerId,
        since: Timestamp,
    },
    Running {
        worker: WorkerId,
        since: Timestamp,
    },
    /// Its agent has ended, and how cannot be read yet, for this reason.
    Judging(String),
    /// It was called off, and its agent has not ended yet.
    Cancelling,
    /// Nobody looks after it.
    WorkerGone(WorkerId),
    /// Nothing of its agent is left to look after.
    AgentGone,
    Ended(Outcome),
}

impl Why {
    /// As programs see it.
    pub fn code(&self) -> &'static str {
        match self {
            Why::NoWorker => "no_worker",
            Why::Held { .. } => "held",
            Why::Machine(_) => "machine",
            Why::Paused(_) => "paused",
            Why::AgentHeld(_) => "agent_held",
            Why::Delayed { .. } => "delayed",
            Why::IssueBusy(_) => "issue_busy",
            Why::CapReached { .. } => "cap_reached",
            Why::IssueTurn(_) => "issue_turn",
            Why::Behind(_) => "behind",
            Why::Next => "next",
            Why::Starting { .. } => "starting",
            Why::Running { .. } => "running",
            Why::Judging(_) => "judging",
            Why::Cancelling => "cancelling",
            Why::WorkerGone(_) => "worker_gone",
            Why::AgentGone => "agent_gone",
            Why::Ended(_) => "ended",
        }
    }

    /// The other job that it is about.
    pub fn other_job(&self) -> Option<JobId> {
        match self {
            Why::IssueBusy(id) | Why::IssueTurn(id) => Some(*id),
            Why::Paused(pause) => pause.by.as_ref().map(|(id, _)| *id),
            Why::AgentHeld(hold) => Some(hold.job),
            Why::NoWorker
            | Why::Held { .. }
            | Why::Machine(_)
            | Why::Delayed { .. }
            | Why::CapReached { .. }
            | Why::Behind(_)
            | Why::Next
            | Why::Starting { .. }
            | Why::Running { .. }
            | Why::Judging(_)
            | Why::Cancelling
            | Why::WorkerGone(_)
            | Why::AgentGone
            | Why::Ended(_) => None,
        }
    }
}

/// All reasons, the decisive one first: the one that would hold the job longest if the others fell.
pub(crate) fn why(facts: &Facts<'_>) -> Vec<Why> {
    match &facts.job.state {
        State::Pending(pending) => why_pending(facts, pending),
        State::Notified(lease) => why_notified(facts, lease),
        State::Completed(outcome) | State::Error(outcome) | State::Cancelled(outcome) => {
            vec![Why::Ended(outcome.clone())]
        }
    }
}

/// What ends by nobody's doing comes first, then what ends at a time, the latest first, then what
/// ends by itself.
fn why_pending(facts: &Facts<'_>, pending: &Pending) -> Vec<Why> {
    let mut reasons = Vec::new();
    let mut timed = Vec::new();
    if pending.is_held() {
        let last = facts.job.attempts.last().map(|attempt| &attempt.report);
        let after = last.map(|report| (report.reason, report.detail.clone()));
        reasons.push(Why::Held { after });
    }
    reasons.extend(machine_trouble(facts.job, pending).map(Why::Machine));
    let pause = facts.pause.iter().map(|pause| (pause.until, Why::Paused(pause.clone())));
    let hold = facts.agent_held.iter().map(|hold| (hold.until, Why::AgentHeld(hold.clone())));
    for (until, why) in pause.chain(hold) {
        match until {
            Some(until) => timed.push((until, why)),
            None => reasons.push(why),
        }
    }
    if !facts.has_worker {
        reasons.push(Why::NoWorker);
    }
    let is_due = order::is_due(facts.job, facts.now);
    if !is_due && !pending.is_held() {
        let until = pending.run_at;
        timed.push((until, Why::Delayed { until, after: put_back_after(facts.job, pending) }));
    }
    timed.sort_by_key(|(until, _)| std::cmp::Reverse(*until));
    reasons.extend(timed.into_iter().map(|(_, why)| why));
    if let Some(id) = facts.running_of_issue {
        reasons.push(Why::IssueBusy(id));
    }
    if facts.notified >= u64::from(facts.cap) {
        reasons.push(Why::CapReached { running: facts.notified, cap: facts.cap });
    }
    // Whose turn it is when its time comes, nobody knows yet.
    if is_due {
        if let Some(id) = facts.first_of_issue.filter(|id| *id != facts.job.id) {
            reasons.push(Why::IssueTurn(id));
        }
        if !matches!(facts.ahead, Ahead::Exactly(0)) {
            reasons.push(Why::Behind(facts.ahead));
        }
    }
    if reasons.is_empty() {
        reasons.push(Why::Next);
    }
    reasons
}

/// What the machine could not do, if that put the job back.
fn machine_trouble(job: &Job, pending: &Pending) -> Option<String> {
    let last = job.attempts.last().filter(|attempt| attempt.ended_at == pending.since)?;
    (last.report.reason == Reason::Machine).then(|| last.report.detail.clone())
}

/// The failure that put the job back: an attempt's end is the beginning of the wait behind it.
fn put_back_after(job: &Job, pending: &Pending) -> Option<Reason> {
    let last = job.attempts.last().filter(|attempt| attempt.ended_at == pending.since);
    last.map(|attempt| attempt.report.reason)
}

fn why_notified(facts: &Facts<'_>, lease: &Lease) -> Vec<Why> {
    let worker = lease.worker.clone();
    let mut reasons = Vec::new();
    // Once it is being judged its agent is gone, as it should be.
    let agent_gone =
        lease.run.is_some() && lease.judging.is_none() && facts.shim_lives == Some(false);
    if agent_gone {
        reasons.push(Why::AgentGone);
    }
    if lease.cancel_requested {
        reasons.push(Why::Cancelling);
    }
    match (&lease.run, &lease.judging) {
        (_, Some(why)) => reasons.push(Why::Judging(why.clone())),
        (Some(_), None) if agent_gone => {}
        (Some(run), None) => {
            reasons.push(Why::Running { worker: worker.clone(), since: run.started_at })
        }
        (None, None) => {
            reasons.push(Why::Starting { worker: worker.clone(), since: lease.claimed_at })
        }
    }
    if facts.worker_lives == Some(false) {
        reasons.push(Why::WorkerGone(worker));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Attempt, NewJob, Report, Run, Token};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn job(run_at: Timestamp, since: Timestamp) -> Job {
        let issue = "h/o/r#1".parse().expect("a good reference");
        let mut job = Job::new(JobId(5), NewJob::new(issue, "fix"), Timestamp(0));
        job.state = State::Pending(Pending { run_at, since });
        job
    }

    fn due() -> Job {
        job(Timestamp(0), Timestamp(0))
    }

    fn retried() -> Job {
        let mut job = job(Timestamp(NOW.0 + 30_000), Timestamp(7));
        job.attempts.push(Attempt {
            number: 1,
            token: Token(1),
            worker: WorkerId("w".into()),
            claimed_at: Timestamp(1),
            started_at: None,
            ended_at: Timestamp(7),
            report: Report::new(Reason::AgentError, ""),
        });
        job
    }

    fn notified(started: bool, cancel_requested: bool) -> Job {
        let run = started.then(|| Run::new(1, 2, "boot", "5-1-1", Timestamp(9)));
        let lease = Lease {
            worker: WorkerId("w".into()),
            token: Token(1),
            claimed_at: Timestamp(8),
            expires_at: NOW,
            run,
            cancel_requested,
            agent: None,
            judging: None,
        };
        Job { state: State::Notified(lease), ..due() }
    }

    fn ended(state: fn(Outcome) -> State) -> Job {
        let outcome =
            Outcome { reason: Reason::Done, detail: "d".into(), finished_at: Timestamp(10) };
        Job { state: state(outcome), ..due() }
    }

    fn facts(job: &Job) -> Facts<'_> {
        Facts {
            job,
            now: NOW,
            cap: 3,
            notified: 0,
            pause: None,
            agent_held: None,
            running_of_issue: None,
            first_of_issue: Some(job.id),
            ahead: Ahead::Exactly(0),
            has_worker: true,
            worker_lives: Some(true),
            shim_lives: Some(true),
        }
    }

    fn check(job: &Job, change: impl FnOnce(&mut Facts<'_>), expected: &str) {
        let mut facts = facts(job);
        change(&mut facts);
        let codes: Vec<&str> = why(&facts).iter().map(Why::code).collect();
        assert_eq!(codes.join(" "), expected);
    }

    /// So many milliseconds from now, or without an end.
    fn pause(ms: Option<u64>) -> Option<Pause> {
        Some(Pause { until: ms.map(|ms| NOW.plus_ms(ms)), by: None })
    }

    fn hold(ms: Option<u64>) -> Option<Hold> {
        Some(Hold {
            agent: "opencode-1a2b3c4d".parse().expect("a good key"),
            since: NOW,
            until: ms.map(|ms| NOW.plus_ms(ms)),
            why: "no credit".into(),
            job: JobId(2),
        })
    }

    #[test]
    fn what_only_a_person_ends_comes_first() {
        let later = job(NOW.plus_ms(60_000), Timestamp(0));
        let held = job(Timestamp::NEVER, Timestamp(7));
        check(&held, |_| (), "held");
        check(&held, |f| f.has_worker = false, "held no_worker");
        check(&held, |f| f.pause = pause(Some(1)), "held paused");
        check(
            &held,
            |f| (f.pause, f.agent_held) = (pause(None), hold(None)),
            "held paused agent_held",
        );
        check(&due(), |f| f.agent_held = hold(None), "agent_held");
        check(&later, |f| f.agent_held = hold(None), "agent_held delayed");
        check(&later, |f| f.agent_held = hold(Some(1)), "delayed agent_held");
        check(&later, |f| f.agent_held = hold(Some(99_000)), "agent_held delayed");
        check(
            &due(),
            |f| (f.pause, f.agent_held) = (pause(Some(5)), hold(Some(6))),
            "agent_held paused",
        );
    }

    #[test]
    fn a_pending_job_waits_for_all_that_is_in_its_way() {
        let later = job(Timestamp(NOW.0 + 60_000), Timestamp(0));
        check(&due(), |_| (), "next");
        check(&due(), |f| f.has_worker = false, "no_worker");
        check(&due(), |f| f.notified = 2, "next");
        check(&due(), |f| f.notified = 3, "cap_reached");
        check(&due(), |f| f.notified = 4, "cap_reached");
        check(&due(), |f| f.running_of_issue = Some(JobId(4)), "issue_busy");
        check(&due(), |f| f.first_of_issue = Some(JobId(4)), "issue_turn");
        check(&due(), |f| f.ahead = Ahead::Exactly(2), "behind");
        check(&due(), |f| f.ahead = Ahead::AtLeast(0), "behind");
        check(&due(), |f| f.pause = pause(None), "paused");
        check(&later, |_| (), "delayed");
        check(&retried(), |_| (), "delayed");
        check(&later, |f| f.ahead = Ahead::Exactly(9), "delayed");
        check(&later, |f| f.first_of_issue = Some(JobId(4)), "delayed");
        check(&later, |f| f.pause = pause(Some(1)), "delayed paused");
        check(&later, |f| f.pause = pause(Some(99_000)), "paused delayed");
        check(
            &later,
            |f| {
                f.pause = pause(None);
                f.has_worker = false;
                f.running_of_issue = Some(JobId(4));
                f.notified = 3;
            },
            "paused no_worker delayed issue_busy cap_reached",
        );
        check(
            &due(),
            |f| {
                f.notified = 3;
                f.first_of_issue = Some(JobId(4));
                f.ahead = Ahead::AtLeast(1000);
            },
            "cap_reached issue_turn behind",
        );
    }

    #[test]
    fn the_trouble_of_the_machine_is_told_until_the_job_was_tried_again() {
        let mut job = retried();
        job.state = State::Pending(Pending { run_at: NOW, since: Timestamp(7) });
        check(&job, |_| (), "next");
        job.attempts[0].report.reason = Reason::Machine;
        check(&job, |_| (), "machine");
        check(&job, |f| f.has_worker = false, "machine no_worker");
        job.attempts[0].ended_at = Timestamp(6);
        check(&job, |_| (), "next");
    }

    #[test]
    fn a_running_job_tells_who_looks_after_it() {
        check(&notified(false, false), |f| f.shim_lives = None, "starting");
        check(&notified(true, false), |_| (), "running");
        check(&notified(true, false), |f| f.worker_lives = None, "running");
        check(&notified(true, true), |_| (), "cancelling running");
        check(&notified(true, false), |f| f.worker_lives = Some(false), "running worker_gone");
        check(&notified(true, false), |f| f.shim_lives = Some(false), "agent_gone");
        check(
            &notified(true, true),
            |f| (f.worker_lives, f.shim_lives) = (Some(false), Some(false)),
            "agent_gone cancelling worker_gone",
        );
        check(&notified(false, false), |f| f.worker_lives = Some(false), "starting worker_gone");
        let judging = |cancel| {
            let mut job = notified(true, cancel);
            if let State::Notified(lease) = &mut job.state {
                lease.judging = Some("git was killed".into());
            }
            job
        };
        check(&judging(false), |f| f.shim_lives = Some(false), "judging");
        check(&judging(true), |f| f.shim_lives = Some(false), "cancelling judging");
        check(&judging(false), |f| f.worker_lives = Some(false), "judging worker_gone");
    }

    #[test]
    fn an_ended_job_has_ended_whatever_else_is_so() {
        for state in [State::Completed, State::Error, State::Cancelled] {
            check(&ended(state), |f| (f.has_worker, f.notified) = (false, 9), "ended");
        }
    }

    #[test]
    fn a_delay_has_a_cause_and_another_job_a_number() {
        let after = |job: &Job| match why(&facts(job)).remove(0) {
            Why::Delayed { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after(&retried()), Some(Reason::AgentError));
        let mut retried_by_hand = retried();
        retried_by_hand.state =
            State::Pending(Pending { run_at: NOW.plus_ms(99), since: Timestamp(99) });
        assert_eq!(after(&retried_by_hand), None);
        assert_eq!(Why::IssueBusy(JobId(4)).other_job(), Some(JobId(4)));
        let by = Some((JobId(3), "429".into()));
        assert_eq!(Why::Paused(Pause { until: None, by }).other_job(), Some(JobId(3)));
        let held = hold(None).map(Why::AgentHeld).and_then(|why| why.other_job());
        assert_eq!(held, Some(JobId(2)));
        assert_eq!(Why::Next.other_job(), None);
    }
}
