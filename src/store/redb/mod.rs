//! The default backend: one redb file that any number of processes use at once.
//!
//! `docs/STORAGE.md` describes the file.

mod file;
mod guard;
mod holder;
mod position;
mod read;
mod read_only;
mod tables;
mod verify;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use ::redb::backends::FileBackend;
use ::redb::{
    ConcurrencyMode, Database, DatabaseError, ReadTransaction, TransactionError, WriteTransaction,
};

use crate::failpoint;
use crate::job::{IssueRef, Job, JobId, Session, StateKind, limits};
use crate::store::apply::{self, Header};
use crate::store::record::{self, BadRecord};
use crate::store::wake::{self, Watch};
use crate::store::{Answer, ListQuery, Op, Page, Position, Stats, Store, StoreError};
use crate::time::{Clock, Timestamp};

use self::file::{ImpatientFile, with_patience};
use self::guard::guard;
use self::holder::{FileId, Refusals};
use self::read_only::Handle;
use self::tables::WriteTables;

pub(crate) use self::guard::is_guarding;

/// The layout of the tables. A file with a larger number is refused.
const SCHEMA: u32 = 1;

/// Jobs in a redb file.
///
/// The file and a wake file beside it are made, readable by their owner alone, if they are not
/// there. A process holds a file open once, however many stores it makes of it: they share its
/// page cache, and redb refuses a second handle of one process in some modes. Any number of
/// processes may have the file open; the system frees the locks of one that dies.
///
/// The file is on a local file system, which keeps `flock` and tells of writes by inotify.
pub struct RedbStore {
    open: Arc<Open>,
    path: PathBuf,
    wake: PathBuf,
    clock: Arc<dyn Clock>,
}

/// A file that this process has open.
struct Open {
    database: Handle,
    id: FileId,
    refusals: Refusals,
}

impl Open {
    /// The same error, with the name of whoever kept this process waiting.
    fn with_holder(&self, error: StoreError) -> StoreError {
        with_holder(error, &self.refusals, self.id)
    }
}

fn with_holder(error: StoreError, refusals: &Refusals, id: FileId) -> StoreError {
    match error {
        StoreError::Busy { path, waited_ms, holder: None } => {
            StoreError::Busy { path, waited_ms, holder: refusals.holder(id) }
        }
        error => error,
    }
}

static OPEN: Mutex<BTreeMap<PathBuf, Weak<Open>>> = Mutex::new(BTreeMap::new());

impl RedbStore {
    /// Opens the file, or makes it. Its folder must be there, and holds one queue: the wake file
    /// is called `wake`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the file can be neither opened nor made, [`StoreError::Damaged`] if it
    /// is not a queue, [`StoreError::TooNew`] if a newer version wrote it, [`StoreError::Busy`] if
    /// others held it for more than [`limits::STORE_WAIT_MS_MAX`].
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<RedbStore, StoreError> {
        let open = open_once(path)?;
        let store = RedbStore { open, path: path.into(), wake: path.with_file_name("wake"), clock };
        guard(path, || store.check_schema())?;
        Ok(store)
    }

    /// A new file gets its tables; an older one would be brought up to date here.
    fn check_schema(&self) -> Result<(), StoreError> {
        if self.schema()?.is_none() {
            self.write(|txn| {
                let mut tables = WriteTables::open(txn, &self.path, self.now())?;
                tables.initialize(SCHEMA)?;
                tables.close()
            })?;
        }
        self.check_known_schema()
    }

    fn check_known_schema(&self) -> Result<(), StoreError> {
        match self.schema()? {
            Some(SCHEMA) => Ok(()),
            Some(found) if found > SCHEMA => {
                Err(StoreError::TooNew { path: self.path.clone(), found, known: SCHEMA })
            }
            other => Err(damaged(&self.path, format!("its schema is {other:?}"))),
        }
    }

    fn schema(&self) -> Result<Option<u32>, StoreError> {
        let txn = self.begin_read()?;
        let meta = match txn.open_table(tables::META) {
            Ok(meta) => meta,
            Err(::redb::TableError::TableDoesNotExist(_)) => {
                // A file without our table but with others is somebody else's.
                return match txn.list_tables().or_damaged(&self.path)?.next() {
                    None => Ok(None),
                    Some(_) => Err(damaged(&self.path, "it holds another program's tables")),
                };
            }
            Err(error) => return Err(error).or_damaged(&self.path),
        };
        let bytes = meta.get(tables::META_SCHEMA).or_damaged(&self.path)?;
        let Some(bytes) = bytes else {
            return Err(damaged(&self.path, "it has no schema version"));
        };
        match bytes.value().try_into() {
            Ok(bytes) => Ok(Some(u32::from_le_bytes(bytes))),
            Err(_) => Err(damaged(&self.path, "its schema version is not a number")),
        }
    }

