//! The folder of a run: what a shim is told, what it holds, and what it leaves.
//!
//! | file | written by | means |
//! |---|---|---|
//! | `lock` | shim, held by its whole tree | while it is held, something of the run lives |
//! | `shim` | shim, held by it alone | while it is held, the shim lives |
//! | `spec.json` | worker, before the shim | what to run, and its limits |
//! | `cgroup` | shim, past the gate | the control group that the agent is in, if there is one |
//! | `started` | shim, past the gate | the agent was about to start |
//! | `launch` | launcher | why the agent could not be started, if it could not |
//! | `ending`, `ending-again` | whoever asks for the end first | the shim was sent TERM |
//! | `heard` | shim | it has heard of it |
//! | `exit.json` | shim, at the end | how the agent ended |
//! | `agent/` | worker, then agent | message, context, result: all that the agent may write |
//!
//! What the agent may write is apart from what kugetsu relies on. All of it is opened as what an
//! agent could have put there, because without a sandbox nothing keeps it from doing so.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::unistd::Pid;

use crate::job::limits;
use crate::process::cgroup::Cgroup;
use crate::process::identity::Identity;
use crate::process::lock::{self, Held};
use crate::process::safe_file;
use crate::time::{self, Timestamp};

pub use crate::process::record::{Cause, ExitRecord, RunSpec};
pub use crate::process::safe_file::{read_json, write_json};

/// What an agent may write in its run's folder.
pub const AGENT_FOLDER: &str = "agent";
/// Its temporary folder, in that.
pub const TEMPORARY_FOLDER: &str = "tmp";
/// Where it says what became of it, in that.
pub const RESULT: &str = "result.json";

/// A run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// A folder that is known.
    pub fn at(path: &Path) -> RunDir {
        RunDir(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the folder, for its owner only, and the agent's own in it. What a run of another queue
    /// left there is removed, if nothing of it lives.
    pub fn create(&self) -> io::Result<()> {
        match fs::symlink_metadata(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found) if !found.is_dir() => fs::remove_file(&self.0)?,
            Ok(_) => {
                if self.is_locked()? {
                    return Err(io::Error::other("another run is alive in it"));
                }
                fs::remove_dir_all(&self.0)?;
            }
        }
        if let Some(runs) = self.0.parent() {
            safe_file::ensure_folder(runs)?;
        }
        let mut folders = DirBuilder::new();
        folders.mode(0o700).create(&self.0)?;
        folders.create(self.agent_folder())?;
        folders.create(self.agent_file(TEMPORARY_FOLDER))
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What the agent may write to.
    pub fn agent_folder(&self) -> PathBuf {
        self.file(AGENT_FOLDER)
    }

    /// A file that the agent may write to.
    pub fn agent_file(&self, name: &str) -> PathBuf {
        self.agent_folder().join(name)
    }

    /// Writes a file that the agent is to find.
    pub fn write_for_agent(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let relative = Path::new(AGENT_FOLDER).join(name);
        safe_file::write_below(&self.0, &relative, bytes)?;
        Ok(self.0.join(relative))
    }

    /// What the agent says became of it, at most so many bytes. The version before had the file
    /// in the run's folder itself.
    pub fn result(&self, max: u64) -> io::Result<Option<Vec<u8>>> {
        let relative = match fs::symlink_metadata(self.agent_folder()) {
            Ok(_) => Path::new(AGENT_FOLDER).join(RESULT),
            Err(_) => RESULT.into(),
        };
        match safe_file::read_below(&self.0, &relative, max) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read,
        }
    }

    /// What the shim is told.
    pub fn spec(&self) -> io::Result<Option<RunSpec>> {
        read_json(&self.file("spec.json"))
    }

    /// Says what the shim is to do.
    pub fn write_spec(&self, spec: &RunSpec) -> io::Result<()> {
        write_json(&self.file("spec.json"), spec)
    }

    /// What says how the run ended, once something does. It is not to be believed while anything of
    /// the run lives: see [`remains`](crate::process::remains).
    pub fn exit_record(&self) -> io::Result<Option<ExitRecord>> {
        read_json(&self.file("exit.json"))
    }

    /// When the run's end was written down, as far as the file tells; not after `now`.
    pub fn ended_at(&self, now: Timestamp) -> Timestamp {
        let modified = fs::symlink_metadata(self.file("exit.json")).and_then(|m| m.modified());
        let since = modified.ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let ms = since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        ms.map_or(now, |ms| Timestamp(ms.min(now.0)))
    }

    /// Says how the run ended: whole on disk, or not there.
    pub fn write_exit_record(&self, record: &ExitRecord) -> io::Result<()> {
        write_json(&self.file("exit.json"), record)
    }

    /// Gives what stands in the place of a file another name.
    pub fn move_aside(&self, name: &str) -> io::Result<()> {
        let aside = format!("{name}.{}", safe_file::random_word()?);
        fs::rename(self.file(name), self.file(&aside))
    }

    /// Whether the run got past its gate. Whatever has that name tells so.
    pub fn is_started(&self) -> io::Result<bool> {
        is_there(&self.file("started"))
    }

    /// Holds what tells that this shim lives; no process of the agent inherits it.
    pub fn hold_shim(&self, now: Timestamp) -> io::Result<Option<Held>> {
        lock::try_take(&self.file("shim"), now)
    }

    /// Makes a control group for this run, where there can be one, and says where it is: whoever
    /// finds the run without its shim needs to know.
    pub fn make_cgroup(&self) -> io::Result<Option<Cgroup>> {
        let Some(cgroup) = Cgroup::make(&self.name(), Pid::this()) else { return Ok(None) };
        let folder = cgroup.folder().to_string_lossy().into_owned();
        safe_file::write_new(&self.0, "cgroup".as_ref(), folder.as_bytes())?;
        Ok(Some(cgroup))
    }

    /// The control group of this run, if it has one: what the file says, if it can be true. The
    /// group is killed, so an agent that writes here must not be able to name another one.
    pub fn cgroup(&self, shim: i32) -> Option<Cgroup> {
        let folder = safe_file::read_text(&self.file("cgroup"), limits::PATH_BYTES_MAX).ok()??;
        Cgroup::of_run(Path::new(&folder), &self.name(), Pid::from_raw(shim))
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
        safe_file::create_mark(&self.file("started")).map(drop)
    }

    /// Says in the folder that something has happened, and whether nobody had said so before.
    pub fn mark(&self, name: &str) -> io::Result<bool> {
        safe_file::create_mark(&self.file(name))
    }

    /// Whether that was said.
    pub fn is_marked(&self, name: &str) -> io::Result<bool> {
        is_there(&self.file(name))
    }

    /// Takes the lock of the run, or `None` while some process of the run lives.
    ///
    /// The lock belongs to the open file: whoever inherits the descriptor holds it too.
    pub fn try_lock(&self) -> io::Result<Option<File>> {
        lock::try_take_inheritable(&self.file("lock"))
    }

    /// Whether somebody holds the lock of the run. Nothing is changed by asking.
    pub fn is_locked(&self) -> io::Result<bool> {
        lock::is_held(&self.file("lock"))
    }
}

