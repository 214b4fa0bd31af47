//! What version 0.1.0 worked in: a worktree of one clone that all issues of a repository shared,
//! `repos/<name>.git`.
//!
//! It is only read, by the safe opener. Its `.git` file says where git's own files of it are, and
//! an agent could write that file: no path is taken from it, only the name below `worktrees/`.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::git::call::Git;
use crate::git::changes::{Changes, Files, Parts, Patience};
use crate::git::disk;
use crate::git::evidence::LookError;
use crate::git::folder::{Folder, Kind, Unreadable};
use crate::git::refs::{self, CloneRefs, Head, Reference};
use crate::git::trouble::GitError;
use crate::git::unfinished::Unfinished;
use crate::git::{BranchName, Oid, vet};
use crate::job::limits;

/// Where what is known of the remote begins.
const ORIGIN: &str = "refs/remotes/origin/";

/// A worktree of a shared clone, vetted.
#[derive(Debug)]
pub(crate) struct OldWorktree {
    folder: PathBuf,
    /// The bare repository.
    shared: Folder,
    /// What git keeps in it of this worktree alone.
    own: Folder,
    /// What it would have if it were a clone of its own: its HEAD, its branch, the branches that
    /// its HEAD was on, what is known of the remote. The stash belongs to all, and stays out.
    pub refs: CloneRefs,
}

impl OldWorktree {
    /// Vets and reads one; `None` if the folder's `.git` is not the file of such a worktree.
    pub fn open(
        folder: &Path,
        repository: &Path,
        branch: &BranchName,
    ) -> Result<Option<OldWorktree>, Unreadable> {
        let gone = |path: &Path| Unreadable::NoClone(format!("{} is gone", path.display()));
        let top = Folder::open(folder)?.ok_or_else(|| gone(folder))?;
        if top.stat(".git")?.is_none_or(|stat| stat.kind != Kind::File) {
            return Ok(None);
        }
        let text = top.read(".git", limits::GIT_FILE_BYTES_MAX)?.unwrap_or_default();
        let Some(name) = registered_name(&text, repository) else { return Ok(None) };
        let shared = Folder::open(repository)?.ok_or_else(|| gone(repository))?;
        vet::vet(&shared)?;
        let all = shared.path().join("worktrees");
        let worktrees = shared.folder("worktrees")?.ok_or_else(|| gone(&all))?;
        let own = worktrees.folder(&name)?.ok_or_else(|| gone(&all.join(&name)))?;
        let refs = read_refs(&shared, &worktrees, &own, &name, branch)?;
        Ok(Some(OldWorktree { folder: folder.into(), shared, own, refs }))
    }

    /// Where its objects are.
    pub fn objects(&self) -> PathBuf {
        self.shared.path().join("objects")
    }

    /// The branches of the remote as the shared clone last heard of them.
    pub fn remote_branches(&self) -> Vec<(BranchName, Oid)> {
        let branch_of = |reference: &Reference| {
            let branch = reference.name.strip_prefix(ORIGIN)?.parse().ok()?;
            Some((branch, reference.oid.clone()))
        };
        self.refs.refs.iter().filter_map(branch_of).collect()
    }

    /// What is changed in it and not committed, seen as that of any clone.
    pub fn changes(&self, git: &Git<'_>, looks: &Path) -> Result<Changes, LookError> {
        let objects = self.objects();
        let parts = Parts { objects: &objects, index: &self.own, exclude: &self.shared };
        let head = self.refs.head.oid();
        Files::of_parts(looks, &parts, &self.folder, head, Patience::default())?.changes(git)
    }
}

/// Where an old worktree is from when it was moved until its issue has a clone.
pub(crate) fn moving(folder: &Path) -> PathBuf {
    with_ending(folder, ".moving")
}

/// Moves it out of the way. Nothing of it is changed.
pub(crate) fn begin_move(folder: &Path) -> Result<(), GitError> {
    disk::rename_durably(folder, &moving(folder))
}

/// Gives a worktree that was moved the name that it keeps, and says which; `None` if none was.
pub(crate) fn end_move(folder: &Path) -> Result<Option<PathBuf>, GitError> {
    let from = moving(folder);
    if fs::symlink_metadata(&from).is_err() {
        return Ok(None);
    }
    for number in 1..=limits::CLONES_SET_ASIDE_MAX {
        let ending = if number == 1 { ".old".into() } else { format!(".old-{number}") };
        let to = with_ending(folder, &ending);
        if fs::symlink_metadata(&to).is_err() {
            disk::rename(&from, &to)?;
            return Ok(Some(to));
        }
    }
    Err(GitError::Refused(format!(
        "{} of {} are there already (look at them, and remove them)",
        limits::CLONES_SET_ASIDE_MAX,
        with_ending(folder, ".old-*").display()
    )))
}

