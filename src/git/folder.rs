//! Looking into folders that somebody else may have filled with traps.
//!
//! Each step goes through the descriptor of the folder above it and follows no link, so that a
//! folder that becomes a link in between leads nowhere. A file is opened without blocking, read if
//! it is a regular one, and to a bound.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use crate::process::retry_interrupted;

/// Why a clone cannot be read. Each holds the words for a person, which name the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is no clone any more, or a damaged one.
    NoClone(String),
    /// It may be readable later.
    Passing(String),
    /// Larger than the bounds for it.
    TooLarge(String),
    /// Something lies there that git would follow, wait for or execute.
    Hostile(String),
}

impl Unreadable {
    /// The words.
    pub fn why(&self) -> &str {
        match self {
            Unreadable::NoClone(why)
            | Unreadable::Passing(why)
            | Unreadable::TooLarge(why)
            | Unreadable::Hostile(why) => why,
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why())
    }
}

/// What lies under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
    Pipe,
    Socket,
    Device,
}

impl Kind {
    fn of(stat: &FileStat) -> Kind {
        let format = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        match format {
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFDIR => Kind::Folder,
            SFlag::S_IFLNK => Kind::Link,
            SFlag::S_IFIFO => Kind::Pipe,
            SFlag::S_IFSOCK => Kind::Socket,
            // Character and block devices are what is left.
            _ => Kind::Device,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::File => "a file",
            Kind::Folder => "a folder",
            Kind::Link => "a symbolic link",
            Kind::Pipe => "a named pipe",
            Kind::Socket => "a socket",
            Kind::Device => "a device",
        })
    }
}

/// What a folder has under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub name: OsString,
    pub kind: Kind,
}

/// What is known of a name without opening it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    pub kind: Kind,
    pub bytes: u64,
    /// Since 1970, in nanoseconds.
    pub modified_ns: i128,
    pub device: u64,
    pub is_executable: bool,
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    descriptor: OwnedFd,
    path: PathBuf,
}

const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_CLOEXEC);

const FILE: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

impl Folder {
    /// Opens a folder by its path, whose last part may not be a link; `None` if nothing is there.
    /// The parts before it are the caller's.
    pub fn open(path: &Path) -> Result<Option<Folder>, Unreadable> {
        opened(retry_interrupted(|| open(path, FOLDER, Mode::empty())), path)
    }

