//! What a caller asks for, and what may be asked for.

use crate::job::{IssueRef, limits};
use crate::time::Timestamp;

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
    /// [`Job::timeout_ms`](crate::Job::timeout_ms) itself.
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

pub(super) fn check_request_id(id: Option<&str>) -> Result<(), String> {
    let limit = limits::REQUEST_ID_BYTES_MAX;
    match id.map(str::len) {
        Some(length) if length == 0 || length > limit => {
            Err(format!("a request id has 1 to {limit} bytes, not {length}"))
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn check_max_attempts(attempts: Option<u32>) -> Result<(), String> {
    let limit = limits::ATTEMPTS_MAX;
    match attempts {
        Some(attempts) if !(1..=limit).contains(&attempts) => {
            Err(format!("attempts go from 1 to {limit}, not {attempts}"))
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn check_message(message: &str) -> Result<(), String> {
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

pub(super) fn check_timeout(timeout_ms: Option<u64>) -> Result<(), String> {
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
