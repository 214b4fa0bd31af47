//! Whether kugetsu's folder, its configuration or its queue is in its caller's hands alone.
//!
//! Whoever can write there chooses what the caller's agents run. So it is as with git's
//! `safe.directory`: another owner's folder is refused, also for root; and as with ssh's
//! `StrictModes`: so is one that others may write in, and whatever is below a folder where others
//! could put another one in its place. A link is followed as the kernel does, and each folder on
//! the way counts.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User, geteuid};

use crate::job::limits;

/// Refuses what is another user's, or can be written or replaced by others. What is not there is
/// nobody's, but its folder is somebody's.
pub(super) fn check(path: &Path) -> Result<(), String> {
    walk(path, Kind::Own)
}

/// As [`check`], of what is only read: root's will do.
pub(super) fn check_read(path: &Path) -> Result<(), String> {
    walk(path, Kind::Read)
}

/// What a part of a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The folder or file that is meant: the caller's own.
    Own,
    /// A file that is only read: the caller's own, or root's.
    Read,
    /// A folder on the way: whoever can write there can put another one in its place.
    Way,
    /// A link on the way: its owner chose where it leads.
    Link,
}

/// Goes down a path as the kernel does, and judges every part of it.
fn walk(path: &Path, last: Kind) -> Result<(), String> {
    let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
    let mut rest: VecDeque<OsString> = names(&absolute);
    let mut at = PathBuf::from("/");
    for _ in 0..limits::PATH_PARTS_MAX {
        let Some(name) = rest.pop_front() else { return Ok(()) };
        if name == ".." {
            at.pop();
            continue;
        }
        let part = at.join(name);
        let metadata = match fs::symlink_metadata(&part) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err("a part of this path is a file, and no folder".into());
            }
            Err(error) => return Err(error.to_string()),
            Ok(metadata) => metadata,
        };
        if metadata.is_symlink() {
            judge(&Ownership::of(&part, &metadata, Kind::Link), name_of, &part)?;
            let target = fs::read_link(&part).map_err(|error| error.to_string())?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for name in names(&target).into_iter().rev() {
                rest.push_front(name);
            }
            continue;
        }
        let kind = if rest.is_empty() { last } else { Kind::Way };
        judge(&Ownership::of(&part, &metadata, kind), name_of, &part)?;
        at = part;
    }
    Err("it is too long a way of links and folders".into())
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

struct Ownership {
    kind: Kind,
    owner: u32,
    caller: u32,
    mode: u32,
    /// Whether the group has no member but the owner.
    group_is_private: bool,
}

impl Ownership {
    fn of(path: &Path, metadata: &Metadata, kind: Kind) -> Ownership {
        let mode = metadata.mode() & 0o7777;
        Ownership {
            kind,
            owner: metadata.uid(),
            caller: geteuid().as_raw(),
            mode,
            // Asked for only where it matters: the answer may come over a network. With a list of
            // others' rights the group's bits stand for all of them.
            group_is_private: mode & 0o020 != 0
                && is_private(metadata.gid(), metadata.uid())
                && !has_list(path),
        }
    }
}

fn judge(
    ownership: &Ownership,
    name_of: impl Fn(u32) -> String,
    path: &Path,
) -> Result<(), String> {
    let Ownership { kind, owner, caller, mode, group_is_private } = *ownership;
    let is_owner_trusted = owner == caller || kind != Kind::Own && owner == 0;
    if !is_owner_trusted {
        let (owner, caller, shown) = (name_of(owner), name_of(caller), path.display());
        return Err(match kind {
            Kind::Own | Kind::Read => format!(
                "it belongs to {owner}, and you are {caller}: be {owner}, or use something of \
                 your own"
            ),
            Kind::Way | Kind::Link => format!(
                "{shown} on the way to it belongs to {owner}, who decides what is there: use a \
                 place of your own"
            ),
        });
    }
    let harmful = if group_is_private { 0o002 } else { 0o022 };
    let is_harmless = match kind {
        // The mode of a link means nothing.
        Kind::Link => true,
        // In a sticky folder nobody moves what is another's.
        Kind::Way => mode & harmful == 0 || mode & 0o1000 != 0,
        Kind::Own | Kind::Read => mode & harmful == 0,
    };
    if is_harmless {
        return Ok(());
    }
    let (shown, list) = (path.display(), if has_list(path) { ", and setfacl -b" } else { "" });
    Err(match kind {
        Kind::Own | Kind::Read => format!(
            "others may write to it (mode {mode:o}), and so decide what your agents do: \
             chmod go-w{list} {shown}"
        ),
        Kind::Way | Kind::Link => format!(
            "others may write to {shown} (mode {mode:o}), and so put another one in its place: \
             chmod go-w{list} {shown}, or use a place of your own"
        ),
    })
}

