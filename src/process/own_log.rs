//! The log that an agent keeps for itself: opencode says there, and nowhere else, that it waits for
//! its provider.
//!
//! All opencodes of a user may write to one file. A line names its `run`, and the line with which a
//! run begins names its folder: so the lines of this run are told from the others'.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::job::limits;
use crate::process::safe_file;

/// Files of a folder, followed from where they stood.
pub struct OwnLog {
    folder: PathBuf,
    /// As the log writes it.
    work_folder: String,
    files: Vec<Followed>,
    /// Of this run, as the log calls it: it may begin more than once.
    runs: Vec<String>,
    errors: VecDeque<String>,
    /// Whether the last thing that this run's log tells is an error.
    is_waiting: bool,
}

struct Followed {
    name: OsString,
    inode: u64,
    file: File,
    position: u64,
    /// The beginning of a line whose end is not there yet.
    line: Vec<u8>,
}

impl OwnLog {
    /// Notes how far the files of the folder are, for an agent that is about to start.
    pub fn begin(folder: &Path, work_folder: &Path) -> OwnLog {
        let mut log = OwnLog {
            folder: folder.into(),
            work_folder: work_folder.display().to_string(),
            files: Vec::new(),
            runs: Vec::new(),
            errors: VecDeque::new(),
            is_waiting: false,
        };
        log.find_files();
        for followed in &mut log.files {
            followed.position = followed.file.metadata().map_or(0, |metadata| metadata.len());
        }
        log
    }

    /// Reads what was added since, and says whether an error of this run came.
    pub fn read_new(&mut self) -> bool {
        self.find_files();
        let mut lines = Vec::new();
        for followed in &mut self.files {
            // A log that cannot be read tells nothing, and the run is as good.
            let _ = followed.read_lines(&mut lines);
        }
        let before = self.errors.len();
        let mut came = false;
        for line in lines {
            came |= self.take(&line);
        }
        came || self.errors.len() > before
    }

    /// Whether the run seems to wait for its provider.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// The agent has said something itself, so it waits no more.
    pub fn agent_spoke(&mut self) {
        self.is_waiting = false;
    }

    /// The last errors of this run, the oldest first.
    pub fn errors(&self) -> Vec<String> {
        self.errors.iter().cloned().collect()
    }

    /// Whether a line is an error of this run.
    fn take(&mut self, line: &str) -> bool {
        let Some(run) = field(line, "run") else { return false };
        if field(line, "directory").is_some_and(|folder| folder == self.work_folder)
            && !self.runs.contains(&run)
            && self.runs.len() < limits::OWN_LOG_RUNS_MAX
        {
            self.runs.push(run.clone());
        }
        if !self.runs.contains(&run) {
            return false;
        }
        let is_error = field(line, "level").is_some_and(|level| level == "ERROR");
        if is_error {
            self.errors.push_back(line.chars().take(limits::OWN_LOG_LINE_CHARS_MAX).collect());
            if self.errors.len() > limits::OWN_LOG_LINES_MAX {
                self.errors.pop_front();
            }
            self.is_waiting = true;
        }
        is_error
    }

    /// Opens files that are new: the agent's first start makes the folder.
    fn find_files(&mut self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut found: Vec<(std::time::SystemTime, OsString, u64)> = entries
            .flatten()
            .take(limits::ENTRIES_READ_MAX)
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"))
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, entry.file_name(), metadata.ino()))
            })
            .collect();
        found.sort();
        for (_, name, inode) in found.into_iter().rev().take(limits::OWN_LOGS_MAX) {
            let is_known = |file: &Followed| (&file.name, file.inode) == (&name, inode);
            if self.files.iter().any(is_known) {
                continue;
            }
            // The folder is the user's, what is in it is its agents'.
            let Ok(file) = safe_file::open_below(&self.folder, Path::new(&name)) else { continue };
            self.files.retain(|file| file.name != name);
            if self.files.len() == limits::OWN_LOGS_MAX {
                self.files.remove(0);
            }
            self.files.push(Followed { name, inode, file, position: 0, line: Vec::new() });
        }
    }
}

