//! One lock for each repository: git's own locks fail instead of waiting.
//!
//! It is held for a mirror, and for whatever is made from it. Every git that works under it has it
//! as its standard input: a worker that is killed leaves the lock to its git, and nobody else comes
//! in between.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::executor::Stop;
use crate::git::trouble::{self, GitError};
use crate::job::limits;
use crate::process::lock::{self, Held, State};
use crate::process::tree;
use crate::time::{self, Clock, SystemClock};

/// A repository's lock, held until it is dropped and every git has ended that inherited it.
#[derive(Debug)]
pub(crate) struct RepositoryLock(Held);

impl RepositoryLock {
    /// Waits for the lock for so long, or until there is a word to stop.
    pub fn take(
        path: &Path,
        stop: &Receiver<Stop>,
        patience_ms: u64,
    ) -> Result<RepositoryLock, GitError> {
        let deadline = time::monotonic() + Duration::from_millis(patience_ms);
        let failed = |error| trouble::cannot(&format!("lock {}", path.display()), &error);
        loop {
            if let Some(held) = lock::try_take(path, SystemClock.now()).map_err(failed)? {
                return Ok(RepositoryLock(held));
            }
            if time::monotonic() >= deadline {
                let holder = holder_in_words(path).map_err(failed)?;
                let holder = holder.unwrap_or_else(|| "somebody who has just gone".into());
                return Err(GitError::Machine(format!(
                    "{} is held by {holder} for too long",
                    path.display()
                )));
            }
            match stop.recv_timeout(Duration::from_millis(limits::REPOSITORY_LOCK_PAUSE_MS)) {
                Ok(stop) => return Err(GitError::Stopped(stop)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(GitError::Stopped(Stop::Shutdown));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// For a git's standard input.
    pub fn file(&self) -> &File {
        self.0.file()
    }
}

/// Who holds a repository's lock, for whoever waits for it; `None` if nobody does.
pub(crate) fn holder_in_words(path: &Path) -> io::Result<Option<String>> {
    match lock::look(path)? {
        State::Free => Ok(None),
        State::Held(Some(holder)) => {
            let seconds = SystemClock.now().ms_since(holder.since) / 1000;
            Ok(Some(format!("process {} since {seconds} s ago", holder.process.pid)))
        }
        // Its taker is gone, and what it started goes on.
        State::Held(None) => {
            let heirs = tree::reading(path)?;
            let pids: Vec<String> = heirs.iter().map(|heir| heir.pid.to_string()).collect();
            Ok(Some(match pids.is_empty() {
                true => "a process that does not say who it is".into(),
                false => format!("a git whose worker is gone (process {})", pids.join(", ")),
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{bounded, never};

    use super::*;
    use crate::git::call::Git;

    #[test]
    fn one_holds_it_and_others_hear_who() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r.lock");
        assert_eq!(holder_in_words(&path).expect("a look"), None);
        let held = RepositoryLock::take(&path, &never(), 0).expect("it is free");
        let own = format!("process {}", std::process::id());
        let error = RepositoryLock::take(&path, &never(), 0).expect_err("it is held");
        assert!(matches!(&error, GitError::Machine(why) if why.contains(&own)), "{error:?}");
        let (sender, stop) = bounded(1);
        sender.send(Stop::Cancel).expect("there is room");
        let error = RepositoryLock::take(&path, &stop, 60_000).expect_err("it is held");
        assert_eq!(error, GitError::Stopped(Stop::Cancel));
        drop(sender);
        let error = RepositoryLock::take(&path, &stop, 60_000).expect_err("it is held");
        assert_eq!(error, GitError::Stopped(Stop::Shutdown), "nobody is left to say so");
        drop(held);
        RepositoryLock::take(&path, &never(), 0).expect("it is free");
    }

    #[test]
    fn a_git_at_work_holds_it_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r.lock");
        let held = RepositoryLock::take(&path, &never(), 0).expect("it is free");
        let (sender, stop) = bounded(1);
        std::thread::scope(|scope| {
            let heir = held.file().try_clone().expect("a descriptor");
            let git = scope.spawn(move || {
                let git = Git::new(&heir, &stop, 60_000, None);
                git.call_nowhere("slow").config("alias.slow", "!exec sleep 600").run()
            });
            // The worker's part of it ends here, its git's does not.
            drop(held);
            let error = RepositoryLock::take(&path, &never(), 0).expect_err("git holds it");
            assert!(matches!(error, GitError::Machine(_)), "{error:?}");
            sender.send(Stop::Cancel).expect("git runs");
            let answer = git.join().expect("it ends");
            assert_eq!(answer, Err(GitError::Stopped(Stop::Cancel)));
        });
        RepositoryLock::take(&path, &never(), 60_000).expect("it ended");
    }
}
