//! File systems of a test's own: on an image file and a loop device, or in memory.
//!
//! Only root can have them. Elsewhere a test that needs one is left out, and says so.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Ran, processes_with, program, wait_for};

/// What is compared and copied at once.
const BLOCK_BYTES: usize = 1 << 20;

/// A file system that journals, each in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Ext4, Kind::Xfs, Kind::Btrfs];

    /// How it is made, and the size in MiB that it needs at least.
    fn recipe(self) -> (&'static str, &'static [&'static str], u64) {
        match self {
            Kind::Ext4 => ("mkfs.ext4", &["-q", "-F", "-m0"], 96),
            Kind::Xfs => ("mkfs.xfs", &["-q", "-f"], 320),
            Kind::Btrfs => ("mkfs.btrfs", &["-q", "-f"], 200),
        }
    }
}

/// Says, past the capture of the test runner, that a test is left out, and why.
pub fn left_out(what: &str, why: &str) {
    // Nobody to tell is no reason to fail.
    let _ = writeln!(io::stderr(), "\n*** LEFT OUT: {what}: {why} ***");
}

/// Whether a promise is tried that kugetsu is known not to keep yet: with `KUGETSU_TEST_NOT_YET` set.
/// Otherwise it is said that the test is left out.
#[expect(clippy::disallowed_methods, reason = "tests are told by their environment")]
pub fn is_tried_already(what: &str) -> bool {
    let is_tried = std::env::var_os("KUGETSU_TEST_NOT_YET").is_some();
    if !is_tried {
        left_out(what, "kugetsu does not keep this promise yet (KUGETSU_TEST_NOT_YET=1 tries it)");
    }
    is_tried
}

fn run(command: &str, arguments: &[&str]) -> Result<(), String> {
    match program(command).args(arguments).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command} {arguments:?}: {}", Ran::from(output).stderr.trim())),
        Err(error) => Err(format!("{command}: {error}")),
    }
}

/// A file system that is mounted until this is dropped, or until this process is no more.
pub struct Disk {
    at: PathBuf,
    /// Unmounts when it reads the end of its input: also when a test is killed.
    watcher: Child,
}

impl Disk {
    /// A new file system of a kind in a new image, mounted; or why there can be none here.
    pub fn make(kind: Kind, image: &Path, at: &Path) -> Result<Disk, String> {
        let (_, _, mebibytes) = kind.recipe();
        Disk::make_of(kind, mebibytes, image, at)
    }

    /// The same of a size.
    pub fn make_of(kind: Kind, mebibytes: u64, image: &Path, at: &Path) -> Result<Disk, String> {
        let (command, options, _) = kind.recipe();
        let file = File::create(image).map_err(|error| error.to_string())?;
        file.set_len(mebibytes << 20).map_err(|error| error.to_string())?;
        let image = image.to_str().expect("letters");
        run(command, &[options, &[image]].concat())?;
        let disk = Disk::mount(Path::new(image), at)?;
        // What mkfs puts there is none of kugetsu's.
        let _ = fs::remove_dir(at.join("lost+found"));
        Ok(disk)
    }

    /// Mounts an image, as after the machine's next start.
    pub fn mount(image: &Path, at: &Path) -> Result<Disk, String> {
        // The same label twice is two copies of one disk to xfs.
        let is_xfs = fs::read(image).map_err(|e| e.to_string())?.starts_with(b"XFSB");
        let options = if is_xfs { "loop,nouuid" } else { "loop" };
        Disk::mounted(&["-o", options, image.to_str().expect("letters")], at)
    }

    /// A file system in memory, of so many KiB and files.
    pub fn in_memory(kibibytes: u64, files: u64, at: &Path) -> Result<Disk, String> {
        let options = format!("size={kibibytes}k,nr_inodes={files},mode=700");
        Disk::mounted(&["-t", "tmpfs", "-o", &options, "kugetsu-test"], at)
    }

    fn mounted(arguments: &[&str], at: &Path) -> Result<Disk, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root can mount".into());
        }
        fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let path = at.to_str().expect("letters");
        run("mount", &[arguments, &[path]].concat())?;
        fs::set_permissions(at, fs::Permissions::from_mode(0o700)).expect("it is ours");
        // Once more for what a test mounted over it; lazily where something still lives there.
        let script = "read _; for time in 1 2 3; do grep -q \" $1 \" /proc/mounts || exit 0; \
                      umount \"$1\" 2>/dev/null || umount -l \"$1\"; done";
        let watcher = program("setsid")
            .args(["sh", "-c", script, "watcher", path])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setsid runs");
        Ok(Disk { at: at.into(), watcher })
    }

    /// Fills it until nothing more goes in, and gives the file to remove again.
    pub fn fill(&self) -> PathBuf {
        let path = self.at.join("fill");
        let mut file = File::create(&path).expect("a file");
        let mut length = 0;
        for block in [1 << 24, 1 << 20, 1 << 16, 1 << 12] {
            while fallocate(&file, FallocateFlags::empty(), length, block).is_ok() {
                length += block;
            }
        }
        // What is left of the last block, and what a file system kept back.
        let _ = file.seek(io::SeekFrom::End(0));
        while file.write_all(&[7; 512]).is_ok() && file.sync_data().is_ok() {}
        path
    }

    /// Makes files until no more can be made, and gives the folder to remove again.
    pub fn fill_files(&self) -> PathBuf {
        let folder = self.at.join("fill");
        fs::create_dir(&folder).expect("a folder");
        let mut number = 0;
        while File::create(folder.join(number.to_string())).is_ok() {
            number += 1;
        }
        folder
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        // Nothing can be done about one that cannot be waited for.
        let _ = self.watcher.wait();
    }
}

/// Copies what an image holds at one moment: what the file system above it has not written yet is
/// not in it, as after a power loss. Processes of the marker stand still meanwhile; if the kernel
/// writes while it is copied, it is copied again.
pub fn lose_power(image: &Path, copy: &Path, marker: &str) {
    let stopped = processes_with(marker);
    let tell = |signal| {
        for pid in &stopped {
            // One that has ended meanwhile writes nothing.
            let _ = kill(Pid::from_raw(*pid), signal);
        }
    };
    tell(Signal::SIGSTOP);
    wait_for("a moment without a write", || {
        run("cp", &["--sparse=always", image.to_str()?, copy.to_str()?]).expect("a copy");
        is_same(image, copy).then_some(())
    });
    tell(Signal::SIGCONT);
}

fn is_same(one: &Path, other: &Path) -> bool {
    let [mut one, mut other] = [one, other].map(|path| File::open(path).expect("it is there"));
    let [mut left, mut right] = [vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]];
    loop {
        let count = one.read(&mut left).expect("a read");
        if count == 0 {
            return true;
        }
        other.read_exact(&mut right[..count]).expect("as long as the other");
        if left[..count] != right[..count] {
            return false;
        }
    }
}
