//! What the exit codes mean. `EXITCODES.md` is compared with this table by a test.

use crate::job::StateKind;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CliExit {
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

impl CliExit {
    /// All of them, with what they mean to a caller.
    pub const ALL: [(CliExit, &'static str); 10] = [
        (CliExit::Success, "success"),
        (
            CliExit::General,
            "general error: usage, configuration, worktree, session, validation; something to mend, for doctor",
        ),
        (
            CliExit::CapReached,
            "not now: the cap on agents is reached, the issue is busy or the queue is paused; try again later",
        ),
        (CliExit::NotFound, "no such job or session; the queue-daemon does not run"),
        (CliExit::StoreBusy, "the queue is busy: other processes kept it locked; try again"),
        (CliExit::JobFailed, "the job, or the attempt that was waited for, ended in error"),
        (CliExit::JobCancelled, "the job was cancelled"),
        (CliExit::TimedOut, "a wait timed out"),
        (CliExit::StoreDamaged, "the queue is damaged, or a newer kugetsu wrote it"),
        (CliExit::Interrupted, "interrupted (Ctrl-C)"),
    ];

    /// How a command that waits for a job ends when the job is there.
    pub fn of_job(kind: StateKind) -> CliExit {
        match kind {
            StateKind::Completed => CliExit::Success,
            StateKind::Cancelled => CliExit::JobCancelled,
            StateKind::Error | StateKind::Pending | StateKind::Notified => CliExit::JobFailed,
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
        let expected: Vec<String> = CliExit::ALL
            .iter()
            .map(|(exit, meaning)| format!("| {} | {meaning} |", *exit as u8))
            .collect();
        assert_eq!(rows, expected);
    }
}
