//! What happens to a worker, and what it does about that.

use crate::job::{Job, JobId, Report, Token};
use crate::worker::{Ending, Exit, Stop};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkerEvent {
    /// Time passed, perhaps.
    Tick,
    /// The store may have changed.
    Woken,
    /// The answer to [`Action::Claim`]: a job.
    Claimed(Box<Job>),
    /// The answer to [`Action::Claim`]: none.
    NothingToClaim {
        /// When the next job is due, if one is delayed.
        due_in_ms: Option<u64>,
        /// Jobs that are pending or notified in the whole store.
        unfinished: u64,
        /// Of these: jobs that only a person can let go on.
        stuck: u64,
    },
    /// An execution is over.
    Returned {
        /// The job.
        id: JobId,
        /// The lease it ran under.
        token: Token,
        /// How it ended.
        ending: Ending,
    },
    /// The end of a job is in the store, or its lease was lost.
    Settled(JobId, Token),
    /// The end of a job could not be written now.
    NotSettled(JobId, Token),
    /// The answer to [`Action::Renew`] or [`Action::Peek`] for one job.
    Seen {
        /// The job.
        id: JobId,
        /// The lease that was read.
        token: Token,
        /// Whether the lease is still ours.
        held: bool,
        /// Whether the job is to be called off.
        cancel: bool,
        /// Whether its agent has ended, and how cannot be read yet.
        judging: bool,
    },
    /// [`Action::Peek`] is done, whatever came of it.
    Peeked,
    /// [`Action::Recover`] took over a job from a worker that is gone.
    Adopted(Box<Job>),
    /// The answer to [`Action::Recover`].
    Recovered,
    /// Another worker came or went.
    OthersChanged,
    /// The store did not answer a claim.
    StoreTrouble,
    /// The machine is in trouble, in words: no room, no memory, no processes, a failing disk.
    MachineTrouble(String),
    /// The answer to [`Action::Examine`]: what is wrong, in words.
    Examined(Result<(), String>),
    /// A supervisor wants the worker to end.
    Terminate,
    /// A person wants the worker to end.
    Interrupt,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask the store for a job; answered by `Claimed`, `NothingToClaim` or `StoreTrouble`.
    Claim,
    /// Execute a job; answered by `Returned`.
    Execute(Box<Job>),
    /// Go on with what another worker began; answered by `Returned`.
    Resume(Box<Job>),
    /// Ask an execution to stop.
    SendStop(JobId, Stop),
    /// Write a job's end; answered by `Settled` or `NotSettled`.
    Finish(JobId, Token, Report),
    /// Let a job's lease lapse at once, so that the next worker looks at it.
    LetGo(JobId, Token),
    /// Renew these leases; answered by `Seen` for each, or not at all.
    Renew(Vec<(JobId, Token)>),
    /// Read whether these jobs are still ours and wanted; answered likewise, and by `Peeked`.
    Peek(Vec<(JobId, Token)>),
    /// Take over what dead workers left, except these; answered by `Adopted` for each and then by
    /// `Recovered`.
    Recover(Vec<JobId>),
    /// Examine whether the machine is well again; answered by `Examined`.
    Examine,
    /// Say something to the person who watches.
    Say(Notice),
    /// End.
    Exit(Exit),
}

/// What a person who watches should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Waits for so many agents; a second signal ends them.
    Draining(usize),
    /// Ends so many agents and puts their jobs back.
    Stopping(usize),
    /// Leaves so many agents to the next worker.
    Detaching(usize),
    /// Claims nothing until the machine is well again. This is wrong with it.
    Trouble(String),
    /// The machine is well again.
    TroubleOver,
    /// Ends although so many jobs are left: only a person can let them go on.
    Stuck(u64),
}
