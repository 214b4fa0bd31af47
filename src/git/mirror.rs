//! The mirror of a remote: a bare repository that is kugetsu's alone.
//!
//! It has the remote's branches below `refs/heads/`, its tags below `refs/tags/`, and what the
//! remote calls its head at `refs/kugetsu/HEAD`. Its own `HEAD` names the remote's default branch.
//! No object is ever removed: evidence of runs is kept in repositories that borrow from it. A mirror
//! under its name is whole; one that is damaged all the same is moved aside and fetched anew.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use crate::executor::Stop;
use crate::failpoint;
use crate::git::call::{Call, Git};
use crate::git::credentials::Login;
use crate::git::trouble::{self, GitError};
use crate::git::{BranchName, HEADS, Oid, address, disk, environment, health};
use crate::job::limits;

/// Where a repository comes from.
#[derive(Debug, Clone)]
pub(crate) struct Remote<'r> {
    pub url: &'r str,
    /// What it is told over https, if anything.
    pub login: Option<&'r Login>,
    /// How often to try what the network refuses, the first time counted.
    pub attempts: u32,
    /// How long to wait in between.
    pub pause_ms: u64,
}

/// A remote as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteState {
    /// What the remote calls its head, if that is one of its branches.
    pub default_branch: Option<BranchName>,
    pub heads: BTreeMap<BranchName, Oid>,
}

/// The commit that new work starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    Branch {
        branch: BranchName,
        oid: Oid,
    },
    /// The remote has no branches at all.
    Empty,
    /// It has none of these.
    NoSuchBranch(Vec<String>),
}

impl RemoteState {
    /// The configured branch and no other; else the remote's default; else `main` or `master`.
    ///
    /// `origin/x`, `refs/heads/x` and `x` all mean the remote's branch `x`; only if there is none,
    /// `origin/x` is the name of a branch.
    pub fn base(&self, configured: Option<&str>) -> Base {
        if self.heads.is_empty() {
            return Base::Empty;
        }
        let candidates: Vec<String> = match configured {
            Some(name) => names_of(name),
            None => {
                let default = self.default_branch.as_ref().map(|branch| branch.as_str());
                default.into_iter().chain(["main", "master"]).map(String::from).collect()
            }
        };
        let found = candidates.iter().find_map(|name| {
            let branch: BranchName = name.parse().ok()?;
            self.heads.get(&branch).map(|oid| (branch, oid.clone()))
        });
        match found {
            Some((branch, oid)) => Base::Branch { branch, oid },
            None => Base::NoSuchBranch(candidates),
        }
    }
}

/// What a configured name may mean, the likeliest first.
fn names_of(configured: &str) -> Vec<String> {
    let name = configured.strip_prefix(HEADS).unwrap_or(configured);
    if name != configured {
        return vec![name.into()];
    }
    let name = name.strip_prefix("refs/remotes/").unwrap_or(name);
    match name.strip_prefix("origin/") {
        Some(short) => vec![short.into(), name.into()],
        None => vec![name.into()],
    }
}

/// The name of a remote in our settings: one for which users have none of their own.
const REMOTE: &str = "kugetsu";

/// What the remote calls its head, as far as an id tells.
const REMOTE_HEAD: &str = "refs/kugetsu/HEAD";

/// What is fetched. A pattern that nothing matches is no error: a remote may have no head. All of
/// it is pruned before anything is written, so that a branch `a/b` can come where `a` was.
const REFSPECS: [&str; 3] =
    ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+HEAD*:refs/kugetsu/HEAD*"];

/// The head of a mirror whose remote has not said which branch is the default.
const UNKNOWN_HEAD: &str = "kugetsu/unknown";

/// Makes the mirror, or brings it up to date, and says what the remote has. The repository's lock
/// is held by the caller.
pub(crate) fn refresh(
    git: &Git<'_>,
    mirror: &Path,
    remote: &Remote<'_>,
) -> Result<RemoteState, GitError> {
    if !mirror.exists() {
        return make(git, mirror, remote);
    }
    let state = match health::look(mirror) {
        Ok(()) => update(git, mirror, remote),
        Err(why) => Err(GitError::Damaged(format!("{}: {why}", mirror.display()))),
    };
    match state {
        Err(GitError::Damaged(why)) => {
            tracing::warn!(mirror = %mirror.display(), "is damaged and fetched anew: {why}");
            make_anew(git, mirror, remote)
        }
        state => state,
    }
}

