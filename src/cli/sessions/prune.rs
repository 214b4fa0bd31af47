//! `prune`

use clap::Args;

use crate::agent::{Workplace, finish_removals, tidy_evidence};
use crate::cli::context::{CliError, Context, parse_duration, print};
use crate::cli::exit::CliExit;
use crate::cli::render;
use crate::cli::sessions::{Known, job_of, known, remove, words};
use crate::job::JobId;
use crate::queue::{Queue, QueueError};

#[derive(Args)]
#[command(after_help = "\
Takes away the worktrees, branches and sessions of issues that have no job pending
or running, if nothing in them would be lost: each commit is on a branch of the
remote, or what it does (squashed, picked, rebased), and there is no stash, no
change, no untracked or ignored file and no repository of its own. Folders that can
be made again (KUGETSU_DISPOSABLE) do not count. It says of each what became of it,
and names what is kept with its size. `queue prune` removes jobs.

Examples:
  kugetsu prune --dry-run
  kugetsu prune --older-than=7d")]
pub(crate) struct Arguments {
    /// Only those that were not used for so long (12h, 30d)
    #[arg(long, value_name = "DURATION")]
    older_than: Option<String>,
    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(crate) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let age_ms = arguments.older_than.as_deref();
    let age_ms = age_ms.map(|text| parse_duration("older-than", text)).transpose()?.unwrap_or(0);
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let settings = config.agents();
    let mut exit = CliExit::Success;
    if !arguments.dry_run {
        for why in finish_removals(&settings) {
            context.complain(&CliError::general(why));
            exit = CliExit::General;
        }
    }
    let (mut removed, mut kept) = (0, 0);
    for known in known(&queue, &settings)? {
        let verdict = match wanted(&queue, &known, age_ms)? {
            Some(why) => Err(why),
            None if arguments.dry_run => match Workplace::inspect_anew(&settings, known.place()) {
                Ok(place) => words::unsaved(&place).map_or(Ok(()), Err),
                Err(why) => Err(why),
            },
            None => remove(&queue, &settings, &known, false)?,
        };
        match verdict {
            Ok(()) => removed += 1,
            Err(_) => kept += 1,
        }
        print(&match (verdict, arguments.dry_run) {
            (Ok(()), false) => format!("Removed {}\n", known.issue),
            (Ok(()), true) => format!("Would remove {}\n", known.issue),
            (Err(why), _) => format!("Kept {}: {}\n", known.issue, render::one_line(&why)),
        })?;
    }
    let would = if arguments.dry_run { "would be removed" } else { "removed" };
    print(&format!("{removed} {would}, {kept} kept\n"))?;
    if !arguments.dry_run {
        let tidied = tidy_evidence(&settings, &|job| is_known(&queue, job).unwrap_or(true));
        if let Err(why) = tidied {
            context.complain(&CliError::general(why));
            exit = CliExit::General;
        }
    }
    Ok(exit)
}

/// Whether a job is in the queue, or was the last of a session.
fn is_known(queue: &Queue, job: JobId) -> Result<bool, QueueError> {
    if queue.get(job)?.is_some() {
        return Ok(true);
    }
    Ok(queue.sessions()?.iter().any(|session| session.last_job == job))
}

/// Why somebody may still want it, as far as the queue knows.
fn wanted(queue: &Queue, known: &Known, age_ms: u64) -> Result<Option<String>, CliError> {
    if let Some(job) = job_of(queue, &known.issue)?.filter(|job| !job.state.kind().is_ended()) {
        return Ok(Some(format!("job {} is {}", job.id, job.state.kind())));
    }
    let now = queue.now();
    let unused_ms = known.session.as_ref().map_or(u64::MAX, |s| now.ms_since(s.used_at));
    Ok((unused_ms < age_ms).then(|| format!("it was used {} ago", render::span(unused_ms))))
}
