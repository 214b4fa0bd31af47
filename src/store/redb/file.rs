//! The file under redb, with a bound on every wait for its locks.
//!
//! redb waits for a lock of the file without one: a process that was stopped in the middle of a
//! commit would hang every other.

use std::fmt::Debug;
use std::io;
use std::ops::Bound;
use std::time::Duration;

use ::redb::backends::FileBackend;
use ::redb::{BackendError, StorageBackend};

use crate::job::limits;
use crate::time;

use super::holder::Refusals;

/// A file whose locks are waited for no longer than [`limits::STORE_WAIT_MS_MAX`].
#[derive(Debug)]
pub(super) struct ImpatientFile {
    file: FileBackend,
    refusals: Refusals,
}

impl ImpatientFile {
    /// Notes in `refusals` which lock was refused last.
    pub fn new(file: FileBackend, refusals: Refusals) -> ImpatientFile {
        ImpatientFile { file, refusals }
    }
}

/// Tries until it succeeds, with a growing pause. Gives the milliseconds it waited in vain.
pub(super) fn with_patience<T, E>(
    mut attempt: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Result<T, u64>, E> {
    let began = time::monotonic();
    let mut pause = Duration::from_micros(50);
    loop {
        if let Some(result) = attempt()? {
            return Ok(Ok(result));
        }
        let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if waited_ms > limits::STORE_WAIT_MS_MAX {
            return Ok(Err(waited_ms));
        }
        time::pause(pause);
        pause = (pause * 2).min(Duration::from_millis(limits::STORE_BACKOFF_MS_MAX));
    }
}

fn wait(mut attempt: impl FnMut() -> Result<bool, BackendError>) -> Result<(), BackendError> {
    match with_patience(|| attempt().map(|taken| taken.then_some(())))? {
        Ok(()) => Ok(()),
        Err(_) => Err(BackendError::Io(io::ErrorKind::TimedOut.into())),
    }
}

impl StorageBackend for ImpatientFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        trouble::check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        trouble::check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        trouble::check()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        let taken = self.file.try_lock_range(start, end)?;
        if !taken {
            self.refusals.note(start, end, false);
        }
        Ok(taken)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        let taken = self.file.try_lock_shared_range(start, end)?;
        if !taken {
            self.refusals.note(start, end, true);
        }
        Ok(taken)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        wait(|| self.try_lock_range(start, end))
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        wait(|| self.try_lock_shared_range(start, end))
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

/// A disk that refuses, for tests: after so many changes that a thread asks for.
#[cfg(test)]
pub(in crate::store) mod trouble {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static CHANGES_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    }

    pub fn after(changes: u64) {
        CHANGES_LEFT.set(changes);
    }

    pub fn over() {
        after(u64::MAX);
    }

    pub(super) fn check() -> io::Result<()> {
        match CHANGES_LEFT.get() {
            0 => Err(io::ErrorKind::StorageFull.into()),
            left => {
                CHANGES_LEFT.set(left - u64::from(left < u64::MAX));
                Ok(())
            }
        }
    }
}

#[cfg(not(test))]
mod trouble {
    pub(super) fn check() -> std::io::Result<()> {
        Ok(())
    }
}
