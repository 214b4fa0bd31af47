//! The thread that talks to the store, so that the loop never waits for a disk.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::daemon::Worker;
use crate::executor::is_lease_lost;
use crate::failpoint;
use crate::job::{self, JobId, Lease, Report, RetryPolicy, State, Token, WorkerId, limits};
use crate::queue::{Queue, QueueError};
use crate::store::{Claim, NothingToClaim, Op, Reply, StoreError};
use crate::worker::WorkerEvent;

/// What the loop asks of the store. There are at most a few for each slot at a time.
pub(super) enum Request {
    Claim,
    Finish(JobId, Token, Report),
    LetGo(JobId, Token),
    Renew(Vec<(JobId, Token)>),
    Peek(Vec<(JobId, Token)>),
}

pub(super) struct StoreThread {
    requests: Sender<Request>,
    thread: JoinHandle<()>,
    /// Whether the machine's trouble was reported already.
    quiet: Arc<AtomicBool>,
    failure: Arc<Failure>,
}

/// Whether the store cannot be used any more, and why.
#[derive(Default)]
struct Failure {
    broken: AtomicBool,
    error: Mutex<Option<QueueError>>,
}

impl StoreThread {
    pub fn begin(worker: &Worker, event_sender: Sender<WorkerEvent>) -> io::Result<StoreThread> {
        let (requests, incoming) = unbounded();
        let failure = Arc::new(Failure::default());
        let quiet = Arc::new(AtomicBool::new(false));
        let actor = StoreActor {
            queue: worker.queue.clone(),
            claim: Claim {
                worker: worker.id.clone(),
                cap: worker.settings.cap,
                lease_ms: worker.settings.lease_ms.max(limits::LEASE_MS_MIN),
                agent: worker.agent.clone(),
            },
            policy: worker.policy,
            seed: seed(&worker.id),
            tidy: {
                let executor = Arc::clone(&worker.executor);
                Box::new(move |id| executor.tidy(id))
            },
            event_sender,
            failure: Arc::clone(&failure),
            quiet: Arc::clone(&quiet),
            obstacle: Cell::new(Obstacle::None),
        };
        let thread = thread::Builder::new().name("store".into()).spawn(move || {
            let served = catch_unwind(AssertUnwindSafe(|| actor.serve(&incoming)));
            if served.is_err() {
                actor.break_with(StoreError::Panicked.into());
            }
        })?;
        Ok(StoreThread { requests, thread, quiet, failure })
    }

    pub fn ask(&self, request: Request) {
        // The thread ends only after this sender does.
        let _ = self.requests.send(request);
    }

    /// Whether errors of the machine's trouble are to be kept quiet.
    pub fn quiet(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.quiet)
    }

    pub fn is_broken(&self) -> bool {
        self.failure.broken.load(Ordering::Acquire)
    }

    /// Waits until everything that was asked is done.
    pub fn end(self) -> Result<(), QueueError> {
        drop(self.requests);
        if self.thread.join().is_err() {
            return Err(StoreError::Panicked.into());
        }
        let error =
            self.failure.error.lock().expect("no thread panics while it holds the error").take();
        error.map_or(Ok(()), Err)
    }
}

/// What a worker hears of one of its jobs.
fn seen(id: JobId, token: Token, lease: Option<&Lease>) -> WorkerEvent {
    let cancel = lease.is_some_and(|lease| lease.cancel_requested);
    let judging = lease.is_some_and(|lease| lease.judging.is_some());
    WorkerEvent::Seen { id, token, held: lease.is_some(), cancel, judging }
}

/// Different workers spread their retries differently.
fn seed(worker: &WorkerId) -> u64 {
    worker.0.bytes().fold(0, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()))
}

struct StoreActor {
    queue: Queue,
    claim: Claim,
    policy: RetryPolicy,
    seed: u64,
    tidy: Box<dyn Fn(JobId) + Send>,
    event_sender: Sender<WorkerEvent>,
    failure: Arc<Failure>,
    /// Whether the machine's trouble was reported already.
    quiet: Arc<AtomicBool>,
    /// What the last claim met.
    obstacle: Cell<Obstacle>,
}

/// What keeps all jobs from being claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    None,
    Paused,
    AgentHeld,
}

impl StoreActor {
    fn serve(&self, requests: &Receiver<Request>) {
        for request in requests {
            match request {
                Request::Claim => self.claim(),
                Request::Finish(id, token, report) => self.finish(id, token, report),
                Request::LetGo(id, token) => {
                    let let_go = self.queue.renew(id, token, 0);
                    // Somebody else may look after it already.
                    if let Some(error) = let_go.err().filter(|error| !is_lease_lost(error)) {
                        self.note(&error, "let a job go");
                    }
                }
                Request::Renew(leases) => self.renew(&leases),
                Request::Peek(leases) => {
                    for (id, token) in leases {
                        self.peek(id, token);
                    }
                    self.send(WorkerEvent::Peeked);
                }
            }
        }
    }

    fn claim(&self) {
        let answer = self.queue.claim(self.claim.clone());
        if let Ok(answer) = &answer {
            self.say_obstacle(match answer {
                Err(NothingToClaim::Paused { .. }) => Obstacle::Paused,
                Err(NothingToClaim::Held { .. }) => Obstacle::AgentHeld,
                Ok(_) | Err(NothingToClaim::CapReached | NothingToClaim::NoneDue { .. }) => {
                    Obstacle::None
                }
            });
        }
        let event = match answer {
            Ok(Ok(job)) => {
                failpoint::here("claimed");
                tracing::info!(job = %job.id, issue = %job.issue, "claimed");
                WorkerEvent::Claimed(Box::new(job))
            }
            Ok(Err(why)) => match self.queue.stats() {
                Ok(stats) => WorkerEvent::NothingToClaim {
                    due_in_ms: self.due_in_ms(why),
                    unfinished: stats.pending + stats.notified,
                    stuck: stats.stuck(self.claim.agent.as_ref()),
                },
                Err(error) => {
                    self.note(&error, "count jobs");
                    WorkerEvent::StoreTrouble
                }
            },
            Err(error) => {
                self.note(&error, "claim a job");
                WorkerEvent::StoreTrouble
            }
        };
        self.send(event);
    }

