//! A control group for a run, where systemd lets us have one (`Delegate=yes`): the kernel kills
//! everything in it at once, whatever it forks and however it hides.
//!
//! It comes on top of what is done without one. Nothing depends on it.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;

/// A group that exists.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
}

/// What was started in a group, and whether the starter is out of it again.
#[derive(Debug)]
pub struct Around<T> {
    /// What the starting gave.
    pub started: io::Result<T>,
    /// An error when the starter is still in the group: to kill the group would kill it too.
    pub left: io::Result<()>,
}

impl Cgroup {
    /// Makes a group below this process's own for a run and its shim; `None` where there can be
    /// none.
    pub fn make(run: &str, shim: Pid) -> Option<Cgroup> {
        let folder = own()?.join(name(run, shim));
        fs::create_dir(&folder).ok()?;
        let group = Cgroup { folder };
        // A kernel before 5.14 has groups that cannot be killed, and a group that cannot be left
        // again is no place for this process.
        let can_be_used = || {
            let around = group.around(|| Ok(()));
            around.started.is_ok() && around.left.is_ok()
        };
        if group.file("cgroup.kill").exists() && can_be_used() {
            return Some(group);
        }
        group.remove();
        None
    }

    /// The group that a shim made for its run, if this can be it: below the hierarchy, of the name
    /// that the shim gave it, and without a process of anybody else.
    pub fn of_run(folder: &Path, run: &str, shim: Pid) -> Option<Cgroup> {
        let mount = mount(&fs::read_to_string("/proc/self/mounts").ok()?)?;
        if !can_be_of_run(folder, &mount, run, shim) {
            return None;
        }
        // A link anywhere on the way, or another file system, is no control group.
        let real = folder.canonicalize().ok()?;
        let is_cgroup = statfs(folder).ok()?.filesystem_type() == CGROUP2_SUPER_MAGIC;
        (real == folder && is_cgroup).then_some(Cgroup { folder: real })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs `start` with this process in the group, so that what it starts is in there from its
    /// first instruction on. What was started is told of also when the group cannot be left.
    pub fn around<T>(&self, start: impl FnOnce() -> io::Result<T>) -> Around<T> {
        if let Err(error) = move_to(&self.folder) {
            return Around { started: Err(error), left: Ok(()) };
        }
        let started = start();
        let left = self.folder.parent().map_or(Ok(()), move_to);
        Around { started, left }
    }

    /// The processes in it. One that is gone has nothing in it.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        match fs::read_to_string(self.file("cgroup.procs")) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Kills everything in it, and says how many processes there were. One that is gone has nothing
    /// in it.
    pub fn kill(&self) -> io::Result<u32> {
        let killed = || -> io::Result<u32> {
            let processes = self.processes()?;
            let own = Pid::this().as_raw();
            if processes.contains(&own) {
                return Err(io::Error::other("this process is in the group that it was to kill"));
            }
            fs::write(self.file("cgroup.kill"), "1")?;
            Ok(u32::try_from(processes.len()).unwrap_or(u32::MAX))
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

fn move_to(folder: &Path) -> io::Result<()> {
    fs::write(folder.join("cgroup.procs"), Pid::this().to_string())
}

/// Of another queue there may be a run of the same name, so the shim's number is in it too.
fn name(run: &str, shim: Pid) -> String {
    format!("kugetsu-{run}-{shim}")
}

fn can_be_of_run(folder: &Path, mount: &Path, run: &str, shim: Pid) -> bool {
    let is_plain = |component| match component {
        Component::RootDir | Component::Normal(_) => true,
        Component::ParentDir | Component::CurDir | Component::Prefix(_) => false,
    };
    folder.starts_with(mount)
        && folder.components().all(is_plain)
        && folder.file_name() == Some(name(run, shim).as_ref())
}

/// The folder of this process's own group, in the one hierarchy of version 2.
pub fn own() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    own_folder(&mounts, &fs::read_to_string("/proc/self/cgroup").ok()?)
}

fn own_folder(mounts: &str, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(mount(mounts)?.join(path))
}

fn mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(2) == Some(&"cgroup2")).then(|| fields.get(1).map(PathBuf::from))?
    })
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

    #[test]
    fn another_folder_is_no_group_of_the_run() {
        let mount = Path::new("/sys/fs/cgroup");
        let shim = Pid::from_raw(77);
        for (folder, expected) in [
            ("/sys/fs/cgroup/a/kugetsu-1-2-1-77", true),
            ("/sys/fs/cgroup/kugetsu-1-2-1-77", true),
            ("/sys/fs/cgroup/a/kugetsu-1-2-1-78", false),
            ("/sys/fs/cgroup/a/kugetsu-1-3-1-77", false),
            ("/sys/fs/cgroup/a/kugetsu-1-2-1-77/below", false),
            ("/sys/fs/cgroup/a/../kugetsu-1-2-1-77", false),
            ("/sys/fs/cgroup/user.slice", false),
            ("/tmp/kugetsu-1-2-1-77", false),
            ("kugetsu-1-2-1-77", false),
            ("", false),
        ] {
            let found = can_be_of_run(Path::new(folder), mount, "1-2-1", shim);
            assert_eq!(found, expected, "{folder}");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let planted = folder.path().join("kugetsu-1-2-1-77");
        fs::create_dir(&planted).expect("a folder");
        assert!(Cgroup::of_run(&planted, "1-2-1", shim).is_none());
    }
}
