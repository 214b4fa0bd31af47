//! What a clone's references say, read without git: an agent may have put anything there.
//!
//! First the layout is vetted: what git would follow, wait for or take on trust when it reads the
//! clone's objects is refused and named. Then the references are read by the safe opener.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::git::folder::{Folder, Kind, Next, Reach, Seen, walk};
use crate::git::{BranchName, Oid, vet};
use crate::job::limits;

pub(crate) use crate::git::folder::Unreadable;
pub(crate) use crate::git::unfinished::Unfinished;

/// Where the references to what is known of remotes begin.
const REMOTES: &str = "refs/remotes/";
const STASH: &str = "refs/stash";
/// Digits of the only kind of names that a mirror has.
const SHA1_DIGITS: usize = 40;

/// What HEAD says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// A reference, by its full name, and what it names; `None` before its first commit.
    On(String, Option<Oid>),
    /// A commit, on no branch.
    Detached(Oid),
}

impl Head {
    /// The commit that it names in the end.
    pub fn oid(&self) -> Option<&Oid> {
        match self {
            Head::On(_, oid) => oid.as_ref(),
            Head::Detached(oid) => Some(oid),
        }
    }
}

/// A reference by its full name. Bytes that are no UTF-8 are shown as `\u{fffd}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub name: String,
    pub oid: Oid,
}

/// A worktree that somebody added to the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddedWorktree {
    pub name: String,
    pub head: Head,
    /// Where it says that it is: the agent's word.
    pub folder: Option<PathBuf>,
}

/// The references of a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CloneRefs {
    pub head: Head,
    /// All that name an object, the stash among them, in the order of their names.
    pub refs: Vec<Reference>,
    /// The newest first.
    pub stashes: Vec<Oid>,
    pub worktrees: Vec<AddedWorktree>,
    pub unfinished: Option<Unfinished>,
    /// What its own reflogs call pushed: the agent's work, wherever else it is known by now.
    pub pushed: BTreeSet<Oid>,
    /// What its own reflogs say came from a remote.
    pub fetched: BTreeSet<Oid>,
}

impl CloneRefs {
    /// Vets and reads a clone, by the folder that has its `.git`.
    pub fn read(folder: &Path) -> Result<CloneRefs, Unreadable> {
        CloneRefs::read_git(&vet::open_git(folder)?)
    }

    /// The same for a git folder, wherever its files are.
    pub fn read_git(git: &Folder) -> Result<CloneRefs, Unreadable> {
        vet::vet(git)?;
        read_refs(git)
    }

    /// What a reference names, by its full name.
    pub fn get(&self, name: &str) -> Option<&Oid> {
        self.refs.iter().find(|reference| reference.name == name).map(|reference| &reference.oid)
    }

    /// What a branch names.
    pub fn branch(&self, branch: &BranchName) -> Option<&Oid> {
        self.get(&branch.to_ref())
    }

    /// Where work may be that is not on a branch: other branches, a detached HEAD, worktrees, what
    /// was pushed to other branches. Not stashes, and not what came from remotes.
    pub fn elsewhere(&self, branch: &BranchName) -> Vec<Reference> {
        let own = branch.to_ref();
        let is_elsewhere = |reference: &&Reference| {
            let name = reference.name.as_str();
            let is_pushed = || self.pushed.contains(&reference.oid);
            name != own
                && name != STASH
                && !NO_WORK.iter().any(|prefix| name.starts_with(prefix))
                && (!name.starts_with(REMOTES) || is_pushed())
        };
        let mut found: Vec<Reference> = self.refs.iter().filter(is_elsewhere).cloned().collect();
        if let Head::Detached(oid) = &self.head {
            found.push(Reference { name: "HEAD".into(), oid: oid.clone() });
        }
        for worktree in &self.worktrees {
            if let Head::Detached(oid) = &worktree.head {
                let name = format!("worktrees/{}/HEAD", worktree.name);
                found.push(Reference { name, oid: oid.clone() });
            }
        }
        found
    }

    /// All that it names, whatever it is: references, HEAD, worktrees and stashes.
    pub fn tips(&self) -> Vec<Reference> {
        let named = |name: String, oid: &Oid| Reference { name, oid: oid.clone() };
        let mut tips = self.refs.clone();
        tips.extend(self.head.oid().map(|oid| named("HEAD".into(), oid)));
        for worktree in &self.worktrees {
            let name = format!("worktrees/{}/HEAD", worktree.name);
            tips.extend(worktree.head.oid().map(|oid| named(name, oid)));
        }
        for (index, oid) in self.stashes.iter().enumerate().skip(1) {
            tips.push(named(format!("stash@{{{index}}}"), oid));
        }
        tips
    }
}

