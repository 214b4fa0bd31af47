//! Repositories in a clone: submodules, clones, worktrees; also below ignored folders.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Apart, Found, Loss, TREE, measure, open_above, open_clone, shown};
use crate::git::Oid;
use crate::git::call::Git;
use crate::git::changes::{Files, Patience, pointed_at};
use crate::git::evidence::LookError;
use crate::git::folder::{Folder, Kind, Next, Seen, Unreadable, walk};
use crate::git::looker::Looker;
use crate::git::patches::{CommitKind, Comparison};
use crate::git::refs::{self, CloneRefs};
use crate::git::unfinished::Unfinished;
use crate::job::limits;

/// A repository in the clone, by the folder that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nested {
    pub path: Vec<u8>,
    pub is_worktree: bool,
}

/// Finds all of them, and names what could not be looked at.
pub(super) fn find(clone: &Path, found: &mut Found) -> Result<Vec<Nested>, LookError> {
    let mut nested = Vec::new();
    let relative =
        |path: &Path| path.strip_prefix(clone).unwrap_or(path).as_os_str().as_bytes().to_vec();
    walk(open_clone(clone)?, TREE, |seen| match seen {
        Seen::Entry { entry, depth: 0, .. } if entry.name == ".git" => Ok(Next::Pass),
        Seen::Entry { folder, entry, .. } if entry.name == ".git" => {
            nested.push(Nested {
                path: relative(folder.path()),
                is_worktree: entry.kind == Kind::File && is_worktree(folder),
            });
            Ok(Next::Pass)
        }
        Seen::Entry { folder, entry, depth } if entry.name == "HEAD" && depth > 0 => {
            if entry.kind == Kind::File && folder.has("objects")? && folder.has("refs")? {
                nested.push(Nested { path: relative(folder.path()), is_worktree: false });
            }
            Ok(Next::Enter)
        }
        Seen::Entry { .. } => Ok(Next::Enter),
        Seen::Unseen { path, .. } => {
            // Also below a folder that can be made again: there may be a repository in it.
            found.add(Loss::Unseen, shown(&relative(&path)), 0);
            Ok(Next::Pass)
        }
    })?;
    Ok(nested)
}

/// Whether a `.git` file leads to where git keeps its worktrees.
fn is_worktree(folder: &Folder) -> bool {
    let bytes = folder.read(".git", limits::GIT_FILE_BYTES_MAX).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.contains("/.git/worktrees/")
}

/// Names each with something of its own, as far as that can be told without its configuration. A
/// repository that is no submodule is always named: nobody knows whether its remote has all of it.
pub(super) fn judge(
    git: &Git<'_>,
    looks: &Path,
    clone: &Path,
    refs: &CloneRefs,
    files: &Files<'_>,
    nested: &[Nested],
    found: &mut Found,
) -> Result<(), LookError> {
    if nested.is_empty() {
        return Ok(());
    }
    let top = open_clone(clone)?;
    let links = links(git, files)?;
    for (index, nested) in nested.iter().enumerate() {
        let (what, is_saved) = match links.get(&nested.path) {
            _ if nested.is_worktree => {
                // Whose commits they are that are nowhere else is not asked.
                let has_commits = found.list.iter().any(|unsaved| unsaved.what == Loss::Commits);
                let is_saved = !has_commits && is_clean_worktree(git, looks, clone, refs, nested);
                (Loss::Worktree, is_saved)
            }
            Some(oid) if index < limits::SUBMODULES_MAX => {
                (Loss::Submodule, is_saved(git, looks, clone, &top, &nested.path, oid)?)
            }
            Some(_) => (Loss::Submodule, false),
            None => (Loss::Repository, false),
        };
        if !is_saved {
            let size = measure(&top, &nested.path, Apart::default())?;
            found.add_several(what, shown(&nested.path), size.bytes, size.files.max(1));
        }
    }
    Ok(())
}

