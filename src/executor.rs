//! What does the work of a job: an agent run, or a closure.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::job::{Job, JobId, Reason, Refused, Report, Run, Session, Token};
use crate::queue::{Queue, QueueError};
use crate::store::OpRefused;

pub use crate::worker::{Ending, Stop};

/// Does the work of jobs, each on a thread of its own.
///
/// A closure `Fn(&Job, &Control) -> Report` is one. Work that lives in this process ends with it:
/// a worker that dies leaves such jobs to the lapse of their lease, and they run again. So work
/// that must not be done twice looks first whether it is done.
///
/// Only [`execute`](Executor::execute) must be written. The other methods are for work that
/// outlives its worker, as agents do.
///
/// ```
/// use std::time::Duration;
///
/// use kugetsu::executor::{Control, Ending, Executor, Stop};
/// use kugetsu::job::{Reason, Report};
/// use kugetsu::Job;
///
/// struct Slices;
///
/// impl Executor for Slices {
///     fn execute(&self, _job: &Job, control: &Control) -> Ending {
///         for _slice in 0..3 {
///             // … a slice of the work, and then a check whether to go on …
///             match control.stop().recv_timeout(Duration::from_millis(10)) {
///                 Ok(Stop::LeaseLost) => return Ending::LeftAlone,
///                 Ok(_) => return Ending::Over(Report::new(Reason::Shutdown, "told to stop")),
///                 Err(_) => {}
///             }
///         }
///         Ending::Over(Report::new(Reason::Done, "3 slices"))
///     }
/// }
/// ```
pub trait Executor: Send + Sync + 'static {
    /// Works on a claimed job until it is over, or until told to stop. The lease is renewed
    /// meanwhile. A panic ends the attempt with [`Reason::AgentError`](crate::job::Reason).
    fn execute(&self, job: &Job, control: &Control) -> Ending;

    /// Goes on with a job that was taken over from a worker that is gone, until it is over, or until
    /// told to stop. Work that lives in its worker's process is gone with it.
    fn resume(&self, job: &Job, control: &Control) -> Ending {
        let _ = (job, control);
        Ending::Over(Report::new(Reason::Shutdown, "its worker was gone"))
    }

    /// Looks at what a worker that is gone left of the job, and waits for nothing.
    fn inspect(&self, job: &Job) -> Found {
        let _ = job;
        Found::NothingRan
    }

    /// Does for a job whose worker is gone what that worker would do: ends work that is called off,
    /// or that nobody holds to its limits any more. It waits for nothing.
    fn enforce(&self, job: &Job) {
        let _ = job;
    }

    /// Whether the machine can do the work again, after it was in trouble: enough room, memory and
    /// processes. Asked every few seconds until it is so; meanwhile the worker claims nothing.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    fn examine(&self) -> Result<(), String> {
        Ok(())
    }

    /// Looks after what the work leaves over time, without haste: called now and then, on a thread
    /// that nobody waits for.
    fn maintain(&self) {}

    /// Jobs of which something is left outside of the store. Those that have ended are tidied.
    fn leftovers(&self) -> Vec<JobId> {
        Vec::new()
    }

    /// Removes what is left of a job that has ended. Harmless when repeated.
    fn tidy(&self, id: JobId) {
        let _ = id;
    }
}

impl<F: Fn(&Job, &Control) -> Report + Send + Sync + 'static> Executor for F {
    fn execute(&self, job: &Job, control: &Control) -> Ending {
        Ending::Over(self(job, control))
    }
}

/// What a dead worker left of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// Something of it is alive, or is still to be done. Nobody else may work on the issue.
    Alive,
    /// The work never began, or may begin anew: the job is put back, and it costs nothing.
    NothingRan,
    /// The work is over.
    Ended(Report),
}

/// What an execution needs of the worker: the request to stop, and its job's lease.
pub struct Control {
    pub(crate) queue: Queue,
    pub(crate) id: JobId,
    pub(crate) token: Token,
    pub(crate) stop: Receiver<Stop>,
}

impl Control {
    /// Says when and why to stop. May do so more than once, each request stronger than the last.
    /// A worker waits for an execution that does not listen.
    ///
    /// A channel that is closed is [`Stop::Detach`], everywhere: the worker is gone, and nothing that
    /// is reported is recorded any more. [`Control::stop_within`] reads it so.
    pub fn stop(&self) -> &Receiver<Stop> {
        &self.stop
    }

    /// The next request to stop, if one comes within this time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use kugetsu::executor::{Control, Stop};
    /// # fn slice(control: &Control) -> bool {
    /// match control.stop_within(Duration::from_millis(10)) {
    ///     None => true,
    ///     Some(Stop::Cancel | Stop::Shutdown) => false,
    ///     Some(_) => false,
    /// }
    /// # }
    /// ```
    pub fn stop_within(&self, patience: Duration) -> Option<Stop> {
        match self.stop.recv_timeout(patience) {
            Ok(stop) => Some(stop),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Stop::Detach),
        }
    }

    /// The lease's fencing token.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Records the process that will do the work. Only after this has succeeded may it begin.
    ///
    /// # Errors
    ///
    /// As [`Queue::start`]. The process must not begin then; see [`is_lease_lost`].
    pub fn record_run(&self, run: Run) -> Result<(), QueueError> {
        self.queue.start(self.id, self.token, run).map(drop)
    }

    /// Notes that the work has ended, and that how cannot be read yet, for this reason. The job
    /// stays notified and its issue taken, but it does not count against the cap any more, and the
    /// worker claims another one. Said again with other words, those are shown. It ends with the
    /// report, or when another run is recorded: that one may be one more than the cap.
    ///
    /// # Errors
    ///
    /// As [`Queue::judge`].
    pub fn judging(&self, why: impl Into<String>) -> Result<(), QueueError> {
        self.queue.judge(self.id, self.token, why).map(drop)
    }

    /// The session of the job's issue, if it has one.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn session(&self, job: &Job) -> Result<Option<Session>, QueueError> {
        self.queue.session(&job.issue)
    }

    /// Remembers an issue's session.
    ///
    /// # Errors
    ///
    /// As [`Queue::save_session`].
    pub fn save_session(&self, session: Session) -> Result<(), QueueError> {
        self.queue.save_session(self.id, self.token, session)
    }

    /// The time that the queue goes by.
    pub fn now(&self) -> crate::time::Timestamp {
        self.queue.now()
    }
}

/// Whether an error may pass by itself, or when the machine's trouble does: the lease is still the
/// writer's as far as it knows, and what failed can be tried again. No reason to call work lost.
pub fn is_passing(error: &QueueError) -> bool {
    match error {
        QueueError::Store(error) => error.may_pass(),
        QueueError::Worker(_) => true,
        QueueError::Refused(_) => false,
    }
}

/// Whether an error says that the lease is not the writer's any more: the job is another one's, has
/// ended or is gone. The work is to be let go then, and nothing is to be reported.
pub fn is_lease_lost(error: &QueueError) -> bool {
    match error {
        QueueError::Refused(refused) => matches!(
            refused,
            OpRefused::Transition(_, Refused::LeaseLost) | OpRefused::NoSuchJob(_)
        ),
        QueueError::Store(_) | QueueError::Worker(_) => false,
    }
}