/// References that name no work: tags may be fetched, the others are git's own bookkeeping.
const NO_WORK: [&str; 6] = [
    "refs/tags/",
    "refs/replace/",
    "refs/notes/",
    "refs/bisect/",
    "refs/original/",
    "refs/prefetch/",
];

/// What git keeps of a worktree that was added to a clone.
pub(super) fn open_worktree(
    clone: &Path,
    added: &AddedWorktree,
) -> Result<Option<Folder>, Unreadable> {
    match vet::open_git(clone)?.folder("worktrees")? {
        Some(worktrees) => worktrees.folder(&added.name),
        None => Ok(None),
    }
}

/// What a file of a reference says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Oid(Oid),
    Symbolic(Vec<u8>),
}

/// By the bytes of their names.
type Values = BTreeMap<Vec<u8>, Value>;

/// Reads what a vetted clone names.
fn read_refs(git: &Folder) -> Result<CloneRefs, Unreadable> {
    let mut values = Values::new();
    if let Some(bytes) = git.read("packed-refs", limits::PACKED_REFS_BYTES_MAX)? {
        parse_packed(&bytes, &mut values).map_err(|why| damaged(git, "packed-refs", why))?;
    }
    read_loose(git, &mut values)?;
    let head = read_head(git, &values)?;
    let mut refs = Vec::new();
    for (name, value) in &values {
        if let Some(oid) = resolve(value, &values) {
            refs.push(Reference { name: text(name), oid });
        }
    }
    let mut oids = refs.iter().map(|reference| &reference.oid).chain(head.oid());
    if oids.any(|oid| oid.as_str().len() != SHA1_DIGITS) {
        let why = format!("{} names its objects by SHA-256", git.path().display());
        return Err(Unreadable::Hostile(why));
    }
    let mut pushed = BTreeSet::new();
    let mut fetched = BTreeSet::new();
    read_remote_logs(git, &mut pushed, &mut fetched)?;
    Ok(CloneRefs {
        stashes: read_stashes(git, &refs)?,
        worktrees: read_worktrees(git, &values)?,
        unfinished: Unfinished::find(git)?,
        head,
        refs,
        pushed,
        fetched,
    })
}

/// The references of a git folder of kugetsu's own that lie below a prefix. One that is broken is
/// left out: it names nothing.
pub(super) fn read_below(git: &Folder, prefix: &str) -> Result<Vec<(String, Oid)>, Unreadable> {
    let mut values = Values::new();
    if let Some(bytes) = git.read("packed-refs", limits::PACKED_REFS_BYTES_MAX)? {
        // What was read before a line of garbage is good.
        let _ = parse_packed(&bytes, &mut values);
    }
    let inner = format!("{prefix}/").into_bytes();
    values.retain(|name, _| name.starts_with(&inner));
    visit(git, prefix, |folder, file, name| {
        if let Some(bytes) = folder.read(file, limits::REF_BYTES_MAX)?
            && let Ok(value) = parse_value(&bytes)
        {
            values.insert(name.to_vec(), value);
        }
        Ok(())
    })?;
    let oid_of = |value: &Value| match value {
        Value::Oid(oid) => Some(oid.clone()),
        Value::Symbolic(_) => None,
    };
    let values = values.iter();
    Ok(values.filter_map(|(name, value)| Some((text(name), oid_of(value)?))).collect())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn damaged(git: &Folder, name: &str, why: &str) -> Unreadable {
    Unreadable::NoClone(format!("{}/{name} {why}", git.path().display()))
}

fn read_head(git: &Folder, values: &Values) -> Result<Head, Unreadable> {
    let gone = || damaged(git, "HEAD", "is gone");
    let bytes = git.read("HEAD", limits::REF_BYTES_MAX)?.ok_or_else(gone)?;
    match parse_value(&bytes).map_err(|why| damaged(git, "HEAD", why))? {
        Value::Oid(oid) => Ok(Head::Detached(oid)),
        Value::Symbolic(name) if name == b"refs/heads/.invalid" => {
            let path = git.path().display();
            let why = format!("{path} keeps its references in a way that kugetsu does not read");
            Err(Unreadable::Hostile(why))
        }
        Value::Symbolic(name) => {
            check_name(&name).map_err(|why| damaged(git, "HEAD", why))?;
            let oid = values.get(&name).and_then(|value| resolve(value, values));
            Ok(Head::On(text(&name), oid))
        }
    }
}

/// Follows symbolic references to an object, if they lead to one.
fn resolve(value: &Value, values: &Values) -> Option<Oid> {
    let mut value = value;
    for _ in 0..=limits::SYMBOLIC_REFS_MAX {
        match value {
            Value::Oid(oid) => return Some(oid.clone()),
            Value::Symbolic(name) => value = values.get(name)?,
        }
    }
    None
}

/// `ref: NAME` or an id, and nothing else of meaning.
fn parse_value(bytes: &[u8]) -> Result<Value, &'static str> {
    let bytes = bytes.trim_ascii_end();
    if bytes.is_empty() || bytes.iter().all(|byte| *byte == 0) {
        return Err("is empty");
    }
    if let Some(name) = bytes.strip_prefix(b"ref:") {
        return Ok(Value::Symbolic(name.trim_ascii_start().to_vec()));
    }
    // Git takes what follows a blank for a remark.
    let word = bytes.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let oid = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    oid.map(Value::Oid).ok_or("names no object")
}

