//! `queue cancel`

use clap::Args;

use crate::agent::{AgentExecutor, AgentSettings, checkup};
use crate::cli::context::{CliError, Context};
use crate::cli::each;
use crate::cli::exit::CliExit;
use crate::cli::render::Format;
use crate::cli::why;
use crate::config::Config;
use crate::daemon;
use crate::executor::Executor;
use crate::job::{Event, Job, JobId};
use crate::queue::Queue;

#[derive(Args)]
#[command(after_help = "\
A pending job is cancelled at once. The agent of a running one is ended; its
commits and changes stay where they are. A job whose agent is gone stays at work for
as long as a process holds its run; --force ends that process.

Examples:
  kugetsu queue cancel 41
  kugetsu queue cancel 41 42 43")]
pub(super) struct Arguments {
    /// The jobs' numbers
    #[arg(required = true, value_name = "ID")]
    ids: Vec<JobId>,
    /// Also end whatever holds the run of a job whose agent's shim is gone
    #[arg(long)]
    force: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let config = context.config()?;
    let queue = context.queue(&config)?;
    each::apply(context, &queue, &arguments.ids, &Event::Cancel, arguments.format, |job| {
        let (id, issue) = (job.id, &job.issue);
        if arguments.force {
            end_holders(context, &config.agents(), job)?;
        }
        Ok(match job.lease() {
            Some(_) if end_orphan(&config, &queue, job)? => {
                format!("Cancelling {id}: {issue} (ending its agent; the next worker records it)")
            }
            Some(_) => format!("Cancelling {id}: {issue} (ending its agent)"),
            None => format!("Cancelled {id}: {issue}"),
        })
    })
}

/// Ends the agent of a job that is called off and whose worker is gone, as that would have done.
/// Says whether it was so.
pub(super) fn end_orphan(config: &Config, queue: &Queue, job: &Job) -> Result<bool, CliError> {
    let is_orphan = daemon::is_orphan(&config.workers(), job, queue.now());
    if is_orphan {
        AgentExecutor::new(config.agents())?.enforce(job);
    }
    Ok(is_orphan)
}

/// Ends whoever holds a run that nothing of kugetsu's looks after any more.
fn end_holders(context: &Context, settings: &AgentSettings, job: &Job) -> Result<(), CliError> {
    let run = job.lease().and_then(|lease| lease.run.as_ref());
    let Some(run) = run.filter(|run| !why::shim_lives(run)) else { return Ok(()) };
    for holder in checkup::end_lock_holders(settings, run)? {
        let error = CliError::general(format!("job {}: {holder} lives on", job.id));
        context.complain(&error.hint("is it another user's?"));
    }
    Ok(())
}
