//! The clone of an issue: made from the mirror, whole or not at all, and the agent's from then on.
//!
//! It is put together from files: the mirror's objects are copied, its references are written as
//! those of a remote, and one `checkout` fills the tree. No `git clone` runs, so that neither a
//! user's settings for cloning nor an `insteadOf` over the mirror's path have a say, and no server
//! process reads the mirror. Nothing in a clone that is used is touched from here.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::failpoint;
use crate::git::call::{Call, Git};
use crate::git::trouble::{self, GitError};
use crate::git::{BranchName, Oid, address, disk};
use crate::job::limits;

/// What kugetsu writes into a clone is nobody's change.
const EXCLUDED: &str = "/.kugetsu/\n";

/// The commit that an issue's branch starts from, and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Start<'c> {
    pub oid: &'c Oid,
    /// A repository of kugetsu's own that has it, if the mirror has not: a folder of evidence.
    pub evidence: Option<&'c Path>,
}

/// A clone to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewClone<'c> {
    /// Bare, kugetsu's own, and brought up to date before.
    pub mirror: &'c Path,
    /// Where it will be: nothing, or an empty folder, is there.
    pub folder: &'c Path,
    /// The remote's address; what is secret in it is left out.
    pub url: &'c str,
    /// The branch of the issue, which is checked out.
    pub branch: &'c BranchName,
    pub start: Start<'c>,
    /// The branch that work is measured against; the clone has it as its own, too.
    pub base: &'c BranchName,
    /// Objects share their files with the mirror. It saves room, and whoever writes over one of
    /// them damages all.
    pub links: bool,
}

/// What a clone that was made still lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MadeClone {
    /// Files of git-lfs are there as pointers.
    pub needs_lfs: bool,
    /// There are submodules, and their folders are empty.
    pub needs_submodules: bool,
    /// The user's filters failed and were left out.
    pub is_unfiltered: bool,
}

/// Makes a clone under another name, and renames it when it is whole. The repository's lock is held
/// by the caller.
pub(crate) fn make(git: &Git<'_>, new: &NewClone<'_>) -> Result<MadeClone, GitError> {
    let unfinished = unfinished(new.folder)?;
    disk::remove_all(&unfinished)?;
    let dir = unfinished.join(".git");
    let format = if new.start.oid.as_str().len() == 64 { "sha256" } else { "sha1" };
    let made = fs::DirBuilder::new().mode(0o700).create(&unfinished);
    made.map_err(|error| trouble::cannot(&format!("make {}", unfinished.display()), &error))?;
    git.call_nowhere("init")
        .args(["--quiet", "--template=", "--initial-branch", new.branch.as_str()])
        .env("GIT_DEFAULT_HASH", format)
        .env("GIT_DEFAULT_REF_FORMAT", "files")
        .arg(&unfinished)
        .run()?;
    let objects = disk::copy_objects(&new.mirror.join("objects"), &dir.join("objects"), new.links);
    objects.map_err(|error| trouble::cannot("copy the mirror's objects", &error))?;
    if let Some(evidence) = new.start.evidence {
        bring(git, evidence, &dir, new)?;
    }
    write_references(git, &dir, new)?;
    let made = fill(git, &unfinished)?;
    failpoint::here("clone_unfinished");
    disk::rename(&unfinished, new.folder)?;
    Ok(made)
}

/// Puts a clone that was made on disk. An agent may begin meanwhile: what a power loss takes of a
/// clone is made again from the mirror.
pub(crate) fn sync(folder: &Path) {
    disk::sync_file_system(folder);
}

/// Where a clone is in the making.
fn unfinished(folder: &Path) -> Result<PathBuf, GitError> {
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push(".unfinished");
    let is_in_the_way = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(_) => true,
        Ok(mut entries) => entries.next().is_some(),
    };
    match is_in_the_way {
        true => Err(GitError::Refused(format!(
            "{} is in the way: it is no clone of ours (move it away, and retry)",
            folder.display()
        ))),
        false => Ok(folder.with_file_name(name)),
    }
}

/// Brings a commit that only a folder of evidence has into the clone.
fn bring(git: &Git<'_>, evidence: &Path, dir: &Path, new: &NewClone<'_>) -> Result<(), GitError> {
    let mut wanted = format!("{}\n--not\n", new.start.oid);
    for line in mirror_references(git, new.mirror)? {
        let _ = writeln!(wanted, "{}", line.oid);
    }
    let pack = git
        .call(evidence, "pack-objects")
        .args(["-q", "--revs", "--stdout", "--delta-base-offset", "--thin"])
        .input(wanted)
        .limit_ms(limits::GIT_FETCH_MS_MAX)
        .guarded();
    let size = format!("--max-input-size={}", limits::CLONE_PACK_BYTES_MAX);
    let index = git
        .call(dir, "index-pack")
        .args(["--stdin", "--fix-thin", &size])
        .limit_ms(limits::GIT_FETCH_MS_MAX)
        .guarded();
    git.pipe(pack, index).map(drop)
}

