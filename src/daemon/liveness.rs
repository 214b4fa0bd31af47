//! Who of the workers lives: each holds a lock on a file of its name, which the kernel frees when
//! it dies, however it dies.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::UNIX_EPOCH;

use crossbeam_channel::Sender;

use crate::job::{Job, WorkerId, limits, order};
use crate::process::lock::{self, Held, LockState};
use crate::store::Watch;
use crate::time::Timestamp;
use crate::worker::WorkerEvent;

/// The ending of the files.
const LOCK: &str = "lock";
/// The ending of one that is being made.
const DRAFT: &str = "new";

/// A worker, as the file of its name tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its name.
    pub worker: WorkerId,
    /// Whether it lives, and who it is.
    pub state: LockState,
}

/// Every worker that has a file in the folder, in the order of their names. It only reads.
pub(crate) fn workers_in(folder: &Path) -> io::Result<Vec<Seen>> {
    let mut files = match Liveness::seen_at(folder).files() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    files.sort();
    let see = |path: &PathBuf| {
        let name = path.file_stem()?.to_str()?;
        // What cannot be inspected counts as held.
        let state = lock::inspect(path).unwrap_or(LockState::Held(None));
        Some(Seen { worker: WorkerId(name.into()), state })
    };
    Ok(files.iter().filter_map(see).collect())
}

/// Removes the files of dead workers that none of these running jobs needs.
pub(crate) fn remove_dead_workers(
    folder: &Path,
    running: &[Job],
    now: Timestamp,
) -> io::Result<()> {
    let liveness = Liveness::seen_at(folder);
    let dead = liveness.take_dead(running, now)?;
    liveness.forget(dead, running, now)
}

/// The file of a worker that is gone, or has not begun. Nobody begins under its name while this is
/// there.
pub(super) struct Dead {
    path: PathBuf,
    _held: Held,
}

