//! The log of a run, held by its descriptor: an agent may remove, rename, replace or cut the file,
//! and what it writes is measured and read all the same.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::job::limits;
use crate::process::safe_file;

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// A log that an agent writes to.
pub struct RunLog {
    /// The shim's own open file: the agent has another one, whose flags it may change.
    file: File,
    path: PathBuf,
    bytes_max: u64,
    /// Where this run begins.
    begins_at: u64,
    /// How long it was when that was looked at last.
    length: u64,
    /// How far it was read.
    position: u64,
    /// What was added in all, and cut off again too.
    added: u64,
    was_cut: bool,
}

impl RunLog {
    /// Opens a log, to which at most so many bytes may be added.
    pub fn open(path: &Path, bytes_max: u64) -> io::Result<RunLog> {
        let file = safe_file::open_or_create(path)?;
        let length = file.metadata()?.len();
        Ok(RunLog {
            file,
            path: path.into(),
            bytes_max,
            begins_at: length,
            length,
            position: length,
            added: 0,
            was_cut: false,
        })
    }

    /// An open file of the same log for somebody else to write to its end.
    pub fn for_agent(&self) -> io::Result<File> {
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        File::options().append(true).open(own)
    }

    /// Bytes that were added so far.
    pub fn added(&self) -> u64 {
        self.added
    }

    /// Whether more was added than may be.
    pub fn is_too_large(&self) -> bool {
        self.added > self.bytes_max
    }

