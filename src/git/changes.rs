//! What is changed in a clone and not committed, seen by a copy of its index in a git folder of
//! kugetsu's own.
//!
//! Files may look changed that nobody changed: line endings, filters that only the clone knows, a
//! mode that the disk does not keep. So a look tells what is there, and two looks are compared.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::git::Oid;
use crate::git::call::Git;
use crate::git::evidence::LookError;
use crate::git::fingerprint::Fingerprint;
use crate::git::folder::{Folder, Kind, Next, Reach, Seen, Unreadable, walk};
use crate::git::looker::Looker;
use crate::git::refs::{self, AddedWorktree, CloneRefs};
use crate::git::trouble::{self, GitError};
use crate::git::vet;
use crate::job::limits;

/// How a file differs from the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChangeKind {
    /// It is in the last commit or in the index, and not as it was.
    Changed,
    /// Two sides of a merge wait for somebody to settle it.
    Unmerged,
    /// Git does not know it; a folder ends in `/`.
    Untracked,
}

/// A file that differs from the last commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Change {
    /// Bytes that are no UTF-8 are shown as `\u{fffd}`.
    pub path: String,
    pub kind: ChangeKind,
    /// Of what it holds now.
    pub fingerprint: String,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Changes {
    /// The first of them.
    pub entries: Vec<Change>,
    /// All of them.
    pub count: u64,
    /// Of the whole list, which tells two long ones apart.
    pub fingerprint: String,
}

/// What is changed in one look that was not in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Since {
    /// The first of them.
    pub paths: Vec<String>,
    pub count: u64,
}

impl Changes {
    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn is_whole(&self) -> bool {
        self.count == self.entries.len() as u64
    }

    /// What was not there before, or was there and not as it is now.
    pub fn since(&self, before: &Changes) -> Since {
        let known: HashMap<&str, &Change> =
            before.entries.iter().map(|change| (change.path.as_str(), change)).collect();
        let new = |change: &&Change| known.get(change.path.as_str()) != Some(change);
        let paths: Vec<String> =
            self.entries.iter().filter(new).map(|change| change.path.clone()).collect();
        let listed = paths.len() as u64;
        let count = match self.is_whole() && before.is_whole() {
            true => listed,
            false if self.fingerprint == before.fingerprint => listed,
            // What lies beyond the lists is not the same: how many are new is not known, but some.
            false => listed.max(self.count.saturating_sub(before.count)).max(1),
        };
        Since { paths, count }
    }
}

/// How long a look may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until it is looked for what git may wait for.
    pub first_ms: u64,
    /// For a second look, if that is nothing.
    pub second_ms: u64,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { first_ms: limits::CHANGES_MS_FIRST, second_ms: limits::CHANGES_MS_MAX }
    }
}

/// Where the parts of a git folder are.
#[derive(Debug)]
pub(super) struct Parts<'p> {
    pub objects: &'p Path,
    /// Has the `index`.
    pub index: &'p Folder,
    /// Has `info/exclude`.
    pub exclude: &'p Folder,
}

/// A look at the files of a clone.
#[derive(Debug)]
pub(crate) struct Files<'f> {
    work_tree: &'f Path,
    looker: Looker,
    head: Option<Oid>,
    patience: Patience,
}