    /// Opens a folder of this one; `None` if there is nothing of that name.
    pub fn folder(&self, name: impl AsRef<OsStr>) -> Result<Option<Folder>, Unreadable> {
        let name = name.as_ref();
        let descriptor =
            retry_interrupted(|| openat(&self.descriptor, name, FOLDER, Mode::empty()));
        opened(descriptor, &self.path.join(name))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What lies under a name, without opening it; `None` for nothing.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<Option<Stat>, Unreadable> {
        let name = name.as_ref();
        let look = || fstatat(&self.descriptor, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        match retry_interrupted(look) {
            Ok(stat) => Ok(Some(Stat {
                kind: Kind::of(&stat),
                bytes: u64::try_from(stat.st_size).unwrap_or(0),
                modified_ns: i128::from(stat.st_mtime) * 1_000_000_000
                    + i128::from(stat.st_mtime_nsec),
                device: stat.st_dev,
                is_executable: stat.st_mode & Mode::S_IXUSR.bits() != 0,
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(failed(&self.path.join(name), errno)),
        }
    }

    /// Whether anything lies under a name.
    pub fn has(&self, name: impl AsRef<OsStr>) -> Result<bool, Unreadable> {
        Ok(self.stat(name)?.is_some())
    }

    /// Opens a regular file; `None` if there is nothing of that name.
    pub fn file(&self, name: impl AsRef<OsStr>) -> Result<Option<File>, Unreadable> {
        let name = name.as_ref();
        let path = self.path.join(name);
        match self.stat(name)? {
            None => return Ok(None),
            Some(stat) if stat.kind != Kind::File => return Err(is_no("file", &path, stat.kind)),
            Some(_) => {}
        }
        let descriptor =
            match retry_interrupted(|| openat(&self.descriptor, name, FILE, Mode::empty())) {
                Ok(descriptor) => descriptor,
                Err(Errno::ENOENT) => return Ok(None),
                Err(errno) => return Err(failed(&path, errno)),
            };
        // It may have been put there since it was looked at.
        let stat = fstat(&descriptor).map_err(|errno| failed(&path, errno))?;
        match Kind::of(&stat) {
            Kind::File => Ok(Some(File::from(descriptor))),
            kind => Err(is_no("file", &path, kind)),
        }
    }

    /// Reads a regular file whole; `None` if there is nothing of that name.
    pub fn read(
        &self,
        name: impl AsRef<OsStr>,
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, Unreadable> {
        let name = name.as_ref();
        let Some(file) = self.file(name)? else {
            return Ok(None);
        };
        let path = self.path.join(name);
        let mut bytes = Vec::new();
        let limit = bytes_max as u64 + 1;
        if let Err(error) = file.take(limit).read_to_end(&mut bytes) {
            return Err(Unreadable::Passing(format!("cannot read {}: {error}", path.display())));
        }
        match bytes.len() > bytes_max {
            true => {
                let why = format!("{} is larger than {bytes_max} bytes", path.display());
                Err(Unreadable::TooLarge(why))
            }
            false => Ok(Some(bytes)),
        }
    }

    /// Where a link points to; `None` if it is no link.
    pub fn link(&self, name: impl AsRef<OsStr>) -> Option<PathBuf> {
        let target = readlinkat(&self.descriptor, name.as_ref()).ok()?;
        Some(PathBuf::from(target))
    }

    /// What it holds, in the order of the names.
    pub fn entries(&self, count_max: usize) -> Result<Vec<Entry>, Unreadable> {
        let (entries, is_whole) = self.entries_up_to(count_max)?;
        match is_whole {
            true => Ok(entries),
            false => Err(self.too_many(count_max)),
        }
    }

    fn too_many(&self, count_max: usize) -> Unreadable {
        let path = self.path.display();
        Unreadable::TooLarge(format!("{path} has more than {count_max} entries"))
    }

    /// The same, and whether that is all.
    pub fn entries_up_to(&self, count_max: usize) -> Result<(Vec<Entry>, bool), Unreadable> {
        let why = |errno| failed(&self.path, errno);
        let mut folder = Dir::openat(&self.descriptor, ".", FOLDER, Mode::empty()).map_err(why)?;
        let mut entries = Vec::new();
        for entry in folder.iter() {
            let entry = entry.map_err(why)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if entries.len() == count_max {
                return Ok((entries, false));
            }
            let name = OsString::from_vec(name.to_vec());
            let kind = match entry.file_type() {
                Some(Type::File) => Some(Kind::File),
                Some(Type::Directory) => Some(Kind::Folder),
                Some(Type::Symlink) => Some(Kind::Link),
                Some(Type::Fifo) => Some(Kind::Pipe),
                Some(Type::Socket) => Some(Kind::Socket),
                Some(Type::CharacterDevice | Type::BlockDevice) => Some(Kind::Device),
                // This file system does not say it in its listings.
                None => self.stat(&name)?.map(|stat| stat.kind),
            };
            if let Some(kind) = kind {
                entries.push(Entry { name, kind });
            }
        }
        entries.sort_by(|one, other| one.name.as_bytes().cmp(other.name.as_bytes()));
        Ok((entries, true))
    }
}

/// How far a walk goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    /// Entries in all.
    pub entries_max: usize,
    /// Folders between the top and an entry.
    pub depth_max: usize,
}

/// What a walk comes by.
#[derive(Debug)]
pub(crate) enum Seen<'w> {
    /// An entry of a folder; those of the top have the depth 0.
    Entry { folder: &'w Folder, entry: &'w Entry, depth: usize },
    /// A folder that it does not enter, or not to its end, and why.
    Unseen { path: PathBuf, why: Unreadable },
}

/// Where a walk goes from an entry. What is no folder is not entered, whatever is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Enter,
    Pass,
}

/// Walks through a folder, without following links, with as many open descriptors as it is deep.
pub(crate) fn walk(
    top: Folder,
    reach: Reach,
    mut visitor: impl FnMut(Seen<'_>) -> Result<Next, Unreadable>,
) -> Result<(), Unreadable> {
    let mut left = reach.entries_max;
    // A folder stays open for as long as one of its own waits to be entered.
    let mut waiting: Vec<(Rc<Folder>, OsString, usize)> = Vec::new();
    let mut next = Some((Rc::new(top), 0));
    loop {
        let (folder, depth) = match next.take() {
            Some(entered) => entered,
            None => {
                let Some((above, name, depth)) = waiting.pop() else {
                    return Ok(());
                };
                match above.folder(&name) {
                    Ok(Some(folder)) => (Rc::new(folder), depth),
                    // It went while others were walked through.
                    Ok(None) => continue,
                    Err(why) => {
                        let path = above.path.join(&name);
                        match visitor(Seen::Unseen { path, why })? {
                            Next::Enter | Next::Pass => continue,
                        }
                    }
                }
            }
        };
        let entries = match folder.entries_up_to(left) {
            Ok((entries, is_whole)) => {
                if !is_whole {
                    let why = folder.too_many(reach.entries_max);
                    visitor(Seen::Unseen { path: folder.path.clone(), why })?;
                }
                entries
            }
            Err(why) => match visitor(Seen::Unseen { path: folder.path.clone(), why })? {
                Next::Enter | Next::Pass => continue,
            },
        };
        left = left.saturating_sub(entries.len());
        for entry in entries {
            let said = visitor(Seen::Entry { folder: &folder, entry: &entry, depth })?;
            match said {
                Next::Enter if entry.kind == Kind::Folder && depth == reach.depth_max => {
                    let path = folder.path.join(&entry.name);
                    let why = format!("{} lies too deep", path.display());
                    visitor(Seen::Unseen { path, why: Unreadable::TooLarge(why) })?;
                }
                Next::Enter if entry.kind == Kind::Folder => {
                    waiting.push((Rc::clone(&folder), entry.name, depth + 1));
                }
                Next::Enter | Next::Pass => {}
            }
        }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn opened(descriptor: nix::Result<OwnedFd>, path: &Path) -> Result<Option<Folder>, Unreadable> {
    match descriptor {
        Ok(descriptor) => Ok(Some(Folder { descriptor, path: path.into() })),
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::ELOOP | Errno::ENOTDIR) => {
            let kind = match path.symlink_metadata() {
                Ok(metadata) if metadata.is_symlink() => "a symbolic link",
                Ok(_) | Err(_) => "something else",
            };
            let why = format!("{} is no folder but {kind}", path.display());
            Err(Unreadable::Hostile(why))
        }
        Err(errno) => Err(failed(path, errno)),
    }
}

fn is_no(expected: &str, path: &Path, kind: Kind) -> Unreadable {
    Unreadable::Hostile(format!("{} is no {expected} but {kind}", path.display()))
}

fn failed(path: &Path, errno: Errno) -> Unreadable {
    let why = format!("cannot read {}: {}", path.display(), errno.desc());
    match errno {
        // These do not pass by waiting.
        Errno::EACCES | Errno::EPERM | Errno::ELOOP | Errno::ENOTDIR | Errno::ENAMETOOLONG => {
            Unreadable::Hostile(why)
        }
        _ => Unreadable::Passing(why),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn only_what_is_what_it_should_be_is_opened() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &str| temporary.path().join(name);
        std::fs::write(at("file"), "12345").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("folder", at("folder-link")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();

        let folder = Folder::open(temporary.path()).unwrap().unwrap();
        for (name, kind, as_file, as_folder) in [
            ("file", Some(Kind::File), "read", "hostile"),
            ("folder", Some(Kind::Folder), "hostile", "read"),
            ("link", Some(Kind::Link), "hostile", "hostile"),
            ("folder-link", Some(Kind::Link), "hostile", "hostile"),
            ("dangling", Some(Kind::Link), "hostile", "hostile"),
            ("pipe", Some(Kind::Pipe), "hostile", "hostile"),
            ("socket", Some(Kind::Socket), "hostile", "hostile"),
            ("nothing", None, "missing", "missing"),
        ] {
            assert_eq!(folder.stat(name).unwrap().map(|stat| stat.kind), kind, "{name}");
            let entries = folder.entries(10).unwrap();
            let entry = entries.iter().find(|entry| entry.name == name);
            assert_eq!(entry.map(|entry| entry.kind), kind, "{name}");
            assert_eq!(word(&folder.read(name, 5)), as_file, "{name}");
            assert_eq!(word(&folder.folder(name)), as_folder, "{name}");
        }
        assert!(matches!(folder.read("file", 4), Err(Unreadable::TooLarge(_))));
        assert!(matches!(folder.entries(6), Err(Unreadable::TooLarge(_))));
        assert_eq!(folder.entries(7).unwrap().len(), 7);
        assert!(matches!(Folder::open(&at("folder-link")), Err(Unreadable::Hostile(_))));
    }

    fn word<T>(result: &Result<Option<T>, Unreadable>) -> &'static str {
        match result {
            Ok(Some(_)) => "read",
            Ok(None) => "missing",
            Err(Unreadable::Hostile(_)) => "hostile",
            Err(_) => "another error",
        }
    }
}
