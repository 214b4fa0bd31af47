//! What a job is and how it may change. Pure: no I/O, clock, randomness or threads.
//!
//! A [`NewJob`] is asked for; the store makes a [`Job`] of it, which is in one [`State`] at a time.
//! An [`Event`] may change that, or is [`Refused`]. `docs/STATES.md` in the repository has the
//! picture, and every answer.

pub mod issue_ref;
pub mod limits;
pub(crate) mod order;
pub(crate) mod retry;
pub(crate) mod transition;
pub(crate) mod why;

use std::fmt;
use std::str::FromStr;

use crate::time::Timestamp;

pub use issue_ref::IssueRef;
pub use retry::RetryPolicy;
pub(crate) use transition::Next;
pub use transition::{Event, Refused};

/// Number of a job: 1, 2, 3 … in the order of enqueueing, never used twice.
///
/// ```
/// use kugetsu::JobId;
///
/// assert_eq!("41".parse(), Ok(JobId(41)));
/// assert!("0".parse::<JobId>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = String;

    fn from_str(text: &str) -> Result<JobId, String> {
        match text.parse() {
            Ok(0) | Err(_) => Err(format!("'{text}' is not a job id (a number from 1)")),
            Ok(number) => Ok(JobId(number)),
        }
    }
}

/// Fencing token of a lease. Every claim gets a larger one; a write with an older one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of a worker, unique among all that ever used the store.
///
/// [`Worker`](crate::daemon::Worker) gives itself one. Whoever claims by hand makes one up that no
/// other process has, like its host's name, its process id and a number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub String);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a caller asks for.
///
/// ```
/// use kugetsu::job::NewJob;
///
/// let mut new = NewJob::new("github.com/shoko/kugetsu#14".parse()?, "fix the bug");
/// new.priority = 5;
/// new.request_id = Some("webhook-7731".into());
/// assert_eq!(new.validate(), Ok(()));
/// # Ok::<(), kugetsu::job::issue_ref::Malformed>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewJob {
    /// The issue to work on. Jobs of one issue run one at a time. Work that has no issue has a
    /// name of the same form: what may run side by side has different numbers.
    pub issue: IssueRef,
    /// What the agent is told: text without NUL that is not blank, at most
    /// [`limits::MESSAGE_BYTES_MAX`] bytes. To an executor of your own it is whatever you put in.
    pub message: String,
    /// Higher goes first. 0 unless said otherwise.
    pub priority: i16,
    /// Not to be claimed before this time; `None` is at once.
    pub run_at: Option<Timestamp>,
    /// Wall-clock limit of one attempt in milliseconds, from 1 to [`limits::DURATION_MS_MAX`];
    /// `None` is the executor's. The executor holds it: a closure looks at
    /// [`Job::timeout_ms`] itself.
    pub timeout_ms: Option<u64>,
    /// How many attempts, whatever the failure, from 1 to [`limits::ATTEMPTS_MAX`]; `None` is the
    /// worker's number for agent errors and one attempt for everything else.
    pub max_attempts: Option<u32>,
    /// A second enqueue with the same request id makes nothing and answers with the first's job,
    /// until that is pruned. 1 to [`limits::REQUEST_ID_BYTES_MAX`] bytes.
    pub request_id: Option<String>,
    /// Ask for nothing new while the issue has a job that is pending or running.
    pub only_if_idle: bool,
}

impl NewJob {
    /// A job with nothing special about it: of priority 0, and due at once.
    pub fn new(issue: IssueRef, message: impl Into<String>) -> NewJob {
        NewJob {
            issue,
            message: message.into(),
            priority: 0,
            run_at: None,
            timeout_ms: None,
            max_attempts: None,
            request_id: None,
            only_if_idle: false,
        }
    }

    /// Refuses what no store may hold. Enqueueing does the same.
    ///
    /// # Errors
    ///
    /// A text that names the field that is out of its bounds, and the bound.
    pub fn validate(&self) -> Result<(), String> {
        check_message(&self.message)?;
        check_request_id(self.request_id.as_deref())?;
        check_max_attempts(self.max_attempts)?;
        check_timeout(self.timeout_ms)
    }
}

