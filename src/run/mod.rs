//! One attempt's life as rules: what a run ended with, what it left, and what follows from that.
//! Pure: no I/O, no clock.
//!
//! An attempt is one run of the agent, or a few: a reminder of what it left undone, a step that
//! brings its work onto the branch, a second start with a fresh session. `agent` performs
//! what is decided here, for runs that it began and for runs that it adopted.

mod reminder;
mod verdict;

use crate::dialect::Trouble;
use crate::job::Usage;
use crate::time::Timestamp;
use crate::worker::Stop;

pub(crate) use self::reminder::reminder;
pub(crate) use self::verdict::{Ruling, Verdict, judge};

/// What counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completion {
    /// New work on the branch.
    Commits,
    /// Exit code 0.
    Exit,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The agent ended by itself, or somebody else's signal ended it.
    Exited,
    /// The agent could not be started.
    NotStarted,
    /// The wall-clock limit.
    Timeout,
    /// It did nothing for too long.
    IdleTimeout,
    /// The log grew too large.
    LogLimit,
    /// It called the model too often.
    StepLimit,
    /// It cost too much.
    CostLimit,
    /// It waited for its provider, which will not answer for a while.
    ProviderWait,
    /// The shim was told to end it.
    Terminated,
}

/// How a run ended, as its shim wrote it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub cause: Cause,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// More in words, if there is more.
    pub detail: String,
    /// Whether the machine, and not the agent or its command, is to blame for a failed start.
    pub is_machines_fault: bool,
    /// Whether the kernel killed the agent for want of memory.
    pub is_oom_victim: bool,
    /// Whether kugetsu ordered the end of a run that was terminated.
    pub was_ordered: bool,
    pub usage: Usage,
}

/// What an agent left, read from outside its clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Evidence {
    /// New commits on the branch since this attempt began.
    pub commits: u32,
    /// The same since the job's first attempt: what earlier attempts did counts for the job.
    pub commits_of_job: u32,
    /// Earlier work was brought onto a newer base, and nothing new came.
    pub is_updated: bool,
    /// The branch has lost what it had, and this commit kept it.
    pub left_behind: Option<String>,
    /// New work that is not on the branch.
    pub elsewhere: Option<Elsewhere>,
    /// Changes without a commit that were not there when the attempt began.
    pub is_dirty: bool,
    /// A merge, rebase or the like that was begun and not ended.
    pub unfinished: Option<String>,
    /// Where the branch is.
    pub tip: Option<String>,
}

/// Work that is not on the branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// In words: `branch fix/it`, `a detached HEAD`, `the stash`.
    pub place: String,
    pub tip: String,
    pub commits: u32,
    /// Whether the branch can simply be moved there.
    pub is_ahead_of_branch: bool,
}

/// What could be learned of what an agent left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Evidence(Evidence),
    /// It is no clone any more.
    Damaged(String),
    /// It cannot be read; a cause that passes is looked at again.
    Unknown {
        why: String,
        passes: bool,
    },
}

/// The agent's own wish to be asked again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deferral {
    pub until: Timestamp,
    /// Why, in the agent's words.
    pub reason: Option<String>,
    /// Whether others would fare no better: nothing is begun until then.
    pub pause: bool,
}

/// What an attempt has been through before the run that is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// It was reminded of what it left undone.
    pub is_reminded: bool,
    /// Its work was to be brought onto the branch.
    pub is_brought: bool,
    /// It was started once more, with a fresh session.
    pub is_renewed: bool,
    /// What the runs before used up.
    pub usage: Usage,
}

/// What another run of the same attempt is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The job's message.
    Message,
    /// The job's message once more, with a fresh session.
    FreshSession,
    /// The branch is moved to work that is elsewhere; no agent runs.
    Bring { tip: String },
    /// The agent is told what it left undone.
    Reminder(Vec<Undone>),
}

/// What is not as it must be for the work to count as done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Undone {
    /// Changes without a commit.
    Uncommitted,
    /// A merge or the like that was begun and not ended.
    Unfinished(String),
    /// Work that is not on the branch.
    OffBranch(String),
}

/// All that a verdict rests on.
#[derive(Debug, Clone)]
pub(crate) struct Facts<'f> {
    pub completion: Completion,
    pub end: &'f End,
    pub seen: &'f Seen,
    /// What stood in the agent's way, if its output tells.
    pub trouble: Option<&'f Trouble>,
    /// What the agent said last.
    pub last_words: &'f str,
    /// What the agent said of its run, or what is wrong with that.
    pub result: &'f Result<Option<Deferral>, String>,
    /// Whether it went on with an earlier session.
    pub is_resumed: bool,
    pub progress: Progress,
    /// The request that the worker passed on, if it did.
    pub requested: Option<Stop>,
    pub now: Timestamp,
}
