//! `list`

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use crate::agent::Workplace;
use crate::cli::context::{CliError, Context, print};
use crate::cli::exit::CliExit;
use crate::cli::render::{self, Format};
use crate::cli::sessions::{Known, job_of, known, words};
use crate::cli::show;
use crate::git::unsaved::Unsaved;
use crate::job::{Job, State};
use crate::time::Timestamp;

#[derive(Args)]
#[command(after_help = "\
What is on the remote is told as it was when a job, `prune` or `destroy` last asked.

Examples:
  kugetsu list
  kugetsu list --format=json | jq -r '.items[] | select(.unpushed > 0).worktree'")]
pub(crate) struct Arguments {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What is known of an issue, from the store and from git.
struct Row {
    known: Known,
    job: Option<Job>,
    /// Or why git could not say.
    place: Result<Workplace, String>,
}

pub(crate) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let settings = config.agents();
    let mut rows = Vec::new();
    for known in known(&queue, &settings)? {
        let job = job_of(&queue, &known.issue)?;
        let place = Workplace::inspect(&settings, known.place());
        rows.push(Row { known, job, place });
    }
    print(&match arguments.format {
        Format::Json => {
            let items: Vec<Value> = rows.iter().map(json).collect();
            format!("{:#}\n", json!({ "items": items, "total": items.len() }))
        }
        Format::Text if rows.is_empty() => "No sessions.\n".into(),
        Format::Text => {
            let blocks: Vec<String> = rows.iter().map(|row| text(row, queue.now())).collect();
            blocks.join("\n")
        }
    })?;
    Ok(CliExit::Success)
}

fn json(row: &Row) -> Value {
    let session = row.known.session.as_ref();
    let place = row.place.as_ref();
    let last = row.job.as_ref().and_then(|job| job.attempts.last()).map(|last| &last.report);
    json!({
        "issue_ref": row.known.issue.to_string(),
        "session": session.and_then(|session| session.id.clone()),
        "branch": place.ok().and_then(|place| place.branch.clone()),
        "worktree": place.ok().filter(|place| place.is_there).map(|place| place.folder.clone()),
        "job": row.job.as_ref().map(|job| job.id.0),
        "state": row.job.as_ref().map(|job| job.state.kind().name()),
        "ahead": place.ok().and_then(|place| place.ahead),
        "unpushed": place.ok().map(Workplace::unpushed),
        "dirty": place.ok().map(Workplace::is_dirty),
        "unsaved": place.ok().map(|place| place.unsaved.iter().map(unsaved).collect::<Vec<_>>()),
        "tip": last.and_then(|report| report.tip.as_deref()),
        "work": row.job.as_ref().and_then(|job| show::place_of_work(job, session)),
        "error": place.err(),
        "created_at": session.map(|session| session.created_at.to_string()),
        "used_at": session.map(|session| session.used_at.to_string()),
    })
}

fn unsaved(unsaved: &Unsaved) -> Value {
    json!({
        "what": unsaved.what.name(),
        "name": unsaved.name,
        "bytes": unsaved.bytes,
        "count": unsaved.count,
    })
}

fn text(row: &Row, now: Timestamp) -> String {
    let mut text = format!("{}\n", row.known.issue);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<9} {value}");
    };
    line("state", &state(row, now));
    match &row.place {
        Err(why) => {
            line("worktree", &format!("cannot look at it: {}", render::one_line(why)));
        }
        Ok(place) if place.is_empty() => line("worktree", "gone, and nothing was left"),
        Ok(place) => {
            line("work", &work(place));
            for lost in words::each(&place.unsaved).unwrap_or_default() {
                line("unsaved", &lost);
            }
            line("branch", place.branch.as_deref().unwrap_or("gone"));
            let folder = place.folder.to_string_lossy();
            line("worktree", if place.is_there { &folder } else { "gone" });
        }
    }
    if let Some(id) = row.known.session.as_ref().and_then(|session| session.id.as_deref()) {
        line("session", id);
    }
    text
}

fn state(row: &Row, now: Timestamp) -> String {
    let used = row.known.session.as_ref().map(|session| render::ago(now, session.used_at));
    let used = used.map_or(String::new(), |ago| format!("; used {ago} ago"));
    match &row.job {
        None => format!("no job{used}"),
        Some(job) => match &job.state {
            State::Notified(_) => format!("job {} is at work", job.id),
            State::Pending(_) => format!("job {} is pending{used}", job.id),
            State::Completed(_) | State::Error(_) | State::Cancelled(_) => {
                format!("job {} ended: {}{used}", job.id, job.state.kind())
            }
        },
    }
}

fn work(place: &Workplace) -> String {
    let ahead = match place.ahead {
        None => "no base to compare with".into(),
        Some(0) => "no commits".into(),
        Some(1) => "1 commit".into(),
        Some(count) => format!("{count} commits"),
    };
    let unpushed = match (place.ahead, place.unpushed()) {
        (Some(0), _) => String::new(),
        (_, 0) => ", pushed".into(),
        (_, count) => format!(", {count} not pushed"),
    };
    let changes = if place.is_dirty() { ", changes without a commit" } else { "" };
    format!("{ahead}{unpushed}{changes}")
}
