//! The clone of a repository, and the worktree and branch of an issue.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, never};

use crate::agent::AgentSettings;
use crate::agent::git::{Git, GitError, WorktreeEntry, parse_worktrees};
use crate::executor::Stop;
use crate::failpoint;
use crate::job::{IssueRef, limits};
use crate::process::run::{private_file, write_whole};
use crate::process::tree;
use crate::time;

/// An issue's worktree, ready for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Worktree {
    pub folder: PathBuf,
    pub branch: String,
    /// The commit that the branch is measured against.
    pub base: String,
    /// Where the branch is now.
    pub head: String,
}

/// What an attempt left in a worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Traces {
    /// Commits that are on the branch and were not before.
    pub commits: u32,
    /// Changes without a commit, untracked files included.
    pub is_dirty: bool,
}

/// Makes or reuses the clone, the branch and the worktree of an issue.
pub(super) fn prepare(
    settings: &AgentSettings,
    issue: &IssueRef,
    stop: &Receiver<Stop>,
) -> Result<Worktree, GitError> {
    let lock = lock(settings, issue, stop, limits::GIT_MS_MAX)?;
    let git =
        Git { lock: &lock, stop, timeout_ms: limits::GIT_MS_MAX, guard: Some(&settings.shim) };
    let clone = clone_or_fetch(settings, issue, &git)?;
    let base = find_base(settings, &git, &clone)?;
    exclude_own_folder(&clone).map_err(|error| refused("write info/exclude", &error))?;
    let folder = settings.worktrees().join(issue.safe_name());
    let branch = issue.branch();
    place_worktree(&git, &clone, &folder, &branch, &base)?;
    let head = git.run(&folder, &["rev-parse", "--verify", "HEAD"])?.trim().to_string();
    Ok(Worktree { folder, branch, base, head })
}

/// Clones a repository, or fetches what is new, and gives the commit that work starts from; `None`
/// if it was told to stop.
pub fn clone_repository(
    settings: &AgentSettings,
    issue: &IssueRef,
    stop: &Receiver<Stop>,
) -> Result<Option<String>, String> {
    let clone = || -> Result<String, GitError> {
        let lock = lock(settings, issue, stop, limits::REPOSITORY_BUSY_MS_MAX)?;
        let git =
            Git { lock: &lock, stop, timeout_ms: limits::GIT_MS_MAX, guard: Some(&settings.shim) };
        let clone = clone_or_fetch(settings, issue, &git)?;
        let base = find_base(settings, &git, &clone)?;
        let named = git.run(&clone, &["log", "-1", "--format=%h (%s)", &base])?;
        Ok(named.trim().into())
    };
    match clone() {
        Ok(base) => Ok(Some(base)),
        Err(GitError::Stopped(_)) => Ok(None),
        Err(GitError::Network(why) | GitError::Refused(why)) => Err(why),
    }
}

/// Looks at what is in the worktree compared with the head before.
///
/// It only reads, so it waits for no lock; and nothing stops it, because a run that is over is
/// judged now or by the next worker, but not half.
pub(super) fn traces(folder: &Path, before: &str, base: &str) -> Result<Traces, GitError> {
    let nothing = File::open("/dev/null").map_err(|error| refused("open /dev/null", &error))?;
    let git =
        Git { lock: &nothing, stop: &never(), timeout_ms: limits::GIT_INSPECT_MS_MAX, guard: None };
    // What the base had already is not the agent's, also when it was merged in.
    let commits = git.run(folder, &["rev-list", "--count", "HEAD", "--not", before, base])?;
    let status = git.run(folder, &["status", "--porcelain"])?;
    match commits.trim().parse() {
        Ok(commits) => Ok(Traces { commits, is_dirty: !status.trim().is_empty() }),
        Err(_) => Err(GitError::Refused(format!("git rev-list said {commits:?}"))),
    }
}

fn refused(what: &str, error: &io::Error) -> GitError {
    GitError::Refused(format!("cannot {what}: {error}"))
}

/// One lock for each repository: git's own locks fail instead of waiting.
pub(super) fn lock(
    settings: &AgentSettings,
    issue: &IssueRef,
    stop: &Receiver<Stop>,
    patience_ms: u64,
) -> Result<File, GitError> {
    let name = issue.safe_repository_name();
    lock_file(&settings.repositories().join(format!("{name}.lock")), stop, patience_ms)
}

/// The same, by the lock's file.
pub(super) fn lock_file(
    path: &Path,
    stop: &Receiver<Stop>,
    patience_ms: u64,
) -> Result<File, GitError> {
    let file = private_file()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| refused(&format!("open {}", path.display()), &error))?;
    let began = time::monotonic();
    while file.try_lock().is_err() {
        if began.elapsed() > Duration::from_millis(patience_ms) {
            let why = format!("{} stays locked: a git works on the repository", path.display());
            return Err(GitError::Network(why));
        }
        wait(stop, Duration::from_millis(limits::REPOSITORY_LOCK_PAUSE_MS))?;
    }
    Ok(file)
}

