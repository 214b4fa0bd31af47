//! Whether kugetsu's folder, or its queue, is in its caller's hands alone.
//!
//! Whoever can write there chooses what the caller's agents run. So it is as with git's
//! `safe.directory`: another owner's folder is refused, also for root; and as with ssh's
//! `StrictModes`: so is one that others may write in.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User, geteuid};

/// Refuses what is another user's, or can be written by others. What is not there is nobody's.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err("a part of this path is a file, and no folder".into());
        }
        Err(error) => return Err(error.to_string()),
        Ok(metadata) => metadata,
    };
    let mode = metadata.mode() & 0o7777;
    let ownership = Ownership {
        owner: metadata.uid(),
        caller: geteuid().as_raw(),
        mode,
        // Asked for only where it matters: the answer may come over a network.
        group_is_private: mode & 0o020 != 0 && is_private(metadata.gid(), metadata.uid()),
    };
    judge(&ownership, name_of, path)
}

struct Ownership {
    owner: u32,
    caller: u32,
    mode: u32,
    /// Whether the group has no member but the owner.
    group_is_private: bool,
}

fn judge(
    ownership: &Ownership,
    name_of: impl Fn(u32) -> String,
    path: &Path,
) -> Result<(), String> {
    if ownership.owner != ownership.caller {
        let (owner, caller) = (name_of(ownership.owner), name_of(ownership.caller));
        return Err(format!(
            "it belongs to {owner}, and you are {caller}: be {owner}, or use something of your own"
        ));
    }
    let harmful = if ownership.group_is_private { 0o002 } else { 0o022 };
    if ownership.mode & harmful != 0 {
        return Err(format!(
            "others may write to it (mode {:o}), and so decide what your agents do: chmod go-w {}",
            ownership.mode,
            path.display()
        ));
    }
    Ok(())
}

/// Most systems give each user a group of the same number and nobody else in it.
fn is_private(group: u32, owner: u32) -> bool {
    let group = Group::from_gid(Gid::from_raw(group)).ok().flatten();
    let owner = User::from_uid(Uid::from_raw(owner)).ok().flatten();
    match (group, owner) {
        (Some(group), Some(owner)) => {
            owner.gid == group.gid
                && group.name == owner.name
                && group.mem.iter().all(|member| *member == owner.name)
        }
        _ => false,
    }
}

fn name_of(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("user {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_hands_it_is_in() {
        for (owner, caller, mode, group_is_private, expected) in [
            (7, 7, 0o700, false, ""),
            (7, 7, 0o755, false, ""),
            (7, 7, 0o775, true, ""),
            (7, 7, 0o775, false, "chmod go-w /k"),
            (7, 7, 0o777, true, "(mode 777)"),
            (7, 7, 0o1777, true, "(mode 1777)"),
            (7, 8, 0o700, false, "it belongs to u7, and you are u8: be u7"),
            // Root would leave files of root's behind, and run what somebody else wrote down.
            (7, 0, 0o700, false, "it belongs to u7, and you are u0"),
            (0, 7, 0o755, false, "it belongs to u0, and you are u7"),
        ] {
            let ownership = Ownership { owner, caller, mode, group_is_private };
            let answer = judge(&ownership, |uid| format!("u{uid}"), Path::new("/k"));
            let said = answer.err().unwrap_or_default();
            let fits = if expected.is_empty() { said.is_empty() } else { said.contains(expected) };
            assert!(fits, "{owner} {caller} {mode:o}: {said:?}");
        }
    }

    #[test]
    fn the_file_system_is_asked() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(check(folder.path()), Ok(()));
        assert_eq!(check(&folder.path().join("not/there/yet")), Ok(()));
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a file");
        let said = check(&file.join("x")).expect_err("a file is no folder");
        assert!(said.contains("is a file"), "{said}");
    }
}
