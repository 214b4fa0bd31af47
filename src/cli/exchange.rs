//! The lines of `queue export` and `queue import`: a job each, as JSON.
//!
//! A line of an export is what `queue show --format=json` shows. A line that a person writes needs
//! an `issue_ref` and a `message`; what else it says is taken, and what it says that means nothing
//! is refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::cli::render;
use crate::job::{
    Attempt, Job, JobId, NewJob, Outcome, Pending, Reason, Report, Spent, State, StateKind, Token,
    Usage, WorkerId,
};
use crate::time::Timestamp;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    issue_ref: String,
    message: String,
    #[serde(default)]
    id: u64,
    state: Option<String>,
    pending_since: Option<String>,
    enqueued_at: Option<String>,
    run_at: Option<String>,
    finished_at: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    held: bool,
    #[serde(default)]
    priority: i16,
    request_id: Option<String>,
    timeout_ms: Option<u64>,
    max_attempts: Option<u32>,
    spent: Option<SpentLine>,
    #[serde(default)]
    attempts: Vec<AttemptLine>,
    /// Of a running job, which is a pending one here; and what the rest says in other words.
    #[serde(rename = "started_at")]
    _started_at: Option<Value>,
    #[serde(rename = "attempt")]
    _attempt: Option<Value>,
    #[serde(rename = "commits")]
    _commits: Option<Value>,
    #[serde(rename = "usage", alias = "account")]
    _usage: Option<Value>,
    #[serde(rename = "worker")]
    _worker: Option<Value>,
    #[serde(rename = "lease_expires_at")]
    _lease_expires_at: Option<Value>,
    #[serde(rename = "agent")]
    _agent: Option<Value>,
    #[serde(rename = "judging")]
    _judging: Option<Value>,
    #[serde(rename = "tip")]
    _tip: Option<Value>,
    #[serde(rename = "work")]
    _work: Option<Value>,
    #[serde(rename = "cancel_requested")]
    _cancel_requested: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpentLine {
    claims: u32,
    #[serde(default)]
    claims_before: u32,
    attempts: u32,
    lost: u32,
    start_failed: u32,
    deferred: u32,
    #[serde(default)]
    interrupted: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttemptLine {
    number: u32,
    token: u64,
    worker: String,
    claimed_at: String,
    started_at: Option<String>,
    ended_at: String,
    reason: String,
    detail: String,
    exit_code: Option<i32>,
    signal: Option<i32>,
    commits: u32,
    defer_ms: Option<u64>,
    #[serde(default)]
    pause: bool,
    #[serde(default)]
    hold: bool,
    tip: Option<String>,
    work: Option<String>,
    /// It was called `account` at first.
    #[serde(default, alias = "account")]
    usage: BTreeMap<String, u64>,
}

/// A job as a line, without the line's end. One that has no request id gets one that no other job
/// has: taken in twice, it is there once.
pub(super) fn to_line(job: &Job) -> String {
    let mut value = render::whole(job);
    if job.request_id.is_none() {
        value["request_id"] = format!("export-{}-{}", job.enqueued_at.0, job.id).into();
    }
    value.to_string()
}

/// The job of a line. One that was running is due now: its agent is somewhere else.
pub(super) fn from_line(text: &str, now: Timestamp) -> Result<Job, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| without_place(&error))?;
    let issue = line.issue_ref.parse().map_err(|error| format!("{error}"))?;
    let state = match line.state.as_deref() {
        None => StateKind::Pending,
        Some(name) => name.parse()?,
    };
    let time = |field: &str, text: &Option<String>| parse_time(field, text.as_deref());
    let ended = || -> Result<Outcome, String> {
        let missing = |field| format!("it is {state}, and has no {field}");
        Ok(Outcome {
            reason: line.reason.as_deref().ok_or_else(|| missing("reason"))?.parse()?,
            detail: line.detail.clone().unwrap_or_default(),
            finished_at: time("finished_at", &line.finished_at)?
                .ok_or_else(|| missing("finished_at"))?,
        })
    };
    let state = match state {
        StateKind::Pending => State::Pending(Pending {
            run_at: match line.held {
                true => Timestamp::NEVER,
                false => time("run_at", &line.run_at)?.unwrap_or(now),
            },
            since: time("pending_since", &line.pending_since)?.unwrap_or(now),
        }),
        StateKind::Notified => State::Pending(Pending { run_at: now, since: now }),
        StateKind::Completed => State::Completed(ended()?),
        StateKind::Error => State::Error(ended()?),
        StateKind::Cancelled => State::Cancelled(ended()?),
    };
    let new = NewJob {
        priority: line.priority,
        timeout_ms: line.timeout_ms,
        max_attempts: line.max_attempts,
        request_id: line.request_id,
        ..NewJob::new(issue, line.message)
    };
    let enqueued_at = time("enqueued_at", &line.enqueued_at)?.unwrap_or(now);
    let job = Job {
        state,
        spent: line.spent.map_or(Spent::default(), spent),
        attempts: line.attempts.into_iter().map(attempt).collect::<Result<_, _>>()?,
        ..Job::new(JobId(line.id), new, enqueued_at)
    };
    job.validate()?;
    Ok(job)
}