    fn say_obstacle(&self, obstacle: Obstacle) {
        match (self.obstacle.replace(obstacle), obstacle) {
            (before, now) if before == now => {}
            (_, Obstacle::Paused) => {
                tracing::warn!("the queue is paused: `kugetsu queue resume` ends it");
            }
            (_, Obstacle::AgentHeld) => {
                let holds = self.queue.stats().map(|stats| stats.holds).unwrap_or_default();
                let hold = holds.iter().find(|hold| Some(&hold.agent) == self.claim.agent.as_ref());
                let why = hold.map_or("", |hold| hold.why.as_str());
                tracing::warn!("the agent command is held: `kugetsu queue resume` lifts it: {why}");
            }
            (Obstacle::Paused, Obstacle::None) => {
                tracing::info!("the queue is not paused any more");
            }
            (_, Obstacle::None) => tracing::info!("the agent command is not held any more"),
        }
    }

    fn due_in_ms(&self, why: NothingToClaim) -> Option<u64> {
        let at = match why {
            NothingToClaim::NoneDue { next_at } => next_at,
            NothingToClaim::Paused { until } | NothingToClaim::Held { until } => until,
            NothingToClaim::CapReached => None,
        };
        at.map(|at| at.ms_since(self.queue.now()))
    }

    fn finish(&self, id: JobId, token: Token, report: Report) {
        let (reason, detail) = (report.reason, report.detail.clone());
        let seed = self.seed ^ token.0;
        failpoint::here("before_finish");
        match self.queue.finish(id, token, report, self.policy, seed) {
            Ok(job) => {
                failpoint::here("finished");
                let state = job.state.kind();
                let issue = &job.issue;
                match &job.state {
                    State::Pending(pending) => {
                        let again = pending.run_at;
                        tracing::warn!(job = %id, %issue, %state, %reason, %again, "{detail}");
                    }
                    State::Completed(_) => {
                        tracing::info!(job = %id, %issue, %state, %reason, "{detail}");
                    }
                    State::Notified(_) | State::Error(_) | State::Cancelled(_) => {
                        tracing::warn!(job = %id, %issue, %state, %reason, "{detail}");
                    }
                }
                if state.is_ended() {
                    (self.tidy)(id);
                }
                self.send(WorkerEvent::Settled(id, token));
            }
            Err(error) if is_lease_lost(&error) => {
                tracing::warn!(job = %id, %error, "somebody else has settled this job");
                self.send(WorkerEvent::Settled(id, token));
            }
            Err(error) => {
                self.note(&error, "finish a job");
                self.send(WorkerEvent::NotSettled(id, token));
            }
        }
    }

    fn renew(&self, leases: &[(JobId, Token)]) {
        let lease_ms = self.claim.lease_ms;
        let renew = |(id, token): &(JobId, Token)| {
            Op::Apply(*id, job::Event::Renew { token: *token, lease_ms })
        };
        match self.queue.commit(leases.iter().map(renew).collect()) {
            Ok(answers) => {
                for ((id, token), answer) in leases.iter().zip(answers) {
                    let lease = match &answer {
                        Ok(Reply::Changed(job) | Reply::AlreadySo(job)) => job.lease(),
                        Ok(_) | Err(_) => None,
                    };
                    self.send(seen(*id, *token, lease));
                }
            }
            // Nothing is known then; the leases go on until they run out.
            Err(error) => self.note(&error, "renew leases"),
        }
    }

    fn peek(&self, id: JobId, token: Token) {
        match self.queue.get(id) {
            Ok(job) => {
                let job = job.as_ref();
                let lease = job.and_then(|job| job.lease()).filter(|lease| lease.token == token);
                self.send(seen(id, token, lease));
            }
            Err(error) => self.note(&error, "read a job"),
        }
    }

    fn send(&self, event: WorkerEvent) {
        // The loop ends before this thread only with the process.
        let _ = self.event_sender.send(event);
    }

    /// A busy store may pass, and a disk that refuses; a damaged store does not, nor one that is
    /// gone.
    fn note(&self, error: &QueueError, what: &str) {
        let QueueError::Store(store_error) = error else {
            tracing::error!(%error, "cannot {what}");
            return;
        };
        match **store_error {
            StoreError::Busy { .. } => tracing::error!(%error, "cannot {what}"),
            StoreError::Io { .. } | StoreError::Latched { .. } => {
                if self.quiet.swap(true, Ordering::AcqRel) {
                    tracing::debug!(%error, "cannot {what}");
                } else {
                    tracing::error!(%error, "cannot {what}");
                }
                self.send(WorkerEvent::MachineTrouble(error.to_string()));
            }
            StoreError::Damaged { .. }
            | StoreError::TooNew { .. }
            | StoreError::Gone { .. }
            | StoreError::Panicked => {
                tracing::error!(%error, "cannot {what}");
                self.break_with(error.clone());
            }
        }
    }

    /// The worker ends with this.
    fn break_with(&self, error: QueueError) {
        let mut known =
            self.failure.error.lock().expect("no thread panics while it holds the error");
        known.get_or_insert(error);
        drop(known);
        self.failure.broken.store(true, Ordering::Release);
        self.send(WorkerEvent::Tick);
    }
}