/// A reference of the mirror.
struct Reference {
    oid: String,
    /// In full; any bytes that git takes for a name.
    name: Vec<u8>,
}

fn mirror_references(git: &Git<'_>, mirror: &Path) -> Result<Vec<Reference>, GitError> {
    let said = git
        .call(mirror, "for-each-ref")
        .args(["--format=%(objectname) %(refname)", "refs/heads/", "refs/tags/"])
        .output_max(limits::GIT_REFERENCES_BYTES_MAX)
        .run()?;
    let lines = said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let references = lines.map(|line| {
        let at = line.iter().position(|byte| *byte == b' ')?;
        let oid: Oid = std::str::from_utf8(&line[..at]).ok()?.parse().ok()?;
        Some(Reference { oid: oid.to_string(), name: line[at + 1..].into() })
    });
    let unread = || GitError::Damaged("git for-each-ref: it cannot be read".into());
    references.collect::<Option<Vec<Reference>>>().ok_or_else(unread)
}

/// The mirror's branches as those of the remote `origin`, its tags, two branches of the clone's own,
/// and the settings that belong to them.
fn write_references(git: &Git<'_>, dir: &Path, new: &NewClone<'_>) -> Result<(), GitError> {
    let mut packed: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    for Reference { oid, name } in mirror_references(git, new.mirror)? {
        let name = match name.strip_prefix(b"refs/heads/") {
            // A branch of this name would be the one that says which the default is.
            Some(b"HEAD") => continue,
            Some(branch) => [b"refs/remotes/origin/", branch].concat(),
            None => name,
        };
        packed.insert(name, oid);
    }
    let remote_base = format!("refs/remotes/origin/{}", new.base);
    let base = packed.get(remote_base.as_bytes()).cloned();
    if let Some(base) = &base {
        packed.insert(new.base.to_ref().into_bytes(), base.clone());
    }
    // Last, as it may be the base itself.
    packed.insert(new.branch.to_ref().into_bytes(), new.start.oid.to_string());
    let mut text = b"# pack-refs with: sorted \n".to_vec();
    for (name, oid) in &packed {
        text.extend([oid.as_bytes(), b" ", name, b"\n"].concat());
    }
    let write = || -> io::Result<()> {
        fs::write(dir.join("packed-refs"), text)?;
        for folder in ["info", "hooks", "refs/remotes/origin"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        fs::write(dir.join("info/exclude"), EXCLUDED)?;
        if base.is_some() {
            fs::write(dir.join("refs/remotes/origin/HEAD"), format!("ref: {remote_base}\n"))?;
        }
        let mut config = File::options().append(true).open(dir.join("config"))?;
        config.write_all(settings(new, base.is_some()).as_bytes())
    };
    write().map_err(|error| trouble::cannot(&format!("write below {}", dir.display()), &error))
}

/// What `git clone` would have written.
fn settings(new: &NewClone<'_>, has_base: bool) -> String {
    let url = quoted(&address::without_login(new.url));
    let mut text = format!(
        "[remote \"origin\"]\n\turl = {url}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
    );
    if has_base {
        let name = quoted(new.base.as_str());
        let merge = quoted(&new.base.to_ref());
        let _ = write!(text, "[branch {name}]\n\tremote = origin\n\tmerge = {merge}\n");
    }
    text
}

/// A value of git's configuration, whatever is in it.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// Fills the tree: with the user's filters if they work, and never with those of git-lfs, which
/// would ask the server that the repository names.
fn fill(git: &Git<'_>, folder: &Path) -> Result<MadeClone, GitError> {
    let is_unfiltered = match checkout(git, folder, &[]) {
        Ok(()) => false,
        Err(why @ (GitError::Refused(_) | GitError::TimedOut(_))) => {
            let filters = filters(git, folder)?;
            if filters.is_empty() {
                return Err(why);
            }
            tracing::warn!("{}; trying without {}", why.words(), filters.join(", "));
            let _ = fs::remove_file(folder.join(".git/index.lock"));
            checkout(git, folder, &filters)?;
            true
        }
        Err(error) => return Err(error),
    };
    Ok(MadeClone {
        needs_lfs: has_lfs(git, folder)?,
        needs_submodules: fs::symlink_metadata(folder.join(".gitmodules")).is_ok(),
        is_unfiltered,
    })
}

fn checkout(git: &Git<'_>, folder: &Path, left_out: &[String]) -> Result<(), GitError> {
    let mut call = git
        .call(&folder.join(".git"), "read-tree")
        .args(["--reset", "-u", "HEAD"])
        .config("core.sparseCheckout", "false")
        .work_tree(folder)
        .folder(folder)
        .limit_ms(limits::CHECKOUT_MS_MAX)
        .guarded();
    for filter in left_out.iter().map(String::as_str).chain(["lfs"]) {
        call = without_filter(call, filter);
    }
    call.run().map(drop)
}

fn without_filter<'g>(call: Call<'g>, name: &str) -> Call<'g> {
    call.config(format!("filter.{name}.smudge"), "")
        .config(format!("filter.{name}.process"), "")
        .config(format!("filter.{name}.required"), "false")
}

