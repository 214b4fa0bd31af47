//! A git folder of kugetsu's own, for one look at a clone: git reads the clone's objects by it, and
//! none of the clone's configuration, hooks, references or attributes.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::git::Oid;
use crate::git::call::{Call, Git};
use crate::git::trouble::{self, GitError};
use crate::job::limits;

/// A HEAD that is on no branch.
pub(super) const NO_HEAD: &str = "ref: refs/heads/nothing\n";

/// What a git folder of kugetsu's own is told. Nothing in it can be planted: neither an agent nor a
/// repository writes there.
pub(super) const CONFIG: &str = "\
[core]
\trepositoryformatversion = 0
\tbare = true
\tcommitGraph = false
\tmultiPackIndex = false
\tlogAllRefUpdates = false
\tfilesRefLockTimeout = 10000
\tpackedRefsTimeout = 10000
\tuntrackedCache = false
\tsplitIndex = false
\tsparseCheckout = false
[index]
\tsparse = false
[gc]
\tauto = 0
";

/// A git folder for one look. It is gone when this value is.
#[derive(Debug)]
pub(super) struct Looker {
    folder: TempDir,
}

impl Looker {
    /// Makes one below `looks` that has the objects of these folders.
    pub fn new(looks: &Path, objects: &[&Path]) -> Result<Looker, GitError> {
        make(looks, objects).map_err(|error| trouble::cannot("make a folder for a look", &error))
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A call of git in it.
    pub fn call<'g>(&self, git: &Git<'g>, verb: &str) -> Call<'g> {
        git.call(self.folder.path(), verb)
    }

    /// Makes HEAD name a commit.
    pub fn set_head(&self, oid: &Oid) -> Result<(), GitError> {
        self.write("HEAD", format!("{oid}\n").as_bytes())
    }

    /// Writes a file of it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), GitError> {
        fs::write(self.folder.path().join(name), bytes)
            .map_err(|error| trouble::cannot("write a folder for a look", &error))
    }
}

fn make(looks: &Path, objects: &[&Path]) -> io::Result<Looker> {
    DirBuilder::new().recursive(true).mode(0o700).create(looks)?;
    let folder = tempfile::Builder::new().prefix("look-").tempdir_in(looks)?;
    write_git_folder(folder.path(), objects)?;
    fs::create_dir(folder.path().join("info"))?;
    Ok(Looker { folder })
}

/// Writes the files that make a folder a git folder, whose objects are others' too.
pub(super) fn write_git_folder(folder: &Path, objects: &[&Path]) -> io::Result<()> {
    for name in ["objects/info", "objects/pack", "refs/heads"] {
        DirBuilder::new().recursive(true).mode(0o700).create(folder.join(name))?;
    }
    for (name, bytes) in [
        ("HEAD", NO_HEAD.as_bytes()),
        ("config", CONFIG.as_bytes()),
        ("objects/info/alternates", &alternates(objects)?),
    ] {
        write_new(&folder.join(name), bytes)?;
    }
    Ok(())
}

/// Writes a file under a name that is free.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<fs::File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

/// What `objects/info/alternates` says for these folders.
pub(super) fn alternates(objects: &[&Path]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for folder in objects {
        let bytes = folder.as_os_str().as_bytes();
        // Git would take these for something else than a path.
        if !folder.is_absolute() || bytes.contains(&b'\n') {
            let why = format!("git cannot be told of the path {}", folder.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        lines.extend_from_slice(bytes);
        lines.push(b'\n');
    }
    Ok(lines)
}

/// Removes what killed processes left below `looks`.
pub(crate) fn sweep_looks(looks: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(looks) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.take(limits::ENTRIES_READ_MAX) {
        let path: PathBuf = entry?.path();
        // The age by the file system's own clock would need a file of now: what is older than a day
        // by this machine's is old enough.
        let age = path.symlink_metadata().and_then(|metadata| metadata.modified());
        let is_old = age.is_ok_and(|modified| {
            modified.elapsed().is_ok_and(|age| age > Duration::from_millis(limits::LOOK_MS_MAX))
        });
        if is_old {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}
