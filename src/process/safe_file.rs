//! Files that an agent could have put there: the one way to open, read and write them.
//!
//! No link is followed, nothing blocks, only a regular file is a file, and no more is read than a
//! bound allows. A path has two parts: a folder that is trusted, and what is below it, where no
//! component may be a link. Writing goes by exclusive creation under a name that nobody can guess,
//! and a rename: what was planted under the final name is replaced, and never written through.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, OFlag, fcntl, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::job::limits;

/// What stands where a regular file should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAFile {
    /// A symbolic link, dangling or not.
    Link,
    /// A folder.
    Folder,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A device.
    Device,
    /// A file in place of a folder on the way.
    FileOnTheWay,
    /// A regular file of more bytes than are read.
    TooLarge(u64),
    /// A regular file on which another process holds a lease: to open it would mean to wait.
    Leased,
    /// A path that leaves its folder.
    Outside,
}

impl fmt::Display for NotAFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAFile::Link => f.write_str("a symbolic link"),
            NotAFile::Folder => f.write_str("a folder"),
            NotAFile::Pipe => f.write_str("a named pipe"),
            NotAFile::Socket => f.write_str("a socket"),
            NotAFile::Device => f.write_str("a device"),
            NotAFile::FileOnTheWay => f.write_str("below something that is no folder"),
            NotAFile::TooLarge(max) => write!(f, "larger than {max} bytes"),
            NotAFile::Leased => f.write_str("leased to another process"),
            NotAFile::Outside => f.write_str("not a path below its folder"),
        }
    }
}

/// The error behind an [`io::Error`] of this module, when something stands in a file's place.
#[derive(Debug, thiserror::Error)]
#[error("{} is {found}, and no regular file that kugetsu may use", path.display())]
pub struct Planted {
    /// Where.
    pub path: PathBuf,
    /// What stands there.
    pub found: NotAFile,
}

/// What was found in a file's place, if that is what an error tells of.
pub fn planted(error: &io::Error) -> Option<NotAFile> {
    error.get_ref()?.downcast_ref::<Planted>().map(|planted| planted.found)
}

fn refuse(path: &Path, found: NotAFile) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Planted { path: path.into(), found })
}

/// Opens a regular file to be read. The folder that it is in is trusted, its own name is not.
///
/// # Errors
///
/// `NotFound`; `InvalidData` when something else stands there, see [`planted`]; or the system's.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let (folder, name) = split(path)?;
    open_below(folder, Path::new(name))
}

/// Opens a regular file below a trusted folder to be read: nothing on the way may be a link either.
///
/// # Errors
///
/// As [`open_regular`].
pub fn open_below(trusted: &Path, relative: &Path) -> io::Result<File> {
    Place::find(trusted, relative)?.open(OFlag::O_RDONLY)
}

/// Opens a regular file to add to its end and to read it, and makes it if it is not there.
///
/// # Errors
///
/// As [`open_regular`].
pub fn open_append(path: &Path) -> io::Result<File> {
    let (folder, name) = split(path)?;
    let place = Place::find(folder, Path::new(name))?;
    place.open_or_create(OFlag::O_RDWR | OFlag::O_APPEND)
}

/// Opens a regular file to read and write it, and makes it if it is not there.
///
/// # Errors
///
/// As [`open_regular`].
pub fn open_or_create(path: &Path) -> io::Result<File> {
    let (folder, name) = split(path)?;
    Place::find(folder, Path::new(name))?.open_or_create(OFlag::O_RDWR)
}