/// Filters that the user's settings name.
fn filters(git: &Git<'_>, folder: &Path) -> Result<Vec<String>, GitError> {
    let names = git
        .call(&folder.join(".git"), "config")
        .args(["--name-only", "--get-regexp", "^filter\\..*\\.(smudge|process)$"])
        .ask()?;
    let names = names.unwrap_or_default();
    let mut filters: Vec<String> = names
        .lines()
        .filter_map(|line| line.strip_prefix("filter.")?.rsplit_once('.'))
        .map(|(name, _)| name.to_string())
        .collect();
    filters.sort();
    filters.dedup();
    Ok(filters)
}

/// Whether any file of attributes sends files through git-lfs.
fn has_lfs(git: &Git<'_>, folder: &Path) -> Result<bool, GitError> {
    let said = git
        .call(&folder.join(".git"), "ls-files")
        .args(["-z", "--", ":(top,glob)**/.gitattributes"])
        .work_tree(folder)
        .folder(folder)
        .run()?;
    for name in said.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // One that is no plain file is none to git either.
        if disk::read_small(&folder.join(OsStr::from_bytes(name)))
            .is_ok_and(|text| text.contains("filter=lfs"))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Moves a clone that is damaged out of the way, whatever is left of it, and says where to.
pub(crate) fn set_aside(folder: &Path) -> Result<PathBuf, GitError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    for number in 1..=limits::CLONES_SET_ASIDE_MAX {
        let aside = folder.with_file_name(format!("{name}.damaged-{number}"));
        if fs::symlink_metadata(&aside).is_err() {
            disk::rename(folder, &aside)?;
            return Ok(aside);
        }
    }
    Err(GitError::Refused(format!(
        "{} of {} are there already (look at them, and remove them)",
        limits::CLONES_SET_ASIDE_MAX,
        folder.with_file_name(format!("{name}.damaged-*")).display()
    )))
}

/// Whether the mirror has commits below these branches that whoever has these commits lacks.
pub(crate) fn missing(
    git: &Git<'_>,
    mirror: &Path,
    wanted: &[BranchName],
    have: &[Oid],
) -> Result<bool, GitError> {
    let input = selection(git, mirror, wanted, have)?;
    let call = git.call(mirror, "rev-list").args(["--max-count=1", "--stdin"]).input(input);
    Ok(!call.run()?.is_empty())
}

/// Writes a bundle with what a used clone lacks of these branches: `git fetch FILE` takes it in,
/// inside the run. `false`, and no file, if it lacks nothing.
pub(crate) fn bundle(
    git: &Git<'_>,
    mirror: &Path,
    wanted: &[BranchName],
    have: &[Oid],
    file: &Path,
) -> Result<bool, GitError> {
    if !missing(git, mirror, wanted, have)? {
        return Ok(false);
    }
    git.call(mirror, "bundle")
        .args(["create", "--quiet", "--version=3"])
        .arg(file)
        .arg("--stdin")
        .input(selection(git, mirror, wanted, have)?)
        .limit_ms(limits::GIT_FETCH_MS_MAX)
        .guarded()
        .run()?;
    Ok(true)
}

/// Branches, and what is below them already; of that only what the mirror knows.
fn selection(
    git: &Git<'_>,
    mirror: &Path,
    wanted: &[BranchName],
    have: &[Oid],
) -> Result<String, GitError> {
    let mut text: String = wanted.iter().map(|branch| format!("{}\n", branch.to_ref())).collect();
    let asked: String = have.iter().map(|oid| format!("{oid}\n")).collect();
    let said = git
        .call(mirror, "cat-file")
        .args(["--batch-check=%(objectname) %(objecttype)"])
        .input(asked)
        .run()?;
    for line in String::from_utf8_lossy(&said).lines() {
        if let Some((oid, "commit")) = line.split_once(' ') {
            let _ = writeln!(text, "^{oid}");
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