/// Whether there is nothing in an added worktree but what its commit has: that is judged with the
/// clone's other commits. What cannot be told counts as something to lose.
fn is_clean_worktree(
    git: &Git<'_>,
    looks: &Path,
    clone: &Path,
    refs: &CloneRefs,
    nested: &Nested,
) -> bool {
    let work_tree = clone.join(OsStr::from_bytes(&nested.path));
    let added = refs.worktrees.iter().find(|added| added.folder.as_ref() == Some(&work_tree));
    let Some(added) = added else { return false };
    let look = || {
        let own = refs::open_worktree(clone, added)?;
        let unfinished = own.as_ref().map(Unfinished::find).transpose()?.flatten();
        let files = Files::of_worktree(looks, clone, added, &work_tree, Patience::default())?;
        let is_clean =
            files.status(git)?.is_empty() && super::files::ignored(git, &files)?.is_empty();
        Ok::<bool, LookError>(is_clean && own.is_some() && unfinished.is_none())
    };
    look().unwrap_or_else(|error| {
        tracing::info!(path = %shown(&nested.path), why = error.why(), "cannot be looked at");
        false
    })
}

/// The commits that the index names for submodules.
fn links(git: &Git<'_>, files: &Files<'_>) -> Result<BTreeMap<Vec<u8>, Oid>, LookError> {
    let listing = files.ask(git, "ls-files", &["--stage", "-z"])?;
    let link = |record: &[u8]| {
        let record = record.strip_prefix(b"160000 ")?;
        let tab = record.iter().position(|byte| *byte == b'\t')?;
        let oid = std::str::from_utf8(record.get(..tab)?).ok()?.split(' ').next()?;
        Some((record[tab + 1..].to_vec(), oid.parse().ok()?))
    };
    Ok(listing.split(|byte| *byte == 0).filter_map(link).collect())
}

/// Whether a submodule is as its commit says, and all that it names is what came from its remote.
fn is_saved(
    git: &Git<'_>,
    looks: &Path,
    clone: &Path,
    top: &Folder,
    path: &[u8],
    link: &Oid,
) -> Result<bool, LookError> {
    match try_is_saved(git, looks, clone, top, path, link) {
        // What cannot be told counts as something to lose.
        Err(LookError::Clone(why)) => {
            tracing::info!(path = %shown(path), %why, "a submodule cannot be read");
            Ok(false)
        }
        result => result,
    }
}

fn try_is_saved(
    git: &Git<'_>,
    looks: &Path,
    clone: &Path,
    top: &Folder,
    path: &[u8],
    link: &Oid,
) -> Result<bool, LookError> {
    let relative = Path::new(OsStr::from_bytes(path));
    let Some(own) = open_git_of(top, relative)? else {
        return Ok(false);
    };
    let refs = CloneRefs::read_git(&own)?;
    if refs.head.oid() != Some(link) || refs.unfinished.is_some() || !refs.stashes.is_empty() {
        return Ok(false);
    }
    let (remote, local): (Vec<_>, Vec<_>) =
        refs.tips().into_iter().partition(|tip| tip.name.starts_with("refs/remotes/"));
    let looker = Looker::new(looks, &[&own.path().join("objects")]).map_err(LookError::Own)?;
    let comparison = Comparison { git, folder: looker.folder(), looks };
    let known: Vec<&Oid> = remote.iter().map(|tip| &tip.oid).collect();
    let tips: Vec<&Oid> = local.iter().map(|tip| &tip.oid).chain([link]).collect();
    let commits = comparison.commits(&tips, &known, CommitKind::All).map_err(as_clone)?;
    if !commits.is_empty() {
        return Ok(false);
    }
    let work_tree = clone.join(relative);
    let files = Files::of(looks, &own, &work_tree, &refs, Patience::default())?;
    Ok(files.status(git)?.is_empty() && super::files::ignored(git, &files)?.is_empty())
}

/// A submodule that git cannot read is no damage of kugetsu's own.
fn as_clone(error: LookError) -> LookError {
    match error {
        LookError::Own(error) => LookError::of_clone(error),
        LookError::Clone(_) => error,
    }
}

/// The git folder of a submodule: its own `.git`, or what that points to.
fn open_git_of(top: &Folder, path: &Path) -> Result<Option<Folder>, Unreadable> {
    let Some((above, name)) = open_above(top, path)? else {
        return Ok(None);
    };
    let Some(folder) = above.as_ref().unwrap_or(top).folder(&name)? else {
        return Ok(None);
    };
    match folder.stat(".git")?.map(|stat| stat.kind) {
        Some(Kind::Folder) => folder.folder(".git"),
        Some(Kind::File) => pointed_at(&folder),
        Some(Kind::Link | Kind::Pipe | Kind::Socket | Kind::Device) | None => Ok(None),
    }
}