fn with_ending(folder: &Path, ending: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push(ending);
    folder.with_file_name(name)
}

/// The name that the shared clone knows a worktree by, from the text of its `.git` file. Where
/// kugetsu's folder was when that was written does not matter.
fn registered_name(text: &[u8], repository: &Path) -> Option<OsString> {
    let target = text.strip_prefix(b"gitdir:")?.trim_ascii();
    let target = Path::new(OsStr::from_bytes(target));
    let mut parts = target.components().rev();
    let Component::Normal(name) = parts.next()? else { return None };
    let expected = [OsStr::new("worktrees"), repository.file_name()?, OsStr::new("repos")];
    let is_ours = expected.into_iter().all(|part| parts.next() == Some(Component::Normal(part)));
    (is_ours && !name.as_bytes().contains(&0)).then(|| name.to_os_string())
}

fn read_refs(
    shared: &Folder,
    worktrees: &Folder,
    own: &Folder,
    name: &OsStr,
    branch: &BranchName,
) -> Result<CloneRefs, Unreadable> {
    let heads = refs::read_below(shared, "refs/heads")?;
    let head = read_head(own, &heads)?;
    let visited = visited(own)?;
    let others = branches_of_others(worktrees, name)?;
    let own_branch = branch.to_ref();
    let is_own = |(name, oid): &(String, Oid)| {
        *name == own_branch || visited.contains(oid) && !others.contains(name)
    };
    let mut all: Vec<(String, Oid)> = heads.into_iter().filter(is_own).collect();
    all.extend(refs::read_below(shared, "refs/remotes")?);
    let (mut pushed, mut fetched) = (BTreeSet::new(), BTreeSet::new());
    refs::read_remote_logs(shared, &mut pushed, &mut fetched)?;
    // What the agents of other issues pushed is others' work.
    fetched.extend(pushed.iter().filter(|oid| !visited.contains(*oid)).cloned());
    pushed.retain(|oid| visited.contains(oid));
    Ok(CloneRefs {
        head,
        refs: all.into_iter().map(|(name, oid)| Reference { name, oid }).collect(),
        stashes: Vec::new(),
        worktrees: Vec::new(),
        unfinished: Unfinished::find(own)?,
        pushed,
        fetched,
    })
}

fn read_head(own: &Folder, heads: &[(String, Oid)]) -> Result<Head, Unreadable> {
    let no_head = || {
        let path = own.path().join("HEAD");
        Unreadable::NoClone(format!("{} names neither a branch nor a commit", path.display()))
    };
    let bytes = own.read("HEAD", limits::REF_BYTES_MAX)?.ok_or_else(no_head)?;
    let text = std::str::from_utf8(bytes.trim_ascii()).map_err(|_| no_head())?;
    if let Some(name) = text.strip_prefix("ref:") {
        let branch = BranchName::from_ref(name.trim_start()).ok_or_else(no_head)?.to_ref();
        let oid = heads.iter().find(|(name, _)| *name == branch).map(|(_, oid)| oid.clone());
        return Ok(Head::On(branch, oid));
    }
    text.parse().map(Head::Detached).map_err(|_| no_head())
}

/// All commits that its HEAD was at.
fn visited(own: &Folder) -> Result<BTreeSet<Oid>, Unreadable> {
    let Some(logs) = own.folder("logs")? else { return Ok(BTreeSet::new()) };
    let bytes = logs.read("HEAD", limits::REFLOG_BYTES_MAX)?.unwrap_or_default();
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| refs::parse_log_line(line).map(|(oid, _)| oid)).collect())
}

/// The branches that other worktrees are on.
fn branches_of_others(worktrees: &Folder, name: &OsStr) -> Result<BTreeSet<String>, Unreadable> {
    let mut branches = BTreeSet::new();
    for entry in worktrees.entries(limits::ENTRIES_READ_MAX)? {
        if entry.name == name || entry.kind != Kind::Folder {
            continue;
        }
        let Some(other) = worktrees.folder(&entry.name)? else { continue };
        // One that is damaged is the trouble of its own issue.
        if let Ok(Head::On(branch, _)) = read_head(&other, &[]) {
            branches.insert(branch);
        }
    }
    Ok(branches)
}

#[cfg(test)]
#[path = "old_layout_tests.rs"]
mod tests;