/// Fetches a mirror anew, beside the one that is damaged, which is kept under another name until
/// the next time. Called too when a clone finds what no fetch looks at.
pub(crate) fn make_anew(
    git: &Git<'_>,
    mirror: &Path,
    remote: &Remote<'_>,
) -> Result<RemoteState, GitError> {
    let (unfinished, state) = make_beside(git, mirror, remote)?;
    let aside = mirror.with_extension("git.damaged");
    disk::remove_all(&aside)?;
    disk::rename_durably(mirror, &aside)?;
    disk::rename_durably(&unfinished, mirror)?;
    Ok(state)
}

fn make(git: &Git<'_>, mirror: &Path, remote: &Remote<'_>) -> Result<RemoteState, GitError> {
    let (unfinished, state) = make_beside(git, mirror, remote)?;
    failpoint::here("mirror_unfinished");
    disk::rename_durably(&unfinished, mirror)?;
    Ok(state)
}

/// Made beside its place, and renamed when it is whole and on disk.
fn make_beside(
    git: &Git<'_>,
    mirror: &Path,
    remote: &Remote<'_>,
) -> Result<(PathBuf, RemoteState), GitError> {
    let unfinished = mirror.with_extension("git.unfinished");
    let mut format = "sha1";
    loop {
        disk::remove_all(&unfinished)?;
        initialize(git, &unfinished, format)?;
        match update(git, &unfinished, remote) {
            Err(GitError::Refused(why)) if format == "sha1" && is_of_other_format(&why) => {
                format = "sha256";
            }
            state => {
                let state = state?;
                // Its references become one file, so that few are left to put on disk.
                pack_references(git, &unfinished)?;
                disk::sync_tree(&unfinished)?;
                return Ok((unfinished, state));
            }
        }
    }
}

/// A remote that names its objects by the other hash.
fn is_of_other_format(why: &str) -> bool {
    why.contains("mismatched algorithms") || why.contains("object format")
}

fn initialize(git: &Git<'_>, folder: &Path, format: &str) -> Result<(), GitError> {
    let made = fs::DirBuilder::new().mode(0o700).create(folder);
    made.map_err(|error| trouble::cannot(&format!("make {}", folder.display()), &error))?;
    git.call_nowhere("init")
        .args(["--quiet", "--bare", "--template=", "--initial-branch", UNKNOWN_HEAD])
        .env("GIT_DEFAULT_HASH", format)
        .env("GIT_DEFAULT_REF_FORMAT", "files")
        .arg(folder)
        .run()
        .map(drop)
}

/// One fetch, tried again if the network refuses it, and a mirror that is right for it.
fn update(git: &Git<'_>, mirror: &Path, remote: &Remote<'_>) -> Result<RemoteState, GitError> {
    let is_first = !mirror.join(REMOTE_HEAD).exists() && !mirror.join("packed-refs").exists();
    let limit_ms = if is_first { limits::GIT_FIRST_FETCH_MS_MAX } else { limits::GIT_FETCH_MS_MAX };
    let ssh = own_ssh(git, mirror)?;
    let mut is_cleared = false;
    let mut attempt = 1;
    loop {
        match fetch(git, mirror, remote, ssh.as_deref(), limit_ms) {
            Ok(()) => break,
            // A git that was killed left it: we hold the repository's lock, so nobody else is here.
            Err(GitError::Machine(why)) if !is_cleared && why.contains(".lock") => {
                is_cleared = true;
                if disk::clear_locks(mirror)? == 0 {
                    return Err(GitError::Machine(why));
                }
            }
            Err(GitError::Network(why)) if attempt < remote.attempts => {
                tracing::warn!(attempt, "{why}; trying again");
                attempt += 1;
                pause(git, remote.pause_ms)?;
            }
            Err(error) => return Err(error),
        }
    }
    let (heads, head) = references(git, mirror)?;
    let default_branch = match head {
        Some(head) => default_branch(git, mirror, remote, ssh.as_deref(), &heads, &head)?,
        None => None,
    };
    Ok(RemoteState { default_branch, heads })
}

