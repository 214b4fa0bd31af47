//! A lock that tells who holds it, and that the kernel frees when its holder dies.
//!
//! What the file says is a hint: whether the holder lives is known by the lock alone.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::job::limits;
use crate::process::identity::{self, Identity};
use crate::process::run::private_file;
use crate::time::{self, Timestamp};

/// A lock that this process holds until it drops it or ends.
#[derive(Debug)]
pub struct Held {
    file: File,
}

impl Held {
    /// The file. Whoever inherits it holds the lock too, until the last of them ends.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The process, of this boot.
    pub process: Identity,
    /// When it took the lock.
    pub since: Timestamp,
}

/// Whether a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody holds it.
    Free,
    /// Somebody does; who, if the file tells.
    Held(Option<Holder>),
}

/// Takes the lock, or `None` while somebody else holds it.
pub fn try_take(path: &Path, now: Timestamp) -> io::Result<Option<Held>> {
    let file = private_file().read(true).write(true).create(true).truncate(false).open(path)?;
    if !try_lock(&file)? {
        return Ok(None);
    }
    // Somebody may have removed the file between its opening and its locking.
    let own_inode = file.metadata()?.ino();
    if fs::metadata(path).map_or(true, |there| there.ino() != own_inode) {
        return Ok(None);
    }
    sign(file, now).map(Some)
}

/// Makes a lock that nobody has seen free, not even whoever removes such: it is held under the name
/// of a draft before it gets its own.
pub fn take_new(path: &Path, draft: &Path, now: Timestamp) -> io::Result<Held> {
    let file = private_file().read(true).write(true).create_new(true).open(draft)?;
    if !try_lock(&file)? {
        return Err(io::Error::other(format!("another process holds {}", draft.display())));
    }
    fs::rename(draft, path)?;
    // Only now, so that whoever watches the folder hears of it when it is there.
    sign(file, now)
}

fn try_lock(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK)?)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Says who holds it.
fn sign(mut file: File, now: Timestamp) -> io::Result<Held> {
    let own = Identity::own()?;
    let text = format!("{} {} {} {}\n", own.pid, own.start_time, identity::boot_id()?, now.0);
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    Ok(Held { file })
}

/// Looks whether the lock is held, without taking it.
pub fn look(path: &Path) -> io::Result<State> {
    let mut state = look_once(path)?;
    for _ in 0..limits::LOCK_LOOKS_MAX {
        if state != State::Held(None) {
            break;
        }
        // Whoever has just taken it says who it is at once.
        time::pause(Duration::from_millis(limits::LOCK_PAUSE_MS));
        state = look_once(path)?;
    }
    Ok(state)
}

fn look_once(path: &Path) -> io::Result<State> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Free),
        file => file?,
    };
    // Who only waits for the holder's end holds it shared for a moment, and is not meant.
    let mut lock = whole_file(libc::F_RDLCK)?;
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).map_err(io::Error::from)?;
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return Ok(State::Free);
    }
    let mut text = String::new();
    (&mut file).take(limits::RECORD_BYTES_MAX).read_to_string(&mut text)?;
    Ok(State::Held(parse(&text, &identity::boot_id()?)))
}

/// Looks whether somebody holds the other kind of lock, `flock`, on a file. It is taken shared for
/// a moment, so whoever does not wait for it must not be about to take it.
pub fn is_flocked(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Waits until the lock is free. Says whether it became so in time.
pub fn wait_until_free(path: &Path, timeout: Duration) -> io::Result<bool> {
    let deadline = time::monotonic() + timeout;
    while look(path)? != State::Free {
        if time::monotonic() >= deadline {
            return Ok(false);
        }
        time::pause(Duration::from_millis(limits::LOCK_PAUSE_MS));
    }
    Ok(true)
}

/// Blocks until nobody holds the lock: the kernel wakes whoever waits. An error, if the file is not
/// there.
pub fn wait_for_end(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    loop {
        match fcntl(&file, FcntlArg::F_OFD_SETLKW(&whole_file(libc::F_RDLCK)?)) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A holder of another boot, or whose process is gone, wrote it before the one that holds it now.
fn parse(text: &str, boot_id: &str) -> Option<Holder> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [pid, start_time, boot, since] = fields.as_slice() else { return None };
    let process = Identity { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? };
    let since = Timestamp(since.parse().ok()?);
    (*boot == boot_id && process.is_alive()).then_some(Holder { process, since })
}

fn whole_file(kind: i32) -> io::Result<libc::flock> {
    let short = |number: i32| libc::c_short::try_from(number).map_err(io::Error::other);
    Ok(libc::flock {
        l_type: short(kind)?,
        l_whence: short(libc::SEEK_SET)?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_tells_by_whom() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        assert_eq!(look(&path).expect("a look"), State::Free, "it was never there");
        let held = try_take(&path, Timestamp(7)).expect("a lock").expect("it is free");
        assert!(try_take(&path, Timestamp(8)).expect("a lock").is_none());
        let process = Identity::own().expect("/proc is there");
        let holder = Holder { process, since: Timestamp(7) };
        assert_eq!(look(&path).expect("a look"), State::Held(Some(holder)));
        assert!(!wait_until_free(&path, Duration::ZERO).expect("a look"));
        std::fs::write(&path, "garbage").expect("a file");
        assert_eq!(look(&path).expect("a look"), State::Held(None), "the lock alone counts");
        drop(held);
        assert_eq!(look(&path).expect("a look"), State::Free);
        assert!(wait_until_free(&path, Duration::ZERO).expect("a look"));
    }

    #[test]
    fn whoever_waits_hears_of_the_end() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        assert!(wait_for_end(&path).is_err(), "there is nothing to wait for");
        let held = try_take(&path, Timestamp(7)).expect("a lock").expect("it is free");
        let (sender, heard) = std::sync::mpsc::channel();
        let waiting = path.clone();
        let waiter = std::thread::spawn(move || {
            sender.send("waiting").expect("somebody listens");
            wait_for_end(&waiting).expect("it is there");
            sender.send("free").expect("somebody listens");
        });
        assert_eq!(heard.recv(), Ok("waiting"));
        assert!(heard.try_recv().is_err());
        drop(held);
        assert_eq!(heard.recv(), Ok("free"));
        waiter.join().expect("it ends");
    }

    #[test]
    fn words_of_the_dead_are_not_believed() {
        let own = Identity::own().expect("/proc is there");
        let text = |start: u64, boot: &str| format!("{} {start} {boot} 5\n", own.pid);
        assert!(parse(&text(own.start_time, "b"), "b").is_some());
        assert_eq!(parse(&text(own.start_time + 1, "b"), "b"), None);
        assert_eq!(parse(&text(own.start_time, "a"), "b"), None);
        assert_eq!(parse("", "b"), None);
    }
}
