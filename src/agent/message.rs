//! What an agent is given to read, and the heading of its log.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::agent::workspace::Workspace;
use crate::job::Job;
use crate::process::run::RunDir;
use crate::process::safe_file;
use crate::run::{Purpose, reminder};
use crate::time::Timestamp;

const MESSAGE: &str = "message.txt";
const CONTEXT: &str = "context.txt";

/// The agent's standard input.
pub(super) fn message_file(dir: &RunDir) -> PathBuf {
    dir.agent_file(MESSAGE)
}

/// What the message is about.
pub(super) fn context_file(dir: &RunDir) -> PathBuf {
    dir.agent_file(CONTEXT)
}

/// Writes the message, byte for byte, and what it is about into the agent's folder of the run.
pub(super) fn write(
    job: &Job,
    workspace: &Workspace,
    purpose: &Purpose,
    dir: &RunDir,
) -> io::Result<()> {
    let reminded;
    let text = match purpose {
        Purpose::Message | Purpose::FreshSession => job.message.as_str(),
        Purpose::Reminder(undone) => {
            reminded = reminder(undone, workspace.branch.as_str());
            &reminded
        }
        Purpose::Bring { .. } => "",
    };
    let mut context = format!(
        "issue: {}\nbranch: {}\nbase: {}\njob: {}\nattempt: {}\n",
        job.issue,
        workspace.branch,
        workspace.base,
        job.id,
        job.attempt_number()
    );
    for note in &workspace.notes {
        context.push_str(&format!("note: {note}\n"));
    }
    dir.write_for_agent(MESSAGE, text.as_bytes())?;
    dir.write_for_agent(CONTEXT, context.as_bytes()).map(drop)
}

/// Adds a heading to the log, and says where the run's own output will begin.
pub(super) fn begin_log(
    log: &Path,
    job: &Job,
    purpose: &Purpose,
    now: Timestamp,
) -> io::Result<u64> {
    let mut file = safe_file::open_append(log)?;
    let what = match purpose {
        Purpose::Message => "attempt",
        Purpose::FreshSession => "fresh session in attempt",
        Purpose::Bring { .. } => "work brought onto the branch in attempt",
        Purpose::Reminder(_) => "reminder of attempt",
    };
    let (id, issue, attempt) = (job.id, &job.issue, job.attempt_number());
    writeln!(file, "--- {now} job {id}, {issue}, {what} {attempt}")?;
    Ok(file.metadata()?.len())
}