impl<'f> Files<'f> {
    /// Prepares for looks at a clone that was vetted, with a copy of its index.
    pub fn new(
        looks: &Path,
        clone: &'f Path,
        refs: &CloneRefs,
        patience: Patience,
    ) -> Result<Files<'f>, LookError> {
        Files::of(looks, &vet::open_git(clone)?, clone, refs, patience)
    }

    /// The same for a git folder that lies elsewhere, as a submodule's does.
    pub fn of(
        looks: &Path,
        git: &Folder,
        work_tree: &'f Path,
        refs: &CloneRefs,
        patience: Patience,
    ) -> Result<Files<'f>, LookError> {
        let objects = git.path().join("objects");
        let parts = Parts { objects: &objects, index: git, exclude: git };
        Files::of_parts(looks, &parts, work_tree, refs.head.oid(), patience)
    }

    /// The same where the parts of a git folder lie apart, as those of a worktree do.
    pub(super) fn of_parts(
        looks: &Path,
        parts: &Parts<'_>,
        work_tree: &'f Path,
        head: Option<&Oid>,
        patience: Patience,
    ) -> Result<Files<'f>, LookError> {
        let looker = Looker::new(looks, &[parts.objects]).map_err(LookError::Own)?;
        if let Some(oid) = head {
            looker.set_head(oid).map_err(LookError::Own)?;
        }
        copy_index(parts, &looker)?;
        Ok(Files { work_tree, looker, head: head.cloned(), patience })
    }

    /// The same for a worktree that was added to a vetted clone.
    pub fn of_worktree(
        looks: &Path,
        clone: &Path,
        added: &AddedWorktree,
        work_tree: &'f Path,
        patience: Patience,
    ) -> Result<Files<'f>, LookError> {
        let gone = || Unreadable::NoClone(format!("worktree {} is gone", added.name));
        let git = refs::open_worktree(clone, added)?.ok_or_else(gone)?;
        let objects = clone.join(".git/objects");
        let parts = Parts { objects: &objects, index: &git, exclude: &git };
        Files::of_parts(looks, &parts, work_tree, added.head.oid(), patience)
    }

    /// Runs a git that looks at the files, and gives what it says. An index that git does not take
    /// is made again from the last commit.
    pub fn ask(&self, git: &Git<'_>, verb: &str, arguments: &[&str]) -> Result<Vec<u8>, LookError> {
        let ask = |limit_ms| {
            self.looker
                .call(git, verb)
                .args(arguments)
                .work_tree(self.work_tree)
                .config("core.untrackedCache", "false")
                .config("core.splitIndex", "false")
                .config("status.submoduleSummary", "false")
                .output_max(limits::CHANGES_BYTES_MAX)
                .limit_ms(limit_ms)
                .run()
        };
        let first = match ask(self.patience.first_ms) {
            Err(GitError::Damaged(_) | GitError::Refused(_)) => {
                self.make_index(git)?;
                ask(self.patience.first_ms)
            }
            result => result,
        };
        let again = match first {
            Err(GitError::TimedOut(_)) => {
                find_traps(self.work_tree)?;
                ask(self.patience.second_ms)
            }
            result => result,
        };
        again.map_err(LookError::of_clone)
    }

    /// Makes the index again from the last commit: then nothing in it can hide a change.
    pub fn make_index(&self, git: &Git<'_>) -> Result<(), LookError> {
        let index = self.looker.folder().join("index");
        for file in [index.clone(), index.with_extension("lock")] {
            // What is there still is named by git.
            let _ = std::fs::remove_file(file);
        }
        let Some(head) = &self.head else {
            return Ok(());
        };
        let call = self.looker.call(git, "read-tree").arg(head.as_str());
        call.limit_ms(self.patience.second_ms).run().map(drop).map_err(LookError::of_clone)
    }

    /// What is changed, in the words of git: see [`parse_status`].
    pub fn status(&self, git: &Git<'_>) -> Result<Vec<u8>, LookError> {
        const STATUS: [&str; 5] = [
            "--porcelain=v2",
            "-z",
            "-unormal",
            "--no-renames",
            // What lies in a submodule is looked at by a git that would follow its configuration.
            "--ignore-submodules=dirty",
        ];
        self.ask(git, "status", &STATUS)
    }

    /// What is changed.
    pub fn changes(&self, git: &Git<'_>) -> Result<Changes, LookError> {
        let listing = self.status(git)?;
        let mut sum = Sum::new(self.work_tree)?;
        let mut changes = Changes {
            entries: Vec::new(),
            count: 0,
            fingerprint: Fingerprint::new().with(&listing).to_hex(),
        };
        for (kind, path) in parse_status(&listing) {
            changes.count += 1;
            if changes.entries.len() < limits::CHANGES_KEPT_MAX {
                let fingerprint = sum.of(path);
                let path = String::from_utf8_lossy(path).into_owned();
                changes.entries.push(Change { path, kind, fingerprint });
            }
        }
        Ok(changes)
    }
}

/// What is changed in a clone that was vetted, and not committed.
#[cfg(test)]
pub(crate) fn changes(
    git: &Git<'_>,
    looks: &Path,
    clone: &Path,
    refs: &CloneRefs,
) -> Result<Changes, LookError> {
    Files::new(looks, clone, refs, Patience::default())?.changes(git)
}

