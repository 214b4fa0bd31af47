//! The folder of a run: what a shim is told, what it holds, and what it leaves.
//!
//! | file | written by | means |
//! |---|---|---|
//! | `lock` | shim, held by its whole tree | while it is held, something of the run lives |
//! | `shim` | shim, held by it alone | while it is held, the shim lives |
//! | `spec.json` | worker, before the shim | what to run, and its limits |
//! | `msg.txt`, `context.txt` | worker, before the shim | what the shim puts before the agent |
//! | `cgroup` | shim, past the gate | the control group that the agent is in, if there is one |
//! | `started` | shim, past the gate | the agent was about to start |
//! | `exit.json` | shim, at the end | how the agent ended |

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::job::limits;
use crate::process::cgroup::Cgroup;
use crate::process::identity::Identity;
use crate::process::lock::{self, Held};
use crate::process::meter::ModelUsage;
use crate::time::{self, Timestamp};

/// A run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

/// What a shim runs, and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// Program and arguments. No secret belongs here.
    pub arguments: Vec<String>,
    /// The folder to work in; `PWD` is set to it.
    pub folder: PathBuf,
    /// What the agent reads on its standard input.
    pub stdin: PathBuf,
    /// What its output is added to.
    pub log: PathBuf,
    /// Files that are put where the agent finds them, past the gate: from where, and to where.
    #[serde(default)]
    pub places: Vec<(PathBuf, PathBuf)>,
    /// Added to the shim's own environment. No secret belongs here.
    pub environment: Vec<(String, String)>,
    /// Taken out of the shim's own environment. A name that ends in `*` stands for a beginning.
    pub environment_removed: Vec<String>,
    /// Wall-clock limit.
    pub timeout_ms: u64,
    /// From TERM to KILL.
    pub kill_grace_ms: u64,
    /// Most bytes this run may add to the log.
    pub log_bytes_max: u64,
    /// How long it may neither log nor use the processor; 0 is for ever.
    #[serde(default)]
    pub idle_ms: u64,
    /// Most calls of the model, as far as its log tells.
    #[serde(default)]
    pub steps_max: Option<u64>,
    /// Most it may cost, in millionths, as far as its log tells.
    #[serde(default)]
    pub cost_micros_max: Option<u64>,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The agent ended by itself, or somebody else's signal ended it.
    Exited,
    /// The agent could not be started.
    NotStarted,
    /// The wall-clock limit.
    Timeout,
    /// It did nothing for too long.
    IdleTimeout,
    /// The log grew too large.
    LogLimit,
    /// It called the model too often.
    StepLimit,
    /// It cost too much.
    CostLimit,
    /// The shim was told to end it.
    Terminated,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Why.
    pub cause: Cause,
    /// The agent's exit code, if it had one.
    pub exit_code: Option<i32>,
    /// The signal that ended the agent, if one did.
    pub signal: Option<i32>,
    /// More in words, if there is more.
    pub detail: String,
    /// Milliseconds from the agent's start to its end.
    pub wall_ms: u64,
    /// Processor time of the whole tree.
    pub cpu_ms: u64,
    /// Largest memory of one process of the tree.
    pub peak_memory_kib: u64,
    /// Bytes added to the log.
    pub log_bytes: u64,
    /// Processes that the agent left behind and that were killed.
    pub left_behind: u32,
    /// What its log tells that it used up.
    #[serde(default)]
    pub usage: ModelUsage,
}

