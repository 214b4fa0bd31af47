//! What would be lost with a clone: whatever in it is nowhere else.
//!
//! Commits are saved if the mirror's view of the remote has them, or what they do: the clone's own
//! references to a remote are the agent's to write. Files are saved if the last commit has them,
//! or if they lie below a folder that can be made again. What cannot be told is not saved.

mod commits;
mod files;
mod large;
mod nested;

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use self::nested::Nested;
use crate::git::Oid;
use crate::git::call::Git;
use crate::git::changes::{Changes, Files, Patience};
use crate::git::evidence::LookError;
use crate::git::folder::{Entry, Folder, Kind, Next, Reach, Seen, Unreadable, walk};
use crate::git::looker::Looker;
use crate::git::refs::CloneRefs;
use crate::job::limits;

/// What kind of thing would be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// Commits that no branch of the remote has.
    Commits,
    /// Changes that were put away with `git stash`.
    Stash,
    /// A file of the last commit, or of the index, that is not as it was.
    Change,
    /// A file or a folder that git does not know.
    Untracked,
    /// A file or a folder that is ignored, and not below one that can be made again.
    Ignored,
    /// A repository in the clone.
    Repository,
    /// A submodule with something in it that its own remote does not have, or that cannot be told.
    Submodule,
    /// A worktree that was added to the clone.
    Worktree,
    /// A file of git-lfs that may never have been pushed.
    LargeFile,
    /// A merge, a rebase or the like that is half done.
    HalfDone,
    /// Not looked at, so not known to be saved.
    Unseen,
}

impl Loss {
    /// One word, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Loss::Commits => "commits",
            Loss::Stash => "stash",
            Loss::Change => "change",
            Loss::Untracked => "untracked",
            Loss::Ignored => "ignored",
            Loss::Repository => "repository",
            Loss::Submodule => "submodule",
            Loss::Worktree => "worktree",
            Loss::LargeFile => "large_file",
            Loss::HalfDone => "half_done",
            Loss::Unseen => "unseen",
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Loss::Commits => "commits that are on no branch of the remote",
            Loss::Stash => "a stash",
            Loss::Change => "a change without a commit",
            Loss::Untracked => "an untracked file",
            Loss::Ignored => "an ignored file",
            Loss::Repository => "a repository",
            Loss::Submodule => "work in a submodule",
            Loss::Worktree => "a worktree",
            Loss::LargeFile => "a file of git-lfs that may not be pushed",
            Loss::HalfDone => "something half done",
            Loss::Unseen => "something that was not looked at",
        })
    }
}

/// Something that would be lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unsaved {
    pub what: Loss,
    /// A path in the clone, a reference, or words. Bytes that are no UTF-8 are shown as `\u{fffd}`.
    pub name: String,
    pub bytes: u64,
    /// How many commits, files or entries it stands for; more than 1 if several lie together.
    pub count: u64,
}

/// What is known that helps to tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Saved<'s> {
    /// The mirror: its objects.
    pub mirror: &'s Path,
    /// All tips of the remote, as the mirror has them. Not the evidence: it goes with the clone.
    pub known: &'s [Oid],
    /// The tip of the base branch.
    pub base: &'s Oid,
    /// Names of folders that can be made again.
    pub disposable: &'s [String],
    /// Changes that were there before any agent was: line endings and the like.
    pub phantoms: Option<&'s Changes>,
}

/// Says what would be lost with a clone. It only reads.
///
/// An error is no permission: what cannot be read is not known to be saved.
pub(crate) fn unsaved(
    git: &Git<'_>,
    looks: &Path,
    clone: &Path,
    saved: &Saved<'_>,
) -> Result<Vec<Unsaved>, LookError> {
    let refs = CloneRefs::read(clone)?;
    let mut found = Found::default();
    if let Some(unfinished) = refs.unfinished {
        found.add(Loss::HalfDone, unfinished.as_str().into(), 0);
    }
    for worktree in &refs.worktrees {
        // It would be left without its repository. Those in the clone are found there.
        let outside = worktree.folder.as_ref().filter(|folder| !folder.starts_with(clone));
        if let Some(folder) = outside.filter(|folder| folder.symlink_metadata().is_ok()) {
            found.add(Loss::Worktree, folder.display().to_string(), 0);
        }
    }
    commits::find(git, looks, clone, &refs, saved, &mut found)?;
    let files = Files::new(looks, clone, &refs, Patience::default())?;
    let nested = nested::find(clone, &mut found)?;
    nested::judge(git, looks, clone, &refs, &files, &nested, &mut found)?;
    files::find(git, clone, &files, &nested, saved, &mut found)?;
    large::find(git, looks, clone, &refs, saved, &mut found)?;
    Ok(found.into_list())
}