fn check_request_id(id: Option<&str>) -> Result<(), String> {
    let limit = limits::REQUEST_ID_BYTES_MAX;
    match id.map(str::len) {
        Some(length) if length == 0 || length > limit => {
            Err(format!("a request id has 1 to {limit} bytes, not {length}"))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_max_attempts(attempts: Option<u32>) -> Result<(), String> {
    let limit = limits::ATTEMPTS_MAX;
    match attempts {
        Some(attempts) if !(1..=limit).contains(&attempts) => {
            Err(format!("attempts go from 1 to {limit}, not {attempts}"))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_message(message: &str) -> Result<(), String> {
    let (length, limit) = (message.len(), limits::MESSAGE_BYTES_MAX);
    if message.trim().is_empty() {
        return Err("the message is empty".into());
    }
    if length > limit {
        return Err(format!("the message has {length} bytes, more than {limit}"));
    }
    if message.contains('\0') {
        return Err("the message holds a NUL character".into());
    }
    Ok(())
}

fn check_timeout(timeout_ms: Option<u64>) -> Result<(), String> {
    match timeout_ms {
        Some(ms) if !(1..=limits::DURATION_MS_MAX).contains(&ms) => {
            Err("a timeout goes from 1 ms to 10 years".into())
        }
        Some(_) | None => Ok(()),
    }
}

/// What to change of a pending job; `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Edit {
    /// What the agent is told.
    pub message: Option<String>,
    /// Higher goes first.
    pub priority: Option<i16>,
    /// Not to be claimed before this time.
    pub run_at: Option<Timestamp>,
    /// Wall-clock limit of one attempt in milliseconds.
    pub timeout_ms: Option<u64>,
}

impl Edit {
    /// Refuses what no store may hold.
    ///
    /// # Errors
    ///
    /// A text that names the field that is out of its bounds, and the bound.
    pub fn validate(&self) -> Result<(), String> {
        self.message.as_deref().map_or(Ok(()), check_message)?;
        check_timeout(self.timeout_ms)
    }
}

/// A job as the store held it when it was asked. A copy: changing it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// The issue it works on.
    pub issue: IssueRef,
    /// What the agent is told.
    pub message: String,
    /// Higher goes first.
    pub priority: i16,
    /// Wall-clock limit of one attempt in milliseconds, if the job has its own.
    pub timeout_ms: Option<u64>,
    /// Attempts the job asked for, if it did.
    pub max_attempts: Option<u32>,
    /// The caller's name for the request, if it gave one.
    pub request_id: Option<String>,
    /// When it was acknowledged.
    pub enqueued_at: Timestamp,
    /// Where it stands.
    pub state: State,
    /// What it has used up of its budgets.
    pub spent: Spent,
    /// Its last attempts, oldest first, at most [`limits::ATTEMPTS_KEPT_MAX`].
    pub attempts: Vec<Attempt>,
}

impl Job {
    /// The pending job that a request becomes.
    pub(crate) fn new(id: JobId, new: NewJob, now: Timestamp) -> Job {
        Job {
            id,
            issue: new.issue,
            message: new.message,
            priority: new.priority,
            timeout_ms: new.timeout_ms,
            max_attempts: new.max_attempts,
            request_id: new.request_id,
            enqueued_at: now,
            state: State::Pending(Pending {
                run_at: new.run_at.unwrap_or(now).max(now),
                since: now,
            }),
            spent: Spent::default(),
            attempts: Vec::new(),
        }
    }

    /// Refuses what no store may take over from another one.
    pub(crate) fn validate(&self) -> Result<(), String> {
        check_message(&self.message)?;
        check_request_id(self.request_id.as_deref())?;
        check_max_attempts(self.max_attempts)?;
        check_timeout(self.timeout_ms)?;
        if self.lease().is_some() {
            return Err("a job that runs stays where it runs".into());
        }
        let limit = limits::ATTEMPTS_KEPT_MAX;
        if self.attempts.len() > limit {
            return Err(format!("a job remembers at most {limit} attempts"));
        }
        let details = self.attempts.iter().map(|attempt| &attempt.report.detail);
        let details = details.chain(self.outcome().map(|outcome| &outcome.detail));
        let limit = limits::DETAIL_BYTES_MAX;
        match details.map(|detail| detail.len()).max() {
            Some(length) if length > limit => Err(format!("a detail has at most {limit} bytes")),
            Some(_) | None => Ok(()),
        }
    }

    /// The lease, while the job is notified.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Notified(lease) => Some(lease),
            State::Pending(_) | State::Completed(_) | State::Error(_) | State::Cancelled(_) => None,
        }
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            State::Completed(outcome) | State::Error(outcome) | State::Cancelled(outcome) => {
                Some(outcome)
            }
            State::Pending(_) | State::Notified(_) => None,
        }
    }

    /// Commits of the attempts since the last one that was done. Whatever ended them, the work is
    /// on the branch.
    pub fn commits_of_failed_attempts(&self) -> u32 {
        let failed = self.attempts.iter().rev().take_while(|a| a.report.reason != Reason::Done);
        failed.map(|attempt| attempt.report.commits).sum()
    }

    /// Number of the attempt that runs or ran last, from 1; 0 before the first claim.
    pub fn attempt_number(&self) -> u32 {
        self.spent.claims
    }
}

/// Where a job stands. Data lives in the variant that needs it.
///
/// There are no more than these: an attempt may end in new ways, a [`Reason`] each, but a job waits,
/// is worked on, or has ended well, badly or not at all. So match all of them, without `_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waits for its time, its turn or a free agent.
    Pending(Pending),
    /// Claimed: a worker holds a lease on it, its agent is at work.
    Notified(Lease),
    /// The work was done.
    Completed(Outcome),
    /// It failed and no retry is left.
    Error(Outcome),
    /// Somebody called it off.
    Cancelled(Outcome),
}

