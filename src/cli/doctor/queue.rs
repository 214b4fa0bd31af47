//! The queue itself: whether it is whole, who works on it, what its clocks said.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::cli::context::{CliError, quiet_damage};
use crate::cli::exit::CliExit;
use crate::cli::finding::{Finding, count, size, some};
use crate::cli::{render, why};
use crate::config::Config;
use crate::daemon::{self, Seen};
use crate::job::{Job, JobId, Session, StateKind, limits, order};
use crate::process::lock::{self, LockState};
use crate::queue::QueueError;
use crate::store::{ListQuery, RedbStore, Store, StoreError};
use crate::time::{Clock, SystemClock, Timestamp};

/// What the queue holds, as far as it is looked at.
pub(super) struct Contents {
    pub problems: Vec<String>,
    pub now: Timestamp,
    pub pending: u64,
    pub running: Vec<Job>,
    pub sessions: Vec<Session>,
    /// All numbers of jobs.
    pub jobs: BTreeSet<JobId>,
    pub ended: BTreeSet<JobId>,
    /// Jobs that were enqueued after now.
    pub from_the_future: Vec<(JobId, Timestamp)>,
}

/// What there is to know, and what to tell. `None` of a queue that cannot be read.
pub(super) fn audit(config: &Config) -> (Option<Contents>, Vec<Finding>, CliExit) {
    let path = &config.store;
    let what = format!("the queue {}", path.display());
    if !path.exists() {
        if has_traces(&config.home) {
            let remedy = "is KUGETSU_STORE right? a new queue begins at the first enqueue";
            let why = "it is not there, and its jobs left runs or logs";
            return (None, vec![Finding::trouble("queue", what, why, remedy)], CliExit::General);
        }
        let finding = Finding::good("queue", format!("{what}: not there yet, and empty"));
        let now = SystemClock.now();
        return (Some(Contents::empty(now)), vec![finding], CliExit::Success);
    }
    quiet_damage();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    match RedbStore::open_read_only(path, &clock, |store| read(&store)) {
        Err(error) => {
            let exit = match error {
                StoreError::Damaged { .. } | StoreError::TooNew { .. } => CliExit::StoreDamaged,
                StoreError::Busy { .. }
                | StoreError::Gone { .. }
                | StoreError::Io { .. }
                | StoreError::Latched { .. }
                | StoreError::Panicked => CliExit::General,
            };
            let error = CliError::from(QueueError::from(error));
            (None, vec![Finding::bad("queue", what, error)], exit)
        }
        Ok(contents) if !contents.problems.is_empty() => {
            let why = format!("it is damaged: {}", some(&contents.problems));
            let remedy = "keep the file, and see docs/STORAGE.md";
            (None, vec![Finding::trouble("queue", what, why, remedy)], CliExit::StoreDamaged)
        }
        Ok(contents) => {
            let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
            let jobs = count(contents.jobs.len(), "job", "jobs");
            let format = RedbStore::FORMAT;
            let what = format!("{what}: {jobs}, {}, format {format}, sound", size(length));
            let findings = vec![Finding::good("queue", what), clock_of(&contents)];
            (Some(contents), findings, CliExit::Success)
        }
    }
}

/// Whether there was a queue once.
fn has_traces(home: &Path) -> bool {
    ["runs", "logs"].into_iter().any(|name| {
        let entries = fs::read_dir(home.join(name));
        entries.is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "queue-daemon.log"))
        })
    })
}

impl Contents {
    fn empty(now: Timestamp) -> Contents {
        Contents {
            problems: Vec::new(),
            now,
            pending: 0,
            running: Vec::new(),
            sessions: Vec::new(),
            jobs: BTreeSet::new(),
            ended: BTreeSet::new(),
            from_the_future: Vec::new(),
        }
    }
}

fn read(store: &RedbStore) -> Result<Contents, StoreError> {
    let mut contents = Contents::empty(store.now());
    contents.problems = store.verify()?;
    if !contents.problems.is_empty() {
        return Ok(contents);
    }
    contents.pending = store.stats()?.pending;
    let limit = usize::try_from(limits::AGENTS_MAX).unwrap_or(usize::MAX);
    let query = ListQuery { states: vec![StateKind::Notified], issue: None, limit };
    contents.running = store.list(&query)?.items;
    contents.sessions = store.sessions()?;
    let latest = contents.now.plus_ms(limits::CLOCK_SLACK_MS);
    let mut last = JobId(0);
    loop {
        let jobs = store.jobs_after(last, limits::JOBS_READ_AT_ONCE)?;
        let Some(job) = jobs.last() else { return Ok(contents) };
        last = job.id;
        for job in &jobs {
            contents.jobs.insert(job.id);
            if job.state.kind().is_ended() {
                contents.ended.insert(job.id);
            }
            if job.enqueued_at > latest {
                contents.from_the_future.push((job.id, job.enqueued_at));
            }
        }
    }
}

