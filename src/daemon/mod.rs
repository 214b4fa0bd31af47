//! A worker: it claims a queue's jobs, gives them to an executor, and writes down how they ended.
//!
//! This is the shell round `WorkerState`: threads, channels, and the effects of its actions.
//! One thread owns the state and sleeps in `select!`; one talks to the store; each job has a thread
//! for its execution. This module has no rules of its own.

mod liveness;
mod recovery;
mod store_thread;
mod systemd;

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};

use crate::daemon::liveness::Liveness;
use crate::daemon::recovery::Recovery;
use crate::daemon::store_thread::{Request, StoreThread};
use crate::daemon::systemd::Supervisor;
use crate::executor::{Control, Ending, Executor, Stop};
use crate::job::{AgentKey, Job, JobId, Reason, Report, RetryPolicy, WorkerId};
use crate::process::identity::Identity;
use crate::process::lock::Held;
use crate::queue::{Queue, QueueError};
use crate::store::Watch;
use crate::time::{self, Monotonic, Timestamp};
use crate::worker::{Action, Exit, Notice, Settings, WorkerEvent, WorkerState};

pub(crate) use self::liveness::{Seen, remove_dead_workers, workers_in};

/// A request from outside that a running worker stop. A second one, of either kind, ends the
/// running jobs and puts them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopRequest {
    /// A supervisor wants it to end (SIGTERM):
    /// [`Settings::on_terminate`](crate::worker::Settings) says how.
    Terminate,
    /// A person wants it to end (SIGINT): it claims no more and waits for what runs.
    Interrupt,
}

/// Runs a queue's jobs through an executor.
///
/// A program has as many as it likes; each has its own executor, and takes any job of the queue. It
/// installs no signal handlers: the program passes requests to stop on. Where a supervisor has set
/// `NOTIFY_SOCKET`, it says there that it is ready, alive and stopping.
///
/// ```
/// use std::thread;
///
/// use kugetsu::crossbeam_channel::bounded;
/// use kugetsu::daemon::{StopRequest, Worker};
/// use kugetsu::executor::Control;
/// use kugetsu::job::{Reason, Report};
/// use kugetsu::store::MemoryStore;
/// use kugetsu::worker::{Exit, Settings};
/// use kugetsu::{Job, Queue};
///
/// let queue = Queue::new(MemoryStore::default());
/// let worker = Worker::new(queue, Settings::default(), |job: &Job, _: &Control| {
///     Report::new(Reason::Done, format!("did {}", job.message))
/// })?;
///
/// let (sender, stop_requests) = bounded(1);
/// let running = thread::spawn(move || worker.run(&stop_requests));
/// // … the program's own work …
/// sender.send(StopRequest::Interrupt)?;
/// assert_eq!(running.join().expect("no panic")?, Exit::Interrupted);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Worker {
    queue: Queue,
    settings: Settings,
    policy: RetryPolicy,
    retention_ms: Option<u64>,
    liveness: Option<Liveness>,
    /// Held for as long as the worker lives.
    _here: Option<Held>,
    executor: Arc<dyn Executor>,
    agent: Option<AgentKey>,
    id: WorkerId,
}

impl Worker {
    /// A worker with a name of its own. It does nothing until it is run.
    ///
    /// # Errors
    ///
    /// When the system does not say who this process is, for the name: without `/proc`.
    pub fn new(
        queue: Queue,
        settings: Settings,
        executor: impl Executor,
    ) -> Result<Worker, io::Error> {
        Ok(Worker {
            queue,
            settings,
            policy: RetryPolicy::default(),
            retention_ms: None,
            liveness: None,
            _here: None,
            executor: Arc::new(executor),
            agent: None,
            id: new_worker_id()?,
        })
    }

    /// The same worker with another price for failures than [`RetryPolicy::default`].
    pub fn with_policy(self, policy: RetryPolicy) -> Worker {
        Worker { policy, ..self }
    }

    /// The same worker, which runs this agent command. What a provider refuses to one of its jobs
    /// holds back all jobs of workers with the same key.
    pub fn with_agent(self, agent: AgentKey) -> Worker {
        Worker { agent: Some(agent), ..self }
    }

    /// The agent command that it runs, if it was told.
    pub fn agent(&self) -> Option<&AgentKey> {
        self.agent.as_ref()
    }

    /// The same worker, which removes jobs that ended longer ago than this, in milliseconds; `None`
    /// keeps them. It looks at each poll, and removes at most [`OPS_PER_COMMIT_MAX`](crate::job::limits::OPS_PER_COMMIT_MAX) at a time.
    pub fn with_retention(self, retention_ms: Option<u64>) -> Worker {
        Worker { retention_ms, ..self }
    }

    /// The same worker, which says by a lock in this folder that it lives, and takes over the jobs
    /// of those that die as soon as the kernel frees theirs. Without it, a dead worker's jobs wait
    /// for the end of their leases.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or the lock not be held.
    pub fn with_liveness(self, folder: &Path) -> io::Result<Worker> {
        let liveness = Liveness::at(folder)?;
        let here = liveness.announce(&self.id, self.queue.now())?;
        Ok(Worker { liveness: Some(liveness), _here: Some(here), ..self })
    }

