//! `queue export`

use std::io::{self, IsTerminal, Write};

use clap::Args;

use crate::cli::context::{CliError, Context, cannot_print, parse_states, stop_requests};
use crate::cli::exchange;
use crate::cli::exit::CliExit;
use crate::cli::progress::Progress;
use crate::job::{JobId, StateKind, limits};

#[derive(Args)]
#[command(after_help = "\
A line of JSON for each job, in the order of their numbers, history included.
`queue import` reads them, in this queue or another: jobs that are there already
are left alone.

Examples:
  kugetsu queue export > jobs.jsonl
  kugetsu queue export --state=error | jq -r .issue_ref
  kugetsu queue export | ssh other kugetsu queue import -")]
pub(super) struct Arguments {
    /// Only these: pending, notified, completed, error, cancelled, all
    #[arg(long, value_name = "STATES", default_value = "all")]
    state: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let states = parse_states(&arguments.state)?;
    let wanted = |kind: StateKind| states.is_empty() || states.contains(&kind);
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let stats = queue.stats()?;
    let total = StateKind::ALL.map(|kind| stats.count(kind)).iter().sum();
    let mut stdout = io::stdout().lock();
    // On a screen the lines themselves show how it goes.
    let progress = Progress::begin("exporting", total, !stdout.is_terminal());
    let stop_requests = stop_requests()?;
    let mut last = JobId(0);
    loop {
        let jobs = queue.jobs_after(last, limits::OPS_PER_COMMIT_MAX)?;
        let Some(job) = jobs.last() else { break };
        last = job.id;
        let wanted = jobs.iter().filter(|job| wanted(job.state.kind()));
        let lines: String = wanted.map(|job| exchange::to_line(job) + "\n").collect();
        match stdout.write_all(lines.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written.map_err(cannot_print)?,
        }
        progress.advance(jobs.len() as u64);
        if stop_requests.try_recv().is_ok() {
            return Err(CliError::new(
                CliExit::Interrupted,
                "interrupted: the export is not whole",
            ));
        }
    }
    match stdout.flush() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        flushed => flushed.map_err(cannot_print)?,
    }
    Ok(CliExit::Success)
}
