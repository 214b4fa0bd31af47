//! What the exit codes mean. `EXITCODES.md` is compared with this table by a test.

use crate::job::StateKind;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked.
    Success = 0,
    /// It did not.
    General = 1,
    /// The cap is reached.
    CapReached = 2,
    /// There is nothing of that name.
    NotFound = 3,
    /// Others kept the store busy.
    StoreBusy = 4,
    /// The job ended in error.
    JobFailed = 5,
    /// The job was cancelled.
    JobCancelled = 6,
    /// A wait ran out of time.
    TimedOut = 7,
    /// The store cannot be read.
    StoreDamaged = 8,
    /// A person interrupted it.
    Interrupted = 130,
}

impl Exit {
    /// All of them, with what they mean to a caller.
    pub const ALL: [(Exit, &'static str); 10] = [
        (Exit::Success, "success"),
        (
            Exit::General,
            "general error: usage, configuration, worktree, session, validation; something to mend, for doctor",
        ),
        (
            Exit::CapReached,
            "not now: the cap on agents is reached, the issue is busy or the queue is paused; try again later",
        ),
        (Exit::NotFound, "no such job or session; the queue-daemon does not run"),
        (Exit::StoreBusy, "the queue is busy: other processes kept it locked; try again"),
        (Exit::JobFailed, "the job, or the attempt that was waited for, ended in error"),
        (Exit::JobCancelled, "the job was cancelled"),
        (Exit::TimedOut, "a wait timed out"),
        (Exit::StoreDamaged, "the queue is damaged, or a newer kugetsu wrote it"),
        (Exit::Interrupted, "interrupted (Ctrl-C)"),
    ];

    /// How a command that waits for a job ends when the job is there.
    pub fn of_job(kind: StateKind) -> Exit {
        match kind {
            StateKind::Completed => Exit::Success,
            StateKind::Cancelled => Exit::JobCancelled,
            StateKind::Error | StateKind::Pending | StateKind::Notified => Exit::JobFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_every_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/EXITCODES.md");
        let text = std::fs::read_to_string(path).expect("EXITCODES.md is there");
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
        let expected: Vec<String> = Exit::ALL
            .iter()
            .map(|(exit, meaning)| format!("| {} | {meaning} |", *exit as u8))
            .collect();
        assert_eq!(rows, expected);
    }
}