    /// Records, once and now, how runs ended that nobody looks after. A worker that runs does so by
    /// itself.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn settle(&self) -> Result<(), QueueError> {
        Recovery::of(self).settle()
    }

    /// Its name.
    pub fn id(&self) -> &WorkerId {
        &self.id
    }

    /// Works until told to end, or with [`Settings::once`] until nothing is left that goes on without
    /// a person.
    ///
    /// When the machine is in trouble, as an execution reports with [`Reason::Machine`] or the store
    /// by its errors, it claims nothing until an examination finds that over: of the store, and by
    /// [`Executor::examine`].
    ///
    /// # Errors
    ///
    /// [`QueueError::Worker`] if the system gives it no thread, [`QueueError::Store`] when the store
    /// cannot be used any more: it is damaged, too new or gone. Its jobs are left to the lapse of
    /// their leases then. A store that is busy for a while, or that a disk refuses, is no reason to
    /// end.
    pub fn run(self, stop_requests: &Receiver<StopRequest>) -> Result<Exit, QueueError> {
        let start = time::monotonic();
        let state = WorkerState::new(self.settings.clone(), since(start));
        Loop::begin(self, state, start)?.run(stop_requests, Vec::new())
    }

    /// Works on one job that was claimed under this worker's name or another's, and ends with it.
    ///
    /// # Errors
    ///
    /// As [`Worker::run`].
    pub fn run_one(
        self,
        job: Job,
        stop_requests: &Receiver<StopRequest>,
    ) -> Result<Exit, QueueError> {
        let start = time::monotonic();
        let (state, actions) =
            WorkerState::for_one(self.settings.clone(), Box::new(job), since(start));
        Loop::begin(self, state, start)?.run(stop_requests, actions)
    }
}

/// Whether nobody looks after a running job, by the folder that workers hold their locks in.
pub(crate) fn is_orphan(liveness: &Path, job: &Job, now: Timestamp) -> bool {
    Liveness::seen_at(liveness).is_orphan(job, now)
}

/// Workers that this process has made.
static WORKERS: AtomicU32 = AtomicU32::new(0);

/// A name that no other worker has: where it runs, and who it is there.
fn new_worker_id() -> io::Result<WorkerId> {
    let host = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    let own = Identity::own()?;
    let boot = crate::process::identity::boot_id()?;
    let boot = boot.split('-').next().unwrap_or_default();
    let number = WORKERS.fetch_add(1, Ordering::Relaxed);
    Ok(WorkerId(format!("{host}-{boot}-{}-{}-{number}", own.pid, own.start_time)))
}

