//! `queue prune`

use clap::Args;

use crate::cli::context::{CliError, Context, parse_duration, parse_states, print};
use crate::cli::exit::CliExit;
use crate::cli::list::whole_number;
use crate::job::StateKind;
use crate::queue::Prune;

#[derive(Args)]
#[command(after_help = "\
Removes jobs that have ended, the oldest first. Worktrees, branches, sessions and
logs stay where they are.

Examples:
  kugetsu queue prune --older-than=30d
  kugetsu queue prune --keep=1000 --state=completed")]
pub(super) struct Arguments {
    /// Those that ended longer ago than this (12h, 30d)
    #[arg(long, value_name = "DURATION", required_unless_present = "keep")]
    older_than: Option<String>,
    /// All but so many that ended last
    #[arg(long, value_name = "N", value_parser = whole_number::<u64>)]
    #[arg(allow_negative_numbers = true)]
    keep: Option<u64>,
    /// Only those that ended so: completed, error, cancelled
    #[arg(long, value_name = "STATES", default_value = "completed,error,cancelled")]
    state: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let age_ms = arguments.older_than.as_deref();
    let age_ms = age_ms.map(|text| parse_duration("older-than", text)).transpose()?;
    let states = match arguments.state.as_str() {
        "all" => StateKind::ALL.into_iter().filter(|kind| kind.is_ended()).collect(),
        states => parse_states(states)?,
    };
    if let Some(kind) = states.iter().find(|kind| !kind.is_ended()) {
        let hint = "completed, error and cancelled jobs can be pruned";
        return Err(CliError::general(format!("--state={kind}: these have not ended")).hint(hint));
    }
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let before = age_ms.map(|ms| crate::time::Timestamp(queue.now().0.saturating_sub(ms)));
    let keep = arguments.keep.unwrap_or(0);
    let removed = queue.prune(&Prune { states, before, keep, limit: u64::MAX })?;
    print(&format!("Removed {removed} job(s)\n"))?;
    Ok(CliExit::Success)
}
