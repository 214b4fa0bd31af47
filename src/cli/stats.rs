//! `queue stats`

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use crate::cli::context::{CliError, Context, print};
use crate::cli::exit::CliExit;
use crate::cli::render::{self, Format};
use crate::job::StateKind;

#[derive(Args)]
pub(super) struct Arguments {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let stats = queue.stats()?;
    let now = queue.now();
    if arguments.format == Format::Json {
        let value = json!({
            "pending": stats.pending,
            "notified": stats.notified,
            "completed": stats.completed,
            "error": stats.error,
            "cancelled": stats.cancelled,
            "total": StateKind::ALL.map(|kind| stats.count(kind)).iter().sum::<u64>(),
            "max_agents": config.max_agents,
            "oldest_pending": stats.oldest_pending.map(|at| at.to_string()),
            "next_due": stats.next_due.map(|at| at.to_string()),
            "paused": stats.paused.is_some(),
            "pause": stats.paused.as_ref().map(render::pause),
            "held": stats.held,
            "judging": stats.judging,
            "holds": stats.holds.iter().map(render::hold).collect::<Vec<_>>(),
            "attempts": stats.attempts,
            "usage": render::usage(stats.usage),
        });
        print(&format!("{value:#}\n"))?;
        return Ok(CliExit::Success);
    }
    let mut text = String::new();
    for kind in StateKind::ALL {
        let note = match kind {
            StateKind::Pending => {
                let oldest = stats.oldest_pending.map(|at| render::ago(now, at));
                let next = stats.next_due.map(|at| render::ahead(now, at));
                match (oldest, next) {
                    (Some(oldest), Some(next)) => {
                        format!("  (oldest {oldest} old, next delayed one due in {next})")
                    }
                    (Some(oldest), None) => format!("  (oldest {oldest} old)"),
                    (None, _) => String::new(),
                }
            }
            StateKind::Notified => {
                let judging = match stats.judging {
                    0 => String::new(),
                    count => format!(", {count} being judged"),
                };
                format!("  (of {} agents{judging})", config.max_agents)
            }
            StateKind::Completed | StateKind::Error | StateKind::Cancelled => String::new(),
        };
        let _ = writeln!(text, "{kind:<10} {:>6}{note}", stats.count(kind));
    }
    if stats.attempts > 0 {
        let used = render::usage_line(stats.usage);
        let _ = writeln!(text, "attempts   {:>6}  ({used})", stats.attempts);
    }
    if stats.held > 0 {
        let _ =
            writeln!(text, "held       {:>6}  (`kugetsu queue retry ID` frees one)", stats.held);
    }
    if let Some(paused) = &stats.paused {
        let _ = writeln!(text, "{}", render::pause_line(paused, now));
    }
    for hold in &stats.holds {
        let _ = writeln!(text, "{}", render::hold_line(hold, now));
    }
    print(&text)?;
    Ok(CliExit::Success)
}
