//! What runs made, kept where no agent can reach it: `evidence/<name>.git`, a git folder of
//! kugetsu's own that has the mirror's objects too.
//!
//! Objects come from a clone by a git folder of kugetsu's own, as a pack of bounded size that is
//! checked object by object, link by link, and synced, before a reference says that it is there.
//! What is brought stands below `refs/kugetsu/<job>/<attempt>/`.
//!
//! Who writes holds the repository's lock, as the [`Git`] that is passed has it: a lock file of git
//! that is found then is a dead git's.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::git::Oid;
use crate::git::call::Git;
use crate::git::folder::{Folder, Unreadable};
use crate::git::kept::{OWN, parse_kept};
use crate::git::looker::{self, Looker};
use crate::git::refs;
use crate::git::trouble::{self, GitError};
use crate::job::{JobId, limits};

pub(crate) use crate::git::kept::{AttemptOf, Kept, Slot};

/// Why a look at a clone, or at what was kept of it, gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LookError {
    /// The clone's own fault.
    Clone(Unreadable),
    /// A word to stop, or this machine's trouble.
    Own(GitError),
}

impl From<Unreadable> for LookError {
    fn from(unreadable: Unreadable) -> LookError {
        LookError::Clone(unreadable)
    }
}

impl LookError {
    /// The words.
    pub fn why(&self) -> &str {
        match self {
            LookError::Clone(unreadable) => unreadable.why(),
            LookError::Own(error) => error.words(),
        }
    }

    /// What it means that a git failed that only read what an agent may have made.
    pub(super) fn of_clone(error: GitError) -> LookError {
        match error {
            GitError::Stopped(_) | GitError::Machine(_) => LookError::Own(error),
            GitError::TimedOut(why) | GitError::Network(why) | GitError::Login(why) => {
                Unreadable::Passing(why).into()
            }
            GitError::TooLarge(why) => Unreadable::TooLarge(why).into(),
            GitError::Damaged(why) | GitError::Refused(why) => Unreadable::NoClone(why).into(),
        }
    }
}

/// Which references an attempt's new ones take the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replacing {
    /// All that stands below its name: it begins. Numbers come again after a restore.
    All,
    /// The tip and what is elsewhere: it is judged, perhaps again.
    After,
}

/// The evidence of one repository.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    folder: PathBuf,
    mirror: PathBuf,
    looks: PathBuf,
}

impl Evidence {
    /// Opens the evidence of a repository, and makes it if there is none. All paths are absolute.
    ///
    /// `looks` is where folders for one look are made: on the disk of the evidence, and nobody
    /// else's.
    pub fn open(folder: &Path, mirror: &Path, looks: &Path) -> Result<Evidence, GitError> {
        let evidence =
            Evidence { folder: folder.into(), mirror: mirror.into(), looks: looks.into() };
        evidence
            .make_or_mend()
            .map_err(|error| trouble::cannot(&format!("make {}", folder.display()), &error))?;
        Ok(evidence)
    }

    /// Where it is: a bare git folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where folders for one look are made.
    pub fn looks(&self) -> &Path {
        &self.looks
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.folder.join("objects")
    }

