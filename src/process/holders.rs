//! Who holds a lock on a file, by what the kernel shows: to be named to a person, or ended on a
//! person's word.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::job::limits;
use crate::process::identity::Identity;
use crate::process::{safe_file, tree};
use crate::time;

/// A process that holds a lock, be it that it inherited it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub process: Identity,
    /// What it was called with, shortened and without control characters.
    pub command: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({})", self.process.pid, self.command)
    }
}

/// Every process that holds a lock of any kind on a file, as far as it may be seen: another user's
/// processes do not show theirs. This process is left out. A file that is not there has none.
///
/// # Errors
///
/// When the file is none, or `/proc` cannot be read.
pub fn of(path: &Path) -> io::Result<Vec<Holder>> {
    let file = match safe_file::open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?.metadata()?,
    };
    let is_same = |found: fs::Metadata| (found.dev(), found.ino()) == (file.dev(), file.ino());
    let own = std::process::id();
    let mut holders = Vec::new();
    for pid in tree::all_pids()?.into_iter().filter(|pid| u32::try_from(*pid) != Ok(own)) {
        // Looked at before its files, so that another one of this number is not taken for it.
        let Some(process) = Identity::of(pid) else { continue };
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let holds = descriptors.flatten().any(|descriptor| {
            let info = Path::new("/proc").join(pid.to_string()).join("fdinfo");
            fs::metadata(descriptor.path()).is_ok_and(is_same)
                && fs::read_to_string(info.join(descriptor.file_name()))
                    .is_ok_and(|text| text.lines().any(|line| line.starts_with("lock:")))
        });
        if holds && process.is_alive() {
            holders.push(Holder { process, command: words(process) });
        }
    }
    Ok(holders)
}

/// Kills whoever holds a lock on a file, until nobody does. Gives those that still do, when it has
/// taken too long.
///
/// # Errors
///
/// As [`of`].
pub fn end(path: &Path) -> io::Result<Vec<Holder>> {
    for _ in 0..limits::KILL_ROUNDS_MAX {
        let holders = of(path)?;
        if holders.is_empty() {
            return Ok(holders);
        }
        for holder in holders {
            holder.process.signal(Signal::SIGKILL)?;
        }
        time::pause(Duration::from_millis(limits::KILL_PAUSE_MS));
    }
    of(path)
}

/// What a process calls itself may hold anything.
fn words(process: Identity) -> String {
    let line = process.arguments().join(" ");
    let plain = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(limits::COMMAND_SHOWN_CHARS_MAX).collect::<String>().trim().to_string()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Stdio};

    use super::*;
    use crate::process::command;

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn whoever_holds_a_lock_is_named_and_can_be_ended() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        assert_eq!(of(&path).expect("a look"), []);
        fs::write(&path, "").expect("a file");
        let mut holder = command("flock")
            .arg("-x")
            .arg(&path)
            .args(["sh", "-c", "echo held; sleep 1000; :"])
            .stdout(Stdio::piped())
            .spawn()
            .map(Killed)
            .expect("flock runs");
        let mut said = [0; 5];
        let stdout = holder.0.stdout.as_mut().expect("it has one");
        io::Read::read_exact(stdout, &mut said).expect("it says that it holds the lock");
        let own = fs::File::open(&path).expect("it is there");
        let holders = of(&path).expect("a look");
        assert!(holders.len() >= 2, "flock and what inherited its lock: {holders:?}");
        let named: Vec<String> = holders.iter().map(ToString::to_string).collect();
        assert!(named.iter().any(|name| name.contains("sleep 1000; :")), "{named:?}");
        assert_eq!(end(&path).expect("it is ended"), []);
        assert!(own.try_lock().is_ok(), "nobody holds it any more");
        assert!(of(&path).expect("a look").is_empty(), "this process is not meant");
    }
}