impl RunDir {
    /// A folder that is known.
    pub fn at(path: &Path) -> RunDir {
        RunDir(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the folder, for its owner only. What a run of another queue left there is removed,
    /// if nothing of it lives.
    pub fn create(&self) -> io::Result<()> {
        if self.0.exists() {
            if self.try_lock()?.is_none() {
                return Err(io::Error::other("another run is alive in it"));
            }
            fs::remove_dir_all(&self.0)?;
        }
        DirBuilder::new().mode(0o700).create(&self.0)
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What the shim is told.
    pub fn spec(&self) -> io::Result<Option<RunSpec>> {
        read_json(&self.file("spec.json"))
    }

    /// Says what the shim is to do.
    pub fn write_spec(&self, spec: &RunSpec) -> io::Result<()> {
        write_json(&self.file("spec.json"), spec)
    }

    /// How the run ended, once it has.
    pub fn exit_record(&self) -> io::Result<Option<ExitRecord>> {
        read_json(&self.file("exit.json"))
    }

    /// Says how the run ended: whole on disk, or not there.
    pub fn write_exit_record(&self, record: &ExitRecord) -> io::Result<()> {
        write_json(&self.file("exit.json"), record)
    }

    /// Whether the run got past its gate.
    pub fn is_started(&self) -> io::Result<bool> {
        self.file("started").try_exists()
    }

    /// Holds what tells that this shim lives; no process of the agent inherits it.
    pub fn hold_shim(&self, now: Timestamp) -> io::Result<Option<Held>> {
        lock::try_take(&self.file("shim"), now)
    }

    /// Makes a control group for this run, where there can be one, and says where it is: whoever
    /// finds the run without its shim needs to know.
    pub fn make_cgroup(&self) -> io::Result<Option<Cgroup>> {
        let Some(cgroup) = Cgroup::make(&self.name()) else { return Ok(None) };
        let folder = cgroup.folder().to_string_lossy().into_owned();
        write_whole(&self.file("cgroup"), folder.as_bytes())?;
        Ok(Some(cgroup))
    }

    /// The control group of this run, if it has one.
    pub fn cgroup(&self) -> Option<Cgroup> {
        let folder = fs::read_to_string(self.file("cgroup")).ok()?;
        Some(Cgroup::at(Path::new(&folder)))
    }

    /// Blocks until the shim is gone, whoever's child it is.
    pub fn wait_for_shim(&self, shim: Identity) {
        // Without the file there is nothing to wait on, and only its number to look for.
        let waited = lock::wait_for_end(&self.file("shim")).is_ok();
        let pause_ms = if waited { limits::LOCK_PAUSE_MS } else { limits::SHIM_TICK_MS };
        while shim.is_alive() {
            time::pause(Duration::from_millis(pause_ms));
        }
    }

    /// Says that the run is past its gate. A power loss may undo it, but then the boot differs.
    pub fn mark_started(&self) -> io::Result<()> {
        private_file().write(true).create(true).truncate(true).open(self.file("started")).map(drop)
    }

    /// Takes the lock of the run, or `None` while some process of the run lives.
    ///
    /// The lock belongs to the open file: whoever inherits the descriptor holds it too.
    pub fn try_lock(&self) -> io::Result<Option<File>> {
        let mut options = private_file();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(self.file("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Options for a file that its owner alone may read.
pub fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Reads a small JSON file; `None` if it is not there.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    file.take(limits::RECORD_BYTES_MAX).read_to_string(&mut text)?;
    serde_json::from_str(&text).map(Some).map_err(io::Error::from)
}

/// Writes a small JSON file: after this returns it is whole on disk; before, it is not there.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(value)?;
    write_whole(path, &text)
}

/// Writes a file by way of a temporary one, and waits until folder and file are on disk.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = private_file().write(true).create(true).truncate(true).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let folder = path.parent().ok_or_else(|| io::Error::other("a file is in a folder"))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_every_copy_of_its_descriptor() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::at(folder.path());
        let first = run.try_lock().expect("a lock file").expect("nobody holds it");
        let copy = first.try_clone().expect("a copy");
        drop(first);
        assert!(run.try_lock().expect("a lock file").is_none(), "the copy holds it");
        drop(copy);
        assert!(run.try_lock().expect("a lock file").is_some());
    }

    #[test]
    fn a_record_is_whole_or_not_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::at(folder.path());
        assert_eq!(run.exit_record().expect("a read"), None);
        fs::write(run.file("exit.tmp"), "{\"cause\":").expect("half a record");
        assert_eq!(run.exit_record().expect("a read"), None, "a crash before the rename");
        let record = ExitRecord {
            cause: Cause::Exited,
            exit_code: Some(0),
            signal: None,
            detail: String::new(),
            wall_ms: 1,
            cpu_ms: 2,
            peak_memory_kib: 3,
            log_bytes: 4,
            left_behind: 0,
            usage: ModelUsage::default(),
        };
        run.write_exit_record(&record).expect("a write");
        assert_eq!(run.exit_record().expect("a read"), Some(record));
        fs::write(run.file("exit.json"), "{\"cause\":").expect("a damaged record");
        assert!(run.exit_record().is_err(), "damage is not taken for absence");
    }
}