    fn make_or_mend(&self) -> io::Result<()> {
        let mirrored = self.mirror.join("objects");
        if !self.folder.is_dir() {
            return self.make(&mirrored);
        }
        for name in ["objects/info", "objects/pack"] {
            fs::create_dir_all(self.folder.join(name))?;
        }
        // Files that a crash left empty hold nothing that could be lost with them.
        let alternates = looker::alternates(&[&mirrored])?;
        for (name, expected) in [
            ("HEAD", looker::NO_HEAD.as_bytes()),
            ("config", looker::CONFIG.as_bytes()),
            ("objects/info/alternates", &alternates),
        ] {
            let path = self.folder.join(name);
            if fs::read(&path).ok().as_deref() != Some(expected) {
                tracing::warn!(file = %path.display(), "is not as kugetsu wrote it; written again");
                let draft = path.with_extension("new");
                fs::remove_file(&draft).or_else(ignore_missing)?;
                looker::write_new(&draft, expected)?.sync_all()?;
                fs::rename(&draft, &path)?;
            }
        }
        let refs = self.folder.join("refs");
        if refs.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir()) {
            fs::remove_file(&refs)?;
        }
        fs::create_dir_all(refs)
    }

    /// Made beside its place and renamed when whole, so that what is there is whole.
    fn make(&self, mirrored: &Path) -> io::Result<()> {
        let parent = self.folder.parent().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(parent)?;
        let mut draft = tempfile::Builder::new();
        let draft = draft.prefix(".new-").permissions(fs::Permissions::from_mode(0o700));
        let draft = draft.tempdir_in(parent)?;
        looker::write_git_folder(draft.path(), &[mirrored])?;
        for name in ["HEAD", "config", "objects/info/alternates", "objects/info", "objects", "."] {
            fs::File::open(draft.path().join(name))?.sync_all()?;
        }
        match fs::rename(draft.path(), &self.folder) {
            // What it was is elsewhere now, and there is nothing left to remove.
            Ok(()) => drop(draft.keep()),
            // Another process was first.
            Err(_) if self.folder.is_dir() => return Ok(()),
            Err(error) => return Err(error),
        }
        fs::File::open(parent)?.sync_all()
    }

    /// Brings commits of a clone, and makes references of an attempt name them.
    ///
    /// `clone` is a folder that [`refs::CloneRefs::read`] vetted. `known` are commits that the
    /// mirror has: what they lead to is not brought again. A commit of [`Slot::Elsewhere`] or
    /// [`Slot::Before`] that cannot be brought is left out; what is kept is given back.
    pub fn keep(
        &self,
        git: &Git<'_>,
        clone: &Path,
        of: AttemptOf,
        wanted: &[(Slot, Oid)],
        known: &[Oid],
        replacing: Replacing,
    ) -> Result<Vec<Kept>, LookError> {
        self.keep_from(git, &clone.join(".git/objects"), of, wanted, known, replacing)
    }

    /// The same from a folder of objects, wherever it is.
    pub fn keep_from(
        &self,
        git: &Git<'_>,
        objects: &Path,
        of: AttemptOf,
        wanted: &[(Slot, Oid)],
        known: &[Oid],
        replacing: Replacing,
    ) -> Result<Vec<Kept>, LookError> {
        debug_assert!(wanted.len() <= limits::EVIDENCE_REFS_MAX);
        let sources = [objects.to_path_buf()];
        match self.try_keep(git, &sources, of, wanted, known, replacing) {
            Err(LookError::Own(GitError::Damaged(why) | GitError::Refused(why))) => {
                tracing::warn!(folder = %self.folder.display(), why, "the evidence is damaged");
                self.remake(git, &sources).map_err(LookError::Own)?;
                self.try_keep(git, &sources, of, wanted, known, replacing)
            }
            result => result,
        }
    }

    fn try_keep(
        &self,
        git: &Git<'_>,
        sources: &[PathBuf],
        of: AttemptOf,
        wanted: &[(Slot, Oid)],
        known: &[Oid],
        replacing: Replacing,
    ) -> Result<Vec<Kept>, LookError> {
        let oids: BTreeSet<&Oid> = wanted.iter().map(|(_, oid)| oid).collect();
        let must = |slot: Slot| matches!(slot, Slot::Tip | Slot::BeforeBranch);
        let commits = self.bring(git, sources, &oids, known)?;
        let mut kept = Vec::new();
        for (slot, oid) in wanted {
            match commits.get(oid) {
                Some(commit) => kept.push(Kept { of, slot: *slot, oid: commit.clone() }),
                None if must(*slot) => {
                    let why = format!("the clone has no commit {oid}, which a branch of it names");
                    return Err(Unreadable::NoClone(why).into());
                }
                None => tracing::info!(%oid, %slot, "is no commit; not kept"),
            }
        }
        let wanted = kept.iter().map(|kept| (of.reference(kept.slot), kept.oid.clone())).collect();
        let is_replaced = |slot: Slot| match replacing {
            Replacing::All => true,
            Replacing::After => matches!(slot, Slot::Tip | Slot::Elsewhere(_)),
        };
        let there = self.list_below(&of.prefix()).map_err(|why| own(&why))?;
        let unwanted = there.into_iter().filter(|kept| is_replaced(kept.slot));
        let unwanted = unwanted.map(|kept| kept.of.reference(kept.slot)).collect();
        self.update(git, &of.prefix(), &wanted, &unwanted).map_err(LookError::Own)?;
        Ok(kept)
    }

    /// Brings what is missing, and gives the commits that these objects are or stand for.
    fn bring(
        &self,
        git: &Git<'_>,
        sources: &[PathBuf],
        oids: &BTreeSet<&Oid>,
        known: &[Oid],
    ) -> Result<BTreeMap<Oid, Oid>, LookError> {
        let mut commits = commits_of(git, &self.folder, oids).map_err(LookError::Own)?;
        let missing: BTreeSet<&Oid> =
            oids.iter().copied().filter(|oid| !commits.contains_key(*oid)).collect();
        if missing.is_empty() {
            return Ok(commits);
        }
        let own = self.objects();
        let mut all: Vec<&Path> = sources.iter().map(PathBuf::as_path).collect();
        all.push(&own);
        let looker = Looker::new(&self.looks, &all).map_err(LookError::Own)?;
        if let Err(error) = self.transfer(git, &looker, &missing, known) {
            // One that is not there, or not sound, is to harm no other.
            if missing.len() == 1 || matches!(error, LookError::Own(_)) {
                return Err(error);
            }
            for oid in &missing {
                match self.transfer(git, &looker, &BTreeSet::from([*oid]), known) {
                    Ok(()) => {}
                    Err(LookError::Clone(why)) => tracing::info!(%oid, %why, "was not brought"),
                    Err(error @ LookError::Own(_)) => return Err(error),
                }
            }
        }
        // A git that says that all went well may have been told to leave something out.
        commits.extend(commits_of(git, &self.folder, &missing).map_err(LookError::Own)?);
        Ok(commits)
    }

    /// What does not fit to what should be there already is brought whole, which mends that too:
    /// only a clone that cannot give all of it is to blame.
    fn transfer(
        &self,
        git: &Git<'_>,
        looker: &Looker,
        oids: &BTreeSet<&Oid>,
        known: &[Oid],
    ) -> Result<(), LookError> {
        match self.transfer_pack(git, looker, oids, known) {
            Err(GitError::Damaged(why) | GitError::Refused(why)) if is_unsound(&why) => {
                Err(Unreadable::Hostile(why).into())
            }
            Err(GitError::Damaged(why) | GitError::Refused(why)) if !known.is_empty() => {
                tracing::warn!(why, "a pack does not fit; all is brought");
                self.transfer_pack(git, looker, oids, &[]).map_err(LookError::of_clone)
            }
            result => result.map_err(LookError::of_clone),
        }
    }

    fn transfer_pack(
        &self,
        git: &Git<'_>,
        looker: &Looker,
        oids: &BTreeSet<&Oid>,
        known: &[Oid],
    ) -> Result<(), GitError> {
        let mut revisions: String = oids.iter().map(|oid| format!("{oid}\n")).collect();
        for oid in known.iter().take(limits::KNOWN_TIPS_MAX) {
            revisions.push_str(&format!("^{oid}\n"));
        }
        let pack = looker
            .call(git, "pack-objects")
            .args(["--quiet", "--revs", "--stdout", "--thin", "--delta-base-offset"])
            .arg("--no-use-bitmap-index")
            .input(revisions)
            .limit_ms(limits::EVIDENCE_MS_MAX)
            .guarded();
        let index = git
            .call(&self.folder, "index-pack")
            .args(["--stdin", "--fix-thin", "--strict"])
            .arg(format!("--max-input-size={}", limits::EVIDENCE_BYTES_MAX))
            .config("core.fsync", "all")
            .config("core.fsyncMethod", "fsync")
            .limit_ms(limits::EVIDENCE_MS_MAX)
            .guarded();
        git.pipe(pack, index).map(drop)
    }

    /// Changes references, all or none, and syncs them.
    fn update(
        &self,
        git: &Git<'_>,
        prefix: &str,
        wanted: &BTreeMap<String, Oid>,
        unwanted: &BTreeSet<String>,
    ) -> Result<(), GitError> {
        let mut commands = String::new();
        for (name, oid) in wanted {
            commands.push_str(&format!("update {name} {oid}\n"));
        }
        for name in unwanted.iter().filter(|name| !wanted.contains_key(*name)) {
            commands.push_str(&format!("delete {name}\n"));
        }
        if commands.is_empty() {
            return Ok(());
        }
        self.remove_locks(prefix);
        git.call(&self.folder, "update-ref")
            .arg("--stdin")
            .input(commands)
            .config("core.fsync", "all")
            .config("core.fsyncMethod", "fsync")
            .run()?;
        self.sync_names(prefix)
            .map_err(|error| trouble::cannot("put the evidence's names on disk", &error))
    }

    /// Git syncs what it writes, and then renames it: the folders, which hold the names, are synced
    /// here. Without that a power loss takes the references of commits that are there.
    fn sync_names(&self, prefix: &str) -> io::Result<()> {
        let attempt = self.folder.join(prefix);
        let mut folders = vec![self.objects(), self.objects().join("pack")];
        let above = attempt.ancestors().take_while(|folder| **folder != *self.folder);
        folders.extend(above.map(Path::to_path_buf));
        for name in ["before", "elsewhere"] {
            folders.push(attempt.join(name));
        }
        for folder in folders {
            match fs::File::open(&folder) {
                // Git removes folders that have become empty.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => opened?.sync_all()?,
            }
        }
        Ok(())
    }

    /// Removes the locks of gits that were killed: nobody else works here, as the repository's lock
    /// is held.
    fn remove_locks(&self, prefix: &str) {
        let mut dead = vec![self.folder.join("packed-refs.lock")];
        let mut folders = vec![self.folder.join(prefix)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    Ok(_) if entry.file_name().as_bytes().ends_with(b".lock") => {
                        dead.push(entry.path());
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
        for lock in dead {
            // What cannot be removed is what git will complain of.
            let _ = fs::remove_file(lock);
        }
    }

    /// All that is kept, of one job or of all.
    pub fn list(&self, job: Option<JobId>) -> Result<Vec<Kept>, GitError> {
        let prefix = job.map_or(OWN.to_string(), |job| format!("{OWN}{}/", job.0));
        self.list_below(&prefix).map_err(|why| GitError::Machine(why.why().into()))
    }

    /// Reads the references below a prefix, without git; broken ones are left out.
    fn list_below(&self, prefix: &str) -> Result<Vec<Kept>, Unreadable> {
        let Some(folder) = Folder::open(&self.folder)? else {
            return Ok(Vec::new());
        };
        let values = refs::read_below(&folder, prefix.trim_end_matches('/'))?;
        Ok(values.into_iter().filter_map(|(name, oid)| parse_kept(&name, oid)).collect())
    }

    /// The last tip that was kept of a job.
    pub fn tip_of(&self, job: JobId) -> Result<Option<Kept>, GitError> {
        let tips = self.list(Some(job))?.into_iter().filter(|kept| kept.slot == Slot::Tip);
        Ok(tips.max_by_key(|kept| kept.of.attempt))
    }

    /// The tips before an attempt; the branch's own has the slot [`Slot::BeforeBranch`].
    pub fn before(&self, of: AttemptOf) -> Result<Vec<Kept>, GitError> {
        let kept = self.list(Some(of.job))?.into_iter().filter(|kept| kept.of == of);
        let is_before = |kept: &Kept| matches!(kept.slot, Slot::BeforeBranch | Slot::Before(_));
        Ok(kept.filter(is_before).collect())
    }

    /// Removes all references of a job. The commits go when the folder is tidied.
    pub fn drop_job(&self, git: &Git<'_>, job: JobId) -> Result<(), GitError> {
        let prefix = format!("{OWN}{}/", job.0);
        let unwanted = self.list(Some(job))?.iter().map(|k| k.of.reference(k.slot)).collect();
        self.update(git, &prefix, &BTreeMap::new(), &unwanted)
    }

    /// Makes one pack of many, without what no reference leads to.
    pub fn tidy(&self, git: &Git<'_>) -> Result<(), GitError> {
        self.tidy_from(git, limits::EVIDENCE_PACKS_MAX)
    }

    fn tidy_from(&self, git: &Git<'_>, packs_min: usize) -> Result<(), GitError> {
        let packs = fs::read_dir(self.objects().join("pack")).into_iter().flatten().flatten();
        let is_pack = |entry: &fs::DirEntry| entry.path().extension() == Some(OsStr::new("pack"));
        if packs.filter(is_pack).count() < packs_min {
            return Ok(());
        }
        git.call(&self.folder, "repack")
            .args(["-a", "-d", "-l", "-q"])
            .config("core.fsync", "all")
            .config("core.fsyncMethod", "fsync")
            .limit_ms(limits::GIT_MS_MAX)
            .guarded()
            .run()
            .map(drop)
    }

    /// Sets a damaged folder aside, makes a new one, and brings what can still be had.
    fn remake(&self, git: &Git<'_>, sources: &[PathBuf]) -> Result<(), GitError> {
        let kept = self.list(None).unwrap_or_default();
        let cannot = |error| trouble::cannot("set damaged evidence aside", &error);
        let aside = self.set_aside().map_err(cannot)?;
        self.make_or_mend().map_err(cannot)?;
        let mut sources = sources.to_vec();
        sources.push(aside.join("objects"));
        let mut of_attempts: BTreeMap<AttemptOf, Vec<(Slot, Oid)>> = BTreeMap::new();
        for kept in kept {
            of_attempts.entry(kept.of).or_default().push((kept.slot, kept.oid));
        }
        for (of, wanted) in of_attempts {
            match self.try_keep(git, &sources, of, &wanted, &[], Replacing::All) {
                Ok(_) => {}
                Err(LookError::Clone(why)) => {
                    tracing::warn!(job = of.job.0, %why, "its evidence is lost");
                }
                Err(LookError::Own(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn set_aside(&self) -> io::Result<PathBuf> {
        for number in 1..=limits::EVIDENCE_ASIDE_MAX {
            let aside = self.folder.with_extension(format!("git.damaged-{number}"));
            if aside.symlink_metadata().is_err() {
                fs::rename(&self.folder, &aside)?;
                return Ok(aside);
            }
        }
        let why = "there are too many damaged ones beside it (look at them, and remove them)";
        Err(io::Error::other(why))
    }
}

/// Whether the git that takes a pack found an object to be such as git refuses to work with.
fn is_unsound(why: &str) -> bool {
    let is_of_receiver = why.starts_with("git index-pack");
    is_of_receiver && (why.contains("error: object ") || why.contains("fsck error"))
}

fn own(unreadable: &Unreadable) -> LookError {
    LookError::Own(GitError::Machine(unreadable.why().into()))
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

/// The commits that objects of a git folder are, or that tags stand for.
pub(super) fn commits_of(
    git: &Git<'_>,
    folder: &Path,
    oids: &BTreeSet<&Oid>,
) -> Result<BTreeMap<Oid, Oid>, GitError> {
    let question: String = oids.iter().map(|oid| format!("{oid}^{{commit}}\n")).collect();
    let call = git.call(folder, "cat-file").arg("--batch-check=%(objectname)").input(question);
    let answer = call.text()?;
    // A line for each question, in their order: an id, or some words.
    let lines = oids.iter().zip(answer.lines());
    Ok(lines.filter_map(|(oid, line)| Some(((*oid).clone(), line.parse().ok()?))).collect())
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
