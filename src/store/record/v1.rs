//! Records of version 1, which are read and not written any more; and those of their parts that
//! later versions have too.

use serde::{Deserialize, Serialize};

use crate::job::{
    Attempt, Job, JobId, Lease, Outcome, Pending, Reason, Report, Run, Session, Spent, State,
    Token, Usage, WorkerId,
};
use crate::store::Paused;
use crate::store::apply::Header;
use crate::store::record::{BadRecord, garbled};
use crate::time::Timestamp;

/// In the order of [`Usage::NAMES`].
pub(super) type UsageV1 = [u64; Usage::COUNT];

#[derive(Deserialize)]
pub(super) struct JobV1 {
    pub id: u64,
    pub issue: String,
    pub message: String,
    pub priority: i16,
    pub timeout_ms: Option<u64>,
    pub max_attempts: Option<u32>,
    pub request_id: Option<String>,
    pub enqueued_at: u64,
    pub state: StateV1,
    pub claims: u32,
    pub attempts_spent: u32,
    pub lost: u32,
    pub start_failed: u32,
    pub deferred: u32,
    pub attempts: Vec<AttemptV1>,
}

#[derive(Deserialize)]
pub(super) enum StateV1 {
    Pending { run_at: u64, since: u64 },
    Notified(LeaseV1),
    Completed(OutcomeV1),
    Error(OutcomeV1),
    Cancelled(OutcomeV1),
}

