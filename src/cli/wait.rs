//! `wait`

use std::time::Duration;

use clap::Args;
use crossbeam_channel::{after, never, select};
use serde_json::{Value, json};

use crate::cli::context::{CliError, Context, parse_duration, print, stop_requests};
use crate::cli::exit::CliExit;
use crate::cli::render::{self, Format};
use crate::job::{Job, JobId, StateKind};

/// How often to look without a wake-up.
const POLL: Duration = Duration::from_secs(1);

#[derive(Args)]
#[command(after_help = "\
The exit code tells how they ended: 0 all completed, 5 one ended in error, 6 one was
cancelled, 7 time ran out.

Examples:
  kugetsu wait 41 42 && notify-send 'both done'
  kugetsu wait 41 --timeout=2h")]
pub(super) struct Arguments {
    /// The jobs' numbers
    #[arg(value_name = "ID", required = true)]
    ids: Vec<JobId>,
    /// How long at most (90s, 15m, 2h)
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let timeout = arguments.timeout.as_deref();
    let timeout = timeout.map(|text| parse_duration("timeout", text)).transpose()?;
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let interrupted = stop_requests()?;
    let changes = queue.watch();
    let deadline = timeout.map_or_else(never, |ms| after(Duration::from_millis(ms)));
    let mut ended: Vec<Job> = Vec::new();
    let mut exit = CliExit::Success;
    let mut left = arguments.ids.clone();
    left.dedup();
    loop {
        let mut still_left = Vec::new();
        for id in left {
            let job = queue.get(id)?.ok_or_else(|| CliError::no_such_job(id))?;
            if !job.state.kind().is_ended() {
                still_left.push(id);
                continue;
            }
            if arguments.format == Format::Text {
                let status = render::status(&job, queue.now());
                let line = format!("Job {id} {}: {} ({status})\n", job.state.kind(), job.issue);
                print(&line)?;
            }
            exit = worse(exit, job.state.kind());
            ended.push(job);
        }
        left = still_left;
        if left.is_empty() {
            break;
        }
        select! {
            recv(changes.wakeups()) -> _ => {}
            recv(after(POLL)) -> _ => {}
            recv(interrupted) -> _ => return Ok(CliExit::Interrupted),
            recv(deadline) -> _ => {
                let ids: Vec<String> = left.iter().map(JobId::to_string).collect();
                let why = format!("time ran out: job {} has not ended", ids.join(", "));
                return Err(CliError::new(CliExit::TimedOut, why).hint("the jobs go on"));
            }
        }
    }
    if arguments.format == Format::Json {
        let items: Vec<Value> = ended.iter().map(render::item).collect();
        print(&format!("{:#}\n", json!({ "items": items })))?;
    }
    Ok(exit)
}

/// An error weighs more than a cancellation.
fn worse(exit: CliExit, kind: StateKind) -> CliExit {
    match (exit, CliExit::of_job(kind)) {
        (CliExit::JobFailed, _) => CliExit::JobFailed,
        (exit, CliExit::Success) => exit,
        (_, of_job) => of_job,
    }
}
