//! Wake-ups when something changed: between threads by channels, between processes by inotify.
//!
//! A wake-up may be missed (the file is on a network, the watch limit is reached), so whoever waits
//! for one also has a slow poll of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Receives a wake-up after each change of a store, several changes in one. Ends when dropped.
///
/// A wake-up says that something may have changed, not what: ask the queue. It may also be missed,
/// so wait for one with a bound, and look then anyway.
///
/// ```
/// use std::time::Duration;
///
/// use kugetsu::job::NewJob;
/// use kugetsu::store::MemoryStore;
/// use kugetsu::Queue;
///
/// let queue = Queue::new(MemoryStore::default());
/// let watch = queue.watch();
/// queue.enqueue(NewJob::new("github.com/shoko/kugetsu#14".parse()?, "fix the bug"))?;
/// let _ = watch.wakeups().recv_timeout(Duration::from_secs(10));
/// assert_eq!(queue.stats()?.pending, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Watch {
    wakeups: Receiver<()>,
    /// Keeps the channel open when its other end gives up: a closed one would be ready for ever.
    _keep: Sender<()>,
    stop: Option<Arc<EventFd>>,
}

impl Watch {
    /// The wake-ups, for a `select!`. Holds one at most.
    pub fn wakeups(&self) -> &Receiver<()> {
        &self.wakeups
    }

    /// Watches one file for writes. The file is made if it is not there.
    pub(crate) fn file(path: &Path) -> io::Result<Watch> {
        drop(open_for_write(path)?);
        Watch::begin(path)
    }

    fn begin(path: &Path) -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(path, AddWatchFlags::IN_MODIFY)?;
        let stop = Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC)?);
        let (sender, wakeups) = bounded(1);
        let stopped = Arc::clone(&stop);
        let keep = sender.clone();
        thread::Builder::new()
            .name("watch".into())
            .spawn(move || pass_on(&inotify, &stopped, &sender))?;
        Ok(Watch { wakeups, _keep: keep, stop: Some(stop) })
    }

    /// Watches a file, or nothing if that cannot be had: whoever waits for a wake-up also polls.
    pub(crate) fn file_if_possible(path: &Path) -> Watch {
        Watch::file(path).unwrap_or_else(|error| Watch::silent(path, &error))
    }

    /// Watches a folder for writes to the files in it, or nothing if that cannot be had.
    pub(crate) fn folder_if_possible(path: &Path) -> Watch {
        Watch::begin(path).unwrap_or_else(|error| Watch::silent(path, &error))
    }

    fn silent(path: &Path, error: &io::Error) -> Watch {
        tracing::warn!(path = %path.display(), %error, "cannot watch it; looking now and then");
        Watch::never()
    }

    /// Watches nothing.
    pub(crate) fn never() -> Watch {
        let (keep, wakeups) = bounded(1);
        Watch { wakeups, _keep: keep, stop: None }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(stop) = &self.stop {
            // An eventfd of value 0 takes a 1; and the thread holds nothing but the watch.
            let _ = stop.write(1);
        }
    }
}

fn pass_on(inotify: &Inotify, stop: &EventFd, wakeups: &Sender<()>) {
    loop {
        let mut ready = [
            PollFd::new(inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        if ready[1].any().unwrap_or(true) {
            return;
        }
        match inotify.read_events() {
            Ok(_) => {
                // Full means that a wake-up is waiting already.
                let _ = wakeups.try_send(());
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Wakes every process that watches the file.
pub(super) fn notify(path: &Path) -> io::Result<()> {
    open_for_write(path)?.write_all(b".")
}

/// Whatever else stands there is not written through, and nothing is waited for: an agent may have
/// put it there.
fn open_for_write(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    Ok(file)
}

/// The watches of a store that lives in one process.
#[derive(Default)]
pub(super) struct Hub {
    senders: Mutex<Vec<Sender<()>>>,
}

impl Hub {
    pub fn watch(&self) -> Watch {
        let (sender, wakeups) = bounded(1);
        let mut senders = self.senders.lock().expect("no thread panics while it holds the senders");
        senders.push(sender.clone());
        Watch { wakeups, _keep: sender, stop: None }
    }

    pub fn notify_all(&self) {
        let senders = self.senders.lock().expect("no thread panics while it holds the senders");
        for sender in &*senders {
            // Full means that a wake-up is waiting already.
            let _ = sender.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_in_its_place_nothing_hangs_and_nothing_is_written_through() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let outside = root.path().join("outside");
        std::fs::write(&outside, "precious").expect("a file");
        let wake = root.path().join("wake");
        for plant in ["link", "dangling", "pipe", "folder"] {
            match plant {
                "link" => std::os::unix::fs::symlink(&outside, &wake).expect("a link"),
                "dangling" => std::os::unix::fs::symlink("none", &wake).expect("a link"),
                "pipe" => {
                    nix::unistd::mkfifo(&wake, nix::sys::stat::Mode::S_IRWXU).expect("a pipe")
                }
                _ => std::fs::create_dir(&wake).expect("a folder"),
            }
            assert!(notify(&wake).is_err(), "{plant}");
            assert!(Watch::file(&wake).is_err(), "{plant}");
            assert_eq!(std::fs::read_to_string(&outside).expect("it is there"), "precious");
            assert!(!root.path().join("none").exists(), "{plant}");
            let _ = std::fs::remove_file(&wake);
        }
    }
}