/// Makes an empty file, and says whether it was not there before: of several callers one hears
/// `true`.
///
/// # Errors
///
/// Whatever the system says; something else in its place counts as there.
pub fn create_mark(path: &Path) -> io::Result<bool> {
    let (folder, name) = split(path)?;
    match Place::find(folder, Path::new(name))?.create(OFlag::O_WRONLY) {
        Ok(_) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Reads a whole file of at most `max` bytes; `None` if it is not there.
///
/// # Errors
///
/// As [`open_regular`]; [`NotAFile::TooLarge`] if there is more.
pub fn read_bounded(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let (folder, name) = split(path)?;
    read_below(folder, Path::new(name), max)
}

/// As [`read_bounded`], below a trusted folder.
///
/// # Errors
///
/// As [`read_bounded`].
pub fn read_below(trusted: &Path, relative: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match open_below(trusted, relative) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(refuse(&trusted.join(relative), NotAFile::TooLarge(max)));
    }
    Ok(Some(bytes))
}

/// Reads a small text; `None` if the file is not there. What is no UTF-8 is replaced.
///
/// # Errors
///
/// As [`read_bounded`].
pub fn read_text(path: &Path, max: u64) -> io::Result<Option<String>> {
    let bytes = read_bounded(path, max)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Reads at most the last `max` bytes of a file, and none before `from`; `None` if it is not there.
///
/// # Errors
///
/// As [`open_regular`].
pub fn read_tail(path: &Path, from: u64, max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut file = match open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(from.max(end.saturating_sub(max))))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Reads a small JSON file; `None` if it is not there.
///
/// # Errors
///
/// As [`read_bounded`]; `InvalidData` also when it is not what it should be.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let Some(bytes) = read_bounded(path, limits::RECORD_BYTES_MAX)? else { return Ok(None) };
    let damaged = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Writes a small JSON file: after this returns it is whole on disk; before, it is not there.
///
/// # Errors
///
/// As [`write_new`].
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(value)?;
    let (folder, name) = split(path)?;
    write_new(folder, name, &text)
}

/// Writes a file into a trusted folder, in place of whatever had its name, and waits until both are
/// on disk. Half a file is never seen under that name.
///
/// # Errors
///
/// [`NotAFile::Folder`] when a folder has the name; or the system's.
pub fn write_new(trusted: &Path, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
    write_below(trusted, Path::new(name), bytes)
}

/// As [`write_new`], below a trusted folder. Folders on the way are made, and none may be a link.
///
/// # Errors
///
/// As [`write_new`], and [`open_below`] for the way.
pub fn write_below(trusted: &Path, relative: &Path, bytes: &[u8]) -> io::Result<()> {
    write_from(trusted, relative, &mut &bytes[..])
}

/// As [`write_below`], with what a reader gives.
///
/// # Errors
///
/// As [`write_below`], and the reader's.
pub fn write_from(trusted: &Path, relative: &Path, from: &mut dyn Read) -> io::Result<()> {
    let place = Place::make(trusted, relative)?;
    let draft = Place { name: random_name(&place.name)?, ..place.again()? };
    let mut file = File::from(draft.create(OFlag::O_WRONLY)?);
    let written = io::copy(from, &mut file).and_then(|_| file.sync_all()).and_then(|()| {
        renameat(&draft.folder, &*draft.name, &place.folder, &*place.name).map_err(|errno| {
            match errno {
                Errno::EISDIR => refuse(&place.path, NotAFile::Folder),
                errno => errno.into(),
            }
        })
    });
    if written.is_err() {
        // What is left otherwise is a file that nobody reads.
        let _ = unlinkat(&draft.folder, &*draft.name, UnlinkatFlags::NoRemoveDir);
        return written;
    }
    // A descriptor that is only a path cannot be synced.
    File::from(openat(&place.folder, ".", FOLDER, Mode::empty())?).sync_all()
}

/// Makes a folder for its owner only, and those above it, unless they are there.
///
/// # Errors
///
/// [`NotAFile::FileOnTheWay`] naming what stands in the place of the folder or of one above it; a
/// link to a folder will do, because the path is the user's own.
pub fn ensure_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    let Err(error) = made else { return Ok(()) };
    let blocks = |part: &&Path| std::fs::symlink_metadata(part).is_ok() && !part.is_dir();
    match path.ancestors().find(blocks) {
        Some(part) => {
            let kind = std::fs::symlink_metadata(part)?.file_type();
            let what = if kind.is_symlink() {
                "a link that leads to no folder"
            } else if kind.is_file() {
                "a file"
            } else if kind.is_fifo() {
                "a named pipe"
            } else {
                "no folder"
            };
            let (folder, part) = (path.display(), part.display());
            let why = format!("{folder} cannot be made: {part} is {what}; move it away");
            Err(io::Error::new(io::ErrorKind::NotADirectory, why))
        }
        None => Err(error),
    }
}

/// The length of a regular file, in bytes; 0 if it is not there.
///
/// # Errors
///
/// As [`open_regular`].
pub fn length(path: &Path) -> io::Result<u64> {
    match open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        file => Ok(file?.metadata()?.len()),
    }
}

/// Random, and not to be guessed: 32 hexadecimal digits.
///
/// # Errors
///
/// When the system has no randomness.
pub fn random_word() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

fn random_name(name: &OsStr) -> io::Result<OsString> {
    // Short enough beside the longest name that is used here.
    let mut draft = OsString::from(".");
    draft.push(name);
    draft.push(format!(".{}.tmp", random_word()?));
    Ok(draft)
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or_else(|| refuse(path, NotAFile::Outside))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok((folder.unwrap_or(Path::new(".")), name))
}