/// A line is a text of its own: where in it the parser stopped is no line number of the file.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((what, _)) => {
            // The names of all fields help nobody.
            let what = what.split(", expected one of").next().unwrap_or(what);
            format!("{what} (character {})", error.column())
        }
        None => text,
    }
}

fn parse_time(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, String> {
    text.map(|text| text.parse().map_err(|why| format!("{field}={text}: {why}"))).transpose()
}

fn spent(line: SpentLine) -> Spent {
    Spent {
        claims: line.claims,
        claims_before: line.claims_before,
        attempts: line.attempts,
        lost: line.lost,
        start_failed: line.start_failed,
        deferred: line.deferred,
        interrupted: line.interrupted,
    }
}

fn attempt(line: AttemptLine) -> Result<Attempt, String> {
    let time = |field: &str, text: &str| {
        text.parse().map_err(|why| format!("{field}={text} of attempt {}: {why}", line.number))
    };
    let reason: Reason = line.reason.parse()?;
    Ok(Attempt {
        number: line.number,
        token: Token(line.token),
        claimed_at: time("claimed_at", &line.claimed_at)?,
        started_at: line.started_at.as_deref().map(|at| time("started_at", at)).transpose()?,
        ended_at: time("ended_at", &line.ended_at)?,
        worker: WorkerId(line.worker),
        report: Report {
            exit_code: line.exit_code,
            signal: line.signal,
            commits: line.commits,
            defer_ms: line.defer_ms,
            pause: line.pause,
            hold: line.hold,
            tip: line.tip,
            work: line.work,
            usage: Usage::from_named(line.usage.iter().map(|(name, n)| (name.as_str(), *n)))?,
            ..Report::new(reason, line.detail)
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Event, Next, RetryPolicy, transition};

    fn after(job: Job, event: Event, now: u64) -> Job {
        match transition::apply(&job, event, Timestamp(now)) {
            Ok(Next::Changed(job)) => *job,
            other => panic!("{other:?}"),
        }
    }

    fn claimed(job: Job) -> Job {
        let worker = WorkerId("w".into());
        after(job, Event::Claim { worker, token: Token(3), lease_ms: 1000, agent: None }, 2000)
    }

    fn finished(job: Job, reason: Reason) -> Job {
        let report = Report {
            exit_code: Some(1),
            commits: 2,
            defer_ms: Some(5),
            pause: true,
            hold: reason == Reason::ProviderLimit,
            tip: Some("f1a0".into()),
            work: Some("branch issue-7".into()),
            usage: Usage { wall_ms: 7, tokens_out: 8, ..Usage::NOTHING },
            ..Report::new(reason, "why \"so\"")
        };
        let finish =
            Event::Finish { token: Token(3), report, policy: RetryPolicy::default(), seed: 1 };
        after(job, finish, 3000)
    }

    #[test]
    fn what_is_written_is_read() {
        let issue = "git.local:3000/A/b/c#7".parse().expect("a good reference");
        let new = NewJob {
            priority: -3,
            timeout_ms: Some(5),
            max_attempts: Some(2),
            request_id: Some("r".into()),
            run_at: Some(Timestamp(1500)),
            ..NewJob::new(issue, "two\nlines \u{1b}[31m and \"quotes\"")
        };
        let pending = Job::new(JobId(9), new, Timestamp(1000));
        let jobs = [
            pending.clone(),
            after(pending.clone(), Event::Cancel, 1200),
            finished(claimed(pending.clone()), Reason::Done),
            finished(claimed(pending.clone()), Reason::AgentError),
            finished(claimed(pending.clone()), Reason::Deferred),
            finished(claimed(pending.clone()), Reason::Interrupted),
            finished(claimed(pending.clone()), Reason::ProviderLimit),
            after(finished(claimed(pending.clone()), Reason::Done), Event::Retry, 4000),
        ];
        for job in jobs {
            assert_eq!(from_line(&to_line(&job), Timestamp(9000)).as_ref(), Ok(&job));
        }
        let was_running = from_line(&to_line(&claimed(pending)), Timestamp(9000)).expect("a job");
        let due = Pending { run_at: Timestamp(9000), since: Timestamp(9000) };
        assert_eq!(was_running.state, State::Pending(due));
    }

    #[test]
    fn what_was_written_while_usage_was_called_account_is_read() {
        let issue = "h/o/r#7".parse().expect("a good reference");
        let pending = Job::new(JobId(9), NewJob::new(issue, "fix"), Timestamp(1000));
        let job = finished(claimed(pending), Reason::Done);
        let line = to_line(&job);
        assert_eq!(line.matches(r#""usage":"#).count(), 2, "of the job and of its attempt: {line}");
        let old = line.replace(r#""usage":"#, r#""account":"#);
        let read = |line: &str| from_line(line, Timestamp(9000)).expect("a job").attempts;
        assert_eq!(read(&old)[0].report.usage.wall_ms, 7);
        assert_eq!(read(&old), read(&line));
    }

    #[test]
    fn a_job_without_a_request_id_gets_the_same_one_each_time() {
        let issue = "h/o/r#7".parse().expect("a good reference");
        let job = Job::new(JobId(9), NewJob::new(issue, "fix"), Timestamp(1000));
        let read = || from_line(&to_line(&job), Timestamp(9000)).expect("a job");
        assert_eq!(read().request_id.as_deref(), Some("export-1000-9"));
    }

    #[test]
    fn lines_that_people_write() {
        let read = |text: &str| from_line(text, Timestamp(9000));
        let job = read(r#"{"issue_ref": "https://h/o/r/issues/7", "message": "fix"}"#);
        let issue = "h/o/r#7".parse().expect("a good reference");
        assert_eq!(job, Ok(Job::new(JobId(0), NewJob::new(issue, "fix"), Timestamp(9000))));
        let table = [
            ("", "EOF while parsing"),
            ("hello", "expected value (character 1)"),
            (r#"{"issue_ref": "h/o/r#7"}"#, "missing field `message`"),
            (r#"{"issue_ref": "h/o/r", "message": "x"}"#, "no #NUMBER"),
            (r#"{"issue_ref": "h/o/r#7", "message": " "}"#, "the message is empty"),
            (r#"{"issue_ref": "h/o/r#7", "message": "x", "pri": 1}"#, "unknown field `pri`"),
            (r#"{"issue_ref": "h/o/r#7", "message": "x", "priority": 1e9}"#, "expected i16"),
            (r#"{"issue_ref": "h/o/r#7", "message": "x", "state": "done"}"#, "is not a state"),
            (r#"{"issue_ref": "h/o/r#7", "message": "x", "state": "error"}"#, "has no reason"),
            (r#"{"issue_ref": "h/o/r#7", "message": "x", "run_at": "soon"}"#, "run_at=soon: it is"),
        ];
        for (text, words) in table {
            let error = read(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