/// Copies what git needs of a clone to tell what is changed: an index that is not there or has no
/// beginning of one is made again.
fn copy_index(parts: &Parts<'_>, looker: &Looker) -> Result<(), LookError> {
    // Only what is untracked depends on it.
    if let Some(info) = parts.exclude.folder("info")?
        && let Some(bytes) = info.read("exclude", limits::GIT_FILE_BYTES_MAX)?
    {
        looker.write("info/exclude", &bytes).map_err(LookError::Own)?;
    }
    // A filter is a program, and which file goes through it is what the repository says.
    looker.write("info/attributes", b"* -filter\n").map_err(LookError::Own)?;
    let Some(mut file) = parts.index.file("index")? else {
        return looker.write("index", b"").map_err(LookError::Own);
    };
    let copied = || -> std::io::Result<u64> {
        let modified = file.metadata()?.modified()?;
        let mut copy = std::fs::File::create(looker.folder().join("index"))?;
        let limit = limits::INDEX_BYTES_MAX as u64 + 1;
        let bytes = std::io::copy(&mut std::io::Read::take(&mut file, limit), &mut copy)?;
        // A file as young as the index is compared by what it holds.
        copy.set_modified(modified)?;
        Ok(bytes)
    }();
    match copied {
        Ok(bytes) if bytes > limits::INDEX_BYTES_MAX as u64 => {
            let why = format!("{} is too large", parts.index.path().join("index").display());
            Err(Unreadable::TooLarge(why).into())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(LookError::Own(trouble::cannot("copy an index", &error))),
    }
}

/// Reads `status --porcelain=v2 -z`: what it says of each path.
pub(super) fn parse_status(listing: &[u8]) -> impl Iterator<Item = (ChangeKind, &[u8])> {
    listing.split(|byte| *byte == 0).filter_map(|record| {
        let (kind, fields) = match record.first()? {
            b'1' => (ChangeKind::Changed, 8),
            b'u' => (ChangeKind::Unmerged, 10),
            b'?' => (ChangeKind::Untracked, 1),
            _ => return None,
        };
        let path = record.splitn(fields + 1, |byte| *byte == b' ').nth(fields)?;
        Some((kind, path))
    })
}

/// Makes fingerprints of what paths hold, to a bound for all of them.
struct Sum {
    top: Folder,
    bytes_left: usize,
    entries_left: usize,
}

impl Sum {
    fn new(clone: &Path) -> Result<Sum, Unreadable> {
        let gone = || Unreadable::NoClone(format!("{} is gone", clone.display()));
        Ok(Sum {
            top: Folder::open(clone)?.ok_or_else(gone)?,
            bytes_left: limits::CHANGED_BYTES_MAX,
            entries_left: limits::UNTRACKED_ENTRIES_MAX,
        })
    }

    /// What cannot be read has a fingerprint too: that of why.
    fn of(&mut self, path: &[u8]) -> String {
        let sum = self.try_of(path);
        sum.unwrap_or_else(|why| Fingerprint::new().with(why.why().as_bytes())).to_hex()
    }

    fn try_of(&mut self, path: &[u8]) -> Result<Fingerprint, Unreadable> {
        let path = Path::new(OsStr::from_bytes(path.strip_suffix(b"/").unwrap_or(path)));
        let nothing = Fingerprint::new().with(b"nothing");
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(nothing);
        };
        let mut opened = None;
        for part in above {
            match opened.as_ref().unwrap_or(&self.top).folder(part)? {
                Some(below) => opened = Some(below),
                None => return Ok(nothing),
            }
        }
        let folder = opened.as_ref().unwrap_or(&self.top);
        let Some(stat) = folder.stat(name)? else {
            return Ok(nothing);
        };
        let sum = Fingerprint::new().with(stat.kind.to_string().as_bytes());
        match stat.kind {
            Kind::Link => {
                let target = folder.link(name).map(|target| target.into_os_string().into_vec());
                Ok(sum.with(&target.unwrap_or_default()))
            }
            Kind::File => {
                let size = usize::try_from(stat.bytes).unwrap_or(usize::MAX);
                if size > limits::CHANGED_FILE_BYTES_MAX.min(self.bytes_left) {
                    let modified = stat.modified_ns.to_le_bytes();
                    return Ok(sum.with(&stat.bytes.to_le_bytes()).with(&modified));
                }
                self.bytes_left -= size;
                let bytes = folder.read(name, limits::CHANGED_FILE_BYTES_MAX)?;
                let is_executable = [u8::from(stat.is_executable)];
                Ok(sum.with(&is_executable).with(&bytes.unwrap_or_default()))
            }
            Kind::Folder => match folder.folder(name)? {
                Some(below) => self.of_folder(below, sum),
                None => Ok(nothing),
            },
            Kind::Pipe | Kind::Socket | Kind::Device => Ok(sum),
        }
    }

    /// The names, sizes and times of all that a folder holds.
    fn of_folder(&mut self, folder: Folder, sum: Fingerprint) -> Result<Fingerprint, Unreadable> {
        let mut sum = sum;
        let reach = Reach { entries_max: self.entries_left, depth_max: limits::TREE_DEPTH_MAX };
        walk(folder, reach, |seen| {
            if let Seen::Entry { folder, entry, .. } = seen {
                self.entries_left = self.entries_left.saturating_sub(1);
                sum = sum.with(folder.path().as_os_str().as_bytes()).with(entry.name.as_bytes());
                if entry.kind == Kind::File
                    && let Some(stat) = folder.stat(&entry.name)?
                {
                    let modified = stat.modified_ns.to_le_bytes();
                    sum = sum.with(&stat.bytes.to_le_bytes()).with(&modified);
                }
            }
            Ok(Next::Enter)
        })?;
        Ok(sum)
    }
}

