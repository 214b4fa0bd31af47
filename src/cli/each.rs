//! One event for each of several jobs, with an answer for each.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::cli::context::{CliError, Context, print};
use crate::cli::exit::CliExit;
use crate::cli::render::{self, Format};
use crate::job::{Event, Job, JobId, Refused, limits};
use crate::queue::Queue;
use crate::store::{Op, OpRefused, Reply};

/// Applies the event to each job, and reports of each what `describe` says of it. A job that
/// refuses is complained about, does not hold up the others, and decides the exit code.
pub(super) fn apply(
    context: &Context,
    queue: &Queue,
    ids: &[JobId],
    event: &Event,
    format: Format,
    describe: impl Fn(&Job) -> Result<String, CliError>,
) -> Result<CliExit, CliError> {
    let mut answers = Vec::new();
    for ids in ids.chunks(limits::OPS_PER_COMMIT_MAX) {
        let operation = |id: &JobId| Op::Apply(*id, event.clone());
        answers.extend(queue.commit(ids.iter().map(operation).collect())?);
    }
    let mut text = String::new();
    let mut items: Vec<Value> = Vec::new();
    let mut exit = CliExit::Success;
    for answer in answers {
        match answer {
            Ok(Reply::Changed(job) | Reply::AlreadySo(job)) => {
                items.push(json!({ "id": job.id.0, "state": job.state.kind().name() }));
                let _ = writeln!(text, "{}", describe(&job)?);
            }
            Ok(other) => unreachable!("an event is not answered by {other:?}"),
            Err(refused) => {
                let error = explain(queue, &refused)?;
                context.complain(&error);
                exit = error.exit;
            }
        }
    }
    match format {
        Format::Text => print(&text)?,
        Format::Json => print(&format!("{:#}\n", json!({ "items": items })))?,
    }
    Ok(exit)
}

fn explain(queue: &Queue, refused: &OpRefused) -> Result<CliError, CliError> {
    Ok(match refused {
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
