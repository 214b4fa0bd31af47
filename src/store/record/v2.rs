//! Records of version 2: what is written now.

use serde::{Deserialize, Serialize};

use crate::job::{
    Attempt, Hold, Job, JobId, Lease, Pending, Report, Spent, State, Token, Usage, WorkerId,
};
use crate::store::Paused;
use crate::store::apply::Header;
use crate::store::record::v1::{self, OutcomeV1, RunV1, UsageV1};
use crate::store::record::{BadRecord, garbled};
use crate::time::Timestamp;

#[derive(Serialize, Deserialize)]
pub(super) struct JobV2 {
    id: u64,
    issue: String,
    message: String,
    priority: i16,
    timeout_ms: Option<u64>,
    max_attempts: Option<u32>,
    request_id: Option<String>,
    enqueued_at: u64,
    state: StateV2,
    claims: u32,
    claims_before: u32,
    attempts_spent: u32,
    lost: u32,
    start_failed: u32,
    deferred: u32,
    interrupted: u32,
    attempts: Vec<AttemptV2>,
}

#[derive(Serialize, Deserialize)]
enum StateV2 {
    Pending { run_at: u64, since: u64 },
    Notified(LeaseV2),
    Completed(OutcomeV1),
    Error(OutcomeV1),
    Cancelled(OutcomeV1),
}

