//! `queue show`

use std::fmt::Write as _;

use clap::Args;

use crate::cli::context::{CliError, Context, print};
use crate::cli::exit::CliExit;
use crate::cli::render::{self, Format};
use crate::cli::why;
use crate::config::Config;
use crate::job::{Job, JobId, Session, Usage};
use crate::time::Timestamp;

#[derive(Args)]
pub(super) struct Arguments {
    /// The job's number
    id: JobId,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let id = arguments.id;
    let job = queue.get(id)?.ok_or_else(|| CliError::no_such_job(id))?;
    let session = queue.session(&job.issue)?;
    let text = match arguments.format {
        Format::Json => format!("{:#}\n", json(&job, session.as_ref(), &config)),
        Format::Text => {
            let waits_for = why::first_reason(&queue, &config, &job)?;
            text(&job, session.as_ref(), &config, queue.now(), waits_for.as_deref())
        }
    };
    print(&text)?;
    Ok(CliExit::Success)
}

fn json(job: &Job, session: Option<&Session>, config: &Config) -> serde_json::Value {
    let mut value = render::whole(job);
    value["session"] = session.and_then(|session| session.id.clone()).into();
    value["worktree"] = session.map(|session| session.worktree.clone()).into();
    value["branch"] = session.map(|session| session.branch.clone()).into();
    value["work"] = place_of_work(job, session).into();
    value["log"] = config.agents().log(job.id).to_string_lossy().into();
    value
}

/// Where the work of the job's last attempt is, if it did any.
pub(super) fn place_of_work(job: &Job, session: Option<&Session>) -> Option<String> {
    let report = &job.attempts.last()?.report;
    if report.work.is_some() || report.commits == 0 {
        return report.work.clone();
    }
    Some(
        session.map_or("the issue's branch".into(), |session| format!("branch {}", session.branch)),
    )
}

fn text(
    job: &Job,
    session: Option<&Session>,
    config: &Config,
    now: Timestamp,
    waits_for: Option<&str>,
) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    row("job", &job.id.to_string());
    row("issue", &job.issue.to_string());
    row("state", &format!("{} ({})", job.state.kind(), render::status(job, now)));
    if let Some(waits_for) = waits_for {
        row("waits for", waits_for);
    }
    if let Some(outcome) = job.outcome().filter(|outcome| !outcome.detail.is_empty()) {
        row("because", &outcome.detail);
    }
    if let Some(work) = place_of_work(job, session) {
        let tip = job.attempts.last().and_then(|attempt| attempt.report.tip.as_deref());
        let tip = tip.map_or(String::new(), |tip| format!(" ({})", &tip[..tip.len().min(12)]));
        row("work", &format!("{}{tip}", render::one_line(&work)));
    }
    row("message", &render::excerpt(&job.message));
    row("enqueued", &job.enqueued_at.to_string());
    if job.priority != 0 {
        row("priority", &job.priority.to_string());
    }
    if let Some(ms) = job.timeout_ms {
        row("timeout", &render::span(ms));
    }
    if let Some(request_id) = &job.request_id {
        row("request", request_id);
    }
    if let Some(session) = session {
        row("session", session.id.as_deref().unwrap_or("none"));
        row("worktree", &session.worktree);
        row("branch", &session.branch);
    }
    if job.attempt_number() > 0 {
        row("log", &config.agents().log(job.id).to_string_lossy());
    }
    for attempt in &job.attempts {
        let length = render::ago(attempt.ended_at, attempt.claimed_at);
        let report = &attempt.report;
        let _ = writeln!(
            text,
            "attempt {:<2} {} after {length}: {}",
            attempt.number, report.reason, report.detail
        );
        if report.usage != Usage::NOTHING {
            let _ = writeln!(text, "           {}", render::usage_line(report.usage));
        }
    }
    text
}
