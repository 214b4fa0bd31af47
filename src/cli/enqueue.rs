//! `queue enqueue`

use std::io::Read;

use clap::Args;

use crate::cli::context::{CliError, Context, parse_duration, parse_issue, print};
use crate::cli::exit::CliExit;
use crate::cli::render::{self, Format};
use crate::job::{NewJob, limits};
use crate::time::Timestamp;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kugetsu queue enqueue github.com/shoko/kugetsu#14 'fix the bug'
  kugetsu queue enqueue https://git.example.org/a/b/issues/3 - < message.txt
  kugetsu queue enqueue github.com/shoko/kugetsu#14 'then add a test' --priority=5 --delay=2h")]
pub(super) struct Arguments {
    /// The issue: HOST/OWNER/REPO#NUMBER, or the address of its page
    #[arg(value_name = "REF")]
    issue: String,
    /// What the agent is told; `-` reads it from standard input
    message: String,
    /// Higher goes first
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    priority: i16,
    /// Not before this time from now (90s, 15m, 2h)
    #[arg(long, value_name = "DURATION", conflicts_with = "at")]
    delay: Option<String>,
    /// Not before this time (2026-01-31T08:00:00Z)
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Wall-clock limit of one attempt (90s, 15m, 2h)
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// How many attempts, whatever the failure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    max_attempts: Option<u32>,
    /// Your name for this request: asked again, it makes nothing new
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Only if the issue has no job that is pending or running
    #[arg(long)]
    if_idle: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<CliExit, CliError> {
    let format = arguments.format;
    let issue = parse_issue(&arguments.issue)?;
    let message = read_message(&arguments.message)?;
    let parse = |option: &str, text: Option<&str>| {
        text.map(|text| parse_duration(option, text)).transpose()
    };
    let new = NewJob {
        priority: arguments.priority,
        timeout_ms: parse("timeout", arguments.timeout.as_deref())?,
        max_attempts: arguments.max_attempts,
        request_id: arguments.request_id,
        only_if_idle: arguments.if_idle,
        ..NewJob::new(issue, message)
    };
    new.validate().map_err(CliError::general)?;
    let delay_ms = parse("delay", arguments.delay.as_deref())?;
    let at = arguments.at.as_deref().map(parse_time).transpose()?;

    let config = context.config()?;
    let queue = context.queue(&config)?;
    let run_at = due_at(at, delay_ms, queue.now())?;
    let (job, is_new) = queue.enqueue(NewJob { run_at, ..new })?;
    match format {
        Format::Json => {
            let mut value = render::item(&job);
            value["new"] = is_new.into();
            print(&format!("{value}\n"))?;
        }
        Format::Text => {
            let word = if is_new { "Enqueued" } else { "Already enqueued" };
            let text = render::excerpt(&job.message);
            print(&format!("{word} {}: {} - {text}\n", job.id, job.issue))?;
        }
    }
    Ok(CliExit::Success)
}

/// The message as it was typed, or from standard input if it is `-`.
pub(super) fn read_message(text: &str) -> Result<String, CliError> {
    if text == "-" { read_stdin() } else { Ok(text.into()) }
}

/// Reads the message, and one byte more than is allowed, so that too much is seen.
fn read_stdin() -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let limit = limits::MESSAGE_BYTES_MAX as u64 + 1;
    std::io::stdin().take(limit).read_to_end(&mut bytes).map_err(|error| {
        CliError::general(format!("cannot read the message from standard input: {error}"))
    })?;
    if bytes.len() > limits::MESSAGE_BYTES_MAX {
        let limit = limits::MESSAGE_BYTES_MAX;
        return Err(CliError::general(format!("the message has more than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| CliError::general("the message is not UTF-8"))
}

/// When a job is due that is to begin at a time, or so long from now.
pub(super) fn due_at(
    at: Option<Timestamp>,
    delay_ms: Option<u64>,
    now: Timestamp,
) -> Result<Option<Timestamp>, CliError> {
    let Some(at) = at else { return Ok(delay_ms.map(|ms| now.plus_ms(ms))) };
    if at < now {
        return Err(CliError::general("--at: this time is past").hint(format!("it is {now}")));
    }
    if at > now.plus_ms(limits::DURATION_MS_MAX) {
        let error = CliError::general("--at: this time is more than ten years away");
        return Err(error.hint(format!("it is {now}")));
    }
    Ok(Some(at))
}

pub(super) fn parse_time(text: &str) -> Result<Timestamp, CliError> {
    text.parse().map_err(|why| CliError::general(format!("--at={text}: {why}")))
}
