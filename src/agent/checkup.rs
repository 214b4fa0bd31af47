//! Looking over what agents work with: mirrors, clones, folders of runs.
//!
//! An audit changes nothing and waits for nobody. Mending takes away nothing that a person or an
//! agent made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::agent::AgentSettings;
use crate::git::lock;
use crate::git::refs::CloneRefs;
use crate::job::{IssueRef, JobId, limits};
use crate::process::identity::Identity;
use crate::process::remains;
use crate::process::run::RunDir;
use crate::process::tree;

/// Something that is not as it should be, or that somebody may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkFinding {
    /// A clone that cannot be used: the issue's next job moves it aside and makes another one.
    Damaged { folder: PathBuf, why: String },
    /// A clone that was moved aside.
    Aside { folder: PathBuf },
    /// A worktree of version 0.1.0.
    OldWorktree { folder: PathBuf },
    /// A folder among the clones whose name is no issue's.
    Foreign { folder: PathBuf },
    /// A mirror or clone in the making that nobody makes.
    Unfinished { folder: PathBuf },
    /// Somebody works on a repository.
    Busy { mirror: PathBuf, by: String },
    /// It cannot be read.
    Unreadable { what: PathBuf, why: String },
}

/// A folder among those of the runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunLeft {
    pub folder: PathBuf,
    /// The job that its name tells.
    pub job: Option<JobId>,
}

/// A process that carries a run's marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marked {
    pub process: Identity,
    /// The name of the run's folder.
    pub run: String,
}

/// Looks over mirrors and clones.
pub(crate) fn audit(settings: &AgentSettings) -> Vec<WorkFinding> {
    let mut found = Vec::new();
    for path in entries(&settings.mirrors(), &mut found) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".lock") {
            if let Ok(Some(by)) = lock::holder_in_words(&path) {
                found.push(WorkFinding::Busy { mirror: path.with_extension("git"), by });
            }
        } else if name.ends_with(".unfinished") {
            found.push(WorkFinding::Unfinished { folder: path });
        } else if name.ends_with(".damaged") {
            found.push(WorkFinding::Aside { folder: path });
        }
    }
    for folder in entries(&settings.worktrees(), &mut found) {
        found.extend(audit_clone(folder));
    }
    found
}

fn audit_clone(folder: PathBuf) -> Option<WorkFinding> {
    let name = folder.file_name()?.to_string_lossy().into_owned();
    if name.ends_with(".unfinished") {
        return Some(WorkFinding::Unfinished { folder });
    }
    if name.contains(".damaged-") {
        return Some(WorkFinding::Aside { folder });
    }
    if issue_of(&folder).is_none() {
        return Some(WorkFinding::Foreign { folder });
    }
    if fs::symlink_metadata(folder.join(".git")).is_ok_and(|git| git.is_file()) {
        return Some(WorkFinding::OldWorktree { folder });
    }
    match CloneRefs::read(&folder) {
        Ok(_) => None,
        Err(why) => Some(WorkFinding::Damaged { folder, why: why.why().to_string() }),
    }
}

/// The issue that a clone's folder is for.
pub(crate) fn issue_of(folder: &Path) -> Option<IssueRef> {
    IssueRef::from_safe_name(folder.file_name()?.to_str()?)
}

/// The folders of runs.
pub(crate) fn runs(settings: &AgentSettings) -> io::Result<Vec<RunLeft>> {
    let job = |path: &Path| path.file_name()?.to_str()?.split('-').next()?.parse().ok();
    let left = |folder: PathBuf| RunLeft { job: job(&folder), folder };
    Ok(sorted_entries(&settings.runs())?.into_iter().map(left).collect())
}

/// Whether something of a run lives. Not for a run that may be about to begin.
pub(crate) fn is_run_held(folder: &Path) -> bool {
    // What cannot be inspected counts as held.
    RunDir::at(folder).is_locked().unwrap_or(true)
}

/// Removes a run's folder, unless something of the run lives.
pub(crate) fn remove_run(folder: &Path) -> Result<(), String> {
    match remains::remove(&RunDir::at(folder)) {
        Ok(true) => Ok(()),
        Ok(false) => Err("something of the run lives".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Processes that belong to runs of this folder.
pub(crate) fn marked(settings: &AgentSettings) -> io::Result<Vec<Marked>> {
    let found = tree::with_variable(&format!("KUGETSU_RUN={}/", settings.runs().display()))?;
    Ok(found.into_iter().map(|(process, run)| Marked { process, run }).collect())
}

fn entries(folder: &Path, found: &mut Vec<WorkFinding>) -> Vec<PathBuf> {
    sorted_entries(folder).unwrap_or_else(|error| {
        found.push(WorkFinding::Unreadable { what: folder.into(), why: error.to_string() });
        Vec::new()
    })
}

/// What is in a folder; nothing, if the folder is not there.
fn sorted_entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let entries = entries.flatten().take(limits::ENTRIES_READ_MAX);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}
