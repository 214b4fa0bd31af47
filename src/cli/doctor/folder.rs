//! kugetsu's folder: who may read it, what is configured, how much room there is.

use std::collections::BTreeMap;
use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use crate::cli::context::{CliError, Context};
use crate::cli::finding::{Finding, count, size, some};
use crate::config::{Config, ConfigError, secret_in_line};
use crate::job::limits;

/// The configuration, or one to go on with, and whether it is the one that was meant.
pub(super) fn configuration(
    context: &Context,
) -> Result<(Config, Result<(), ConfigError>), CliError> {
    let environment = &context.environment;
    match Config::load(environment) {
        Ok(config) => Ok((config, Ok(()))),
        Err(error) => {
            let folders = ["KUGETSU_DIR", "HOME"].into_iter();
            let least: BTreeMap<String, String> = folders
                .filter_map(|name| Some((name.to_string(), environment.get(name)?.clone())))
                .collect();
            let config =
                Config::without_file(environment).or_else(|_| Config::without_file(&least));
            Ok((config?, Err(error)))
        }
    }
}

/// The folder, the configuration, the modes and the room.
pub(super) fn audit(config: &Config, loaded: Result<(), ConfigError>) -> Vec<Finding> {
    let home = &config.home;
    let mut findings = Vec::new();
    let path = home.join("config");
    let shown = path.display().to_string();
    findings.push(match loaded {
        Err(error) => Finding::trouble(
            "config",
            "the configuration",
            error.to_string(),
            "mend it; until then this looks with defaults, and mends nothing",
        ),
        Ok(()) if path.exists() => Finding::good("config", format!("the configuration {shown}")),
        Ok(()) => Finding::good("config", "no configuration file: defaults and the environment"),
    });
    if !home.is_dir() {
        let what = format!("the folder {}", home.display());
        findings.push(Finding::trouble(
            "folder",
            what,
            "it is not there",
            "`kugetsu init` makes it",
        ));
        return findings;
    }
    findings.push(Finding::good("folder", format!("the folder {}", home.display())));
    findings.extend(token_mode(&path));
    findings.extend(owners_and_modes(config));
    findings.push(room(home));
    findings.push(temporary_folder());
    if let Some(folder) = config.store.parent().filter(|folder| *folder != home && folder.is_dir())
    {
        findings.push(room(folder));
    }
    findings
}

/// A token is nobody else's to read; a configuration without one may be.
fn token_mode(path: &Path) -> Option<Finding> {
    let metadata = fs::symlink_metadata(path).ok().filter(Metadata::is_file)?;
    let text = fs::read_to_string(path).ok()?;
    let name = text.lines().find_map(secret_in_line).filter(|_| metadata.mode() & 0o077 != 0)?;
    let why = format!("it holds {name}, and others may read it (mode {:o})", mode(&metadata));
    let remedy = format!("chmod 600 {}", path.display());
    let path = path.to_path_buf();
    let finding = Finding::trouble("config", "the configuration", why, &remedy);
    Some(finding.mended_by(move || close(&path)))
}

/// One finding for the owners, one for the modes.
fn owners_and_modes(config: &Config) -> Vec<Finding> {
    let own = nix::unistd::geteuid().as_raw();
    let (mut foreign, mut open, mut seen) = (Vec::new(), Vec::new(), 0);
    for path in own_paths(config) {
        // What a link leads to is not kugetsu's.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_symlink() {
            continue;
        }
        seen += 1;
        if metadata.uid() != own {
            foreign.push(format!("{} (of user {})", path.display(), metadata.uid()));
        } else if metadata.mode() & 0o077 != 0 {
            open.push((path, mode(&metadata)));
        }
    }
    let mut findings = Vec::new();
    if !foreign.is_empty() {
        let remedy = format!("run as their owner, or: chown -R {own} {}", config.home.display());
        let what = count(foreign.len(), "file or folder", "files and folders");
        let why = format!("owned by somebody else: {}", some(&foreign));
        findings.push(Finding::trouble("owners", what, why, &remedy));
    }
    if open.is_empty() && foreign.is_empty() {
        let what = format!("{seen} of kugetsu's files and folders are yours alone");
        findings.push(Finding::good("modes", what));
    } else if !open.is_empty() {
        let names: Vec<String> =
            open.iter().map(|(path, mode)| format!("{} ({mode:o})", path.display())).collect();
        let what = count(open.len(), "file or folder", "files and folders");
        let why = format!("open to other users: {}", some(&names));
        let finding = Finding::trouble("modes", what, why, "chmod go= takes that away");
        let close_all = move || open.iter().try_for_each(|(path, _)| close(path));
        findings.push(finding.mended_by(close_all));
    }
    findings
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o7777
}

