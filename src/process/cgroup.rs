//! A control group for a run, where systemd lets us have one (`Delegate=yes`): the kernel kills
//! everything in it at once, whatever it forks and however it hides.
//!
//! It comes on top of what is done without one. Nothing depends on it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

/// A group that exists.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// Makes a group below this process's own; `None` where there can be none.
    pub fn make(name: &str) -> Option<Cgroup> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        // Of another queue there may be a run of the same name.
        let folder = own_folder(&mounts, &own)?.join(format!("kugetsu-{name}-{}", Pid::this()));
        fs::create_dir(&folder).ok()?;
        let group = Cgroup { folder };
        // A kernel before 5.14 has groups that cannot be killed, and a group that cannot be left
        // again is no place for this process.
        if group.file("cgroup.kill").exists() && group.around(|| Ok(())).is_ok() {
            return Some(group);
        }
        group.remove();
        None
    }

    /// One that was made by another process.
    pub fn at(folder: &Path) -> Cgroup {
        Cgroup { folder: folder.into() }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs `start` with this process in the group, so that what it starts is in there from its
    /// first instruction on.
    pub fn around<T>(&self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.take(&self.folder)?;
        let started = start();
        if let Some(parent) = self.folder.parent() {
            self.take(parent)?;
        }
        started
    }

    fn take(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join("cgroup.procs"), Pid::this().to_string())
    }

    /// Kills everything in it, and says how many processes there were. One that is gone has nothing
    /// in it.
    pub fn kill(&self) -> io::Result<u32> {
        let killed = || -> io::Result<u32> {
            let processes = fs::read_to_string(self.file("cgroup.procs"))?.lines().count();
            fs::write(self.file("cgroup.kill"), "1")?;
            Ok(u32::try_from(processes).unwrap_or(u32::MAX))
        };
        match killed() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            killed => killed,
        }
    }

    /// Removes it, if nothing is in it.
    pub fn remove(&self) {
        // What is left is an empty folder in memory, gone with the service.
        let _ = fs::remove_dir(&self.folder);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The folder of a process's own group in the one hierarchy of version 2.
fn own_folder(mounts: &str, own: &str) -> Option<PathBuf> {
    let mount = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(2) == Some(&"cgroup2")).then(|| fields.get(1).copied())?
    })?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(mount).join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_folder_is_in_the_hierarchy_of_version_2() {
        let mounts = "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        let own = "1:cpu:/x\n0::/user.slice/user-1.slice/app.slice/kugetsu-worker.service\n";
        let expected = "/sys/fs/cgroup/user.slice/user-1.slice/app.slice/kugetsu-worker.service";
        assert_eq!(own_folder(mounts, own), Some(PathBuf::from(expected)));
        assert_eq!(own_folder(mounts, "0::/\n"), Some(PathBuf::from("/sys/fs/cgroup/")));
        assert_eq!(own_folder("proc /proc proc rw 0 0\n", own), None);
        assert_eq!(own_folder(mounts, "1:cpu:/x\n"), None);
    }
}
