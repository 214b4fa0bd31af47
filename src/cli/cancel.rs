//! `queue cancel`

use clap::Args;

use crate::agent::AgentExecutor;
use crate::cli::context::{CliError, Context};
use crate::cli::each;
use crate::cli::exit::CliExit;
use crate::cli::render::Format;
use crate::config::Config;
use crate::daemon;
use crate::executor::Executor;
use crate::job::{Event, Job, JobId};
use crate::queue::Queue;

#[derive(Args)]
#[command(after_help = "\
A pending job is cancelled at once. The agent of a running one is ended; its
commits and changes stay where they are.

Examples:
  kugetsu queue cancel 41
  kugetsu queue cancel 41 42 43")]
pub(super) struct Arguments {
    /// The jobs' numbers
    #[arg(required = true, value_name = "ID")]
    ids: Vec<JobId>,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let config = context.config()?;
    let queue = context.queue(&config)?;
    each::apply(context, &queue, &arguments.ids, &Event::Cancel, arguments.format, |job| {
        let (id, issue) = (job.id, &job.issue);
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
