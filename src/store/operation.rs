//! What is asked of a store, and what it answers.

use crate::job::{
    AgentKey, Event, Hold, IssueRef, Job, JobId, NewJob, Refused, Session, Token, WorkerId,
};
use crate::store::Resumed;
use crate::time::Timestamp;

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
    /// Lets jobs be claimed again: ends the pause, and lifts the holds of all agent commands.
    /// Answered by [`Reply::Resumed`].
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
    /// The agent command that the worker would run. While that is held it gets no job. `None` is
    /// for work that no provider can refuse.
    pub agent: Option<AgentKey>,
}

impl Claim {
    /// A claim by `worker`, if fewer than `cap` jobs are notified in the whole store. Those whose
    /// end is still to be read do not count.
    pub fn new(worker: WorkerId, cap: u32, lease_ms: u64) -> Claim {
        Claim { worker, cap, lease_ms, agent: None }
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
    /// Jobs can be claimed again, and what had stood in their way.
    Resumed(Box<Resumed>),
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
    /// The claimer's agent command is held: [`Stats::holds`](crate::store::Stats) has the reason.
    Held {
        /// Until then, or until somebody lifts it.
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
    /// The agent command is held.
    #[error("the agent command {} is held: {}", .0.agent, .0.why)]
    AgentHeld(Box<Hold>),
    /// The issue has a job that is running.
    #[error("job {0} of the same issue is running")]
    IssueBusy(JobId),
    /// The issue has no session.
    #[error("no session of {0}")]
    NoSuchSession(String),
}