/// Waits, unless there is a request to stop.
fn wait(stop: &Receiver<Stop>, pause: Duration) -> Result<(), GitError> {
    match stop.recv_timeout(pause) {
        Ok(stop) => Err(GitError::Stopped(stop)),
        Err(RecvTimeoutError::Timeout) => Ok(()),
        Err(RecvTimeoutError::Disconnected) => {
            // Nobody can tell this one to stop any more; it still waits.
            time::pause(pause);
            Ok(())
        }
    }
}

fn clone_or_fetch(
    settings: &AgentSettings,
    issue: &IssueRef,
    git: &Git<'_>,
) -> Result<PathBuf, GitError> {
    let clone = settings.clone_of(issue);
    let url = settings.clone_url(issue);
    if clone.is_dir() {
        if !clone.join("HEAD").is_file() {
            let why = format!("{} is no clone any more (move it away, and retry)", clone.display());
            return Err(GitError::Refused(why));
        }
        // The template may have changed since it was made.
        let known = fs::read_to_string(clone.join("config")).unwrap_or_default();
        if !known.lines().any(|line| line.trim() == format!("url = {url}")) {
            git.run(&clone, &["remote", "set-url", "origin", &url])?;
        }
        with_retries(settings, git, || {
            git.run(&clone, &["fetch", "--quiet", "--prune", "origin"]).map(drop)
        })?;
        return Ok(clone);
    }
    // Made beside its place and renamed when whole: a clone that is there is a clone that works.
    let unfinished = clone.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(|error| refused("clear an old clone", &error))?;
    }
    DirBuilder::new()
        .mode(0o700)
        .create(&unfinished)
        .map_err(|error| refused("make a clone", &error))?;
    git.run(&unfinished, &["init", "--quiet", "--bare"])?;
    git.run(&unfinished, &["remote", "add", "origin", &url])?;
    with_retries(settings, git, || {
        git.run(&unfinished, &["fetch", "--quiet", "--prune", "origin"]).map(drop)
    })?;
    failpoint::here("clone_unfinished");
    // Best effort: it is one of several places where a base is looked for.
    git.ask(&unfinished, &["remote", "set-head", "origin", "--auto"])?;
    fs::rename(&unfinished, &clone).map_err(|error| refused("finish a clone", &error))?;
    Ok(clone)
}

fn with_retries(
    settings: &AgentSettings,
    git: &Git<'_>,
    mut call: impl FnMut() -> Result<(), GitError>,
) -> Result<(), GitError> {
    for attempt in 1.. {
        match call() {
            Err(GitError::Network(why)) if attempt < settings.network_attempts.max(1) => {
                tracing::warn!(attempt, "{why}; trying again");
                wait(git.stop, Duration::from_millis(settings.network_delay_ms))?;
            }
            result => return result,
        }
    }
    unreachable!("the last attempt returns")
}

/// The configured base, or what the remote calls its head, or `main`.
pub(super) fn find_base(
    settings: &AgentSettings,
    git: &Git<'_>,
    clone: &Path,
) -> Result<String, GitError> {
    let candidates: Vec<&str> = match &settings.base_branch {
        Some(branch) => vec![branch],
        None => vec!["origin/main", "origin/HEAD", "origin/master", "main"],
    };
    for candidate in &candidates {
        let commit = format!("{candidate}^{{commit}}");
        let found =
            git.ask(clone, &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit])?;
        if let Some(base) = found {
            return Ok(base);
        }
    }
    Err(GitError::Refused(format!(
        "the repository has no branch {} (set KUGETSU_BASE_BRANCH)",
        candidates.join(", ")
    )))
}

/// What kugetsu writes into a worktree is nobody's change.
fn exclude_own_folder(clone: &Path) -> io::Result<()> {
    const RULE: &str = "/.kugetsu/";
    let path = clone.join("info/exclude");
    let text = fs::read_to_string(&path).unwrap_or_default();
    if text.lines().any(|line| line == RULE) {
        return Ok(());
    }
    fs::create_dir_all(clone.join("info"))?;
    let mut file = File::options().create(true).append(true).open(&path)?;
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    file.write_all(format!("{newline}{RULE}\n").as_bytes())
}

/// Why a worktree is locked, for whoever looks at it with git.
pub(super) const LOCKED_BY: &str = "kugetsu works here";

/// What is written once a worktree is whole, where git keeps what it knows of the worktree: out of
/// the reach of `git clean` and of agents.
const WHOLE: &str = "kugetsu-whole";

/// Followed by a worktree's name, in its clone: it is there while the worktree is being made. A git
/// that is ended there may leave anything, the folder without what git knows of it too.
const MAKING: &str = "kugetsu-making-";

