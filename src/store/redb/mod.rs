//! The default backend: one redb file that any number of processes use at once.
//!
//! `docs/STORAGE.md` describes the file.

mod file;
mod guard;
mod holder;
mod open;
mod position;
mod read;
mod read_only;
mod tables;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::redb::{ReadTransaction, WriteTransaction};

use crate::failpoint;
use crate::job::{Hold, IssueRef, Job, JobId, Session, StateKind, limits};
use crate::store::apply::{self, Header};
use crate::store::record::{self, BadRecord};
use crate::store::wake::{self, Watch};
use crate::store::{Answer, ListQuery, Op, Page, Position, Stats, Store, StoreError};
use crate::time::{Clock, Timestamp};

use self::guard::guard;
use self::open::{Open, SharedHandle};
use self::tables::WriteTables;

pub(crate) use self::guard::is_guarding;

/// The layout of the tables, and the largest version of a record. A file with a larger number is
/// refused; one with a smaller number is read, and gets this one with its next change.
const SCHEMA: u32 = 2;
/// The smallest number that is read.
const SCHEMA_FIRST: u32 = 1;

/// Jobs in a redb file.
///
/// The file and a wake file beside it are made, readable by their owner alone, if they are not
/// there. A process holds a file open once, however many stores it makes of it: they share its
/// page cache, and redb refuses a second handle of one process in some modes. When an error of the
/// disk has closed it, the next call opens it anew. Any number of processes may have the file open;
/// the system frees the locks of one that dies.
///
/// The file is on a local file system, which keeps `flock` and tells of writes by inotify.
pub struct RedbStore {
    handle: Arc<SharedHandle>,
    path: PathBuf,
    wake: PathBuf,
    clock: Arc<dyn Clock>,
}

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
        let handle = open::open_once(path)?;
        let wake = path.with_file_name("wake");
        let store = RedbStore { handle, path: path.into(), wake, clock };
        guard(path, || store.check_schema())?;
        Ok(store)
    }

    /// A new file gets its tables.
    fn check_schema(&self) -> Result<(), StoreError> {
        if self.schema()?.is_none() {
            self.write(|txn| {
                let tables = WriteTables::open(txn, &self.path, self.now())?;
                Ok(((), tables.close(Changed::Yes)?))
            })?;
        }
        self.check_known_schema()
    }

    fn check_known_schema(&self) -> Result<(), StoreError> {
        match self.schema()? {
            Some(SCHEMA_FIRST..=SCHEMA) => Ok(()),
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
        match tables::schema(&meta, &self.path)? {
            Some(schema) => Ok(Some(schema)),
            None => Err(damaged(&self.path, "it has no schema version")),
        }
    }

    /// Runs `work` in a write transaction, and commits if it says so.
    fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(T, Changed), StoreError>,
    ) -> Result<T, StoreError> {
        let (txn, open) = self.begin_write()?;
        match work(&txn) {
            Ok((result, Changed::Yes)) => match self.commit_to_disk(txn) {
                // What was acknowledged is in the file that everybody else finds.
                Ok(()) => open.check_place(&self.path).map(|()| result),
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
    fn begin_write(&self) -> Result<(WriteTransaction, Arc<Open>), StoreError> {
        self.begin(|open| open.begin_write(&self.path))
    }

    fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        self.begin(|open| open.begin_read(&self.path)).map(|(txn, _)| txn)
    }

    /// Begins a transaction. An error of the disk closes a handle for good: if one did, whoever met
    /// it was told, and the file is opened anew.
    fn begin<T>(
        &self,
        begin: impl Fn(&Open) -> Result<T, StoreError>,
    ) -> Result<(T, Arc<Open>), StoreError> {
        let open = self.handle.get();
        match begin(&open) {
            Ok(txn) => Ok((txn, open)),
            Err(StoreError::Latched { .. }) => {
                let open = self.handle.reopen(&self.path, &open)?;
                Ok((begin(&open)?, open))
            }
            Err(error) => Err(error),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
                tables.close(changed)?;
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

    fn examine(&self) -> Result<(), StoreError> {
        open::check_room(&self.path)?;
        guard(&self.path, || {
            self.write(|txn| {
                let mut tables = WriteTables::open(txn, &self.path, self.now())?;
                tables.write_header()?;
                Ok(((), tables.close(Changed::Yes)?))
            })
        })
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
            Ok((true, tables.close(Changed::Yes)?))
        })
    }
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

fn decode_hold(path: &Path, bytes: &[u8]) -> Result<Hold, StoreError> {
    record::decode_hold(bytes).map_err(|error| from_record(path, error))
}

fn decode_session(path: &Path, bytes: &[u8]) -> Result<Session, StoreError> {
    record::decode_session(bytes).map_err(|error| from_record(path, error))
}

fn decode_header(path: &Path, bytes: &[u8]) -> Result<Header, StoreError> {
    record::decode_header(bytes).map_err(|error| from_record(path, error))
}

#[cfg(test)]
mod tests {
    use super::file::trouble;
    use super::*;
    use crate::job::NewJob;
    use crate::time::SystemClock;

    #[test]
    fn a_commit_into_a_file_that_went_meanwhile_is_not_acknowledged() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("queue.redb");
        let store = RedbStore::open(&path, Arc::new(SystemClock)).expect("a new file");
        let answer = store.write(|txn| {
            WriteTables::open(txn, &path, store.now())?.close(Changed::Yes)?;
            std::fs::rename(&path, folder.path().join("elsewhere")).expect("a move");
            Ok(((), Changed::Yes))
        });
        assert!(matches!(answer, Err(StoreError::Gone { removed: true, .. })), "{answer:?}");
    }

    fn enqueue(issue: u64) -> Op {
        let issue = format!("h/o/r#{issue}").parse().expect("a good reference");
        Op::Enqueue(NewJob::new(issue, "fix"))
    }

    #[test]
    fn a_disk_that_refuses_closes_the_store_until_it_answers_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("queue.redb");
        let clock = || Arc::new(SystemClock);
        let store = RedbStore::open(&path, clock()).expect("a new file");
        let other = RedbStore::open(&path, clock()).expect("the same file");
        store.commit(vec![enqueue(1)]).expect("a commit");
        let (mut acknowledged, mut in_doubt, mut changes) = (1, 0, 0);
        loop {
            trouble::after(changes);
            let answer = store.commit(vec![enqueue(2 + changes)]);
            if answer.is_ok() {
                break;
            }
            assert!(answer.is_err_and(|error| error.may_pass()));
            in_doubt += 1;
            // While the disk refuses, so does the store, and says why.
            for store in [&store, &other] {
                let examined = store.examine().expect_err("there is no room");
                assert!(examined.to_string().contains("no storage space"), "{examined}");
            }
            trouble::over();
            other.examine().expect("there is room again");
            other.commit(vec![enqueue(1000 + changes)]).expect("a commit");
            acknowledged += 1;
            let pending = store.stats().expect("both have it open anew").pending;
            assert!((acknowledged..=acknowledged + in_doubt).contains(&pending), "{pending}");
            assert_eq!(store.verify().expect("a read"), Vec::<String>::new());
            changes += 1;
            assert!(changes < 100, "a commit needs fewer");
        }
        trouble::over();
        assert!(changes > 3, "it fails at each of its writes: {changes}");
    }

    #[test]
    fn a_file_that_goes_while_the_disk_refuses_is_not_made_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("queue.redb");
        let store = RedbStore::open(&path, Arc::new(SystemClock)).expect("a new file");
        trouble::after(0);
        store.commit(vec![enqueue(1)]).expect_err("there is no room");
        trouble::over();
        std::fs::remove_file(&path).expect("it is ours");
        let gone = store.commit(vec![enqueue(1)]).expect_err("nobody would see it");
        assert!(matches!(gone, StoreError::Gone { removed: true, .. }), "{gone}");
        assert!(!path.exists());
    }
}
