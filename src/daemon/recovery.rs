//! Looking after what dead workers left: running jobs, and folders of jobs that are over.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::Sender;

use crate::daemon::Worker;
use crate::daemon::liveness::Liveness;
use crate::executor::{Executor, Found, is_lease_lost};
use crate::failpoint;
use crate::job::{Job, JobId, Reason, Report, RetryPolicy, StateKind, WorkerId, limits, order};
use crate::queue::{Prune, Queue, QueueError};
use crate::store::ListQuery;
use crate::time::Timestamp;
use crate::worker::WorkerEvent;

/// What a round needs to know of its worker.
pub(super) struct Recovery {
    queue: Queue,
    executor: Arc<dyn Executor>,
    policy: RetryPolicy,
    retention_ms: Option<u64>,
    liveness: Option<Liveness>,
    worker: WorkerId,
    lease_ms: u64,
}

impl Recovery {
    pub fn of(worker: &Worker) -> Recovery {
        Recovery {
            queue: worker.queue.clone(),
            executor: Arc::clone(&worker.executor),
            policy: worker.policy,
            retention_ms: worker.retention_ms,
            liveness: worker.liveness.clone(),
            worker: worker.id.clone(),
            lease_ms: worker.settings.lease_ms,
        }
    }

    /// One round, on a thread of its own.
    pub fn begin(self, own: Vec<JobId>, event_sender: Sender<WorkerEvent>) {
        let failed = event_sender.clone();
        let round = move || {
            for (what, done) in [
                ("look after the jobs of dead workers", self.adopt_orphans(&own, &event_sender)),
                ("clear up behind ended jobs", self.clear_up()),
                ("remove jobs that ended long ago", self.forget_old_jobs()),
            ] {
                if let Err(error) = done {
                    tracing::error!(%error, "cannot {what}");
                }
            }
            let _ = event_sender.send(WorkerEvent::Recovered);
        };
        if let Err(error) = thread::Builder::new().name("recovery".into()).spawn(round) {
            tracing::error!(%error, "no thread to look after the jobs of dead workers");
            let _ = failed.send(WorkerEvent::Recovered);
        }
    }

    /// Takes over every run that nobody looks after.
    fn adopt_orphans(
        &self,
        own: &[JobId],
        event_sender: &Sender<WorkerEvent>,
    ) -> Result<(), QueueError> {
        // Watched before they are looked at: whoever dies in between is heard of.
        if let Some(Err(error)) =
            self.liveness.as_ref().map(|p| p.watch(&self.worker, event_sender))
        {
            tracing::warn!(%error, "cannot watch other workers; their leases will tell");
        }
        for job in self.running()?.iter().filter(|job| !own.contains(&job.id)) {
            if let Some(adopted) = self.adopt_if_orphan(job)? {
                // The loop is gone only when the process is about to be.
                let _ = event_sender.send(WorkerEvent::Adopted(Box::new(adopted)));
            }
        }
        Ok(())
    }

    /// Records the end of every run that nobody looks after and that is over.
    pub fn settle(&self) -> Result<(), QueueError> {
        for job in self.running()? {
            if !self.is_orphan(&job) {
                continue;
            }
            let report = match self.executor.inspect(&job) {
                Found::Alive => {
                    self.executor.enforce(&job);
                    continue;
                }
                Found::NothingRan => nothing_ran(),
                Found::Ended(report) => report,
            };
            let Some(adopted) = self.adopt_if_orphan(&job)? else { continue };
            let Some(lease) = adopted.lease() else { continue };
            let (id, token) = (job.id, lease.token);
            if job.lease().is_none_or(|looked_at| looked_at.run != lease.run) {
                // Its worker came back in between, and began another run.
                self.queue.renew(id, token, 0)?;
                continue;
            }
            let settled = self.queue.finish(id, token, report, self.policy, token.0)?;
            if settled.state.kind().is_ended() {
                self.executor.tidy(id);
            }
        }
        Ok(())
    }

    fn running(&self) -> Result<Vec<Job>, QueueError> {
        let limit = usize::try_from(limits::AGENTS_MAX).unwrap_or(usize::MAX);
        let query = ListQuery { states: vec![StateKind::Notified], issue: None, limit };
        Ok(self.queue.list(&query)?.items)
    }

    fn is_orphan(&self, job: &Job) -> bool {
        let now = self.queue.now();
        match &self.liveness {
            Some(liveness) => liveness.is_orphan(job, now),
            None => order::is_lapsed(job, now),
        }
    }

    fn adopt_if_orphan(&self, job: &Job) -> Result<Option<Job>, QueueError> {
        let Some(lease) = job.lease().filter(|_| self.is_orphan(job)) else { return Ok(None) };
        match self.queue.adopt(job.id, lease.token, self.worker.clone(), self.lease_ms) {
            Ok(adopted) => {
                failpoint::here("adopted");
                let (id, issue, from) = (job.id, &job.issue, &lease.worker);
                tracing::info!(job = %id, %issue, %from, "taken over from a worker that is gone");
                Ok(Some(adopted))
            }
            // Its worker came back, or another one was faster.
            Err(error) if is_lease_lost(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn clear_up(&self) -> Result<(), QueueError> {
        for id in self.executor.leftovers() {
            if self.queue.get(id)?.is_some_and(|job| job.state.kind().is_ended()) {
                self.executor.tidy(id);
            }
        }
        self.executor.maintain();
        let Some(liveness) = &self.liveness else { return Ok(()) };
        let forgotten = match liveness.take_dead(&self.running()?, self.queue.now()) {
            // Looked up again, now that none of them can claim any more.
            Ok(dead) => liveness.forget(dead, &self.running()?, self.queue.now()),
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            tracing::warn!(%error, "cannot clear up behind dead workers");
        }
        Ok(())
    }

    /// One slice: the next round takes the next one.
    fn forget_old_jobs(&self) -> Result<(), QueueError> {
        let Some(retention_ms) = self.retention_ms else { return Ok(()) };
        let states = StateKind::ALL.into_iter().filter(|kind| kind.is_ended()).collect();
        let before = Timestamp(self.queue.now().0.saturating_sub(retention_ms));
        let limit = limits::OPS_PER_COMMIT_MAX as u64;
        let removed = self.queue.prune(&Prune { states, before: Some(before), keep: 0, limit })?;
        if removed > 0 {
            tracing::info!("removed {removed} job(s) that ended long ago");
        }
        Ok(())
    }
}

/// Of a job whose worker was gone before it came to anything.
pub(super) fn nothing_ran() -> Report {
    Report::new(Reason::Shutdown, "its worker was gone before the agent started")
}
