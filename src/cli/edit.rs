//! `queue edit`

use clap::Args;

use crate::cli::context::{CliError, Context, parse_duration};
use crate::cli::each;
use crate::cli::enqueue::{due_at, parse_time, read_message};
use crate::cli::exit::CliExit;
use crate::cli::render::{self, Format};
use crate::job::{Edit, Event, JobId};

#[derive(Args)]
#[command(after_help = "\
Only a pending job can be edited: what an agent was told stays told.

Examples:
  kugetsu queue edit 41 --message='fix the bug, and add a test'
  kugetsu queue edit 41 42 --priority=5 --delay=0s")]
pub(super) struct Arguments {
    /// The jobs' numbers
    #[arg(required = true, value_name = "ID")]
    ids: Vec<JobId>,
    /// What the agent is told; `-` reads it from standard input
    #[arg(long)]
    message: Option<String>,
    /// Higher goes first
    #[arg(long, allow_hyphen_values = true)]
    priority: Option<i16>,
    /// Not before this time from now (90s, 15m, 2h)
    #[arg(long, value_name = "DURATION", conflicts_with = "at")]
    delay: Option<String>,
    /// Not before this time (2026-01-31T08:00:00Z)
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Wall-clock limit of one attempt (90s, 15m, 2h)
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let duration = |option: &str, text: &Option<String>| {
        text.as_deref().map(|text| parse_duration(option, text)).transpose()
    };
    let delay_ms = duration("delay", &arguments.delay)?;
    let at = arguments.at.as_deref().map(parse_time).transpose()?;
    let edit = Edit {
        message: arguments.message.as_deref().map(read_message).transpose()?,
        priority: arguments.priority,
        run_at: at,
        timeout_ms: duration("timeout", &arguments.timeout)?,
    };
    if edit == Edit::default() && delay_ms.is_none() {
        let hint = "--message, --priority, --delay, --at and --timeout do";
        return Err(CliError::general("nothing says what to change").hint(hint));
    }
    edit.validate().map_err(CliError::general)?;
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let run_at = due_at(edit.run_at, delay_ms, queue.now())?;
    let event = Event::Edit(Edit { run_at, ..edit });
    each::apply(context, &queue, &arguments.ids, &event, arguments.format, |job| {
        let text = render::excerpt(&job.message);
        Ok(format!("Edited {}: {} - {text}", job.id, job.issue))
    })
}
