//! `queue pause` and `queue resume`

use std::fmt::Write as _;

use clap::Args;

use crate::cli::context::{CliError, Context, parse_duration, print};
use crate::cli::exit::CliExit;
use crate::cli::render;

#[derive(Args)]
#[command(after_help = "\
No worker of this queue begins another job. Agents that run go on. It is kept in
the queue: workers that start later obey it too.

Examples:
  kugetsu queue pause
  kugetsu queue pause --for=2h")]
pub(super) struct Arguments {
    /// How long; without it, until `queue resume`
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<String>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let ms = arguments.duration.as_deref().map(|text| parse_duration("for", text)).transpose()?;
    let config = context.config()?;
    let queue = context.queue(&config)?;
    queue.pause(ms.map(|ms| queue.now().plus_ms(ms)))?;
    let how_long = match ms {
        Some(ms) => format!("for {}", render::span(ms)),
        None => "until `kugetsu queue resume`".into(),
    };
    let running = match queue.stats()?.notified {
        0 => String::new(),
        count => format!(" ({count} running agent(s) go on)"),
    };
    print(&format!("Paused {how_long}{running}\n"))?;
    Ok(CliExit::Success)
}

pub(super) fn resume(context: &Context) -> Result<CliExit, CliError> {
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let now = queue.now();
    let resumed = queue.resume()?;
    let mut text = match &resumed.paused {
        // Who paused it by hand knows.
        Some(paused) if paused.job.is_none() => "Resumed\n".into(),
        Some(paused) => format!("Resumed; it was {}\n", render::pause_line(paused, now)),
        None if resumed.holds.is_empty() => "The queue was not paused\n".into(),
        None => String::new(),
    };
    for hold in &resumed.holds {
        let _ = writeln!(text, "Lifted: {}", render::hold_line(hold, now));
    }
    print(&text)?;
    Ok(CliExit::Success)
}
