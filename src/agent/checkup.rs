//! Auditing what agents work with: clones, worktrees, git's locks, folders of runs.
//!
//! An audit changes nothing and waits for nobody. Mending checks again first, under the
//! repository's lock, and takes away nothing that a person or an agent made.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crossbeam_channel::never;

use crate::agent::git::{Git, GitError, WorktreeEntry, parse_worktrees};
use crate::agent::workplace::in_words;
use crate::agent::{AgentSettings, repository};
use crate::job::{IssueRef, JobId, limits};
use crate::process::identity::Identity;
use crate::process::run::RunDir;
use crate::process::{lock, remains, tree};

/// Something that is not as it should be, or that somebody may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkFinding {
    /// Git knows a worktree whose folder is gone; without a branch, its commits hang on it alone.
    Gone { clone: PathBuf, folder: PathBuf, branch: Option<String> },
    /// A folder among the worktrees that git knows nothing of.
    NoWorktree { folder: PathBuf },
    /// A folder among the worktrees whose name is no issue's.
    Foreign { folder: PathBuf },
    /// A lock that git makes and removes; the process that works there, if there is one.
    GitLock { clone: PathBuf, file: PathBuf, places: Vec<PathBuf>, by: Option<i32> },
    /// A git that works on a repository, and for how long.
    Busy { clone: PathBuf, pid: i32, for_ms: u64 },
    /// A branch of an issue without a worktree.
    Branch { clone: PathBuf, branch: String },
    /// A clone in the making that nobody makes.
    Unfinished { folder: PathBuf },
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

/// Audits clones and worktrees.
pub(crate) fn audit(settings: &AgentSettings) -> Vec<WorkFinding> {
    let mut found = Vec::new();
    let mut known: Vec<WorktreeEntry> = Vec::new();
    for path in entries(&settings.repositories(), &mut found) {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("git") => match audit_clone(settings, &path, &mut found) {
                Ok(worktrees) => known.extend(worktrees),
                Err(error) => {
                    found.push(WorkFinding::Unreadable { what: path, why: in_words(error) });
                }
            },
            Some("unfinished") if !is_busy(&path) => {
                found.push(WorkFinding::Unfinished { folder: path });
            }
            Some("lock") => found.extend(audit_lock_holder(&path)),
            Some(_) | None => {}
        }
    }
    let unreadable = |path: &Path| {
        let clone = issue_of(path).map(|issue| settings.clone_of(&issue));
        let is = |b: &WorkFinding| matches!(b, WorkFinding::Unreadable { what, .. } if Some(what) == clone.as_ref());
        found.iter().any(is)
    };
    let mut folders = Vec::new();
    let mut trouble = Vec::new();
    for folder in entries(&settings.worktrees(), &mut trouble) {
        if issue_of(&folder).is_none() {
            folders.push(WorkFinding::Foreign { folder });
        } else if !known.iter().any(|entry| entry.folder == folder) && !unreadable(&folder) {
            folders.push(WorkFinding::NoWorktree { folder });
        }
    }
    found.extend(folders);
    found.extend(trouble);
    found
}

/// The issue that a worktree's folder is for.
pub(crate) fn issue_of(folder: &Path) -> Option<IssueRef> {
    IssueRef::from_safe_name(folder.file_name()?.to_str()?)
}

