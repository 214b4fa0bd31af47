//! Durable jobs: one trait in domain types, and the backends behind it.
//!
//! A program opens a [`RedbStore`], or a [`MemoryStore`] in its tests, and gives it to a
//! [`Queue`](crate::Queue), which has a method for everything that is here.
//!
//! A backend selects and locks; `job::transition` decides, for every backend, through the one
//! interpreter in `apply`.

mod apply;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod memory;
mod record;
mod redb;
mod wake;

use std::path::PathBuf;

use crate::job::{
    Event, IssueRef, Job, JobId, NewJob, Refused, Session, StateKind, Token, Usage, WorkerId,
};
use crate::time::Timestamp;

pub use self::memory::MemoryStore;
pub use self::redb::RedbStore;
pub(crate) use self::redb::is_guarding;
pub use self::wake::Watch;

/// Jobs that outlive whoever put them there. Every method is one transaction.
///
/// It is here to be called, and to be wrapped: a [`Watch`] comes from a store of this crate alone.
/// Methods may be added with any minor version.
///
/// # Errors
///
/// Every method that can fail does so with a [`StoreError`]: [`Io`](StoreError::Io) if the system
/// refuses, [`Damaged`](StoreError::Damaged) or [`TooNew`](StoreError::TooNew) if the file is not
/// one to work with, [`Latched`](StoreError::Latched) after an earlier error,
/// [`Busy`](StoreError::Busy) if other processes held the file for more than
/// [`STORE_WAIT_MS_MAX`](crate::job::limits::STORE_WAIT_MS_MAX). A [`MemoryStore`] never fails.
pub trait Store: Send + Sync {
    /// The one write: all operations in one durable transaction, answered one by one.
    ///
    /// A refused operation changes nothing and does not hold up the others. When no operation
    /// changes anything, nothing is written. At most
    /// [`OPS_PER_COMMIT_MAX`](crate::job::limits::OPS_PER_COMMIT_MAX) operations.
    ///
    /// # Errors
    ///
    /// As for the trait; then no operation has changed anything. After
    /// [`Latched`](StoreError::Latched) alone all of them may be there, or none.
    ///
    /// # Panics
    ///
    /// A [`RedbStore`] panics when it is given more operations. A queue refuses them before.
    fn commit(&self, operations: Vec<Op>) -> Result<Vec<Answer>, StoreError>;

    /// One job, or `None` if there never was one of this number or it is pruned.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn get(&self, id: JobId) -> Result<Option<Job>, StoreError>;

    /// A page of jobs.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn list(&self, query: &ListQuery) -> Result<Page, StoreError>;

    /// Jobs with larger numbers than `after`, in the order of their numbers, at most `limit`.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn jobs_after(&self, after: JobId, limit: usize) -> Result<Vec<Job>, StoreError>;

    /// How many jobs are where.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn stats(&self) -> Result<Stats, StoreError>;

    /// What is between a job and its turn, or `None` if there is no such job. Jobs that go before
    /// it are counted up to `ahead_max`.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn position(&self, id: JobId, ahead_max: usize) -> Result<Option<Position>, StoreError>;

    /// Jobs that ended so and not after `at`, those that ended first, at most `limit`.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn ended_until(
        &self,
        states: &[StateKind],
        at: Timestamp,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError>;

    /// The session of an issue.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn session(&self, issue: &IssueRef) -> Result<Option<Session>, StoreError>;

    /// All sessions, by issue.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn sessions(&self) -> Result<Vec<Session>, StoreError>;

    /// Recomputes indexes and counters from the jobs alone and says what differs. Reads them all.
    ///
    /// # Errors
    ///
    /// As for the trait, when nothing can be read. What differs is no error.
    fn verify(&self) -> Result<Vec<String>, StoreError>;

    /// The time that this store goes by: its clock's.
    fn now(&self) -> Timestamp;

    /// Hints that something may have changed, in this process or another.
    fn watch(&self) -> Watch;
}

