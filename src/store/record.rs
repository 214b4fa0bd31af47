//! Bytes of a record: a version, then postcard.
//!
//! A version, once released, is never changed: its golden bytes are in the tests below. A new
//! field means a new version beside the old one, and a conversion.

use serde::{Deserialize, Serialize};

use crate::job::{
    Attempt, Job, JobId, Lease, Outcome, Pending, Reason, Report, Run, Session, Spent, State,
    Token, Usage, WorkerId,
};
use crate::store::Paused;
use crate::store::apply::Header;
use crate::time::Timestamp;

/// The version that is written.
const VERSION: u8 = 1;

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadRecord {
    #[error("a record of version {0}, newer than {VERSION}")]
    TooNew(u8),
    #[error("a record that cannot be read: {0}")]
    Garbled(String),
}

#[derive(Serialize, Deserialize)]
struct JobV1 {
    id: u64,
    issue: String,
    message: String,
    priority: i16,
    timeout_ms: Option<u64>,
    max_attempts: Option<u32>,
    request_id: Option<String>,
    enqueued_at: u64,
    state: StateV1,
    claims: u32,
    attempts_spent: u32,
    lost: u32,
    start_failed: u32,
    deferred: u32,
    attempts: Vec<AttemptV1>,
}

#[derive(Serialize, Deserialize)]
enum StateV1 {
    Pending { run_at: u64, since: u64 },
    Notified(LeaseV1),
    Completed(OutcomeV1),
    Error(OutcomeV1),
    Cancelled(OutcomeV1),
}

#[derive(Serialize, Deserialize)]
struct LeaseV1 {
    worker: String,
    token: u64,
    claimed_at: u64,
    expires_at: u64,
    run: Option<RunV1>,
    cancel_requested: bool,
}

#[derive(Serialize, Deserialize)]
struct RunV1 {
    pid: i32,
    start_time: u64,
    boot_id: String,
    folder: String,
    started_at: u64,
    round: u32,
}

#[derive(Serialize, Deserialize)]
struct OutcomeV1 {
    reason: String,
    detail: String,
    finished_at: u64,
}

#[derive(Serialize, Deserialize)]
struct AttemptV1 {
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
    usage: UsageV1,
}

#[derive(Serialize, Deserialize)]
struct UsageV1 {
    wall_ms: u64,
    cpu_ms: u64,
    peak_memory_kib: u64,
    log_bytes: u64,
    steps: u64,
    tokens_in: u64,
    tokens_out: u64,
    cost_micros: u64,
}

#[derive(Serialize, Deserialize)]
struct SessionV1 {
    issue: String,
    id: Option<String>,
    worktree: String,
    branch: String,
    last_job: u64,
    created_at: u64,
    used_at: u64,
}

#[derive(Serialize, Deserialize)]
struct HeaderV1 {
    next_job: u64,
    next_token: u64,
    pending: u64,
    notified: u64,
    completed: u64,
    error: u64,
    cancelled: u64,
    paused: Option<Option<u64>>,
    attempts: u64,
    usage: UsageV1,
}

pub(super) fn encode_job(job: &Job) -> Vec<u8> {
    encode(&JobV1 {
        id: job.id.0,
        issue: job.issue.to_string(),
        message: job.message.clone(),
        priority: job.priority,
        timeout_ms: job.timeout_ms,
        max_attempts: job.max_attempts,
        request_id: job.request_id.clone(),
        enqueued_at: job.enqueued_at.0,
        state: state_to_v1(&job.state),
        claims: job.spent.claims,
        attempts_spent: job.spent.attempts,
        lost: job.spent.lost,
        start_failed: job.spent.start_failed,
        deferred: job.spent.deferred,
        attempts: job.attempts.iter().map(attempt_to_v1).collect(),
    })
}

pub(super) fn decode_job(bytes: &[u8]) -> Result<Job, BadRecord> {
    let v1: JobV1 = decode(bytes)?;
    Ok(Job {
        id: JobId(v1.id),
        issue: v1.issue.parse().map_err(garbled)?,
        message: v1.message,
        priority: v1.priority,
        timeout_ms: v1.timeout_ms,
        max_attempts: v1.max_attempts,
        request_id: v1.request_id,
        enqueued_at: Timestamp(v1.enqueued_at),
        state: state_from_v1(v1.state)?,
        spent: Spent {
            claims: v1.claims,
            attempts: v1.attempts_spent,
            lost: v1.lost,
            start_failed: v1.start_failed,
            deferred: v1.deferred,
        },
        attempts: v1.attempts.into_iter().map(attempt_from_v1).collect::<Result<_, _>>()?,
    })
}

