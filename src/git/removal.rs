//! Taking a folder away that somebody else has filled: no link is followed, no other disk is
//! entered, and a removal that was interrupted can be finished.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::git::folder::{Entry, Folder, Kind};
use crate::job::limits;
use crate::process::retry_interrupted;

/// What a folder is called while it is being removed.
const REMOVING: &str = ".removing-";

/// Removes a folder and all in it. It is renamed first, so that nobody takes half of it for whole;
/// [`finish_removals`] goes on with what was interrupted. What is gone already is no error.
pub(crate) fn remove_clone(folder: &Path) -> Result<(), String> {
    match folder.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("cannot look at {}: {error}", folder.display())),
        Ok(metadata) if metadata.is_symlink() => {
            return Err(format!(
                "{} is a symbolic link: what it points to is not kugetsu's (remove it by hand)",
                folder.display()
            ));
        }
        Ok(metadata) if !metadata.is_dir() => {
            return Err(format!("{} is no folder", folder.display()));
        }
        Ok(_) => {}
    }
    let renamed = rename_away(folder)?;
    remove_renamed(&renamed)
}

/// Finishes removals that were interrupted in a folder, and says which could not be.
pub(crate) fn finish_removals(parent: &Path) -> Vec<String> {
    let mut failed = Vec::new();
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.take(limits::ENTRIES_READ_MAX) {
        if entry.file_name().as_bytes().starts_with(REMOVING.as_bytes()) {
            failed.extend(remove_renamed(&entry.path()).err());
        }
    }
    failed
}

fn rename_away(folder: &Path) -> Result<PathBuf, String> {
    let name = folder.file_name().unwrap_or_default();
    for number in 0..limits::REMOVE_NAMES_MAX {
        let mut new = OsString::from(REMOVING);
        new.push(format!("{number}-"));
        new.push(name);
        let new = folder.with_file_name(new);
        if new.symlink_metadata().is_ok() {
            continue;
        }
        let failed = |error| format!("cannot rename {}: {error}", folder.display());
        return fs::rename(folder, &new).map(|()| new).map_err(failed);
    }
    let parent = folder.parent().unwrap_or(folder);
    Err(format!("too many unfinished removals are in {}", parent.display()))
}

fn remove_renamed(folder: &Path) -> Result<(), String> {
    let opened = match Folder::open(folder) {
        Ok(Some(opened)) => opened,
        Ok(None) => return Ok(()),
        Err(_) => {
            // It may not be entered; it may be allowed to oneself.
            let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
            let again = Folder::open(folder).map_err(|error| error.why().to_string())?;
            match again {
                Some(opened) => opened,
                None => return Ok(()),
            }
        }
    };
    let mut removal = Removal { top: &opened, device: device_of(&opened)?, moved: 0 };
    removal.empty(&opened, 0)?;
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", folder.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn device_of(folder: &Folder) -> Result<u64, String> {
    let stat = folder.stat(".").map_err(|error| error.why().to_string())?;
    stat.map(|stat| stat.device).ok_or_else(|| format!("{} is gone", folder.path().display()))
}

/// The removal of one tree.
struct Removal<'r> {
    top: &'r Folder,
    device: u64,
    /// Folders that lay too deep and were moved up.
    moved: u64,
}

impl Removal<'_> {
    /// Removes all that is in a folder.
    fn empty(&mut self, folder: &Folder, depth: usize) -> Result<(), String> {
        loop {
            let listed = folder.entries_up_to(limits::REMOVE_BATCH_MAX);
            let (entries, _) = listed.map_err(|error| error.why().to_string())?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in &entries {
                match entry.kind {
                    Kind::Folder => self.remove_folder(folder, &entry.name, depth)?,
                    Kind::File | Kind::Link | Kind::Pipe | Kind::Socket | Kind::Device => {
                        unlink(folder, entry, UnlinkatFlags::NoRemoveDir)?;
                    }
                }
            }
        }
    }

    fn remove_folder(&mut self, above: &Folder, name: &OsStr, depth: usize) -> Result<(), String> {
        if depth == limits::REMOVE_DEPTH_MAX {
            return self.move_up(above, name);
        }
        let path = above.path().join(name);
        let below = match above.folder(name) {
            Ok(Some(below)) => Some(below),
            Ok(None) => return Ok(()),
            Err(_) => {
                allow(above, name)?;
                above.folder(name).map_err(|error| error.why().to_string())?
            }
        };
        if let Some(below) = below {
            if device_of(&below)? != self.device {
                return Err(format!("{} is another disk's (unmount it first)", path.display()));
            }
            self.empty(&below, depth + 1)?;
        }
        let entry = Entry { name: name.to_os_string(), kind: Kind::Folder };
        unlink(above, &entry, UnlinkatFlags::RemoveDir)
    }

    /// To be removed from there: each folder on the way holds a descriptor.
    fn move_up(&mut self, above: &Folder, name: &OsStr) -> Result<(), String> {
        let failed = |errno: Errno| {
            format!("cannot move {}: {}", above.path().join(name).display(), errno.desc())
        };
        for _ in 0..limits::REMOVE_NAMES_MAX {
            self.moved += 1;
            let new = format!("{REMOVING}deep-{}", self.moved);
            if matches!(self.top.stat(&new), Ok(None)) {
                return renameat(above.as_fd(), name, self.top.as_fd(), new.as_str())
                    .map_err(failed);
            }
        }
        Err(failed(Errno::EEXIST))
    }
}

/// Removes a name, and allows it to oneself first if that is what it takes.
fn unlink(folder: &Folder, entry: &Entry, flags: UnlinkatFlags) -> Result<(), String> {
    let remove = || {
        let removed = retry_interrupted(|| unlinkat(folder.as_fd(), entry.name.as_os_str(), flags));
        match removed {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    };
    let removed = match remove() {
        Err(Errno::EACCES) => {
            let mode = Mode::S_IRWXU;
            let allowed = nix::sys::stat::fchmod(folder.as_fd(), mode);
            allowed.and_then(|()| remove())
        }
        result => result,
    };
    removed.map_err(|errno| {
        let path = folder.path().join(&entry.name);
        let advice = match errno {
            Errno::EPERM => " (is it immutable? `chattr -i`, or is it another user's)",
            Errno::EBUSY => " (is something mounted there?)",
            _ => "",
        };
        format!("cannot remove {}: {}{advice}", path.display(), errno.desc())
    })
}

/// Makes a folder one that its owner may enter.
fn allow(above: &Folder, name: &OsStr) -> Result<(), String> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let path = above.path().join(name);
    let failed = |why: String| format!("cannot enter {}: {why}", path.display());
    let opened = openat(above.as_fd(), name, flags, Mode::empty())
        .map_err(|errno| failed(errno.desc().into()))?;
    // The only name for just this folder: its path may lead elsewhere by now.
    let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
    fs::set_permissions(link, fs::Permissions::from_mode(0o700))
        .map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
#[path = "removal_tests.rs"]
mod tests;