/// One operation of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Adds a job. Answered by [`Reply::Enqueued`].
    Enqueue(NewJob),
    /// Takes the best job that is due. Answered by [`Reply::Claimed`] or
    /// [`Reply::NothingToClaim`].
    Claim(Claim),
    /// Adds a job and claims it, or does neither. Answered by [`Reply::Claimed`]; a request id
    /// that is known, by [`Reply::Enqueued`] with its job.
    Launch(NewJob, Claim),
    /// Applies an event to one job. Answered by [`Reply::Changed`] or [`Reply::AlreadySo`].
    Apply(JobId, Event),
    /// Takes over a notified job and its run from the worker that holds it. Answered by
    /// [`Reply::Changed`].
    Adopt {
        /// The job.
        job: JobId,
        /// The lease it has now.
        token: Token,
        /// The new holder.
        worker: WorkerId,
        /// How long the new lease holds unless renewed, in milliseconds.
        lease_ms: u64,
    },
    /// Remembers the session of a job's issue, in place of the one before. Answered by
    /// [`Reply::Done`].
    SaveSession {
        /// The job that uses it.
        job: JobId,
        /// The lease it acts under.
        token: Token,
        /// The session.
        session: Session,
    },
    /// Adds a job as another queue had it: state, times and history, under a number of its own.
    /// Answered like [`Op::Enqueue`]; one that runs is refused. A known request id is answered
    /// with its job, and the very job (of that number, issue and time of enqueueing) with itself.
    Restore(Box<Job>),
    /// Removes a job that does not run, with its history. Answered by [`Reply::Removed`].
    Remove(JobId),
    /// Forgets the session of an issue, of which no job may be running. Answered by
    /// [`Reply::Done`].
    ForgetSession(IssueRef),
    /// Lets nothing be claimed until the time, or until [`Op::Resume`]. Answered by
    /// [`Reply::Done`].
    Pause {
        /// When claiming goes on by itself.
        until: Option<Timestamp>,
    },
    /// Lets jobs be claimed again. Answered by [`Reply::Done`].
    Resume,
}

/// Who claims, and under which bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// The worker.
    pub worker: WorkerId,
    /// Most jobs that may be notified at once, in the whole store. Each claimer brings its own.
    pub cap: u32,
    /// How long the lease holds unless renewed, in milliseconds.
    pub lease_ms: u64,
}

impl Claim {
    /// A claim by `worker`, if fewer than `cap` jobs are notified in the whole store.
    pub fn new(worker: WorkerId, cap: u32, lease_ms: u64) -> Claim {
        Claim { worker, cap, lease_ms }
    }
}

/// What an operation did, or why it did not.
pub type Answer = Result<Reply, OpRefused>;

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// The job is on disk. `new` is false when the request was known, or the issue not idle.
    Enqueued {
        /// The job that answers the request.
        job: Box<Job>,
        /// Whether this operation made it.
        new: bool,
    },
    /// The job is the claimer's.
    Claimed(Box<Job>),
    /// There was nothing to claim.
    NothingToClaim(NothingToClaim),
    /// The job as it is now.
    Changed(Box<Job>),
    /// The job was so before.
    AlreadySo(Box<Job>),
    /// The job as it was.
    Removed(Box<Job>),
    /// Done, with nothing to report.
    Done,
}

/// Why a claim found no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NothingToClaim {
    /// The queue is paused.
    Paused {
        /// Until then, or until somebody resumes it.
        until: Option<Timestamp>,
    },
    /// As many jobs are notified as may be.
    CapReached,
    /// No job is due whose issue is free.
    NoneDue {
        /// When the next delayed job is due, if there is one.
        next_at: Option<Timestamp>,
    },
}

/// Why an operation changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpRefused {
    /// There is no such job.
    #[error("no job {0}")]
    NoSuchJob(JobId),
    /// The state machine said no.
    #[error("job {0}: {1}")]
    Transition(JobId, Refused),
    /// The request is not one a store may hold.
    #[error("{0}")]
    Invalid(String),
    /// As many jobs are notified as may be.
    #[error("{running} of {cap} agents are running")]
    CapReached {
        /// Jobs notified.
        running: u64,
        /// The cap.
        cap: u32,
    },
    /// The queue is paused.
    #[error("the queue is paused")]
    Paused,
    /// The issue has a job that is running.
    #[error("job {0} of the same issue is running")]
    IssueBusy(JobId),
    /// The issue has no session.
    #[error("no session of {0}")]
    NoSuchSession(String),
}

/// Which jobs to list.
///
/// ```
/// use kugetsu::job::StateKind;
/// use kugetsu::store::ListQuery;
///
/// let mut query = ListQuery::all(10);
/// query.states = vec![StateKind::Pending, StateKind::Notified];
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListQuery {
    /// Only these states; empty is all.
    pub states: Vec<StateKind>,
    /// Only this issue.
    pub issue: Option<IssueRef>,
    /// At most this many.
    pub limit: usize,
}

