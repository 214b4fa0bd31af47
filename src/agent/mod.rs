//! Agents at work: a clone for each issue, a session, a run behind a shim, and a verdict from git.
//!
//! A program of its own runs agents with [`AgentExecutor`], by the settings that
//! [`Config::agents`](crate::config::Config::agents) gives, and a worker that runs them.
//!
//! This module performs what `run` decides.

mod settings;

mod places;

mod workspace;

mod base_session;
mod session;

mod message;
mod plan;
mod start;
mod template;

mod attend;

mod result;
mod seeing;
mod transcript;

mod judging;
mod rounds;

mod adoption;
mod legacy;

mod early_exit;

mod upkeep;

pub(crate) mod checkup;
mod diff;
mod version;
mod workplace;

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread;

use crate::executor::{Control, Ending, Executor, Found};
use crate::failpoint;
use crate::job::{Job, JobId, Reason, Report, Usage, limits};
use crate::process::run::{ExitRecord, RunDir};
use crate::process::{remains, safe_file};

use self::early_exit::EarlyExit;
use self::rounds::Round;

pub(crate) use self::diff::diff;
pub use self::settings::AgentSettings;
pub use self::template::Template;
pub(crate) use self::template::Values;
pub(crate) use self::version::{check_version, opencode_version};
pub(crate) use self::workplace::{
    Kept, Place, Workplace, finish_removals, remove_workplace, tidy_evidence,
};
pub(crate) use self::workspace::fetch_repository;
pub use crate::run::Completion;

/// Runs agents on issues, each in its issue's clone and behind a shim, which outlives its worker.
pub struct AgentExecutor {
    settings: AgentSettings,
}

impl AgentExecutor {
    /// What agents and git say ends up in the store; what they were trusted with does not.
    fn masked_report(&self, report: Report) -> Report {
        let detail = self.settings.masked(&report.detail);
        let work = report.work.as_deref().map(|work| self.settings.masked(work));
        Report { detail, work, ..report }
    }

    fn masked_ending(&self, ending: Ending) -> Ending {
        match ending {
            Ending::Over(report) => Ending::Over(self.masked_report(report)),
            Ending::LeftAlone => Ending::LeftAlone,
        }
    }

    /// An executor with folders to work in, which are made if they are not there.
    ///
    /// # Errors
    ///
    /// When one of them cannot be made.
    pub fn new(settings: AgentSettings) -> io::Result<AgentExecutor> {
        let executor = AgentExecutor { settings };
        executor.make_folders()?;
        Ok(executor)
    }

    fn make_folders(&self) -> io::Result<()> {
        safe_file::ensure_folder(&self.settings.home)?;
        for folder in ["mirrors", "worktrees", "evidence", "evidence/looks", "runs", "logs"] {
            safe_file::ensure_folder(&self.settings.home.join(folder))?;
        }
        Ok(())
    }

    fn attempt(&self, job: &Job, control: &Control) -> Result<Report, EarlyExit> {
        self.make_folders()
            .map_err(|error| EarlyExit::from(Report::new(Reason::Machine, error.to_string())))?;
        let known = control.session(job)?;
        let prepared = workspace::prepare(&self.settings, job, known.as_ref(), control.stop());
        let mut workspace = prepared.map_err(|why| self.put_off_for_network(job, why))?;
        // What an earlier attempt changed and did not commit is still to be committed.
        if let Some(changes) = self.changes_before_job(job).filter(|_| !workspace.is_new) {
            workspace.changes = changes;
        }
        tracing::debug!(job = %job.id, "clone ready");
        failpoint::here("worktree_made");
        let mut session = self.keep_session(job, control, &workspace)?;
        self.begin_from_base(job, control, &workspace, &mut session)?;
        failpoint::here("session_saved");
        self.run_rounds(job, control, &workspace, session, Round::first())
    }

    /// A network that is not there is tried again like a failed attempt is, and sooner than a
    /// provider.
    fn put_off_for_network(&self, job: &Job, why: EarlyExit) -> EarlyExit {
        match why {
            EarlyExit::Over(mut report) if report.reason == Reason::Deferred && !report.hold => {
                let doublings = job.spent.deferred.min(32);
                let pause_ms = self.settings.network_pause_ms.max(1).saturating_mul(1 << doublings);
                report.defer_ms = Some(pause_ms.min(limits::BACKOFF_MS_MAX));
                EarlyExit::Over(report)
            }
            other => other,
        }
    }

    /// The folders of a job's runs.
    fn run_folders(&self, id: JobId) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.settings.runs()) else { return Vec::new() };
        let beginning = format!("{id}-");
        let is_ours = |path: &PathBuf| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(&beginning))
        };
        entries.flatten().map(|entry| entry.path()).filter(is_ours).collect()
    }
}

/// After a panic nobody knows what runs: the next worker looks.
fn ending(done: thread::Result<Result<Report, EarlyExit>>) -> Ending {
    match done {
        Ok(Ok(report)) => Ending::Over(report),
        Ok(Err(EarlyExit::Over(report))) => Ending::Over(*report),
        Ok(Err(EarlyExit::LeftAlone)) | Err(_) => Ending::LeftAlone,
    }
}

impl Executor for AgentExecutor {
    fn execute(&self, job: &Job, control: &Control) -> Ending {
        let done = catch_unwind(AssertUnwindSafe(|| self.attempt(job, control)));
        self.masked_ending(ending(done))
    }

    fn resume(&self, job: &Job, control: &Control) -> Ending {
        let done = catch_unwind(AssertUnwindSafe(|| self.resume_attempt(job, control)));
        self.masked_ending(ending(done))
    }

    fn inspect(&self, job: &Job) -> Found {
        match self.inspect_run(job) {
            Found::Ended(report) => Found::Ended(self.masked_report(report)),
            found @ (Found::Alive | Found::NothingRan) => found,
        }
    }

    fn enforce(&self, job: &Job) {
        self.enforce_limits(job);
    }

    fn examine(&self) -> Result<(), String> {
        self.examine_machine()
    }

    fn maintain(&self) {
        self.look_after_folders();
    }

    fn leftovers(&self) -> Vec<JobId> {
        let Ok(entries) = fs::read_dir(self.settings.runs()) else { return Vec::new() };
        let mut ids: Vec<JobId> = entries
            .flatten()
            .take(limits::LEFTOVERS_PER_ROUND_MAX)
            .filter_map(|entry| entry.file_name().to_str()?.split('-').next()?.parse().ok())
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    fn tidy(&self, id: JobId) {
        for folder in self.run_folders(id) {
            let removed = remains::remove(&RunDir::at(&folder));
            // Another worker may tidy up at the same time.
            if let Some(error) = removed.err().filter(|e| e.kind() != io::ErrorKind::NotFound) {
                tracing::warn!(folder = %folder.display(), %error, "cannot remove");
            }
        }
    }
}

/// What a run used up, as its shim wrote it down.
fn usage_of(record: &ExitRecord) -> Usage {
    let mut usage = Usage::NOTHING;
    usage.wall_ms = record.wall_ms;
    usage.cpu_ms = record.cpu_ms;
    usage.peak_memory_kib = record.peak_memory_kib;
    usage.log_bytes = record.log_bytes;
    usage.steps = record.usage.steps;
    usage.tokens_in = record.usage.tokens_in;
    usage.tokens_out = record.usage.tokens_out;
    usage.cost_micros = record.usage.cost_micros;
    usage.plausible()
}
