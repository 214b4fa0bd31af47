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

/// A file whose locks are waited for no longer than [`limits::STORE_WAIT_MS_MAX`].
#[derive(Debug)]
pub(super) struct ImpatientFile(pub FileBackend);

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
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        wait(|| self.0.try_lock_range(start, end))
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        wait(|| self.0.try_lock_shared_range(start, end))
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}
