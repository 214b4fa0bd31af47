//! Files and folders of mirrors and clones: moved, removed, copied, and put on disk.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use nix::errno::Errno;
use nix::libc;
use nix::unistd::syncfs;

use crate::git::trouble::{self, GitError};
use crate::job::limits;

/// Reads a small text that a git of ours wrote; no link is followed and nothing is waited for.
pub(super) fn read_small(path: &Path) -> io::Result<String> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{} is no file", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(limits::RECORD_BYTES_MAX).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// Moves a folder to another name beside it, which lasts when this returns.
pub(super) fn rename_durably(from: &Path, to: &Path) -> Result<(), GitError> {
    rename(from, to)?;
    sync_folder_of(to).map_err(|error| trouble::cannot(&format!("sync {}", to.display()), &error))
}

/// Moves a folder to another name beside it.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), GitError> {
    fs::rename(from, to).map_err(|error| {
        trouble::cannot(&format!("rename {} to {}", from.display(), to.display()), &error)
    })
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?.sync_all()
}

/// Removes what kugetsu itself made and nobody worked in. It is no error that it is not there.
pub(super) fn remove_all(path: &Path) -> Result<(), GitError> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.map_err(|error| trouble::cannot(&format!("remove {}", path.display()), &error))
}

/// Puts everything on disk that was written to a path's file system, or gives up after a while: a
/// disk that slow has other writers, and what a power loss damages is made again at no cost.
pub(super) fn sync_file_system(path: &Path) {
    let (sender, done) = bounded(1);
    let own = path.to_path_buf();
    let started = thread::Builder::new().name("sync".into()).spawn(move || {
        let synced = File::open(&own).and_then(|folder| Ok(syncfs(&folder)?));
        // Nobody listens any more if it took too long.
        let _ = sender.send(synced);
    });
    let patience = Duration::from_millis(limits::SYNC_MS_MAX);
    match started.map(|_| done.recv_timeout(patience)) {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) | Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot be synced");
        }
        Ok(Err(_)) => tracing::warn!(path = %path.display(), "the disk is too slow to sync it now"),
    }
}

/// Puts a small tree on disk, file by file: others may have much to write to the same file system.
pub(super) fn sync_tree(root: &Path) -> Result<(), GitError> {
    let failed = |error| trouble::cannot(&format!("sync {}", root.display()), &error);
    let mut folders = vec![root.to_path_buf()];
    let mut synced = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            synced += 1;
            if synced > limits::ENTRIES_LOOKED_AT_MAX {
                return Err(failed(io::Error::other("it has too many files")));
            }
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                File::open(entry.path()).and_then(|file| file.sync_all()).map_err(failed)?;
            }
        }
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(())
}

/// Removes locks that a killed git left in a bare repository, and says how many there were.
/// Whoever calls it holds the repository's lock.
pub(super) fn clear_locks(repository: &Path) -> Result<usize, GitError> {
    let failed =
        |error| trouble::cannot(&format!("clear locks in {}", repository.display()), &error);
    let mut cleared = 0;
    let mut folders = vec![(repository.to_path_buf(), false), (repository.join("refs"), true)];
    folders.push((repository.join("objects/info"), false));
    folders.push((repository.join("objects/pack"), false));
    let mut looked_at = 0;
    while let Some((folder, is_deep)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            looked_at += 1;
            if looked_at > limits::ENTRIES_LOOKED_AT_MAX {
                return Ok(cleared);
            }
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() && is_deep {
                folders.push((entry.path(), true));
            } else if !kind.is_dir() && entry.file_name().as_encoded_bytes().ends_with(b".lock") {
                tracing::warn!(lock = %entry.path().display(), "left by a git that was killed: removed");
                fs::remove_file(entry.path()).map_err(failed)?;
                cleared += 1;
            }
        }
    }
    Ok(cleared)
}

/// Removes packs whose making was cut off.
pub(super) fn clear_temporary_packs(packs: &Path) -> Result<(), GitError> {
    let failed = |error| trouble::cannot(&format!("tidy up {}", packs.display()), &error);
    for entry in fs::read_dir(packs).map_err(failed)?.take(limits::ENTRIES_LOOKED_AT_MAX) {
        let entry = entry.map_err(failed)?;
        let is_file = entry.file_type().map_err(failed)?.is_file();
        if is_file && entry.file_name().as_encoded_bytes().starts_with(b"tmp_") {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Copies all objects of a repository to another one, or links them where that is wanted and the
/// file system can. What git did not finish is left out.
pub(super) fn copy_objects(from: &Path, to: &Path, links: bool) -> io::Result<()> {
    let mut folders = vec![PathBuf::new()];
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        fs::create_dir_all(to.join(&folder))?;
        for entry in fs::read_dir(from.join(&folder))? {
            let entry = entry?;
            looked_at += 1;
            if looked_at > limits::ENTRIES_LOOKED_AT_MAX {
                return Err(io::Error::other(format!("{} has too many files", from.display())));
            }
            let name = entry.file_name();
            let kind = entry.file_type()?;
            let is_left_out = [&b"tmp_"[..], b"incoming-"]
                .iter()
                .any(|start| name.as_encoded_bytes().starts_with(start))
                || [&b".lock"[..], b".keep", b".bitmap"]
                    .iter()
                    .any(|end| name.as_encoded_bytes().ends_with(end))
                || name == "alternates";
            if is_left_out {
                continue;
            }
            let path = folder.join(name);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                copy_file(&from.join(&path), &to.join(&path), links)?;
            }
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, links: bool) -> io::Result<()> {
    if links {
        match fs::hard_link(from, to) {
            Ok(()) => return Ok(()),
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EXDEV | Errno::EPERM | Errno::EMLINK | Errno::EOPNOTSUPP) => {}
                Some(_) | None => return Err(error),
            },
        }
    }
    // The kernel shares the blocks where the file system can.
    fs::copy(from, to).map(drop)
}