fn place_worktree(
    git: &Git<'_>,
    clone: &Path,
    folder: &Path,
    branch: &str,
    base: &str,
) -> Result<(), GitError> {
    let path = folder.to_string_lossy();
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let making = clone.join(format!("{MAKING}{name}"));
    if making.exists() {
        // Whoever made it died half-way: no agent was in it yet.
        tracing::warn!(folder = %path, "was not made whole; making it again");
        if folder.exists() {
            fs::remove_dir_all(folder)
                .map_err(|error| refused(&format!("clear {path}"), &error))?;
        }
    }
    let mut known = find_worktree(git, clone, folder)?;
    if known.is_none() && folder.join(".git").is_file() {
        // kugetsu's whole folder was moved, perhaps: clone and worktree know each other's old place.
        git.ask(clone, &["worktree", "repair", &path])?;
        known = find_worktree(git, clone, folder)?;
    }
    match (known, folder.exists()) {
        (Some(entry), true) => {
            let own = git.ask(folder, &["rev-parse", "--absolute-git-dir"])?;
            if let Some(own) = own.filter(|own| Path::new(own).join(WHOLE).exists()) {
                if entry.branch.as_deref() != Some(branch) {
                    let found = entry.branch.as_deref().unwrap_or("no branch");
                    tracing::warn!(folder = %path, "is on {found}, not on {branch}");
                }
                let head = clone.join("refs/heads").join(format!("{branch}.lock"));
                let own = Path::new(&own);
                let locks = [own.join("index.lock"), own.join("HEAD.lock"), head];
                return locks.iter().try_for_each(|lock| clear_lock(lock, folder));
            }
            // The same, of a time before there was a mark for it.
            git.run(clone, &["worktree", "remove", "--force", "--force", &path])?;
        }
        (Some(_), false) => {
            // The folder was removed by hand; git must forget it before it can be made again.
            tracing::warn!(folder = %path, "is gone: making it again from its branch");
            git.ask(clone, &["worktree", "unlock", &path])?;
            git.run(clone, &["worktree", "prune"])?;
        }
        // Nothing is lost with it.
        (None, true) if is_empty(folder) => {}
        (None, true) => {
            let why = format!(
                "{path} is in the way: it is no worktree of ours (move it away, and retry)"
            );
            return Err(GitError::Refused(why));
        }
        (None, false) => {}
    }
    write_mark(&making)?;
    let added = add_worktree(git, clone, folder, branch, base);
    if added.is_err() && !folder.exists() {
        // Nothing is left of it, and what comes there is somebody's.
        let _ = fs::remove_file(&making);
    }
    added?;
    failpoint::here("worktree_added");
    let own = git.run(folder, &["rev-parse", "--absolute-git-dir"])?;
    write_mark(&Path::new(own.trim_end()).join(WHOLE))?;
    fs::remove_file(&making)
        .map_err(|error| refused(&format!("remove {}", making.display()), &error))
}

fn write_mark(path: &Path) -> Result<(), GitError> {
    write_whole(path, b"").map_err(|error| refused(&format!("write {}", path.display()), &error))
}

fn find_worktree(
    git: &Git<'_>,
    clone: &Path,
    folder: &Path,
) -> Result<Option<WorktreeEntry>, GitError> {
    let listing = git.run(clone, &["worktree", "list", "--porcelain", "-z"])?;
    Ok(parse_worktrees(&listing).into_iter().find(|entry| entry.folder == folder))
}

fn add_worktree(
    git: &Git<'_>,
    clone: &Path,
    folder: &Path,
    branch: &str,
    base: &str,
) -> Result<(), GitError> {
    let path = folder.to_string_lossy();
    let head = format!("refs/heads/{branch}");
    let exists = git.ask(clone, &["rev-parse", "--verify", "--quiet", &head])?.is_some();
    let mut add = vec!["worktree", "add", "--quiet", "--lock", "--reason", LOCKED_BY];
    // Work that was pushed goes on where it was, also after `destroy` and on another machine.
    let pushed = format!("refs/remotes/origin/{branch}");
    let is_pushed = || git.ask(clone, &["rev-parse", "--verify", "--quiet", &pushed]);
    if exists {
        add.extend([&*path, branch]);
    } else if is_pushed()?.is_some() {
        add.extend(["--no-track", "-b", branch, &path, &pushed]);
    } else {
        add.extend(["--no-track", "-b", branch, &path, base]);
    }
    git.run(clone, &add).map(drop)
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// A git that was killed leaves its lock on the index, on HEAD or on the branch, and every later one
/// fails on it. It is removed when nobody works in the folder.
fn clear_lock(lock: &Path, folder: &Path) -> Result<(), GitError> {
    if !lock.exists() {
        return Ok(());
    }
    match tree::somebody_in(folder) {
        Ok(None) => {
            tracing::warn!(lock = %lock.display(), "left by a git that was killed: removed");
            let what = format!("remove {}", lock.display());
            fs::remove_file(lock).map_err(|error| refused(&what, &error))
        }
        Ok(Some(_)) => {
            tracing::warn!(lock = %lock.display(), "is there, and so is somebody: left alone");
            Ok(())
        }
        Err(error) => Err(refused("look who works in the worktree", &error)),
    }
}
