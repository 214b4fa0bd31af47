//! What things are known by: jobs, leases, workers.

use std::fmt;
use std::str::FromStr;

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
