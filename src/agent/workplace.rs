//! What lies where an issue was worked on, and taking it away.
//!
//! Nothing that a person or an agent made is removed unless somebody says so: a worktree goes only
//! when it is clean and each of its commits is on a branch of the remote.

use std::fs::File;
use std::path::{Path, PathBuf};

use crossbeam_channel::never;

use crate::agent::AgentSettings;
use crate::agent::git::{Git, GitError};
use crate::agent::repository;
use crate::job::{IssueRef, limits};
use crate::process::tree;

/// The worktree and the branch of an issue, as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workplace {
    /// Where the worktree is, or would be.
    pub folder: PathBuf,
    /// Whether it is there.
    pub is_there: bool,
    /// The issue's branch, if it is there.
    pub branch: Option<String>,
    /// Commits that the base does not have; `None` where there is no base to compare with.
    pub ahead: Option<u32>,
    /// Commits that no branch of the remote has, as far as this clone has heard of it.
    pub unpushed: u32,
    /// Whether there are changes without a commit, untracked files included.
    pub is_dirty: bool,
}

impl Workplace {
    /// Inspects it: only reads, and waits for nobody.
    pub fn inspect(settings: &AgentSettings, issue: &IssueRef) -> Result<Workplace, String> {
        let nothing = File::open("/dev/null").map_err(|error| error.to_string())?;
        let git = Git {
            lock: &nothing,
            stop: &never(),
            timeout_ms: limits::GIT_INSPECT_MS_MAX,
            guard: None,
        };
        inspect(settings, issue, &git).map_err(in_words)
    }

    /// Whether there is anything at all.
    pub fn is_empty(&self) -> bool {
        !self.is_there && self.branch.is_none()
    }

    /// What would be lost with it, if anything.
    pub fn unsaved_work(&self) -> Option<String> {
        let commits = match self.unpushed {
            0 => None,
            1 => Some("1 commit that is on no branch of the remote".to_string()),
            count => Some(format!("{count} commits that are on no branch of the remote")),
        };
        let changes = self.is_dirty.then(|| "changes without a commit".to_string());
        let both: Vec<String> = [changes, commits].into_iter().flatten().collect();
        (!both.is_empty()).then(|| format!("it has {}", both.join(", and ")))
    }
}

/// Takes worktree and branch of an issue away, or says why they are kept. What is gone already is
/// no reason.
///
/// `is_free` is asked while the repository is locked, so that no worker can begin to work there
/// between the question and the removal. With `force`, unsaved work goes too.
pub fn remove_workplace(
    settings: &AgentSettings,
    issue: &IssueRef,
    force: bool,
    is_free: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let patience_ms = limits::REPOSITORY_BUSY_MS_MAX;
    let lock = repository::lock(settings, issue, &never(), patience_ms).map_err(in_words)?;
    is_free()?;
    let git = Git {
        lock: &lock,
        stop: &never(),
        timeout_ms: limits::GIT_MS_MAX,
        guard: Some(&settings.shim),
    };
    let place = inspect(settings, issue, &git).map_err(in_words)?;
    if let Some(unsaved) = place.unsaved_work().filter(|_| !force) {
        return Err(unsaved);
    }
    if place.is_there && !force {
        let somebody = tree::somebody_in(&place.folder).map_err(|error| error.to_string())?;
        if let Some(pid) = somebody {
            return Err(format!("process {pid} works in it"));
        }
    }
    remove(&git, &settings.clone_of(issue), &place, force).map_err(in_words)
}

/// In this order, so that it can be done again after a crash at any step: the branch, and with it
/// the commits, goes last.
fn remove(git: &Git<'_>, clone: &Path, place: &Workplace, force: bool) -> Result<(), GitError> {
    let folder = place.folder.to_string_lossy();
    if place.is_there {
        git.ask(clone, &["worktree", "unlock", &folder])?;
        let mut remove = vec!["worktree", "remove"];
        if force {
            remove.push("--force");
        }
        remove.push(&folder);
        if let Err(error) = git.run(clone, &remove) {
            // Locked, as all that kugetsu works with.
            git.ask(clone, &["worktree", "lock", "--reason", repository::LOCKED_BY, &folder])?;
            return Err(error);
        }
    }
    if let Some(branch) = &place.branch {
        if !place.is_there {
            git.ask(clone, &["worktree", "unlock", &folder])?;
            git.run(clone, &["worktree", "prune"])?;
        }
        git.run(clone, &["branch", "--quiet", "-D", branch])?;
    }
    Ok(())
}

fn inspect(
    settings: &AgentSettings,
    issue: &IssueRef,
    git: &Git<'_>,
) -> Result<Workplace, GitError> {
    let clone = settings.clone_of(issue);
    let folder = settings.worktree(issue);
    let mut place = Workplace {
        is_there: folder.is_dir(),
        folder,
        branch: None,
        ahead: None,
        unpushed: 0,
        is_dirty: false,
    };
    if !clone.is_dir() {
        return match place.is_there {
            true => Err(GitError::Refused(format!("its clone {} is gone", clone.display()))),
            false => Ok(place),
        };
    }
    let branch = issue.branch();
    let head = format!("refs/heads/{branch}");
    if git.ask(&clone, &["rev-parse", "--verify", "--quiet", &head])?.is_some() {
        place.branch = Some(branch);
    }
    let mut tips = Vec::new();
    if place.is_there {
        tips.push(git.run(&place.folder, &["rev-parse", "--verify", "HEAD"])?.trim().to_string());
        place.is_dirty = !git.run(&place.folder, &["status", "--porcelain"])?.trim().is_empty();
    }
    if place.branch.is_some() {
        tips.push(head);
    }
    if !tips.is_empty() {
        place.unpushed = count(git, &clone, &tips, "--remotes=origin")?;
        if let Ok(base) = repository::find_base(settings, git, &clone) {
            place.ahead = Some(count(git, &clone, &tips, &base)?);
        }
    }
    Ok(place)
}

/// Commits of these tips that the others do not have.
fn count(git: &Git<'_>, clone: &Path, tips: &[String], others: &str) -> Result<u32, GitError> {
    let mut arguments = vec!["rev-list", "--count"];
    arguments.extend(tips.iter().map(String::as_str));
    arguments.extend(["--not", others]);
    let said = git.run(clone, &arguments)?;
    said.trim().parse().map_err(|_| GitError::Refused(format!("git rev-list said {said:?}")))
}

pub(super) fn in_words(error: GitError) -> String {
    match error {
        GitError::Network(why) | GitError::Refused(why) => why,
        GitError::Stopped(_) => "it was told to stop".into(),
    }
}
