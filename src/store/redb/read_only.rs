//! Opening a queue read-only: without changing a byte of it.
//!
//! redb reads beside a writer that lives. A file that none has open asks for the end of its last
//! writer to be noted first, because kugetsu never closes it: that is noted in memory alone.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use ::redb::backends::FileBackend;
use ::redb::{
    BackendError, Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase,
    ReadTransaction, ReadableDatabase, StorageBackend, TransactionError,
};

use crate::job::limits;
use crate::store::StoreError;
use crate::store::redb::file::ImpatientFile;
use crate::store::redb::guard::guard;
use crate::store::redb::holder::{FileId, Refusals};
use crate::store::redb::open::{Open, SharedHandle, flocked, with_holder};
use crate::store::redb::{RedbStore, SCHEMA, damaged, from_redb};
use crate::time::{self, Clock};

/// A file that is open.
pub(super) enum Handle {
    Shared(Database),
    /// Beside a writer that lives.
    Reader(ReadOnlyDatabase),
    /// Alone, with changes in memory.
    Shadow(Database),
}

impl Handle {
    pub fn begin_read(&self) -> Result<ReadTransaction, TransactionError> {
        match self {
            Handle::Shared(database) => database.begin_read(),
            Handle::Reader(database) => database.begin_read(),
            Handle::Shadow(database) => database.begin_read(),
        }
    }

    /// What can be written to.
    pub fn writer(&self) -> Option<&Database> {
        match self {
            Handle::Shared(database) => Some(database),
            Handle::Reader(_) | Handle::Shadow(_) => None,
        }
    }
}

impl RedbStore {
    /// The format of the file.
    pub(crate) const FORMAT: u32 = SCHEMA;

