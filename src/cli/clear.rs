//! `queue clear`

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use crate::cli::context::{CliError, Context, print, print_note};
use crate::cli::each;
use crate::cli::exit::Exit;
use crate::cli::render::Format;
use crate::job::{Event, JobId, StateKind, limits};
use crate::queue::Queue;
use crate::store::ListQuery;

#[derive(Args)]
#[command(after_help = "\
Removes every job but the running ones, history included. Worktrees, branches,
sessions and logs stay where they are. On a terminal it asks first.

Examples:
  kugetsu queue clear
  kugetsu queue clear --force --yes")]
pub(super) struct Arguments {
    /// Cancel the running jobs too
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Exit, CliError> {
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let stats = queue.stats()?;
    let count = stats.pending + stats.completed + stats.error + stats.cancelled;
    let asks = io::stdin().is_terminal() && !arguments.yes;
    if asks && !is_agreed(count, stats.pending)? {
        print_note("nothing was removed");
        return Ok(Exit::General);
    }
    let mut exit = Exit::Success;
    if arguments.force {
        exit = cancel_running(context, &queue)?;
    }
    let removed = queue.clear()?;
    print(&format!("Removed {removed} job(s)\n"))?;
    Ok(exit)
}

fn is_agreed(count: u64, pending: u64) -> Result<bool, CliError> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "Remove {count} job(s), {pending} of them pending? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn cancel_running(context: &Context, queue: &Queue) -> Result<Exit, CliError> {
    let limit = usize::try_from(limits::AGENTS_MAX).unwrap_or(usize::MAX);
    let query = ListQuery { states: vec![StateKind::Notified], issue: None, limit };
    let ids: Vec<JobId> = queue.list(&query)?.items.iter().map(|job| job.id).collect();
    if ids.is_empty() {
        return Ok(Exit::Success);
    }
    each::apply(context, queue, &ids, &Event::Cancel, Format::Text, |job| {
        Ok(format!("Cancelling {}: {} (ending its agent)", job.id, job.issue))
    })
}