fn fetch(
    git: &Git<'_>,
    mirror: &Path,
    remote: &Remote<'_>,
    ssh: Option<&str>,
    limit_ms: u64,
) -> Result<(), GitError> {
    let call = git
        .call(mirror, "fetch")
        .args(["--progress", "--prune", "--no-write-fetch-head", "--no-auto-maintenance"])
        .args(["--no-recurse-submodules", "--no-write-commit-graph", "--no-tags", "--refmap="])
        .arg(REMOTE)
        .args(REFSPECS)
        .config("fetch.unpackLimit", "1")
        .config("fetch.writeCommitGraph", "false")
        .config("core.fsync", "all")
        .config("core.fsyncMethod", "fsync");
    talk(call, remote, ssh).limit_ms(limit_ms).silence_ms(limits::GIT_SILENCE_MS_MAX).run()?;
    Ok(())
}

/// A call that talks to the remote by the name [`REMOTE`]: its address, which may hold a password,
/// stands in no argument.
fn talk<'g>(call: Call<'g>, remote: &Remote<'_>, ssh: Option<&str>) -> Call<'g> {
    let call = call
        .network(&address::transports(remote.url))
        .config(format!("remote.{REMOTE}.url"), remote.url)
        .ssh(ssh);
    match remote.login {
        Some(login) => login.give(call),
        None => call,
    }
}

/// The user's own ssh command.
fn own_ssh(git: &Git<'_>, mirror: &Path) -> Result<Option<String>, GitError> {
    if let Some(command) = environment::own_ssh_command() {
        return Ok(Some(command));
    }
    git.call(mirror, "config").args(["--get", "core.sshCommand"]).ask()
}

fn pause(git: &Git<'_>, pause_ms: u64) -> Result<(), GitError> {
    match git.stop.recv_timeout(Duration::from_millis(pause_ms)) {
        Ok(stop) => Err(GitError::Stopped(stop)),
        Err(RecvTimeoutError::Disconnected) => Err(GitError::Stopped(Stop::Shutdown)),
        Err(RecvTimeoutError::Timeout) => Ok(()),
    }
}

/// The branches of the remote, as they were when it was fetched last.
pub(crate) fn heads(git: &Git<'_>, mirror: &Path) -> Result<BTreeMap<BranchName, Oid>, GitError> {
    references(git, mirror).map(|(heads, _)| heads)
}

/// The remote as it was when it was fetched last.
pub(crate) fn remembered(git: &Git<'_>, mirror: &Path) -> Result<RemoteState, GitError> {
    let heads = heads(git, mirror)?;
    let default_branch = known_default(mirror).filter(|branch| heads.contains_key(branch));
    Ok(RemoteState { default_branch, heads })
}

/// What is wrong with a mirror, in words: the next job that needs it makes it anew.
pub(crate) fn check(mirror: &Path) -> Result<(), String> {
    health::look(mirror)
}

/// Branches of the remote, and the id of its head.
fn references(
    git: &Git<'_>,
    mirror: &Path,
) -> Result<(BTreeMap<BranchName, Oid>, Option<Oid>), GitError> {
    let said = git
        .call(mirror, "for-each-ref")
        .args(["--format=%(objectname) %(refname)", HEADS, REMOTE_HEAD])
        .output_max(limits::GIT_REFERENCES_BYTES_MAX)
        .run()?;
    let mut heads = BTreeMap::new();
    let mut head = None;
    for line in said.split(|byte| *byte == b'\n') {
        // A name that is no UTF-8 is no branch that anybody can configure or work on.
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let Some((id, name)) = line.split_once(' ') else { continue };
        let id: Oid = id.parse().map_err(GitError::Damaged)?;
        if name == REMOTE_HEAD {
            head = Some(id);
        } else if let Some(branch) = BranchName::from_ref(name) {
            heads.insert(branch, id);
        }
    }
    Ok((heads, head))
}