    /// Opens a file that is there and changes nothing of it, not even what opening changes
    /// otherwise; then has `work` read. It begins again when somebody writes in between, so that
    /// what is half written is not taken for damage.
    ///
    /// # Errors
    ///
    /// As [`RedbStore::open`], and of `work`; [`StoreError::Busy`] if others do not stop writing.
    pub(crate) fn open_read_only<T>(
        path: &Path,
        clock: &Arc<dyn Clock>,
        mut work: impl FnMut(RedbStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let io_error =
            |source| StoreError::Io { what: "open the queue", path: path.into(), source };
        let began = time::monotonic();
        for _ in 0..limits::STORE_AUDITS_MAX {
            // A pipe in its place is not waited for.
            let mut options = File::options();
            options.read(true).custom_flags(nix::libc::O_NONBLOCK);
            let file = options.open(path).map_err(io_error)?;
            let before = file.metadata().map_err(io_error)?;
            if !before.is_file() {
                return Err(io_error(io::Error::other("it is not a file")));
            }
            let mut is_alone = true;
            let done = guard(path, || {
                let (open, alone) = open_file_read_only(path, file.try_clone().map_err(io_error)?)?;
                is_alone = alone;
                let store = RedbStore {
                    handle: Arc::new(SharedHandle::new(open)),
                    path: path.into(),
                    wake: path.with_file_name("wake"),
                    clock: Arc::clone(clock),
                };
                store.check_known_schema()?;
                work(store)
            });
            let after = file.metadata().map_err(io_error)?;
            if !is_alone || stamp(&before) == stamp(&after) {
                return done;
            }
        }
        let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Err(StoreError::Busy { path: path.into(), waited_ms, holder: None })
    }
}

fn stamp(metadata: &Metadata) -> (u64, i64, i64) {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

/// And whether nobody else is there.
fn open_file_read_only(path: &Path, file: File) -> Result<(Open, bool), StoreError> {
    let io_error = |source| StoreError::Io { what: "open the queue", path: path.into(), source };
    let metadata = file.metadata().map_err(io_error)?;
    if metadata.len() == 0 {
        return Err(damaged(path, "it is empty"));
    }
    let (id, refusals) = (FileId::of(&metadata), Refusals::default());
    let refuse = |error: DatabaseError| match error {
        DatabaseError::DatabaseAlreadyOpen => flocked(path, 0),
        error => with_holder(from_redb(path, error.into()), &refusals, id),
    };
    let mut builder = Builder::new();
    builder.set_concurrency_mode(ConcurrencyMode::MultiWriter);
    builder.set_cache_size(limits::STORE_CACHE_BYTES);
    let reader = FileBackend::new(file.try_clone().map_err(io_error)?).and_then(|file| {
        builder.open_read_only_with_backend(ImpatientFile::new(file, refusals.clone()))
    });
    let (database, is_alone) = match reader {
        Ok(reader) => (Handle::Reader(reader), false),
        Err(DatabaseError::RepairAborted) => {
            let shadow = Shadow::of(file).map_err(io_error)?;
            let database = builder.create_with_backend(shadow).map_err(refuse)?;
            (Handle::Shadow(database), true)
        }
        Err(error) => return Err(refuse(error)),
    };
    Ok((Open { database, id, refusals }, is_alone))
}

/// Bytes that are changed at once.
const PAGE: u64 = 4096;

/// A file that is only read: what is written to it stays in memory.
#[derive(Debug)]
struct Shadow {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    length: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Shadow {
    fn of(file: File) -> io::Result<Shadow> {
        let length = file.metadata()?.len();
        Ok(Shadow { file, written: Mutex::new(Written { length, pages: BTreeMap::new() }) })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().expect("no thread panics while it holds the pages")
    }

    /// A page as the file has it; behind its end there is nothing.
    fn page(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; usize::try_from(PAGE).map_err(io::Error::other)?];
        let mut filled = 0;
        while filled < page.len() {
            match self.file.read_at(&mut page[filled..], number * PAGE + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(page)
    }

    /// Calls `each` with a page and the parts of it and of the whole that are meant.
    fn for_pages(
        &self,
        offset: u64,
        length: usize,
        mut each: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let from = usize::try_from(at % PAGE).map_err(io::Error::other)?;
            let room = usize::try_from(PAGE).map_err(io::Error::other)? - from;
            let count = room.min(length - done);
            each(at / PAGE, from..from + count, done..done + count)?;
            done += count;
        }
        Ok(())
    }
}

impl StorageBackend for Shadow {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if written.pages.is_empty() {
            return self.file.read_exact_at(out, offset);
        }
        self.for_pages(offset, out.len(), |page, part, place| {
            match written.pages.get(&page) {
                Some(bytes) => out[place].copy_from_slice(&bytes[part]),
                None => out[place].copy_from_slice(&self.page(page)?[part]),
            }
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.written().length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        self.for_pages(offset, data.len(), |page, part, place| {
            let bytes = match written.pages.remove(&page) {
                Some(bytes) => bytes,
                None => self.page(page)?,
            };
            let bytes = written.pages.entry(page).or_insert(bytes);
            bytes[part].copy_from_slice(&data[place]);
            Ok(())
        })
    }

    // It is nobody else's: there is nothing to lock.
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::job::{JobId, NewJob};
    use crate::store::{Op, Store};
    use crate::testing::SimClock;

    fn clock() -> Arc<dyn Clock> {
        Arc::new(SimClock::at(1_000))
    }

    fn enqueue(store: &RedbStore) {
        let issue = "h/o/r#1".parse().expect("a good reference");
        let op = Op::Enqueue(NewJob::new(issue, "fix"));
        store.commit(vec![op]).expect("a commit");
    }

    fn count(store: &RedbStore) -> usize {
        assert_eq!(store.verify().expect("it is whole"), Vec::<String>::new());
        store.jobs_after(JobId(0), 10).expect("a read").len()
    }

    #[test]
    fn reading_changes_nothing_beside_a_writer_or_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("queue.redb");
        let writer = RedbStore::open(&path, clock()).expect("a new file");
        enqueue(&writer);
        // As it is when its writer was killed.
        let copy = folder.path().join("copy.redb");
        fs::copy(&path, &copy).expect("a copy");
        for path in [&path, &copy] {
            let about = || fs::metadata(path).expect("it is there");
            let before = (stamp(&about()), fs::read(path).expect("its bytes"));
            let refused = RedbStore::open_read_only(path, &clock(), |store| {
                assert_eq!(count(&store), 1);
                store.commit(vec![Op::Resume])
            });
            assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
            assert_eq!((stamp(&about()), fs::read(path).expect("its bytes")), before);
        }
    }

    #[test]
    fn reading_begins_again_when_somebody_wrote() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("queue.redb");
        let copy = folder.path().join("copy.redb");
        let writer = RedbStore::open(&path, clock()).expect("a new file");
        enqueue(&writer);
        fs::copy(&path, &copy).expect("a copy");
        let mut readings = 0;
        let jobs = RedbStore::open_read_only(&copy, &clock(), |store| {
            readings += 1;
            if readings == 1 {
                enqueue(&RedbStore::open(&copy, clock()).expect("it is there"));
                panic!("what is half written may be anything");
            }
            Ok(count(&store))
        });
        assert_eq!((jobs.expect("a reading"), readings), (2, 2));
        fs::copy(&path, &copy).expect("a copy");
        let mut restless = 0;
        let busy = RedbStore::open_read_only(&copy, &clock(), |_| {
            restless += 1;
            fs::copy(&path, &copy).map(drop).map_err(|source| StoreError::Io {
                what: "copy",
                path: copy.clone(),
                source,
            })
        });
        assert!(matches!(busy, Err(StoreError::Busy { .. })), "{busy:?}");
        assert_eq!(restless, limits::STORE_AUDITS_MAX);
        assert!(
            RedbStore::open_read_only(&folder.path().join("none"), &clock(), |_| Ok(())).is_err()
        );
    }
}
