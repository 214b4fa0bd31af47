//! What an agent is given to read, and the heading of its log.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::agent::repository::Worktree;
use crate::job::Job;
use crate::process::run::{private_file, write_whole};
use crate::time::Timestamp;

/// What an agent is told that left changes and no commit.
pub(super) const REMINDER: &str = "You ended without a commit, and there are changes in the worktree. \
     If the work is done, commit it now, on the branch that is checked out. \
     If it is not, finish it first. Remove what does not belong to it.\n";

/// The agent's standard input.
pub(super) fn message_file(worktree: &Path) -> PathBuf {
    worktree.join(".kugetsu/msg.txt")
}

/// The message, byte for byte, and beside it what it is about.
pub(super) fn write_message(job: &Job, worktree: &Worktree, message: &str) -> io::Result<()> {
    let folder = worktree.folder.join(".kugetsu");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    write_whole(&folder.join("msg.txt"), message.as_bytes())?;
    let context = format!(
        "issue: {}\nbranch: {}\nbase: {}\njob: {}\nattempt: {}\n",
        job.issue,
        worktree.branch,
        worktree.base,
        job.id,
        job.attempt_number()
    );
    write_whole(&folder.join("context.txt"), context.as_bytes())
}

/// Adds a heading to the log, and says where the run's own output will begin.
pub(super) fn begin_log(log: &Path, job: &Job, round: u32, now: Timestamp) -> io::Result<u64> {
    let mut file: File = private_file().create(true).append(true).open(log)?;
    let what = if round == 1 { "attempt" } else { "reminder of attempt" };
    let (id, issue, attempt) = (job.id, &job.issue, job.attempt_number());
    writeln!(file, "--- {now} job {id}, {issue}, {what} {attempt}")?;
    Ok(file.metadata()?.len())
}
