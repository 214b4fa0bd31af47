//! `queue retry`

use clap::Args;

use crate::cli::context::{CliError, Context};
use crate::cli::each;
use crate::cli::exit::CliExit;
use crate::cli::render::{self, Format};
use crate::job::{Event, JobId};

#[derive(Args)]
#[command(after_help = "\
The job is pending again, with all its attempts before it. It goes on in the
worktree and the session of its issue. One that is held is freed.

Examples:
  kugetsu queue retry 41
  kugetsu queue retry $(kugetsu queue list --state=error --format=jsonl | jq .id)")]
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
    each::apply(context, &queue, &arguments.ids, &Event::Retry, arguments.format, |job| {
        let text = render::excerpt(&job.message);
        Ok(format!("Pending {}: {} - {text}", job.id, job.issue))
    })
}
