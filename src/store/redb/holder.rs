//! Who holds a lock of the file: found out when a wait for it was in vain.
//!
//! redb's locks belong to open files and not to processes, so `F_GETLK` has no pid to tell. The
//! kernel lists the locks of an open file in `/proc/PID/fdinfo/FD`.

use std::fs;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::store::Holder;

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub fn of(metadata: &fs::Metadata) -> FileId {
        FileId { device: metadata.dev(), inode: metadata.ino() }
    }

    /// The file that is at the path now, if there is one.
    pub fn at(path: &Path) -> io::Result<Option<FileId>> {
        use io::ErrorKind::{NotADirectory, NotFound};
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(FileId::of(&metadata))),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A lock that could not be had: its first and last byte, and whether others might share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    first: u64,
    last: u64,
    shared: bool,
}

/// The lock that was refused last.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals(Arc<Mutex<Option<Wanted>>>);

impl Refusals {
    pub fn note(&self, start: Bound<u64>, end: Bound<u64>, shared: bool) {
        let first = match start {
            Bound::Included(first) => first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let last = match end {
            Bound::Included(last) => last,
            Bound::Excluded(after) => after.saturating_sub(1),
            Bound::Unbounded => u64::MAX,
        };
        *self.0.lock().expect("no thread panics while it holds it") =
            Some(Wanted { first, last, shared });
    }

    /// The process that holds what was refused last, if the system lets it be seen.
    pub fn holder(&self, file: FileId) -> Option<Holder> {
        let wanted = (*self.0.lock().expect("no thread panics while it holds it"))?;
        let own = std::process::id();
        let pids = fs::read_dir("/proc").ok()?.flatten();
        let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let pid = pids.find(|pid| *pid != own && is_held_by(*pid, file, wanted))?;
        Some(describe(pid))
    }
}

/// The process that holds the whole file by `flock`, which none of kugetsu's does.
pub(super) fn flock_holder(file: FileId) -> Option<Holder> {
    let own = std::process::id();
    let pids = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| *pid != own && has_lock(*pid, file, is_flock)).map(describe)
}

fn is_flock(line: &str) -> bool {
    let fields = line.strip_prefix("lock:").map(str::split_ascii_whitespace);
    fields.is_some_and(|mut fields| fields.nth(1) == Some("FLOCK"))
}

fn is_held_by(pid: u32, file: FileId, wanted: Wanted) -> bool {
    has_lock(pid, file, |line| conflicts(line, wanted))
}

/// Whether an open file of a process is this one and has a lock that fits.
fn has_lock(pid: u32, file: FileId, fits: impl Fn(&str) -> bool) -> bool {
    // Another user's process does not show its files.
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        let is_same = fs::metadata(descriptor.path()).is_ok_and(|m| FileId::of(&m) == file);
        let info =
            Path::new("/proc").join(pid.to_string()).join("fdinfo").join(descriptor.file_name());
        is_same && fs::read_to_string(info).is_ok_and(|text| text.lines().any(&fits))
    })
}

/// Whether a line of `fdinfo` is a lock that stands against the wanted one:
/// `lock: 1: OFDLCK  ADVISORY  WRITE -1 fe:00:4711 0 EOF`.
fn conflicts(line: &str, wanted: Wanted) -> bool {
    let Some(rest) = line.strip_prefix("lock:") else { return false };
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let [_, kind, _, mode, _, _, first, last] = fields[..] else { return false };
    let last = if last == "EOF" { Some(u64::MAX) } else { last.parse().ok() };
    let (Ok(first), Some(last)) = (first.parse::<u64>(), last) else { return false };
    // A flock knows nothing of ranges, and stands against none.
    kind != "FLOCK"
        && (mode == "WRITE" || !wanted.shared)
        && first <= wanted.last
        && wanted.first <= last
}

fn describe(pid: u32) -> Holder {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let program = read("comm").trim_end().to_string();
    let stat = read("stat");
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
    Holder { pid, program, is_stopped: state.starts_with(['T', 't']) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_that_stand_against_each_other() {
        let wanted = |first, last, shared| Wanted { first, last, shared };
        for (line, wanted, expected) in [
            ("lock:\t1: OFDLCK  ADVISORY  WRITE -1 fe:00:4711 5 5", wanted(5, 5, false), true),
            ("lock:\t1: OFDLCK  ADVISORY  WRITE -1 fe:00:4711 5 5", wanted(5, 5, true), true),
            ("lock:\t1: OFDLCK  ADVISORY  READ  -1 fe:00:4711 5 9", wanted(9, 9, false), true),
            ("lock:\t1: OFDLCK  ADVISORY  READ  -1 fe:00:4711 5 9", wanted(9, 9, true), false),
            ("lock:\t1: OFDLCK  ADVISORY  WRITE -1 fe:00:4711 5 9", wanted(10, 12, false), false),
            ("lock:\t2: POSIX  ADVISORY  WRITE 12 fe:00:4711 0 EOF", wanted(7, 7, false), true),
            ("lock:\t1: FLOCK  ADVISORY  WRITE 12 fe:00:4711 0 EOF", wanted(7, 7, false), false),
            ("flags:\t02100002", wanted(0, u64::MAX, false), false),
            ("lock:\t1: OFDLCK", wanted(0, u64::MAX, false), false),
        ] {
            assert_eq!(conflicts(line, wanted), expected, "{line} and {wanted:?}");
        }
    }
}