/// The rules of `git check-ref-format`, so far as a name can mislead somebody.
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    let is_bad_part =
        |part: &[u8]| part.is_empty() || part.starts_with(b".") || part.ends_with(b".lock");
    let has = |words: &[u8]| name.windows(words.len()).any(|window| window == words);
    let is_bad = |byte: &u8| byte.is_ascii_control() || b" ~^:?*[\\".contains(byte);
    if name.len() > limits::REF_NAME_BYTES_MAX {
        return Err("has a name that is too long");
    }
    let is_bad = !name.starts_with(b"refs/")
        || name.ends_with(b".")
        || name.iter().any(is_bad)
        || has(b"..")
        || has(b"@{")
        || name.split(|byte| *byte == b'/').any(is_bad_part);
    match is_bad {
        true => Err("has a name that no reference can have"),
        false => Ok(()),
    }
}

/// `OID NAME` lines; `^OID` says what the tag of the line before stands for.
fn parse_packed(bytes: &[u8], values: &mut Values) -> Result<(), &'static str> {
    if !bytes.is_empty() && !bytes.ends_with(b"\n") {
        return Err("is cut short");
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        if line.is_empty() || line.starts_with(b"#") || line.starts_with(b"^") {
            continue;
        }
        let middle = line.iter().position(|byte| *byte == b' ').ok_or("has a line of garbage")?;
        let (oid, name) = (&line[..middle], &line[middle + 1..]);
        check_name(name)?;
        match parse_value(oid)? {
            Value::Oid(oid) => values.insert(name.to_vec(), Value::Oid(oid)),
            Value::Symbolic(_) => return Err("has a line of garbage"),
        };
        if values.len() > limits::CLONE_REFS_MAX {
            return Err("has too many references");
        }
    }
    Ok(())
}

/// Reads the files below `refs`, which go before packed ones.
fn read_loose(git: &Folder, values: &mut Values) -> Result<(), Unreadable> {
    let mut broken = None;
    visit(git, "refs", |folder, file, name| {
        let path = || folder.path().join(file).display().to_string();
        if let Err(why) = check_name(name) {
            return Err(Unreadable::Hostile(format!("{:?} {why}", path())));
        }
        let Some(bytes) = folder.read(file, limits::REF_BYTES_MAX)? else {
            return Ok(());
        };
        match parse_value(&bytes) {
            Ok(value) => drop(values.insert(name.to_vec(), value)),
            Err(why) => broken = Some(Unreadable::NoClone(format!("{} {why}", path()))),
        }
        match values.len() > limits::CLONE_REFS_MAX {
            true => Err(Unreadable::TooLarge(format!("{} has too many references", path()))),
            false => Ok(()),
        }
    })?;
    broken.map_or(Ok(()), Err)
}

