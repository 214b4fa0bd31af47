//! How often the kernel has killed for want of memory: a victim of that is not to pay for it.
//!
//! The nearest count is the best one: that of the run's control group, else that of the group that
//! this process is in, else the machine's.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::cgroup::{self, Cgroup};

/// A place where such kills are counted, and how many there were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomCount {
    place: PathBuf,
    before: u64,
}

impl OomCount {
    /// Begins to count; `None` where the system does not.
    pub fn begin(cgroup: Option<&Cgroup>) -> Option<OomCount> {
        let groups = [cgroup.map(|group| group.folder().to_path_buf()), cgroup::own()];
        let files = groups.into_iter().flatten().map(|folder| folder.join("memory.events"));
        files.chain([PathBuf::from("/proc/vmstat")]).find_map(|place| OomCount::at(&place))
    }

    fn at(place: &Path) -> Option<OomCount> {
        let before = read(place)?;
        Some(OomCount { place: place.into(), before })
    }

    /// Kills since it began.
    pub fn rise(&self) -> u64 {
        read(&self.place).unwrap_or(self.before).saturating_sub(self.before)
    }
}

fn read(place: &Path) -> Option<u64> {
    parse(&fs::read_to_string(place).ok()?)
}

/// Both files have lines of a name and a number.
fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_the_line_of_that_name() {
        for (text, expected) in [
            ("low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 5\n", Some(4)),
            ("nr_free_pages 1\noom_kill 7\ndrop_pagecache 1\n", Some(7)),
            ("oom 3\noom_group_kill 5\n", None),
            ("oom_kill many\n", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_rise_is_what_came_since() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().join("memory.events");
        assert_eq!(OomCount::at(&place), None);
        fs::write(&place, "oom_kill 2\n").expect("a file");
        let count = OomCount::at(&place).expect("it is there");
        assert_eq!(count.rise(), 0);
        fs::write(&place, "oom_kill 5\n").expect("a file");
        assert_eq!(count.rise(), 3);
        fs::remove_file(&place).expect("the group goes");
        assert_eq!(count.rise(), 0, "what is not known is none");
    }
}