impl State {
    /// Its name alone.
    pub fn kind(&self) -> StateKind {
        match self {
            State::Pending(_) => StateKind::Pending,
            State::Notified(_) => StateKind::Notified,
            State::Completed(_) => StateKind::Completed,
            State::Error(_) => StateKind::Error,
            State::Cancelled(_) => StateKind::Cancelled,
        }
    }
}

/// The name of a state, as users see and type it. As closed as [`State`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKind {
    /// `pending`
    Pending,
    /// `notified`
    Notified,
    /// `completed`
    Completed,
    /// `error`
    Error,
    /// `cancelled`
    Cancelled,
}

impl StateKind {
    /// All of them, in the order of a job's life.
    pub const ALL: [StateKind; 5] = [
        StateKind::Pending,
        StateKind::Notified,
        StateKind::Completed,
        StateKind::Error,
        StateKind::Cancelled,
    ];

    /// As users see it.
    pub fn name(self) -> &'static str {
        match self {
            StateKind::Pending => "pending",
            StateKind::Notified => "notified",
            StateKind::Completed => "completed",
            StateKind::Error => "error",
            StateKind::Cancelled => "cancelled",
        }
    }

    /// Whether nothing but a retry leaves it.
    pub fn is_ended(self) -> bool {
        match self {
            StateKind::Pending | StateKind::Notified => false,
            StateKind::Completed | StateKind::Error | StateKind::Cancelled => true,
        }
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for StateKind {
    type Err = String;

    fn from_str(text: &str) -> Result<StateKind, String> {
        let names = StateKind::ALL.map(StateKind::name).join(", ");
        StateKind::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("'{text}' is not a state (one of {names}, all)"))
    }
}

/// What a pending job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pending {
    /// Due from this time on.
    pub run_at: Timestamp,
    /// Since when it is pending: enqueued, put back, or retried.
    pub since: Timestamp,
}

/// A worker's right to a job, until a time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Who holds it.
    pub worker: WorkerId,
    /// Which lease it is: every write about the job carries it.
    pub token: Token,
    /// When the job was claimed.
    pub claimed_at: Timestamp,
    /// Lapsed from this time on, unless renewed. Nothing happens by itself then: another worker
    /// adopts the job, run and all.
    pub expires_at: Timestamp,
    /// The agent's process, once it is known.
    pub run: Option<Run>,
    /// Somebody wants the job called off: whatever is reported at the end, it ends as cancelled.
    pub cancel_requested: bool,
}

