//! A fence round an agent: it may write where it works, and nowhere else. Landlock of the kernel.
//!
//! A fence, not a jail: reading and the network are as free as without it, and so are Unix sockets
//! that have a path, and what changes a file's mode, owner or times. `docs/SECURITY.md` says what
//! is promised.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use serde::{Deserialize, Serialize};

use crate::process::safe_file;

/// Without it, an agent could empty any file that it cannot write to.
const LEAST: ABI = ABI::V3;
/// What is asked for besides, where the kernel has it: devices may not be told what to do.
const MORE: ABI = ABI::V5;

/// What an agent may write to, besides its clone, its run's own folder and `/dev/null`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// Folders and files. None may be a link, and each must be there.
    pub writable: Vec<PathBuf>,
    /// Folders that are made before, if they are not there.
    pub made: Vec<PathBuf>,
}

/// What the kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Everything that the sandbox promises.
    Whole,
    /// Files, but signals to processes outside are not held back (before Linux 6.12).
    WithoutSignals,
    /// Nothing: Landlock is not there, turned off, or too old.
    None,
}

impl Support {
    /// What a person should know, if there is anything.
    pub fn lack(self) -> Option<&'static str> {
        match self {
            Support::Whole => None,
            Support::WithoutSignals => Some(
                "this kernel's Landlock does not hold back signals to processes outside of the \
                 sandbox (Linux 6.12 does)",
            ),
            Support::None => Some(
                "this kernel has no Landlock that can do it (Linux 6.2 or newer, and `landlock` \
                 in /sys/kernel/security/lsm): set KUGETSU_SANDBOX=none, or use another kernel",
            ),
        }
    }
}

/// Asks the kernel. Nothing is confined by asking.
pub fn support() -> Support {
    let strict = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if strict().handle_access(AccessFs::from_write(LEAST)).is_err() {
        return Support::None;
    }
    match strict().scope(Scope::from_all(ABI::V6)) {
        Ok(_) => Support::Whole,
        Err(_) => Support::WithoutSignals,
    }
}

/// Makes the folders of a sandbox that are to be made, and looks whether the rest is there and the
/// kernel can do it.
///
/// # Errors
///
/// Naming what cannot be had.
pub fn prepare(sandbox: &Sandbox) -> io::Result<()> {
    require_support()?;
    for folder in &sandbox.made {
        safe_file::ensure_folder(folder)?;
    }
    for path in sandbox.made.iter().chain(&sandbox.writable) {
        open_named(path)?;
    }
    Ok(())
}

/// Confines this process, and whatever it becomes or starts, for ever.
///
/// # Errors
///
/// When the kernel cannot, or a path cannot be had: then nothing is confined, and nothing may run.
pub fn enter(sandbox: &Sandbox, own: &[&Path]) -> io::Result<()> {
    require_support()?;
    let access = AccessFs::from_write(MORE);
    let strict = CompatLevel::HardRequirement;
    let mut rules = Ruleset::default()
        .set_compatibility(strict)
        .handle_access(AccessFs::from_write(LEAST))
        .map_err(io::Error::other)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(access)
        .and_then(|rules| rules.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    let named = sandbox.made.iter().chain(&sandbox.writable).map(PathBuf::as_path);
    for path in own.iter().copied().chain(named) {
        let (path, is_folder) = open_named(path)?;
        let rule = PathBeneath::new(path, if is_folder { access } else { for_files(access) });
        rules = rules.add_rule(rule).map_err(io::Error::other)?;
    }
    // Everybody's, and not a place to keep anything.
    let null = open("/dev/null", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let rule = PathBeneath::new(null, for_files(access));
    let status = rules
        .add_rule(rule)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(io::Error::other)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(io::Error::other("the kernel confined nothing")),
    }
}

fn require_support() -> io::Result<()> {
    match (support(), Support::None.lack()) {
        (Support::None, Some(lack)) => Err(io::Error::new(io::ErrorKind::Unsupported, lack)),
        _ => Ok(()),
    }
}

fn for_files(access: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
    access & AccessFs::from_file(MORE)
}

/// Opens a path that may be written to, and says whether it is a folder. A link is not followed: an
/// earlier agent could have put it there, and it could lead anywhere.
fn open_named(path: &Path) -> io::Result<(OwnedFd, bool)> {
    let named = |why: &str| {
        let path = path.display();
        io::Error::new(io::ErrorKind::InvalidInput, format!("the sandbox cannot use {path}: {why}"))
    };
    if !path.is_absolute() {
        return Err(named("it is no absolute path"));
    }
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = open(path, flags, Mode::empty()).map_err(|errno| named(errno.desc()))?;
    match SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => Ok((file, true)),
        SFlag::S_IFLNK => {
            let target = fs::read_link(path).unwrap_or_default();
            Err(named(&format!("it is a link; name {} instead", target.display())))
        }
        _ => Ok((file, false)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_cannot_be_had_is_named() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| root.path().join(name);
        fs::write(path("file"), "").expect("a file");
        symlink("/etc", path("link")).expect("a link");
        for (named, made, expected) in [
            (path("file"), path("made"), ""),
            (path("none"), path("made"), "none: No such file"),
            (path("link"), path("made"), "it is a link; name /etc instead"),
            (PathBuf::from("relative"), path("made"), "it is no absolute path"),
            (path("file"), path("file/below"), "file is a file; move it away"),
        ] {
            let sandbox = Sandbox { writable: vec![named.clone()], made: vec![made.clone()] };
            let said = prepare(&sandbox).err().map(|error| error.to_string()).unwrap_or_default();
            let fits = if expected.is_empty() { said.is_empty() } else { said.contains(expected) };
            assert!(fits, "{} {}: {said}", named.display(), made.display());
        }
        assert!(path("made").is_dir());
    }

    #[test]
    fn what_lacks_is_said() {
        assert_eq!(Support::Whole.lack(), None);
        for support in [Support::WithoutSignals, Support::None] {
            assert!(support.lack().is_some_and(|lack| lack.contains("Linux 6.")), "{support:?}");
        }
    }
}