/// Whatever it is.
fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Options for a file that its owner alone may read, in a folder that no agent writes to.
pub fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Writes a file in place of whatever had its name, and waits until folder and file are on disk.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let no_name = || io::Error::other("a file has a name, and is in a folder");
    let (folder, name) = (path.parent().ok_or_else(no_name)?, path.file_name());
    safe_file::write_new(folder, name.ok_or_else(no_name)?, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_every_copy_of_its_descriptor() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::at(folder.path());
        assert!(!run.is_locked().expect("an answer"), "it is not even there");
        let first = run.try_lock().expect("a lock file").expect("nobody holds it");
        let copy = first.try_clone().expect("a copy");
        drop(first);
        assert!(run.try_lock().expect("a lock file").is_none(), "the copy holds it");
        assert!(run.is_locked().expect("an answer"));
        drop(copy);
        assert!(!run.is_locked().expect("an answer"));
        assert!(run.try_lock().expect("a lock file").is_some());
    }

    #[test]
    fn the_lock_of_the_version_before_counts() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::at(folder.path());
        let old = private_file().write(true).create_new(true).open(run.file("lock"));
        let old = old.expect("a file");
        old.try_lock().expect("nobody holds it");
        assert!(run.is_locked().expect("an answer"));
        assert!(run.try_lock().expect("a lock file").is_none());
        drop(old);
        assert!(run.try_lock().expect("a lock file").is_some());
    }

    #[test]
    fn a_record_is_whole_or_not_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::at(folder.path());
        assert_eq!(run.exit_record().expect("a read"), None);
        let record = ExitRecord::of(Cause::Exited, "why".into());
        run.write_exit_record(&record).expect("a write");
        assert_eq!(run.exit_record().expect("a read"), Some(record));
        fs::write(run.file("exit.json"), "{\"cause\":").expect("a damaged record");
        let error = run.exit_record().expect_err("damage is not taken for absence");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_agent_has_a_folder_of_its_own_and_the_old_place_is_read() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::at(&root.path().join("runs/1-1-1"));
        run.create().expect("it is made, and runs/ too");
        assert!(run.agent_file(TEMPORARY_FOLDER).is_dir());
        let message = run.write_for_agent("message.txt", b"do it").expect("a write");
        assert_eq!(fs::read(message).expect("it is there"), b"do it");
        fs::write(run.file(RESULT), "old").expect("a file");
        assert_eq!(run.result(9).expect("a read"), None, "that is not the place");
        fs::write(run.agent_file(RESULT), "new").expect("a file");
        assert_eq!(run.result(9).expect("a read").as_deref(), Some(&b"new"[..]));
        fs::remove_dir_all(run.agent_folder()).expect("it goes");
        assert_eq!(run.result(9).expect("a read").as_deref(), Some(&b"old"[..]));
        std::os::unix::fs::symlink("/etc", run.agent_folder()).expect("a link");
        assert!(run.result(9).is_err(), "a link is no folder");
    }

    #[test]
    fn what_stands_in_the_place_of_a_run_goes_unless_it_lives() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::at(&root.path().join("1-1-1"));
        let outside = root.path().join("outside");
        fs::create_dir(&outside).expect("a folder");
        std::os::unix::fs::symlink(&outside, run.path()).expect("a link");
        run.create().expect("the link goes");
        assert!(outside.is_dir());
        assert!(fs::symlink_metadata(run.path()).expect("it is there").is_dir());
        let lock = run.try_lock().expect("a lock file").expect("nobody holds it");
        assert!(run.create().is_err(), "it lives");
        drop(lock);
        run.create().expect("it does not");
    }
}
