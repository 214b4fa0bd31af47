//! Why executions stop and how they end, and why a worker does.

use crate::job::Report;

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The attempt is over; this is to be recorded.
    Over(Report),
    /// The work goes on without this worker, or is not its any more: nothing is to be recorded.
    LeftAlone,
}

/// Why an execution is to stop. A reason that you do not know is like [`Stop::Shutdown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The job is called off: end the work. Whatever is reported then, the job ends as cancelled.
    Cancel,
    /// The worker is told to end: end the work, and report
    /// [`Reason::Shutdown`](crate::job::Reason::Shutdown), which puts the job back.
    Shutdown,
    /// The worker goes, the work may stay: leave it alone if it can live without a worker.
    Detach,
    /// The lease is somebody else's: let go of the work and touch nothing. Whatever is reported
    /// then, nothing is recorded.
    LeaseLost,
}

/// Why the worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// Nothing was left.
    Idle,
    /// A supervisor asked.
    Terminated,
    /// A person asked.
    Interrupted,
}