impl Followed {
    fn read_lines(&mut self, lines: &mut Vec<String>) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length < self.position {
            self.position = length;
            self.line.clear();
        }
        // Of a flood only the end is of interest.
        let from = self.position.max(length.saturating_sub(limits::OWN_LOG_BYTES_MAX));
        if from > self.position {
            self.line.clear();
        }
        let mut bytes = vec![0; usize::try_from(length - from).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, from)?;
        self.position = length;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = limits::METER_LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                lines.push(String::from_utf8_lossy(&self.line).trim_end().to_string());
                self.line.clear();
            }
        }
        Ok(())
    }
}

/// The value of `name=value` or `name="a value"` in a line.
fn field(line: &str, name: &str) -> Option<String> {
    let mut rest = line;
    while let Some(at) = rest.find(name) {
        let begins = at == 0 || rest[..at].ends_with(' ');
        rest = &rest[at + name.len()..];
        let Some(value) = rest.strip_prefix('=').filter(|_| begins) else { continue };
        let Some(quoted) = value.strip_prefix('"') else {
            return Some(value.split(' ').next().unwrap_or_default().to_string());
        };
        let end = quoted.find("\" ").or_else(|| quoted.strip_suffix('"').map(str::len));
        return end.map(|end| quoted[..end].to_string());
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const BEGIN: &str = "timestamp=2026-11-25T09:39:11.911Z level=INFO run=1e84240b \
                         message=\"creating instance\" directory=/w/one";
    const OTHER: &str = "timestamp=2026-11-25T09:39:11.911Z level=INFO run=aaaaaaaa \
                         message=\"creating instance\" directory=/w/one/more";
    const ERROR: &str = "timestamp=2026-11-25T09:39:15.839Z level=ERROR run=1e84240b \
                         message=\"stream error\" providerID=fake modelID=m small=false \
                         error.error=\"AI_APICallError: Weekly usage limit reached. Resets in 3 days.\"";

    #[test]
    fn fields_of_a_line() {
        for (name, expected) in [
            ("level", Some("ERROR")),
            ("run", Some("1e84240b")),
            ("message", Some("stream error")),
            ("error.error", Some("AI_APICallError: Weekly usage limit reached. Resets in 3 days.")),
            ("error", None),
            ("ID", None),
            ("directory", None),
        ] {
            assert_eq!(field(ERROR, name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn errors_of_this_run_alone_are_kept_from_where_it_began() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = root.path().join("log");
        fs::create_dir(&folder).expect("a folder");
        let path = folder.join("opencode.log");
        fs::write(&path, format!("{BEGIN}\n{ERROR}\n")).expect("a file");
        let mut log = OwnLog::begin(&folder, Path::new("/w/one"));
        let mut file = File::options().append(true).open(&path).expect("it is there");
        let mut add = |line: &str| file.write_all(line.as_bytes()).expect("a write");
        assert!(!log.read_new() && !log.is_waiting(), "what was before is another run's");
        let other = ERROR.replace("1e84240b", "aaaaaaaa");
        add(&format!("{OTHER}\n{other}\n{BEGIN}\n"));
        assert!(!log.read_new() && !log.is_waiting(), "another folder's");
        add(&ERROR[..40]);
        assert!(!log.read_new(), "half a line");
        add(&format!("{}\n", &ERROR[40..]));
        assert!(log.read_new() && log.is_waiting());
        assert!(!log.read_new() && log.is_waiting(), "and nothing new since");
        assert_eq!(log.errors(), [ERROR]);
        log.agent_spoke();
        assert!(!log.is_waiting());
        fs::write(folder.join("2026.log"), format!("{ERROR}\n")).expect("a file");
        assert!(log.read_new() && log.is_waiting(), "a file that came later");
        for _ in 0..limits::OWN_LOG_LINES_MAX {
            add(&format!("{ERROR}\n"));
        }
        assert!(log.read_new());
        assert_eq!(log.errors().len(), limits::OWN_LOG_LINES_MAX);
    }

    #[test]
    fn whatever_stands_there_nothing_hangs() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let path = root.path().join("x.log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        std::os::unix::fs::symlink("/dev/zero", root.path().join("y.log")).expect("a link");
        let sparse = File::create(root.path().join("z.log")).expect("a file");
        let mut log = OwnLog::begin(root.path(), Path::new("/w"));
        sparse.set_len(1 << 40).expect("a large file");
        assert!(!log.read_new());
        assert!(!OwnLog::begin(&root.path().join("none"), Path::new("/w")).read_new());
    }
}
