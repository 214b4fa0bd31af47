//! What is left of a run whose worker or shim is gone. To inspect and to end are two operations:
//! inspecting changes nothing.

use std::fs;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;

use crate::job::{Run, limits};
use crate::process::holders::{self, Holder};
use crate::process::identity::{self, Identity};
use crate::process::run::{ExitRecord, RunDir};
use crate::process::{safe_file, tree};
use crate::time::{self, Clock, SystemClock, Timestamp};

/// The mark of the first request to end, and of the second that may be made if the shim has not
/// heard the first: whoever made it may have died before the signal.
const ENDING: [&str; 2] = ["ending", "ending-again"];
/// The mark of a shim that has heard that it is to end.
const HEARD: &str = "heard";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Its shim lives, and holds it to its limits.
    Supervised,
    /// Its shim is gone, and something of it lives: processes of the run, or whoever holds its lock.
    /// Nobody else may work on the issue before they have ended.
    Orphaned,
    /// The agent never started.
    NothingRan,
    /// The run is over, and its shim wrote down how.
    Record(Box<ExitRecord>),
    /// The run is over, and nobody knows how.
    Vanished(String),
}

/// Inspects a run whose worker is gone. An error means that nothing is known.
///
/// A record is believed only when nothing of the run lives, so that an agent that kills its shim
/// and writes one of its own gains nothing by it; and, where the nonce is known that the shim was
/// given at the gate, only a record with that nonce.
pub fn inspect(dir: &RunDir, run: &Run, nonce: Option<&str>) -> io::Result<Left> {
    let same_boot = identity::boot_id()? == run.boot_id;
    let shim = Identity { pid: run.pid, start_time: run.start_time };
    if same_boot {
        // The shim is asked for too, in case somebody removed the folder with the lock.
        if shim.is_alive() {
            return Ok(Left::Supervised);
        }
        if is_held(dir)? {
            return Ok(Left::Orphaned);
        }
        // Its shim had ended all of the run before it wrote what nobody else can write.
        let is_known = nonce.is_some()
            && matches!(dir.exit_record(), Ok(Some(record)) if is_by_shim(&record, nonce));
        if !is_known && !processes(dir, run.pid)?.is_empty() {
            return Ok(Left::Orphaned);
        }
    }
    // Nothing of it lives, so what it left does not change from here on.
    match dir.exit_record() {
        Ok(Some(record)) if is_by_shim(&record, nonce) => {
            return Ok(Left::Record(Box::new(record)));
        }
        Ok(Some(_)) => {
            return Ok(Left::Vanished("its exit record was not written by its shim".into()));
        }
        Ok(None) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Ok(Left::Vanished("its exit record is damaged".into()));
        }
        // Its folder is a file, or below one.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
        Err(error) => return Err(error),
    }
    if !same_boot {
        return Ok(Left::Vanished("the machine was restarted while the agent ran".into()));
    }
    if !dir.path().is_dir() {
        return Ok(Left::Vanished("the run's folder is gone".into()));
    }
    if !dir.is_started()? {
        return Ok(Left::NothingRan);
    }
    Ok(Left::Vanished(match shim_error(dir) {
        Some(error) => format!("it cannot be known how the agent ended: {error}"),
        None => "the agent's shim was killed".into(),
    }))
}

/// What a shim that failed by itself has said why.
fn shim_error(dir: &RunDir) -> Option<String> {
    let said = safe_file::read_tail(&dir.file("shim.log"), 0, limits::RECORD_BYTES_MAX).ok()??;
    let said = String::from_utf8_lossy(&said).into_owned();
    let said = anstream::adapter::strip_str(&said).to_string();
    said.lines().rev().find_map(|line| line.strip_prefix("error: ").map(str::to_string))
}

/// Waits until nothing of a run lives, ends what lives without its shim, and gives what is left;
/// [`Left::Supervised`] or [`Left::Orphaned`] only when that takes too long. An error means that
/// nothing is known even then.
pub fn settle(dir: &RunDir, run: &Run, nonce: Option<&str>, deadline: Instant) -> io::Result<Left> {
    loop {
        let left = inspect(dir, run, nonce);
        let ended = match &left {
            Ok(Left::NothingRan | Left::Record(_) | Left::Vanished(_)) => return left,
            Ok(Left::Supervised | Left::Orphaned) => {
                left.as_ref().map(|left| enforce(dir, run, left, false)).unwrap_or(Ok(()))
            }
            Err(_) => Ok(()),
        };
        if time::monotonic() >= deadline {
            return ended.and(left);
        }
        time::pause(Duration::from_millis(limits::KILL_PAUSE_MS));
    }
}

