//! Settling what dead workers left: jobs whose lease ran out, and folders of jobs that are over.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::Sender;

use crate::daemon::Worker;
use crate::executor::{Executor, Found, is_lease_lost};
use crate::job::{Finding, Job, JobId, RetryPolicy, StateKind, limits};
use crate::queue::{Prune, Queue, QueueError};
use crate::time::Timestamp;
use crate::worker::Event;

/// One round, on a thread of its own: it looks at processes and repositories.
pub(super) fn begin(worker: &Worker, own: Vec<JobId>, tell: Sender<Event>) {
    let queue = worker.queue.clone();
    let executor = Arc::clone(&worker.executor);
    let (policy, retention_ms) = (worker.policy, worker.retention_ms);
    let failed = tell.clone();
    let round = move || {
        if let Err(error) = settle(&queue, &*executor, policy, &own) {
            tracing::error!(%error, "cannot look after the jobs of dead workers");
        }
        if let Some(Err(error)) = retention_ms.map(|ms| forget_old_jobs(&queue, ms)) {
            tracing::error!(%error, "cannot remove jobs that ended long ago");
        }
        let _ = tell.send(Event::Recovered);
    };
    if let Err(error) = thread::Builder::new().name("recovery".into()).spawn(round) {
        tracing::error!(%error, "no thread to look after the jobs of dead workers");
        let _ = failed.send(Event::Recovered);
    }
}

/// One slice: the next round takes the next one.
fn forget_old_jobs(queue: &Queue, retention_ms: u64) -> Result<(), QueueError> {
    let states = StateKind::ALL.into_iter().filter(|kind| kind.is_ended()).collect();
    let before = Timestamp(queue.now().0.saturating_sub(retention_ms));
    let most = limits::OPS_PER_COMMIT_MAX as u64;
    let removed = queue.prune(&Prune { states, before: Some(before), keep: 0, most })?;
    if removed > 0 {
        tracing::info!("removed {removed} job(s) that ended long ago");
    }
    Ok(())
}

pub(super) fn settle(
    queue: &Queue,
    executor: &dyn Executor,
    policy: RetryPolicy,
    own: &[JobId],
) -> Result<(), QueueError> {
    for job in queue.lapsed()?.iter().filter(|job| !own.contains(&job.id)) {
        settle_one(queue, executor, policy, job)?;
    }
    for id in executor.leftovers() {
        if queue.get(id)?.is_some_and(|job| job.state.kind().is_ended()) {
            executor.tidy(id);
        }
    }
    Ok(())
}

fn settle_one(
    queue: &Queue,
    executor: &dyn Executor,
    policy: RetryPolicy,
    job: &Job,
) -> Result<(), QueueError> {
    let Some(lease) = job.lease() else { return Ok(()) };
    let finding = match executor.inspect(job) {
        Found::Alive => {
            tracing::debug!(job = %job.id, "its worker is gone, its agent is not");
            return Ok(());
        }
        Found::NothingRan => Finding::NothingRan,
        Found::Ended(report) => Finding::Ended(report),
    };
    match queue.lapse(job, finding, policy, lease.token.0) {
        Ok(settled) => {
            let state = settled.state.kind();
            let detail = settled.attempts.last().map_or("", |last| last.report.detail.as_str());
            tracing::info!(
                job = %job.id, issue = %job.issue, %state,
                "its worker was gone, its result is taken: {detail}"
            );
            if state.is_ended() {
                executor.tidy(job.id);
            }
            Ok(())
        }
        // Its worker came back, or another one was faster.
        Err(error) if is_lease_lost(&error) => Ok(()),
        Err(QueueError::Refused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
