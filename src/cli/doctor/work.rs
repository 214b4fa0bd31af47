//! What agents work with and leave: runs, processes, worktrees, clones, logs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::agent::AgentSettings;
use crate::agent::checkup::{self, Marked, RunLeft, WorkFinding};
use crate::cli::doctor::queue::Contents;
use crate::cli::finding::{Finding, count, size, some};
use crate::cli::why;
use crate::job::{JobId, limits};

/// What was there before the queue was looked at: a job is in the queue before it leaves anything
/// else, so what has no job then never had one, or has none any more.
pub(super) struct Remains {
    runs: io::Result<Vec<RunLeft>>,
    marked: io::Result<Vec<Marked>>,
    logs: Vec<(JobId, PathBuf)>,
    found: Vec<WorkFinding>,
}

impl Remains {
    pub fn collect(settings: &AgentSettings) -> Remains {
        Remains {
            runs: checkup::runs(settings),
            marked: checkup::marked(settings),
            logs: logs(&settings.home),
            found: checkup::audit(settings),
        }
    }
}

/// All of it; without the queue's contents, only what needs no queue to be judged.
pub(super) fn audit(
    settings: &AgentSettings,
    remains: Remains,
    contents: Option<&Contents>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(contents) = contents {
        findings.extend(match remains.runs {
            Ok(runs) => audit_runs(runs, contents),
            Err(error) => vec![unreadable(&settings.home.join("runs"), &error.to_string())],
        });
        findings.extend(audit_held(settings, contents));
        match remains.marked {
            Ok(marked) => findings.extend(audit_processes(&marked, contents)),
            Err(error) => findings.push(unreadable(Path::new("/proc"), &error.to_string())),
        }
    }
    let is_good = |finding: &WorkFinding| match finding {
        WorkFinding::Busy { .. }
        | WorkFinding::Aside { .. }
        | WorkFinding::Removing { .. }
        | WorkFinding::OldWorktree { .. } => true,
        WorkFinding::Damaged { .. }
        | WorkFinding::DamagedOwn { .. }
        | WorkFinding::Foreign { .. }
        | WorkFinding::Unfinished { .. }
        | WorkFinding::Unreadable { .. } => false,
    };
    let is_well = remains.found.iter().all(is_good);
    findings.extend(remains.found.iter().map(say));
    if let Some(contents) = contents {
        findings.extend(audit_sessions(settings, contents));
        findings.extend(audit_logs(&remains.logs, contents));
    }
    if is_well {
        findings.push(Finding::good("worktrees", "all clones can be read"));
    }
    findings
}

/// Folders of runs whose job has ended or is unknown; those that something lives in stay.
fn audit_runs(runs: Vec<RunLeft>, contents: &Contents) -> Vec<Finding> {
    let is_over = |job| contents.ended.contains(&job) || !contents.jobs.contains(&job);
    let over = runs.into_iter().filter(|run| run.job.is_some_and(is_over)).map(|run| run.folder);
    let (held, left): (Vec<PathBuf>, Vec<PathBuf>) =
        over.partition(|folder| checkup::is_run_held(folder));
    let mut findings = Vec::new();
    for folder in held {
        let why = "its job has ended or is gone, and a process holds its lock";
        let remedy = format!("`fuser {}` names it", folder.join("lock").display());
        findings.push(Finding::trouble("runs", format!("run {}", name(&folder)), why, &remedy));
    }
    if !left.is_empty() {
        let names: Vec<String> = left.iter().map(|folder| name(folder)).collect();
        let what = count(left.len(), "run folder", "run folders");
        let why = format!("the job has ended or is gone: {}", some(&names));
        let remedy = "a worker removes those of ended jobs, and --fix all of them";
        let remove = move || left.iter().try_for_each(|run| checkup::remove_run(run));
        findings.push(Finding::trouble("runs", what, why, remedy).mended_by(remove));
    }
    findings
}

/// Jobs at work whose shim is gone, and whose run is held by somebody all the same.
fn audit_held(settings: &AgentSettings, contents: &Contents) -> Vec<Finding> {
    let mut findings = Vec::new();
    for job in &contents.running {
        let Some(run) = job.lease().and_then(|lease| lease.run.as_ref()) else { continue };
        if why::shim_lives(run) {
            continue;
        }
        let holders = checkup::lock_holders(settings, run);
        let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
        if !names.is_empty() {
            let why = format!("its agent's shim is gone, and its run is held by {}", some(&names));
            let remedy = format!("`kugetsu queue cancel --force {}` ends it", job.id);
            findings.push(Finding::trouble("held", format!("job {}", job.id), why, &remedy));
        }
    }
    findings
}