impl ListQuery {
    /// The first `limit` of all jobs.
    pub fn all(limit: usize) -> ListQuery {
        ListQuery { states: Vec::new(), issue: None, limit }
    }
}

/// A page of a list: running jobs first, then pending ones, both in the order of their numbers, and
/// then ended ones, from the one that ended last.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The jobs.
    pub items: Vec<Job>,
    /// How many jobs the query has in all, those beyond the limit counted.
    pub total: u64,
}

/// How many jobs are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Waiting.
    pub pending: u64,
    /// Running.
    pub notified: u64,
    /// Done.
    pub completed: u64,
    /// Failed.
    pub error: u64,
    /// Called off.
    pub cancelled: u64,
    /// When the oldest pending job was enqueued.
    pub oldest_pending: Option<Timestamp>,
    /// When the next delayed job is due; not set while none is delayed.
    pub next_due: Option<Timestamp>,
    /// The pause of the queue, while there is one.
    pub paused: Option<Paused>,
    /// Attempts that ended, ever: also of jobs that were removed.
    pub attempts: u64,
    /// What these attempts used up.
    pub usage: Usage,
}

/// A pause of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Paused {
    /// When it ends by itself; `None` is not before somebody resumes.
    pub until: Option<Timestamp>,
}

impl Stats {
    /// How many jobs are in a state.
    pub fn count(&self, kind: StateKind) -> u64 {
        match kind {
            StateKind::Pending => self.pending,
            StateKind::Notified => self.notified,
            StateKind::Completed => self.completed,
            StateKind::Error => self.error,
            StateKind::Cancelled => self.cancelled,
        }
    }
}

/// A process that keeps others from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// The name of its program.
    pub program: String,
    /// Whether it is stopped (SIGSTOP, Ctrl-Z): it lets go only when it is continued or killed.
    pub is_stopped: bool,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Holder { pid, program, is_stopped } = self;
        let stopped = if *is_stopped { ", which is stopped" } else { "" };
        write!(f, "process {pid} ({program}){stopped}")
    }
}

/// What is between a job and its turn, at one moment. Of a job that is not pending, only what is
/// said of the queue means anything.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Position {
    /// The job.
    pub job: Job,
    /// The moment.
    pub now: Timestamp,
    /// Jobs that are notified.
    pub notified: u64,
    /// The pause of the queue, while there is one.
    pub paused: Option<Paused>,
    /// The job of the same issue that is notified.
    pub running_of_issue: Option<JobId>,
    /// The first in claim order of the issue's jobs that are due.
    pub first_of_issue: Option<JobId>,
    /// Jobs of other issues that could be claimed now and go before it: one of each issue, at most
    /// as many as were to be counted.
    pub ahead: usize,
}

/// Why the store did not do it. Nothing was changed, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Other writers held the store for too long.
    #[error(
        "the queue is busy: {path} was locked for {waited_ms} ms by {}",
        holder.as_ref().map_or("another process".into(), Holder::to_string)
    )]
    Busy {
        /// The file.
        path: PathBuf,
        /// How long this process waited.
        waited_ms: u64,
        /// Who held it, if that can be seen.
        holder: Option<Holder>,
    },
    /// The file at the path is not the one that this process opened.
    #[error(
        "the queue {path} was {} while this process had it open; \
         what it wrote last may be gone with the old file",
        if *removed { "removed" } else { "replaced by another file" }
    )]
    Gone {
        /// Where the file was.
        path: PathBuf,
        /// Whether nothing is there now.
        removed: bool,
    },
    /// What is in the file is not what kugetsu wrote.
    #[error("the queue is damaged: {path}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A newer kugetsu wrote the file.
    #[error(
        "the queue {path} has format {found}, and this kugetsu knows only {known}: upgrade kugetsu"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest this program knows.
        known: u32,
    },
    /// An error of the disk or a lock has closed the file for this process. Its last write may or
    /// may not be there.
    #[error(
        "an I/O error has closed the queue {path} for this process; \
         its last write may or may not be there"
    )]
    Latched {
        /// The file.
        path: PathBuf,
    },
    /// The thread that carried this write to the disk panicked: it may or may not be there.
    #[error("a bug ended the thread that wrote to the queue")]
    Panicked,
    /// The system said no.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests;
