//! What is looked after beside the jobs: whether the machine can work, and what piles up over time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use crossbeam_channel::never;

use crate::agent::AgentExecutor;
use crate::git::call::Git;
use crate::git::lock::RepositoryLock;
use crate::git::trouble::GitError;
use crate::git::{looker, mirror, removal};
use crate::job::{JobId, limits};
use crate::time::{Clock, SystemClock, Timestamp};

impl AgentExecutor {
    /// Tries what a job needs of the machine: room and files where kugetsu and its agents write,
    /// processes, and a git that runs.
    pub(super) fn examine_machine(&self) -> Result<(), String> {
        let home = &self.settings.home;
        self.make_folders().map_err(|error| format!("{}: {error}", home.display()))?;
        for folder in [home.join("runs"), home.join("logs"), std::env::temp_dir()] {
            try_writing(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let nothing = File::open("/dev/null").map_err(|error| error.to_string())?;
        let stop = never();
        let git = Git::new(&nothing, &stop, limits::GIT_INSPECT_MS_MAX, None);
        let asked = git.call_nowhere("version").run();
        asked.map(drop).map_err(|error: GitError| error.words().to_string())
    }

    /// Removes what killed processes left, and packs what has become many. What somebody works on
    /// now is left for the next time.
    pub(super) fn look_after_folders(&self) {
        let home = &self.settings.home;
        if let Err(error) = looker::sweep_looks(&home.join("evidence/looks")) {
            tracing::warn!(%error, "cannot sweep the folders of looks");
        }
        for why in removal::finish_removals(&self.settings.worktrees()) {
            tracing::warn!("cannot go on with the removal of a clone: {why}");
        }
        if let Err(error) = self.remove_old_logs() {
            tracing::warn!(%error, "cannot look at the logs");
        }
        if let Err(error) = self.pack_mirrors() {
            tracing::warn!(%error, "cannot look at the mirrors");
        }
    }

    /// Removes logs of jobs to which nobody has added for so long. That of a job with a run stays.
    fn remove_old_logs(&self) -> io::Result<()> {
        let Some(retention_ms) = self.settings.log_retention_ms else { return Ok(()) };
        let now = SystemClock.now();
        for entry in fs::read_dir(self.settings.home.join("logs"))?.take(limits::ENTRIES_READ_MAX) {
            let entry = entry?;
            let Some(job) = entry.file_name().to_str().and_then(job_of_log) else { continue };
            let modified = entry.metadata()?.modified()?.duration_since(SystemTime::UNIX_EPOCH);
            let ms =
                modified.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
            let is_old = now.ms_since(Timestamp(ms)) > retention_ms;
            if is_old && self.run_folders(job).is_empty() {
                tracing::info!(%job, "removing a log to which nobody added for long");
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn pack_mirrors(&self) -> io::Result<()> {
        let stop = never();
        for entry in fs::read_dir(self.settings.mirrors())?.take(limits::ENTRIES_READ_MAX) {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != "git")
                || !mirror::needs_maintenance(&path)?
            {
                continue;
            }
            let Ok(lock) = RepositoryLock::take(&path.with_extension("lock"), &stop, 0) else {
                continue;
            };
            let shim = Some(self.settings.shim.as_path());
            let git = Git::new(lock.file(), &stop, limits::GIT_MS_MAX, shim);
            if let Err(error) = mirror::maintain(&git, &path) {
                tracing::warn!(mirror = %path.display(), "cannot be packed: {}", error.words());
            }
        }
        Ok(())
    }
}

/// The job whose agents wrote a log, by its name.
fn job_of_log(name: &str) -> Option<JobId> {
    name.strip_prefix("dev-")?.strip_suffix(".log")?.parse().ok()
}

/// A file of some size, and a few files more: both bytes and inodes run out.
fn try_writing(folder: &Path) -> io::Result<()> {
    let draft = tempfile::Builder::new().prefix(".kugetsu-examines-").tempdir_in(folder)?;
    for number in 0..limits::EXAMINE_FILES {
        File::create(draft.path().join(number.to_string()))?;
    }
    let mut file = File::create(draft.path().join("room"))?;
    let zeros = [0; 64 * 1024];
    for _ in 0..limits::EXAMINE_BYTES / zeros.len() {
        file.write_all(&zeros)?;
    }
    file.sync_all()
}