/// The process that holds an agent: the shim of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// The shim's process id.
    pub pid: i32,
    /// The shim's start time in clock ticks since boot: with the boot id, who the pid is.
    pub start_time: u64,
    /// The boot it belongs to.
    pub boot_id: String,
    /// Name of the folder that shim and worker share. It stays when the lease changes hands.
    pub folder: String,
    /// When it was recorded, just before its gate opened.
    pub started_at: Timestamp,
    /// 1 for the message, 2 for the reminder to commit.
    pub round: u32,
}

impl Run {
    /// The first round of a process. `start_time` is the 22nd field of `/proc/PID/stat`, `boot_id`
    /// the text of `/proc/sys/kernel/random/boot_id`: together they say who the pid is.
    pub fn new(
        pid: i32,
        start_time: u64,
        boot_id: impl Into<String>,
        folder: impl Into<String>,
        started_at: Timestamp,
    ) -> Run {
        Run {
            pid,
            start_time,
            boot_id: boot_id.into(),
            folder: folder.into(),
            started_at,
            round: 1,
        }
    }
}

/// Why an attempt ended. The names are part of the contract.
///
/// It decides what becomes of the job. [`Reason::Done`] completes it, [`Reason::Cancelled`] cancels
/// it, [`Reason::Shutdown`] puts it back for nothing. [`Reason::AgentError`] is tried again
/// [`RetryPolicy::max_attempts`] times, or as often as [`NewJob::max_attempts`] says.
/// [`Reason::Lost`], [`Reason::StartFailed`] and [`Reason::Deferred`] have budgets of their own in
/// [`limits`]. All others end the job in error, unless it asked for several attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The work was done.
    Done,
    /// The agent ended, and there is nothing new.
    NoChanges,
    /// The agent ended and left changes without a commit, after a reminder too.
    Uncommitted,
    /// The wall-clock limit.
    Timeout,
    /// No sign of life for too long.
    IdleTimeout,
    /// The agent ended with an error and without a commit.
    AgentError,
    /// The agent did not come up.
    StartFailed,
    /// Repository, worktree or branch could not be had.
    WorktreeFailed,
    /// The agent vanished: killed, or the machine went down.
    Lost,
    /// The agent wrote more log than it may.
    LogLimit,
    /// The agent called its model more often than it may.
    StepLimit,
    /// The agent cost more than it may.
    CostLimit,
    /// Called off.
    Cancelled,
    /// The worker was told to stop and put the job back.
    Shutdown,
    /// Not now: the agent, its provider or the network asks for later.
    Deferred,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 15] = [
        Reason::Done,
        Reason::NoChanges,
        Reason::Uncommitted,
        Reason::Timeout,
        Reason::IdleTimeout,
        Reason::AgentError,
        Reason::StartFailed,
        Reason::WorktreeFailed,
        Reason::Lost,
        Reason::LogLimit,
        Reason::StepLimit,
        Reason::CostLimit,
        Reason::Cancelled,
        Reason::Shutdown,
        Reason::Deferred,
    ];

    /// As users and programs see it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Done => "done",
            Reason::NoChanges => "no_changes",
            Reason::Uncommitted => "uncommitted",
            Reason::Timeout => "timeout",
            Reason::IdleTimeout => "idle_timeout",
            Reason::AgentError => "agent_error",
            Reason::StartFailed => "start_failed",
            Reason::WorktreeFailed => "worktree_failed",
            Reason::Lost => "lost",
            Reason::LogLimit => "log_limit",
            Reason::StepLimit => "step_limit",
            Reason::CostLimit => "cost_limit",
            Reason::Cancelled => "cancelled",
            Reason::Shutdown => "shutdown",
            Reason::Deferred => "deferred",
        }
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Reason, String> {
        let named = Reason::ALL.into_iter().find(|reason| reason.name() == text);
        named.ok_or_else(|| format!("'{text}' is not a reason"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a job has used up. A user's `retry` starts all but `claims` anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Spent {
    /// Claims ever made: the number of the last attempt.
    pub claims: u32,
    /// Attempts that count against `max_attempts`.
    pub attempts: u32,
    /// Agents lost.
    pub lost: u32,
    /// Agents that did not come up.
    pub start_failed: u32,
    /// Times the job was deferred.
    pub deferred: u32,
}

/// What is known of an attempt that is over: what an executor answers.
///
/// ```
/// use kugetsu::job::{Reason, Report};
///
/// let mut later = Report::new(Reason::Deferred, "the provider answers 429");
/// later.defer_ms = Some(60_000);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Why it ended.
    pub reason: Reason,
    /// The evidence in words, cut at [`limits::DETAIL_BYTES_MAX`].
    pub detail: String,
    /// The agent's exit code, if it had one.
    pub exit_code: Option<i32>,
    /// The signal that ended the agent, if one did.
    pub signal: Option<i32>,
    /// New commits on the branch.
    pub commits: u32,
    /// If the job is tried again: this many milliseconds from now, in place of what the policy
    /// says. For [`Reason::Deferred`].
    pub defer_ms: Option<u64>,
    /// Whether the whole queue is to wait as long: other jobs would fare no better.
    pub pause: bool,
    /// What it used up.
    pub usage: Usage,
}

/// What an attempt, or several, used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Milliseconds that its agent ran.
    pub wall_ms: u64,
    /// Milliseconds of processor time of the agent's whole tree.
    pub cpu_ms: u64,
    /// Largest memory of one process of the tree, in KiB.
    pub peak_memory_kib: u64,
    /// Bytes logged.
    pub log_bytes: u64,
    /// Calls of the model, if the agent tells.
    pub steps: u64,
    /// Tokens that the model read, from its cache too, if the agent tells.
    pub tokens_in: u64,
    /// Tokens that the model wrote, its reasoning too, if the agent tells.
    pub tokens_out: u64,
    /// What the model cost, in millionths of the currency its prices are in, if the agent tells.
    pub cost_micros: u64,
}

