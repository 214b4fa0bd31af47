//! `queue clear`

use std::io::{self, BufRead, IsTerminal, Write};
use std::thread;

use clap::Args;
use crossbeam_channel::{bounded, select};
use signal_hook::consts::SIGINT;
use signal_hook::low_level::emulate_default_handler;

use crate::cli::cancel;
use crate::cli::context::{CliError, Context, print, print_note, stop_requests};
use crate::cli::each;
use crate::cli::exit::CliExit;
use crate::cli::render::Format;
use crate::config::Config;
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

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let stats = queue.stats()?;
    let count = stats.pending + stats.completed + stats.error + stats.cancelled;
    let asks = io::stdin().is_terminal() && !arguments.yes;
    if asks {
        let answer = ask(&format!("Remove {count} job(s), {} of them pending?", stats.pending))?;
        if answer != Confirmation::Yes {
            print_note("nothing was removed");
            let interrupted = answer == Confirmation::Interrupted;
            return Ok(if interrupted { CliExit::Interrupted } else { CliExit::General });
        }
    }
    let mut exit = CliExit::Success;
    if arguments.force {
        exit = cancel_running(context, &config, &queue)?;
    }
    let removed = queue.clear()?;
    print(&format!("Removed {removed} job(s)\n"))?;
    Ok(exit)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirmation {
    Yes,
    No,
    Interrupted,
}

/// Asks a person at a terminal. Ends the line of the question in any case.
fn ask(question: &str) -> Result<Confirmation, CliError> {
    let mut stderr = io::stderr().lock();
    let stop_requests = stop_requests()?;
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let (sender, answers) = bounded(1);
    thread::Builder::new().name("answer".into()).spawn(move || {
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        // Whoever was interrupted does not listen any more.
        let _ = sender.send(read.map(|_| answer));
    })?;
    let answer = select! {
        recv(answers) -> answer => answer.map_err(io::Error::other)??,
        recv(stop_requests) -> _ => {
            writeln!(stderr)?;
            return Ok(Confirmation::Interrupted);
        }
    };
    // From here on an interrupt does what it does everywhere.
    thread::Builder::new().name("stop-requests".into()).spawn(move || {
        if stop_requests.recv().is_ok() {
            let _ = emulate_default_handler(SIGINT);
        }
    })?;
    if !answer.ends_with('\n') {
        writeln!(stderr)?;
    }
    Ok(if matches!(answer.trim(), "y" | "Y" | "yes") {
        Confirmation::Yes
    } else {
        Confirmation::No
    })
}

fn cancel_running(context: &Context, config: &Config, queue: &Queue) -> Result<CliExit, CliError> {
    let limit = usize::try_from(limits::AGENTS_MAX).unwrap_or(usize::MAX);
    let query = ListQuery { states: vec![StateKind::Notified], issue: None, limit };
    let ids: Vec<JobId> = queue.list(&query)?.items.iter().map(|job| job.id).collect();
    if ids.is_empty() {
        return Ok(CliExit::Success);
    }
    each::apply(context, queue, &ids, &Event::Cancel, Format::Text, |job| {
        cancel::end_orphan(config, queue, job)?;
        Ok(format!("Cancelling {}: {} (ending its agent)", job.id, job.issue))
    })
}
