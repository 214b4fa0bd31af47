//! Who of the workers lives: each holds a lock on a file of its name, which the kernel frees when
//! it dies, however it dies.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::job::{Job, WorkerId, limits, order};
use crate::process::lock::{self, Held, State};
use crate::store::Watch;
use crate::time::Timestamp;
use crate::worker::Event;

/// The ending of the files.
const LOCK: &str = "lock";

/// The file of a worker that is gone, or has not begun. Nobody begins under its name while this is
/// there.
pub(super) struct Dead {
    path: PathBuf,
    _held: Held,
}

/// A folder with a file for each worker that lives.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    folder: PathBuf,
    /// Workers whose end a thread waits for.
    watched: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Presence {
    pub fn at(folder: &Path) -> io::Result<Presence> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Presence { folder: folder.into(), watched: Arc::default() })
    }

    /// Says that a worker is here, until it is dropped. The file stays, and tells then that the
    /// worker is gone; another one removes it when no job needs to know.
    pub fn announce(&self, worker: &WorkerId, now: Timestamp) -> io::Result<Held> {
        let path = self.file(worker);
        for _ in 0..limits::LOCK_LOOKS_MAX {
            if let Some(held) = lock::try_take(&path, now)? {
                return Ok(held);
            }
            // Somebody who clears up took it, to remove the file that nobody held yet.
            lock::wait_until_free(&path, Duration::from_millis(limits::LOCK_WAIT_MS_MAX))?;
        }
        Err(io::Error::other(format!("another process holds {}", path.display())))
    }

    /// Whether nobody looks after a running job: its lease ran out, or its worker is known to be
    /// dead. Nothing is known of a worker without a file.
    pub fn is_orphan(&self, job: &Job, now: Timestamp) -> bool {
        let Some(lease) = job.lease() else { return false };
        let file = self.file(&lease.worker);
        order::is_lapsed(job, now) || (file.exists() && !is_held(&file))
    }

    /// Hints that a worker came or went.
    pub fn changes(&self) -> Watch {
        Watch::folder_if_possible(&self.folder)
    }

    /// Waits for the end of every worker that lives, each on a thread of its own, and tells of it.
    pub fn watch(&self, own: &WorkerId, tell: &Sender<Event>) -> io::Result<()> {
        let own = self.file(own);
        for path in self.files()?.into_iter().filter(|path| *path != own && is_held(path)) {
            let mut watched = self.watched.lock().expect("no thread panics while it holds the set");
            if watched.len() >= limits::WORKERS_WATCHED_MAX || !watched.insert(path.clone()) {
                continue;
            }
            drop(watched);
            let (presence, tell) = (self.clone(), tell.clone());
            thread::Builder::new().name("presence".into()).spawn(move || {
                // Without its file there is nothing to wait for.
                let _ = lock::wait_for_end(&path);
                let mut watched =
                    presence.watched.lock().expect("no thread panics while it holds the set");
                watched.remove(&path);
                drop(watched);
                // The loop is gone only when the process is about to be.
                let _ = tell.send(Event::OthersChanged);
            })?;
        }
        Ok(())
    }

    /// Takes the locks of dead workers that hold none of these jobs.
    pub fn take_dead(&self, running: &[Job], now: Timestamp) -> io::Result<Vec<Dead>> {
        let needed = self.files_of(running);
        let mut dead = Vec::new();
        for path in self.files()?.into_iter().filter(|path| !needed.contains(path)) {
            dead.extend(lock::try_take(&path, now)?.map(|held| Dead { path, _held: held }));
        }
        Ok(dead)
    }

    /// Removes their files, except of those that hold one of these jobs. They are to be looked up
    /// after the locks were taken: one that claimed in between and died would be forgotten.
    pub fn forget(&self, dead: Vec<Dead>, running: &[Job]) -> io::Result<()> {
        let needed = self.files_of(running);
        for dead in dead.iter().filter(|dead| !needed.contains(&dead.path)) {
            fs::remove_file(&dead.path)?;
        }
        Ok(())
    }

    fn files_of(&self, running: &[Job]) -> BTreeSet<PathBuf> {
        running.iter().filter_map(|job| Some(self.file(&job.lease()?.worker))).collect()
    }

    fn file(&self, worker: &WorkerId) -> PathBuf {
        self.folder.join(format!("{worker}.{LOCK}"))
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let is_workers = |path: &PathBuf| path.extension().is_some_and(|ending| ending == LOCK);
        let entries = fs::read_dir(&self.folder)?.flatten();
        Ok(entries.map(|entry| entry.path()).filter(is_workers).collect())
    }
}

/// What cannot be looked at counts as held: the lease says when that ends.
fn is_held(path: &Path) -> bool {
    !matches!(lock::look(path), Ok(State::Free))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::NewJob;
    use crate::queue::Queue;
    use crate::store::{Claim, MemoryStore};

    #[test]
    fn a_worker_that_claims_and_dies_while_others_clear_up_is_not_forgotten() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let presence = Presence::at(folder.path()).expect("a folder");
        let queue = Queue::new(MemoryStore::default());
        let worker = WorkerId("w".into());
        let idle = WorkerId("idle".into());
        for worker in [&worker, &idle] {
            drop(presence.announce(worker, Timestamp(1)).expect("it starts"));
        }
        let dead = presence.take_dead(&[], Timestamp(2)).expect("it can");
        let issue = "h/o/r#1".parse().expect("a good reference");
        queue.enqueue(NewJob::new(issue, "fix")).expect("an enqueue");
        let claimed = queue.claim(Claim::new(worker, 1, 60_000)).expect("a claim");
        let job = claimed.expect("there is one");
        presence.forget(dead, std::slice::from_ref(&job)).expect("it can");
        assert!(presence.is_orphan(&job, queue.now()), "its lease has not run out");
        assert!(!presence.file(&idle).exists());
    }

    #[test]
    fn a_worker_that_starts_is_not_kept_out_by_one_that_clears_up() {
        const TIMES: u64 = 300;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let presence = Presence::at(folder.path()).expect("a folder");
        let other = presence.clone();
        let (end, ended) = crossbeam_channel::bounded::<()>(0);
        let clearing = thread::spawn(move || {
            while ended.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
                let dead = other.take_dead(&[], Timestamp(1)).expect("it can");
                other.forget(dead, &[]).expect("it can");
            }
        });
        for number in 0..TIMES {
            let worker = WorkerId(format!("w{number}"));
            let held = presence.announce(&worker, Timestamp(2)).expect("it starts");
            assert!(is_held(&presence.file(&worker)), "nobody takes away what is held");
            drop(held);
        }
        drop(end);
        clearing.join().expect("it ends");
    }
}