#[derive(Deserialize)]
pub(super) struct LeaseV1 {
    pub worker: String,
    pub token: u64,
    pub claimed_at: u64,
    pub expires_at: u64,
    pub run: Option<RunV1>,
    pub cancel_requested: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RunV1 {
    pub pid: i32,
    pub start_time: u64,
    pub boot_id: String,
    pub folder: String,
    pub started_at: u64,
    pub round: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct OutcomeV1 {
    pub reason: String,
    pub detail: String,
    pub finished_at: u64,
}

#[derive(Deserialize)]
pub(super) struct AttemptV1 {
    pub number: u32,
    pub token: u64,
    pub worker: String,
    pub claimed_at: u64,
    pub started_at: Option<u64>,
    pub ended_at: u64,
    pub reason: String,
    pub detail: String,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub commits: u32,
    pub defer_ms: Option<u64>,
    pub pause: bool,
    pub usage: UsageV1,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SessionV1 {
    pub issue: String,
    pub id: Option<String>,
    pub worktree: String,
    pub branch: String,
    pub last_job: u64,
    pub created_at: u64,
    pub used_at: u64,
}

#[derive(Deserialize)]
pub(super) struct HeaderV1 {
    pub next_job: u64,
    pub next_token: u64,
    pub pending: u64,
    pub notified: u64,
    pub completed: u64,
    pub error: u64,
    pub cancelled: u64,
    pub paused: Option<Option<u64>>,
    pub attempts: u64,
    pub usage: UsageV1,
}

pub(super) fn job(v1: JobV1) -> Result<Job, BadRecord> {
    Ok(Job {
        id: JobId(v1.id),
        issue: v1.issue.parse().map_err(garbled)?,
        message: v1.message,
        priority: v1.priority,
        timeout_ms: v1.timeout_ms,
        max_attempts: v1.max_attempts,
        request_id: v1.request_id,
        enqueued_at: Timestamp(v1.enqueued_at),
        state: state(v1.state)?,
        spent: Spent {
            claims: v1.claims,
            claims_before: 0,
            attempts: v1.attempts_spent,
            lost: v1.lost,
            start_failed: v1.start_failed,
            deferred: v1.deferred,
            interrupted: 0,
        },
        attempts: v1.attempts.into_iter().map(attempt).collect::<Result<_, _>>()?,
    })
}

fn state(state: StateV1) -> Result<State, BadRecord> {
    Ok(match state {
        StateV1::Pending { run_at, since } => {
            State::Pending(Pending { run_at: Timestamp(run_at), since: Timestamp(since) })
        }
        StateV1::Notified(lease) => State::Notified(Lease {
            worker: WorkerId(lease.worker),
            token: Token(lease.token),
            claimed_at: Timestamp(lease.claimed_at),
            expires_at: Timestamp(lease.expires_at),
            run: lease.run.map(RunV1::into_run),
            cancel_requested: lease.cancel_requested,
            agent: None,
            judging: None,
        }),
        StateV1::Completed(v1) => State::Completed(outcome(v1)?),
        StateV1::Error(v1) => State::Error(outcome(v1)?),
        StateV1::Cancelled(v1) => State::Cancelled(outcome(v1)?),
    })
}

fn attempt(v1: AttemptV1) -> Result<Attempt, BadRecord> {
    Ok(Attempt {
        number: v1.number,
        token: Token(v1.token),
        worker: WorkerId(v1.worker),
        claimed_at: Timestamp(v1.claimed_at),
        started_at: v1.started_at.map(Timestamp),
        ended_at: Timestamp(v1.ended_at),
        report: Report {
            exit_code: v1.exit_code,
            signal: v1.signal,
            commits: v1.commits,
            defer_ms: v1.defer_ms,
            pause: v1.pause,
            usage: Usage::from_array(v1.usage),
            ..Report::new(reason(&v1.reason)?, v1.detail)
        },
    })
}

pub(super) fn header(v1: &HeaderV1) -> Header {
    Header {
        next_job: v1.next_job,
        next_token: v1.next_token,
        pending: v1.pending,
        notified: v1.notified,
        completed: v1.completed,
        error: v1.error,
        cancelled: v1.cancelled,
        held: 0,
        judging: 0,
        paused: v1.paused.map(|until| Paused {
            until: until.map(Timestamp),
            since: None,
            job: None,
            why: String::new(),
        }),
        attempts: v1.attempts,
        usage: Usage::from_array(v1.usage),
    }
}

impl RunV1 {
    pub fn of(run: &Run) -> RunV1 {
        RunV1 {
            pid: run.pid,
            start_time: run.start_time,
            boot_id: run.boot_id.clone(),
            folder: run.folder.clone(),
            started_at: run.started_at.0,
            round: run.round,
        }
    }

    pub fn into_run(self) -> Run {
        Run {
            pid: self.pid,
            start_time: self.start_time,
            boot_id: self.boot_id,
            folder: self.folder,
            started_at: Timestamp(self.started_at),
            round: self.round,
        }
    }
}

impl OutcomeV1 {
    pub fn of(outcome: &Outcome) -> OutcomeV1 {
        OutcomeV1 {
            reason: outcome.reason.name().into(),
            detail: outcome.detail.clone(),
            finished_at: outcome.finished_at.0,
        }
    }
}

pub(super) fn outcome(v1: OutcomeV1) -> Result<Outcome, BadRecord> {
    Ok(Outcome {
        reason: reason(&v1.reason)?,
        detail: v1.detail,
        finished_at: Timestamp(v1.finished_at),
    })
}

impl SessionV1 {
    pub fn of(session: &Session) -> SessionV1 {
        SessionV1 {
            issue: session.issue.to_string(),
            id: session.id.clone(),
            worktree: session.worktree.clone(),
            branch: session.branch.clone(),
            last_job: session.last_job.0,
            created_at: session.created_at.0,
            used_at: session.used_at.0,
        }
    }
}

pub(super) fn session(v1: SessionV1) -> Result<Session, BadRecord> {
    Ok(Session {
        issue: v1.issue.parse().map_err(garbled)?,
        id: v1.id,
        worktree: v1.worktree,
        branch: v1.branch,
        last_job: JobId(v1.last_job),
        created_at: Timestamp(v1.created_at),
        used_at: Timestamp(v1.used_at),
    })
}

pub(super) fn reason(name: &str) -> Result<Reason, BadRecord> {
    name.parse().map_err(garbled)
}
