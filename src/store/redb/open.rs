//! The file as this process has it open: once, and anew after an error.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use ::redb::backends::FileBackend;
use ::redb::{
    ConcurrencyMode, Database, DatabaseError, ReadTransaction, TransactionError, WriteTransaction,
};

use crate::job::limits;
use crate::store::StoreError;
use crate::store::redb::file::{ImpatientFile, with_patience};
use crate::store::redb::guard::guard;
use crate::store::redb::holder::{self, FileId, Refusals};
use crate::store::redb::read_only::Handle;
use crate::store::redb::{OrDamaged, from_redb};

/// A file that this process has open.
pub(super) struct Open {
    pub database: Handle,
    pub id: FileId,
    pub refusals: Refusals,
}

impl Open {
    /// Becomes the one writer, or gives up after [`limits::STORE_WAIT_MS_MAX`].
    pub fn begin_write(&self, path: &Path) -> Result<WriteTransaction, StoreError> {
        let Some(database) = self.database.writer() else {
            let source = io::ErrorKind::ReadOnlyFilesystem.into();
            return Err(StoreError::Io { what: "write to", path: path.into(), source });
        };
        let attempt = || match database.try_begin_write() {
            Ok(txn) => Ok(Some(txn)),
            Err(TransactionError::WouldBlock) => Ok(None),
            Err(error) => Err(error).or_damaged(path),
        };
        let busy = |waited_ms| StoreError::Busy { path: path.into(), waited_ms, holder: None };
        let txn = with_patience(attempt)
            .and_then(|waited| waited.map_err(busy))
            .map_err(|error| self.with_holder(error))?;
        self.check_place(path)?;
        Ok(txn)
    }

    pub fn begin_read(&self, path: &Path) -> Result<ReadTransaction, StoreError> {
        self.check_place(path)?;
        let txn = self.database.begin_read().or_damaged(path);
        txn.map_err(|error| self.with_holder(error))
    }

    /// Somebody may have removed the file or put another one in its place. What is written to the
    /// old one then is lost, and what is read from it is of no use.
    pub fn check_place(&self, path: &Path) -> Result<(), StoreError> {
        match FileId::at(path) {
            Ok(Some(id)) if id == self.id => Ok(()),
            Ok(found) => Err(StoreError::Gone { path: path.into(), removed: found.is_none() }),
            Err(source) => {
                Err(StoreError::Io { what: "look at the queue", path: path.into(), source })
            }
        }
    }

    /// The same error, with the name of whoever kept this process waiting.
    fn with_holder(&self, error: StoreError) -> StoreError {
        with_holder(error, &self.refusals, self.id)
    }
}

pub(super) fn with_holder(error: StoreError, refusals: &Refusals, id: FileId) -> StoreError {
    match error {
        StoreError::Busy { path, waited_ms, holder: None } => {
            StoreError::Busy { path, waited_ms, holder: refusals.holder(id) }
        }
        error => error,
    }
}

/// What all stores of a file in this process share.
pub(super) struct SharedHandle(Mutex<Arc<Open>>);

impl SharedHandle {
    pub fn new(open: Open) -> SharedHandle {
        SharedHandle(Mutex::new(Arc::new(open)))
    }

    pub fn get(&self) -> Arc<Open> {
        Arc::clone(&self.lock())
    }

    /// Opens the file anew in place of a handle that an error has closed, if nobody else has. The
    /// old one lives until its last transaction ends; it holds no lock that a writer needs.
    pub fn reopen(&self, path: &Path, closed: &Arc<Open>) -> Result<Arc<Open>, StoreError> {
        let mut current = self.lock();
        if Arc::ptr_eq(&current, closed) && closed.database.writer().is_some() {
            // Not another file that was put there meanwhile, and no new one.
            closed.check_place(path)?;
            let open = open_file(path, OpenOptions::new().read(true).write(true))?;
            if open.id != closed.id {
                return Err(StoreError::Gone { path: path.into(), removed: false });
            }
            *current = Arc::new(open);
        }
        Ok(Arc::clone(&current))
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Open>> {
        self.0.lock().expect("no thread panics while it opens a file")
    }
}

static HANDLES: Mutex<BTreeMap<PathBuf, Weak<SharedHandle>>> = Mutex::new(BTreeMap::new());

/// Opens a file, or makes it; or takes the handle that this process has.
pub(super) fn open_once(path: &Path) -> Result<Arc<SharedHandle>, StoreError> {
    let io_error = |source| io_error(path, source);
    let mut handles = HANDLES.lock().expect("no thread panics while it opens a file");
    let known = path.canonicalize().ok().and_then(|path| handles.get(&path)?.upgrade());
    if let Some(known) = known
        && FileId::at(path).map_err(io_error)? == Some(known.get().id)
    {
        return Ok(known);
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let handle = Arc::new(SharedHandle::new(open_file(path, &options)?));
    handles.retain(|_, known| known.strong_count() > 0);
    handles.insert(path.canonicalize().map_err(io_error)?, Arc::downgrade(&handle));
    Ok(handle)
}

fn open_file(path: &Path, options: &OpenOptions) -> Result<Open, StoreError> {
    match with_patience(|| try_open_file(path, options))? {
        Ok(open) => Ok(open),
        Err(waited_ms) => Err(flocked(path, waited_ms)),
    }
}

/// `None` while another program holds the whole file.
fn try_open_file(path: &Path, options: &OpenOptions) -> Result<Option<Open>, StoreError> {
    let io_error = |source| io_error(path, source);
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
    let database = guard(path, || match builder.create_with_backend(file) {
        Ok(database) => Ok(Some(database)),
        Err(DatabaseError::DatabaseAlreadyOpen) => Ok(None),
        Err(error) => Err(with_holder(from_redb(path, error.into()), &refusals, id)),
    })?;
    Ok(database.map(|database| Open { database: Handle::Shared(database), id, refusals }))
}

/// A program that is none of kugetsu's holds the whole file: any that may read it can.
pub(super) fn flocked(path: &Path, waited_ms: u64) -> StoreError {
    let id = FileId::at(path).ok().flatten();
    let holder = id.and_then(holder::flock_holder);
    StoreError::Busy { path: path.into(), waited_ms, holder }
}

/// Whether the file could grow: what it has already can be written on a disk that is full. Writes as
/// much beside it, into a file without a name.
pub(super) fn check_room(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::tempfile_in(folder)?;
        let zeros = [0; 64 * 1024];
        for _ in 0..limits::EXAMINE_BYTES / zeros.len() {
            file.write_all(&zeros)?;
        }
        file.sync_all()
    };
    write().map_err(|source| StoreError::Io { what: "write beside", path: path.into(), source })
}

fn io_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { what: "open the queue", path: path.into(), source }
}