/// How many commits of a clone the base does not have.
pub(crate) fn ahead(
    git: &Git<'_>,
    looks: &Path,
    clone: &Path,
    mirror: &Path,
    tip: &Oid,
    base: &Oid,
) -> Result<u32, LookError> {
    let objects = [clone.join(".git/objects"), mirror.join("objects")];
    let looker = Looker::new(looks, &[&objects[0], &objects[1]]).map_err(LookError::Own)?;
    let call = looker.call(git, "rev-list").args(["--count", tip.as_str(), &format!("^{base}")]);
    let count = call.text().map_err(LookError::of_clone)?;
    count.parse().map_err(|_| Unreadable::Passing(format!("git rev-list said {count:?}")).into())
}

/// What was found so far, of each kind to a bound.
#[derive(Debug, Default)]
struct Found {
    list: Vec<Unsaved>,
}

impl Found {
    fn add(&mut self, what: Loss, name: String, bytes: u64) {
        self.add_several(what, name, bytes, 1);
    }

    /// Past the bound for its kind, it is counted with the last one.
    fn add_several(&mut self, what: Loss, name: String, bytes: u64, count: u64) {
        let named = self.list.iter().filter(|unsaved| unsaved.what == what).count();
        if named < limits::UNSAVED_NAMED_MAX {
            self.list.push(Unsaved { what, name, bytes, count });
        } else if let Some(last) = self.list.iter_mut().rfind(|unsaved| unsaved.what == what) {
            last.name = "…".into();
            last.bytes = last.bytes.saturating_add(bytes);
            last.count = last.count.saturating_add(count);
        }
    }

    fn into_list(mut self) -> Vec<Unsaved> {
        self.list.sort();
        self.list
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// What lies under a path of a clone: how much of it, and how many files.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    bytes: u64,
    files: u64,
}

/// What is not measured with the folder that it lies in.
#[derive(Debug, Clone, Copy, Default)]
struct Apart<'a> {
    /// Names of folders that can be made again.
    disposable: &'a [String],
    /// Repositories, which are named by themselves.
    nested: &'a [Nested],
}

impl Apart<'_> {
    fn has(&self, top: &Folder, folder: &Folder, entry: &Entry) -> bool {
        if entry.kind != Kind::Folder {
            return false;
        }
        if self.disposable.iter().any(|name| entry.name == OsStr::new(name)) {
            return true;
        }
        let path = folder.path().join(&entry.name);
        let relative = path.strip_prefix(top.path()).unwrap_or(&path).as_os_str().as_bytes();
        self.nested.iter().any(|nested| nested.path == relative)
    }
}

/// Measures a file, or what lies below a folder and is not apart.
fn measure(top: &Folder, path: &[u8], apart: Apart<'_>) -> Result<Size, Unreadable> {
    let path = Path::new(OsStr::from_bytes(path.strip_suffix(b"/").unwrap_or(path)));
    let mut size = Size::default();
    let Some((folder, name)) = open_above(top, path)? else {
        return Ok(size);
    };
    let folder = folder.as_ref().unwrap_or(top);
    match folder.stat(&name)? {
        None => Ok(size),
        Some(stat) if stat.kind != Kind::Folder => Ok(Size { bytes: stat.bytes, files: 1 }),
        Some(_) => {
            let Some(below) = folder.folder(&name)? else {
                return Ok(size);
            };
            walk(below, TREE, |seen| match seen {
                Seen::Entry { folder, entry, .. } if apart.has(top, folder, entry) => {
                    Ok(Next::Pass)
                }
                Seen::Entry { folder, entry, .. } => {
                    match entry.kind {
                        Kind::File | Kind::Link => {
                            let stat = folder.stat(&entry.name)?;
                            size.bytes += stat.map_or(0, |stat| stat.bytes);
                            size.files += 1;
                        }
                        // There is nothing in them.
                        Kind::Folder | Kind::Pipe | Kind::Socket | Kind::Device => {}
                    }
                    Ok(Next::Enter)
                }
                // It may hold anything.
                Seen::Unseen { .. } => {
                    size.files += 1;
                    Ok(Next::Pass)
                }
            })?;
            Ok(size)
        }
    }
}

/// The folder that a path of a clone lies in (`None` for the clone itself) and its name there;
/// nothing if there is no such folder.
type Above = (Option<Folder>, std::ffi::OsString);

fn open_above(top: &Folder, path: &Path) -> Result<Option<Above>, Unreadable> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    let mut opened: Option<Folder> = None;
    for part in above {
        match opened.as_ref().unwrap_or(top).folder(part)? {
            Some(below) => opened = Some(below),
            None => return Ok(None),
        }
    }
    Ok(Some((opened, name.to_os_string())))
}

/// How far walks through a clone go.
const TREE: Reach =
    Reach { entries_max: limits::TREE_ENTRIES_MAX, depth_max: limits::TREE_DEPTH_MAX };

fn open_clone(clone: &Path) -> Result<Folder, Unreadable> {
    let gone = || Unreadable::NoClone(format!("{} is gone", clone.display()));
    Folder::open(clone)?.ok_or_else(gone)
}

#[cfg(test)]
#[path = "unsaved_tests.rs"]
mod tests;