/// Whether the file has a list that gives rights to further users or groups.
fn has_list(path: &Path) -> bool {
    let mut list = [0_u8; 1024];
    let found = rustix::fs::lgetxattr(path, "system.posix_acl_access", &mut list[..]);
    // A list that is too long for the buffer is one.
    matches!(found, Ok(1..) | Err(rustix::io::Errno::RANGE))
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
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn whose_hands_it_is_in() {
        use Kind::{Link, Own, Read, Way};
        for (kind, owner, caller, mode, group_is_private, expected) in [
            (Own, 7, 7, 0o700, false, ""),
            (Own, 7, 7, 0o755, false, ""),
            (Own, 7, 7, 0o775, true, ""),
            (Own, 7, 7, 0o775, false, "chmod go-w /k"),
            (Own, 7, 7, 0o777, true, "(mode 777)"),
            (Own, 7, 7, 0o1777, true, "(mode 1777)"),
            (Own, 7, 8, 0o700, false, "it belongs to u7, and you are u8: be u7"),
            // Root would leave files of root's behind, and run what somebody else wrote down.
            (Own, 7, 0, 0o700, false, "it belongs to u7, and you are u0"),
            (Own, 0, 7, 0o755, false, "it belongs to u0, and you are u7"),
            (Read, 0, 7, 0o644, false, ""),
            (Read, 7, 7, 0o644, false, ""),
            (Read, 8, 7, 0o644, false, "it belongs to u8, and you are u7"),
            (Read, 7, 7, 0o664, false, "chmod go-w /k"),
            (Way, 0, 7, 0o755, false, ""),
            (Way, 7, 7, 0o700, false, ""),
            (Way, 8, 7, 0o755, false, "/k on the way to it belongs to u8"),
            (Way, 7, 0, 0o755, false, "/k on the way to it belongs to u7"),
            (Way, 0, 7, 0o777, false, "put another one in its place: chmod go-w /k"),
            (Way, 0, 7, 0o775, false, "(mode 775)"),
            (Way, 7, 7, 0o775, true, ""),
            (Way, 0, 7, 0o1777, false, ""),
            (Link, 7, 7, 0o777, false, ""),
            (Link, 0, 7, 0o777, false, ""),
            (Link, 8, 7, 0o777, false, "/k on the way to it belongs to u8"),
        ] {
            let ownership = Ownership { kind, owner, caller, mode, group_is_private };
            let answer = judge(&ownership, |uid| format!("u{uid}"), Path::new("/k"));
            let said = answer.err().unwrap_or_default();
            let fits = if expected.is_empty() { said.is_empty() } else { said.contains(expected) };
            assert!(fits, "{kind:?} {owner} {caller} {mode:o}: {said:?}");
        }
    }

    #[test]
    fn the_file_system_is_asked() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| root.path().join(name);
        let mode = |name: &str, mode| {
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).expect("a mode");
        };
        for folder in ["open/k", "shut/k"] {
            fs::create_dir_all(path(folder)).expect("a folder");
            mode(folder, 0o700);
        }
        fs::write(path("shut/file"), "").expect("a file");
        mode("shut/file", 0o600);
        mode("open", 0o777);
        symlink("../open/k", path("shut/to-open")).expect("a link");
        symlink(path("shut/k"), path("shut/to-shut")).expect("a link");
        symlink("loop", path("shut/loop")).expect("a link");
        for (name, expected) in [
            ("shut/k", ""),
            ("shut/file", ""),
            ("shut/k/not/there/yet", ""),
            ("shut/to-shut", ""),
            ("shut/to-shut/more", ""),
            ("open/k", "others may write to"),
            ("open/k/not/there", "others may write to"),
            ("shut/to-open", "open (mode 777)"),
            ("shut/../open/k", "open (mode 777)"),
            ("shut/file/x", "is a file, and no folder"),
            ("shut/loop", "too long a way"),
        ] {
            let said = check(&path(name)).err().unwrap_or_default();
            let fits = if expected.is_empty() { said.is_empty() } else { said.contains(expected) };
            assert!(fits, "{name}: {said:?}");
        }
        mode("open", 0o1777);
        assert_eq!(check(&path("open/k")), Ok(()), "in a sticky folder nobody moves it");
        mode("shut/file", 0o666);
        assert!(check_read(&path("shut/file")).is_err());
    }
}