/// What kugetsu makes for its owner alone. Not what is inside of clones and worktrees.
fn own_paths(config: &Config) -> Vec<PathBuf> {
    let home = &config.home;
    let wake = config.store.with_file_name("wake");
    let mut paths = vec![home.clone(), config.store.clone(), wake, home.join("queue-daemon.lock")];
    for name in ["mirrors", "evidence", "worktrees", "runs", "workers", "logs"] {
        let folder = home.join(name);
        if name != "worktrees" {
            paths.extend(entries(&folder));
        }
        if name == "runs" {
            let runs = entries(&folder);
            paths.extend(runs.iter().flat_map(|run| entries(run)));
        }
        paths.push(folder);
    }
    paths
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.flatten().take(limits::ENTRIES_READ_MAX).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn close(path: &Path) -> Result<(), String> {
    let close = || {
        let metadata = fs::symlink_metadata(path)?;
        if metadata.is_symlink() {
            return Ok(());
        }
        fs::set_permissions(path, Permissions::from_mode(mode(&metadata) & 0o700))
    };
    match close() {
        // It was removed in between.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        closed => closed.map_err(|error| format!("{}: {error}", path.display())),
    }
}

fn room(folder: &Path) -> Finding {
    let what = format!("room in {}", folder.display());
    let disk = match statvfs(folder) {
        Err(errno) => return Finding::trouble("disk", what, errno.desc(), "is the disk there?"),
        Ok(disk) => disk,
    };
    let unit = disk.fragment_size();
    let free = disk.blocks_available().saturating_mul(unit);
    let total = disk.blocks().saturating_mul(unit);
    let remedy = "`kugetsu prune` takes away worktrees that have nothing of worth";
    let (inodes, all_inodes) = (disk.files_available(), disk.files());
    // A file system that makes them as they are needed says 0 of 0.
    let has_inodes = all_inodes > 0;
    let room_for_files = match has_inodes {
        true => room_for(inodes, all_inodes, limits::INODES_MIN, limits::INODES_ENOUGH),
        false => Room::Enough,
    };
    let of_inodes = if has_inodes { format!(", and {inodes} inodes") } else { String::new() };
    let said = format!(
        "{} of {} is free ({} before work stops), {inodes} of {all_inodes} inodes ({} before)",
        size(free),
        size(total),
        size(free.saturating_sub(limits::DISK_BYTES_MIN)),
        inodes.saturating_sub(limits::INODES_MIN),
    );
    match room_of(free, total).max(room_for_files) {
        Room::Enough => Finding::good("disk", format!("{what}: {} free{of_inodes}", size(free))),
        Room::Little => Finding::note("disk", format!("{what}: {said}"), remedy),
        Room::None => Finding::trouble("disk", what, said, remedy),
    }
}

/// Git, agents and kugetsu itself make files there.
fn temporary_folder() -> Finding {
    let folder = std::env::temp_dir();
    let what = format!("the folder for temporary files, {}", folder.display());
    match tempfile::tempfile_in(&folder) {
        Ok(_) => Finding::good("temporary", what),
        Err(error) => {
            let remedy = "TMPDIR says which folder it is: it must be there, with room, and yours";
            Finding::trouble(
                "temporary",
                what,
                format!("cannot make a file in it: {error}"),
                remedy,
            )
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Room {
    Enough,
    /// A small part of the disk, with which one can work.
    Little,
    None,
}

fn room_of(free: u64, total: u64) -> Room {
    room_for(free, total, limits::DISK_BYTES_MIN, limits::DISK_BYTES_ENOUGH)
}

fn room_for(free: u64, total: u64, least: u64, enough: u64) -> Room {
    match free {
        _ if free < least => Room::None,
        _ if free < enough && free < total / 20 => Room::Little,
        _ => Room::Enough,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_before_it_is_full() {
        const GIB: u64 = 1 << 30;
        for (free, total, expected) in [
            (0, 0, Room::None),
            (GIB - 1, 2 * GIB, Room::None),
            (GIB, 20 * GIB, Room::Enough),
            (GIB, 20 * GIB + 20, Room::Little),
            (6 * GIB, 100 * GIB, Room::Enough),
            (4 * GIB, 100 * GIB, Room::Little),
            (20 * GIB, 10_000 * GIB, Room::Enough),
        ] {
            assert_eq!(room_of(free, total), expected, "{free} of {total}");
        }
        for (free, total, expected) in [
            (9_999, 1_000_000, Room::None),
            (10_000, 1_000_000, Room::Little),
            (50_000, 1_000_000, Room::Enough),
            (199_999, 10_000_000, Room::Little),
            (200_000, 10_000_000, Room::Enough),
        ] {
            let room = room_for(free, total, limits::INODES_MIN, limits::INODES_ENOUGH);
            assert_eq!(room, expected, "{free} of {total} inodes");
        }
        assert!(Room::Enough < Room::Little && Room::Little < Room::None);
    }
}
