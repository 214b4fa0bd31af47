//! `queue list`

use std::fmt::Write as _;
use std::str::FromStr;

use clap::Args;
use serde_json::json;

use crate::cli::context::{CliError, Context, parse_issue, parse_states, print, print_note};
use crate::cli::exit::CliExit;
use crate::cli::render::{self, ListFormat};
use crate::job::{Job, StateKind};
use crate::queue::Queue;
use crate::store::{ListQuery, Page};

#[derive(Args)]
#[command(after_help = "\
Examples:
  kugetsu queue list
  kugetsu queue list --state=all --limit=50
  kugetsu queue list --state=error,cancelled --format=json | jq -r '.items[].id'")]
pub(super) struct Arguments {
    /// How many jobs to show
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = whole_number::<usize>)]
    #[arg(allow_negative_numbers = true)]
    limit: usize,
    /// Which states: pending, notified (an agent is at work), completed, error, cancelled, or all
    #[arg(long, value_name = "STATES", default_value = "pending")]
    state: String,
    /// Only this issue's jobs
    #[arg(long, value_name = "REF")]
    issue: Option<String>,
    /// A table on a terminal and text elsewhere, unless said otherwise
    #[arg(long, value_enum)]
    format: Option<ListFormat>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let states = parse_states(&arguments.state)?;
    let issue = match &arguments.issue {
        Some(issue) => Some(parse_issue(issue)?),
        None => None,
    };
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let query = ListQuery { states, issue, limit: arguments.limit };
    let page = queue.list(&query)?;
    let by_default = if context.is_interactive() { ListFormat::Table } else { ListFormat::Text };
    let format = arguments.format.unwrap_or(by_default);
    let shown = page.items.len() as u64;
    if format == ListFormat::Text {
        obstacles(&queue)?.iter().for_each(|line| print_note(line));
    }
    if format == ListFormat::Text && shown < page.total {
        print_note(&format!("{shown} of {}; --limit={} shows all", page.total, page.total));
    }
    print(&match format {
        ListFormat::Text => text(&page, &query.states),
        ListFormat::Table => table(&page, &queue, &query.states)?,
        ListFormat::Json => format!("{:#}\n", self::json(&page, &queue)?),
        ListFormat::Jsonl => {
            page.items.iter().map(|job| format!("{}\n", render::item(job))).collect()
        }
    })?;
    Ok(CliExit::Success)
}

/// Reads a number of jobs.
pub(super) fn whole_number<N: FromStr>(text: &str) -> Result<N, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let why = if is_number { "that is too many" } else { "it is a whole number from 0" };
    text.parse().map_err(|_| why.into())
}

/// The list as programs see it.
pub(super) fn json(page: &Page, queue: &Queue) -> Result<serde_json::Value, CliError> {
    let items: Vec<_> = page.items.iter().map(render::item).collect();
    let stats = queue.stats()?;
    Ok(json!({
        "items": items,
        "total": page.total,
        "pending": stats.pending,
        "pause": stats.paused.as_ref().map(render::pause),
        "holds": stats.holds.iter().map(render::hold).collect::<Vec<_>>(),
    }))
}

/// What keeps jobs from being claimed, a line each.
fn obstacles(queue: &Queue) -> Result<Vec<String>, CliError> {
    let stats = queue.stats()?;
    let now = queue.now();
    let paused = stats.paused.iter().map(|paused| {
        format!(
            "the queue is {}; `kugetsu queue resume` ends that",
            render::pause_line(paused, now)
        )
    });
    let holds = stats
        .holds
        .iter()
        .map(|hold| format!("{}; `kugetsu queue resume` lifts that", render::hold_line(hold, now)));
    Ok(paused.chain(holds).collect())
}

fn text(page: &Page, states: &[StateKind]) -> String {
    if page.items.is_empty() && page.total == 0 {
        return format!("{}\n", nothing(states));
    }
    let only_pending = states == [StateKind::Pending];
    let mut text = String::from(if only_pending { "Pending tasks:\n" } else { "Tasks:\n" });
    for job in &page.items {
        let _ = writeln!(text, "  {}", line(job, only_pending));
    }
    text
}

fn line(job: &Job, only_pending: bool) -> String {
    let state = if only_pending { String::new() } else { format!(" [{}]", job.state.kind()) };
    let held = match render::held_after(job) {
        Some(reason) => format!(" [held: {reason}]"),
        None => String::new(),
    };
    format!("{}: {}{state}{held} - {}", job.id, job.issue, render::excerpt(&job.message))
}

fn nothing(states: &[StateKind]) -> String {
    match states {
        [one] => format!("No {one} tasks in queue."),
        _ => "No such tasks in queue.".into(),
    }
}

fn table(page: &Page, queue: &Queue, states: &[StateKind]) -> Result<String, CliError> {
    let mut text: String = obstacles(queue)?.into_iter().map(|line| format!("{line}\n")).collect();
    text += &match page.total {
        0 => format!("{}\n", nothing(states)),
        _ => render::jobs_table(&page.items, queue.now(), render::screen_width()),
    };
    let shown = page.items.len() as u64;
    if shown < page.total {
        let _ = writeln!(text, "{} more; --limit={} shows them", page.total - shown, page.total);
    }
    let running = queue.stats()?.notified;
    if states == [StateKind::Pending] && running > 0 {
        let _ = writeln!(text, "{running} running; --state=all shows them");
    }
    Ok(text)
}