/// Processes of runs that no job has any more, or whose shim is dead.
fn audit_processes(marked: &[Marked], contents: &Contents) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Marked { process, run } in marked {
        let mut runs = contents.running.iter().filter_map(|job| job.lease()?.run.as_ref());
        let why = match runs.find(|known| known.folder == *run) {
            Some(known) if why::shim_lives(known) => continue,
            Some(_) => "its shim is dead, and nothing holds its limits",
            None => "no job is running there",
        };
        // It may have ended since it was seen, as it should.
        if !process.is_alive() {
            continue;
        }
        let pid = process.pid;
        let program = process.arguments().into_iter().next().unwrap_or_default();
        let what = format!("process {pid} ({program}) of run {run}");
        let remedy = format!("`kill {pid}` ends it; a worker ends those of its jobs by itself");
        findings.push(Finding::trouble("processes", what, why, &remedy));
    }
    findings
}

/// What is said of each alone.
fn say(found: &WorkFinding) -> Finding {
    let shown = |path: &Path| path.display().to_string();
    match found {
        WorkFinding::Damaged { folder, why } => Finding::trouble(
            "worktrees",
            shown(folder),
            format!("it cannot be used: {why}"),
            "the issue's next job moves it aside and goes on in a new one",
        ),
        WorkFinding::DamagedOwn { folder, why } => Finding::trouble(
            "mirrors",
            shown(folder),
            format!("it cannot be used: {why}"),
            "the repository's next job makes it anew",
        ),
        WorkFinding::Aside { folder, bytes } => {
            let bytes = size(*bytes);
            let what = format!("{} was damaged, and is kept aside ({bytes})", shown(folder));
            Finding::note("worktrees", what, "look what is in it, and remove it")
        }
        WorkFinding::Removing { folder } => {
            let what = format!("{} is what an interrupted removal left", shown(folder));
            Finding::note("worktrees", what, "`kugetsu prune` finishes it")
        }
        WorkFinding::OldWorktree { folder } => {
            let what = format!("{} is a worktree of version 0.1.0", shown(folder));
            Finding::note("worktrees", what, "the issue's next job takes its branch into a clone")
        }
        WorkFinding::Foreign { folder } => {
            let what = format!("{} is no issue's: kugetsu did not make it", shown(folder));
            Finding::note("worktrees", what, "move it away, if it is not wanted there")
        }
        WorkFinding::Busy { mirror, by } => {
            Finding::good("repositories", format!("{}: held by {by}", name(mirror)))
        }
        WorkFinding::Unfinished { folder } => {
            let what = format!("{} was interrupted in the making", shown(folder));
            Finding::note("clones", what, "the next job begins it anew")
        }
        WorkFinding::Unreadable { what, why } => unreadable(what, why),
    }
}

/// Worktrees that no session knows.
fn audit_sessions(settings: &AgentSettings, contents: &Contents) -> Option<Finding> {
    let mut known: BTreeSet<&str> = contents.sessions.iter().map(|s| s.issue.key()).collect();
    // A running job makes its worktree before its session.
    known.extend(contents.running.iter().map(|job| job.issue.key()));
    let issues = settings.issues_with_worktree().unwrap_or_default();
    let unknown = issues.iter().filter(|issue| !known.contains(issue.key()));
    let names: Vec<String> = unknown.map(ToString::to_string).collect();
    if names.is_empty() {
        return None;
    }
    let worktrees = count(names.len(), "worktree has", "worktrees have");
    let what = format!("{worktrees} no session: {}", some(&names));
    let remedy = "`kugetsu list` tells what is in them, `kugetsu prune` takes the clean ones away";
    Some(Finding::note("sessions", what, remedy))
}

/// They are somebody's work, so they stay.
fn audit_logs(logs: &[(JobId, PathBuf)], contents: &Contents) -> Option<Finding> {
    let gone = logs.iter().filter(|(job, _)| !contents.jobs.contains(job));
    let gone: Vec<&PathBuf> = gone.map(|(_, path)| path).collect();
    let bytes: u64 =
        gone.iter().map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len())).sum();
    let names: Vec<String> = gone.iter().map(|path| name(path)).collect();
    if names.is_empty() {
        return None;
    }
    let logs = count(names.len(), "log", "logs");
    let what = format!("{logs} of jobs that are gone, {}: {}", size(bytes), some(&names));
    Some(Finding::note("logs", what, "rm them in logs/ when nobody needs them; --fix does not"))
}

fn logs(home: &Path) -> Vec<(JobId, PathBuf)> {
    let Ok(entries) = fs::read_dir(home.join("logs")) else { return Vec::new() };
    let log = |path: PathBuf| {
        let name = path.file_name()?.to_str()?;
        let id = name.strip_prefix("dev-")?.strip_suffix(".log")?.parse().ok()?;
        Some((id, path))
    };
    let entries = entries.flatten().take(limits::ENTRIES_READ_MAX);
    let mut logs: Vec<(JobId, PathBuf)> = entries.filter_map(|entry| log(entry.path())).collect();
    logs.sort();
    logs
}

fn unreadable(what: &Path, why: &str) -> Finding {
    Finding::trouble("unreadable", what.display().to_string(), why, "is it whole, and yours?")
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