fn since(start: Instant) -> Monotonic {
    Monotonic(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// A worker at work.
struct Loop {
    worker: Worker,
    state: WorkerState,
    start: Instant,
    store: StoreThread,
    /// What threads report to the loop. Each thread sends a bounded number of events.
    events: Receiver<WorkerEvent>,
    event_sender: Sender<WorkerEvent>,
    /// The way to each execution.
    stops: BTreeMap<JobId, Sender<Stop>>,
    supervisor: Supervisor,
}

impl Loop {
    fn begin(worker: Worker, state: WorkerState, start: Instant) -> Result<Loop, QueueError> {
        let (event_sender, events) = unbounded();
        let store = StoreThread::begin(&worker, event_sender.clone())
            .map_err(|error| QueueError::Worker(Arc::new(error)))?;
        let supervisor = Supervisor::from_environment();
        Ok(Loop {
            worker,
            state,
            start,
            store,
            events,
            event_sender,
            stops: BTreeMap::new(),
            supervisor,
        })
    }

    fn run(
        mut self,
        stop_requests: &Receiver<StopRequest>,
        first_actions: Vec<Action>,
    ) -> Result<Exit, QueueError> {
        let watch = self.worker.queue.watch();
        let liveness = self.worker.liveness.as_ref();
        let others = liveness.map_or_else(Watch::never, Liveness::changes);
        let mut stop_requests = stop_requests.clone();
        let mut actions = first_actions;
        let mut event = WorkerEvent::Tick;
        loop {
            actions.extend(self.state.handle(event, since(self.start)));
            for action in std::mem::take(&mut actions) {
                if let Action::Exit(exit) = action {
                    self.supervisor.stopping();
                    return self.store.end().map(|()| exit);
                }
                self.perform(action);
            }
            if self.store.is_broken() {
                self.supervisor.stopping();
                return self.store.end().map(|()| Exit::Terminated);
            }
            event = select! {
                recv(self.events) -> event => event.unwrap_or(WorkerEvent::Tick),
                recv(watch.wakeups()) -> _ => WorkerEvent::Woken,
                recv(others.wakeups()) -> _ => WorkerEvent::OthersChanged,
                recv(stop_requests) -> request => match request {
                    Ok(StopRequest::Terminate) => WorkerEvent::Terminate,
                    Ok(StopRequest::Interrupt) => WorkerEvent::Interrupt,
                    Err(_) => {
                        stop_requests = never();
                        WorkerEvent::Tick
                    }
                },
                default(self.patience()) => WorkerEvent::Tick,
            };
            match &event {
                WorkerEvent::Recovered => self.supervisor.ready(),
                WorkerEvent::Returned { id, .. } => drop(self.stops.remove(id)),
                _ => {}
            }
        }
    }

    /// How long nothing can become due.
    fn patience(&mut self) -> Duration {
        let now = since(self.start);
        let deadline = Duration::from_millis(self.state.next_deadline().0.saturating_sub(now.0));
        match self.supervisor.keep_alive() {
            Some(interval) => deadline.min(interval),
            None => deadline,
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Claim => self.store.ask(Request::Claim),
            Action::Finish(id, token, report) => {
                self.store.ask(Request::Finish(id, token, report));
            }
            Action::LetGo(id, token) => self.store.ask(Request::LetGo(id, token)),
            Action::Renew(leases) => self.store.ask(Request::Renew(leases)),
            Action::Peek(leases) => self.store.ask(Request::Peek(leases)),
            Action::Recover(own) => {
                Recovery::of(&self.worker).begin(own, self.event_sender.clone())
            }
            Action::Execute(job) => self.execute(*job, Executor::execute),
            Action::Resume(job) => self.execute(*job, Executor::resume),
            Action::SendStop(id, stop) => {
                if let Some(sender) = self.stops.get(&id) {
                    // An execution that is over has dropped its end, and need not be stopped.
                    let _ = sender.send(stop);
                }
            }
            Action::Examine => self.examine(),
            Action::Say(notice) => say(notice),
            Action::Exit(_) => unreachable!("the loop ends before it performs an exit"),
        }
    }

    /// Examines the machine, on a thread of its own: a disk in trouble takes its time.
    fn examine(&self) {
        let (queue, executor) = (self.worker.queue.clone(), Arc::clone(&self.worker.executor));
        let (quiet, event_sender) = (self.store.quiet(), self.event_sender.clone());
        let examination = move || {
            let found = catch_unwind(AssertUnwindSafe(|| {
                queue.examine().map_err(|error| error.to_string())?;
                executor.examine()
            }));
            let found = found.unwrap_or_else(|_| Err("the examination panicked".into()));
            quiet.store(found.is_err(), Ordering::Release);
            // The loop is gone only when the process is about to be.
            let _ = event_sender.send(WorkerEvent::Examined(found));
        };
        let spawned = thread::Builder::new().name("examination".into()).spawn(examination);
        if let Err(error) = spawned {
            let found = Err(format!("no thread for an examination: {error}"));
            let _ = self.event_sender.send(WorkerEvent::Examined(found));
        }
    }

    fn execute(&mut self, job: Job, how: fn(&dyn Executor, &Job, &Control) -> Ending) {
        let Some(token) = job.lease().map(|lease| lease.token) else { return };
        let id = job.id;
        // Each request to an execution is stronger than the one before, and there are four of them.
        let (sender, stop) = bounded(4);
        self.stops.insert(id, sender);
        let control = Control { queue: self.worker.queue.clone(), id, token, stop };
        let executor = Arc::clone(&self.worker.executor);
        let event_sender = self.event_sender.clone();
        let execution = move || {
            let ending = catch_unwind(AssertUnwindSafe(|| how(&*executor, &job, &control)))
                .unwrap_or_else(|_| {
                    let detail = "the executor panicked";
                    Ending::Over(Report::new(Reason::AgentError, detail))
                });
            // The loop is gone only when the process is about to be.
            let _ = event_sender.send(WorkerEvent::Returned { id, token, ending });
        };
        let spawned = thread::Builder::new().name(format!("job-{id}")).spawn(execution);
        if let Err(error) = spawned {
            let report = Report::new(Reason::Machine, format!("no thread for it: {error}"));
            let ending = Ending::Over(report);
            let _ = self.event_sender.send(WorkerEvent::Returned { id, token, ending });
        }
    }
}

fn say(notice: Notice) {
    match notice {
        Notice::Draining(running) => tracing::warn!(
            "stopping: waiting for {running} running agent(s); \
             interrupt again to end them and put their jobs back"
        ),
        Notice::Stopping(running) => {
            tracing::warn!("ending {running} running agent(s) and putting their jobs back");
        }
        Notice::Detaching(running) => tracing::warn!(
            "stopping: {running} running agent(s) go on without a worker; \
             the next worker takes their results"
        ),
        Notice::Trouble(what) => {
            tracing::error!(
                "the machine is in trouble, so nothing is begun until it is over: {what}"
            );
        }
        Notice::TroubleOver => tracing::warn!("the machine's trouble is over: going on"),
        Notice::Stuck(count) => tracing::warn!(
            "{count} job(s) are left that only a person can let go on: `kugetsu queue list`"
        ),
    }
}

#[cfg(test)]
mod tests;
