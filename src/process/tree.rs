//! Ending trees of processes.
//!
//! A process group does not hold an agent's children: tools of agents start sessions of their
//! own. A subreaper sees all of them as its descendants, and what a dead one left behind is found
//! by a marker in its environment.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::job::limits;
use crate::process::identity::{self, Identity, Stat};

/// Kills every process below this one, and says how many there were. They are frozen first: what
/// does not run cannot fork.
pub fn kill_descendants() -> io::Result<u32> {
    let mut frozen = Vec::new();
    for _ in 0..limits::FREEZE_ROUNDS_MAX {
        let new: Vec<Stat> =
            descendants()?.into_iter().filter(|stat| !frozen.contains(&stat.identity)).collect();
        if new.is_empty() {
            break;
        }
        for stat in new {
            stat.identity.signal(Signal::SIGSTOP)?;
            frozen.push(stat.identity);
        }
    }
    let mut sent = 0;
    for stat in descendants()? {
        sent += u32::from(stat.identity.signal(Signal::SIGKILL)?);
    }
    Ok(sent)
}

/// Processor time of every process below this one, in milliseconds. What the dead used is counted
/// with whoever waited for them.
pub fn cpu_ms_of_descendants() -> io::Result<u64> {
    let per_second = sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok());
    let ticks: u64 = descendants()?.iter().map(|stat| stat.cpu_ticks).sum();
    Ok(ticks * 1000 / per_second.filter(|ticks| *ticks > 0).unwrap_or(100))
}

/// Every process below this one that is not dead.
pub fn descendants() -> io::Result<Vec<Stat>> {
    let own = Pid::this().as_raw();
    let all: Vec<Stat> = all_pids()?.into_iter().filter_map(identity::stat).collect();
    let mut found: Vec<Stat> = Vec::new();
    let mut parents = vec![own];
    // Each parent is looked at once; a tree is not larger than all processes.
    while let Some(parent) = parents.pop() {
        for stat in all.iter().filter(|stat| stat.parent == parent && !stat.is_zombie) {
            let pid = stat.identity.pid;
            if pid != own && !found.iter().any(|found| found.identity.pid == pid) {
                found.push(*stat);
                parents.push(pid);
            }
        }
    }
    Ok(found)
}

/// Sends a signal to a process group. Says whether there was one.
pub fn signal_group(group: Pid, signal: Signal) -> io::Result<bool> {
    match kill(Pid::from_raw(-group.as_raw()), signal) {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH | Errno::EPERM) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Sends a signal to every process with this entry (`NAME=value`) in its environment, and says to
/// how many. The caller itself is spared.
pub fn signal_marked(marker: &str, signal: Signal) -> io::Result<u32> {
    let mut sent = 0;
    for process in marked(marker)? {
        sent += u32::from(process.signal(signal)?);
    }
    Ok(sent)
}

/// Every process with this entry (`NAME=value`) in its environment, in the order of their numbers.
/// The caller itself and the dead are left out.
pub fn marked(marker: &str) -> io::Result<Vec<Identity>> {
    let own = Pid::this().as_raw();
    let mut found = Vec::new();
    for pid in all_pids()?.into_iter().filter(|pid| *pid != own) {
        // The identity is read before the environment: if the pid is used again in between, the
        // start time differs and nothing is sent.
        let Some(stat) = identity::stat(pid).filter(|stat| !stat.is_zombie) else { continue };
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|entry| entry == marker.as_bytes()) {
            found.push(stat.identity);
        }
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

/// Processes whose environment holds an entry that begins so, each with the rest of that entry.
/// Zombies are left out.
pub fn with_variable(beginning: &str) -> io::Result<Vec<(Identity, String)>> {
    let mut found = Vec::new();
    for pid in all_pids()? {
        let Some(stat) = identity::stat(pid).filter(|stat| !stat.is_zombie) else { continue };
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        let mut entries = environment.split(|byte| *byte == 0);
        if let Some(rest) = entries.find_map(|entry| entry.strip_prefix(beginning.as_bytes())) {
            found.push((stat.identity, String::from_utf8_lossy(rest).into_owned()));
        }
    }
    Ok(found)
}

/// Processes that have this file as their standard input.
pub fn reading(file: &Path) -> io::Result<Vec<Identity>> {
    let reads =
        |pid: &i32| fs::read_link(format!("/proc/{pid}/fd/0")).is_ok_and(|input| input == file);
    Ok(all_pids()?.into_iter().filter(reads).filter_map(Identity::of).collect())
}

/// Another process that works in this folder or below it.
pub fn somebody_in(folder: &Path) -> io::Result<Option<i32>> {
    let works_here = |pid: i32| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    };
    let own = Pid::this().as_raw();
    Ok(all_pids()?.into_iter().find(|pid| *pid != own && works_here(*pid)))
}

/// Every process there is.
pub fn all_pids() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}