pub(super) fn encode_session(session: &Session) -> Vec<u8> {
    encode(&SessionV1 {
        issue: session.issue.to_string(),
        id: session.id.clone(),
        worktree: session.worktree.clone(),
        branch: session.branch.clone(),
        last_job: session.last_job.0,
        created_at: session.created_at.0,
        used_at: session.used_at.0,
    })
}

pub(super) fn decode_session(bytes: &[u8]) -> Result<Session, BadRecord> {
    let v1: SessionV1 = decode(bytes)?;
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

pub(super) fn encode_header(header: &Header) -> Vec<u8> {
    encode(&HeaderV1 {
        next_job: header.next_job,
        next_token: header.next_token,
        pending: header.pending,
        notified: header.notified,
        completed: header.completed,
        error: header.error,
        cancelled: header.cancelled,
        paused: header.paused.map(|paused| paused.until.map(|until| until.0)),
        attempts: header.attempts,
        usage: usage_to_v1(header.usage),
    })
}

pub(super) fn decode_header(bytes: &[u8]) -> Result<Header, BadRecord> {
    let v1: HeaderV1 = decode(bytes)?;
    Ok(Header {
        next_job: v1.next_job,
        next_token: v1.next_token,
        pending: v1.pending,
        notified: v1.notified,
        completed: v1.completed,
        error: v1.error,
        cancelled: v1.cancelled,
        paused: v1.paused.map(|until| Paused { until: until.map(Timestamp) }),
        attempts: v1.attempts,
        usage: usage_from_v1(&v1.usage),
    })
}

fn encode(record: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(record, vec![VERSION]).expect("a record is always serializable")
}

fn decode<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, BadRecord> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => match postcard::take_from_bytes(rest).map_err(garbled)? {
            (record, []) => Ok(record),
            (_, rest) => Err(BadRecord::Garbled(format!("{} bytes too many", rest.len()))),
        },
        Some((&version, _)) if version > VERSION => Err(BadRecord::TooNew(version)),
        Some((version, _)) => Err(BadRecord::Garbled(format!("there is no version {version}"))),
        None => Err(BadRecord::Garbled("it is empty".into())),
    }
}

fn garbled(error: impl ToString) -> BadRecord {
    BadRecord::Garbled(error.to_string())
}

fn state_to_v1(state: &State) -> StateV1 {
    match state {
        State::Pending(pending) => {
            StateV1::Pending { run_at: pending.run_at.0, since: pending.since.0 }
        }
        State::Notified(lease) => StateV1::Notified(LeaseV1 {
            worker: lease.worker.0.clone(),
            token: lease.token.0,
            claimed_at: lease.claimed_at.0,
            expires_at: lease.expires_at.0,
            run: lease.run.as_ref().map(|run| RunV1 {
                pid: run.pid,
                start_time: run.start_time,
                boot_id: run.boot_id.clone(),
                folder: run.folder.clone(),
                started_at: run.started_at.0,
                round: run.round,
            }),
            cancel_requested: lease.cancel_requested,
        }),
        State::Completed(outcome) => StateV1::Completed(outcome_to_v1(outcome)),
        State::Error(outcome) => StateV1::Error(outcome_to_v1(outcome)),
        State::Cancelled(outcome) => StateV1::Cancelled(outcome_to_v1(outcome)),
    }
}

fn state_from_v1(state: StateV1) -> Result<State, BadRecord> {
    Ok(match state {
        StateV1::Pending { run_at, since } => {
            State::Pending(Pending { run_at: Timestamp(run_at), since: Timestamp(since) })
        }
        StateV1::Notified(lease) => State::Notified(Lease {
            worker: WorkerId(lease.worker),
            token: Token(lease.token),
            claimed_at: Timestamp(lease.claimed_at),
            expires_at: Timestamp(lease.expires_at),
            run: lease.run.map(|run| Run {
                pid: run.pid,
                start_time: run.start_time,
                boot_id: run.boot_id,
                folder: run.folder,
                started_at: Timestamp(run.started_at),
                round: run.round,
            }),
            cancel_requested: lease.cancel_requested,
        }),
        StateV1::Completed(outcome) => State::Completed(outcome_from_v1(outcome)?),
        StateV1::Error(outcome) => State::Error(outcome_from_v1(outcome)?),
        StateV1::Cancelled(outcome) => State::Cancelled(outcome_from_v1(outcome)?),
    })
}