/// Mends what can be mended without a loss, or says why not.
pub(crate) fn mend(finding: &WorkFinding) -> Result<(), String> {
    match finding {
        WorkFinding::Gone { clone, folder, branch: Some(_) } => {
            forget_worktree(clone, folder).map_err(in_words)
        }
        WorkFinding::GitLock { clone, file, places, by: None } => {
            remove_git_lock(clone, file, places)
        }
        WorkFinding::Gone { branch: None, .. }
        | WorkFinding::GitLock { by: Some(_), .. }
        | WorkFinding::NoWorktree { .. }
        | WorkFinding::Foreign { .. }
        | WorkFinding::Busy { .. }
        | WorkFinding::Branch { .. }
        | WorkFinding::Unfinished { .. }
        | WorkFinding::Unreadable { .. } => Err("only a person can tell what to do".into()),
    }
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

fn audit_clone(
    settings: &AgentSettings,
    clone: &Path,
    found: &mut Vec<WorkFinding>,
) -> Result<Vec<WorktreeEntry>, GitError> {
    let nothing = File::open("/dev/null")
        .map_err(|error| GitError::Refused(format!("cannot open /dev/null: {error}")))?;
    let git =
        Git { lock: &nothing, stop: &never(), timeout_ms: limits::GIT_INSPECT_MS_MAX, guard: None };
    let worktrees = worktrees(&git, clone)?;
    let ours = settings.worktrees();
    for entry in worktrees.iter().filter(|entry| entry.folder.starts_with(&ours)) {
        if !entry.folder.exists() {
            found.push(WorkFinding::Gone {
                clone: clone.into(),
                folder: entry.folder.clone(),
                branch: entry.branch.clone(),
            });
        }
    }
    audit_locks(clone, &worktrees, found);
    let format = "--format=%(refname:short) %(worktreepath)";
    for line in git.run(clone, &["for-each-ref", format, "refs/heads/issue-*"])?.lines() {
        if let Some((branch, "")) = line.split_once(' ')
            && branch.strip_prefix("issue-").is_some_and(|number| number.parse::<u64>().is_ok())
        {
            found.push(WorkFinding::Branch { clone: clone.into(), branch: branch.into() });
        }
    }
    Ok(worktrees)
}

/// All but the clone itself.
fn worktrees(git: &Git<'_>, clone: &Path) -> Result<Vec<WorktreeEntry>, GitError> {
    let listing = git.run(clone, &["worktree", "list", "--porcelain", "-z"])?;
    Ok(parse_worktrees(&listing).into_iter().filter(|entry| entry.folder != clone).collect())
}

/// Files that a git which was killed leaves, and on which every later one fails.
const CLONE_LOCKS: [&str; 4] = ["HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock"];

fn audit_locks(clone: &Path, worktrees: &[WorktreeEntry], found: &mut Vec<WorkFinding>) {
    let mut add = |file: PathBuf, places: Vec<PathBuf>| {
        // Whoever works on the repository under its lock makes such files, too.
        if file.exists() && !is_busy(clone) {
            let by = somebody_in(&places).unwrap_or(Some(0));
            found.push(WorkFinding::GitLock { clone: clone.into(), file, places, by });
        }
    };
    for entry in worktrees {
        if let Some(own) = git_folder(&entry.folder) {
            add(own.join("index.lock"), vec![entry.folder.clone()]);
        }
    }
    let mut everywhere: Vec<PathBuf> = worktrees.iter().map(|entry| entry.folder.clone()).collect();
    everywhere.push(clone.into());
    for name in CLONE_LOCKS {
        add(clone.join(name), everywhere.clone());
    }
}

/// Where git keeps what it knows of a worktree.
fn git_folder(worktree: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(worktree.join(".git")).ok()?;
    Some(PathBuf::from(text.strip_prefix("gitdir: ")?.trim_end()))
}

fn somebody_in(places: &[PathBuf]) -> io::Result<Option<i32>> {
    for place in places {
        if let Some(pid) = tree::somebody_in(place)? {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// Whether somebody holds the lock of a clone's repository.
fn is_busy(clone: &Path) -> bool {
    lock::is_flocked(&clone.with_extension("lock")).unwrap_or(true)
}

/// A git that works under a repository's lock has it as its standard input.
fn audit_lock_holder(lock: &Path) -> Option<WorkFinding> {
    if !lock::is_flocked(lock).ok()? {
        return None;
    }
    let gits = tree::reading(lock).ok()?;
    let ages = gits.iter().filter_map(|git| Some((git.age_ms().ok()?, git.pid)));
    let (for_ms, pid) = ages.max()?;
    Some(WorkFinding::Busy { clone: lock.with_extension("git"), pid, for_ms })
}

fn with_lock<T>(
    clone: &Path,
    work: impl FnOnce(&Git<'_>) -> Result<T, GitError>,
) -> Result<T, GitError> {
    let patience_ms = limits::REPOSITORY_BUSY_MS_MAX;
    let lock = repository::lock_file(&clone.with_extension("lock"), &never(), patience_ms)?;
    work(&Git { lock: &lock, stop: &never(), timeout_ms: limits::GIT_INSPECT_MS_MAX, guard: None })
}

/// What `git worktree prune` does, for one worktree alone: its branch keeps the commits.
fn forget_worktree(clone: &Path, folder: &Path) -> Result<(), GitError> {
    with_lock(clone, |git| {
        let known = worktrees(git, clone)?.into_iter().find(|entry| entry.folder == folder);
        let is_gone = known.is_some_and(|entry| entry.branch.is_some()) && !folder.exists();
        if !is_gone {
            return Err(GitError::Refused("it is another one by now".into()));
        }
        let path = folder.to_string_lossy();
        git.ask(clone, &["worktree", "unlock", &path])?;
        git.run(clone, &["worktree", "remove", &path]).map(drop)
    })
}

fn remove_git_lock(clone: &Path, file: &Path, places: &[PathBuf]) -> Result<(), String> {
    let removed = with_lock(clone, |_| match somebody_in(places) {
        Ok(Some(pid)) => Err(GitError::Refused(format!("process {pid} works there"))),
        Ok(None) => fs::remove_file(file).map_err(|error| GitError::Refused(error.to_string())),
        Err(error) => Err(GitError::Refused(error.to_string())),
    });
    removed.map_err(in_words)
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
