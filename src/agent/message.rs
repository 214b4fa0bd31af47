//! What an agent is given to read, and the heading of its log.

use std::io::{self, Write};
use std::path::Path;

use crate::agent::repository::Worktree;
use crate::job::Job;
use crate::process::run::RunDir;
use crate::process::safe_file;
use crate::time::Timestamp;

/// What an agent is told that left changes and no commit.
pub(super) const REMINDER: &str = "You ended without a commit, and there are changes in the worktree. \
     If the work is done, commit it now, on the branch that is checked out. \
     If it is not, finish it first. Remove what does not belong to it.\n";

/// The agent's standard input.
pub(super) const MESSAGE: &str = "message.txt";
/// What it is about.
const CONTEXT: &str = "context.txt";

/// Writes the message, byte for byte, and what it is about into the agent's part of the run's
/// folder: the worktree holds what the repository and the agent put there, and nothing of kugetsu's.
pub(super) fn write_message(
    job: &Job,
    worktree: &Worktree,
    text: &str,
    run: &RunDir,
) -> io::Result<()> {
    let context = format!(
        "issue: {}\nbranch: {}\nbase: {}\njob: {}\nattempt: {}\n",
        job.issue,
        worktree.branch,
        worktree.base,
        job.id,
        job.attempt_number()
    );
    run.write_for_agent(MESSAGE, text.as_bytes())?;
    run.write_for_agent(CONTEXT, context.as_bytes()).map(drop)
}

/// Adds a heading to the log, and says where the run's own output will begin.
pub(super) fn begin_log(log: &Path, job: &Job, round: u32, now: Timestamp) -> io::Result<u64> {
    if let Some(folder) = log.parent() {
        safe_file::ensure_folder(folder)?;
    }
    let mut file = safe_file::open_append(log)?;
    let what = if round == 1 { "attempt" } else { "reminder of attempt" };
    let (id, issue, attempt) = (job.id, &job.issue, job.attempt_number());
    writeln!(file, "--- {now} job {id}, {issue}, {what} {attempt}")?;
    Ok(file.metadata()?.len())
}