fn outcome_to_v1(outcome: &Outcome) -> OutcomeV1 {
    OutcomeV1 {
        reason: outcome.reason.name().into(),
        detail: outcome.detail.clone(),
        finished_at: outcome.finished_at.0,
    }
}

fn outcome_from_v1(outcome: OutcomeV1) -> Result<Outcome, BadRecord> {
    Ok(Outcome {
        reason: reason(&outcome.reason)?,
        detail: outcome.detail,
        finished_at: Timestamp(outcome.finished_at),
    })
}

fn attempt_to_v1(attempt: &Attempt) -> AttemptV1 {
    AttemptV1 {
        number: attempt.number,
        token: attempt.token.0,
        worker: attempt.worker.0.clone(),
        claimed_at: attempt.claimed_at.0,
        started_at: attempt.started_at.map(|at| at.0),
        ended_at: attempt.ended_at.0,
        reason: attempt.report.reason.name().into(),
        detail: attempt.report.detail.clone(),
        exit_code: attempt.report.exit_code,
        signal: attempt.report.signal,
        commits: attempt.report.commits,
        defer_ms: attempt.report.defer_ms,
        pause: attempt.report.pause,
        usage: usage_to_v1(attempt.report.usage),
    }
}

fn attempt_from_v1(attempt: AttemptV1) -> Result<Attempt, BadRecord> {
    Ok(Attempt {
        number: attempt.number,
        token: Token(attempt.token),
        worker: WorkerId(attempt.worker),
        claimed_at: Timestamp(attempt.claimed_at),
        started_at: attempt.started_at.map(Timestamp),
        ended_at: Timestamp(attempt.ended_at),
        report: Report {
            reason: reason(&attempt.reason)?,
            detail: attempt.detail,
            exit_code: attempt.exit_code,
            signal: attempt.signal,
            commits: attempt.commits,
            defer_ms: attempt.defer_ms,
            pause: attempt.pause,
            usage: usage_from_v1(&attempt.usage),
        },
    })
}

fn usage_to_v1(usage: Usage) -> UsageV1 {
    UsageV1 {
        wall_ms: usage.wall_ms,
        cpu_ms: usage.cpu_ms,
        peak_memory_kib: usage.peak_memory_kib,
        log_bytes: usage.log_bytes,
        steps: usage.steps,
        tokens_in: usage.tokens_in,
        tokens_out: usage.tokens_out,
        cost_micros: usage.cost_micros,
    }
}

fn usage_from_v1(usage: &UsageV1) -> Usage {
    Usage {
        wall_ms: usage.wall_ms,
        cpu_ms: usage.cpu_ms,
        peak_memory_kib: usage.peak_memory_kib,
        log_bytes: usage.log_bytes,
        steps: usage.steps,
        tokens_in: usage.tokens_in,
        tokens_out: usage.tokens_out,
        cost_micros: usage.cost_micros,
    }
}