fn is_by_shim(record: &ExitRecord, nonce: Option<&str>) -> bool {
    nonce.is_none_or(|nonce| record.nonce == nonce)
}

/// What something of the run holds: its lock, whatever stands in the lock's place counting as held
/// by nobody.
fn is_held(dir: &RunDir) -> io::Result<bool> {
    match dir.is_locked() {
        Err(error) if safe_file::planted(&error).is_some() => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        held => held,
    }
}

/// The processes of a run that live: those with its mark in their environment, and those in its
/// control group. This process is left out.
pub fn processes(dir: &RunDir, shim: i32) -> io::Result<Vec<Identity>> {
    let mut found = tree::marked(&marker(dir))?;
    if let Some(cgroup) = dir.cgroup(shim) {
        let others = cgroup.processes()?.into_iter().filter_map(identity::stat);
        let alive = others.filter(|stat| !stat.is_zombie).map(|stat| stat.identity);
        found.extend(alive.filter(|process| process.pid != own_pid()));
        found.sort_by_key(|process| process.pid);
        found.dedup();
    }
    Ok(found)
}

fn own_pid() -> i32 {
    nix::unistd::Pid::this().as_raw()
}

/// Who holds a run's lock: why its job stays as it is although nothing of it seems to live.
pub fn lock_holders(dir: &RunDir) -> io::Result<Vec<Holder>> {
    match holders::of(&dir.file("lock")) {
        Err(error) if safe_file::planted(&error).is_some() => Ok(Vec::new()),
        found => found,
    }
}

/// Kills who holds a run's lock, whoever that is: on a person's word. Gives those that live on.
pub fn end_lock_holders(dir: &RunDir) -> io::Result<Vec<Holder>> {
    match holders::end(&dir.file("lock")) {
        Err(error) if safe_file::planted(&error).is_some() => Ok(Vec::new()),
        left => left,
    }
}

