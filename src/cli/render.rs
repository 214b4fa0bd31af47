//! How jobs look: lines, tables, JSON.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::{Value, json};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::job::{AgentKey, Attempt, Hold, Job, Reason, State, Usage};
use crate::store::Paused;
use crate::time::Timestamp;

/// The length of a message in a line of the scripts' format, in characters.
const MESSAGE_CHARACTERS: usize = 50;

/// Formats of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ListFormat {
    Text,
    Table,
    Json,
    Jsonl,
}

/// Formats of everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

/// The first characters of a message, in one line.
pub(super) fn excerpt(message: &str) -> String {
    let line = one_line(message);
    let mut characters = line.chars();
    let mut text: String = characters.by_ref().take(MESSAGE_CHARACTERS).collect();
    if characters.next().is_some() {
        text.push('…');
    }
    text
}

/// Without line breaks and terminal codes.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace(char::is_control, "")
}

/// A time as distance from now: `3m`, `2h 5m`.
pub(super) fn ago(now: Timestamp, then: Timestamp) -> String {
    span(now.ms_since(then))
}

/// A time as distance from now, not shorter than it is.
pub(super) fn ahead(now: Timestamp, then: Timestamp) -> String {
    span(then.ms_since(now).next_multiple_of(1000))
}

/// A length of time, in its two largest units.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// A job as programs see it in a list.
pub(super) fn item(job: &Job) -> Value {
    let pending_since = match &job.state {
        State::Pending(pending) => pending.since,
        State::Notified(_) | State::Completed(_) | State::Error(_) | State::Cancelled(_) => {
            job.enqueued_at
        }
    };
    let run_at = match &job.state {
        State::Pending(pending) if pending.is_held() => None,
        State::Pending(pending) => Some(pending.run_at.to_string()),
        State::Notified(_) | State::Completed(_) | State::Error(_) | State::Cancelled(_) => None,
    };
    let last = job.attempts.last().map(|attempt| &attempt.report);
    json!({
        "id": job.id.0,
        "issue_ref": job.issue.to_string(),
        "message": job.message,
        "state": job.state.kind().name(),
        "pending_since": pending_since.to_string(),
        "enqueued_at": job.enqueued_at.to_string(),
        "run_at": run_at,
        "held": job.is_held(),
        "started_at": job
            .lease()
            .and_then(|lease| lease.run.as_ref())
            .map(|run| run.started_at.to_string()),
        "finished_at": job.outcome().map(|outcome| outcome.finished_at.to_string()),
        "reason": job.outcome().map(|outcome| outcome.reason.name()),
        "detail": job.outcome().map(|outcome| outcome.detail.clone()),
        "priority": job.priority,
        "attempt": job.attempt_number(),
        "commits": last.map(|report| report.commits),
        "tip": last.and_then(|report| report.tip.as_deref()),
        "work": last.and_then(|report| report.work.as_deref()),
        "usage": last.map(|report| usage(report.usage)),
        "request_id": job.request_id,
    })
}

/// A job as programs see it, with its history.
pub(super) fn whole(job: &Job) -> Value {
    let mut value = item(job);
    value["timeout_ms"] = json!(job.timeout_ms);
    value["max_attempts"] = json!(job.max_attempts);
    value["worker"] = json!(job.lease().map(|lease| lease.worker.to_string()));
    value["lease_expires_at"] = json!(job.lease().map(|lease| lease.expires_at.to_string()));
    value["cancel_requested"] = json!(job.lease().is_some_and(|lease| lease.cancel_requested));
    value["agent"] =
        json!(job.lease().and_then(|lease| lease.agent.as_ref().map(AgentKey::as_str)));
    value["judging"] = json!(job.lease().and_then(|lease| lease.judging.as_deref()));
    value["spent"] = json!({
        "claims": job.spent.claims,
        "claims_before": job.spent.claims_before,
        "attempts": job.spent.attempts,
        "lost": job.spent.lost,
        "start_failed": job.spent.start_failed,
        "deferred": job.spent.deferred,
        "interrupted": job.spent.interrupted,
    });
    value["attempts"] = job.attempts.iter().map(attempt).collect();
    value
}