fn reason(name: &str) -> Result<Reason, BadRecord> {
    Reason::ALL
        .into_iter()
        .find(|reason| reason.name() == name)
        .ok_or_else(|| BadRecord::Garbled(format!("there is no reason '{name}'")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::NewJob;

    /// Records of version 1, one of each kind that matters. Bytes that were released never change:
    /// when a row here fails, make a version 2.
    const GOLDEN_JOBS: [(&str, &str); 3] = [
        (
            "pending",
            "01ac02146769742e6c6f63616c3a333030302f4f2f7223370666697820c3bc050190bf0501020103722d3180d095ffbc310080d095ffbc3180d095ffbc31000000000000",
        ),
        (
            "notified",
            "01ac02146769742e6c6f63616c3a333030302f4f2f7223370666697820c3bc050190bf0501020103722d3180d095ffbc31010177090405010c070162073330302d392d3208020105040302010101080177010102030b6167656e745f6572726f7202736f01020112020105000000000000000000",
        ),
        (
            "error",
            "01ac02146769742e6c6f63616c3a333030302f4f2f7223370666697820c3bc050190bf0501020103722d3180d095ffbc31030774696d656f7574046c61746509000000000000",
        ),
    ];
    const GOLDEN_SESSION: &str = "0107682f6f2f72233101057365735f31022f770769737375652d31030102";
    const GOLDEN_HEADER: &str = "019003f4030102030405010106070800000000000009";

    fn job(kind: &str) -> Job {
        let issue = "git.local:3000/O/r#7".parse().expect("a good reference");
        let new = NewJob {
            priority: -3,
            timeout_ms: Some(90_000),
            max_attempts: Some(2),
            request_id: Some("r-1".into()),
            ..NewJob::new(issue, "fix ü")
        };
        let mut job = Job::new(JobId(300), new, Timestamp(1_700_000_000_000));
        let report = Report {
            exit_code: Some(1),
            signal: Some(9),
            commits: 2,
            defer_ms: Some(5),
            ..Report::new(Reason::AgentError, "so")
        };
        let attempt = Attempt {
            number: 1,
            token: Token(8),
            worker: WorkerId("w".into()),
            claimed_at: Timestamp(1),
            started_at: Some(Timestamp(2)),
            ended_at: Timestamp(3),
            report,
        };
        let lease = Lease {
            worker: WorkerId("w".into()),
            token: Token(9),
            claimed_at: Timestamp(4),
            expires_at: Timestamp(5),
            run: Some(Run {
                pid: 6,
                start_time: 7,
                boot_id: "b".into(),
                folder: "300-9-2".into(),
                started_at: Timestamp(8),
                round: 2,
            }),
            cancel_requested: true,
        };
        match kind {
            "pending" => {}
            "notified" => {
                job.state = State::Notified(lease);
                job.spent = Spent { claims: 5, attempts: 4, lost: 3, start_failed: 2, deferred: 1 };
                job.attempts = vec![attempt];
            }
            _ => {
                let outcome = Outcome {
                    reason: Reason::Timeout,
                    detail: "late".into(),
                    finished_at: Timestamp(9),
                };
                job.state = State::Error(outcome);
            }
        }
        job
    }

    fn session() -> Session {
        Session {
            issue: "h/o/r#1".parse().expect("a good reference"),
            id: Some("ses_1".into()),
            worktree: "/w".into(),
            branch: "issue-1".into(),
            last_job: JobId(3),
            created_at: Timestamp(1),
            used_at: Timestamp(2),
        }
    }

    fn header() -> Header {
        Header {
            next_job: 400,
            next_token: 500,
            pending: 1,
            notified: 2,
            completed: 3,
            error: 4,
            cancelled: 5,
            paused: Some(Paused { until: Some(Timestamp(6)) }),
            attempts: 7,
            usage: Usage { wall_ms: 8, cost_micros: 9, ..Usage::NOTHING },
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    #[test]
    fn version_1_is_read_and_written_as_ever() {
        for (kind, golden) in GOLDEN_JOBS {
            assert_eq!(hex(&encode_job(&job(kind))), golden, "{kind}");
            assert_eq!(decode_job(&bytes(golden)).expect("it reads"), job(kind));
        }
        assert_eq!(hex(&encode_session(&session())), GOLDEN_SESSION);
        assert_eq!(decode_session(&bytes(GOLDEN_SESSION)).expect("it reads"), session());
        assert_eq!(hex(&encode_header(&header())), GOLDEN_HEADER);
        assert_eq!(decode_header(&bytes(GOLDEN_HEADER)).expect("it reads"), header());
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let good = encode_job(&job("pending"));
        let newer = [&[VERSION + 1], &good[1..]].concat();
        assert!(matches!(decode_job(&newer), Err(BadRecord::TooNew(2))));
        let longer = [&good[..], &[0]].concat();
        for bytes in [&good[..good.len() - 1], &longer, &[0], &[]] {
            assert!(matches!(decode_job(bytes), Err(BadRecord::Garbled(_))), "{bytes:?}");
        }
    }
}
