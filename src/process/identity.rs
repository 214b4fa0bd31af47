//! Who a process is: a pid is used again, a pid with its start time and boot is not.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

/// What `/proc/PID/stat` says, as far as it is used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The process.
    pub identity: Identity,
    /// Its parent's number.
    pub parent: i32,
    /// Dead, and not yet waited for.
    pub is_zombie: bool,
    /// Processor time of it and of those children that it has waited for, in clock ticks.
    pub cpu_ticks: u64,
}

/// Reads one process; `None` if there is none.
pub fn stat(pid: i32) -> Option<Stat> {
    parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name of a process may hold spaces and brackets, so the fields count from the last bracket.
fn parse_stat(pid: i32, text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |at: usize| -> Option<u64> {
        let fields = fields.get(at..at + 4)?.iter();
        // A negative number has been seen of children, after a clock was set.
        fields.map(|field| Some(u64::try_from(field.parse::<i64>().ok()?).unwrap_or(0))).sum()
    };
    Some(Stat {
        cpu_ticks: ticks(11)?,
        identity: Identity { pid, start_time: fields.get(19)?.parse().ok()? },
        parent: fields.get(1)?.parse().ok()?,
        is_zombie: matches!(*fields.first()?, "Z" | "X" | "x"),
    })
}

impl Identity {
    /// The process that has this number now.
    pub fn of(pid: i32) -> Option<Identity> {
        stat(pid).map(|stat| stat.identity)
    }

    /// This process.
    pub fn own() -> io::Result<Identity> {
        Identity::of(Pid::this().as_raw())
            .ok_or_else(|| io::Error::other("/proc does not show this process"))
    }

    /// Whether it is there and not a zombie.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.identity == self && !stat.is_zombie)
    }

    /// What it was called with, its own name first; empty if that cannot be read.
    pub fn arguments(self) -> Vec<String> {
        let text = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        if !self.is_alive() {
            return Vec::new();
        }
        let words = text.split(|byte| *byte == 0);
        words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    /// Sends a signal if the process is still this one. Says whether it was.
    pub fn signal(self, signal: Signal) -> io::Result<bool> {
        if !self.is_alive() {
            return Ok(false);
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => Ok(true),
            // A program that changed its user is not ours to signal, and no reason to give up.
            Err(Errno::ESRCH | Errno::EPERM) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Which boot this is. Start times of another boot mean nothing.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_do_not_shift_the_fields() {
        let rest = "S 7 1 1 0 -1 4 0 0 0 0 1 2 3 4 20 0 1 0 4711 0";
        for name in ["sh", "a b", ") R 1 (", "((("] {
            let parsed = parse_stat(9, &format!("9 ({name}) {rest}"));
            let identity = Identity { pid: 9, start_time: 4711 };
            let expected = Stat { identity, parent: 7, is_zombie: false, cpu_ticks: 10 };
            assert_eq!(parsed, Some(expected), "{name}");
        }
        assert_eq!(parse_stat(9, "9 (sh"), None);
        assert_eq!(parse_stat(9, "9 (sh) S 7"), None);
    }

    #[test]
    fn another_start_time_is_another_process() {
        let own = Identity::own().expect("/proc is there");
        assert!(own.is_alive());
        let other = Identity { start_time: own.start_time + 1, ..own };
        assert!(!other.is_alive());
        assert!(!other.signal(Signal::SIGKILL).expect("nothing is sent"));
    }
}