impl Usage {
    /// Nothing used up.
    pub const NOTHING: Usage = Usage {
        wall_ms: 0,
        cpu_ms: 0,
        peak_memory_kib: 0,
        log_bytes: 0,
        steps: 0,
        tokens_in: 0,
        tokens_out: 0,
        cost_micros: 0,
    };

    /// Both together: sums, and of the memory the larger one.
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            wall_ms: self.wall_ms.saturating_add(other.wall_ms),
            cpu_ms: self.cpu_ms.saturating_add(other.cpu_ms),
            peak_memory_kib: self.peak_memory_kib.max(other.peak_memory_kib),
            log_bytes: self.log_bytes.saturating_add(other.log_bytes),
            steps: self.steps.saturating_add(other.steps),
            tokens_in: self.tokens_in.saturating_add(other.tokens_in),
            tokens_out: self.tokens_out.saturating_add(other.tokens_out),
            cost_micros: self.cost_micros.saturating_add(other.cost_micros),
        }
    }
}

impl Report {
    /// A report without an exit and without commits.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Report {
        Report {
            reason,
            detail: detail.into(),
            exit_code: None,
            signal: None,
            commits: 0,
            defer_ms: None,
            pause: false,
            usage: Usage::default(),
        }
    }
}

/// One claim of a job, from lease to end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// The lease it had.
    pub token: Token,
    /// Who made it.
    pub worker: WorkerId,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// When its agent started, if it got that far.
    pub started_at: Option<Timestamp>,
    /// When its end was recorded.
    pub ended_at: Timestamp,
    /// How it went.
    pub report: Report,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Why.
    pub reason: Reason,
    /// The evidence in words.
    pub detail: String,
    /// When.
    pub finished_at: Timestamp,
}

/// An issue's agent session, bound to its worktree. A later job of the issue continues it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The issue.
    pub issue: IssueRef,
    /// The agent's own id for it, once it is known.
    pub id: Option<String>,
    /// The folder it works in.
    pub worktree: String,
    /// The branch it commits to.
    pub branch: String,
    /// The job that used it last.
    pub last_job: JobId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was used last.
    pub used_at: Timestamp,
}

impl Session {
    /// A session that a job makes at `now`, without an id yet.
    pub fn new(
        job: &Job,
        worktree: impl Into<String>,
        branch: impl Into<String>,
        now: Timestamp,
    ) -> Session {
        Session {
            issue: job.issue.clone(),
            id: None,
            worktree: worktree.into(),
            branch: branch.into(),
            last_job: job.id,
            created_at: now,
            used_at: now,
        }
    }
}