/// Visits the regular files below a folder of `.git`; hidden files and locks are nobody's.
///
/// It is given the folder, the file's name in it, and the name from `.git` on.
fn visit(
    git: &Folder,
    top: &str,
    mut visitor: impl FnMut(&Folder, &OsStr, &[u8]) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let Some(folder) = git.folder(top)? else {
        return Ok(());
    };
    let reach = Reach { entries_max: 2 * limits::CLONE_REFS_MAX, depth_max: limits::REF_DEPTH_MAX };
    let from = git.path().to_path_buf();
    walk(folder, reach, |seen| match seen {
        Seen::Entry { folder, entry, .. } => {
            let bytes = entry.name.as_bytes();
            if bytes.starts_with(b".") || bytes.ends_with(b".lock") {
                return Ok(Next::Pass);
            }
            if entry.kind != Kind::Folder {
                let path = folder.path().join(&entry.name);
                let name = path.strip_prefix(&from).unwrap_or(&path).as_os_str().as_bytes();
                visitor(folder, &entry.name, name)?;
            }
            Ok(Next::Enter)
        }
        Seen::Unseen { why, .. } => Err(why),
    })
}

/// A line of a reflog: `OLD NEW NAME <MAIL> TIME ZONE\tMESSAGE`.
pub(super) fn parse_log_line(line: &[u8]) -> Option<(Oid, &[u8])> {
    let (head, message) = match line.iter().position(|byte| *byte == b'\t') {
        Some(tab) => (&line[..tab], &line[tab + 1..]),
        None => (line, &line[line.len()..]),
    };
    let new = head.split(|byte| *byte == b' ').nth(1)?;
    Some((std::str::from_utf8(new).ok()?.parse().ok()?, message))
}

/// The entries of the stash, the newest first.
fn read_stashes(git: &Folder, refs: &[Reference]) -> Result<Vec<Oid>, Unreadable> {
    let Some(top) = refs.iter().find(|reference| reference.name == STASH) else {
        return Ok(Vec::new());
    };
    let mut stashes = vec![top.oid.clone()];
    let log = match git.folder("logs")? {
        Some(logs) => match logs.folder("refs")? {
            Some(refs) => refs.read("stash", limits::REFLOG_BYTES_MAX)?,
            None => None,
        },
        None => None,
    };
    for line in log.unwrap_or_default().split(|byte| *byte == b'\n').rev() {
        if let Some((oid, _)) = parse_log_line(line)
            && !oid.is_zero()
            && !stashes.contains(&oid)
        {
            stashes.push(oid);
        }
        if stashes.len() > limits::CLONE_TIPS_MAX {
            let why =
                format!("{} has too many entries", git.path().join("logs/refs/stash").display());
            return Err(Unreadable::TooLarge(why));
        }
    }
    Ok(stashes)
}

/// What came from remotes, and what went there.
pub(super) fn read_remote_logs(
    git: &Folder,
    pushed: &mut BTreeSet<Oid>,
    fetched: &mut BTreeSet<Oid>,
) -> Result<(), Unreadable> {
    let Some(logs) = git.folder("logs")? else {
        return Ok(());
    };
    let Some(refs) = logs.folder("refs")? else {
        return Ok(());
    };
    let mut left = limits::REFLOG_BYTES_MAX;
    visit(&refs, "remotes", |folder, file, _| {
        let bytes = folder.read(file, left)?.unwrap_or_default();
        left -= bytes.len();
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Some((oid, message)) = parse_log_line(line) {
                match message {
                    b"update by push" => pushed.insert(oid),
                    _ => fetched.insert(oid),
                };
            }
        }
        Ok(())
    })
}

fn read_worktrees(git: &Folder, values: &Values) -> Result<Vec<AddedWorktree>, Unreadable> {
    let Some(all) = git.folder("worktrees")? else {
        return Ok(Vec::new());
    };
    let mut worktrees = Vec::new();
    for entry in all.entries(limits::CLONE_TIPS_MAX)? {
        let Some(own) = all.folder(&entry.name)? else {
            continue;
        };
        // One that is half made or half removed.
        if !own.has("HEAD")? {
            continue;
        }
        let folder = own.read("gitdir", limits::REF_BYTES_MAX)?.map(|bytes| {
            let file = PathBuf::from(OsString::from_vec(bytes.trim_ascii_end().to_vec()));
            file.parent().map_or(file.clone(), Path::to_path_buf)
        });
        let head = read_head(&own, values)?;
        worktrees.push(AddedWorktree { name: text(entry.name.as_bytes()), head, folder });
    }
    Ok(worktrees)
}

#[cfg(test)]
#[path = "refs_tests.rs"]
mod tests;