/// A folder with a file for each worker that lives.
#[derive(Debug, Clone)]
pub(super) struct Liveness {
    folder: PathBuf,
    /// Workers whose end a thread waits for.
    watched: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Liveness {
    pub fn at(folder: &Path) -> io::Result<Liveness> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Liveness::seen_at(folder))
    }

    /// A folder to read, which is there or not.
    pub fn seen_at(folder: &Path) -> Liveness {
        Liveness { folder: folder.into(), watched: Arc::default() }
    }

    /// Says that a worker is here, until it is dropped. The file stays, and tells then that the
    /// worker is gone; another one removes it when no job needs to know.
    pub fn announce(&self, worker: &WorkerId, now: Timestamp) -> io::Result<Held> {
        let path = self.file(worker);
        lock::take_new(&path, &path.with_extension(DRAFT), now)
    }

    /// Whether nobody looks after a running job: its lease ran out, or its worker is known to be
    /// dead. Nothing is known of a worker without a file.
    pub fn is_orphan(&self, job: &Job, now: Timestamp) -> bool {
        let Some(lease) = job.lease() else { return false };
        let file = self.file(&lease.worker);
        order::is_lapsed(job, now) || (file.exists() && !is_held(&file))
    }

    /// Wakes whoever waits when a worker came or went.
    pub fn changes(&self) -> Watch {
        Watch::folder_if_possible(&self.folder)
    }

    /// Waits for the end of every worker that lives, each on a thread of its own, and sends an
    /// event.
    pub fn watch(&self, own: &WorkerId, event_sender: &Sender<WorkerEvent>) -> io::Result<()> {
        let own = self.file(own);
        for path in self.files()?.into_iter().filter(|path| *path != own && is_held(path)) {
            let mut watched = self.watched.lock().expect("no thread panics while it holds the set");
            if watched.len() >= limits::WORKERS_WATCHED_MAX || !watched.insert(path.clone()) {
                continue;
            }
            drop(watched);
            let (liveness, event_sender) = (self.clone(), event_sender.clone());
            thread::Builder::new().name("liveness".into()).spawn(move || {
                // Without its file there is nothing to wait for.
                let _ = lock::wait_for_end(&path);
                let mut watched =
                    liveness.watched.lock().expect("no thread panics while it holds the set");
                watched.remove(&path);
                drop(watched);
                // The loop is gone only when the process is about to be.
                let _ = event_sender.send(WorkerEvent::OthersChanged);
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
    pub fn forget(&self, dead: Vec<Dead>, running: &[Job], now: Timestamp) -> io::Result<()> {
        let needed = self.files_of(running);
        for dead in dead.iter().filter(|dead| !needed.contains(&dead.path)) {
            fs::remove_file(&dead.path)?;
        }
        for path in self.files_with(DRAFT)?.into_iter().filter(|path| is_forgotten(path, now)) {
            if let Some(_held) = lock::try_take(&path, now)? {
                fs::remove_file(&path)?;
            }
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
        self.files_with(LOCK)
    }

    fn files_with(&self, ending: &str) -> io::Result<Vec<PathBuf>> {
        let has_it = |path: &PathBuf| path.extension().is_some_and(|found| found == ending);
        let entries = fs::read_dir(&self.folder)?.flatten();
        Ok(entries.map(|entry| entry.path()).filter(has_it).collect())
    }
}

/// Whether whoever began to make this file is gone: it takes a moment.
fn is_forgotten(path: &Path, now: Timestamp) -> bool {
    let Ok(changed) = fs::metadata(path).and_then(|metadata| metadata.modified()) else {
        return false;
    };
    let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    u128::from(now.0) > changed + u128::from(limits::LOCK_DRAFT_MS_MAX)
}

/// What cannot be inspected counts as held: the lease says when that ends.
fn is_held(path: &Path) -> bool {
    !matches!(lock::inspect(path), Ok(LockState::Free))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::NewJob;
    use crate::queue::Queue;
    use crate::store::{Claim, MemoryStore};

    #[test]
    fn nobody_who_clears_up_takes_the_file_of_a_worker_that_comes() {
        const NOW: Timestamp = Timestamp(7);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let liveness = Liveness::at(folder.path()).expect("a folder");
        // Dropped by a panic too.
        let coming = Arc::new(());
        thread::scope(|scope| {
            let still_coming = Arc::downgrade(&coming);
            let liveness = &liveness;
            scope.spawn(move || {
                while still_coming.strong_count() > 0 {
                    // Who removes a file finds it gone at times, or held.
                    let dead = liveness.take_dead(&[], NOW).unwrap_or_default();
                    let _ = liveness.forget(dead, &[], NOW);
                }
            });
            let coming = coming;
            for number in 0..300 {
                let worker = WorkerId(format!("host.example-{number}"));
                let held = liveness.announce(&worker, NOW).expect("it is its own");
                assert!(liveness.file(&worker).exists());
                drop(held);
            }
            drop(coming);
        });
        let dead = liveness.take_dead(&[], NOW).expect("nobody is there");
        liveness.forget(dead, &[], NOW).expect("it can");
        assert_eq!(liveness.files().expect("a folder"), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn a_file_that_was_never_finished_goes_in_the_end() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let liveness = Liveness::at(folder.path()).expect("a folder");
        let draft = folder.path().join("host-1.new");
        fs::write(&draft, "").expect("a file");
        for (now, is_there) in [(Timestamp(0), true), (Timestamp(u64::MAX), false)] {
            liveness.forget(Vec::new(), &[], now).expect("a folder");
            assert_eq!(draft.exists(), is_there);
        }
    }

    #[test]
    fn a_worker_that_claims_and_dies_while_others_clear_up_is_not_forgotten() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let liveness = Liveness::at(folder.path()).expect("a folder");
        let queue = Queue::new(MemoryStore::default());
        let worker = WorkerId("w".into());
        let idle = WorkerId("idle".into());
        for worker in [&worker, &idle] {
            drop(liveness.announce(worker, Timestamp(1)).expect("it starts"));
        }
        let dead = liveness.take_dead(&[], Timestamp(2)).expect("it can");
        let issue = "h/o/r#1".parse().expect("a good reference");
        queue.enqueue(NewJob::new(issue, "fix")).expect("an enqueue");
        let claimed = queue.claim(Claim::new(worker, 1, 60_000)).expect("a claim");
        let job = claimed.expect("there is one");
        liveness.forget(dead, std::slice::from_ref(&job), Timestamp(3)).expect("it can");
        assert!(liveness.is_orphan(&job, queue.now()), "its lease has not run out");
        assert!(!liveness.file(&idle).exists());
    }
}