/// Looks for what a git that looks at the files would wait for, and names the first such thing.
fn find_traps(clone: &Path) -> Result<(), Unreadable> {
    let Some(top) = Folder::open(clone)? else {
        return Ok(());
    };
    let reach = Reach { entries_max: limits::TREE_ENTRIES_MAX, depth_max: limits::TREE_DEPTH_MAX };
    walk(top, reach, |seen| {
        let Seen::Entry { folder, entry, depth } = seen else {
            return Ok(Next::Pass);
        };
        let is_read =
            [".gitignore", ".gitattributes", ".gitmodules"].iter().any(|n| entry.name == *n);
        if is_read && is_trap(entry.kind) {
            return Err(trap(&folder.path().join(&entry.name), entry.kind));
        }
        match (entry.name == ".git", entry.kind) {
            (true, Kind::Folder) if depth > 0 => {
                if let Some(nested) = folder.folder(&entry.name)? {
                    find_nested_traps(nested)?;
                }
                Ok(Next::Pass)
            }
            (true, Kind::File) => {
                if let Some(pointed) = pointed_at(folder)? {
                    find_nested_traps(pointed)?;
                }
                Ok(Next::Pass)
            }
            (true, Kind::Folder) => Ok(Next::Pass),
            (true, kind) if is_trap(kind) => Err(trap(&folder.path().join(".git"), kind)),
            (true | false, _) => Ok(Next::Enter),
        }
    })
}

fn is_trap(kind: Kind) -> bool {
    match kind {
        Kind::Pipe | Kind::Socket | Kind::Device => true,
        Kind::File | Kind::Folder | Kind::Link => false,
    }
}

fn trap(path: &Path, kind: Kind) -> Unreadable {
    Unreadable::Hostile(format!("{} is {kind}, for which git waits", path.display()))
}

/// Where a `.git` file says that the repository is.
pub(super) fn pointed_at(folder: &Folder) -> Result<Option<Folder>, Unreadable> {
    let bytes = folder.read(".git", limits::GIT_FILE_BYTES_MAX)?.unwrap_or_default();
    let Some(target) = bytes.strip_prefix(b"gitdir:") else {
        return Ok(None);
    };
    let target = PathBuf::from(OsStr::from_bytes(target.trim_ascii()));
    Folder::open(&folder.path().join(target))
}

/// What git reads of a repository in a folder to tell which commit it is at.
fn find_nested_traps(git: Folder) -> Result<(), Unreadable> {
    const READ: [&str; 4] = ["HEAD", "packed-refs", "commondir", "config"];
    for name in READ {
        if let Some(stat) = git.stat(name)?
            && is_trap(stat.kind)
        {
            return Err(trap(&git.path().join(name), stat.kind));
        }
    }
    let reach = Reach { entries_max: limits::CLONE_REFS_MAX, depth_max: limits::REF_DEPTH_MAX };
    let Some(refs) = git.folder("refs")? else {
        return Ok(());
    };
    walk(refs, reach, |seen| match seen {
        Seen::Entry { folder, entry, .. } if is_trap(entry.kind) => {
            Err(trap(&folder.path().join(&entry.name), entry.kind))
        }
        Seen::Entry { .. } | Seen::Unseen { .. } => Ok(Next::Enter),
    })
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