fn attempt(attempt: &Attempt) -> Value {
    json!({
        "number": attempt.number,
        "token": attempt.token.0,
        "worker": attempt.worker.to_string(),
        "claimed_at": attempt.claimed_at.to_string(),
        "started_at": attempt.started_at.map(|at| at.to_string()),
        "ended_at": attempt.ended_at.to_string(),
        "reason": attempt.report.reason.name(),
        "detail": attempt.report.detail,
        "exit_code": attempt.report.exit_code,
        "signal": attempt.report.signal,
        "commits": attempt.report.commits,
        "defer_ms": attempt.report.defer_ms,
        "pause": attempt.report.pause,
        "hold": attempt.report.hold,
        "tip": attempt.report.tip,
        "work": attempt.report.work,
        "usage": usage(attempt.report.usage),
    })
}

/// What was used up, as programs see it.
pub(super) fn usage(usage: Usage) -> Value {
    usage.named().map(|(name, number)| (name.to_string(), json!(number))).collect()
}

/// What was used up, for people; what is not known is left out.
pub(super) fn usage_line(usage: Usage) -> String {
    let mut words = vec![format!("ran {}, processor {}", span(usage.wall_ms), span(usage.cpu_ms))];
    if usage.peak_memory_kib > 0 {
        words.push(format!("memory {} MiB", usage.peak_memory_kib.div_ceil(1024)));
    }
    if usage.steps > 0 {
        let (tokens_in, tokens_out) = (usage.tokens_in, usage.tokens_out);
        words.push(format!("{} steps, {tokens_in} tokens in, {tokens_out} out", usage.steps));
    }
    if usage.cost_micros > 0 {
        let cents = usage.cost_micros.div_ceil(10_000);
        words.push(format!("cost {}.{:02}", cents / 100, cents % 100));
    }
    words.join(", ")
}

/// An agent command that is held, as programs see it.
pub(super) fn hold(hold: &Hold) -> Value {
    json!({
        "agent": hold.agent.as_str(),
        "since": hold.since.to_string(),
        "until": hold.until.map(|until| until.to_string()),
        "why": hold.why,
        "job": hold.job.0,
    })
}

/// An agent command that is held, for people.
pub(super) fn hold_line(hold: &Hold, now: Timestamp) -> String {
    let until = until(hold.until, now);
    let (since, why) = (ago(now, hold.since), one_line(&hold.why));
    format!("{} is held{until}, since {since} ago by job {}: {why}", hold.agent, hold.job)
}

/// A pause of the queue, as programs see it.
pub(super) fn pause(paused: &Paused) -> Value {
    json!({
        "until": paused.until.map(|until| until.to_string()),
        "since": paused.since.map(|since| since.to_string()),
        "job": paused.job.map(|job| job.0),
        "why": paused.why,
    })
}

/// A pause of the queue, for people.
pub(super) fn pause_line(paused: &Paused, now: Timestamp) -> String {
    let mut text = format!("paused{}", until(paused.until, now));
    if let Some(since) = paused.since {
        let _ = write!(text, ", since {} ago", ago(now, since));
    }
    if let Some(job) = paused.job {
        let _ = write!(text, " by job {job}: {}", one_line(&paused.why));
    }
    text
}

fn until(until: Option<Timestamp>, now: Timestamp) -> String {
    until.map_or(String::new(), |until| format!(" for another {}", ahead(now, until)))
}

/// The end of the last attempt of a job that is held.
pub(super) fn held_after(job: &Job) -> Option<Reason> {
    let last = job.attempts.last().filter(|_| job.is_held());
    last.map(|attempt| attempt.report.reason)
}