#[derive(Serialize, Deserialize)]
struct LeaseV2 {
    worker: String,
    token: u64,
    claimed_at: u64,
    expires_at: u64,
    run: Option<RunV1>,
    cancel_requested: bool,
    agent: Option<String>,
    judging: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct AttemptV2 {
    number: u32,
    token: u64,
    worker: String,
    claimed_at: u64,
    started_at: Option<u64>,
    ended_at: u64,
    reason: String,
    detail: String,
    exit_code: Option<i32>,
    signal: Option<i32>,
    commits: u32,
    defer_ms: Option<u64>,
    pause: bool,
    hold: bool,
    tip: Option<String>,
    work: Option<String>,
    usage: UsageV1,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HeaderV2 {
    next_job: u64,
    next_token: u64,
    pending: u64,
    notified: u64,
    completed: u64,
    error: u64,
    cancelled: u64,
    held: u64,
    judging: u64,
    paused: Option<PausedV2>,
    attempts: u64,
    usage: UsageV1,
}

#[derive(Serialize, Deserialize)]
struct PausedV2 {
    until: Option<u64>,
    since: Option<u64>,
    job: Option<u64>,
    why: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HoldV2 {
    agent: String,
    since: u64,
    until: Option<u64>,
    why: String,
    job: u64,
}

impl JobV2 {
    pub fn of(job: &Job) -> JobV2 {
        JobV2 {
            id: job.id.0,
            issue: job.issue.to_string(),
            message: job.message.clone(),
            priority: job.priority,
            timeout_ms: job.timeout_ms,
            max_attempts: job.max_attempts,
            request_id: job.request_id.clone(),
            enqueued_at: job.enqueued_at.0,
            state: StateV2::of(&job.state),
            claims: job.spent.claims,
            claims_before: job.spent.claims_before,
            attempts_spent: job.spent.attempts,
            lost: job.spent.lost,
            start_failed: job.spent.start_failed,
            deferred: job.spent.deferred,
            interrupted: job.spent.interrupted,
            attempts: job.attempts.iter().map(AttemptV2::of).collect(),
        }
    }
}

pub(super) fn job(v2: JobV2) -> Result<Job, BadRecord> {
    Ok(Job {
        id: JobId(v2.id),
        issue: v2.issue.parse().map_err(garbled)?,
        message: v2.message,
        priority: v2.priority,
        timeout_ms: v2.timeout_ms,
        max_attempts: v2.max_attempts,
        request_id: v2.request_id,
        enqueued_at: Timestamp(v2.enqueued_at),
        state: state(v2.state)?,
        spent: Spent {
            claims: v2.claims,
            claims_before: v2.claims_before,
            attempts: v2.attempts_spent,
            lost: v2.lost,
            start_failed: v2.start_failed,
            deferred: v2.deferred,
            interrupted: v2.interrupted,
        },
        attempts: v2.attempts.into_iter().map(attempt).collect::<Result<_, _>>()?,
    })
}

impl StateV2 {
    fn of(state: &State) -> StateV2 {
        match state {
            State::Pending(pending) => {
                StateV2::Pending { run_at: pending.run_at.0, since: pending.since.0 }
            }
            State::Notified(lease) => StateV2::Notified(LeaseV2 {
                worker: lease.worker.0.clone(),
                token: lease.token.0,
                claimed_at: lease.claimed_at.0,
                expires_at: lease.expires_at.0,
                run: lease.run.as_ref().map(RunV1::of),
                cancel_requested: lease.cancel_requested,
                agent: lease.agent.as_ref().map(ToString::to_string),
                judging: lease.judging.clone(),
            }),
            State::Completed(outcome) => StateV2::Completed(OutcomeV1::of(outcome)),
            State::Error(outcome) => StateV2::Error(OutcomeV1::of(outcome)),
            State::Cancelled(outcome) => StateV2::Cancelled(OutcomeV1::of(outcome)),
        }
    }
}

fn state(state: StateV2) -> Result<State, BadRecord> {
    Ok(match state {
        StateV2::Pending { run_at, since } => {
            State::Pending(Pending { run_at: Timestamp(run_at), since: Timestamp(since) })
        }
        StateV2::Notified(lease) => State::Notified(Lease {
            worker: WorkerId(lease.worker),
            token: Token(lease.token),
            claimed_at: Timestamp(lease.claimed_at),
            expires_at: Timestamp(lease.expires_at),
            run: lease.run.map(RunV1::into_run),
            cancel_requested: lease.cancel_requested,
            agent: lease
                .agent
                .map(|agent| agent.parse())
                .transpose()
                .map_err(BadRecord::Garbled)?,
            judging: lease.judging,
        }),
        StateV2::Completed(outcome) => State::Completed(v1::outcome(outcome)?),
        StateV2::Error(outcome) => State::Error(v1::outcome(outcome)?),
        StateV2::Cancelled(outcome) => State::Cancelled(v1::outcome(outcome)?),
    })
}

impl AttemptV2 {
    fn of(attempt: &Attempt) -> AttemptV2 {
        let report = &attempt.report;
        AttemptV2 {
            number: attempt.number,
            token: attempt.token.0,
            worker: attempt.worker.0.clone(),
            claimed_at: attempt.claimed_at.0,
            started_at: attempt.started_at.map(|at| at.0),
            ended_at: attempt.ended_at.0,
            reason: report.reason.name().into(),
            detail: report.detail.clone(),
            exit_code: report.exit_code,
            signal: report.signal,
            commits: report.commits,
            defer_ms: report.defer_ms,
            pause: report.pause,
            hold: report.hold,
            tip: report.tip.clone(),
            work: report.work.clone(),
            usage: report.usage.to_array(),
        }
    }
}

fn attempt(v2: AttemptV2) -> Result<Attempt, BadRecord> {
    Ok(Attempt {
        number: v2.number,
        token: Token(v2.token),
        worker: WorkerId(v2.worker),
        claimed_at: Timestamp(v2.claimed_at),
        started_at: v2.started_at.map(Timestamp),
        ended_at: Timestamp(v2.ended_at),
        report: Report {
            reason: v1::reason(&v2.reason)?,
            detail: v2.detail,
            exit_code: v2.exit_code,
            signal: v2.signal,
            commits: v2.commits,
            defer_ms: v2.defer_ms,
            pause: v2.pause,
            hold: v2.hold,
            tip: v2.tip,
            work: v2.work,
            usage: Usage::from_array(v2.usage),
        },
    })
}

impl HeaderV2 {
    pub fn of(header: &Header) -> HeaderV2 {
        HeaderV2 {
            next_job: header.next_job,
            next_token: header.next_token,
            pending: header.pending,
            notified: header.notified,
            completed: header.completed,
            error: header.error,
            cancelled: header.cancelled,
            held: header.held,
            judging: header.judging,
            paused: header.paused.as_ref().map(|paused| PausedV2 {
                until: paused.until.map(|until| until.0),
                since: paused.since.map(|since| since.0),
                job: paused.job.map(|job| job.0),
                why: paused.why.clone(),
            }),
            attempts: header.attempts,
            usage: header.usage.to_array(),
        }
    }
}

pub(super) fn header(v2: HeaderV2) -> Header {
    Header {
        next_job: v2.next_job,
        next_token: v2.next_token,
        pending: v2.pending,
        notified: v2.notified,
        completed: v2.completed,
        error: v2.error,
        cancelled: v2.cancelled,
        held: v2.held,
        judging: v2.judging,
        paused: v2.paused.map(|paused| Paused {
            until: paused.until.map(Timestamp),
            since: paused.since.map(Timestamp),
            job: paused.job.map(JobId),
            why: paused.why,
        }),
        attempts: v2.attempts,
        usage: Usage::from_array(v2.usage),
    }
}

impl HoldV2 {
    pub fn of(hold: &Hold) -> HoldV2 {
        HoldV2 {
            agent: hold.agent.to_string(),
            since: hold.since.0,
            until: hold.until.map(|until| until.0),
            why: hold.why.clone(),
            job: hold.job.0,
        }
    }
}

pub(super) fn hold(v2: HoldV2) -> Result<Hold, BadRecord> {
    Ok(Hold {
        agent: v2.agent.parse().map_err(BadRecord::Garbled)?,
        since: Timestamp(v2.since),
        until: v2.until.map(Timestamp),
        why: v2.why,
        job: JobId(v2.job),
    })
}
