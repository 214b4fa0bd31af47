//! Which program an agent's command means: never one of the repository that it works on.
//!
//! The kernel and `execvp` look for it from the folder that the agent starts in, so a relative
//! name, and an empty or relative entry of `PATH`, would run what the repository brings along.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// Where programs are looked for when there is no `PATH`, as `execvp` does it.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// A `PATH` with those entries only that are absolute, and not below a folder that agents write to.
pub fn trusted_path(path: Option<&OsStr>, untrusted: &[&Path]) -> OsString {
    let path = path.unwrap_or(OsStr::new(PATH_DEFAULT));
    let entries = path.as_bytes().split(|byte| *byte == b':').map(OsStr::from_bytes);
    let kept: Vec<&[u8]> = entries
        .filter(|entry| Path::new(entry).is_absolute() && !is_below(Path::new(entry), untrusted))
        .map(OsStr::as_bytes)
        .collect();
    OsStr::from_bytes(&kept.join(&b':')).to_os_string()
}

/// The file that a command's first word means, looked for in a [`trusted_path`].
///
/// # Errors
///
/// `NotFound`, `PermissionDenied` or `InvalidInput`, with words to follow `cannot start PROGRAM: `.
pub fn resolve(program: &str, path: &OsStr) -> io::Result<PathBuf> {
    let refuse = |kind, why: &str| Err(io::Error::new(kind, why.to_string()));
    if program.contains('/') {
        if !Path::new(program).is_absolute() {
            return refuse(
                io::ErrorKind::InvalidInput,
                "a relative path would be looked for in the repository; give an absolute one",
            );
        }
        // The user's own word, even where it names something in the clone.
        return match access(program, AccessFlags::X_OK) {
            Ok(()) => Ok(program.into()),
            Err(errno) => Err(errno.into()),
        };
    }
    let mut forbidden = false;
    for entry in path.as_bytes().split(|byte| *byte == b':').filter(|entry| !entry.is_empty()) {
        let file = Path::new(OsStr::from_bytes(entry)).join(program);
        if !file.is_file() || program.is_empty() {
            continue;
        }
        if access(&file, AccessFlags::X_OK).is_ok() {
            return Ok(file);
        }
        forbidden = true;
    }
    if forbidden {
        return refuse(io::ErrorKind::PermissionDenied, "it may not be executed");
    }
    refuse(
        io::ErrorKind::NotFound,
        "it is in no folder of PATH (relative ones, and those in a clone, do not count)",
    )
}

fn is_below(entry: &Path, untrusted: &[&Path]) -> bool {
    let real = entry.canonicalize().unwrap_or_else(|_| entry.into());
    untrusted.iter().any(|folder| {
        let folder_real = folder.canonicalize().unwrap_or_else(|_| (*folder).into());
        real.starts_with(folder_real) || entry.starts_with(folder)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_remains_of_a_path() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let clone = root.path().join("clone");
        fs::create_dir_all(clone.join("bin")).expect("a folder");
        symlink(clone.join("bin"), root.path().join("linked")).expect("a link");
        let (inside, linked) = (clone.join("bin"), root.path().join("linked"));
        let (inside, linked) = (inside.display(), linked.display());
        for (path, expected) in [
            ("/bin:/usr/bin", "/bin:/usr/bin"),
            (".:/bin", "/bin"),
            (":/bin:", "/bin"),
            ("bin:../x:/bin::/opt/b in", "/bin:/opt/b in"),
            (&format!("{inside}:/bin:{linked}"), "/bin"),
            ("", ""),
        ] {
            let kept = trusted_path(Some(OsStr::new(path)), &[&clone]);
            assert_eq!(kept, expected, "{path}");
        }
        assert_eq!(trusted_path(None, &[&clone]), PATH_DEFAULT);
    }

    #[test]
    fn which_program_is_meant() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| root.path().join(name);
        for (name, mode) in [("a/one", 0o755), ("b/one", 0o755), ("a/plain", 0o644)] {
            fs::create_dir_all(path(name).parent().expect("it has one")).expect("a folder");
            fs::write(path(name), "#!/bin/sh\n").expect("a file");
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).expect("a mode");
        }
        fs::create_dir(path("a/folder")).expect("a folder");
        let search = format!("{}:{}", path("a").display(), path("b").display());
        let absolute = path("b/one").display().to_string();
        let missing = path("b/none").display().to_string();
        for (program, expected) in [
            ("one", Ok(path("a/one"))),
            (&absolute, Ok(path("b/one"))),
            (&missing, Err(io::ErrorKind::NotFound)),
            ("none", Err(io::ErrorKind::NotFound)),
            ("folder", Err(io::ErrorKind::NotFound)),
            ("", Err(io::ErrorKind::NotFound)),
            ("./one", Err(io::ErrorKind::InvalidInput)),
            ("a/one", Err(io::ErrorKind::InvalidInput)),
            ("../one", Err(io::ErrorKind::InvalidInput)),
        ] {
            let found = resolve(program, OsStr::new(&search)).map_err(|error| error.kind());
            assert_eq!(found, expected, "{program}");
        }
        // Root may execute what anybody may.
        let plain = resolve("plain", OsStr::new(&search)).map_err(|error| error.kind());
        assert_eq!(plain, Err(io::ErrorKind::PermissionDenied));
    }
}