/// What a job's state means right now, in a few words.
pub(super) fn status(job: &Job, now: Timestamp) -> String {
    match &job.state {
        State::Pending(pending) if pending.is_held() => match held_after(job) {
            Some(reason) => format!("held: {reason}"),
            None => "held".into(),
        },
        State::Pending(pending) if pending.run_at > now => {
            format!("due in {}", ahead(now, pending.run_at))
        }
        State::Pending(pending) => format!("for {}", ago(now, pending.since)),
        State::Notified(lease) => match &lease.run {
            _ if lease.cancel_requested => "being cancelled".into(),
            Some(_) if lease.judging.is_some() => "being judged".into(),
            Some(run) => format!("running for {}", ago(now, run.started_at)),
            None => "starting".into(),
        },
        State::Completed(outcome) | State::Error(outcome) | State::Cancelled(outcome) => {
            format!("{}, {} ago", outcome.reason, ago(now, outcome.finished_at))
        }
    }
}

/// Columns, as wide as they must be; the last one is cut at the width of the screen.
pub(super) fn table(header: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let columns = header.len();
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let before: usize = widths[..columns - 1].iter().map(|width| width + 2).sum();
    let room = width.saturating_sub(before).max(10);
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_string()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            if at + 1 == columns {
                line.push_str(&cut(cell, room));
            } else {
                line.push_str(cell);
                line.push_str(&" ".repeat(widths[at] - cell.width() + 2));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.into();
    }
    let mut used = 0;
    let mut cut: String = text
        .chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used < room
        })
        .collect();
    cut.push('…');
    cut
}

/// Jobs as a table for a screen.
pub(super) fn jobs_table(jobs: &[Job], now: Timestamp, width: usize) -> String {
    // Where the work of each is, if that is known of any.
    let has_work = jobs.iter().any(|job| work(job).is_some());
    let row = |job: &Job| {
        let mut row = vec![
            job.id.to_string(),
            job.state.kind().to_string(),
            status(job, now),
            job.issue.to_string(),
        ];
        row.extend(has_work.then(|| one_line(work(job).unwrap_or_default())));
        row.push(one_line(&job.message));
        row
    };
    let rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
    let header: &[&str] = match has_work {
        true => &["ID", "STATE", "WHEN", "ISSUE", "WORK", "MESSAGE"],
        false => &["ID", "STATE", "WHEN", "ISSUE", "MESSAGE"],
    };
    table(header, &rows, width)
}

/// Where the work of a job's last attempt is.
pub(super) fn work(job: &Job) -> Option<&str> {
    job.attempts.last()?.report.work.as_deref()
}

/// Columns of the terminal; 100 when there is none.
pub(super) fn screen_width() -> usize {
    let size = console::Term::stdout().size_checked();
    size.map(|(_, columns)| usize::from(columns)).filter(|width| *width >= 40).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_one_line_of_fifty_characters() {
        assert_eq!(excerpt("fix\n\tthe  bug"), "fix the bug");
        assert_eq!(excerpt(&"x".repeat(50)), "x".repeat(50));
        assert_eq!(excerpt(&"ü".repeat(51)), format!("{}…", "ü".repeat(50)));
        assert_eq!(excerpt("red \u{1b}[31mtext"), "red [31mtext");
    }

    #[test]
    fn spans() {
        for (ms, text) in [
            (0, "0s"),
            (59_999, "59s"),
            (61_000, "1m 1s"),
            (3_600_000, "1h 0m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn tables_line_up_and_are_cut_at_the_edge() {
        let rows = vec![
            vec!["1".into(), "日本".into(), "a long message that has no room".into()],
            vec!["23".into(), "x".into(), "short".into()],
        ];
        let text = table(&["ID", "STATE", "MESSAGE"], &rows, 24);
        assert_eq!(text, "ID  STATE  MESSAGE\n1   日本   a long messa…\n23  x      short\n");
    }
}
