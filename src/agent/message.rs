//! What an agent is given to read, and the heading of its log.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::agent::repository::Worktree;
use crate::job::Job;
use crate::process::run::{RunDir, private_file, write_whole};
use crate::time::Timestamp;

/// What an agent is told that left changes and no commit.
pub(super) const REMINDER: &str = "You ended without a commit, and there are changes in the worktree. \
     If the work is done, commit it now, on the branch that is checked out. \
     If it is not, finish it first. Remove what does not belong to it.\n";

/// The agent's standard input.
pub(super) fn message_file(worktree: &Path) -> PathBuf {
    worktree.join(".kugetsu/msg.txt")
}

/// Writes the message, byte for byte, and what it is about into the folder of the run; gives the
/// places where the shim puts them for the agent.
pub(super) fn write_message(
    job: &Job,
    worktree: &Worktree,
    text: &str,
    run: &RunDir,
) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let context = format!(
        "issue: {}\nbranch: {}\nbase: {}\njob: {}\nattempt: {}\n",
        job.issue,
        worktree.branch,
        worktree.base,
        job.id,
        job.attempt_number()
    );
    let mut places = Vec::new();
    for (name, text) in [("msg.txt", text), ("context.txt", &context)] {
        write_whole(&run.file(name), text.as_bytes())?;
        places.push((run.file(name), worktree.folder.join(".kugetsu").join(name)));
    }
    Ok(places)
}

/// Adds a heading to the log, and says where the run's own output will begin.
pub(super) fn begin_log(log: &Path, job: &Job, round: u32, now: Timestamp) -> io::Result<u64> {
    let mut file: File = private_file().create(true).append(true).open(log)?;
    let what = if round == 1 { "attempt" } else { "reminder of attempt" };
    let (id, issue, attempt) = (job.id, &job.issue, job.attempt_number());
    writeln!(file, "--- {now} job {id}, {issue}, {what} {attempt}")?;
    Ok(file.metadata()?.len())
}
