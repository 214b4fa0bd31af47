//! `queue cancel`

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use crate::agent::AgentExecutor;
use crate::cli::context::{CliError, Context, print};
use crate::cli::exit::Exit;
use crate::cli::render::{self, Format};
use crate::executor::Executor;
use crate::job::{Event, JobId, Refused, limits};
use crate::store::{Op, OpRefused, Reply};

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

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Exit, CliError> {
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let mut text = String::new();
    let mut items: Vec<Value> = Vec::new();
    let mut trouble = None;
    let mut answers = Vec::new();
    for ids in arguments.ids.chunks(limits::OPS_PER_COMMIT_MAX) {
        let cancel = |id: &JobId| Op::Apply(*id, Event::Cancel);
        answers.extend(queue.commit(ids.iter().map(cancel).collect())?);
    }
    for answer in answers {
        match answer {
            Ok(Reply::Changed(job) | Reply::AlreadySo(job)) => {
                items.push(json!({ "id": job.id.0, "state": job.state.kind().name() }));
                let _ = match job.lease() {
                    Some(lease) if lease.expires_at <= queue.now() => {
                        // Nobody holds it: the look that a worker would take ends its agent.
                        AgentExecutor::new(config.agents())?.inspect(&job);
                        let (id, issue) = (job.id, &job.issue);
                        writeln!(
                            text,
                            "Cancelling {id}: {issue} (ending its agent; the next worker records it)"
                        )
                    }
                    Some(_) => {
                        writeln!(text, "Cancelling {}: {} (ending its agent)", job.id, job.issue)
                    }
                    None => writeln!(text, "Cancelled {}: {}", job.id, job.issue),
                };
            }
            Ok(other) => unreachable!("a cancel is not answered by {other:?}"),
            Err(refused) => {
                let error = explain(&queue, refused)?;
                context.complain(&error);
                trouble = Some(error.exit);
            }
        }
    }
    match arguments.format {
        Format::Text => print(&text)?,
        Format::Json => print(&format!("{:#}\n", json!({ "items": items })))?,
    }
    Ok(trouble.unwrap_or(Exit::Success))
}

fn explain(queue: &crate::queue::Queue, refused: OpRefused) -> Result<CliError, CliError> {
    Ok(match &refused {
        OpRefused::NoSuchJob(id) => CliError::no_such_job(*id),
        OpRefused::Transition(id, Refused::Wrong(kind)) => {
            let when = match queue.get(*id)?.as_ref().and_then(|job| job.outcome()) {
                Some(outcome) => {
                    format!(" ({} ago)", render::ago(queue.now(), outcome.finished_at))
                }
                None => String::new(),
            };
            CliError::general(format!("job {id} is {kind} already{when}"))
        }
        other => CliError::general(other),
    })
}