/// Which branch the remote's head is. Its id came with the fetch: mostly one branch has it, or the
/// one that was the default before; only else the remote is asked in a connection of its own.
fn default_branch(
    git: &Git<'_>,
    mirror: &Path,
    remote: &Remote<'_>,
    ssh: Option<&str>,
    heads: &BTreeMap<BranchName, Oid>,
    head: &Oid,
) -> Result<Option<BranchName>, GitError> {
    let known = known_default(mirror);
    let candidates: Vec<&BranchName> =
        heads.iter().filter(|(_, oid)| *oid == head).map(|(branch, _)| branch).collect();
    let found = match (candidates.as_slice(), &known) {
        ([], _) => return Ok(None),
        ([only], _) => (*only).clone(),
        (several, Some(known)) if several.contains(&known) => known.clone(),
        (several, _) => {
            let named = ask_default(git, mirror, remote, ssh)?;
            let usual = |name: &&&BranchName| matches!(name.as_str(), "main" | "master");
            let likely = several.iter().find(usual).unwrap_or(&several[0]);
            named.filter(|named| heads.contains_key(named)).unwrap_or_else(|| (*likely).clone())
        }
    };
    if known.as_ref() != Some(&found) {
        git.call(mirror, "symbolic-ref").args(["HEAD", &found.to_ref()]).run()?;
    }
    Ok(Some(found))
}

/// The default branch as the mirror remembers it.
fn known_default(mirror: &Path) -> Option<BranchName> {
    let text = disk::read_small(&mirror.join("HEAD")).ok()?;
    let branch = BranchName::from_ref(text.strip_prefix("ref: ")?.trim_end())?;
    (branch.as_str() != UNKNOWN_HEAD).then_some(branch)
}

fn ask_default(
    git: &Git<'_>,
    mirror: &Path,
    remote: &Remote<'_>,
    ssh: Option<&str>,
) -> Result<Option<BranchName>, GitError> {
    let call = git
        .call(mirror, "ls-remote")
        .args(["--symref", REMOTE, "HEAD"])
        .output_max(limits::GIT_REFERENCES_BYTES_MAX);
    match talk(call, remote, ssh).run() {
        Ok(said) => Ok(parse_symref(&String::from_utf8_lossy(&said))),
        Err(GitError::Stopped(stop)) => Err(GitError::Stopped(stop)),
        Err(error) => {
            tracing::warn!("cannot ask for the default branch: {}", error.words());
            Ok(None)
        }
    }
}

/// `ref: refs/heads/main<TAB>HEAD`.
fn parse_symref(said: &str) -> Option<BranchName> {
    let head = said.lines().filter_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
    head.filter_map(BranchName::from_ref).next()
}

/// Whether a mirror has so many packs or loose references that it should be tidied up.
pub(crate) fn needs_maintenance(mirror: &Path) -> io::Result<bool> {
    let mut packs = 0;
    for entry in fs::read_dir(mirror.join("objects/pack"))?.take(limits::ENTRIES_READ_MAX) {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("tmp_") {
            return Ok(true);
        }
        packs += usize::from(name.ends_with(".pack"));
    }
    Ok(packs > limits::MIRROR_PACKS_MAX)
}

/// Tidies a mirror up: few packs, packed references, nothing that a killed git began. Whoever reads
/// it meanwhile finds all of its objects. The repository's lock is held by the caller.
pub(crate) fn maintain(git: &Git<'_>, mirror: &Path) -> Result<(), GitError> {
    disk::clear_locks(mirror)?;
    disk::clear_temporary_packs(&mirror.join("objects/pack"))?;
    pack_references(git, mirror)?;
    // Packs grow by a factor, so each object is written again only a few times. Objects that no
    // reference has stay in their packs.
    let repack = git.call(mirror, "repack").args(["-d", "-q", "--geometric=2"]);
    durable(repack.arg("--no-write-bitmap-index"))
}

fn pack_references(git: &Git<'_>, mirror: &Path) -> Result<(), GitError> {
    durable(git.call(mirror, "pack-refs").arg("--all"))
}

/// Runs a call that puts on disk what it writes.
fn durable(call: Call<'_>) -> Result<(), GitError> {
    let call = call.config("core.fsync", "all").config("core.fsyncMethod", "fsync");
    call.limit_ms(limits::GIT_FETCH_MS_MAX).guarded().run().map(drop)
}

#[cfg(test)]
mod tests;