/// Asks a shim to end its agent. To a shim a second TERM means to kill at once, so of all that ask
/// one sends it: the one that makes the mark. Says whether this was the one.
pub fn request_end(dir: &RunDir, shim: Identity) -> io::Result<bool> {
    for (at, mark) in ENDING.into_iter().enumerate() {
        if at > 0 && (dir.is_marked(HEARD)? || !is_old(dir, ENDING[at - 1])?) {
            return Ok(false);
        }
        match dir.mark(mark) {
            Ok(true) => return shim.signal(Signal::SIGTERM),
            Ok(false) => {}
            // Without its folder a run is ended all the same; nobody can make marks then.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return shim.signal(Signal::SIGTERM);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn is_old(dir: &RunDir, mark: &str) -> io::Result<bool> {
    let changed = fs::symlink_metadata(dir.file(mark))?.modified()?;
    let since = changed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since = Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    Ok(SystemClock.now().ms_since(since) >= limits::ENDING_UNHEARD_MS)
}

/// Whether kugetsu asked for the end of a run.
pub(super) fn is_end_requested(dir: &RunDir) -> bool {
    ENDING.into_iter().any(|mark| dir.is_marked(mark).unwrap_or(false))
}

/// Notes that the shim has heard that it is to end.
pub(super) fn note_heard(dir: &RunDir) -> io::Result<()> {
    dir.mark(HEARD).map(drop)
}

/// Does for a run what its worker would do: ends what lives without its shim, and asks the shim for
/// the end of an agent that is to end.
pub fn enforce(dir: &RunDir, run: &Run, left: &Left, is_to_end: bool) -> io::Result<()> {
    match left {
        Left::Supervised if is_to_end => {
            let shim = Identity { pid: run.pid, start_time: run.start_time };
            request_end(dir, shim).map(drop)
        }
        Left::Orphaned => end_orphans(dir, run.pid).map(drop),
        Left::Supervised | Left::NothingRan | Left::Record(_) | Left::Vanished(_) => Ok(()),
    }
}

/// Kills what is left of a run whose shim is gone, and says how many processes there were. Nobody
/// holds the agent's limits any more, and nobody will tell how it ends.
pub fn end_orphans(dir: &RunDir, shim: i32) -> io::Result<u32> {
    let mut killed = tree::signal_marked(&marker(dir), Signal::SIGKILL)?;
    if let Some(cgroup) = dir.cgroup(shim) {
        killed += cgroup.kill()?;
        cgroup.remove();
    }
    Ok(killed)
}

/// Removes a run's folder, unless something of the run lives. Says whether it did.
pub fn remove(dir: &RunDir) -> io::Result<bool> {
    // Held while it is removed: a run that lives keeps its folder.
    let lock = match dir.try_lock() {
        Err(error) if safe_file::planted(&error).is_some() => None,
        lock => Some(lock?),
    };
    if matches!(lock, Some(None)) {
        return Ok(false);
    }
    fs::remove_dir_all(dir.path())?;
    Ok(true)
}

/// What every process of a run has in its environment.
fn marker(dir: &RunDir) -> String {
    format!("KUGETSU_RUN={}", dir.path().display())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Stdio};

    use super::*;
    use crate::process::command;
    use crate::process::run::Cause;

    struct Scene {
        _root: tempfile::TempDir,
        dir: RunDir,
        run: Run,
    }

    /// A process that is killed at the end.
    struct Sleeper(Child);

    impl Sleeper {
        fn start(environment: &str) -> Sleeper {
            let mut sleeper = command("sleep");
            sleeper.arg("1000").env("KUGETSU_RUN", environment).stdin(Stdio::null());
            let sleeper = Sleeper(sleeper.spawn().expect("sleep runs"));
            // Its environment is the test's own until it has become sleep.
            let name = format!("/proc/{}/comm", sleeper.0.id());
            while fs::read_to_string(&name).expect("it lives").trim() != "sleep" {
                std::thread::yield_now();
            }
            sleeper
        }

        fn identity(&self) -> Identity {
            let pid = i32::try_from(self.0.id()).expect("a pid");
            Identity::of(pid).expect("it lives")
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A run of this boot whose shim is gone.
    fn scene() -> Scene {
        let root = tempfile::tempdir().expect("a temporary folder");
        let dir = RunDir::at(&root.path().join("1-1-1"));
        dir.create().expect("a folder");
        let run = Run {
            pid: 1,
            start_time: u64::MAX,
            boot_id: identity::boot_id().expect("there is one"),
            folder: dir.name(),
            started_at: Timestamp(1),
            round: 1,
        };
        Scene { _root: root, dir, run }
    }

    fn record(nonce: &str) -> ExitRecord {
        ExitRecord { nonce: nonce.into(), ..ExitRecord::of(Cause::Exited, String::new()) }
    }

    fn vanished(why: &str) -> Left {
        Left::Vanished(why.into())
    }

    #[test]
    fn what_is_found() {
        let Scene { _root, dir, run } = scene();
        let found = |nonce| inspect(&dir, &run, nonce).expect("an answer");
        assert_eq!(found(None), Left::NothingRan);
        dir.mark_started().expect("a mark");
        assert_eq!(found(None), vanished("the agent's shim was killed"));
        fs::write(dir.file("shim.log"), "WARN x\nerror: no room\n").expect("a file");
        let why = "it cannot be known how the agent ended: no room";
        assert_eq!(found(None), vanished(why));
        dir.write_exit_record(&record("n")).expect("a record");
        assert_eq!(found(None), Left::Record(Box::new(record("n"))));
        assert_eq!(found(Some("n")), Left::Record(Box::new(record("n"))));
        let forged = "its exit record was not written by its shim";
        assert_eq!(found(Some("m")), vanished(forged));
        let lock = dir.try_lock().expect("a lock").expect("it is free");
        assert_eq!(found(Some("n")), Left::Orphaned, "something of it lives");
        drop(lock);
        let other_boot = Run { boot_id: "another".into(), ..run.clone() };
        let after = inspect(&dir, &other_boot, None).expect("an answer");
        assert_eq!(after, Left::Record(Box::new(record("n"))));
        fs::write(dir.file("exit.json"), "{").expect("a file");
        assert_eq!(found(None), vanished("its exit record is damaged"));
        fs::remove_dir_all(dir.path()).expect("it goes");
        assert_eq!(found(None), vanished("the run's folder is gone"));
        fs::write(dir.path(), "").expect("a file");
        assert_eq!(found(None), vanished("the run's folder is gone"));
        let own = Identity::own().expect("it lives");
        let alive = Run { pid: own.pid, start_time: own.start_time, ..run.clone() };
        assert_eq!(inspect(&dir, &alive, None).expect("an answer"), Left::Supervised);
    }

    #[test]
    fn a_forged_record_is_not_believed_while_its_forger_lives() {
        let Scene { _root, dir, run } = scene();
        dir.mark_started().expect("a mark");
        dir.write_exit_record(&record("")).expect("a record");
        let agent = Sleeper::start(&dir.path().display().to_string());
        let other = Sleeper::start(&dir.path().join("other").display().to_string());
        for _ in 0..2 {
            assert_eq!(inspect(&dir, &run, None).expect("an answer"), Left::Orphaned);
            assert!(agent.identity().is_alive(), "to inspect ends nothing");
        }
        assert_eq!(processes(&dir, run.pid).expect("a list"), [agent.identity()]);
        let deadline = time::monotonic() + Duration::from_secs(60);
        let left = settle(&dir, &run, None, deadline).expect("an answer");
        assert_eq!(left, Left::Record(Box::new(record(""))));
        assert!(other.identity().is_alive(), "another run's process is not meant");
        let left = inspect(&dir, &run, Some("n")).expect("an answer");
        assert_eq!(left, vanished("its exit record was not written by its shim"));
    }

    #[test]
    fn whatever_stands_in_the_place_of_a_file_nothing_hangs() {
        for name in ["exit.json", "started", "lock", "cgroup", "ending", "heard"] {
            let Scene { _root, dir, run } = scene();
            nix::unistd::mkfifo(&dir.file(name), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
            let left = inspect(&dir, &run, None).expect("an answer");
            let expected = match name {
                "exit.json" => vanished("its exit record is damaged"),
                "started" => vanished("the agent's shim was killed"),
                _ => Left::NothingRan,
            };
            assert_eq!(left, expected, "{name}");
            assert_eq!(end_orphans(&dir, run.pid).expect("an answer"), 0, "{name}");
            assert!(remove(&dir).expect("an answer"), "{name}");
        }
    }

    #[test]
    fn of_all_that_ask_for_an_end_one_sends_the_signal() {
        let Scene { _root, dir, .. } = scene();
        let shim = Sleeper::start("");
        assert!(!is_end_requested(&dir));
        assert!(request_end(&dir, shim.identity()).expect("an answer"));
        assert!(is_end_requested(&dir));
        assert!(!request_end(&dir, shim.identity()).expect("an answer"));
        // The first one died between its mark and its signal, a while ago.
        let Scene { _root, dir, .. } = scene();
        let shim = Sleeper::start("");
        let mark = fs::File::create(dir.file("ending")).expect("a file");
        mark.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
        assert!(request_end(&dir, shim.identity()).expect("an answer"), "unheard for long");
        assert!(!request_end(&dir, shim.identity()).expect("an answer"), "and only once more");
        let Scene { _root, dir, .. } = scene();
        let shim = Sleeper::start("");
        let mark = fs::File::create(dir.file("ending")).expect("a file");
        mark.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
        note_heard(&dir).expect("a mark");
        assert!(!request_end(&dir, shim.identity()).expect("an answer"), "it was heard");
        fs::remove_dir_all(dir.path()).expect("it goes");
        assert!(request_end(&dir, shim.identity()).expect("an answer"), "without its folder");
    }

    #[test]
    fn a_run_that_lives_keeps_its_folder() {
        let Scene { _root, dir, .. } = scene();
        let lock = dir.try_lock().expect("a lock").expect("it is free");
        assert!(!remove(&dir).expect("an answer"));
        assert_eq!(lock_holders(&dir).expect("a list"), [], "this process is not told of");
        drop(lock);
        assert!(remove(&dir).expect("an answer"));
        assert!(!dir.path().exists());
    }
}
