//! Why an attempt ends without a verdict.

use std::io;

use nix::errno::Errno;

use crate::executor::{Stop, is_lease_lost};
use crate::git::trouble::GitError;
use crate::job::{Reason, Report};
use crate::queue::QueueError;

/// Why an attempt ends without a verdict.
pub(super) enum EarlyExit {
    /// Whoever looks after the job next goes on from what is recorded.
    LeftAlone,
    Over(Box<Report>),
}

impl From<Report> for EarlyExit {
    fn from(report: Report) -> EarlyExit {
        EarlyExit::Over(Box::new(report))
    }
}

impl From<GitError> for EarlyExit {
    fn from(error: GitError) -> EarlyExit {
        let reason = match &error {
            GitError::Stopped(stop) => return early_exit_on(*stop),
            GitError::Network(_) | GitError::TimedOut(_) => Reason::Deferred,
            GitError::Machine(_) => Reason::Machine,
            GitError::Login(_)
            | GitError::TooLarge(_)
            | GitError::Damaged(_)
            | GitError::Refused(_) => Reason::WorktreeFailed,
        };
        Report::new(reason, error.words()).into()
    }
}

impl From<QueueError> for EarlyExit {
    fn from(error: QueueError) -> EarlyExit {
        match &error {
            error if is_lease_lost(error) => EarlyExit::LeftAlone,
            // What is recorded is what counts, also of a run that is over: whoever looks next, when
            // the store answers, goes on from there.
            QueueError::Store(_) => {
                tracing::warn!(%error, "the store does not answer; the job is looked at again");
                EarlyExit::LeftAlone
            }
            error => Report::new(Reason::StartFailed, error.to_string()).into(),
        }
    }
}

/// What a request to stop means to a job whose agent has not started.
pub(super) fn early_exit_on(stop: Stop) -> EarlyExit {
    match stop {
        Stop::Cancel => Report::new(Reason::Cancelled, "ended on request").into(),
        Stop::Shutdown | Stop::Detach => {
            Report::new(Reason::Shutdown, "the worker stopped before the agent started").into()
        }
        Stop::LeaseLost => EarlyExit::LeftAlone,
    }
}

/// What it means that the system refused something before the agent started.
pub(super) fn start_failed(what: &str) -> impl Fn(io::Error) -> EarlyExit + use<'_> {
    move |error| {
        let reason = match is_machines_fault(&error) {
            true => Reason::Machine,
            false => Reason::StartFailed,
        };
        Report::new(reason, format!("cannot {what}: {error}")).into()
    }
}

/// Whether the machine is to blame for an error: another job would fare no better now, and this one
/// may later.
pub(super) fn is_machines_fault(error: &io::Error) -> bool {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(
            Errno::ENOSPC
            | Errno::EDQUOT
            | Errno::EROFS
            | Errno::EIO
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOMEM
            | Errno::EAGAIN
            | Errno::ENOLCK
            | Errno::ESTALE
            | Errno::EUCLEAN,
        ) => true,
        Some(_) | None => error.kind() == io::ErrorKind::StorageFull,
    }
}

/// The same of a failure that a shim wrote down in words.
pub(super) fn is_machines_fault_in_words(words: &str) -> bool {
    let Some((_, number)) = words.rsplit_once("(os error ") else { return false };
    let number = number.split(')').next().and_then(|number| number.parse().ok());
    number.is_some_and(|number| is_machines_fault(&io::Error::from_raw_os_error(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_blame_for_a_failed_start() {
        for (words, expected) in [
            ("cannot start sh: Resource temporarily unavailable (os error 11)", true),
            ("cannot start sh: No space left on device (os error 28)", true),
            ("cannot start sh: Too many open files (os error 24)", true),
            ("cannot start sh: Cannot allocate memory (os error 12)", true),
            ("cannot start x: No such file or directory (os error 2)", false),
            ("cannot start x: Permission denied (os error 13)", false),
            ("cannot start x: it is in no folder of PATH", false),
            ("(os error x)", false),
            ("", false),
        ] {
            assert_eq!(is_machines_fault_in_words(words), expected, "{words}");
        }
    }
}
