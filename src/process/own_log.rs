//! The log that opencode keeps for itself, followed while a run is at work: it says there, and
//! nowhere else, that it waits for its provider. What its lines mean is the dialect's.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::dialect::{ProviderLog, Whose};
use crate::job::limits;
use crate::process::lines::{Line, Lines};
use crate::process::safe_file;

/// Files of a folder, followed from where they stood.
pub struct OwnLog {
    folder: PathBuf,
    files: Vec<Followed>,
    /// What they say of this run.
    pub says: ProviderLog,
}

struct Followed {
    name: OsString,
    inode: u64,
    file: File,
    position: u64,
    lines: Lines,
}

impl OwnLog {
    /// Notes how far the files of the folder are, for an agent that is about to start.
    pub fn begin(folder: &Path, whose: Whose) -> OwnLog {
        let says = ProviderLog::new(whose);
        let mut log = OwnLog { folder: folder.into(), files: Vec::new(), says };
        log.find_files();
        for followed in &mut log.files {
            followed.position = followed.file.metadata().map_or(0, |metadata| metadata.len());
        }
        log
    }

    /// Reads what was added since.
    pub fn read_new(&mut self) {
        self.find_files();
        for followed in &mut self.files {
            // A log that cannot be read tells nothing, and the run is as good.
            let _ = followed.read_lines(&mut self.says);
        }
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
            self.files.push(Followed { name, inode, file, position: 0, lines: Lines::default() });
        }
    }
}

impl Followed {
    fn read_lines(&mut self, says: &mut ProviderLog) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        // Of a flood only the end is of interest.
        let from = self.position.max(length.saturating_sub(limits::OWN_LOG_BYTES_MAX)).min(length);
        if from != self.position {
            self.lines.clear();
        }
        let mut bytes = vec![0; usize::try_from(length - from).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, from)?;
        self.position = length;
        self.lines.feed(&bytes, |line| match line {
            Line::Whole(line) | Line::Beginning(line) => says.read_line(line),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const BEGIN: &str = "timestamp=2026-11-25T09:39:11.911Z level=INFO run=1e84240b \
                         message=\"creating instance\" directory=/w/one";
    const ERROR: &str = "timestamp=2026-11-25T09:39:15.839Z level=ERROR run=1e84240b \
                         message=\"stream error\" providerID=fake modelID=m \
                         session.id=ses_deded2f55ffewpJpunzx0EUlBZ small=false agent=build \
                         mode=primary error.error=\"AI_APICallError: Weekly usage limit reached. \
                         Resets in 3 days.\"";

    fn begin(folder: &Path) -> OwnLog {
        OwnLog::begin(folder, Whose { folder: Some("/w/one".into()), session: None })
    }

    #[test]
    fn what_is_added_is_read_from_where_it_stood() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = root.path().join("log");
        fs::create_dir(&folder).expect("a folder");
        let path = folder.join("opencode.log");
        fs::write(&path, format!("{BEGIN}\n{ERROR}\n")).expect("a file");
        let mut log = begin(&folder);
        let failures = |log: &mut OwnLog| {
            log.read_new();
            log.says.waiting().map_or(0, |waiting| waiting.failures)
        };
        let mut file = File::options().append(true).open(&path).expect("it is there");
        let mut add = |line: &str| file.write_all(line.as_bytes()).expect("a write");
        assert_eq!(failures(&mut log), 0, "what was before is another run's");
        add(&format!("{BEGIN}\n{}", &ERROR[..40]));
        assert_eq!(failures(&mut log), 0, "half a line");
        add(&format!("{}\n", &ERROR[40..]));
        assert_eq!(failures(&mut log), 1);
        assert_eq!(failures(&mut log), 1, "and nothing new since");
        fs::write(folder.join("2026.log"), format!("{ERROR}\n")).expect("a file");
        assert_eq!(failures(&mut log), 2, "a file that came later");
        fs::write(&path, "").expect("it begins anew");
        assert_eq!(failures(&mut log), 2);
        fs::write(&path, format!("{ERROR}\n")).expect("a file");
        assert_eq!(failures(&mut log), 3, "from its new beginning");
    }

    #[test]
    fn whatever_stands_there_nothing_hangs() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let path = root.path().join("x.log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        std::os::unix::fs::symlink("/dev/zero", root.path().join("y.log")).expect("a link");
        let sparse = File::create(root.path().join("z.log")).expect("a file");
        let mut log = begin(root.path());
        sparse.set_len(1 << 40).expect("a large file");
        log.read_new();
        assert_eq!(log.says.waiting(), None);
        begin(&root.path().join("none")).read_new();
    }
}