    /// Runs `work` in a write transaction, and commits if it says so.
    fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(T, Changed), StoreError>,
    ) -> Result<T, StoreError> {
        let txn = self.begin_write()?;
        match work(&txn) {
            Ok((result, Changed::Yes)) => match self.commit_to_disk(txn) {
                // What was acknowledged is in the file that everybody else finds.
                Ok(()) => self.check_place().map(|()| result),
                // A lock that could not be had in time, within the commit: redb uses the file no
                // more, and the last of its locks comes after the write.
                Err(StoreError::Busy { path, .. }) => Err(StoreError::Latched { path }),
                Err(error) => Err(error),
            },
            Ok((result, Changed::No)) => {
                txn.abort().or_damaged(&self.path)?;
                Ok(result)
            }
            Err(error) => {
                // The first error is the one to tell; dropping the transaction aborts it too.
                let _ = txn.abort();
                Err(error)
            }
        }
    }

    fn commit_to_disk(&self, txn: WriteTransaction) -> Result<(), StoreError> {
        failpoint::here("before_commit");
        txn.commit().or_damaged(&self.path)?;
        failpoint::here("committed");
        Ok(())
    }

    /// Becomes the one writer, or gives up after [`limits::STORE_WAIT_MS_MAX`].
    fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        let Some(database) = self.open.database.writer() else {
            let source = io::ErrorKind::ReadOnlyFilesystem.into();
            return Err(StoreError::Io { what: "write to", path: self.path.clone(), source });
        };
        let attempt = || match database.try_begin_write() {
            Ok(txn) => Ok(Some(txn)),
            Err(TransactionError::WouldBlock) => Ok(None),
            Err(error) => Err(error).or_damaged(&self.path),
        };
        let busy =
            |waited_ms| StoreError::Busy { path: self.path.clone(), waited_ms, holder: None };
        let txn = with_patience(attempt)
            .and_then(|waited| waited.map_err(busy))
            .map_err(|error| self.open.with_holder(error))?;
        self.check_place()?;
        Ok(txn)
    }

    fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        self.check_place()?;
        let txn = self.open.database.begin_read().or_damaged(&self.path);
        txn.map_err(|error| self.open.with_holder(error))
    }

    /// Somebody may have removed the file or put another one in its place. What is written to the
    /// old one then is lost, and what is read from it is of no use.
    fn check_place(&self) -> Result<(), StoreError> {
        let path = || self.path.clone();
        match FileId::at(&self.path) {
            Ok(Some(id)) if id == self.open.id => Ok(()),
            Ok(found) => Err(StoreError::Gone { path: path(), removed: found.is_none() }),
            Err(source) => Err(StoreError::Io { what: "look at the queue", path: path(), source }),
        }
    }

    fn notify_watchers(&self) {
        if let Err(error) = wake::notify(&self.wake) {
            // Whoever waits for a wake-up also polls, slowly.
            tracing::warn!(path = %self.wake.display(), %error, "cannot write the wake file");
        }
    }
}

/// Whether a transaction has anything to commit.
enum Changed {
    Yes,
    No,
}

impl Store for RedbStore {
    fn commit(&self, operations: Vec<Op>) -> Result<Vec<Answer>, StoreError> {
        assert!(operations.len() <= limits::OPS_PER_COMMIT_MAX, "a commit has a bound");
        let claims = operations.iter().any(|op| matches!(op, Op::Claim(_)));
        while claims && guard(&self.path, || self.promote_a_slice())? {}
        let (answers, wakes) = guard(&self.path, || {
            self.write(|txn| {
                let now = self.now();
                let mut tables = WriteTables::open(txn, &self.path, now)?;
                if claims {
                    tables.promote(now)?;
                }
                let mut wakes = false;
                let mut changed = Changed::No;
                let mut answers = Vec::with_capacity(operations.len());
                for op in operations {
                    let wakes_others = apply::wakes_others(&op);
                    let answer = apply::apply(&mut tables, op, now)?;
                    if apply::is_change(&answer) {
                        changed = Changed::Yes;
                        wakes |= wakes_others;
                    }
                    answers.push(answer);
                }
                tables.close()?;
                Ok(((answers, wakes), changed))
            })
        })?;
        if wakes {
            self.notify_watchers();
        }
        Ok(answers)
    }

    fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        guard(&self.path, || self.reader()?.job(id))
    }

    fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        guard(&self.path, || self.reader()?.list(query))
    }

    fn jobs_after(&self, after: JobId, limit: usize) -> Result<Vec<Job>, StoreError> {
        guard(&self.path, || self.reader()?.jobs_after(after, limit))
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        guard(&self.path, || self.reader()?.stats(self.now()))
    }

    fn position(&self, id: JobId, ahead_max: usize) -> Result<Option<Position>, StoreError> {
        self.reader()?.position(id, ahead_max, self.now())
    }

    fn ended_until(
        &self,
        states: &[StateKind],
        at: Timestamp,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError> {
        guard(&self.path, || self.reader()?.ended_until(states, at, limit))
    }

    fn session(&self, issue: &IssueRef) -> Result<Option<Session>, StoreError> {
        guard(&self.path, || self.reader()?.session(issue))
    }

    fn sessions(&self) -> Result<Vec<Session>, StoreError> {
        guard(&self.path, || self.reader()?.sessions())
    }

    fn verify(&self) -> Result<Vec<String>, StoreError> {
        guard(&self.path, || self.reader()?.verify())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn watch(&self) -> Watch {
        Watch::file_if_possible(&self.wake)
    }
}

impl RedbStore {
    /// Moves a slice of the jobs whose time has come into the order of claims, in a transaction
    /// of its own, if there are more of them than one transaction may move.
    fn promote_a_slice(&self) -> Result<bool, StoreError> {
        let now = self.now();
        if self.reader()?.due_but_scheduled(now)? < limits::PROMOTIONS_PER_COMMIT_MAX {
            return Ok(false);
        }
        self.write(|txn| {
            let mut tables = WriteTables::open(txn, &self.path, now)?;
            tables.promote(now)?;
            tables.close()?;
            Ok((true, Changed::Yes))
        })
    }
}

fn open_once(path: &Path) -> Result<Arc<Open>, StoreError> {
    let io_error = |source| StoreError::Io { what: "open the queue", path: path.into(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut open = OPEN.lock().expect("no thread panics while it opens a file");
    let known = path.canonicalize().ok().and_then(|path| open.get(&path)?.upgrade());
    if let Some(known) = known
        && FileId::at(path).map_err(io_error)? == Some(known.id)
    {
        return Ok(known);
    }
    let file = options.open(path).map_err(io_error)?;
    let metadata = file.metadata().map_err(io_error)?;
    if !metadata.is_file() {
        return Err(io_error(io::Error::other("it is not a file")));
    }
    let id = FileId::of(&metadata);
    let refusals = Refusals::default();
    let mut builder = Database::builder();
    builder.set_concurrency_mode(ConcurrencyMode::MultiWriter);
    builder.set_cache_size(limits::STORE_CACHE_BYTES);
    let file = FileBackend::new(file).map_err(|error| from_redb(path, error.into()))?;
    let file = ImpatientFile::new(file, refusals.clone());
    // Guarded here already: the lock on what is open is not to be lost to a panic.
    let database = guard(path, || {
        builder.create_with_backend(file).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                damaged(path, "another program holds it, in a mode that does not share")
            }
            error => with_holder(from_redb(path, error.into()), &refusals, id),
        })
    })?;
    let opened = Arc::new(Open { database: Handle::Shared(database), id, refusals });
    open.retain(|_, known| known.strong_count() > 0);
    open.insert(path.canonicalize().map_err(io_error)?, Arc::downgrade(&opened));
    Ok(opened)
}

fn damaged(path: &Path, what: impl Into<String>) -> StoreError {
    StoreError::Damaged { path: path.into(), what: what.into() }
}

fn from_record(path: &Path, error: BadRecord) -> StoreError {
    match error {
        BadRecord::TooNew(version) => {
            StoreError::TooNew { path: path.into(), found: version.into(), known: SCHEMA }
        }
        BadRecord::Garbled(_) => damaged(path, error.to_string()),
    }
}

fn from_redb(path: &Path, error: ::redb::Error) -> StoreError {
    match error {
        ::redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
            damaged(path, format!("it is not a redb file ({source})"))
        }
        ::redb::Error::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
            damaged(path, "it is shorter than it says: something has cut it off")
        }
        ::redb::Error::Io(source) if source.kind() == io::ErrorKind::TimedOut => {
            let waited_ms = limits::STORE_WAIT_MS_MAX;
            StoreError::Busy { path: path.into(), waited_ms, holder: None }
        }
        ::redb::Error::Io(source) => {
            StoreError::Io { what: "use the queue", path: path.into(), source }
        }
        ::redb::Error::PreviousIo => StoreError::Latched { path: path.into() },
        other => damaged(path, other.to_string()),
    }
}

/// Turns redb's errors into the store's, with the file's name.
trait OrDamaged<T> {
    fn or_damaged(self, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<::redb::Error>> OrDamaged<T> for Result<T, E> {
    fn or_damaged(self, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| from_redb(path, error.into()))
    }
}

fn decode_job(path: &Path, bytes: &[u8]) -> Result<Job, StoreError> {
    record::decode_job(bytes).map_err(|error| from_record(path, error))
}

fn decode_session(path: &Path, bytes: &[u8]) -> Result<Session, StoreError> {
    record::decode_session(bytes).map_err(|error| from_record(path, error))
}

fn decode_header(path: &Path, bytes: &[u8]) -> Result<Header, StoreError> {
    record::decode_header(bytes).map_err(|error| from_record(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SystemClock;

    #[test]
    fn a_commit_into_a_file_that_went_meanwhile_is_not_acknowledged() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("queue.redb");
        let store = RedbStore::open(&path, Arc::new(SystemClock)).expect("a new file");
        let answer = store.write(|txn| {
            WriteTables::open(txn, &path, store.now())?.close()?;
            std::fs::rename(&path, folder.path().join("elsewhere")).expect("a move");
            Ok(((), Changed::Yes))
        });
        assert!(matches!(answer, Err(StoreError::Gone { removed: true, .. })), "{answer:?}");
    }
}