const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// A name in a folder that is open.
struct Place {
    folder: OwnedFd,
    name: OsString,
    /// For messages.
    path: PathBuf,
}

impl Place {
    fn find(trusted: &Path, relative: &Path) -> io::Result<Place> {
        Place::walk(trusted, relative, |_, _| Ok(()))
    }

    fn make(trusted: &Path, relative: &Path) -> io::Result<Place> {
        Place::walk(trusted, relative, |folder, name| match mkdirat(folder, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        })
    }

    /// Goes down component by component, each opened as a folder that is no link.
    fn walk(
        trusted: &Path,
        relative: &Path,
        before: impl Fn(BorrowedFd<'_>, &OsStr) -> io::Result<()>,
    ) -> io::Result<Place> {
        let path = trusted.join(relative);
        let mut names: Vec<&OsStr> = Vec::new();
        for component in relative.components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(refuse(&path, NotAFile::Outside));
                }
            }
        }
        let name = names.pop().ok_or_else(|| refuse(&path, NotAFile::Outside))?.to_os_string();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut folder = openat(AT_FDCWD, trusted, flags, Mode::empty())?;
        for name in names {
            before(folder.as_fd(), name)?;
            folder = match openat(&folder, name, flags | OFlag::O_NOFOLLOW, Mode::empty()) {
                Ok(next) => next,
                Err(errno) => return Err(on_the_way(&folder, name, &path, errno)),
            };
        }
        Ok(Place { folder, name, path })
    }

    fn again(&self) -> io::Result<Place> {
        Ok(Place {
            folder: self.folder.try_clone()?,
            name: self.name.clone(),
            path: self.path.clone(),
        })
    }

    /// Looks what stands there, without opening it: to open a device may have an effect.
    fn look(&self) -> io::Result<FileStat> {
        let stat = fstatat(&self.folder, &*self.name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        match not_a_file(&stat) {
            None => Ok(stat),
            Some(found) => Err(refuse(&self.path, found)),
        }
    }

    fn open(&self, flags: OFlag) -> io::Result<File> {
        self.look()?;
        let careful = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let file = match openat(&self.folder, &*self.name, flags | careful, Mode::empty()) {
            Ok(file) => file,
            // It was another thing a moment ago.
            Err(Errno::ELOOP) => return Err(refuse(&self.path, NotAFile::Link)),
            Err(Errno::ENXIO) => return Err(refuse(&self.path, NotAFile::Pipe)),
            Err(Errno::EAGAIN) => return Err(refuse(&self.path, NotAFile::Leased)),
            Err(errno) => return Err(errno.into()),
        };
        if let Some(found) = not_a_file(&fstat(&file)?) {
            return Err(refuse(&self.path, found));
        }
        // It was for the opening alone: whoever inherits the file is not to wonder.
        fcntl(&file, FcntlArg::F_SETFL(flags & (OFlag::O_APPEND | OFlag::O_ACCMODE)))?;
        Ok(File::from(file))
    }

    fn create(&self, flags: OFlag) -> nix::Result<OwnedFd> {
        let exclusive = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.folder, &*self.name, flags | exclusive, Mode::S_IRUSR | Mode::S_IWUSR)
    }

    fn open_or_create(&self, flags: OFlag) -> io::Result<File> {
        for _ in 0..limits::SAFE_OPEN_TRIES_MAX {
            match self.open(flags) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
            match self.create(flags) {
                Ok(file) => return Ok(File::from(file)),
                // Somebody was faster.
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::other(format!("{} comes and goes", self.path.display())))
    }
}

/// Why a component on the way could not be opened.
fn on_the_way(folder: &OwnedFd, name: &OsStr, path: &Path, errno: Errno) -> io::Error {
    let found = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok().map(|stat| kind(&stat));
    match found {
        Some(SFlag::S_IFLNK) => refuse(path, NotAFile::Link),
        Some(SFlag::S_IFDIR) | None => errno.into(),
        Some(_) => refuse(path, NotAFile::FileOnTheWay),
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn not_a_file(stat: &FileStat) -> Option<NotAFile> {
    match kind(stat) {
        SFlag::S_IFREG => None,
        SFlag::S_IFLNK => Some(NotAFile::Link),
        SFlag::S_IFDIR => Some(NotAFile::Folder),
        SFlag::S_IFIFO => Some(NotAFile::Pipe),
        SFlag::S_IFSOCK => Some(NotAFile::Socket),
        _ => Some(NotAFile::Device),
    }
}

#[cfg(test)]
mod tests;