    /// Looks how much there is, and says whether there is something new. It reads nothing, so it
    /// takes no longer the more there is.
    pub fn measure(&mut self) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        if length < self.length {
            // How far back it was cut is not known, so all that is there counts as new: whoever cuts
            // a log reaches its limits sooner, and never later.
            self.was_cut = true;
            self.begins_at = if length < self.begins_at { 0 } else { self.begins_at };
            self.length = self.begins_at;
            self.position = self.begins_at;
        }
        let grown = length - self.length;
        self.added = self.added.saturating_add(grown);
        self.length = length;
        Ok(grown > 0)
    }

    /// Gives what was measured and is new, at most [`limits::LOG_READ_BYTES_MAX`] of it, and says
    /// whether there is more. Of a log that is too large, only what it may have is read.
    pub fn read_new(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let end = self.length.min(self.begins_at.saturating_add(self.bytes_max));
        let until = end.min(self.position.saturating_add(limits::LOG_READ_BYTES_MAX));
        let mut chunk = vec![0; CHUNK];
        while self.position < until {
            let room = usize::try_from(until - self.position).unwrap_or(CHUNK).min(CHUNK);
            let read = match self.file.read_at(&mut chunk[..room], self.position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                return Ok(false);
            }
            each(&chunk[..read]);
            self.position += read as u64;
        }
        Ok(self.position < end)
    }

    /// When nobody writes any more: cuts what is too large, and puts the log back where it was.
    /// Gives what a person should know about it.
    pub fn finish(&mut self) -> io::Result<Option<&'static str>> {
        if self.is_too_large() {
            self.shorten()?;
        }
        let own = self.file.metadata()?;
        let is_there = fs::symlink_metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()));
        if !is_there {
            let mut log = &self.file;
            log.rewind()?;
            let name = self.path.file_name().unwrap_or_default();
            let folder = self.path.parent().unwrap_or(Path::new("."));
            safe_file::ensure_folder(folder)?;
            safe_file::write_from(folder, Path::new(name), &mut log)?;
            return Ok(Some("its log was removed or replaced while it ran, and was put back"));
        }
        Ok(self.was_cut.then_some("its log was cut while it ran"))
    }

    /// The beginning stays, up to the bound, and the end, which tells how it came to that.
    fn shorten(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let tail_bytes = limits::LOG_TAIL_BYTES.min(self.bytes_max / 2);
        let head_end = self.begins_at + self.bytes_max - tail_bytes;
        if length <= head_end {
            return Ok(());
        }
        let mut log = &self.file;
        let mut tail = Vec::new();
        log.seek(SeekFrom::Start(length.saturating_sub(tail_bytes).max(head_end)))?;
        log.take(tail_bytes).read_to_end(&mut tail)?;
        let left_out = length - head_end - tail.len() as u64;
        log.set_len(head_end)?;
        log.seek(SeekFrom::Start(head_end))?;
        writeln!(log, "\n--- {left_out} bytes are left out: the log grew too large")?;
        log.write_all(&tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        _root: tempfile::TempDir,
        path: PathBuf,
        log: RunLog,
        agent: File,
    }

    fn scene(bytes_max: u64) -> Scene {
        let root = tempfile::tempdir().expect("a temporary folder");
        let path = root.path().join("logs/log");
        fs::create_dir(root.path().join("logs")).expect("a folder");
        fs::write(&path, "before\n").expect("a file");
        let log = RunLog::open(&path, bytes_max).expect("it opens");
        let agent = log.for_agent().expect("it opens again");
        Scene { _root: root, path, log, agent }
    }

    fn seen(log: &mut RunLog) -> String {
        let mut text = Vec::new();
        log.measure().expect("a look");
        log.read_new(|bytes| text.extend_from_slice(bytes)).expect("a read");
        String::from_utf8(text).expect("a text")
    }

    #[test]
    fn what_is_added_is_read_whatever_becomes_of_the_file() {
        for plant in ["nothing", "remove", "rename", "replace", "remove the folder"] {
            let Scene { _root, path, mut log, mut agent } = scene(1_000);
            assert_eq!(seen(&mut log), "", "what was before is not this run's");
            agent.write_all(b"one\n").expect("a write");
            let done = match plant {
                "nothing" => Ok(()),
                "remove" => fs::remove_file(&path),
                "rename" => fs::rename(&path, path.with_extension("old")),
                "replace" => fs::remove_file(&path)
                    .and_then(|()| std::os::unix::fs::symlink("/etc/passwd", &path)),
                _ => fs::remove_dir_all(path.parent().expect("it has one")),
            };
            done.expect(plant);
            agent.write_all(b"two\n").expect("a write");
            assert_eq!(seen(&mut log), "one\ntwo\n", "{plant}");
            assert_eq!((log.added(), log.is_too_large()), (8, false), "{plant}");
            let told = log.finish().expect("it is put back");
            assert_eq!(told.is_some(), plant != "nothing", "{plant}");
            let text = fs::read_to_string(&path).expect("it is there");
            assert_eq!(text, "before\none\ntwo\n", "{plant}");
            assert!(fs::symlink_metadata(&path).expect("it is there").is_file(), "{plant}");
        }
    }

    #[test]
    fn what_is_cut_off_counts() {
        let Scene { _root, path, mut log, mut agent } = scene(10);
        for _ in 0..3 {
            agent.write_all(b"1234").expect("a write");
            assert_eq!(seen(&mut log), "1234");
            File::options().write(true).open(&path).expect("it opens").set_len(0).expect("a cut");
            assert_eq!(seen(&mut log), "");
        }
        assert_eq!(log.added(), 12);
        assert!(log.is_too_large());
        assert_eq!(log.finish().expect("an end"), Some("its log was cut while it ran"));
    }

    #[test]
    fn whoever_cuts_off_a_part_gains_nothing() {
        let Scene { _root, path, mut log, mut agent } = scene(1_000);
        agent.write_all(b"one\ntwo\n").expect("a write");
        assert_eq!(seen(&mut log), "one\ntwo\n");
        let cut = File::options().write(true).open(&path).expect("it opens");
        cut.set_len(11).expect("a cut");
        agent.write_all(b"3\n").expect("a write");
        assert_eq!(seen(&mut log), "one\n3\n");
        assert_eq!(log.added(), 14);
    }

    #[test]
    fn a_log_that_is_too_large_keeps_both_ends() {
        let Scene { _root, path, mut log, mut agent } = scene(100);
        let text: String = (0..100).map(|line| format!("{line:04}\n")).collect();
        agent.write_all(text.as_bytes()).expect("a write");
        assert_eq!(seen(&mut log), &text[..100], "no more is read");
        assert_eq!(log.finish().expect("an end"), None);
        let kept = fs::read_to_string(&path).expect("it is there");
        let expected = format!(
            "before\n{}\n--- 400 bytes are left out: the log grew too large\n{}",
            &text[..50],
            &text[450..]
        );
        assert_eq!(kept, expected);
    }
}