fn clock_of(contents: &Contents) -> Finding {
    let now = contents.now;
    if contents.from_the_future.is_empty() {
        return Finding::good("clock", format!("the clock: it is {now}"));
    }
    let name = |(id, at): &(JobId, Timestamp)| format!("job {id} at {at}");
    let names: Vec<String> = contents.from_the_future.iter().map(name).collect();
    let why = format!("it is {now}, and jobs were enqueued later: {}", some(&names));
    let remedy = "set the clock right (timedatectl); ages, delays and leases go by it";
    Finding::trouble("clock", "the clock", why, remedy)
}

/// Whoever works, and jobs that nobody looks after. The workers were looked at before the queue.
pub(super) fn audit_workers(
    config: &Config,
    workers: &[Seen],
    contents: &Contents,
) -> Vec<Finding> {
    let living = workers.iter().filter(|seen| seen.state != LockState::Free);
    let takers = living.filter(|seen| why::takes_jobs(seen)).count();
    let daemon = lock::inspect(&config.home.join("queue-daemon.lock"));
    let daemon = match daemon {
        Ok(LockState::Held(Some(holder))) => {
            format!(", one as queue-daemon (pid {})", holder.process.pid)
        }
        Ok(LockState::Held(None)) => ", one as queue-daemon".into(),
        Ok(LockState::Free) | Err(_) => String::new(),
    };
    let start = "`kugetsu worker` runs one, `kugetsu queue-daemon start` one in the background";
    let mut findings = vec![match (takers, contents.pending) {
        (0, 0) => Finding::good("workers", "no worker is running, and no job is pending"),
        (0, pending) => {
            let jobs = count(usize::try_from(pending).unwrap_or(usize::MAX), "job is", "jobs are");
            let why = format!("none is running, and {jobs} pending");
            Finding::trouble("workers", "workers", why, start)
        }
        (takers, _) => {
            let running = count(takers, "worker is running", "workers are running");
            Finding::good("workers", format!("{running}{daemon}"))
        }
    }];
    findings.extend(contents.running.iter().filter_map(|job| orphan(job, workers, contents.now)));
    findings.extend(dead_workers(config, workers, contents));
    findings
}

fn orphan(job: &Job, workers: &[Seen], now: Timestamp) -> Option<Finding> {
    let lease = job.lease()?;
    let is_lapsed = order::is_lapsed(job, now);
    if why::worker_lives(workers, job, now) != Some(false) && !is_lapsed {
        return None;
    }
    let agent = match &lease.run {
        None => "its agent had not started",
        Some(run) if why::shim_lives(run) => "its agent goes on",
        Some(_) => "its agent's shim is gone",
    };
    let since = match is_lapsed {
        true => format!("its lease ran out {} ago", render::ago(now, lease.expires_at)),
        false => format!("it was claimed {} ago", render::ago(now, lease.claimed_at)),
    };
    let what = format!("job {} ({})", job.id, job.issue);
    let why = format!("its worker {} is gone: {since}, and {agent}", lease.worker);
    let remedy = "the next worker takes it over: `kugetsu worker`, or `kugetsu queue-daemon start`";
    Some(Finding::trouble("orphans", what, why, remedy))
}

/// Files of workers that are gone, but for those that tell of a job that its worker is dead.
fn dead_workers(config: &Config, workers: &[Seen], contents: &Contents) -> Option<Finding> {
    let is_needed = |seen: &&Seen| {
        let mut leases = contents.running.iter().filter_map(Job::lease);
        leases.any(|lease| lease.worker == seen.worker)
    };
    let dead = workers.iter().filter(|seen| seen.state == LockState::Free);
    let dead = dead.filter(|seen| !is_needed(seen)).count();
    if dead == 0 {
        return None;
    }
    let what =
        count(dead, "lock file of a worker that is gone", "lock files of workers that are gone");
    let note = Finding::note("locks", what, "the next worker removes them, or --fix");
    let (folder, running) = (config.workers(), contents.running.clone());
    Some(note.mended_by(move || {
        let removed = daemon::remove_dead_workers(&folder, &running, SystemClock.now());
        removed.map_err(|error| error.to_string())
    }))
}
